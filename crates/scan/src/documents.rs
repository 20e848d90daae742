//! Scans the documents of an image other than its configuration: manifests, indexes, and the blobs of attestations.
//!
//! A JSON document is scanned value by value, each together with the name of its member, and values in base64 are
//! decoded: BuildKit stores Dockerfiles in that way. Any other document is scanned like a file.

use std::collections::HashSet;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use layersift_format::build::BuildClaims;
use layersift_format::json::{JsonString, Node};
use layersift_format::manifest::{Document, DocumentContent, DocumentKind, Image};
use layersift_format::{CancelReason, Cancellation, Fetched, ImageSource, Location};
use layersift_model::{
    Algorithm, Digest, DocumentLocation, DocumentRef, Gap, GapReason, Hasher, LayerFinding, RuleInfo, Secret, Severity,
};

use crate::analyzer::Analyzer;
use crate::confirm::{Confirmed, Matches, keep_best};
use crate::content::text;
use crate::engine::EngineError;
use crate::layer::read::cancelled;
use crate::worker::ScanWorker;

/// Names of members that occur in every manifest, and are not searched for secrets.
const NAMES: [&str; 14] = [
    "annotations",
    "architecture",
    "artifactType",
    "builder",
    "config",
    "digest",
    "manifests",
    "materials",
    "mediaType",
    "metadata",
    "platform",
    "predicate",
    "predicateType",
    "schemaVersion",
];

/// The fewest characters of a value that is decoded from base64.
const SHORTEST_BASE64: usize = 16;

/// Base64 (RFC 4648), standard and URL-safe, with and without padding.
const STANDARD: GeneralPurpose = lenient(&alphabet::STANDARD);
const URL_SAFE: GeneralPurpose = lenient(&alphabet::URL_SAFE);

const fn lenient(alphabet: &alphabet::Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

/// The most findings in the documents of one image.
const MAX_FINDINGS: usize = 10_000;

/// What the documents of an image hold.
#[derive(Clone, Debug, Default)]
pub struct DocumentReport {
    /// The findings, in the order of the documents.
    pub(crate) findings: Vec<DocumentFinding>,
    /// What was not read.
    pub(crate) gaps: Vec<Gap>,
    /// What they claim about the build of the image.
    pub(crate) claims: BuildClaims,
}

/// A finding in a document.
#[derive(Clone, Debug)]
pub(crate) struct DocumentFinding {
    pub(crate) rule: Arc<RuleInfo>,
    pub(crate) severity: Severity,
    pub(crate) location: DocumentLocation,
    pub(crate) secret: Option<Secret>,
    pub(crate) note: Option<String>,
}

impl DocumentReport {
    /// The gap because of which another scan may say something else: a document that could not be read, or has other
    /// bytes in this place.
    pub fn unrepeatable(&self) -> Option<&Gap> {
        let here = [GapReason::MissingBlob, GapReason::DigestMismatch];
        self.gaps.iter().find(|gap| gap.reason.is_transient() || here.contains(&gap.reason))
    }
}

impl Analyzer {
    /// Scans the documents of `image`, which are read from `source`.
    pub fn documents(&self, source: &dyn ImageSource, image: &Image, cancellation: &Cancellation) -> DocumentReport {
        let mut scan = DocumentScan { analyzer: self, image, report: DocumentReport::default() };
        for document in &image.documents {
            if let Some(reason) = cancellation.reason() {
                scan.report.gaps.push(cancelled(reason).at(name(document)));
                break;
            }
            if let Err(gap) = scan.document(source, document) {
                scan.report.gaps.push(gap);
            }
        }
        scan.report
    }
}

struct DocumentScan<'a> {
    analyzer: &'a Analyzer,
    image: &'a Image,
    report: DocumentReport,
}

