//! Marks of AI: what files say about AI that took part in making them, traces of assistants, and models.
//!
//! A mark is read off a path, a form that somebody defined, or a sentence in a fixed place. How a text reads, or how
//! code looks, is never a mark.

mod assistants;
mod git;
mod header;
mod model;
mod trace;

use layersift_model::{AiMarkKind, AiRecord, ImagePath};

use crate::fields::{lines, text};

/// The longest text of a mark.
const LONGEST: usize = 300;

/// What a file may say about AI, by its path or its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AiFile {
    /// `AI-DECLARATION.md`.
    Declaration,
    /// The reference of git-ai's notes.
    NotesReference,
    /// The packed references of a Git repository.
    PackedReferences,
    /// A commit message that Git left in its directory.
    CommitMessage,
    /// An object of a Git repository that is in no pack.
    LooseObject,
    /// A file in `.agent-trace`.
    AgentTrace,
    /// Settings or instructions for this assistant.
    Settings(&'static str),
    /// A transcript of a conversation with this assistant.
    Transcript(&'static str),
    /// A `README.md`, which may be the card of a model.
    Readme,
    /// A model with this file name extension or these first bytes.
    Model(model::ModelFormat),
    /// Any other file, whose head may say that an AI generated it.
    Other,
}

impl AiFile {
    /// The bytes at the beginning of a file whose path is not a mark that tell what it is.
    pub const HEAD: usize = 1024;

    /// What the file at `path` may say, by its path.
    pub fn at(path: &ImagePath) -> Option<AiFile> {
        let (bytes, name) = (path.as_bytes(), path.name());
        if name.eq_ignore_ascii_case(b"AI-DECLARATION.md") {
            return Some(AiFile::Declaration);
        }
        git::at(bytes, name)
            .or_else(|| assistants::at(bytes, name))
            .or_else(|| trace::is_at(bytes, name).then_some(AiFile::AgentTrace))
            .or_else(|| name.eq_ignore_ascii_case(b"README.md").then_some(AiFile::Readme))
            .or_else(|| model::ModelFormat::at(name).map(AiFile::Model))
    }

    /// What a file that begins with `head` is, if its path is not a mark.
    pub fn of_head(head: &[u8]) -> Option<AiFile> {
        if let Some(format) = model::ModelFormat::of_head(head) {
            return Some(AiFile::Model(format));
        }
        header::may_have(head).then_some(AiFile::Other)
    }

    /// The bytes at the beginning of the file that are read.
    pub fn most_bytes(self) -> usize {
        match self {
            AiFile::Settings(_) | AiFile::Transcript(_) => 0,
            AiFile::NotesReference => 256,
            AiFile::Other => AiFile::HEAD,
            AiFile::Declaration | AiFile::CommitMessage | AiFile::LooseObject | AiFile::Readme => 64 << 10,
            AiFile::Model(_) => 256 << 10,
            AiFile::PackedReferences | AiFile::AgentTrace => 8 << 20,
        }
    }

    /// The bytes of memory that it may take to read the first `length` bytes, besides these themselves.
    pub fn memory(self, length: usize) -> u64 {
        match self {
            // A text with escapes, and the buffer in which it grew.
            AiFile::AgentTrace => 2 * length as u64,
            _ => 0,
        }
    }

    /// What the file says, by its first bytes. Most files say nothing.
    pub fn read(self, bytes: &[u8]) -> Option<AiRecord> {
        match self {
            AiFile::Declaration => Some(declaration(bytes)),
            AiFile::NotesReference => git::notes_reference(bytes),
            AiFile::PackedReferences => git::packed_references(bytes),
            AiFile::CommitMessage => git::message(bytes),
            AiFile::LooseObject => git::loose_object(bytes),
            AiFile::AgentTrace => trace::read(bytes),
            AiFile::Settings(name) => {
                Some(record(AiMarkKind::AssistantSettings, Some(name), "settings or instructions for an assistant"))
            }
            AiFile::Transcript(name) => {
                Some(record(AiMarkKind::AssistantTranscript, Some(name), "a conversation with an assistant"))
            }
            AiFile::Readme => model::card(bytes),
            AiFile::Model(format) => format.read(bytes),
            AiFile::Other => header::read(bytes),
        }
    }
}

/// A record with bounded texts.
fn record(kind: AiMarkKind, name: Option<&str>, detail: &str) -> AiRecord {
    let cut = |text: &str| text.chars().filter(|one| !one.is_control()).take(LONGEST).collect::<String>();
    let name = name.map(cut).filter(|name| !name.trim().is_empty());
    AiRecord { kind, name, detail: cut(detail) }
}

/// An `AI-DECLARATION.md`, whose front matter has a version and a level.
fn declaration(bytes: &[u8]) -> AiRecord {
    let level = front_matter(bytes).find(|(key, _)| key == "level").map(|(_, level)| level);
    let detail = match level {
        Some(level) => format!("declares the level of AI: {level}"),
        None => "a declaration about AI, without a level in its front matter".into(),
    };
    record(AiMarkKind::Declaration, None, &detail)
}

/// The keys and plain values at the first level of the YAML between two lines of `---`, with which the file begins.
fn front_matter(bytes: &[u8]) -> impl Iterator<Item = (String, String)> {
    let mut all = lines(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    let has_one = all.next().is_some_and(|line| line.trim_ascii_end() == b"---");
    all.take_while(move |line| has_one && line.trim_ascii_end() != b"---").filter_map(|line| {
        let at = line.iter().position(|&byte| byte == b':').filter(|_| !line.starts_with(b" "))?;
        let value = text(&line[at + 1..]);
        Some((text(&line[..at]), value.trim_matches(['"', '\'']).to_string()))
    })
}
