//! asar: the archives of Electron applications.
//!
//! Source: the README of electron/asar, "Format": a pickle with the size of the header, a pickle with the header as
//! JSON, then the files. Bytes outside of files become an unnamed member.

use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};

use layersift_model::{Gap, GapReason};

use super::bytes::{le32, take};
use super::level::{Format, MemberSink, Progress};

/// Where the JSON begins.
const JSON_START: usize = 16;

/// The maximum number of files and folders of one archive.
const MAX_NODES: usize = 200_000;

/// Whether `head` begins with the two pickles, followed by the JSON that every writer writes.
pub(super) fn is_asar(head: &[u8]) -> bool {
    sizes(head).is_some() && head.get(JSON_START..).is_some_and(|json| json.starts_with(br#"{"files":"#))
}

/// The size of the JSON in bytes, and the offset of the first file.
fn sizes(head: &[u8]) -> Option<(u64, u64)> {
    let [four, header, payload, json] = [le32(head, 0)?, le32(head, 4)?, le32(head, 8)?, le32(head, 12)?];
    let is_nested = header.checked_sub(payload) == Some(4) && payload.checked_sub(json)? >= 4;
    (four == 4 && is_nested).then_some((u64::from(json), 8 + u64::from(header)))
}

/// A file or folder of the listing. Stores only its own name and a parent, so that deep trees take little memory.
struct Entry {
    parent: Option<usize>,
    name: String,
}

/// The position of a file's bytes, relative to the first file.
struct File {
    offset: u64,
    size: u64,
    entry: usize,
}

#[derive(Default)]
struct Listing {
    entries: Vec<Entry>,
    files: Vec<File>,
}

impl Listing {
    fn path(&self, entry: usize) -> String {
        let mut names = Vec::new();
        let mut at = Some(entry);
        while let Some(entry) = at.and_then(|at| self.entries.get(at)) {
            names.push(entry.name.as_str());
            at = entry.parent;
        }
        names.reverse();
        names.join("/")
    }
}

/// A node of the JSON: an object with `files`, or with `offset` and `size`.
struct Node<'a> {
    listing: &'a mut Listing,
    entry: Option<usize>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file or a folder")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut offset, mut size) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "files" => map.next_value_seed(Folder { listing: &mut *self.listing, parent: self.entry })?,
                "offset" => offset = map.next_value::<String>()?.parse::<u64>().ok(),
                "size" => size = map.next_value::<serde_json::Number>()?.as_u64(),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if let (Some(offset), Some(size), Some(entry)) = (offset, size, self.entry) {
            self.listing.files.push(File { offset, size, entry });
        }
        Ok(())
    }
}

/// The object of names in a node's `files`.
struct Folder<'a> {
    listing: &'a mut Listing,
    parent: Option<usize>,
}

impl<'de> DeserializeSeed<'de> for Folder<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Folder<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("files by their names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if self.listing.entries.len() >= MAX_NODES {
                return Err(A::Error::custom("it lists too many files"));
            }
            let entry = Some(self.listing.entries.len());
            self.listing.entries.push(Entry { parent: self.parent, name });
            map.next_value_seed(Node { listing: &mut *self.listing, entry })?;
        }
        Ok(())
    }
}

enum State {
    Header,
    /// Before or in the file with this index in the sorted list.
    Files(usize),
}

/// A reader of asar.
pub(super) struct Asar {
    limit: u64,
    state: State,
    listing: Listing,
    /// The number of bytes read after the header.
    passed: u64,
    is_open: bool,
}

impl Asar {
    /// The header may have at most `limit` bytes.
    pub(super) fn new(limit: u64) -> Asar {
        Asar { limit, state: State::Header, listing: Listing::default(), passed: 0, is_open: false }
    }

    fn header(&mut self, input: &mut &[u8]) -> Result<Option<Progress>, Gap> {
        if input.len() < JSON_START {
            return Ok(Some(Progress::More));
        }
        let Some((json, start)) = sizes(input) else { return Err(damaged("the sizes in its header are inconsistent")) };
        if json > self.limit {
            let detail =
                format!("the header of an asar archive has {json} bytes, more than the limit of {}", self.limit);
            return Err(Gap::new(GapReason::DocumentTooLarge, detail));
        }
        // The padding has at most three bytes.
        if start > JSON_START as u64 + json + 8 {
            return Err(damaged("the sizes in its header are inconsistent"));
        }
        let Some((header, rest)) = input.split_at_checked(start as usize) else { return Ok(Some(Progress::More)) };
        let json = header.get(JSON_START..JSON_START + json as usize).unwrap_or_default();
        let mut reader = serde_json::Deserializer::from_slice(json);
        let root = Node { listing: &mut self.listing, entry: None };
        root.deserialize(&mut reader).map_err(|error| damaged(&error.to_string()))?;
        self.listing.files.sort_by_key(|file| (file.offset, file.size));
        *input = rest;
        self.state = State::Files(0);
        Ok(None)
    }

    /// Continues in the file with the index `next`. Bytes shared by several files are passed on once.
    fn file(&mut self, next: usize, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Option<Progress> {
        let Some(file) = self.listing.files.get(next) else {
            return self.between(u64::MAX, input, sink);
        };
        let (end, entry) = (file.offset.saturating_add(file.size), file.entry);
        if file.offset > self.passed {
            return self.between(file.offset - self.passed, input, sink);
        }
        let is_empty = file.size == 0;
        if end > self.passed || is_empty {
            if !self.is_open {
                self.begin_file(entry, file.size, sink);
            }
            self.hand(end.saturating_sub(self.passed), input, sink);
            if end > self.passed {
                return Some(Progress::More);
            }
        }
        self.close(sink);
        self.state = State::Files(next + 1);
        None
    }

    fn begin_file(&mut self, entry: usize, size: u64, sink: &mut MemberSink<'_, '_>) {
        let path = self.listing.path(entry);
        sink.begin(Some(path.as_bytes()), Some(size));
        self.is_open = true;
    }

    /// Passes on bytes outside of files.
    fn between(&mut self, count: u64, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Option<Progress> {
        if input.is_empty() {
            return Some(Progress::More);
        }
        if !std::mem::replace(&mut self.is_open, true) {
            sink.begin(None, None);
        }
        if self.hand(count, input, sink) < count {
            return Some(Progress::More);
        }
        self.close(sink);
        None
    }

    fn hand(&mut self, count: u64, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> u64 {
        let data = take(input, count);
        sink.bytes(data);
        self.passed += data.len() as u64;
        data.len() as u64
    }

    fn close(&mut self, sink: &mut MemberSink<'_, '_>) {
        sink.end();
        self.is_open = false;
    }
}

impl Format for Asar {
    fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        loop {
            let progress = match self.state {
                State::Header => self.header(input)?,
                State::Files(next) => self.file(next, input, sink),
            };
            if let Some(progress) = progress {
                return Ok(progress);
            }
        }
    }

    fn finish(&mut self, _: &[u8], _: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        let is_whole = match self.state {
            State::Header => false,
            State::Files(next) => next >= self.listing.files.len(),
        };
        if is_whole { Ok(()) } else { Err(damaged("it is truncated")) }
    }
}

fn damaged(detail: &str) -> Gap {
    Gap::new(GapReason::DamagedArchive, format!("an asar archive is damaged: {detail}"))
}
