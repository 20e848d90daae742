//! Whatever is changed in the files of a log is found.

use std::fs;
use std::path::Path;

use layersift_audit::{AuditLog, Change, Note, Problem, leaf_hash};

use crate::{options, verified, with_anchor, written};

/// Changes files at random, one at a time, and counts what was not found.
struct Changes {
    random: fastrand::Rng,
    /// How often a change of each sort of file was made.
    made: [u64; 3],
}

impl Changes {
    fn run(&mut self, directory: &Path, count: u64) {
        let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()).collect();
        files.retain(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let has_bytes = fs::metadata(path).unwrap().len() > 0;
            has_bytes && ["entries-", "leaves-", "checkpoint"].iter().any(|begin| name.starts_with(begin))
        });
        files.sort();
        let mut made = 0;
        while made < count {
            let path = &files[self.random.usize(..files.len())];
            let before = fs::read(path).unwrap();
            let (change, after) = self.changed(path, &before);
            if after == before {
                continue;
            }
            fs::write(path, &after).unwrap();
            self.check(directory, path, &before, &after, &change);
            fs::write(path, &before).unwrap();
            made += 1;
        }
        assert!(verified(directory).is_good());
    }

    fn changed(&mut self, path: &Path, before: &[u8]) -> (String, Vec<u8>) {
        let mut bytes = before.to_vec();
        let at = self.random.usize(..bytes.len());
        let sort = self.random.u32(..6);
        let mut lines = pieces(path, before);
        let (one, two) = (self.random.usize(..lines.len()), self.random.usize(..lines.len()));
        match sort {
            0 => bytes[at] ^= self.random.u8(1..),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, self.random.u8(..)),
            3 => drop(lines.remove(one)),
            4 => lines.insert(two, lines[one]),
            _ => lines.swap(one, two),
        }
        let bytes = if sort < 3 { bytes } else { lines.concat() };
        (format!("{sort} of {} at byte {at} or lines {one} and {two}", path.display()), bytes)
    }

    fn check(&mut self, directory: &Path, path: &Path, before: &[u8], after: &[u8], change: &str) {
        let found = verified(directory);
        assert!(!found.is_good(), "not found: {change}");
        let name = path.file_name().unwrap().to_str().unwrap();
        if let Some(first) = name.strip_prefix("entries-") {
            self.made[0] += 1;
            let first: u64 = first.strip_suffix(".jsonl").unwrap().parse().unwrap();
            let same = pieces(path, before).iter().zip(pieces(path, after)).take_while(|(a, b)| **a == *b).count();
            assert_eq!(found.first_bad(), Some(first + same as u64), "{change}: {found:?}");
            assert!(AuditLog::open(directory, &options(1000)).is_err(), "opened: {change}");
        } else if name.starts_with("leaves-") {
            self.made[1] += 1;
            // A hash after the last one may be that of an entry that was removed.
            let (lines, size) = (found.size, found.covered);
            let is_hash = |problem: &Problem| match problem {
                Problem::Hash { .. } => true,
                Problem::Entry { index, is_certain, .. } => !is_certain && *index == size && lines == size,
                _ => false,
            };
            assert!(found.problems.len() == 1 && is_hash(&found.problems[0]), "{change}: {found:?}");
        } else {
            self.made[2] += 1;
            assert!(found.problems.iter().any(|it| matches!(it, Problem::Checkpoint { .. })), "{change}: {found:?}");
        }
    }
}

/// The lines of a file, or its hashes.
fn pieces<'b>(path: &Path, bytes: &'b [u8]) -> Vec<&'b [u8]> {
    if path.file_name().unwrap().to_str().unwrap().starts_with("leaves-") {
        bytes.chunks(32).collect()
    } else {
        bytes.split_inclusive(|byte| *byte == b'\n').collect()
    }
}

fn changes(entries: u64, segment: u64, checkpoint: u64, count: u64, seed: u64) -> [u64; 3] {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), entries, segment, checkpoint);
    let mut changes = Changes { random: fastrand::Rng::with_seed(seed), made: [0; 3] };
    changes.run(folder.path(), count);
    changes.made
}

#[test]
fn changes_of_a_small_log_are_found() {
    changes(40, 15, 9, 300, 1);
    changes(3, 10, 1, 100, 2);
    changes(1, 10, 1, 50, 3);
}

/// `cargo test -p layersift-audit --release --test log -- --ignored --nocapture all_changes`
#[test]
#[ignore = "takes a minute"]
fn all_changes_of_a_large_log_are_found() {
    for seed in 0..3 {
        let made = changes(10_000, 1_700, 333, 1000, seed);
        println!("10,000 entries, 1,000 changes, seed {seed}: entries, leaves, checkpoints: {made:?}; all found");
    }
}

