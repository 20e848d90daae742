//! Our entries in settings of all forms: what is not ours stays, byte for byte.

use serde_json::{Value, json};

use super::*;

fn entries() -> Entries {
    let entry = |command: &str| json!({ "hooks": [{ "type": "command", "command": command }] });
    Entries {
        version: false,
        entries: vec![
            ("UserPromptSubmit", entry("layersift hook || exit 2")),
            ("PreToolUse", entry("layersift hook || exit 2")),
        ],
    }
}

const THEIRS: &str = r#"{
    "zeta": 1,
    "permissions": { "allow": ["Bash(ls)"] , "deny":[] },
    "hooks": {
        "PreToolUse": [
            {
                "matcher": "Bash",
                "hooks": [ {"type": "command", "command": "./mine layersift hook"} ]
            }
        ],
        "Stop": []
    },
    "alpha": "é\"}"
}
"#;

#[test]
fn an_empty_file_becomes_settings() {
    let text = with_hooks("", &entries()).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["hooks"]["PreToolUse"], json!([entries().entries[1].1]));
    assert_eq!(with_hooks(&text, &entries()).unwrap(), text);
    assert_eq!(without_hooks(&text).unwrap(), "{}\n");
    assert_eq!(without_hooks("").unwrap(), "");
}

#[test]
fn everything_else_stays_as_it_is() {
    let text = with_hooks(THEIRS, &entries()).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["hooks"]["PreToolUse"].as_array().unwrap().len(), 2);
    assert_eq!(document["hooks"]["UserPromptSubmit"].as_array().unwrap().len(), 1);
    for line in THEIRS.lines() {
        let kept = text.lines().any(|other| other.trim_end_matches(',') == line.trim_end_matches(','));
        assert!(kept, "{line} is not in\n{text}");
    }
    assert_eq!(with_hooks(&text, &entries()).unwrap(), text);
    assert_eq!(without_hooks(&text).unwrap(), THEIRS);
    assert!(text.contains("\n        \"UserPromptSubmit\": [\n            {\n"), "{text}");
}

#[test]
fn what_an_earlier_installation_added_is_replaced() {
    let text = with_hooks(THEIRS, &entries()).unwrap();
    let mut moved = entries();
    moved.entries.pop();
    moved.entries[0].1 = json!({ "hooks": [{ "type": "command", "command": "'/opt/my tools/layersift' hook" }] });
    let text = with_hooks(&text, &moved).unwrap();
    assert!(!text.contains("exit 2") && text.contains("/opt/my tools/layersift"), "{text}");
    assert_eq!(with_hooks(&text, &moved).unwrap(), text);
    assert_eq!(without_hooks(&text).unwrap(), THEIRS);
}

#[test]
fn a_group_with_a_hook_of_others_keeps_it() {
    let group = |hooks: &str| format!(r#"{{"hooks":{{"PreToolUse":[{{"hooks":[{hooks}]}}]}}}}"#);
    let text = group(r#"{"command":"a"},{"command":"/usr/bin/layersift hook"},{"command":"b"}"#);
    assert_eq!(without_hooks(&text).unwrap(), group(r#"{"command":"a"},{"command":"b"}"#));
}

#[test]
fn files_with_a_version_have_one() {
    let entries = Entries { version: true, entries: vec![("preToolUse", json!({ "command": "layersift hook" }))] };
    let text = with_hooks("{\"hooks\":{}}", &entries).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&document["version"], document["hooks"]["preToolUse"].as_array().unwrap().len()), (&json!(1), 1));
    let bare: Value = serde_json::from_str(&without_hooks(&text).unwrap()).unwrap();
    assert_eq!(bare, json!({ "version": 1, "hooks": {} }));
    assert!(with_hooks("{\"version\": 2}", &entries).is_err());
}

#[test]
fn what_cannot_be_understood_is_an_error() {
    for wrong in
        ["{", "[]", "// comment\n{}", r#"{"hooks": []}"#, r#"{"hooks": {"PreToolUse": {}}}"#, r#"{"a":1,"a":2}"#]
    {
        assert!(with_hooks(wrong, &entries()).is_err(), "{wrong}");
    }
}
