//! The bytes of a blob as they arrive. After a lost connection the rest is requested.
//!
//! Source: RFC 9110, section 14 (ranges). A blob is named by its digest, so that the parts of several responses fit
//! together; the caller's hash over all of them shows whether they do.

use std::io::{self, Cursor, Read};

use reqwest::Url;

use super::auth::Scope;
use super::client::Registry;
use super::error::{ProtocolError, RegistryError, redacted};
use super::form::BodyForm;
use super::http::{Body, Request, Response};
use layersift_format::CancelReason;

/// Bytes that count as progress, after which the count of retries starts again.
pub(super) const PROGRESS_BYTES: u64 = 64 << 10;

/// Bytes of a body that are looked at if it is said to be a page.
const FIRST_BYTES: u64 = 64;

/// The bytes of a blob, not verified. After an error every read fails.
pub struct BlobStream {
    registry: Registry,
    scope: Scope,
    url: Url,
    /// The size in the manifest.
    size: Option<u64>,
    /// The most bytes that are read, if the size is not known.
    most: u64,
    /// Bytes that were handed out.
    at: u64,
    /// The body of the current response; `None` between two connections.
    body: Option<Body>,
    /// Its first bytes, if they were looked at.
    ahead: Cursor<Vec<u8>>,
    /// Bytes at the beginning of `body` that were handed out before.
    skip: u64,
    /// How often the connection was lost since the last progress.
    losses: u32,
    /// The offset at which there was progress last.
    progress_at: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    AtEnd,
    Failed,
}

impl BlobStream {
    pub(super) fn open(
        registry: Registry,
        scope: Scope,
        url: Url,
        size: Option<u64>,
    ) -> Result<BlobStream, RegistryError> {
        let mut stream = BlobStream {
            most: registry.options().blob_bytes,
            registry,
            scope,
            url,
            size,
            at: 0,
            body: None,
            ahead: Cursor::default(),
            skip: 0,
            losses: 0,
            progress_at: 0,
            state: State::Open,
        };
        stream.connect()?;
        Ok(stream)
    }

    /// The same stream, of which no more than `most` bytes are read, and one that says that there are more.
    pub fn at_most(self, most: u64) -> BlobStream {
        BlobStream { most: most.min(self.most), ..self }
    }

    /// Requests the bytes from `self.at` on.
    fn connect(&mut self) -> Result<(), RegistryError> {
        let request = Request { offset: self.at, ..Request::whole(&self.url, "*/*") };
        let response = self.registry.get(&request, &self.scope)?;
        match response.status() {
            206 if self.begins_at(&response) => self.skip = 0,
            206 => {
                return Err(RegistryError::Protocol { url: redacted(&self.url), error: ProtocolError::Range(self.at) });
            }
            // There is nothing after the bytes that were received.
            416 => {
                self.state = State::AtEnd;
                return Ok(());
            }
            _ => self.skip = self.at,
        }
        self.take_body(response)
    }

    /// Takes the body of a response, unless the bytes in it are not those of the blob.
    fn take_body(&mut self, response: Response) -> Result<(), RegistryError> {
        let form = BodyForm::of(response.inner.headers());
        let mut body = self.registry.body(response);
        let mut first = Vec::new();
        // A registry may label every blob as a page, so it takes a look.
        if form.is_page()
            && let Err(error) = body.by_ref().take(FIRST_BYTES).read_to_end(&mut first)
        {
            return match CancelReason::of(&error) {
                Some(reason) => Err(RegistryError::cancelled(&self.url, reason)),
                None => self.reconnect(error),
            };
        }
        let is_page = first.trim_ascii_start().starts_with(b"<");
        if form.is_encoded() || is_page {
            return Err(self.registry.unexpected_form(&self.url, "the bytes of a blob", form, &self.scope));
        }
        (self.body, self.ahead) = (Some(body), Cursor::new(first));
        Ok(())
    }

    /// Whether `Content-Range: bytes FIRST-LAST/SIZE` begins at the offset that was requested.
    fn begins_at(&self, response: &Response) -> bool {
        let range = response.header("content-range").and_then(|range| range.trim().strip_prefix("bytes "));
        let first = range.and_then(|range| range.split_once('-')).map(|(first, _)| first.trim().parse::<u64>());
        first == Some(Ok(self.at))
    }

    /// The number of bytes after which the stream ends: one more than the size, so that a blob that is too large is
    /// noticed.
    fn end(&self) -> u64 {
        self.size.unwrap_or(self.most).saturating_add(1)
    }

    /// Reads once, or connects; `None` if the caller has to call it again.
    fn step(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, RegistryError> {
        let length = usize::try_from(self.end() - self.at).unwrap_or(usize::MAX).min(buffer.len());
        if length == 0 {
            self.state = State::AtEnd;
            return Ok(Some(0));
        }
        let Some(body) = &mut self.body else {
            self.connect()?;
            return Ok((self.state == State::AtEnd).then_some(0));
        };
        let length = if self.skip > 0 { usize::try_from(self.skip).unwrap_or(usize::MAX).min(length) } else { length };
        let ahead = self.ahead.read(&mut buffer[..length]).unwrap_or(0);
        let count = if ahead > 0 { Ok(ahead) } else { body.read(&mut buffer[..length]) };
        match count {
            Ok(0) if self.is_short() => self.reconnect(io::ErrorKind::UnexpectedEof.into()).map(|()| None),
            Ok(0) => {
                self.state = State::AtEnd;
                Ok(Some(0))
            }
            Ok(count) if self.skip > 0 => {
                self.skip -= count as u64;
                Ok(None)
            }
            Ok(count) => {
                self.at += count as u64;
                if self.at - self.progress_at >= PROGRESS_BYTES {
                    (self.progress_at, self.losses) = (self.at, 0);
                }
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => match CancelReason::of(&error) {
                Some(reason) => Err(RegistryError::cancelled(&self.url, reason)),
                None => self.reconnect(error).map(|()| None),
            },
        }
    }

    /// Whether an end here comes too early.
    fn is_short(&self) -> bool {
        self.skip > 0 || self.size.is_some_and(|size| self.at < size)
    }

    /// Drops the lost connection and waits before the next one.
    fn reconnect(&mut self, error: io::Error) -> Result<(), RegistryError> {
        self.body = None;
        let retries = self.losses;
        self.losses += 1;
        if retries >= self.registry.options().resumptions {
            return Err(RegistryError::ConnectionLost { url: redacted(&self.url), at: self.at, retries, error });
        }
        self.registry.back_off(&self.url, self.losses)
    }
}

impl Read for BlobStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.state == State::AtEnd {
            return Ok(0);
        }
        if self.state == State::Failed {
            return Err(io::Error::other("the blob failed before"));
        }
        loop {
            match self.step(buffer) {
                Ok(Some(count)) => return Ok(count),
                Ok(None) => {}
                Err(error) => {
                    self.state = State::Failed;
                    return Err(error.into());
                }
            }
        }
    }
}