#[test]
fn what_was_done_is_named() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 10, 100, 5);
    let path = folder.path().join("entries-00000000000000000000.jsonl");
    let before = fs::read(&path).unwrap();
    let lines: Vec<Vec<u8>> = pieces(&path, &before).into_iter().map(<[u8]>::to_vec).collect();
    let said = |lines: &[Vec<u8>]| {
        fs::write(&path, lines.concat()).unwrap();
        let found = verified(folder.path());
        match &found.problems[..] {
            [Problem::Entry { index, change, is_certain: true, .. }] => (*index, *change),
            other => panic!("{other:?}"),
        }
    };
    let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        said(&lines)
    };
    let other = String::from_utf8_lossy(&lines[3]).replace("denied", "passed").into_bytes();
    assert_eq!(with(&|lines| drop(lines.remove(3))), (3, Change::Removed));
    assert_eq!(with(&|lines| lines.insert(3, lines[7].clone())), (3, Change::Inserted));
    assert_eq!(with(&|lines| lines.swap(4, 5)), (4, Change::Moved));
    assert_eq!(with(&|lines| lines[3].clone_from(&other)), (3, Change::Altered));
    assert_eq!(with(&|lines| lines[6] = b"?\n".to_vec()), (6, Change::NotAnEntry));
    assert_eq!(with(&|lines| drop(lines.pop())), (9, Change::Removed));
}

#[test]
fn an_entry_that_is_changed_with_its_hash_lies_between_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 100, 30, 20);
    let path = folder.path().join("entries-00000000000000000030.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    lines[15] = lines[15].replace("denied", "passed");
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    let leaves = folder.path().join("leaves-00000000000000000030");
    let mut hashes = fs::read(&leaves).unwrap();
    hashes[15 * 32..16 * 32].copy_from_slice(&leaf_hash(lines[15].as_bytes()));
    fs::write(&leaves, hashes).unwrap();
    let found = verified(folder.path());
    assert!(matches!(found.problems[..], [Problem::Between { after: 40, size: 60, .. }]), "{found:?}");
}

#[test]
fn a_cut_tail_is_found_with_an_anchor_and_not_without() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 60, 100, 20);
    let anchor = fs::read(folder.path().join("checkpoint")).unwrap();
    // Whoever cuts all files at an earlier checkpoint leaves a log as it once was.
    let cut = |name: &str, keep: &dyn Fn(&[u8]) -> usize| {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name), &bytes[..keep(&bytes)]).unwrap();
    };
    let lines = |count: usize| {
        move |bytes: &[u8]| bytes.split_inclusive(|byte| *byte == b'\n').take(count).map(<[u8]>::len).sum::<usize>()
    };
    cut("entries-00000000000000000000.jsonl", &lines(40));
    cut("leaves-00000000000000000000", &|_| 40 * 32);
    cut("checkpoints", &lines(15));
    let latest = fs::read(folder.path().join("checkpoints")).unwrap();
    fs::write(folder.path().join("checkpoint"), &latest[lines(10)(&latest)..]).unwrap();
    let found = verified(folder.path());
    assert!(found.is_good() && found.notes.contains(&Note::NoAnchor), "{found:?}");
    let found = with_anchor(folder.path(), &anchor).unwrap();
    assert!(matches!(found.problems[..], [Problem::Cut { kept: 40, size: 60, .. }]), "{found:?}");
    assert_eq!(found.first_bad(), Some(40));
    // An anchor of another log says nothing.
    let other = tempfile::tempdir().unwrap();
    written(other.path(), 60, 100, 20);
    let anchor = fs::read(other.path().join("checkpoint")).unwrap();
    assert!(with_anchor(folder.path(), &anchor).is_err());
}

#[test]
fn files_that_are_removed_are_missed() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 50, 10, 10);
    for (name, first_bad) in [
        ("entries-00000000000000000000.jsonl", Some(0)),
        ("entries-00000000000000000020.jsonl", Some(20)),
        ("entries-00000000000000000040.jsonl", Some(40)),
        ("leaves-00000000000000000020", None),
        ("leaves-00000000000000000040", None),
        ("checkpoints", None),
        ("checkpoint", None),
    ] {
        let path = folder.path().join(name);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let found = verified(folder.path());
        assert!(!found.is_good(), "{name}");
        assert_eq!(found.first_bad(), first_bad, "{name}: {found:?}");
        assert!(AuditLog::open(folder.path(), &options(10)).is_err(), "{name}");
        fs::write(&path, bytes).unwrap();
    }
    assert!(verified(folder.path()).is_good());
}
