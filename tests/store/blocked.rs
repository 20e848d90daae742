//! Sweeps of what a catalog lists by digests, as Harbor does, and of images that a policy of Harbor's blocks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::sweep::{clock, other_scanner, scanner};
use crate::support::artifacts::Artifact;
use crate::support::harbor::{Artifact as Listed, Harbor, ROBOT, State};
use crate::support::image::{INDEX, Layer, MANIFEST, bytes, config, descriptor, digest, index, manifest};
use crate::support::pull::options;
use crate::support::served::serve_artifacts;
use crate::support::server::{Answer, Server};
use crate::support::tar::Tar;
use crate::support::{Fresh, Run, finish, program};
use layersift_fleet::{Progress, Registries, Sweep, SweepLimits};
use layersift_format::Cancellation;
use layersift_model::{SweepProblemKind, SweepReport, Verdict};
use layersift_report::Policy;
use layersift_scan::Analyzer;
use layersift_source::catalog::{Catalog, CatalogError, Entries, Entry, Filter};
use layersift_source::registry::Host;
use layersift_store::Store;
use serde_json::json;

/// A made-up token with the right checksum.
const TOKEN: &str = "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";

const NOT_SCANNED: &str = "without vulnerability scanning";
const FAILED: &str = "with \"Error\" status of vulnerability scanning";
const RUNNING: &str = "with \"Running\" status of vulnerability scanning";
const PENDING: &str = "with \"Pending\" status of vulnerability scanning";
const VULNERABLE: &str = "with 3 vulnerabilities";

/// Harbor's answer for a blocked manifest, as it was recorded.
fn blocked(why: &str) -> Answer {
    let policy = "'Prevent images with vulnerability severity of \"Low\" or higher from running.'";
    let message = format!(
        "current image {why} cannot be pulled due to configured policy in {policy} To continue with pull, please contact \
         your project administrator for help."
    );
    let body = json!({ "errors": [{ "code": "PROJECTPOLICYVIOLATION", "message": message }] });
    Answer::new(412, format!("{body}\n")).with("Content-Type", "application/json; charset=utf-8")
}

/// An image with `text` in its second layer.
fn image(name: &'static str, text: &str) -> Artifact {
    let layers = [
        Layer::plain(Tar::new().file("etc/motd", "welcome\n").finish()),
        Layer::plain(Tar::new().file("app/env", format!("NOTE={text}\n")).finish()),
    ];
    let config = bytes(&config(&layers));
    let blobs = layers.iter().map(|layer| layer.blob.clone()).chain([config.clone()]).collect();
    let mut manifest = manifest(&config, &layers);
    manifest["annotations"] = json!({ "org.example.note": format!("see {text}") });
    Artifact { name, manifests: vec![(MANIFEST.into(), bytes(&manifest))], blobs, is_old: true }
}

/// What `sweep harbor` knows of each artifact: the digest.
struct Catalogued {
    host: Host,
    entries: Vec<Entry>,
    asked: Mutex<Vec<Entry>>,
}

