//! asar: the archives of Electron applications.
//!
//! Source: the README of electron/asar, "Format": a pickle with the size of the header, a pickle with the header as
//! JSON, then the files. What belongs to no file is handed out as an unnamed member.

use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};

use layersift_model::{Gap, GapReason};

use super::bytes::{le32, take};
use super::level::{Format, Progress, Sink};

/// Where the JSON begins.
const JSON_START: usize = 16;

/// Files and folders that one archive may list.
const MOST_NODES: usize = 200_000;

/// Whether `head` begins with the two pickles and with the JSON that every writer makes.
pub(super) fn is_asar(head: &[u8]) -> bool {
    sizes(head).is_some() && head.get(JSON_START..).is_some_and(|json| json.starts_with(br#"{"files":"#))
}

/// The bytes of the JSON, and where the files begin.
fn sizes(head: &[u8]) -> Option<(u64, u64)> {
    let [four, header, payload, json] = [le32(head, 0)?, le32(head, 4)?, le32(head, 8)?, le32(head, 12)?];
    let is_nested = header.checked_sub(payload) == Some(4) && payload.checked_sub(json)? >= 4;
    (four == 4 && is_nested).then_some((u64::from(json), 8 + u64::from(header)))
}

/// A file or a folder of the listing. Names are kept one by one, so that long paths of many files take no room.
struct Entry {
    parent: Option<usize>,
    name: String,
}

/// Where a file's bytes are, from where the files begin.
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
            if self.listing.entries.len() >= MOST_NODES {
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
    /// In front of what the sorted file with this number begins with, or in it.
    Files(usize),
}

/// A reader of asar.
pub(super) struct Asar {
    limit: u64,
    state: State,
    listing: Listing,
    /// Bytes behind the header that went by.
    passed: u64,
    is_open: bool,
}

impl Asar {
    /// `limit` bounds the bytes of the header.
    pub(super) fn new(limit: u64) -> Asar {
        Asar { limit, state: State::Header, listing: Listing::default(), passed: 0, is_open: false }
    }

    fn header(&mut self, input: &mut &[u8]) -> Result<Option<Progress>, Gap> {
        if input.len() < JSON_START {
            return Ok(Some(Progress::More));
        }
        let Some((json, start)) = sizes(input) else { return Err(damaged("its sizes disagree")) };
        if json > self.limit {
            let detail = format!("the listing of an asar archive has {json} bytes, more than {}", self.limit);
            return Err(Gap::new(GapReason::DocumentTooLarge, detail));
        }
        // The padding is of three bytes at most.
        if start > JSON_START as u64 + json + 8 {
            return Err(damaged("its sizes disagree"));
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

    /// Goes on in the file with the number `next`. Files that share bytes are handed out once.
    fn file(&mut self, next: usize, input: &mut &[u8], sink: &mut Sink<'_, '_>) -> Option<Progress> {
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

    fn begin_file(&mut self, entry: usize, size: u64, sink: &mut Sink<'_, '_>) {
        let path = self.listing.path(entry);
        sink.begin(Some(path.as_bytes()), Some(size));
        self.is_open = true;
    }

    /// Hands out bytes that belong to no file.
    fn between(&mut self, count: u64, input: &mut &[u8], sink: &mut Sink<'_, '_>) -> Option<Progress> {
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

    fn hand(&mut self, count: u64, input: &mut &[u8], sink: &mut Sink<'_, '_>) -> u64 {
        let data = take(input, count);
        sink.bytes(data);
        self.passed += data.len() as u64;
        data.len() as u64
    }

    fn close(&mut self, sink: &mut Sink<'_, '_>) {
        sink.end();
        self.is_open = false;
    }
}

impl Format for Asar {
    fn push(&mut self, input: &mut &[u8], sink: &mut Sink<'_, '_>) -> Result<Progress, Gap> {
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

    fn finish(&mut self, _: &[u8], _: &mut Sink<'_, '_>) -> Result<(), Gap> {
        let is_whole = match self.state {
            State::Header => false,
            State::Files(next) => next >= self.listing.files.len(),
        };
        if is_whole { Ok(()) } else { Err(damaged("it breaks off")) }
    }
}

fn damaged(detail: &str) -> Gap {
    Gap::new(GapReason::DamagedArchive, format!("an asar archive is damaged: {detail}"))
}
