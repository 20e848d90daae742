//! Answers of servers: neither their length nor the time for them is in the hands of the server.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::StatusCode;
use reqwest::blocking::Response;

use crate::sigv4::hex;
use crate::sink::SinkError;

/// The bytes that are read at a time.
const PIECE: usize = 16 * 1024;

/// How much of an answer that refuses is read, in bytes.
const MOST_REFUSAL: u64 = 64 * 1024;

/// How much of it is quoted, in characters.
const MOST_QUOTED: usize = 300;

/// The fewest bytes of the beginning of a secret that are hidden where the answer ends with them.
const SHORTEST_BEGINNING: usize = 4;

/// What hides a secret.
const MASK: &str = "****";

/// An answer of which the body is not read yet.
pub(crate) struct Answer {
    response: Response,
    /// When it was asked for.
    since: Instant,
    /// How long all of it may take.
    timeout: Duration,
}

impl Answer {
    /// What `send` is answered, all of which may take `timeout`.
    pub(crate) fn to(send: impl FnOnce() -> reqwest::Result<Response>, timeout: Duration) -> reqwest::Result<Answer> {
        let since = Instant::now();
        Ok(Answer { response: send()?, since, timeout })
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// The body, if it has at most `most` bytes.
    pub(crate) fn small(self, most: u64, place: &str) -> Result<Vec<u8>, SinkError> {
        let bytes = self.up_to(most.saturating_add(1), place)?;
        if bytes.len() as u64 > most {
            return Err(SinkError::Settings(format!("what {place} sent is longer than {most} bytes")));
        }
        Ok(bytes)
    }

    /// The first `most` bytes of the body.
    pub(crate) fn up_to(self, most: u64, place: &str) -> Result<Vec<u8>, SinkError> {
        let (bytes, read) = self.read(most);
        read.map_err(|error| SinkError::Unreachable { place: place.into(), source: Box::new(error) })?;
        Ok(bytes)
    }

    /// The beginning of what was said by who refuses, as far as it came, without `secrets`.
    pub(crate) fn quoted(self, secrets: &[&str]) -> String {
        // The status says that it was refused, whatever becomes of the rest.
        let (bytes, _) = self.read(MOST_REFUSAL);
        without(&String::from_utf8_lossy(&bytes), secrets).chars().take(MOST_QUOTED).collect()
    }

    /// The first `most` bytes of the body, or what came of them before it failed.
    fn read(self, most: u64) -> (Vec<u8>, io::Result<()>) {
        let mut body = self.response.take(most);
        let (mut bytes, mut piece) = (Vec::new(), vec![0; PIECE]);
        let read = loop {
            // The timeout of the client is for each read alone: a body that comes byte by byte would never end.
            if self.since.elapsed() >= self.timeout {
                let text = format!("the answer took longer than {} s", self.timeout.as_secs());
                break Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            match body.read(&mut piece) {
                Ok(0) => break Ok(()),
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        (bytes, read)
    }
}

/// `text` without `secrets`, in the forms in which a server may echo them. A secret of which only the beginning came
/// before the text ended is hidden as well.
fn without(text: &str, secrets: &[&str]) -> String {
    let mut forms: Vec<String> =
        secrets.iter().filter(|secret| !secret.is_empty()).flat_map(|secret| forms(secret)).collect();
    // One may be a part of another.
    forms.sort_unstable_by_key(|form| std::cmp::Reverse(form.len()));
    let text = forms.iter().fold(text.to_string(), |text, form| text.replace(form, MASK));
    match forms.iter().map(|form| begun(&text, form)).max() {
        Some(length) if length > 0 => format!("{}{MASK}", &text[..text.len() - length]),
        _ => text,
    }
}

/// How many bytes at the end of `text` are the beginning of `form`.
fn begun(text: &str, form: &str) -> usize {
    let ends = |length: &usize| form.get(..*length).is_some_and(|beginning| text.ends_with(beginning));
    (SHORTEST_BEGINNING..form.len()).rev().find(ends).unwrap_or_default()
}

/// A secret as it is, in XML, in JSON, in Base64, in hexadecimal digits, and as a part of a URL.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let escaped = |byte: &u8| match byte {
        b'-' | b'_' | b'.' | b'~' => char::from(*byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let xml = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let quoted_xml = xml.replace('"', "&quot;").replace('\'', "&apos;");
    let json = secret.replace('\\', "\\\\").replace('"', "\\\"");
    let slashes = json.replace('/', "\\/");
    let url: String = bytes.iter().map(escaped).collect();
    let hex = hex(bytes);
    let mut forms = vec![secret.into(), xml, quoted_xml, json, slashes, BASE64_STANDARD.encode(bytes), url];
    forms.extend([hex.to_uppercase(), hex]);
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalr/Made+Up&Key=EXAMPLE";

    #[test]
    fn secrets_are_hidden_in_every_form() {
        for form in forms(SECRET) {
            assert_eq!(without(&format!("<Key>{form}</Key>"), &["", SECRET]), "<Key>****</Key>", "{form}");
        }
        assert_eq!(without("<Code>AccessDenied</Code>", &["", SECRET]), "<Code>AccessDenied</Code>");
    }

    #[test]
    fn a_secret_that_was_cut_off_is_hidden() {
        for length in SHORTEST_BEGINNING..SECRET.len() {
            assert_eq!(without(&format!("key {}", &SECRET[..length]), &[SECRET]), "key ****", "{length}");
        }
        assert_eq!(without("wJa", &[SECRET]), "wJa");
    }
}
