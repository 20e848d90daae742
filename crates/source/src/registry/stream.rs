//! A blob while it passes: bytes as they come, taken up again where they broke off.
//!
//! Source: RFC 9110, section 14 (ranges). A blob is named by its content, so that a part of it is a part of it wherever
//! and whenever it comes from; whether all of it is what it should be, the caller's hash says.

use std::io::{self, Read};

use reqwest::Url;

use super::auth::Scope;
use super::client::Registry;
use super::error::{RegistryError, shown};
use super::http::{Answer, Body, Wanted};
use super::retry;

/// Bytes that count as getting on: a stream that breaks off more often is given up.
pub const PROGRESS: u64 = 64 << 10;

/// The bytes of a blob, not verified. After an error it gives nothing more.
pub struct BlobStream {
    registry: Registry,
    scope: Scope,
    url: Url,
    /// The size that the manifest names.
    size: Option<u64>,
    /// Bytes handed out so far.
    at: u64,
    /// Where bytes come from at the moment; `None` between two connections.
    body: Option<Body>,
    /// Bytes of `body` that were handed out before.
    skip: u64,
    /// How often it broke off since it last got on.
    fruitless: u32,
    /// Where it last got on.
    mark: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    Ended,
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
            registry,
            scope,
            url,
            size,
            at: 0,
            body: None,
            skip: 0,
            fruitless: 0,
            mark: 0,
            state: State::Flowing,
        };
        stream.connect()?;
        Ok(stream)
    }

    /// Asks for what is still to come.
    fn connect(&mut self) -> Result<(), RegistryError> {
        let wanted = Wanted { from: self.at, ..Wanted::all(&self.url, "*/*") };
        let answer = self.registry.get(&wanted, &self.scope)?;
        match answer.status() {
            206 => match self.begins_at(&answer) {
                true => self.skip = 0,
                false => {
                    let reason = format!("asked for what follows byte {}, another part came", self.at);
                    return Err(RegistryError::Answer { url: shown(&self.url), reason });
                }
            },
            // It ended where it broke off.
            416 => {
                self.state = State::Ended;
                return Ok(());
            }
            _ => self.skip = self.at,
        }
        self.body = Some(self.registry.body(answer));
        Ok(())
    }

    /// Whether `Content-Range: bytes FIRST-LAST/SIZE` begins where it should.
    fn begins_at(&self, answer: &Answer) -> bool {
        let range = answer.header("content-range").and_then(|range| range.trim().strip_prefix("bytes "));
        let first = range.and_then(|range| range.split_once('-')).map(|(first, _)| first.trim().parse::<u64>());
        first == Some(Ok(self.at))
    }

    /// The most that is handed out: one byte more than there should be, so that it shows.
    fn end(&self) -> u64 {
        self.size.unwrap_or(self.registry.options().blob_bytes).saturating_add(1)
    }

    fn step(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, RegistryError> {
        let most = usize::try_from(self.end() - self.at).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            self.state = State::Ended;
            return Ok(Some(0));
        }
        let Some(body) = &mut self.body else {
            self.connect()?;
            return Ok((self.state == State::Ended).then_some(0));
        };
        let most = if self.skip > 0 { usize::try_from(self.skip).unwrap_or(usize::MAX).min(most) } else { most };
        match body.read(&mut buffer[..most]) {
            Ok(0) if self.is_short() => self.broken("it ended before its size").map(|()| None),
            Ok(0) => {
                self.state = State::Ended;
                Ok(Some(0))
            }
            Ok(count) if self.skip > 0 => {
                self.skip -= count as u64;
                Ok(None)
            }
            Ok(count) => {
                self.at += count as u64;
                if self.at - self.mark >= PROGRESS {
                    (self.mark, self.fruitless) = (self.at, 0);
                }
                Ok(Some(count))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => self.broken(&super::error::chain(&error)).map(|()| None),
        }
    }

    /// Whether an end here comes too soon.
    fn is_short(&self) -> bool {
        self.skip > 0 || self.size.is_some_and(|size| self.at < size)
    }

    /// Lets go of a connection that gave out.
    fn broken(&mut self, reason: &str) -> Result<(), RegistryError> {
        self.body = None;
        self.fruitless += 1;
        let options = self.registry.options();
        if self.fruitless > options.resumptions {
            let (url, at, times) = (shown(&self.url), self.at, self.fruitless);
            return Err(RegistryError::Cut { url, at, times, reason: reason.into() });
        }
        std::thread::sleep(retry::pause(&options.retry, self.fruitless, None));
        Ok(())
    }
}

impl Read for BlobStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.state == State::Ended {
            return Ok(0);
        }
        if self.state == State::Failed {
            return Err(io::Error::other("the blob broke off before"));
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
