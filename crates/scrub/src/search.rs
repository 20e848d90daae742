//! Looks for values, and for what is secret in them, in all bytes of a blob: as they are stored, uncompressed, in every
//! string of a JSON document, and in what such a string is in base64. A value is also found in the forms that other
//! programs write it in, and wherever a scan looks: in archives, and encoded twice.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use layersift_format::Cancellation;
use layersift_format::compression::{
    Bounded, Codec, CompressedBytes, DecoderMemory, Decoding, MAGIC_BYTES, Undecoded, read_full,
};
use layersift_format::json::Node;
use layersift_format::tar::{Entries, Kind};
use layersift_model::{ImagePath, Secret};
use layersift_scan::Options;
use layersift_scan::values::{MOST as MOST_VALUES, ValueSearch, Values, parts};

use crate::error::ScrubError;
use crate::filler::LONG;
use crate::needles::Needles;
use crate::staging::Staging;

/// How many bytes are looked at together.
const CHUNK: usize = 256 << 10;

/// The most bytes of a JSON document whose strings are looked at one by one.
const LARGEST_DOCUMENT: u64 = 256 << 20;

/// The shortest text in base64 that is decoded, and how deep texts in texts are looked for.
const SHORTEST_BASE64: usize = 16;
const DEEPEST: usize = 4;

/// The most bytes of an extended header of an archive.
const EXTENDED: u64 = 1 << 20;

/// The most bytes of all forms that are looked for. Values beyond [`MOST_VALUES`] do not count as searched anyway.
const MOST_BYTES: usize = 16 << 20;

/// What values are called that may be words which occur elsewhere, and others.
const IS_SHORT: &str = "short";
const IS_LONG: &str = "long";

/// What is looked for.
pub(crate) struct Search {
    needles: Needles,
    /// How the value is written, for each of the needles.
    forms: Vec<&'static str>,
    /// Looks for the values as a scan does.
    scan: Option<ValueSearch>,
    /// Values that are too short to be looked for, except in documents that may be left out.
    too_short: Needles,
    /// How many values are not looked for.
    unsearched: usize,
}

/// Where a value is, for people. It never has the value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    /// What is said about the place.
    pub(crate) place: String,
    /// The file of a layer that it is in.
    pub(crate) path: Option<String>,
    /// Whether the value is so short that it may be a word that occurs elsewhere.
    pub(crate) is_short: bool,
}

/// What was found in a blob.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    pub(crate) hits: Vec<Hit>,
    /// Why a value may be there all the same, if not all of the blob could be read.
    pub(crate) unread: Option<String>,
}