impl DocumentScan<'_> {
    fn document(&mut self, source: &dyn ImageSource, document: &Document) -> Result<(), Gap> {
        match &document.content {
            DocumentContent::Strings(strings) => self.strings(document, strings),
            DocumentContent::Bytes(bytes) => self.bytes(document, bytes),
            DocumentContent::Blob(location) => self.blob(source, location, document),
        }
    }

    fn blob(&mut self, source: &dyn ImageSource, location: &Location, document: &Document) -> Result<(), Gap> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            let gap = match CancelReason::of(error) {
                Some(reason) => cancelled(reason),
                None => Gap::new(GapReason::Unreadable, error.to_string()),
            };
            gap.at(&location.0)
        };
        let blob = match source.open(location).map_err(|error| failed(&error))? {
            Fetched::Blob(blob) => blob,
            Fetched::Missing => {
                return Err(Gap::new(GapReason::MissingBlob, source.missing("document")).at(&location.0));
            }
            Fetched::Passed(_) => {
                let detail = "the document was read as a layer; save the stream to a file and scan that";
                return Err(Gap::new(GapReason::Unreadable, detail).at(&location.0));
            }
        };
        let limit = self.analyzer.limits().document_bytes;
        let algorithm = document.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let mut reader = HashedReader { input: blob.into_reader(), hasher: Hasher::new(algorithm) };
        let mut start = Vec::new();
        reader.by_ref().take(limit + 1).read_to_end(&mut start).map_err(|error| failed(&error))?;
        if start.len() as u64 > limit {
            if document.kind == DocumentKind::Provenance {
                self.report.claims.add_note("a provenance is too large to be used for lines");
            }
            self.file(document, Cursor::new(start).chain(&mut reader)).map_err(|error| failed(&error))?;
        } else {
            self.bytes(document, &start)?;
        }
        let found = reader.hasher.finish();
        match &document.digest {
            Some(expected) if *expected != found => {
                let detail = format!("expected {expected}, found {found}");
                Err(Gap::new(GapReason::DigestMismatch, detail).at(&location.0))
            }
            _ => Ok(()),
        }
    }

    fn bytes(&mut self, document: &Document, bytes: &[u8]) -> Result<(), Gap> {
        match Node::parse(bytes) {
            Ok(node) => {
                self.claims(document, &node);
                self.strings(document, &node.strings("", &NAMES))
            }
            Err(_) => self.file(document, bytes).map_err(|error| unreadable(document, &error)),
        }
    }

    /// Keeps what a document claims about the build of the image.
    fn claims(&mut self, document: &Document, node: &Node) {
        let is_of_image = self.image.manifest_digest.is_some() && document.digest == self.image.manifest_digest;
        match document.kind {
            DocumentKind::Manifest if is_of_image => self.report.claims.add_manifest(node),
            DocumentKind::Provenance | DocumentKind::Attestation => {
                self.report.claims.add_statement(node, document.attached_to.as_ref());
            }
            _ => {}
        }
    }

    /// Scans a document that is not JSON, or too large to be read as such.
    fn file(&mut self, document: &Document, input: impl Read) -> io::Result<()> {
        let file = self.analyzer.file("", input)?;
        self.report.gaps.extend(file.gaps.into_iter().map(|gap| gap.at(name(document))));
        for finding in file.findings {
            self.add(of_file(document, finding));
        }
        Ok(())
    }

    /// Scans the strings of a JSON document. Steps of a build repeat their environment: each secret is one finding.
    fn strings(&mut self, document: &Document, strings: &[JsonString]) -> Result<(), Gap> {
        let mut found = Vec::new();
        let is_complete = self.search(document, strings, &mut found).map_err(|error| unreadable(document, &error))?;
        if !is_complete {
            let detail = "encoded data exceeds the decoding limit; the rest was not decoded";
            self.report.gaps.push(Gap::new(GapReason::TooMuchEncoded, detail).at(name(document)));
        }
        // A place in the text of a Dockerfile says more than one in its steps.
        found.sort_by_key(|finding: &DocumentFinding| finding.location.line.is_none());
        let mut seen = HashSet::new();
        for finding in found {
            if seen.insert((finding.rule.id.clone(), finding.secret.clone())) {
                self.add(finding);
            }
        }
        Ok(())
    }

    fn search(
        &self,
        document: &Document,
        strings: &[JsonString],
        found: &mut Vec<DocumentFinding>,
    ) -> Result<bool, EngineError> {
        let mut worker = self.analyzer.rules.worker()?;
        let mut is_complete = true;
        for string in strings {
            if let Some(decoded) = decoded(&string.text) {
                let (matches, complete) = self.matches(&mut worker, &decoded)?;
                is_complete &= complete;
                let at = |one: &Confirmed| {
                    let (line, column) = text::position(&decoded, one.span.start, 0, 0);
                    (Some(line), Some(column))
                };
                found.extend(matches.into_iter().map(|one| self.finding(document, string, at(&one), true, one)));
            }
            let text = with_name(string);
            let (matches, complete) = self.matches(&mut worker, text.as_bytes())?;
            is_complete &= complete;
            found.extend(matches.into_iter().map(|one| self.finding(document, string, (None, None), false, one)));
        }
        Ok(is_complete)
    }

    /// The confirmed matches in a text, and whether all of it was decoded.
    fn matches(&self, worker: &mut ScanWorker<'_>, bytes: &[u8]) -> Result<(Vec<Confirmed>, bool), EngineError> {
        let rules = &self.analyzer.rules;
        let mut found = Matches::default();
        let is_complete = worker.scan(bytes, &(0..bytes.len()), &mut found)?;
        // No parser reads a document as a file.
        let mut found = found.confirmed;
        found.retain(|one| rules.applies_at(one.rule, None));
        keep_best(&rules.signatures, &mut found);
        Ok((found, is_complete))
    }

    fn finding(
        &self,
        document: &Document,
        string: &JsonString,
        (line, column): (Option<u64>, Option<u64>),
        is_base64: bool,
        one: Confirmed,
    ) -> DocumentFinding {
        let rules = &self.analyzer.rules;
        let (rule, severity) = (rules.info(&one), rules.severity(&one));
        let views = is_base64.then_some("base64").into_iter().chain(one.views).map(Into::into).collect();
        let document = reference(document, Some(string.path.clone()));
        let location = DocumentLocation { document, inside: Vec::new(), views, line, column };
        DocumentFinding { rule, severity, location, secret: Some(one.secret), note: one.note }
    }

    fn add(&mut self, finding: DocumentFinding) {
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(finding);
        } else if self.report.findings.len() == MAX_FINDINGS
            && !self.report.gaps.iter().any(|gap| gap.reason == GapReason::TooManyFindings)
        {
            let detail = format!("the documents have more than {MAX_FINDINGS} findings; the rest were dropped");
            self.report.gaps.push(Gap::new(GapReason::TooManyFindings, detail));
        }
    }
}

