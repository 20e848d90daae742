//! Entries are on disk when they are said to be, each at its own index.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use layersift_audit::{
    AuditError, AuditLog, Checkpoint, KeyFrom, Note, Options, Range, SigningKey, VerifierKey, VerifyOptions,
    last_entries, leaf_hash, verify,
};

use crate::{ORIGIN, entry, opened, options, verified, with_anchor, written};

#[test]
fn a_log_is_verified_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("audit");
    let mut range = Range::default();
    for round in 0..4_u64 {
        let opened = AuditLog::open(&directory, &options(10)).unwrap();
        assert_eq!((opened.recovery.is_new, opened.recovery.entries), (round == 0, round * 7));
        for number in round * 7..round * 7 + 7 {
            assert_eq!(opened.log.append(&entry(number)).unwrap(), number);
            range.push(leaf_hash(&serde_json::to_vec(&entry(number)).unwrap()));
        }
        opened.log.close().unwrap();
        let found = verified(&directory);
        assert!(found.is_good(), "{found:?}");
        assert_eq!((found.size, found.root, found.covered), (range.size(), range.root(), range.size()));
        assert_eq!(found.notes, [Note::KeyBesideLog, Note::NoAnchor]);
    }
    let last = last_entries(&directory, 20).unwrap();
    assert_eq!(last, (8..28).map(|number| (number, entry(number))).collect::<Vec<_>>());
    assert_eq!(last_entries(&directory, 100).unwrap().len(), 28);
    let mode = |path: &str| fs::metadata(directory.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("key"), mode("entries-00000000000000000000.jsonl")), (0o700, 0o600, 0o600));
}

#[test]
fn threads_share_writes_and_each_has_its_index() {
    let folder = tempfile::tempdir().unwrap();
    let log = AuditLog::open(folder.path(), &Options { checkpoint_entries: 50, ..options(100) }).unwrap().log;
    let indexes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (log, indexes) = (&log, &indexes);
            scope.spawn(move || {
                for number in 0..25 {
                    let index = log.append(&entry(thread * 1000 + number)).unwrap();
                    indexes.lock().unwrap().push((index, thread * 1000 + number));
                }
            });
        }
    });
    assert!(log.checkpoint_failure().is_none());
    assert_eq!(log.size(), 400);
    log.close().unwrap();
    let found = verified(folder.path());
    assert!(found.is_good() && found.checkpoints > 2, "{found:?}");
    let mut indexes = indexes.into_inner().unwrap();
    indexes.sort_unstable();
    let expected: Vec<_> = indexes.into_iter().map(|(index, number)| (index, entry(number))).collect();
    assert_eq!(last_entries(folder.path(), 1000).unwrap(), expected);
}

#[test]
fn entries_that_are_handed_in_together_are_written_together() {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path(), 10);
    let entries: Vec<_> = (0..25).map(entry).collect();
    assert_eq!(log.append_all(&entries[..12]).unwrap(), 0);
    assert_eq!(log.append_all(&[]).unwrap(), 12);
    assert_eq!(log.append_all(&entries[12..]).unwrap(), 12);
    log.finish().unwrap();
    assert!(matches!(log.append(&entry(25)), Err(AuditError::NotWritten { .. })), "nothing comes after the end");
    log.close().unwrap();
    assert!(verified(folder.path()).is_good());
    assert_eq!(last_entries(folder.path(), 100).unwrap(), (0..25).zip(entries).collect::<Vec<_>>());
}

#[test]
fn one_process_writes_and_others_may_verify() {
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path(), 100);
    log.append(&entry(0)).unwrap();
    assert!(matches!(AuditLog::open(folder.path(), &options(100)), Err(AuditError::Locked { .. })));
    let found = verified(folder.path());
    assert!(found.is_good() && found.notes.contains(&Note::Written), "{found:?}");
    assert!(found.notes.contains(&Note::Uncovered { entries: 1 }));
    let anchor = log.checkpoint().unwrap();
    assert!(with_anchor(folder.path(), &anchor).unwrap().is_good());
    assert_eq!(Checkpoint::open(&anchor, log.verifier()).unwrap().size, 1);
}

