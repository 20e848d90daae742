//! Old segments are removed and shipped, and the rest is still verified.

use std::fs;
use std::path::Path;

use layersift_audit::{
    AuditLog, DirectorySink, Note, Problem, Retention, Sink, SinkError, VerifyOptions, last_entries, verify,
};

use crate::{entry, opened, options, verified, with_anchor, written};

fn older_than(number: u64) -> Retention {
    Retention { before: entry(number).time, shipped_to: Vec::new(), now: 7 }
}

#[test]
fn what_retention_leaves_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 95, 10, 7);
    let anchor = fs::read(folder.path().join("checkpoint")).unwrap();
    let log = opened(folder.path(), 10);
    assert_eq!(log.prune(&older_than(9)).unwrap(), 0);
    assert_eq!(log.prune(&older_than(37)).unwrap(), 30);
    assert_eq!(log.prune(&older_than(37)).unwrap(), 0);
    assert_eq!(log.prune(&older_than(55)).unwrap(), 20);
    assert_eq!(log.append(&entry(95)).unwrap(), 95);
    log.close().unwrap();
    let found = with_anchor(folder.path(), &anchor).unwrap();
    assert!(found.is_good(), "{found:?}");
    assert_eq!((found.first, found.size), (50, 96));
    assert!(found.notes.contains(&Note::Removed { entries: 50, at: 7 }), "{found:?}");
    assert!(found.notes.iter().any(|note| matches!(note, Note::Unchecked { .. })));
    assert_eq!(last_entries(folder.path(), 1000).unwrap().len(), 46);

    // Everything that is closed goes, and the log goes on.
    let log = opened(folder.path(), 10);
    assert_eq!(log.prune(&older_than(1000)).unwrap(), 40);
    log.close().unwrap();
    let log = opened(folder.path(), 10);
    assert_eq!(log.append(&entry(96)).unwrap(), 96);
    log.close().unwrap();
    assert!(verified(folder.path()).is_good());

    // Without the record, or with an older or another one, the entries are missing.
    let path = folder.path().join("removed");
    let record = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(verified(folder.path()).first_bad(), Some(0));
    assert!(AuditLog::open(folder.path(), &options(10)).is_err());
    for at in 0..record.len() {
        let mut changed = record.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).unwrap();
        let found = verified(folder.path());
        assert!(found.problems.iter().any(|problem| matches!(problem, Problem::Removal { .. })), "{found:?}");
    }
    // A checkpoint is not a record.
    fs::write(&path, anchor).unwrap();
    assert!(!verified(folder.path()).is_good());
}

#[test]
fn retention_waits_for_checkpoints_and_for_copies() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = opened(folder.path(), 10);
    assert!((0..35).all(|number| log.append(&entry(number)).unwrap() == number));
    assert_eq!(log.prune(&older_than(1000)).unwrap(), 0);
    log.checkpoint().unwrap();
    let shipped = Retention { shipped_to: vec![copy.path().display().to_string()], ..older_than(1000) };
    assert_eq!(log.prune(&shipped).unwrap(), 0);
    log.ship(&mut DirectorySink::new(copy.path())).unwrap();
    // What was shipped is known of each place by itself.
    let both = [&shipped.shipped_to[..], &["another".to_string()]].concat();
    assert_eq!(log.prune(&Retention { shipped_to: both, ..shipped.clone() }).unwrap(), 0);
    assert_eq!((log.shipped_to(&shipped.shipped_to[0]).unwrap(), log.shipped_to("another").unwrap()), (30, 0));
    assert_eq!(log.prune(&shipped).unwrap(), 30);
}

#[test]
fn hashes_that_were_changed_are_not_signed() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), 40, 10, 10);
    let log = opened(folder.path(), 10);
    let leaves = folder.path().join("leaves-00000000000000000000");
    let mut hashes = fs::read(&leaves).unwrap();
    hashes[40] ^= 1;
    fs::write(&leaves, hashes).unwrap();
    assert!(log.prune(&older_than(1000)).is_err());
    assert!(!folder.path().join("removed").exists());
}

/// A place that is out of order now and then.
struct Broken<'d> {
    inner: DirectorySink,
    left: u64,
    /// It keeps the object, and does not say so.
    keeps: bool,
    directory: &'d Path,
}

impl Sink for Broken<'_> {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn has(&mut self, name: &str, bytes: &[u8]) -> Result<bool, SinkError> {
        self.inner.has(name, bytes)
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), SinkError> {
        if self.left == 0 {
            if self.keeps {
                self.inner.put(name, bytes)?;
            }
            let place = self.directory.display().to_string();
            return Err(SinkError::Refused { place, status: 503, answer: "later".into() });
        }
        self.left -= 1;
        self.inner.put(name, bytes)
    }
}

#[test]
fn shipping_goes_on_where_it_was_broken_off() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut log = opened(folder.path(), 10);
    assert!((0..95).all(|number| log.append(&entry(number)).unwrap() == number));
    log.checkpoint().unwrap();
    let mut tries = 0;
    for keeps in [true, false].into_iter().cycle() {
        let inner = DirectorySink::new(copy.path());
        let mut sink = Broken { inner, left: 2, keeps, directory: copy.path() };
        if log.ship(&mut sink).is_ok() {
            break;
        }
        tries += 1;
        drop(log);
        log = opened(folder.path(), 10);
    }
    assert!(tries > 3);
    let copied = || verify(copy.path(), &VerifyOptions { is_copy: true, ..VerifyOptions::default() }).unwrap();
    assert!(copied().is_good(), "{:?}", copied());
    assert!(copied().notes.contains(&Note::ShortCopy { kept: 90, size: 95 }));

    log.close_segment().unwrap();
    log.append(&entry(95)).unwrap();
    log.checkpoint().unwrap();
    let mut sink = DirectorySink::new(copy.path());
    let shipped = log.ship(&mut sink).unwrap();
    assert_eq!((shipped.sent, shipped.found, shipped.entries), (3, 0, 95));
    assert_eq!(log.ship(&mut sink).unwrap().sent, 0);
    assert_eq!(copied().size, 95);
    // A copy is verified like any log.
    let path = copy.path().join("entries-00000000000000000040.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("denied", "passed", 1)).unwrap();
    assert_eq!(copied().first_bad(), Some(40));
    // What is there is never overwritten.
    fs::remove_file(folder.path().join("shipped")).unwrap();
    assert!(log.ship(&mut sink).is_err());
}
