//! Failing closed and open: what cannot be checked. A panic is in the tests of `src/cli/hook/guard.rs`.

use serde_json::{Value, json};

use crate::{error_of, hook, run_in, token};

fn prompt(text: &str) -> Value {
    json!({ "session_id": "1", "transcript_path": "/h/.claude/1", "hook_event_name": "UserPromptSubmit", "prompt": text })
}

/// Runs the hook closed and open, and expects that the reason has `reason`.
fn cannot_be_checked(arguments: &[&str], input: &[u8], reason: &str) {
    let directory = tempfile::tempdir().unwrap();
    for (mode, status) in [("closed", 2), ("open", 0)] {
        let output = run_in(directory.path(), &[&["hook", "--fail", mode], arguments].concat(), input);
        assert_eq!(output.status.code(), Some(status), "{mode}: {}", error_of(&output));
        assert!(error_of(&output).contains(reason), "{mode}: {}", error_of(&output));
        assert!(output.stdout.is_empty(), "{mode}");
        assert!(!error_of(&output).contains("hunter2"));
    }
}

#[test]
fn inputs_that_are_not_understood() {
    cannot_be_checked(&[], b"", "not JSON");
    cannot_be_checked(&[], b"hunter2", "not JSON");
    cannot_be_checked(&[], b"{\"prompt\":\"hunter2\"}", "no assistant");
    cannot_be_checked(&[], b"{\"session_id\":\"1\",\"hook_event_name\":\"UserPromptSubmit\"}", "no `prompt`");
    cannot_be_checked(&[], "[".repeat(200_000).as_bytes(), "not JSON");
}

#[test]
fn an_input_that_is_too_large() {
    let large = prompt(&"a".repeat(17 << 20)).to_string();
    cannot_be_checked(&[], large.as_bytes(), "larger than 16");
    let many = format!("[{}0]", "0,".repeat(500_000));
    cannot_be_checked(&[], many.as_bytes(), "more than 500000 values");
    let inside = json!({
        "session_id": "1", "transcript_path": "/h/.claude/1", "hook_event_name": "PreToolUse",
        "tool_name": "Bash", "tool_input": { "hunter2": many },
    });
    let denied = crate::answer(&inside)["hookSpecificOutput"]["permissionDecisionReason"].to_string();
    assert!(denied.contains("JSON with too many values"), "{denied}");
}

#[test]
fn settings_that_cannot_be_used() {
    let input = prompt("hello").to_string();
    cannot_be_checked(&["--policy", "missing.toml"], input.as_bytes(), "missing.toml");
    cannot_be_checked(&["--rules", "missing"], input.as_bytes(), "missing");
    let output = hook(&["--fail-on", "sometimes"], &prompt("hello"));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_event_that_takes_too_long() {
    use std::process::{Command, Stdio};
    for (mode, status) in [("closed", 2), ("open", 0)] {
        let child = Command::new(env!("CARGO_BIN_EXE_layersift"))
            .args(["hook", "--timeout", "1s", "--fail", mode])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Nothing is ever written to its standard input, which stays open.
        let mut child = child;
        let input = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        drop(input);
        assert_eq!(output.status.code(), Some(status));
        assert!(error_of(&output).contains("longer than 1 s"), "{}", error_of(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_policy_decides_what_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let policy = directory.path().join("policy.toml");
    let input = prompt(&format!("x {}", token())).to_string();
    let blocks = |arguments: &[&str]| {
        let output = run_in(directory.path(), &[&["hook"], arguments].concat(), input.as_bytes());
        assert_eq!(output.status.code(), Some(0), "{}", error_of(&output));
        String::from_utf8_lossy(&output.stdout).contains("block")
    };
    assert!(blocks(&[]));
    assert!(!blocks(&["--fail-on", "none"]));
    let allow = "[[allow]]\nrule = \"gitlab.personal-access-token\"\nreason = \"a test\"\nexpires = 2099-01-01\n";
    std::fs::write(&policy, allow).unwrap();
    assert!(!blocks(&["--policy", "policy.toml"]));
    std::fs::write(&policy, allow.replace("2099", "2020")).unwrap();
    assert!(blocks(&["--policy", "policy.toml"]));
}

#[test]
fn rules_of_a_file_are_used() {
    let directory = tempfile::tempdir().unwrap();
    let rules = "[[signature]]\nid = \"acme.codename\"\ntitle = \"Codename\"\nseverity = \"high\"\nscope = [\"prompt\"]\n\
        pattern = '\\bproject-heron\\b'\nkeywords = [\"project-heron\"]\nwhat = \"w\"\nrisk = \"r\"\nfix = \"f\"\n";
    std::fs::write(directory.path().join("rules.toml"), rules).unwrap();
    let output = run_in(
        directory.path(),
        &["hook", "--rules", "rules.toml"],
        prompt("about project-heron").to_string().as_bytes(),
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("acme.codename"), "{}", error_of(&output));
}

#[cfg(unix)]
#[test]
fn a_block_that_nobody_can_read_is_said_on_standard_error() {
    use std::process::{Command, Stdio};
    let directory = tempfile::tempdir().unwrap();
    let run = |text: &str, shell: &str| {
        let file = directory.path().join("event.json");
        std::fs::write(&file, prompt(text).to_string()).unwrap();
        Command::new("sh")
            .args(["-c", shell])
            .env("P", env!("CARGO_BIN_EXE_layersift"))
            .stdin(std::fs::File::open(file).unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap()
    };
    // The reader of the pipe has gone when the answer comes.
    let pipe = "(sleep 1; \"$P\" hook; echo $? >&2) <&0 | exec true; sleep 2";
    for shell in ["exec \"$P\" hook 1>&-", "exec \"$P\" hook >/dev/null"] {
        let output = run(&token(), shell);
        assert_eq!(output.status.code(), Some(2), "{shell}");
        assert!(error_of(&output).contains("gitlab.personal-access-token"), "{shell}: {}", error_of(&output));
        assert_eq!(run("hello", shell).status.code(), Some(0), "{shell}");
    }
    let output = run(&token(), pipe);
    assert!(error_of(&output).contains("gitlab.personal-access-token"), "{}", error_of(&output));
    assert!(error_of(&output).ends_with("2\n"), "{}", error_of(&output));
}
