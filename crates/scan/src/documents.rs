//! Scans the documents of an image other than its configuration: manifests, indexes, and the blobs of attestations and
//! of whatever else refers to the image.
//!
//! A JSON document is scanned value by value, each together with the name of its member, and values in base64 are
//! decoded: BuildKit stores Dockerfiles in that way. Statements in envelopes are scanned as JSON, too. Any other
//! document is scanned like a file.

mod envelope;

use std::collections::HashSet;
use std::io::{self, Cursor, Read};
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use layersift_format::build::BuildClaims;
use layersift_format::json::{JsonString, Node};
use layersift_format::manifest::{Document, DocumentContent, DocumentKind, Image, ImageKind};
use layersift_format::{CancelReason, Cancellation, Fetched, ImageSource, Location};
use layersift_model::{
    Algorithm, Digest, DocumentLocation, DocumentRef, Footprint, Gap, GapReason, Hasher, LayerFinding, Limits,
    RuleInfo, Secret, Severity,
};

use self::envelope::{Enveloped, enveloped};
use crate::analyzer::Analyzer;
use crate::confirm::{Confirmed, Matches, keep_best};
use crate::content::text;
use crate::engine::EngineError;
use crate::layer::read::cancelled;
use crate::layer_work::LayerWork;
use crate::memory::MemoryLease;
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
    /// The bytes of the documents with such claims.
    claiming: u64,
}

/// The work of scanning the documents of all images of a target; see [`crate::layer_work`]. All of them together may
/// take as much as one layer of their size, and in an archive that is compressed as a whole, as one of the bytes that
/// they are decompressed from.
pub struct DocumentWork<'l> {
    pub(crate) work: LayerWork,
    pub(crate) lease: Option<&'l (dyn Fn() -> MemoryLease + Sync)>,
}

impl<'l> DocumentWork<'l> {
    /// No work yet, and what `limits` permit.
    pub fn new(limits: &Limits) -> DocumentWork<'l> {
        DocumentWork { work: LayerWork::new(limits), lease: None }
    }

    /// Documents that are scanned as files take their memory from the `lease` of the caller, which may hold it already.
    pub fn with_lease(self, lease: &'l (dyn Fn() -> MemoryLease + Sync)) -> DocumentWork<'l> {
        DocumentWork { lease: Some(lease), ..self }
    }
}

/// A finding in a document.
#[derive(Clone, Debug)]
pub(crate) struct DocumentFinding {
    pub(crate) rule: Arc<RuleInfo>,
    pub(crate) severity: Severity,
    pub(crate) location: DocumentLocation,
    pub(crate) secret: Option<Secret>,
    /// The secret as it is written, where a text is at hand; masked wherever reports show it.
    pub(crate) raw: Option<Box<str>>,
    pub(crate) note: Option<String>,
}

/// The most bytes that are kept of each byte of a document about a build: the shortest material has 11 bytes.
const CLAIM_BYTES: u64 = 12;

impl Footprint for DocumentReport {
    fn footprint(&self) -> u64 {
        let findings = self.findings.iter().map(Footprint::footprint).sum::<u64>();
        let gaps = self.gaps.iter().map(Footprint::footprint).sum::<u64>();
        size_of::<DocumentReport>() as u64 + findings + gaps + CLAIM_BYTES * self.claiming
    }
}

impl Footprint for DocumentFinding {
    fn footprint(&self) -> u64 {
        let secret = self.secret.as_ref().map_or(0, |secret| secret.len() as u64);
        let note = self.note.as_ref().map_or(0, String::len) as u64;
        let raw = self.raw.as_ref().map_or(0, |raw| raw.len() as u64);
        size_of::<DocumentFinding>() as u64 + self.location.footprint() + secret + raw + note
    }
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
    /// Scans the documents of `image`, which are read from `source`, as far as `work` permits.
    pub fn documents(
        &self,
        source: &dyn ImageSource,
        image: &Image,
        work: &DocumentWork<'_>,
        cancellation: &Cancellation,
    ) -> DocumentReport {
        if let Some(bytes) = source.compressed_documents() {
            work.work.permit_at_most(bytes);
        }
        let gaps = image.referrer_gaps.clone();
        let report = DocumentReport { gaps, ..DocumentReport::default() };
        let referrer_bytes = self.limits().referrer_bytes;
        let mut scan = DocumentScan { analyzer: self, image, report, referrer_bytes, unread: 0, work, cancellation };
        for document in &image.documents {
            if let Some(reason) = cancellation.reason() {
                scan.report.gaps.push(cancelled(reason).at(name(document)));
                break;
            }
            if let Err(gap) = scan.document(source, document) {
                scan.report.gaps.push(gap);
            }
        }
        scan.finish()
    }

    /// Scans one document of `image`, whose bytes are known.
    pub(crate) fn known_document(&self, image: &Image, document: &Document) -> DocumentReport {
        let (work, cancellation) = (&DocumentWork::new(self.limits()), &Cancellation::never());
        let report = DocumentReport::default();
        let mut scan = DocumentScan { analyzer: self, image, report, referrer_bytes: 0, unread: 0, work, cancellation };
        if let DocumentContent::Bytes(bytes) = &document.content
            && let Err(gap) = scan.bytes(document, bytes)
        {
            scan.report.gaps.push(gap);
        }
        scan.finish()
    }
}

