//! Marks of AI through the public face: what is one, what is none, and what damaged or hostile files give.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use layersift_model::{AiBasis, AiMarkKind, AiRecord, ImagePath};
use layersift_packages::AiFile;
use proptest::prelude::*;

/// What the file at `path` says, as the reader of a layer asks.
fn read(path: &str, bytes: &[u8]) -> Option<AiRecord> {
    let head = &bytes[..bytes.len().min(AiFile::HEAD)];
    let kind = AiFile::at(&ImagePath::normalize(path.as_bytes())).or_else(|| AiFile::of_head(head))?;
    kind.read(&bytes[..bytes.len().min(kind.most_bytes())])
}

/// Kind and name of what the file says.
fn mark(path: &str, bytes: impl AsRef<[u8]>) -> Option<(AiMarkKind, Option<String>)> {
    read(path, bytes.as_ref()).map(|record| (record.kind, record.name))
}

fn commit(message: &str) -> Vec<u8> {
    let body = format!("tree 1\nauthor A <a@example.org> 0 +0000\n\n{message}");
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    write!(encoder, "commit {}\0{body}", body.len()).unwrap();
    encoder.finish().unwrap()
}

fn gguf(entries: &[(&str, &str)]) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut file = [b"GGUF", &3_u32.to_le_bytes()[..], &0_u64.to_le_bytes()].concat();
    file.extend((entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        file.extend([string(key), 8_u32.to_le_bytes().into(), string(value)].concat());
    }
    file
}

#[test]
fn declarations_are_declared_and_the_rest_is_observed() {
    let found = read("app/AI-DECLARATION.md", b"---\nversion: \"0.1.2\"\nlevel: copilot\n---\n# AI\n").unwrap();
    assert_eq!((found.kind.basis(), &*found.detail), (AiBasis::Declared, "declares the level of AI: copilot"));
    let found = read("app/CLAUDE.md", b"# Build with make\n").unwrap();
    assert_eq!((found.kind.basis(), found.name.as_deref()), (AiBasis::Observed, Some("Claude")));
}

#[test]
fn assistants_leave_settings_and_transcripts() {
    for (path, kind, name) in [
        ("AGENTS.md", AiMarkKind::AssistantSettings, "any assistant"),
        ("app/.github/copilot-instructions.md", AiMarkKind::AssistantSettings, "GitHub Copilot"),
        ("app/.cursor/rules/style.mdc", AiMarkKind::AssistantSettings, "Cursor"),
        (".claude/settings.json", AiMarkKind::AssistantSettings, "Claude"),
        ("root/.claude/projects/-app/1.jsonl", AiMarkKind::AssistantTranscript, "Claude"),
        ("app/.aider.chat.history.md", AiMarkKind::AssistantTranscript, "Aider"),
    ] {
        assert_eq!(mark(path, ""), Some((kind, Some(name.into()))), "{path}");
    }
    for path in ["app/claude.md", "usr/share/claude/settings.json", "etc/cursor", "app/.cursory/a", "opt/projects/x"] {
        assert_eq!(mark(path, "text"), None, "{path}");
    }
}

#[test]
fn notes_of_git_ai_are_references_loose_or_packed() {
    let id = "0123456789abcdef0123456789abcdef01234567";
    let expected = Some((AiMarkKind::GitNotes, Some("git-ai".into())));
    assert_eq!(mark("app/.git/refs/notes/ai", format!("{id}\n")), expected);
    let packed = format!("# pack-refs with: peeled\n{id} refs/heads/main\n{id} refs/notes/ai\n");
    assert_eq!(mark("srv/app.git/packed-refs", &packed), expected);
    assert_eq!(mark("srv/app.git/packed-refs", format!("{id} refs/notes/aim\n")), None);
    assert_eq!(mark("app/.git/refs/notes/ai", "not an id"), None);
    assert_eq!(mark("app/refs/notes/ai", format!("{id}\n")), None);
}

