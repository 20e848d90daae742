//! Where given values are in an image or a blob.
//!
//! A value is looked for by a scan whose rules are made of the values and of what is secret in them, so that archives,
//! encodings and split values are read as they are for any other secret, and the headers of a layer's entries as well.
//! What is compiled of such rules never reaches a cache, and no report of theirs a store.

mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use layersift_format::manifest::{Document, DocumentContent, DocumentKind, Image};
use layersift_format::{Blob, Cancellation};
use layersift_model::{Algorithm, Gap, LayerFinding};
use layersift_rules::Ruleset;

pub use self::parts::parts;
use self::parts::without_escapes;
use crate::analyzer::{Analyzer, Options, RulesetError};
use crate::observe::NoObserver;

/// The fewest bytes of a value that is looked for: shorter ones are words that are anywhere.
pub const SHORTEST: usize = 8;

/// The most values of one search. Each takes some two milliseconds to compile.
pub const MOST: usize = 1_000;

/// What the ids of the rules begin with.
const PREFIX: &str = "value.";

/// Values to look for. Each has names, such as the fingerprint of the secret that it is, or is a part of.
#[derive(Clone, Default)]
pub struct Values {
    names: BTreeMap<Vec<u8>, BTreeSet<String>>,
    left_out: BTreeMap<String, LeftOut>,
}

/// Why a value is not looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// It has fewer than [`SHORTEST`] bytes.
    Short,
    /// There are too many values.
    TooMany,
}

impl Values {
    /// Adds `value` and what is secret in it by itself, under `name`.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        let parts = parts(value);
        if parts.is_empty() {
            self.left_out.insert(name.into(), LeftOut::Short);
        } else if self.names.len() + parts.len() > MOST {
            self.left_out.insert(name.into(), LeftOut::TooMany);
        } else {
            parts.into_iter().for_each(|part| self.add_part(name, part));
        }
    }

    /// Adds a value as it is, under `name`.
    pub fn add_part(&mut self, name: &str, part: Vec<u8>) {
        // The same bytes may be both, and only one rule finds them.
        let decoded = std::str::from_utf8(&part).ok().map(|text| without_escapes(text).into_bytes());
        let also = decoded.and_then(|decoded| self.names.get_mut(&decoded));
        also.into_iter().for_each(|names| names.extend([name.to_string()]));
        self.names.entry(part).or_default().insert(name.into());
    }

    /// What is not looked for, by the name that it was added under.
    pub fn left_out(&self) -> &BTreeMap<String, LeftOut> {
        &self.left_out
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// A search for values.
pub struct ValueSearch {
    analyzer: Analyzer,
    /// The names of the value of each rule.
    names: Vec<BTreeSet<String>>,
}

/// What a search found in a blob or a document.
#[derive(Clone, Debug, Default)]
pub struct Searched {
    /// Where the values are.
    pub places: Vec<ValuePlace>,
    /// What could not be read, and may hold them.
    pub gaps: Vec<Gap>,
}

/// Where a value is, without the value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValuePlace {
    /// The file of the layer that it is in.
    pub path: Option<String>,
    /// The place for people.
    pub place: String,
    /// The names of the value.
    pub names: BTreeSet<String>,
    /// Whether it is in a member of an archive.
    pub is_in_archive: bool,
}

impl ValueSearch {
    /// A search for `values`. The rules of `options.cache` are not used.
    ///
    /// # Errors
    /// [`RulesetError`] if the rules of the values cannot be compiled, or `cancellation` is cancelled before they are.
    pub fn new(values: Values, options: Options, cancellation: &Cancellation) -> Result<ValueSearch, RulesetError> {
        let (values, names): (Vec<Vec<u8>>, Vec<BTreeSet<String>>) = values.names.into_iter().unzip();
        let rules = values.into_iter().enumerate().map(|(number, value)| (format!("{PREFIX}{number}"), value));
        let analyzer = Analyzer::compiled_until(Ruleset::of_values(rules), options, cancellation)?;
        Ok(ValueSearch { analyzer, names })
    }

    /// The analyzer that finds the values in images. [`ValueSearch::names`] says which value a finding of it is.
    pub fn analyzer(&self) -> &Analyzer {
        &self.analyzer
    }

    /// The names of the value that the rule `id` finds.
    pub fn names(&self, id: &str) -> BTreeSet<String> {
        let number: Option<usize> = id.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
        number.and_then(|number| self.names.get(number)).cloned().unwrap_or_default()
    }

    /// Where the values are in the blob at `path`: a layer, a document or any other file.
    ///
    /// # Errors
    /// If the blob cannot be read.
    pub fn in_blob(&self, path: &Path, cancellation: &Cancellation) -> io::Result<Searched> {
        let mut start = Vec::new();
        let limit = self.analyzer.limits().document_bytes;
        let mut file = File::open(path)?;
        file.by_ref().take(1 << 10).read_to_end(&mut start)?;
        if is_json(&start) && file.metadata()?.len() <= limit {
            file.read_to_end(&mut start)?;
            return Ok(self.in_document(&start));
        }
        let blob = Blob::Stream(Box::new(File::open(path)?));
        let report = self.analyzer.layer(blob, Algorithm::Sha256, cancellation, &NoObserver);
        let places = report.findings.iter().map(|finding| self.place(finding)).collect();
        Ok(Searched { places, gaps: report.gaps }.in_order())
    }

    /// Where the values are in a document, such as a manifest or an attestation.
    pub fn in_document(&self, bytes: &[u8]) -> Searched {
        if !is_json(bytes) {
            let file = self.analyzer.bytes("", bytes);
            let places = file.findings.iter().map(|finding| self.place(finding)).collect();
            return Searched { places, gaps: file.gaps }.in_order();
        }
        let document = Document {
            kind: DocumentKind::Blob,
            digest: None,
            media_type: None,
            is_of_index: false,
            attached_to: None,
            referrer: None,
            content: DocumentContent::Bytes(bytes.into()),
        };
        let report = self.analyzer.known_document(&Image::default(), &document);
        let place = |finding: &crate::documents::DocumentFinding| {
            let path = finding.location.document.json_path.as_deref().filter(|path| !path.is_empty());
            let place = path.map_or_else(|| "the document".to_string(), |path| format!("the document at {path}"));
            ValuePlace { path: None, place, names: self.names(&finding.rule.id), is_in_archive: false }
        };
        Searched { places: report.findings.iter().map(place).collect(), gaps: report.gaps }.in_order()
    }

    fn place(&self, finding: &LayerFinding) -> ValuePlace {
        let path = Some(finding.place.path.to_string()).filter(|path| !path.is_empty());
        let parts: Vec<String> = path.iter().chain(&finding.place.inside).cloned().collect();
        let views = match finding.place.views.is_empty() {
            true => String::new(),
            false => format!(" ({})", finding.place.views.join(" in ")),
        };
        let place = if parts.is_empty() { "the blob".into() } else { parts.join(" → ") };
        ValuePlace {
            path,
            place: format!("{place}{views}"),
            names: self.names(&finding.rule.id),
            is_in_archive: !finding.place.inside.is_empty(),
        }
    }
}

impl Searched {
    fn in_order(mut self) -> Searched {
        self.places.sort();
        self.places.dedup();
        self
    }
}

/// Whether a text may be JSON.
fn is_json(bytes: &[u8]) -> bool {
    matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'[' | b'"'))
}

#[cfg(test)]
mod tests;
