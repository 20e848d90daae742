//! Marks in the directory of a Git repository: the notes of git-ai, and trailers of commit messages.
//!
//! Messages are read where Git leaves them as text, and in objects that are in no pack. Packs are not read.

use std::io::Read;

use layersift_model::{AiMarkKind, AiRecord};

use super::{AiFile, record};
use crate::fields::{lines, text, value};

/// The reference of git-ai's notes.
const NOTES: &[u8] = b"refs/notes/ai";

/// Files that Git leaves messages in.
const MESSAGES: [&[u8]; 3] = [b"COMMIT_EDITMSG", b"MERGE_MSG", b"SQUASH_MSG"];

/// The most bytes of a commit that are read.
const MOST_COMMIT: u64 = 64 << 10;

/// Trailers that name who took part.
const TRAILERS: [&str; 3] = ["Assisted-by", "Co-authored-by", "Generated-by"];

/// What addresses of assistants contain, and the assistant. People have the names of assistants too, so only an address
/// tells.
const ADDRESSES: [(&str, &str); 10] = [
    ("noreply@anthropic.com", "Claude"),
    ("@aider.chat", "Aider"),
    ("cursoragent@cursor.com", "Cursor"),
    ("copilot@users.noreply.github.com", "GitHub Copilot"),
    ("copilot@github.com", "GitHub Copilot"),
    ("devin-ai-integration[bot]@", "Devin"),
    ("google-labs-jules[bot]@", "Jules"),
    ("gemini-code-assist[bot]@", "Gemini"),
    ("noreply@openai.com", "Codex"),
    ("amp@ampcode.com", "Amp"),
];

/// Names of assistants and models, as `Assisted-by:` has them without an address.
const NAMES: [&str; 12] =
    ["claude", "chatgpt", "copilot", "cursor", "gemini", "aider", "codex", "devin", "windsurf", "gpt", "qwen", "llama"];

/// What the file at `path` is to a Git repository.
pub(super) fn at(path: &[u8], name: &[u8]) -> Option<AiFile> {
    let in_repository = || path.split(|&byte| byte == b'/').any(|part| part.ends_with(b".git"));
    match name {
        b"ai" if path.ends_with(NOTES) && in_repository() => Some(AiFile::NotesReference),
        b"packed-refs" if in_repository() => Some(AiFile::PackedReferences),
        name if MESSAGES.contains(&name) && in_repository() => Some(AiFile::CommitMessage),
        name if is_object(path, name) && in_repository() => Some(AiFile::LooseObject),
        _ => None,
    }
}

/// Whether the path ends in `objects/xx/…`, all hexadecimal digits.
fn is_object(path: &[u8], name: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(u8::is_ascii_hexdigit);
    let above = &path[..path.len() - name.len()];
    let directory = above.strip_suffix(b"/").and_then(|above| above.len().checked_sub(2).map(|at| above.split_at(at)));
    matches!(name.len(), 38 | 62)
        && is_hex(name)
        && directory.is_some_and(|(above, two)| is_hex(two) && above.ends_with(b"objects/"))
}

pub(super) fn notes_reference(bytes: &[u8]) -> Option<AiRecord> {
    let commit = bytes.trim_ascii();
    let is_id = matches!(commit.len(), 40 | 64) && commit.iter().all(u8::is_ascii_hexdigit);
    is_id.then(|| notes(commit))
}

pub(super) fn packed_references(bytes: &[u8]) -> Option<AiRecord> {
    lines(bytes).find_map(|line| {
        let (commit, name) = line.split_at_checked(line.iter().position(|&byte| byte == b' ')?)?;
        (name.trim_ascii() == NOTES).then(|| notes_reference(commit))?
    })
}

fn notes(commit: &[u8]) -> AiRecord {
    let detail = format!("notes of git-ai about who wrote which lines, at {}", text(commit));
    record(AiMarkKind::GitNotes, Some("git-ai"), &detail)
}

/// The first trailer of a message that names an AI.
pub(super) fn message(bytes: &[u8]) -> Option<AiRecord> {
    lines(bytes).find_map(|line| {
        let (trailer, who) = TRAILERS.iter().find_map(|name| Some((name, value(line, name)?)))?;
        let who = text(who);
        let name = assistant(&who, *trailer != "Co-authored-by")?;
        Some(record(AiMarkKind::Trailer, Some(name), &format!("a commit message says {trailer}: {who}")))
    })
}

/// The assistant that a trailer names.
fn assistant(who: &str, is_by_name: bool) -> Option<&'static str> {
    let lower = who.to_lowercase();
    if lower.contains('@') || !is_by_name {
        return ADDRESSES.iter().find(|(address, _)| lower.contains(address)).map(|(_, name)| *name);
    }
    let mut words = lower.split(|one: char| !one.is_ascii_alphanumeric());
    words.find_map(|word| NAMES.iter().find(|name| word == **name).copied())
}

/// A commit that is in no pack: zlib over `commit SIZE`, a zero byte and the commit.
pub(super) fn loose_object(bytes: &[u8]) -> Option<AiRecord> {
    let mut decoder = flate2::read::ZlibDecoder::new(bytes);
    let mut head = [0; 7];
    decoder.read_exact(&mut head).ok()?;
    if &head != b"commit " {
        return None;
    }
    let mut commit = Vec::new();
    // What comes before damage is read.
    let _ = decoder.take(MOST_COMMIT).read_to_end(&mut commit);
    let headers = memchr::memmem::find(&commit, b"\n\n")?;
    message(commit.get(headers..)?)
}