impl Search {
    /// Looks for `values` and what is secret in them, on `threads` threads.
    pub(crate) fn new<'s>(
        values: impl Iterator<Item = &'s Secret>,
        threads: usize,
        cancellation: &Cancellation,
    ) -> Result<Search, ScrubError> {
        let (mut wanted, mut count) = (Values::default(), 0);
        let (mut needles, mut too_short, mut unsearched) = (Forms::default(), Vec::new(), 0);
        let mut known = HashSet::new();
        for value in values.map(Secret::reveal).filter(|value| known.insert(*value)) {
            let parts = parts(value);
            count += parts.len();
            if parts.is_empty() {
                too_short.push(value.to_vec());
            }
            unsearched += usize::from(parts.is_empty() || count > MOST_VALUES);
            for part in parts {
                needles.add(&part);
                if count <= MOST_VALUES {
                    wanted.add_part(if part.len() >= LONG { IS_LONG } else { IS_SHORT }, part);
                }
            }
        }
        let options = Options { threads, ..Options::default() };
        let scan = match wanted.is_empty() {
            true => None,
            false => Some(ValueSearch::new(wanted, options, cancellation)?),
        };
        let (needles, forms): (Vec<Vec<u8>>, _) = needles.by_bytes.into_iter().unzip();
        let (needles, too_short) = (Needles::new(needles), Needles::new(too_short));
        Ok(Search { needles, forms, scan, too_short, unsearched })
    }

    /// Whether nothing is looked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.needles.is_empty() && self.scan.is_none()
    }

    /// How many values are not looked for, because they are too short.
    pub(crate) fn unsearched(&self) -> usize {
        self.unsearched
    }

    /// Whether a value is in the document `bytes`, or in a text that it holds.
    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        let is_found = self.scan.as_ref().is_some_and(|scan| !scan.in_document(bytes).places.is_empty());
        is_found || is_in_text(bytes, 0, &|text| self.needles.is_in(text))
    }

    /// Whether the document has a value that is too short to be looked for elsewhere.
    pub(crate) fn has_too_short(&self, bytes: &[u8]) -> bool {
        is_in_text(bytes, 0, &|text| self.too_short.is_in(text))
    }

    /// Where in the blob, which is the file at `path`, the values are.
    pub(crate) fn in_blob(&self, path: &Path, staging: &Staging) -> io::Result<Hits> {
        if self.is_empty() {
            return Ok(Hits::default());
        }
        let mut hits = if self.needles.is_empty() { Vec::new() } else { self.in_bytes(path, staging)? };
        let mut unread = None;
        if let Some(scan) = &self.scan {
            let searched = scan.in_blob(path, staging.cancellation())?;
            let mut known: BTreeSet<Option<String>> = hits.iter().map(|hit| hit.path.clone()).collect();
            for place in searched.places {
                // The bytes say the same of most places.
                if known.insert(place.path.clone()) || place.is_in_archive {
                    let is_short = !place.names.contains(IS_LONG);
                    hits.push(Hit { place: format!("the value in {}", place.place), path: place.path, is_short });
                }
            }
            unread = searched.gaps.first().map(|gap| gap.reason.name().to_string());
        }
        hits.sort();
        hits.dedup();
        Ok(Hits { hits, unread })
    }

    fn in_bytes(&self, path: &Path, staging: &Staging) -> io::Result<Vec<Hit>> {
        let mut hits: Vec<Hit> = Vec::new();
        let found = self.in_stream(&mut staging.reader(File::open(path)?))?;
        let codec = codec_of(path)?;
        if codec == Codec::Plain {
            hits.extend(places(path, codec, found, staging)?);
        } else {
            hits.extend(found.into_iter().map(|(form, at)| Hit {
                place: format!("{form} at byte {at} of the compressed bytes"),
                path: None,
                is_short: false,
            }));
            let found = with_plain(path, codec, |input| self.in_stream(&mut staging.reader(input)))?;
            hits.extend(places(path, codec, found, staging)?);
        }
        if hits.is_empty() && is_in_text(&document(path, codec)?, 0, &|text| self.needles.is_in(text)) {
            hits.push(Hit { place: "in a string of the document".into(), path: None, is_short: false });
        }
        Ok(hits)
    }

    /// The first place of each form in a stream.
    fn in_stream(&self, input: &mut dyn Read) -> io::Result<Vec<(&'static str, u64)>> {
        let overlap = self.needles.longest().saturating_sub(1);
        // What overlaps is searched twice, but no byte more often.
        let chunk = CHUNK.max(overlap);
        let (mut buffer, mut at, mut kept) = (vec![0; chunk + overlap], 0_u64, 0);
        let mut found: Vec<Option<u64>> = vec![None; self.needles.len()];
        loop {
            let count = read_full(input, &mut buffer[kept..kept + chunk])?;
            let window = &buffer[..kept + count];
            self.needles.find(window, |index, offset| {
                let place = at + offset as u64;
                found[index] = Some(found[index].map_or(place, |first| first.min(place)));
                true
            });
            if count < chunk {
                break;
            }
            let length = window.len();
            let drop = length - overlap.min(length);
            buffer.copy_within(drop..length, 0);
            (at, kept) = (at + drop as u64, length - drop);
        }
        let hits = self.forms.iter().zip(found).filter_map(|(form, at)| Some((*form, at?)));
        Ok(hits.collect())
    }
}

/// The forms of values, by their bytes.
#[derive(Default)]
struct Forms {
    by_bytes: BTreeMap<Vec<u8>, &'static str>,
    bytes: usize,
}

impl Forms {
    /// Looks for the bytes of `value` in all its forms, unless it may be a word that occurs elsewhere.
    fn add(&mut self, value: &[u8]) {
        if value.len() < LONG || self.bytes > MOST_BYTES {
            return;
        }
        for (form, bytes) in forms(value) {
            self.bytes += bytes.len();
            self.by_bytes.entry(bytes).or_insert(form);
        }
    }
}

/// Whether `is_found` is so of `bytes`, or of a text that they hold.
fn is_in_text(bytes: &[u8], depth: usize, is_found: &dyn Fn(&[u8]) -> bool) -> bool {
    if is_found(bytes) {
        return true;
    }
    if depth > DEEPEST {
        return false;
    }
    let begins = bytes.trim_ascii_start().first();
    if matches!(begins, Some(b'{' | b'[' | b'"')) {
        // Bundles are written one a line.
        let documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Node>();
        return documents.map_while(Result::ok).any(|node| is_in_node(&node, depth + 1, is_found));
    }
    decoded(bytes).is_some_and(|decoded| is_in_text(&decoded, depth + 1, is_found))
}

fn is_in_node(node: &Node, depth: usize, is_found: &dyn Fn(&[u8]) -> bool) -> bool {
    match node {
        Node::String(text) => is_in_text(text.as_bytes(), depth, is_found),
        Node::Array(elements) => elements.iter().any(|element| is_in_node(element, depth, is_found)),
        Node::Object(members) => members
            .iter()
            .any(|(name, member)| is_in_text(name.as_bytes(), depth, is_found) || is_in_node(member, depth, is_found)),
        Node::Null | Node::Bool(_) | Node::Number(_) => false,
    }
}