struct DocumentScan<'a> {
    analyzer: &'a Analyzer,
    image: &'a Image,
    report: DocumentReport,
    /// How many bytes of blobs of referrers may still be read.
    referrer_bytes: u64,
    /// Blobs of referrers that were not read because of that.
    unread: usize,
    work: &'a DocumentWork<'a>,
    cancellation: &'a Cancellation,
}

impl DocumentScan<'_> {
    fn document(&mut self, source: &dyn ImageSource, document: &Document) -> Result<(), Gap> {
        match &document.content {
            DocumentContent::Strings(strings) => self.json(document, strings, &[]),
            DocumentContent::Bytes(bytes) => self.bytes(document, bytes),
            DocumentContent::Blob(location) => self.blob(source, location, document),
        }
    }

    fn finish(mut self) -> DocumentReport {
        if self.unread > 0 {
            let most = self.analyzer.limits().referrer_bytes;
            let detail = format!("{} blobs of referrers were not read: the limit is {most} bytes in all", self.unread);
            self.report.gaps.push(Gap::new(GapReason::TooManyReferrers, detail));
        }
        if !self.work.work.add(0) && !self.image.documents.is_empty() {
            let detail = "the documents take more work than those of their size may; the rest was not scanned";
            self.report.gaps.push(Gap::new(GapReason::DocumentTooLarge, detail));
        }
        self.report
    }

    fn blob(&mut self, source: &dyn ImageSource, location: &Location, document: &Document) -> Result<(), Gap> {
        let is_of_referrer = document.referrer.is_some();
        if is_of_referrer && self.referrer_bytes == 0 {
            self.unread += 1;
            return Ok(());
        }
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
        let algorithm = document.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let left = if is_of_referrer { self.referrer_bytes } else { u64::MAX };
        let mut reader = HashedReader::new(blob.into_reader(), algorithm, left);
        let read = self.content(document, &mut reader);
        if is_of_referrer {
            self.referrer_bytes = reader.left;
        }
        if let Some(reason) = self.cancellation.reason() {
            return Err(cancelled(reason).at(&location.0));
        }
        read.map_err(|error| failed(&error))??;
        if reader.is_cut {
            let most = self.analyzer.limits().referrer_bytes;
            let detail = format!("the blobs of referrers have more than {most} bytes; the rest was not read");
            return Err(Gap::new(GapReason::TooManyReferrers, detail).at(&location.0));
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

    /// Reads and scans a blob, which is a file if it is too large for a document.
    fn content(&mut self, document: &Document, reader: &mut HashedReader<'_>) -> io::Result<Result<(), Gap>> {
        let limit = self.analyzer.limits().document_bytes;
        let mut start = Vec::new();
        reader.by_ref().take(limit + 1).read_to_end(&mut start)?;
        if start.len() as u64 <= limit {
            return Ok(self.bytes(document, &start));
        }
        if document.kind == DocumentKind::Provenance {
            self.report.claims.add_note("a provenance is too large to be used for lines");
        }
        self.file(document, Cursor::new(start).chain(reader)).map(Ok)
    }

    fn bytes(&mut self, document: &Document, bytes: &[u8]) -> Result<(), Gap> {
        if self.is_large_configuration(document) {
            return self.file(document, bytes).map_err(|error| unreadable(document, &error));
        }
        match Node::parse(bytes) {
            Ok(node) => {
                self.work.work.add_blob_bytes(bytes.len() as u64);
                let inside = enveloped(&node);
                let document = &with_kind_of(document, &node, &inside);
                if matches!(document.kind, DocumentKind::Provenance | DocumentKind::Attestation) {
                    self.report.claiming += bytes.len() as u64;
                }
                self.claims(document, &node);
                inside.iter().for_each(|one| self.claims(document, &one.statement));
                self.json(document, &node.strings("", &NAMES), &inside)
            }
            Err(_) => self.file(document, bytes).map_err(|error| unreadable(document, &error)),
        }
    }

    /// Whether `document` is the configuration of an image that has too many values for each to be scanned alone.
    fn is_large_configuration(&self, document: &Document) -> bool {
        let is_of_image = self.image.kind == ImageKind::Image && document.digest == self.image.config_digest;
        is_of_image && document.kind == DocumentKind::Configuration
    }

    /// Keeps what a document, or a statement in it, claims about the build of the image.
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
        let file = self.analyzer.document(input, self.work, self.cancellation)?;
        self.report.gaps.extend(file.gaps.into_iter().map(|gap| gap.at(name(document))));
        for finding in file.findings {
            self.add(of_file(document, finding));
        }
        Ok(())
    }

    /// Scans the strings of a JSON document. Steps of a build repeat their environment: each secret is one finding.
    fn json(&mut self, document: &Document, strings: &[JsonString], inside: &[Enveloped]) -> Result<(), Gap> {
        let mut found = Vec::new();
        let failed = |error: EngineError| unreadable(document, &error);
        let mut unread = self.search(document, strings, false, &mut found).map_err(failed)?;
        for one in inside {
            unread = unread.or(self.search(document, &one.strings(), true, &mut found).map_err(failed)?);
        }
        self.report.gaps.extend(unread.map(|gap| gap.at(name(document))));
        // A place in the text of a Dockerfile says more than one in its steps, and one in a statement says more than
        // one in the text of the whole.
        let is_payload = |finding: &DocumentFinding| {
            let path = finding.location.document.json_path.as_deref();
            inside.iter().any(|one| path == Some(&one.path))
        };
        found.sort_by_key(|finding| (is_payload(finding), finding.location.line.is_none()));
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
        is_inside: bool,
        found: &mut Vec<DocumentFinding>,
    ) -> Result<Option<Gap>, EngineError> {
        let mut worker = self.analyzer.rules.worker()?;
        let mut unread = None;
        let outside: &[&'static str] = if is_inside { &["base64"] } else { &[] };
        let views = |own: &[&'static str]| [outside, own].concat();
        for string in strings {
            let before = worker.work();
            if !self.work.work.add(0) || self.cancellation.is_cancelled() {
                // The gap of that is one for all documents.
                break;
            }
            if let Some(decoded) = decoded(&string.text) {
                let (matches, gap) = self.matches(&mut worker, &decoded)?;
                unread = unread.or(gap);
                let starts: Vec<usize> = matches.iter().map(|one| one.span.start).collect();
                let positions = text::positions(&decoded, &starts, 0, 0);
                found.extend(matches.into_iter().zip(positions).map(|(one, (line, column))| {
                    self.finding(document, string, (Some(line), Some(column)), views(&["base64"]), one)
                }));
            }
            let text = with_name(string);
            let (matches, gap) = self.matches(&mut worker, text.as_bytes())?;
            unread = unread.or(gap);
            found.extend(matches.into_iter().map(|one| {
                let raw = text.get(one.span.clone()).map(Into::into);
                DocumentFinding { raw, ..self.finding(document, string, (None, None), views(&[]), one) }
            }));
            self.work.work.add(worker.work() - before);
        }
        Ok(unread)
    }

    /// The confirmed matches in a text, and the gap of what was not read of it.
    fn matches(&self, worker: &mut ScanWorker<'_>, bytes: &[u8]) -> Result<(Vec<Confirmed>, Option<Gap>), EngineError> {
        let rules = &self.analyzer.rules;
        let mut found = Matches::default();
        let unread = worker.scan(bytes, &(0..bytes.len()), &mut found)?;
        // No parser reads a document as a file.
        let mut found = found.confirmed;
        found.retain(|one| rules.applies_at(one.rule, None));
        keep_best(&rules.signatures, &mut found);
        Ok((found, unread))
    }

    fn finding(
        &self,
        document: &Document,
        string: &JsonString,
        (line, column): (Option<u64>, Option<u64>),
        views: Vec<&'static str>,
        one: Confirmed,
    ) -> DocumentFinding {
        let rules = &self.analyzer.rules;
        let (rule, severity) = (rules.info(&one), rules.severity(&one));
        let views = views.into_iter().chain(one.views).map(Into::into).collect();
        let document = reference(document, Some(string.path.clone()));
        let location = DocumentLocation { document, inside: Vec::new(), views, line, column };
        DocumentFinding { rule, severity, location, secret: Some(one.secret), raw: None, note: one.note }
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
    DocumentFinding { rule, severity, location, secret, raw: None, note }
}

fn reference(document: &Document, json_path: Option<String>) -> DocumentRef {
    DocumentRef {
        kind: document.kind.name().into(),
        digest: document.digest.clone(),
        referrer: document.referrer.clone(),
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

/// The document, whose kind is that of the statement in it, if that says more.
fn with_kind_of(document: &Document, node: &Node, inside: &[Enveloped]) -> Document {
    let statements = std::iter::once(node).chain(inside.iter().map(|one| &one.statement));
    let predicates = statements.filter_map(|statement| statement.get("predicateType")?.as_str());
    let mut kinds = predicates.map(DocumentKind::of_predicate);
    let is_open = matches!(document.kind, DocumentKind::Attestation | DocumentKind::Blob);
    let kind = kinds.next().filter(|_| is_open && document.referrer.is_some()).unwrap_or(document.kind);
    Document { kind, ..document.clone() }
}

/// A reader that hashes what is read through it, up to a number of bytes.
struct HashedReader<'r> {
    input: Box<dyn Read + Send + 'r>,
    hasher: Hasher,
    left: u64,
    /// Whether there are more bytes.
    is_cut: bool,
}

impl<'r> HashedReader<'r> {
    fn new(input: Box<dyn Read + Send + 'r>, algorithm: Algorithm, left: u64) -> HashedReader<'r> {
        HashedReader { input, hasher: Hasher::new(algorithm), left, is_cut: false }
    }
}

impl Read for HashedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            self.is_cut |= !buffer.is_empty() && self.input.read(&mut [0])? > 0;
            return Ok(0);
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.input.read(&mut buffer[..most])?;
        self.left -= count as u64;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