#[test]
fn trailers_name_an_assistant_by_its_address() {
    let object = "app/.git/objects/ab/0123456789abcdef0123456789abcdef012345";
    let by_claude = "Add\n\nCo-Authored-By: Claude <noreply@anthropic.com>\n";
    let expected = Some((AiMarkKind::Trailer, Some("Claude".into())));
    assert_eq!(mark(object, commit(by_claude)), expected);
    assert_eq!(mark("app/.git/COMMIT_EDITMSG", by_claude), expected);
    let assisted = "Fix\n\nAssisted-by: GitHub-Copilot:gpt-4\n";
    assert_eq!(mark(object, commit(assisted)), Some((AiMarkKind::Trailer, Some("copilot".into()))));
    for person in [
        "Co-authored-by: Claude Monet <claude@example.org>",
        "Assisted-by: Claude Monet <claude@example.org>",
        "Co-authored-by: Claude",
        "Reviewed-by: Claude <noreply@anthropic.com>",
    ] {
        assert_eq!(mark(object, commit(&format!("Fix\n\n{person}\n"))), None, "{person}");
    }
    assert_eq!(mark(object, "neither zlib nor a commit"), None);
}

#[test]
fn a_record_of_agent_trace_says_which_files_an_ai_wrote() {
    let trace = |kind: &str| {
        format!(
            r#"{{"version":"0.1.0","id":"1","timestamp":"2026-01-23T14:30:00Z","tool":{{"name":"cursor"}},"files":[
            {{"path":"a.ts","conversations":
             [{{"contributor":{{"type":"{kind}","model_id":"some/model"}},"ranges":[]}}]}},
            {{"path":"b.ts","conversations":[{{"ranges":[{{"start_line":1,"contributor":{{"type":"human"}}}}]}}]}}]}}"#
        )
    };
    let lines = trace("ai").replace('\n', "");
    let expected = Some((AiMarkKind::AgentTrace, Some("cursor, some/model".into())));
    assert_eq!(mark("app/.agent-trace/t.json", trace("ai")), expected);
    assert_eq!(mark("app/.agent-trace/traces.jsonl", format!("{lines}\nnot JSON\n{lines}\n")), expected);
    assert_eq!(mark("app/.agent-trace/t.json", trace("human")), None);
    assert_eq!(mark("app/.agent-trace/t.json", r#"{"version":"9","files":[]}"#), None);
    assert_eq!(mark("app/.agent-trace/run.json", "[1, 2]"), None);
}

#[test]
fn lists_in_traces_are_counted_and_not_kept() {
    let conversations = |one: &str| format!(r#"{{"conversations":[{}]}}"#, vec![one; 200].join(","));
    let of = |kind: &str, model: usize| format!(r#"{{"contributor":{{"type":"{kind}","model_id":"m{model:03}"}}}}"#);
    let ranges = |number: usize| format!(r#"{{"ranges":[{},{}]}}"#, of("human", 900), of("ai", number));
    let files: Vec<String> = (0..50).map(|number| conversations(&ranges(number))).collect();
    let text = format!(
        r#"{{"files":[{},{}],"tool":{{"name":"{}"}},"version":"0.1.0"}}"#,
        files.join(","),
        conversations(&of("human", 901)),
        "z".repeat(100_000)
    );
    let found = read(".agent-trace/a.json", text.as_bytes()).unwrap();
    assert_eq!(found.detail, "Agent Trace says that an AI contributed to files: 50");
    // The first names, in their order.
    let names: Vec<String> = (0..10).map(|number| format!("m{number:03}")).collect();
    assert_eq!(found.name.unwrap(), names.join(", "));
}

#[test]
fn a_file_of_many_lines_that_are_no_traces_is_not_read_on() {
    let trace = r#"{"version":"0.1","files":[{"conversations":[{"contributor":{"type":"ai"}}]}]}"#;
    let behind = |line: &str, count: usize| mark(".agent-trace/a.jsonl", line.repeat(count) + trace + "\ncut");
    assert!(behind("0\n", 100).is_some() && behind("{\"version\":\"2\"}\n", 100).is_some());
    assert_eq!(behind("0\n", 101), None);
    // Empty lines are no lines of anything.
    assert!(behind("\n", 5_000).is_some() && behind(" \r\n", 5_000).is_some());
}

#[test]
fn heads_say_that_an_ai_generated_a_file() {
    for (head, name) in [
        ("#!/bin/sh\n# Generated by Claude Code\n", "Claude"),
        ("// This file was generated with GitHub Copilot.\n", "GitHub Copilot"),
        ("/*\n * Auto-generated by ChatGPT\n */\n", "ChatGPT"),
        ("\u{1f916} Generated with [Claude Code](https://example.org)\n", "Claude"),
        ("-- generated using GPT-4o\n", "GPT"),
        ("# Automatically generated by AI\n", "an AI"),
    ] {
        assert_eq!(mark("src/a", head), Some((AiMarkKind::GeneratedHeader, Some(name.into()))), "{head}");
    }
    for head in [
        "// Code generated by protoc-gen-go. DO NOT EDIT.\n",
        "# It tells files that were generated by ChatGPT\n",
        "# generated by aids\n",
        "# generated by cursors\n",
        "plain\n",
    ] {
        assert_eq!(mark("src/a", head), None, "{head}");
    }
    let late = "\n".repeat(AiFile::HEAD) + "# Generated by Claude\n";
    assert_eq!(mark("src/a", late), None);
}

#[test]
fn models_are_told_by_their_bytes() {
    let file = gguf(&[("general.architecture", "llama"), ("general.name", "Tiny 1B"), ("other", "x")]);
    let found = read("root/.ollama/models/blobs/sha256-00", &file).unwrap();
    assert_eq!((found.kind, found.name.as_deref()), (AiMarkKind::Model, Some("GGUF")));
    assert_eq!(found.detail, "a model in the form GGUF; architecture llama; name Tiny 1B");
    let safetensors = [&20_u64.to_le_bytes()[..], b"{\"__metadata__\":{}}"].concat();
    assert_eq!(mark("m/a.safetensors", &safetensors), Some((AiMarkKind::Model, Some("Safetensors".into()))));
    assert_eq!(mark("m/a.onnx", [0x08, 0x07, 0x12]), Some((AiMarkKind::Model, Some("ONNX".into()))));
    assert_eq!(mark("m/a.tflite", b"\x1c\0\0\0TFL3rest"), Some((AiMarkKind::Model, Some("TensorFlow Lite".into()))));
    for path in ["a.gguf", "a.safetensors", "a.onnx", "a.tflite"] {
        assert_eq!(mark(path, "only the name of one"), None, "{path}");
    }
}

#[test]
fn a_readme_is_a_card_if_its_front_matter_is_that_of_one() {
    let card = "---\nlicense: mit\nbase_model: some/base\nlibrary_name: transformers\n---\n# Model\n";
    assert_eq!(mark("m/README.md", card), Some((AiMarkKind::ModelCard, Some("some/base".into()))));
    assert_eq!(mark("m/README.md", "---\ntitle: a\n---\nbase_model: x\n"), None);
    assert_eq!(mark("m/README.md", "# a\nbase_model: x\n"), None);
}

#[test]
fn texts_of_a_mark_are_short_and_on_one_line() {
    let long = format!("---\nlevel: {}\u{1b}[31m\n---\n", "x".repeat(5_000));
    let found = read("AI-DECLARATION.md", long.as_bytes()).unwrap();
    assert!(found.detail.chars().count() <= 300 && !found.detail.contains('\u{1b}'));
}

proptest! {
    #[test]
    fn damage_never_stops_a_reader(
        which in 0..8_usize,
        change in any::<(prop::sample::Index, u8)>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let samples = [
            ("a.gguf", gguf(&[("general.name", "a"), ("b", "c")])),
            ("a.safetensors", [&20_u64.to_le_bytes()[..], b"{}"].concat()),
            (".git/objects/ab/0123456789abcdef0123456789abcdef012345", commit("a\n\nAssisted-by: claude\n")),
            (".git/packed-refs", b"0123456789abcdef0123456789abcdef01234567 refs/notes/ai\n".to_vec()),
            (".agent-trace/a.json", br#"{"version":"0.1","files":[{"conversations":[{}]}]}"#.to_vec()),
            ("README.md", b"---\nbase_model: a\n---\n".to_vec()),
            ("AI-DECLARATION.md", b"---\nlevel: a\n---\n".to_vec()),
            ("a.sh", b"# Generated by Claude\n".to_vec()),
        ];
        let (path, mut bytes) = samples.into_iter().nth(which).unwrap();
        let at = change.0.index(bytes.len());
        bytes[at] = change.1;
        bytes.truncate(cut.index(bytes.len()) + 1);
        prop_assert!(read(path, &bytes).is_none_or(|record| record.detail.chars().count() <= 300));
    }
}