/// The ways to write `value`, itself first.
fn forms(value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![("the value", value.to_vec())];
    for engine in [engine(&STANDARD), engine(&URL_SAFE)] {
        for lead in 0..3 {
            // Only the characters that no other byte has a part in.
            let text = engine.encode([&vec![0; lead][..], value].concat());
            let (from, to) = ((lead * 8).div_ceil(6), (lead + value.len()) * 8 / 6);
            forms.push(("the value in base64", text.as_bytes().get(from..to).unwrap_or_default().to_vec()));
        }
    }
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    forms.push(("the value in hexadecimal digits", hex.to_ascii_uppercase().into_bytes()));
    forms.push(("the value in hexadecimal digits", hex.into_bytes()));
    if let Ok(text) = std::str::from_utf8(value) {
        let escaped = serde_json::to_string(text).unwrap_or_default();
        forms.push(("the value in JSON", escaped.trim_matches('"').as_bytes().to_vec()));
        let slashes = escaped.trim_matches('"').replace('/', "\\/");
        forms.push(("the value in JSON", slashes.into_bytes()));
        let units: Vec<u16> = text.encode_utf16().collect();
        let escapes: String = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
        forms.push(("the value in JSON", escapes.clone().into_bytes()));
        let upper = escapes.to_ascii_uppercase().replace("\\U", "\\u");
        forms.push(("the value in JSON", upper.into_bytes()));
        forms.push(("the value in UTF-16", units.iter().flat_map(|unit| unit.to_le_bytes()).collect()));
        forms.push(("the value in UTF-16", units.iter().flat_map(|unit| unit.to_be_bytes()).collect()));
        let percent: String = value.iter().map(percent_encoded).collect();
        forms.push(("the value in a URL", percent.into_bytes()));
    }
    forms
}

fn percent_encoded(byte: &u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        _ => format!("%{byte:02X}"),
    }
}

fn engine(alphabet: &base64::alphabet::Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}

/// What `text` is in base64, with or without line breaks.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() < SHORTEST_BASE64 {
        return None;
    }
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let is_url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    engine(if is_url_safe { &URL_SAFE } else { &STANDARD }).decode(&text).ok()
}

fn codec_of(path: &Path) -> io::Result<Codec> {
    let mut head = [0; MAGIC_BYTES];
    let length = read_full(&mut File::open(path)?, &mut head)?;
    Ok(Codec::detect(&head[..length]))
}

/// Reads the uncompressed bytes of a blob. What cannot be decompressed is an error, and nothing is written then.
fn with_plain<T>(
    path: &Path,
    codec: Codec,
    read: impl FnOnce(&mut (dyn Read + Send)) -> io::Result<T>,
) -> io::Result<T> {
    let memory = |_| Some(Box::new(()) as DecoderMemory);
    let undecoded = Undecoded::default();
    let compressed = CompressedBytes::default();
    let decoding = Decoding { undecoded: &undecoded, memory: &memory };
    let plain = codec.reader(compressed.counting(File::open(path)?), decoding)?;
    match codec {
        Codec::Plain => read(&mut { plain }),
        _ => read(&mut Bounded::layer(plain, compressed)),
    }
}

/// The bytes of a blob, if they begin as a JSON document does.
fn document(path: &Path, codec: Codec) -> io::Result<Vec<u8>> {
    with_plain(path, codec, |input| {
        let mut bytes = vec![0; 1];
        let length = read_full(&mut *input, &mut bytes)?;
        bytes.truncate(length);
        if matches!(bytes[..], [b'{' | b'[' | b'"' | b' ' | b'\n' | b'\t' | b'\r']) {
            input.take(LARGEST_DOCUMENT).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    })
}

/// Where bytes of an uncompressed blob are. It is read once for all.
fn places(path: &Path, codec: Codec, mut found: Vec<(&'static str, u64)>, staging: &Staging) -> io::Result<Vec<Hit>> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    found.sort_unstable_by_key(|(_, at)| *at);
    let mut rest = found.into_iter().peekable();
    let mut hits = Vec::new();
    let outside = |form: &str, at: u64, is_layer: bool| {
        let outside = if is_layer { ", in no file" } else { "" };
        Hit { place: format!("{form} at byte {at}{outside}"), path: None, is_short: false }
    };
    with_plain(path, codec, |input| {
        let mut entries = Entries::new(staging.reader(input), EXTENDED);
        let mut is_layer = false;
        while rest.peek().is_some()
            && let Ok(Some(placed)) = entries.next_entry()
        {
            is_layer = true;
            while let Some((form, at)) = rest.next_if(|(_, at)| *at < placed.data) {
                hits.push(outside(form, at, true));
            }
            let end = if placed.entry.kind == Kind::File { placed.data.saturating_add(placed.entry.stored) } else { 0 };
            while let Some((form, _)) = rest.next_if(|(_, at)| *at < end) {
                let path = ImagePath::normalize(&placed.entry.path).to_string();
                hits.push(Hit { place: format!("{form} in the file {path}"), path: Some(path), is_short: false });
            }
        }
        hits.extend(rest.map(|(form, at)| outside(form, at, is_layer)));
        if staging.cancellation().is_cancelled() { Err(io::Error::other("stopped")) } else { Ok(()) }
    })?;
    Ok(hits)
}