#[test]
fn checkpoints_come_with_time_and_with_entries() {
    let folder = tempfile::tempdir().unwrap();
    let every = Options { checkpoint_every: Duration::from_millis(20), ..options(100) };
    for options in [every, Options { checkpoint_entries: 1, ..options(100) }] {
        let log = AuditLog::open(folder.path(), &options).unwrap().log;
        let index = log.append(&entry(0)).unwrap();
        loop {
            let note = log.latest_checkpoint().unwrap();
            if Checkpoint::open(&note, log.verifier()).unwrap().size > index {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn keys_come_from_elsewhere_and_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let key = SigningKey::generate(ORIGIN).unwrap();
    let with = |from: KeyFrom| Options { key: from, ..options(10) };
    let text = with(KeyFrom::Text(key.reveal()));
    assert!(!format!("{text:?}").contains("PRIVATE"));
    AuditLog::open(&one, &text).unwrap().log.append(&entry(0)).unwrap();
    assert!(!one.join("key").exists());
    let found = verify(&one, &VerifyOptions { key: Some(key.verifier().clone()), ..VerifyOptions::default() }).unwrap();
    assert!(found.is_good() && !found.notes.contains(&Note::KeyBesideLog), "{found:?}");
    let public = fs::read_to_string(one.join("key.pub")).unwrap();
    assert_eq!(&VerifierKey::parse(&public).unwrap(), key.verifier());

    let file = folder.path().join("file");
    assert!(AuditLog::open(&one, &with(KeyFrom::File(file.clone()))).is_err());
    fs::write(&file, SigningKey::generate("other").unwrap().reveal()).unwrap();
    assert!(matches!(AuditLog::open(&one, &with(KeyFrom::File(file.clone()))), Err(AuditError::Origin { .. })));
    fs::write(&file, SigningKey::generate(ORIGIN).unwrap().reveal()).unwrap();
    assert!(matches!(AuditLog::open(&one, &with(KeyFrom::File(file.clone()))), Err(AuditError::Damaged { .. })));
    AuditLog::open(&two, &with(KeyFrom::File(file))).unwrap();
    // A key that is lost is not made anew.
    written(&folder.path().join("three"), 1, 10, 1);
    fs::remove_file(folder.path().join("three/key")).unwrap();
    assert!(AuditLog::open(&folder.path().join("three"), &options(10)).is_err());
    assert!(AuditLog::open(folder.path(), &Options { origin: "a b".into(), ..options(10) }).is_err());
}

/// `cargo test -p layersift-audit --release --test log -- --ignored --nocapture speed`, in `TMPDIR`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let folder = tempfile::tempdir().unwrap();
    for threads in [1, 4, 16, 64] {
        let log = AuditLog::open(&folder.path().join(threads.to_string()), &Options::new(ORIGIN)).unwrap().log;
        let times = Mutex::new(Vec::new());
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut own = Vec::new();
                    while start.elapsed() < Duration::from_secs(5) {
                        let begun = Instant::now();
                        log.append(&entry(7)).unwrap();
                        own.push(begun.elapsed());
                    }
                    times.lock().unwrap().extend(own);
                });
            }
        });
        let mut times = times.into_inner().unwrap();
        times.sort_unstable();
        let at = |part: usize| times[(times.len() * part / 1000).min(times.len() - 1)];
        let rate = times.len() as f64 / start.elapsed().as_secs_f64();
        println!("{threads} threads: {rate:.0} entries/s, p50 {:?}, p99 {:?}, most {:?}", at(500), at(990), at(1000));
    }
}

/// `cargo test -p layersift-audit --release --test log -- --ignored --nocapture large`
#[test]
#[ignore = "a measurement"]
fn large() {
    let folder = tempfile::tempdir().unwrap();
    let log = AuditLog::open(folder.path(), &Options::new(ORIGIN)).unwrap().log;
    std::thread::scope(|scope| {
        for thread in 0..500_u64 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..2000 {
                    log.append(&entry(thread * 2000 + number)).unwrap();
                }
            });
        }
    });
    log.close().unwrap();
    let start = Instant::now();
    let found = verified(folder.path());
    assert!(found.is_good() && found.size == 1_000_000);
    println!("verified {} entries in {:?}", found.size, start.elapsed());
    let start = Instant::now();
    AuditLog::open(folder.path(), &Options::new(ORIGIN)).unwrap();
    println!("opened in {:?}", start.elapsed());
}
