//! Settings, instructions and transcripts of assistants, by their paths.

use super::AiFile;

/// Names of files with instructions or settings.
const SETTINGS: [(&[u8], &str); 13] = [
    (b"CLAUDE.md", "Claude"),
    (b"CLAUDE.local.md", "Claude"),
    (b"AGENTS.md", "any assistant"),
    (b"GEMINI.md", "Gemini"),
    (b"copilot-instructions.md", "GitHub Copilot"),
    (b".cursorrules", "Cursor"),
    (b".cursorignore", "Cursor"),
    (b".windsurfrules", "Windsurf"),
    (b".clinerules", "Cline"),
    (b".roomodes", "Roo Code"),
    (b".aiderignore", "Aider"),
    (b".aider.conf.yml", "Aider"),
    (b".aider.model.settings.yml", "Aider"),
];

/// Names of files with conversations.
const TRANSCRIPTS: [(&[u8], &str); 3] =
    [(b".aider.chat.history.md", "Aider"), (b".aider.input.history", "Aider"), (b".aider.llm.history", "Aider")];

/// Directories with settings.
const SETTINGS_DIRECTORIES: [(&[u8], &str); 6] = [
    (b".claude", "Claude"),
    (b".cursor", "Cursor"),
    (b".gemini", "Gemini"),
    (b".codex", "Codex"),
    (b".windsurf", "Windsurf"),
    (b".continue", "Continue"),
];

/// Directories with conversations, each below another.
const TRANSCRIPT_DIRECTORIES: [(&[u8], &[u8], &str); 4] = [
    (b".claude", b"projects", "Claude"),
    (b".codex", b"sessions", "Codex"),
    (b".specstory", b"history", "SpecStory"),
    (b".continue", b"sessions", "Continue"),
];

/// What the file at `path` is to an assistant.
pub(super) fn at(path: &[u8], name: &[u8]) -> Option<AiFile> {
    let named = |list: &[(&[u8], &'static str)]| list.iter().find(|(known, _)| *known == name).map(|(_, who)| *who);
    if let Some(who) = named(&TRANSCRIPTS) {
        return Some(AiFile::Transcript(who));
    }
    if let Some(who) = named(&SETTINGS) {
        return Some(AiFile::Settings(who));
    }
    // Most paths have no directory that begins with a point.
    memchr::memmem::find(path, b"/.").or_else(|| path.starts_with(b".").then_some(0))?;
    let directories: Vec<&[u8]> = path[..path.len() - name.len()].split(|&byte| byte == b'/').collect();
    let transcripts = TRANSCRIPT_DIRECTORIES.iter().find(|(above, below, _)| {
        directories.windows(2).any(|pair| pair.first() == Some(above) && pair.last() == Some(below))
    });
    if let Some((_, _, who)) = transcripts {
        return Some(AiFile::Transcript(who));
    }
    let settings = SETTINGS_DIRECTORIES.iter().find(|(known, _)| directories.contains(known));
    settings.map(|(_, who)| AiFile::Settings(who))
}