fn of_file(document: &Document, finding: LayerFinding) -> DocumentFinding {
    let LayerFinding { rule, severity, place, secret, note, .. } = finding;
    let document = reference(document, None);
    let location =
        DocumentLocation { document, inside: place.inside, views: place.views, line: place.line, column: place.column };
    DocumentFinding { rule, severity, location, secret, note }
}

fn reference(document: &Document, json_path: Option<String>) -> DocumentRef {
    DocumentRef {
        kind: document.kind.name().into(),
        digest: document.digest.clone(),
        media_type: document.media_type.clone(),
        json_path,
    }
}

/// A document for people.
fn name(document: &Document) -> String {
    match &document.digest {
        Some(digest) => format!("{} {digest}", document.kind.name()),
        None => document.kind.name().into(),
    }
}

fn unreadable(document: &Document, error: &dyn std::error::Error) -> Gap {
    Gap::new(GapReason::Unreadable, error.to_string()).at(name(document))
}

/// A value as an assignment, so that rules which look for the name of a variable apply. BuildKit prefixes the names of
/// build arguments and labels.
fn with_name(string: &JsonString) -> String {
    match &string.name {
        Some(name) => {
            let name = ["build-arg:", "label:"].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
            format!("{name}={}", string.text)
        }
        None => string.text.clone(),
    }
}

/// The text that a value in base64 holds, in either alphabet, with or without padding and in lines or not; `None` if it
/// is anything else. Signatures in JSON (RFC 7515) have the URL-safe alphabet.
fn decoded(text: &str) -> Option<Vec<u8>> {
    if text.len() < SHORTEST_BASE64 {
        return None;
    }
    let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    let is_url_safe = digits.iter().any(|digit| matches!(digit, b'-' | b'_'));
    let bytes = if is_url_safe { URL_SAFE.decode(digits) } else { STANDARD.decode(digits) }.ok()?;
    std::str::from_utf8(&bytes).is_ok_and(|text| !text.contains('\0')).then_some(bytes)
}

/// A reader that hashes what is read through it.
struct HashedReader<'r> {
    input: Box<dyn Read + Send + 'r>,
    hasher: Hasher,
}

impl Read for HashedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
