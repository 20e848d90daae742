//! `layersift audit`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use layersift_audit::{AuditLog, Entry, Kind, Options, Verdict};

use crate::support::{layersift, layersift_with_input, text};

fn entry(number: u64) -> Entry {
    let verdict = Verdict { outcome: "fail".into(), effect: "denied".into(), reasons: vec!["aws.access-key".into()] };
    Entry {
        time: 1_800_000_000_000 + number,
        kind: Kind::Admission,
        who: format!("client\u{1b}[31m{number}"),
        what: BTreeMap::from([("image".into(), "registry.example.org/team/app:v1".into())]),
        policy: "sha256:5f0c".into(),
        ruleset: "2026-11-29".into(),
        verdict,
        cut: false,
    }
}

fn written(directory: &Path) {
    let log = AuditLog::open(directory, &Options::new("audit.example.org/replica-1")).unwrap().log;
    for number in 0..10 {
        log.append(&entry(number)).unwrap();
        if number == 5 {
            log.checkpoint().unwrap();
        }
    }
    log.close().unwrap();
}

#[test]
fn a_log_is_verified_and_the_first_changed_entry_named() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("audit");
    written(&directory);
    let verify = ["audit", "verify", text(&directory)];
    let good = layersift(&verify).expect(0);
    assert!(good.stdout.contains("is what was written: 10 entries, "), "{}", good.stdout);
    assert!(good.stdout.contains("the key beside the log") && good.stdout.contains("cannot be seen"));
    let (key, anchor) = (folder.path().join("key.pub"), folder.path().join("anchor"));
    fs::copy(directory.join("key.pub"), &key).unwrap();
    fs::copy(directory.join("checkpoint"), &anchor).unwrap();
    let with = [&verify[..], &["--key", text(&key), "--checkpoint", text(&anchor)]].concat();
    assert!(!layersift(&with).expect(0).stdout.contains("note:"));
    let from_input = [&verify[..], &["--checkpoint", "-"]].concat();
    layersift_with_input(&from_input, fs::read(&anchor).unwrap()).expect(0);
    layersift_with_input(&from_input, b"not a checkpoint".to_vec()).expect(2);

    let entries = directory.join("entries-00000000000000000000.jsonl");
    let text_before = fs::read_to_string(&entries).unwrap();
    let mut lines: Vec<String> = text_before.lines().map(String::from).collect();
    lines[7] = lines[7].replace("denied", "passed");
    fs::write(&entries, lines.join("\n") + "\n").unwrap();
    let bad = layersift(&with).expect(1);
    assert!(bad.stdout.contains("changed: entry 7 was altered"), "{}", bad.stdout);
    assert!(bad.stdout.contains("Entries before 7 can be relied on"), "{}", bad.stdout);
}

#[test]
fn a_cut_tail_is_found_with_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (directory, anchor) = (folder.path().join("audit"), folder.path().join("anchor"));
    written(&directory);
    fs::rename(directory.join("checkpoint"), &anchor).unwrap();
    // As it was at the checkpoint of six entries, the second one.
    let cut = |name: &str, from: usize, to: usize| {
        let text = fs::read_to_string(directory.join(name)).unwrap();
        text.split_inclusive('\n').skip(from).take(to - from).collect::<String>()
    };
    let latest = cut("checkpoints", 5, 10);
    let (checkpoints, entries) = (cut("checkpoints", 0, 10), cut("entries-00000000000000000000.jsonl", 0, 6));
    fs::write(directory.join("checkpoint"), latest).unwrap();
    fs::write(directory.join("checkpoints"), checkpoints).unwrap();
    fs::write(directory.join("entries-00000000000000000000.jsonl"), entries).unwrap();
    let leaves = directory.join("leaves-00000000000000000000");
    let hashes = fs::read(&leaves).unwrap();
    fs::write(&leaves, &hashes[..6 * 32]).unwrap();
    let without = layersift(&["audit", "verify", text(&directory)]).expect(0);
    assert!(without.stdout.contains("cannot be seen without one"), "{}", without.stdout);
    let with = layersift(&["audit", "verify", text(&directory), "--checkpoint", text(&anchor)]).expect(1);
    assert!(with.stdout.contains("entry 6 and all after it are missing"), "{}", with.stdout);
}

#[test]
fn the_last_entries_are_shown_without_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path());
    let shown = layersift(&["audit", "show", text(folder.path()), "--limit", "2"]).expect(0).stdout;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].starts_with("       9  2027-01-15T08:00:00.009Z  admission fail denied client"), "{shown}");
    assert!(lines[1].ends_with("image=registry.example.org/team/app:v1 aws.access-key") && !shown.contains('\u{1b}'));
    for command in ["verify", "show"] {
        let nothing = layersift(&["audit", command, text(&folder.path().join("nothing"))]).expect(2);
        assert!(nothing.stderr.contains("there is no audit log in"), "{}", nothing.stderr);
    }
}
