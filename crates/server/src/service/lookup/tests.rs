//! Reports are read one at a time, within the memory for them, and only for somebody.

use std::sync::Arc;

use layersift_format::Cancellation;
use layersift_model::{Gap, GapReason, ImageGap, LayerSummary};
use layersift_scan::MemoryBudget;

use super::*;
use crate::admission::{AdmissionPolicy, Outcome};

const IMAGES: usize = 5;

/// A store with large reports, one of which has a gap.
struct Large {
    _directory: tempfile::TempDir,
    store: Store,
    memory: MemoryBudget,
}

fn key() -> LayerKey {
    LayerKey::new("sha256:key")
}

fn report(number: usize) -> ImageReport {
    let digest = Digest::of(format!("image {number}").as_bytes());
    let layer = LayerSummary { digest: Some(digest.clone()), is_read: true, ..LayerSummary::default() };
    let gap = ImageGap { gap: Gap::new(GapReason::MissingBlob, "made up"), layer: Some(0) };
    ImageReport {
        manifest_digest: Some(digest),
        platform: Some(format!("linux/{number}")),
        layers: vec![layer],
        gaps: if number == 3 { vec![gap] } else { Vec::new() },
        notes: vec!["x".repeat(2 << 20)],
        ..ImageReport::default()
    }
}

impl Large {
    fn new() -> Large {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("s.db").to_str().unwrap()).unwrap();
        for number in 0..IMAGES {
            store.images().put_report(&report(number), &key(), None, 10).unwrap();
        }
        // Not enough for any of them: each is read alone.
        Large { _directory: directory, store, memory: MemoryBudget::new(1) }
    }

    fn found(&self) -> Found {
        let manifests: Vec<Digest> = (0..IMAGES).map(|number| report(number).manifest_digest.unwrap()).collect();
        let entries = self.store.images().report_entries(&manifests, Some(&key()), None).unwrap();
        Found { key: key(), entries, served: Vec::new(), is_noted: true }
    }

    fn reading<'r>(&'r self, cancellation: &'r Cancellation) -> Reading<'r> {
        Reading { store: &self.store, memory: &self.memory, cancellation }
    }
}

#[test]
fn one_report_is_in_memory_at_a_time() {
    let (large, never) = (Large::new(), Cancellation::never());
    let mut taken = Vec::new();
    let is_known = large.found().each(&large.reading(&never), |entry, report| {
        assert!(entry.memory() >= 8 << 20);
        assert_eq!(large.memory.used(), entry.memory(), "that of this one alone");
        taken.push(report.platform);
        Ok(())
    });
    assert!(is_known.unwrap());
    assert_eq!((taken.len(), large.memory.used()), (IMAGES, 0));
}

#[test]
fn what_nobody_waits_for_is_not_read() {
    let (large, gone) = (Large::new(), Cancellation::new());
    let mut taken = 0;
    let read = large.found().each(&large.reading(&gone), |_, _| {
        taken += 1;
        if taken == 2 {
            gone.cancel();
        }
        Ok(())
    });
    assert!(matches!(read, Err(NotRead::Cancelled)));
    assert_eq!((taken, large.memory.used()), (2, 0));
    assert!(matches!(large.found().whole(&large.reading(&gone)), Err(NotRead::Cancelled)));
}

#[test]
fn what_large_reports_said_is_remembered_until_they_or_the_policy_change() {
    let (large, never, gone) = (Large::new(), Cancellation::never(), Cancellation::new());
    gone.cancel();
    let (policy, remembered) = (AdmissionPolicy::default(), RememberedJudgements::default());
    let judging = |generation: u64| Judging {
        terms: policy.terms(&[], None),
        generation,
        bases: Arc::default(),
        remembered: &remembered,
    };
    let outcome = |judging: &Judging<'_>, cancellation: &Cancellation| {
        let judged = large.found().judged(&large.reading(cancellation), judging)?;
        let decision = judged.unwrap().decide(("app", &Digest::of(b"root")), judging.terms, 20);
        Ok::<_, NotRead>((decision.outcome, decision.platforms.len(), decision.reasons[0].platform.clone()))
    };
    let expected = (Outcome::Incomplete, IMAGES, Some("linux/3".to_string()));
    assert!(large.found().is_large(&judging(1)));
    assert_eq!(outcome(&judging(1), &never).unwrap(), expected);
    assert!(!large.found().is_large(&judging(1)));
    assert_eq!(outcome(&judging(1), &gone).unwrap(), expected, "without reading any of them");
    assert!(matches!(outcome(&judging(2), &gone), Err(NotRead::Cancelled)), "another policy");
    large.store.images().put_report(&report(0), &key(), None, 11).unwrap();
    assert!(matches!(outcome(&judging(1), &gone), Err(NotRead::Cancelled)), "another report");
}

#[test]
fn reports_that_are_too_large_together_are_not_read_at_once() {
    let (large, never) = (Large::new(), Cancellation::never());
    let whole = large.found().whole(&large.reading(&never)).unwrap().unwrap();
    assert_eq!(whole.reports.len(), IMAGES);
    assert!(large.memory.used() >= 40 << 20, "they have their memory for as long as they are there");
    drop(whole);
    assert_eq!(large.memory.used(), 0);
    let mut found = large.found();
    found.entries[0][0].bytes = 128 << 20;
    assert!(matches!(found.whole(&large.reading(&never)), Err(NotRead::TooLarge)));
    found.entries.truncate(1);
    assert!(found.whole(&large.reading(&never)).is_ok(), "a single one is read whatever its size");
}

#[test]
fn a_report_is_outdated_since_its_key_was_last_served() {
    let key = |(key, until): (&str, Seconds)| (LayerKey::new(key), until);
    let entry = |key: &str, stored_at: Seconds| ReportEntry {
        manifest: Digest::of(b"image"),
        key: LayerKey::new(key),
        stored_at,
        bytes: 1,
    };
    // As after an upgrade from `a` to `b`, back to `a`, and to `b` again.
    let served: Vec<_> = [("a", 500), ("b", 900)].map(key).into();
    assert_eq!(superseded(&entry("a", 20), &served), 500);
    assert_eq!(superseded(&entry("a", 700), &served), 700, "a replica of the version before noted it late");
}
