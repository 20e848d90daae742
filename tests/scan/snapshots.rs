//! What a person and a program see, word for word: reports of the incident, and the help of every command.
//!
//! `INSTA_UPDATE=always cargo test --test scan snapshots` writes `tests/scan/snapshots/*.snap` anew; `git diff` then
//! shows what changed for the reader.

use crate::support::{finish, layersift, program, testdata};

/// Runs the program where `incident.tar` is, so that the report names no directory of this machine.
fn beside_the_image(arguments: &[&str], colours: bool) -> String {
    let mut command = program();
    command.args(arguments).current_dir(testdata("."));
    if colours {
        command.env("CLICOLOR_FORCE", "1");
    }
    let run = finish(&mut command, None);
    assert!(run.stderr.is_empty(), "{}", run.stderr);
    run.stdout
}

/// `text` with the digest of the rules taken out, which every change of a signature changes.
fn without_ruleset(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    for line in lines.iter_mut().filter(|line| line.trim_start().starts_with("\"ruleset\": \"sha256:")) {
        *line = line.split("sha256:").next().unwrap().to_string() + "…\",";
    }
    lines.join("\n")
}

#[test]
fn scan_text() {
    let plain = beside_the_image(&["scan", "--reproducible", "incident.tar"], false);
    assert!(!plain.contains('\x1b'), "a pipe gets no colours");
    insta::assert_snapshot!(plain);
}

#[test]
fn scan_text_on_a_narrow_terminal() {
    let mut command = program();
    command.args(["scan", "--reproducible", "--show", "info", "incident.tar"]);
    let run = finish(command.current_dir(testdata(".")).env("COLUMNS", "60"), None);
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn scan_text_in_colour() {
    let coloured = beside_the_image(&["scan", "--reproducible", "incident.tar"], true);
    insta::assert_snapshot!(coloured.replace('\x1b', "ESC"));
}

#[test]
fn scan_text_with_a_policy() {
    let arguments = ["scan", "--reproducible", "--policy", "policy/policy.toml", "incident.tar"];
    insta::assert_snapshot!(beside_the_image(&arguments, false));
}

#[test]
fn scan_json() {
    let json = beside_the_image(&["scan", "--reproducible", "--format", "json", "incident.tar"], false);
    insta::assert_snapshot!(without_ruleset(&json));
}

#[test]
fn layers_text() {
    insta::assert_snapshot!(beside_the_image(&["layers", "incident.tar"], false));
}

#[test]
fn layers_text_on_a_narrow_terminal() {
    let mut command = program();
    let run = finish(command.args(["layers", "incident.tar"]).current_dir(testdata(".")).env("COLUMNS", "60"), None);
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn layers_json() {
    insta::assert_snapshot!(beside_the_image(&["layers", "--format", "json", "incident.tar"], false));
}

#[test]
fn help() {
    for (name, arguments) in [
        ("help", &["--help"][..]),
        ("help_short", &["-h"]),
        ("help_scan", &["scan", "--help"]),
        ("help_layers", &["layers", "--help"]),
        ("help_completions", &["completions", "--help"]),
        ("help_man", &["man", "--help"]),
    ] {
        insta::assert_snapshot!(name, layersift(arguments).expect(0).stdout);
    }
}

#[test]
fn errors_of_use() {
    for (name, arguments) in [
        ("usage_no_command", &[][..]),
        ("usage_no_target", &["scan"]),
        ("usage_empty_target", &["scan", ""]),
        ("usage_severity", &["scan", "--fail-on", "grave", "incident.tar"]),
        ("usage_platform", &["scan", "--platform", "linux/", "incident.tar"]),
        ("usage_transport", &["scan", "docker://alpine:3"]),
        ("usage_no_file", &["scan", "no-such-image.tar"]),
    ] {
        let run = layersift(arguments).expect(2);
        assert_eq!(run.stdout, "", "{name}");
        insta::assert_snapshot!(name, run.stderr);
    }
}
