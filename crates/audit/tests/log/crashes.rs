//! What a crash leaves is repaired, unless a checkpoint says that it was there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use layersift_audit::{AuditError, AuditLog, Entry, Kind, Recovery, Verdict};

use crate::{copied, entry, opened, options, verified};

const ENTRIES: &str = "entries-00000000000000000000.jsonl";
const LEAVES: &str = "leaves-00000000000000000000";

/// A log as a crash leaves it: five entries under a checkpoint, and three after it.
fn crashed(directory: &Path) {
    let original = tempfile::tempdir().unwrap();
    let log = opened(original.path(), 100);
    for number in 0..8 {
        log.append(&short(number)).unwrap();
        if number == 4 {
            log.checkpoint().unwrap();
        }
    }
    copied(original.path(), directory);
}

/// Few bytes, because each is cut at.
fn short(number: u64) -> Entry {
    let (who, policy, ruleset) = (String::new(), String::new(), String::new());
    let (what, verdict) = (BTreeMap::new(), Verdict::default());
    Entry { time: number, kind: Kind::Harbor, who, what, policy, ruleset, verdict, cut: false }
}

fn reopened(directory: &Path) -> Result<Recovery, AuditError> {
    let opened = AuditLog::open(directory, &options(100))?;
    let entries = opened.recovery.entries;
    assert_eq!(opened.log.append(&entry(1000)).unwrap(), entries);
    opened.log.close().unwrap();
    let found = verified(directory);
    assert!(found.is_good(), "{found:?}");
    assert_eq!(found.size, entries + 1);
    Ok(opened.recovery)
}

fn cut(path: &Path, length: usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..length]).unwrap();
}

#[test]
fn a_cut_at_every_byte_of_what_was_written_last_is_repaired_or_refused() {
    let (folder, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    crashed(folder.path());
    let bytes = fs::read(folder.path().join(ENTRIES)).unwrap();
    let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').map(|at| at + 1).collect();
    for length in ends[3]..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= length).count();
        // No line has a hash before it is on disk.
        let is_edge = ends.iter().any(|end| end.abs_diff(length) <= 1);
        for hashes in if is_edge { 5..=8 } else { 5..=5 } {
            let directory = work.path().join(format!("{length}-{hashes}"));
            copied(folder.path(), &directory);
            cut(&directory.join(ENTRIES), length);
            cut(&directory.join(LEAVES), hashes * 32);
            let outcome = reopened(&directory);
            // So an entry is missing, as it is if a checkpoint covers it.
            if whole < hashes {
                let error = outcome.unwrap_err().to_string();
                assert!(error.contains(&format!("entry {whole} ")), "{error}");
            } else {
                let recovery = outcome.unwrap();
                assert_eq!(recovery.entries, whole as u64, "{length}");
                assert_eq!(recovery.torn_bytes, (length - ends[whole - 1]) as u64);
                assert_eq!(recovery.hashed, (whole - hashes) as u64);
            }
            fs::remove_dir_all(directory).unwrap();
        }
    }
}

#[test]
fn a_cut_at_every_byte_of_the_other_files_is_repaired_or_refused() {
    let (folder, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    crashed(folder.path());
    let directory = work.path().join("log");
    for length in 0..=8 * 32 {
        copied(folder.path(), &directory);
        cut(&directory.join(LEAVES), length);
        // The hashes under a checkpoint were on disk before it.
        assert_eq!(reopened(&directory).is_ok(), length >= 5 * 32, "{length}");
        fs::remove_dir_all(&directory).unwrap();
    }
    let checkpoints = fs::read(folder.path().join("checkpoints")).unwrap();
    for length in 0..checkpoints.len() {
        copied(folder.path(), &directory);
        cut(&directory.join("checkpoints"), length);
        assert!(matches!(reopened(&directory), Err(AuditError::Changed { .. })), "{length}");
        // Written to one file, and not yet to the other.
        let first = checkpoints.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(4).unwrap().0 + 1;
        if length >= first {
            fs::write(directory.join("checkpoint"), &checkpoints[..first]).unwrap();
            let recovery = reopened(&directory).unwrap();
            assert_eq!((recovery.torn_checkpoint, recovery.entries), (length > first, 8), "{length}");
        }
        fs::remove_dir_all(&directory).unwrap();
    }
}

#[test]
fn holes_that_a_file_system_leaves_are_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    crashed(folder.path());
    let path = folder.path().join(ENTRIES);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes.extend([0; 4096]);
    bytes.extend(b"\"}\n{\"time\":1}\n");
    fs::write(&path, &bytes).unwrap();
    let leaves = folder.path().join(LEAVES);
    let mut hashes = fs::read(&leaves).unwrap();
    hashes[7 * 32..].fill(0);
    fs::write(&leaves, hashes).unwrap();
    let recovery = reopened(folder.path()).unwrap();
    assert_eq!((recovery.entries, recovery.hashed), (8, 1));
    assert_eq!(recovery.torn_bytes, (bytes.len() - end) as u64);
}

#[test]
fn what_a_crash_left_is_not_passed_over_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    crashed(folder.path());
    assert!(verified(folder.path()).is_good());
    cut(&folder.path().join(LEAVES), 7 * 32);
    assert_eq!(verified(folder.path()).first_bad(), Some(7));
    let path = folder.path().join(ENTRIES);
    cut(&path, fs::read(&path).unwrap().len() - 1);
    assert_eq!(verified(folder.path()).first_bad(), Some(7));
    assert_eq!(reopened(folder.path()).unwrap().entries, 7);
}

#[test]
fn a_crash_before_the_first_entry_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path(), 10);
    let copy = folder.path().join("copy");
    copied_without(folder.path(), &copy, &["checkpoint", "checkpoints", "copy", "leaves-00000000000000000000"]);
    drop(log);
    assert!(AuditLog::open(&copy, &options(10)).unwrap().recovery.is_new);
    assert!(!AuditLog::open(&copy, &options(10)).unwrap().recovery.is_new);
}

#[test]
fn a_log_that_is_emptied_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    crashed(folder.path());
    for name in [ENTRIES, LEAVES, "checkpoint"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    assert!(matches!(AuditLog::open(folder.path(), &options(10)), Err(AuditError::Changed { .. })));
}

#[test]
fn nothing_is_taken_over_into_a_log_that_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    crate::written(folder.path(), 5, 100, 5);
    let path = folder.path().join(ENTRIES);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str(&serde_json::to_string(&short(5)).unwrap());
    text.push('\n');
    fs::write(&path, text).unwrap();
    let error = AuditLog::open(folder.path(), &options(100)).err().unwrap().to_string();
    assert!(error.contains("entry 5 is not in the file of leaves"), "{error}");
}

fn copied_without(from: &Path, to: &Path, without: &[&str]) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if !without.contains(&file.file_name().to_str().unwrap()) {
            fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
}
