//! The log from outside: written, reopened after crashes, changed behind its back, pruned and shipped.

#![allow(unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod changes;
mod crashes;
mod retention;
mod s3;
mod writing;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use layersift_audit::{AuditError, AuditLog, Entry, Kind, Options, Verdict, Verification, VerifyOptions, verify};

const ORIGIN: &str = "audit.example.org/replica-1";

/// Options under which a checkpoint is written only where a test asks for one.
fn options(segment_entries: u64) -> Options {
    let hour = Duration::from_secs(3600);
    Options { segment_entries, checkpoint_every: hour, checkpoint_entries: u64::MAX, ..Options::new(ORIGIN) }
}

fn entry(number: u64) -> Entry {
    let what = [
        ("image".to_string(), format!("registry.example.org/team/app-{}:v{number}", number % 7)),
        ("digest".to_string(), format!("sha256:{number:064x}")),
        ("namespace".to_string(), "production".to_string()),
    ];
    Entry {
        time: 1_800_000_000_000 + number,
        kind: Kind::Admission,
        who: "system:serviceaccount:kube-system:admission".into(),
        what: BTreeMap::from(what),
        policy: "sha256:5f0c".into(),
        ruleset: "2026-11-29".into(),
        verdict: Verdict {
            outcome: "fail".into(),
            effect: "denied".into(),
            reasons: vec!["aws.access-key".into(), "private-key".into()],
        },
        cut: false,
    }
}

fn opened(directory: &Path, segment_entries: u64) -> AuditLog {
    AuditLog::open(directory, &options(segment_entries)).unwrap().log
}

/// A closed log of so many entries, with a checkpoint after every `checkpoint` of them.
fn written(directory: &Path, entries: u64, segment: u64, checkpoint: u64) {
    let log = opened(directory, segment);
    for number in 0..entries {
        assert_eq!(log.append(&entry(number)).unwrap(), number);
        if (number + 1) % checkpoint == 0 {
            log.checkpoint().unwrap();
        }
    }
    log.close().unwrap();
}

fn verified(directory: &Path) -> Verification {
    verify(directory, &VerifyOptions::default()).unwrap()
}

fn with_anchor(directory: &Path, anchor: &[u8]) -> Result<Verification, AuditError> {
    let anchors = vec![("the anchor".to_string(), anchor.to_vec())];
    verify(directory, &VerifyOptions { anchors, ..VerifyOptions::default() })
}

/// Copies the files of a log, as a crash would leave them.
fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
