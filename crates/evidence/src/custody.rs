//! `custody.log`: what was done with the evidence, in JSON Lines. Every line has the hash of the line before and its
//! own hash, so that no line can be changed, removed or put between two others without notice.
//!
//! The hash of a line is the SHA-256 of its object without the field `hash`, as `serde_json` writes it in the order of
//! the fields here.

use jiff::Timestamp;
use layersift_model::{Digest, json_output};
use serde::{Deserialize, Serialize};

/// What the first line has as the hash before it.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number, from 1.
    pub number: u64,
    /// When it was written, in UTC.
    pub at: Timestamp,
    /// Who did it.
    pub operator: Option<String>,
    /// What was done: `opened`, `read`, `carved`, `left out` or `sealed`.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// The digest of what it was done to.
    pub digest: Option<Digest>,
    /// The hash of the line before.
    pub previous: String,
    /// Its own hash, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// A log while it is written.
#[derive(Clone, Debug, Default)]
pub struct CustodyLog {
    text: Vec<u8>,
    head: Option<String>,
    entries: u64,
}

/// A line is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("custody.log, line {line}: {what}")]
pub struct ChangedLog {
    /// The number of the line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub what: &'static str,
}

impl CustodyLog {
    /// Adds a line.
    pub fn add(&mut self, operator: Option<&str>, action: &str, subject: &str, digest: Option<&Digest>) {
        let mut entry = Entry {
            number: self.entries + 1,
            at: Timestamp::now(),
            operator: operator.map(Into::into),
            action: action.into(),
            subject: subject.into(),
            digest: digest.cloned(),
            previous: self.head().into(),
            hash: String::new(),
        };
        entry.hash = entry.own_hash();
        self.text.extend(entry.line());
        self.head = Some(entry.hash);
        self.entries += 1;
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.text
    }

    /// The hash of the last line.
    pub fn head(&self) -> &str {
        self.head.as_deref().unwrap_or(NOTHING)
    }

    /// How many lines there are.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Reads a log.
    ///
    /// # Errors
    /// [`ChangedLog`] at the first line that is not what was written.
    pub fn parse(text: &[u8]) -> Result<CustodyLog, ChangedLog> {
        CustodyLog::read(text).map(|(log, _)| log)
    }

    /// The same, with the lines.
    pub(crate) fn read(text: &[u8]) -> Result<(CustodyLog, Vec<Entry>), ChangedLog> {
        let (mut log, mut entries) = (CustodyLog::default(), Vec::new());
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let changed = |what| ChangedLog { line: log.entries + 1, what };
            let entry: Entry = serde_json::from_slice(line).map_err(|_| changed("it is not an entry"))?;
            if entry.line() != line {
                return Err(changed("it is written in another form"));
            }
            if entry.number != log.entries + 1 || entry.previous != log.head() {
                return Err(changed("it does not follow the line before"));
            }
            if entry.hash != entry.own_hash() {
                return Err(changed("its hash is another"));
            }
            log.text.extend_from_slice(line);
            log.head = Some(entry.hash.clone());
            log.entries += 1;
            entries.push(entry);
        }
        Ok((log, entries))
    }
}

impl Entry {
    fn own_hash(&self) -> String {
        let unhashed = Entry { hash: String::new(), ..self.clone() };
        Digest::of(&serde_json::to_vec(&unhashed).unwrap_or_default()).hex().into()
    }

    fn line(&self) -> Vec<u8> {
        let mut line = json_output::line(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> CustodyLog {
        let mut log = CustodyLog::default();
        log.add(Some("A. Nalyst"), "opened", "app.tar", None);
        log.add(None, "carved", "artifacts/0001", Some(&Digest::of(b"x")));
        log.add(None, "sealed", "manifest.json", Some(&Digest::of(b"y")));
        log
    }

    #[test]
    fn a_log_reads_back() {
        let log = log();
        let read = CustodyLog::parse(log.bytes()).unwrap();
        assert_eq!((read.head(), read.entries(), read.bytes()), (log.head(), 3, log.bytes()));
        assert_eq!(CustodyLog::parse(b"").unwrap().head(), NOTHING);
    }

    #[test]
    fn every_change_of_a_bit_is_found() {
        let bytes = log().bytes().to_vec();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(CustodyLog::parse(&changed).is_err(), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn lines_cannot_be_left_out_or_moved() {
        let log = log();
        let lines: Vec<&[u8]> = log.bytes().split_inclusive(|&byte| byte == b'\n').collect();
        for order in [&[1, 2][..], &[0, 2], &[1, 0, 2], &[0, 1, 1, 2], &[0, 1, 2, 2]] {
            let text: Vec<u8> = order.iter().flat_map(|&line: &usize| lines[line].to_vec()).collect();
            assert!(CustodyLog::parse(&text).is_err(), "{order:?}");
        }
    }
}