impl Catalogued {
    fn new(server: &Server, artifacts: &[Artifact]) -> Catalogued {
        let host: Host = server.host().parse().unwrap();
        let entry = |artifact: &Artifact| Entry {
            host: host.clone(),
            project: Some("team".into()),
            repository: format!("team/{}", artifact.name),
            tags: vec!["v1".into()],
            digest: Some(digest(&artifact.manifests.last().unwrap().1).parse().unwrap()),
            pushed_at: None,
        };
        let entries = artifacts.iter().map(entry).collect();
        Catalogued { host, entries, asked: Mutex::default() }
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Catalog for Catalogued {
    fn hosts(&self) -> Vec<Host> {
        vec![self.host.clone()]
    }

    fn entries<'c>(&'c self, _: &'c Filter) -> Entries<'c> {
        Box::new(self.entries.iter().cloned().map(Ok))
    }

    fn request_scan(&self, entry: &Entry) -> Result<bool, CatalogError> {
        self.asked.lock().unwrap().push(entry.clone());
        Ok(true)
    }
}

fn limits() -> SweepLimits {
    SweepLimits { threads: 2, lease: 100_000, ..SweepLimits::default() }
}

fn sweep(scanner: &Analyzer, store: &Store, catalog: &Catalogued, limits: &SweepLimits) -> SweepReport {
    let registries = Registries::new(options(), None);
    let (progress, policy) = (Progress::default(), Policy::default());
    let sweep = Sweep { scanner, store, registries: &registries, policy: &policy, clock, progress: &progress };
    sweep.run("a test", catalog, &Filter::default(), limits).unwrap()
}

/// A server of `artifacts` that blocks manifests, as `answers` say one after the other, and serves them afterwards; the
/// last answer comes for ever with `is_for_ever`.
fn serve_blocked(artifacts: &[Artifact], answers: &[&'static str], is_for_ever: bool) -> Server {
    let (answers, given) = (answers.to_vec(), AtomicUsize::new(0));
    serve_artifacts(artifacts, move |request, _, answer| {
        if !request.path.contains("/manifests/") {
            return answer;
        }
        let number = given.fetch_add(1, Ordering::Relaxed);
        match answers.get(number).or(answers.last().filter(|_| is_for_ever)) {
            Some(why) => blocked(why),
            None => answer,
        }
    })
}

#[test]
fn the_text_of_the_registry_is_shown_and_no_scan_is_requested() {
    let artifacts = [image("app", "nothing")];
    for (why, advice) in [
        (NOT_SCANNED, "--request-scans"),
        (FAILED, "--request-scans"),
        (VULNERABLE, "put the vulnerabilities on its allow-list"),
    ] {
        let server = serve_blocked(&artifacts, &[why], true);
        let catalog = Catalogued::new(&server, &artifacts);
        let outcome = sweep(scanner(), &Fresh::sqlite().open(), &catalog, &limits());
        let [problem] = &outcome.problems[..] else { panic!("{outcome:?}") };
        assert_eq!((problem.kind, outcome.verdict), (SweepProblemKind::Blocked, Verdict::Incomplete));
        let text = problem.to_string();
        assert!(text.contains(&format!("current image {why} cannot be pulled")), "{text}");
        assert!(text.contains(advice) && text.contains("no account that an operator can make is exempt"), "{text}");
        assert_eq!(catalog.asked(), 0);
    }
}

#[test]
fn a_scan_is_requested_where_it_may_help() {
    let artifacts = [image("app", TOKEN)];
    let with = SweepLimits { request_scans: true, layer_timeout: Some(Duration::from_secs(30)), ..limits() };
    for (answers, asked) in [(vec![NOT_SCANNED, NOT_SCANNED, PENDING], 1), (vec![FAILED, RUNNING], 1)] {
        let server = serve_blocked(&artifacts, &answers, false);
        let catalog = Catalogued::new(&server, &artifacts);
        let outcome = sweep(scanner(), &Fresh::sqlite().open(), &catalog, &with);
        assert!(outcome.problems.is_empty(), "{answers:?}: {outcome:?}");
        assert_eq!((catalog.asked(), outcome.failing), (asked, 1), "{answers:?}");
    }
    let server = serve_blocked(&artifacts, &[VULNERABLE], true);
    let catalog = Catalogued::new(&server, &artifacts);
    let outcome = sweep(scanner(), &Fresh::sqlite().open(), &catalog, &with);
    assert_eq!((catalog.asked(), outcome.problems.len()), (0, 1), "{outcome:?}");
    // The scan finds too much, or fails again.
    for end in [VULNERABLE, FAILED] {
        let server = serve_blocked(&artifacts, &[NOT_SCANNED, RUNNING, end], true);
        let catalog = Catalogued::new(&server, &artifacts);
        let outcome = sweep(scanner(), &Fresh::sqlite().open(), &catalog, &with);
        let [problem] = &outcome.problems[..] else { panic!("{outcome:?}") };
        assert!(problem.reason.contains(end) && problem.reason.contains("was asked to scan"), "{problem}");
        assert_eq!(catalog.asked(), 1);
    }
}

#[test]
fn a_scan_that_runs_is_waited_for() {
    let artifacts = [image("app", TOKEN)];
    for request_scans in [false, true] {
        let server = serve_blocked(&artifacts, &[RUNNING, PENDING, RUNNING], false);
        let catalog = Catalogued::new(&server, &artifacts);
        let outcome = sweep(scanner(), &Fresh::sqlite().open(), &catalog, &SweepLimits { request_scans, ..limits() });
        assert!(outcome.problems.is_empty(), "{outcome:?}");
        assert_eq!((catalog.asked(), outcome.failing), (0, 1));
    }
    let server = serve_blocked(&artifacts, &[RUNNING], true);
    let catalog = Catalogued::new(&server, &artifacts);
    let short = SweepLimits { layer_timeout: Some(Duration::from_secs(2)), ..limits() };
    let outcome = sweep(scanner(), &Fresh::sqlite().open(), &catalog, &short);
    let [problem] = &outcome.problems[..] else { panic!("{outcome:?}") };
    assert!(problem.reason.contains("it was not scanned after") && problem.reason.contains("Running"), "{problem}");
    assert!(server.requests_of("/manifests/").len() > 2);
    // The end of the sweep ends the wait.
    let cancellation = Cancellation::with_deadline(Duration::from_secs(2));
    let outcome = sweep(scanner(), &Fresh::sqlite().open(), &catalog, &SweepLimits { cancellation, ..limits() });
    assert_eq!(outcome.ended_early.as_deref(), Some("it was terminated"));
    let in_time = SweepLimits { time: Some(Duration::from_secs(2)), patience: Cancellation::new(), ..limits() };
    let outcome = sweep(scanner(), &Fresh::sqlite().open(), &catalog, &in_time);
    assert_eq!(outcome.ended_early.as_deref(), Some("its time is up"));
}

#[test]
fn an_image_whose_layers_are_known_is_read_without_its_manifest() {
    for (text, verdict) in [("nothing", Verdict::Pass), (TOKEN, Verdict::Fail)] {
        let artifacts = [image("app", text)];
        let (fresh, is_blocked) = (Fresh::sqlite(), Arc::new(AtomicUsize::new(0)));
        let (store, blocks) = (fresh.open(), Arc::clone(&is_blocked));
        let server = serve_artifacts(&artifacts, move |request, _, answer| {
            let is_blocked = request.path.contains("/manifests/") && blocks.load(Ordering::Relaxed) > 0;
            if is_blocked { blocked(VULNERABLE) } else { answer }
        });
        let catalog = Catalogued::new(&server, &artifacts);
        let first = sweep(&other_scanner(), &store, &catalog, &limits());
        assert_eq!((first.sums.layers_read, first.verdict), (2, verdict));
        is_blocked.store(1, Ordering::Relaxed);
        // With other rules, the layers have to be read again.
        for layers_read in [2, 0] {
            let outcome = sweep(scanner(), &store, &catalog, &limits());
            assert!(outcome.problems.is_empty(), "{outcome:?}");
            assert_eq!((outcome.sums.layers_read, outcome.incomplete), (layers_read, 0), "{outcome:?}");
            assert_eq!(outcome.verdict, verdict);
        }
        let manifest = catalog.entries[0].digest.clone().unwrap();
        let report = store.images().latest_report(&manifest).unwrap().unwrap().report;
        assert!(report.notes.iter().any(|note| note.contains("blocks the manifest")), "{:?}", report.notes);
        // One in the layer, one in the annotation of the manifest.
        let found = report.findings.iter().filter(|finding| finding.rule.id == "github.personal-access-token").count();
        assert_eq!(found, if verdict == Verdict::Fail { 2 } else { 0 });
        assert_eq!(catalog.asked(), 0);
    }
}

#[test]
fn a_blocked_image_of_an_index_does_not_hide_the_others() {
    let parts = [image("known", TOKEN), image("unknown", "nothing"), image("open", "nothing of note")];
    let mut entries = Vec::new();
    for (part, architecture) in parts.iter().zip(["amd64", "arm64", "riscv64"]) {
        let mut entry = descriptor(MANIFEST, &part.manifests[0].1);
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entries.push(entry);
    }
    let mut manifests: Vec<_> = parts.iter().flat_map(|part| part.manifests.clone()).collect();
    manifests.push((INDEX.into(), bytes(&index(&entries))));
    let blobs = parts.iter().flat_map(|part| part.blobs.clone()).collect();
    let all = [Artifact { name: "app", manifests, blobs, is_old: true }, parts[0].clone()];
    let blocks: Vec<String> = parts[..2].iter().map(|part| digest(&part.manifests[0].1)).collect();
    let is_blocked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&is_blocked);
    let server = serve_artifacts(&all, move |request, _, answer| {
        let is_listed = blocks.iter().any(|digest| request.path.ends_with(digest));
        if is_listed && count.load(Ordering::Relaxed) > 0 { blocked(VULNERABLE) } else { answer }
    });
    let (fresh, mut catalog) = (Fresh::sqlite(), Catalogued::new(&server, &all));
    let store = fresh.open();
    let index = catalog.entries.remove(0);
    assert_eq!(sweep(&other_scanner(), &store, &catalog, &limits()).failing, 1);
    is_blocked.store(1, Ordering::Relaxed);
    catalog.entries = vec![index];
    for _ in 0..2 {
        let outcome = sweep(scanner(), &store, &catalog, &limits());
        let [problem] = &outcome.problems[..] else { panic!("{outcome:?}") };
        let unknown = digest(&parts[1].manifests[0].1);
        assert!(problem.name.ends_with(&unknown) && problem.kind == SweepProblemKind::Blocked, "{problem}");
        // The image that is known, the one that is served, and the index.
        assert_eq!((outcome.sums.images, outcome.failing, outcome.verdict), (3, 1, Verdict::Fail), "{outcome:?}");
    }
    is_blocked.store(0, Ordering::Relaxed);
    let outcome = sweep(scanner(), &store, &catalog, &limits());
    assert_eq!((outcome.sums.images, outcome.problems.len(), outcome.failing), (4, 0, 1), "{outcome:?}");
}

/// The report of an index does not say what is in its images.
#[test]
fn an_index_that_is_listed_by_its_digest_fails_again() {
    let parts = [image("clean", "nothing"), image("leaking", TOKEN)];
    let entries: Vec<_> = parts.iter().map(|part| descriptor(MANIFEST, &part.manifests[0].1)).collect();
    let mut manifests: Vec<_> = parts.iter().flat_map(|part| part.manifests.clone()).collect();
    manifests.push((INDEX.into(), bytes(&index(&entries))));
    let blobs = parts.iter().flat_map(|part| part.blobs.clone()).collect();
    let all = [Artifact { name: "app", manifests, blobs, is_old: true }];
    let server = serve_artifacts(&all, |_, _, answer| answer);
    for tags in [vec!["v1".to_string()], Vec::new()] {
        let (fresh, mut catalog) = (Fresh::sqlite(), Catalogued::new(&server, &all));
        catalog.entries[0].tags = tags;
        let store = fresh.open();
        for layers_read in [3, 0, 0] {
            let outcome = sweep(scanner(), &store, &catalog, &limits());
            assert_eq!((outcome.sums.layers_read, outcome.sums.images), (layers_read, 3), "{outcome:?}");
            assert_eq!((outcome.failing, outcome.verdict), (1, Verdict::Fail));
        }
        // Another tag: the images are known, and it is not known yet that they are its images.
        catalog.entries[0].tags = vec!["v2".into()];
        assert_eq!(sweep(scanner(), &store, &catalog, &limits()).failing, 1);
    }
}

#[test]
fn the_program_asks_for_scans_only_if_told() {
    let harbor = Harbor::start(State::default().with("team/app", vec![Listed::image("app", 1)]));
    let host = harbor.server.host();
    let sweep = |flags: &[&str]| -> Run {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store.db");
        let mut command = program();
        command.args(["sweep", "harbor", &host, "--plain-http", "--timeout", "1s", "--store"]).arg(store).args(flags);
        command.env("LAYERSIFT_REGISTRY_USER", ROBOT.0).env("LAYERSIFT_REGISTRY_PASSWORD", ROBOT.1);
        finish(&mut command, None).expect(3)
    };
    let posts = || harbor.server.requests().iter().filter(|request| request.method == "POST").count();
    let run = sweep(&[]);
    let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("without vulnerability scanning cannot be pulled"), "{}", run.stdout);
    assert_eq!(posts(), 0);
    let run = sweep(&["--request-scans"]);
    let text = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("was asked to scan"), "{}", run.stdout);
    assert_eq!(posts(), 1);
}
