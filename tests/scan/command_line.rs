//! Flags and variables of the command line: stores, timeouts, log levels, errors.

use std::process::Stdio;

use crate::support::{finish, layersift, program, testdata, text};
use serde_json::Value;

fn incident() -> String {
    text(&testdata("incident.tar")).to_string()
}

#[test]
fn the_variable_names_a_store_wherever_there_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.db");
    let run = |arguments: &[&str]| finish(program().args(arguments).env("LAYERSIFT_STORE", &store), None);
    let scanned = run(&["scan", "--format", "json", &incident()]).expect(1).json();
    let layer = scanned["layers"][0]["digest"].as_str().unwrap().to_string();
    let traced = run(&["trace", "--format", "json", &layer]).expect(0).json();
    assert_eq!(traced["images"][0]["manifest_digest"], scanned["image"]["manifest_digest"]);
    // The store has the layers now, and the result is the same.
    let again = run(&["scan", "--format", "json", &incident()]).expect(1).json();
    assert_eq!(again["findings"], scanned["findings"]);
}

#[test]
fn secrets_are_not_shown_of_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.db");
    let said = finish(program().args(["scan", "--show-secrets", &incident()]).env("LAYERSIFT_STORE", &store), None);
    assert!(said.expect(2).stderr.contains("--show-secrets cannot be used with a store"));
    layersift(&["scan", "--show-secrets", "--store", text(&store), &incident()]).expect(2);
    assert!(!store.exists());
    let empty = finish(program().args(["scan", "--show-secrets", &incident()]).env("LAYERSIFT_STORE", ""), None);
    empty.expect(1);
}

#[test]
fn a_timeout_is_longer_than_nothing() {
    for wrong in ["0s", "x", "5"] {
        let run = layersift(&["scan", "--timeout", wrong, &incident()]).expect(2);
        assert!(run.stderr.contains("--timeout"), "{}", run.stderr);
    }
    layersift(&["scan", "--timeout", "1d", &incident()]).expect(1);
}

#[test]
fn a_trace_lists_at_least_one_image() {
    let run = layersift(&["trace", "--limit", "0", "app/settings"]).expect(2);
    assert!(run.stderr.contains("--limit"), "{}", run.stderr);
}

#[test]
fn a_token_that_is_traced_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let store = text(&folder.path().join("store.db")).to_string();
    layersift(&["scan", "-q", "--store", &store, &incident()]).expect(1);
    let token = ["glpat-", "Zk7Qm2Xr9Tb4Wn6Ve001"].concat();
    for format in ["text", "json", "dot"] {
        let run = layersift(&["trace", &token, "--store", &store, "--format", format]).expect(1);
        assert!(run.stdout.contains("glpa****01") && !run.stdout.contains(&token), "{}", run.stdout);
        let run = layersift(&["trace", "no/such/file", "--store", &store, "--format", format]).expect(1);
        assert!(run.stdout.contains("no/such/file"), "{}", run.stdout);
    }
}

#[test]
fn log_messages_are_json_and_only_ours() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    std::fs::write(&list, "127.0.0.1:1/team/app:v1\n").unwrap();
    let store = folder.path().join("store.db");
    let sweep = ["sweep", "list", text(&list), "--store", text(&store), "--plain-http", "--anonymous", "--pulls=0"];
    let quiet = layersift(&sweep).expect(3);
    assert_eq!(quiet.stderr, "");
    let watched = layersift(&[&sweep[..], &["-v"]].concat()).expect(3);
    let lines: Vec<Value> = watched.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(messages.first(), Some(&"sweep started"), "{lines:?}");
    assert_eq!(messages.last(), Some(&"sweep ended"), "{lines:?}");
    assert!(lines.iter().all(|line| line["target"].as_str().unwrap().starts_with("layersift")), "{lines:?}");

    let with = |value: &str| finish(program().args(sweep).env("LAYERSIFT_LOG", value), None);
    assert!(with("layersift_fleet=info,error").expect(3).stderr.contains("not scanned"));
    assert!(with("loud").expect(2).stderr.contains("invalid LAYERSIFT_LOG: "));
}

#[test]
fn a_timeout_without_a_report_is_incomplete() {
    let mut command = program();
    command.args(["scan", "--timeout=1s", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // Standard input stays open, and nothing is written to it.
    let mut child = command.spawn().unwrap();
    let silent = child.stdin.take();
    let ended = child.wait_with_output().unwrap();
    drop(silent);
    let error = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(3), "{error}");
    assert!(error.contains("deadline exceeded"), "{error}");
}

#[test]
fn an_error_says_each_cause_once() {
    let run = layersift(&["scan", "--policy", "no-such-policy.toml", &incident()]).expect(2);
    assert_eq!(run.stderr.matches("No such file").count(), 1, "{}", run.stderr);
    assert_eq!(run.stderr.matches("no-such-policy.toml").count(), 1, "{}", run.stderr);
}

#[test]
fn man_pages_and_completions_name_every_command() {
    let folder = tempfile::tempdir().unwrap();
    layersift(&["man", text(folder.path())]).expect(0);
    let completions = layersift(&["completions", "bash"]).expect(0).stdout;
    for command in ["scan", "render", "layers", "sweep", "worker", "trace", "audit", "rules"] {
        assert!(folder.path().join(format!("layersift-{command}.1")).exists(), "{command}");
        assert!(completions.contains(&format!("layersift__subcmd__{command}")), "{command}");
    }
}

#[test]
fn no_message_has_a_login_or_steers_a_terminal() {
    let secret = "made-up-word-7341";
    let urls = [format!("https://u:{secret}@127.0.0.1:1/x"), format!("u:{secret}@127.0.0.1:1/x")];
    let policy = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(policy.path(), format!("fail-on = '{secret}'\n")).unwrap();
    for url in &urls {
        for arguments in [
            vec!["scan", url],
            vec!["diff", url, url],
            vec!["verify-gone", url],
            vec!["verify", url, "--key", "/dev/null"],
            vec!["scan", &incident(), "--base", url],
            vec!["scan", &incident(), "--policy", url],
            vec!["scan", &incident(), "--store", url],
            vec!["scrub", &incident(), "--path", "x", "-o", url],
            vec!["serve", "--merge-adapter", url, "--check"],
            vec!["scan", &incident(), "--policy", text(policy.path())],
        ] {
            let run = layersift(&arguments).expect(2);
            assert!(!run.stderr.contains("7341"), "{arguments:?}: {}", run.stderr);
        }
    }
    let invisible = ["a\u{200b}b", "a\u{feff}\u{2060}b", "a\u{e0041}b"];
    let steering = ["\u{1b}]0;t\u{7}", "\u{1b}[2J", "\u{9b}31m", "\u{202e}", "x\u{2028}y", "x\nlayersift: forged"];
    for hostile in steering.iter().chain(&invisible).copied() {
        for arguments in [vec!["scan", hostile], vec!["scan", "x", "--format", hostile]] {
            let said = layersift(&arguments).expect(2).stderr;
            let is_plain =
                |c: char| c == '\n' || !(layersift_model::changes_display(c) || layersift_model::is_invisible(c));
            assert!(said.chars().all(is_plain), "{arguments:?}: {said:?}");
            assert!(arguments.len() > 2 || said.trim_end().lines().count() == 1, "{arguments:?}: {said:?}");
        }
    }
}
