//! Sweeps of a real registry into both kinds of stores: what is read, what is not read again, and what is told.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::Fresh;
use crate::support::fault_proxy::{self, Fault};
use crate::support::image::{INDEX, Layer, MANIFEST, bytes, config, descriptor, index, manifest, oci, write_directory};
use crate::support::pull::{options, registry};
use crate::support::registry::{Registry, Setup};
use crate::support::served::{clean_layer, serve};
use crate::support::server::{Answer, Server};
use crate::support::tar::Tar;
use layersift_fleet::{Expected, Progress, Registries, Sweep, SweepLimits};
use layersift_model::{Digest, GapReason, ImageGap, LayerKey, Limits, SweepProblemKind, SweepReport, Verdict};
use layersift_report::Policy;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use layersift_source::catalog::{Filter, ImageList, WholeRegistry};
use layersift_source::registry::At;
use layersift_store::{LayerRecord, Query, Store};
use serde_json::{Value, json};

/// A made-up token; the one of each image has its number.
fn token(number: usize) -> String {
    format!("glpat-Zk7Qm2Xr9Tb4Wn6Ve{number:03}")
}

/// Bytes that do not repeat and mean nothing.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// An image on a base that all have, with a layer of its own in which its token is.
fn push_image(registry: &Registry, name: &str, number: usize) {
    let base = Tar::new().file("usr/lib/base.bin", noise(1, 400_000)).file("etc/base", b"base\n").finish();
    let own = Tar::new().file("app/settings", format!("token = {}\n", token(number)).as_bytes());
    let own = own.file("app/data.bin", noise(100 + number as u64, 2_000)).finish();
    let directory = tempfile::tempdir().unwrap();
    write_directory(directory.path(), &oci(&[Layer::plain(base), Layer::plain(own)]));
    let target = format!("docker://{}/{name}", registry.host());
    copy(directory.path(), &target);
}

fn copy(layout: &Path, target: &str) {
    copy_from(&format!("oci:{}", layout.display()), target);
}

fn copy_from(source: &str, target: &str) {
    let mut command = Command::new("skopeo");
    command.args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false", source, target]);
    let output = command.output().expect("skopeo is needed: apt-get install skopeo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

pub(super) fn scanner() -> &'static Analyzer {
    static ANALYZER: OnceLock<Analyzer> = OnceLock::new();
    ANALYZER.get_or_init(|| Analyzer::new(Ruleset::built_in().unwrap(), Options::default()).unwrap())
}

/// A scanner with another layer key.
pub(super) fn other_scanner() -> Analyzer {
    let limits = Limits { layer_bytes: 1 << 30, ..Limits::default() };
    Analyzer::new(Ruleset::built_in().unwrap(), Options { limits, ..Options::default() }).unwrap()
}

/// Seconds that are added to the time: every sweep begins later than the one before.
static LATER: AtomicI64 = AtomicI64::new(0);

pub(super) fn clock() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + LATER.load(Ordering::Relaxed)
}

fn limits() -> SweepLimits {
    let expected = Expected { is_whole: true, ..Expected::default() };
    SweepLimits { threads: 2, lease: 100_000, expected, ..SweepLimits::default() }
}

fn sweep(store: &Store, host: &str, limits: &SweepLimits) -> SweepReport {
    sweep_with(scanner(), &Policy::default(), store, host, limits)
}

fn sweep_with(scanner: &Analyzer, policy: &Policy, store: &Store, host: &str, limits: &SweepLimits) -> SweepReport {
    LATER.fetch_add(10, Ordering::Relaxed);
    let registries = Registries::new(options(), None);
    let catalog = WholeRegistry::new(registry(host, options()));
    let progress = Progress::default();
    let sweep = Sweep { scanner, store, registries: &registries, policy, clock, progress: &progress };
    sweep.run("the registry", &catalog, &Filter::default(), limits).unwrap()
}

fn fingerprint(number: usize) -> String {
    scanner().fingerprint_key().fingerprint(token(number).as_bytes())
}

crate::on_both!(
    each_layer_is_read_once_and_the_second_sweep_reads_none,
    a_sweep_that_ended_early_goes_on,
    what_cannot_be_pulled_is_told_and_pulled_the_next_time,
    a_short_outage_costs_no_attempts,
    a_report_that_cannot_be_read_is_made_anew,
    an_image_that_is_blocked_is_told,
    a_tag_that_is_gone_is_marked,
    what_a_registry_does_not_show_any_more_is_not_gone,
    an_image_of_an_index_is_not_passed_over,
    nothing_to_look_at_is_no_pass,
    what_a_policy_allows_fails_no_sweep,
    what_was_read_longest_ago_is_read_first_with_new_rules,
    a_store_of_an_older_reader_is_read_again,
    an_image_without_a_whole_report_is_not_passed,
    an_image_of_an_older_store_is_scanned_again,
    images_with_gaps_are_listed_also_when_they_are_known,
);

fn each_layer_is_read_once_and_the_second_sweep_reads_none(fresh: &Fresh) {
    const IMAGES: usize = 8;
    let server = Setup::default().start();
    (0..IMAGES).for_each(|number| push_image(&server, &format!("team/app{number}:v1"), number));
    push_image(&server, "team/again:v1", 0);
    let store = fresh.open();

    let first = sweep(&store, &server.host(), &limits());
    assert!(first.problems.is_empty() && first.ended_early.is_none(), "{first:?}");
    assert_eq!((first.sums.images, first.sums.layers_read), (IMAGES as u64 + 1, IMAGES as u64 + 1));
    assert_eq!(first.verdict, Verdict::Fail);
    // Every token is new, and nothing else is.
    assert_eq!(first.news.len(), IMAGES, "{:?}", first.news);

    let second = sweep(&store, &server.host(), &limits());
    assert_eq!((second.sums.layers_read, second.news.len()), (0, 0));
    assert_eq!(second.sums.layers_known, 2 * (IMAGES as u64 + 1));
    assert_eq!((second.failing, second.verdict), (IMAGES as u64 + 1, Verdict::Fail));
    assert!(second.sums.bytes_pulled < 1_000, "only listings: {}", second.sums.bytes_pulled);
    assert!(first.sums.bytes_pulled > 400_000, "{}", first.sums.bytes_pulled);

    let trace = store.trace(&Query::Secret(fingerprint(0)), None, 10).unwrap();
    assert_eq!((trace.total, trace.is_exact), (1, true));
    let tags: Vec<_> = trace.images[0].tags.iter().map(|tag| &tag.repository.repository[..]).collect();
    assert_eq!(tags.len(), 2, "{tags:?}");
    assert!(store.trace(&Query::Secret(fingerprint(999)), None, 10).unwrap().images.is_empty());
}

fn a_sweep_that_ended_early_goes_on(fresh: &Fresh) {
    let server = Setup::default().start();
    (0..4).for_each(|number| push_image(&server, &format!("team/app{number}:v1"), number));
    let store = fresh.open();
    let first = sweep(&store, &server.host(), &SweepLimits { bytes: Some(1), ..limits() });
    assert!(first.ended_early.is_some());
    assert_ne!(first.verdict, Verdict::Pass);
    let second = sweep(&store, &server.host(), &limits());
    assert!(second.ended_early.is_none() && second.problems.is_empty(), "{second:?}");
    assert_eq!(second.failing, 4);
    assert_eq!(first.sums.layers_read + second.sums.layers_read, 5);
}

fn what_cannot_be_pulled_is_told_and_pulled_the_next_time(fresh: &Fresh) {
    let server = Setup::default().start();
    push_image(&server, "team/app:v1", 1);
    let store = fresh.open();
    let proxy = fault_proxy::start(server.port, |request, _| match request.path.contains("/blobs/") {
        true => Fault::Cut(1_000),
        false => Fault::None,
    });
    let host = format!("127.0.0.1:{}", proxy.port);
    let first = sweep(&store, &host, &SweepLimits { retry_delay: 0, ..limits() });
    // The layer of its own is small enough to come through, piece by piece.
    assert_eq!((first.sums.layers_read, first.incomplete, first.failing), (1, 1, 1), "{first:?}");
    drop(proxy);
    let second = sweep(&store, &server.host(), &limits());
    assert_eq!((second.sums.layers_read, second.incomplete, second.failing), (1, 0, 1), "{second:?}");
}

fn a_short_outage_costs_no_attempts(fresh: &Fresh) {
    let server = Setup::default().start();
    push_image(&server, "team/app:v1", 1);
    let image = registry(&server.host(), options()).manifest("team/app", &At::Tag("v1".into())).unwrap();
    let image: Value = serde_json::from_slice(&image.bytes).unwrap();
    let layers: Vec<String> =
        image["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].to_string()).collect();
    let (store, port) = (fresh.open(), server.port);
    let sweep_through = |refusals: usize, seconds: i64| {
        let layers = layers.clone();
        let proxy = fault_proxy::start(port, move |request, before| {
            let is_layer = layers.iter().any(|layer| request.path.ends_with(layer.trim_matches('"')));
            LATER.fetch_add(seconds, Ordering::Relaxed);
            if is_layer && before < refusals { Fault::Answer(Answer::new(503, "")) } else { Fault::None }
        });
        sweep(&store, &format!("127.0.0.1:{}", proxy.port), &SweepLimits { retry_delay: 0, ..limits() })
    };
    let long = sweep_through(usize::MAX, 100);
    assert_eq!((long.sums.layers_read, long.incomplete), (0, 1), "{long:?}");
    // A layer has three attempts of six requests each.
    let short = sweep_through(4 * 6, 0);
    assert_eq!((short.sums.layers_read, short.incomplete), (2, 0), "{short:?}");
}

fn a_report_that_cannot_be_read_is_made_anew(fresh: &Fresh) {
    let server = Setup::default().start();
    push_image(&server, "team/app:v1", 1);
    let store = fresh.open();
    sweep(&store, &server.host(), &limits());
    let image = registry(&server.host(), options()).manifest("team/app", &At::Tag("v1".into())).unwrap();
    let image: Value = serde_json::from_slice(&image.bytes).unwrap();
    let base: Digest = image["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let key = LayerKey::new(scanner().layer_key());
    let kept = store.layers().report(&base, &key).unwrap().unwrap();
    store.layers().forget_report(&base, &key).unwrap();
    store.layers().put_report(&LayerRecord { report: b"no report".to_vec(), ..kept }).unwrap();

    push_image(&server, "team/other:v1", 2);
    let found = sweep(&store, &server.host(), &limits());
    assert_eq!((found.sums.layers_read, found.incomplete, found.verdict), (1, 1, Verdict::Fail), "{found:?}");
    let mended = sweep(&store, &server.host(), &limits());
    assert_eq!((mended.sums.layers_read, mended.incomplete), (1, 0), "{mended:?}");
}

fn an_image_that_is_blocked_is_told(fresh: &Fresh) {
    let server = Setup::default().start();
    push_image(&server, "team/app:v1", 1);
    let proxy = fault_proxy::start(server.port, |request, _| match request.path.contains("/manifests/") {
        true => Fault::Answer(Answer::new(412, "")),
        false => Fault::None,
    });
    let outcome = sweep(&fresh.open(), &format!("127.0.0.1:{}", proxy.port), &limits());
    assert!(matches!(&outcome.problems[..], [problem] if problem.kind == SweepProblemKind::Blocked), "{outcome:?}");
    assert_eq!(outcome.verdict, Verdict::Incomplete);
}

fn a_tag_that_is_gone_is_marked(fresh: &Fresh) {
    let server = Setup::default().start();
    push_image(&server, "team/app:v1", 1);
    let store = fresh.open();
    sweep(&store, &server.host(), &limits());
    // The tag is another image now.
    push_image(&server, "team/app:v1", 2);
    sweep(&store, &server.host(), &limits());
    let trace = |number| store.trace(&Query::Secret(fingerprint(number)), None, 10).unwrap();
    assert!(trace(1).images[0].tags[0].gone_at.is_some());
    assert!(trace(2).images[0].tags[0].gone_at.is_none());
}

/// Registries show a stranger less: fewer repositories, repositories without tags, manifests that are not there.
fn what_a_registry_does_not_show_any_more_is_not_gone(fresh: &Fresh) {
    let server = Setup::default().start();
    (1..=3).for_each(|number| push_image(&server, &format!("team/app{number}:v1"), number));
    let (store, port) = (fresh.open(), server.port);
    // The registry has one name in the store, whatever it shows.
    let shown = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let showing = std::sync::Arc::clone(&shown);
    let proxy = fault_proxy::start(port, move |request, _| {
        let path = &request.path;
        let body = match showing.load(Ordering::Relaxed) {
            1 if path.contains("/_catalog") => r#"{"repositories":["team/app1"]}"#,
            2 if path.contains("/app2/tags") => r#"{"name":"team/app2","tags":[]}"#,
            3 if path.contains("/app2/tags") => r#"{"name":"team/app2","tags":["v1"]}"#,
            3 if path.contains("/app2/manifests") => {
                return Fault::Answer(Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#));
            }
            _ => return Fault::None,
        };
        Fault::Answer(Answer::new(200, body))
    });
    let host = format!("127.0.0.1:{}", proxy.port);
    assert_eq!(sweep(&store, &host, &limits()).sums.images, 3);
    let tag = |number| store.trace(&Query::Secret(fingerprint(number)), None, 10).unwrap().images[0].tags[0].clone();
    for (showing, verdict) in [(1, Verdict::Fail), (2, Verdict::Fail), (3, Verdict::Fail)] {
        shown.store(showing, Ordering::Relaxed);
        let report = sweep(&store, &host, &limits());
        assert_eq!(report.verdict, verdict, "{report:?}");
        assert!((1..=3).all(|number| tag(number).gone_at.is_none()), "showing {showing}: {report:?}");
        assert_eq!(tag(2).unseen_since.is_some(), showing < 3, "showing {showing}");
        let notes = report.listing.unwrap().notes;
        assert_eq!(notes.iter().any(|note| note.contains("team/app2")), showing == 2, "{notes:?}");
        assert_eq!(report.problems.len(), usize::from(showing == 3), "{:?}", report.problems);
    }
}

fn an_image_of_an_index_is_not_passed_over(fresh: &Fresh) {
    let server = Setup::default().start();
    let children: Vec<_> = [("amd64", "nothing of note"), ("arm64", &token(1))]
        .map(|(architecture, text)| {
            let layers = [Layer::plain(Tar::new().file("app/settings", text.as_bytes()).finish())];
            let directory = tempfile::tempdir().unwrap();
            write_directory(directory.path(), &oci(&layers));
            copy(directory.path(), &format!("docker://{}/team/app:{architecture}", server.host()));
            let manifest = bytes(&manifest(&bytes(&config(&layers)), &layers));
            let mut child = descriptor(MANIFEST, &manifest);
            // A platform that looks like an attestation's, without what makes it one.
            child["platform"] = json!({ "os": "unknown", "architecture": architecture });
            child
        })
        .into();
    server.put_manifest("team/app", "all", INDEX, &bytes(&index(&children)));
    let store = fresh.open();
    for sweeps in 0..2 {
        let outcome = sweep(&store, &server.host(), &limits());
        assert!(outcome.problems.is_empty(), "{outcome:?}");
        // Each of the two once, although it has a tag of its own as well, and the index itself.
        assert_eq!((outcome.sums.images, outcome.failing), (3, 1), "sweep {sweeps}: {outcome:?}");
    }
}

fn nothing_to_look_at_is_no_pass(fresh: &Fresh) {
    let server = Setup::default().start();
    let outcome = sweep(&fresh.open(), &server.host(), &limits());
    assert_eq!((outcome.sums.images, outcome.verdict), (0, Verdict::Incomplete));
}

fn what_a_policy_allows_fails_no_sweep(fresh: &Fresh) {
    let server = Setup::default().start();
    (0..2).for_each(|number| push_image(&server, &format!("team/app{number}:v1"), number));
    let (store, host) = (fresh.open(), server.host());
    let policy = |fingerprints: &[String]| {
        let allow = |fingerprint| {
            format!("[[allow]]\nfingerprint = \"{fingerprint}\"\nreason = \"a test\"\nexpires = 2999-01-01\n")
        };
        let text: String = fingerprints.iter().map(allow).collect();
        Policy::parse("policy.toml".as_ref(), &text, "2026-01-01".parse().unwrap()).unwrap()
    };
    let outcome = |policy: &Policy| {
        let outcome = sweep_with(scanner(), policy, &store, &host, &limits());
        (outcome.failing, outcome.verdict)
    };
    let (one, both) = (policy(&[fingerprint(0)]), policy(&[fingerprint(0), fingerprint(1)]));
    assert_eq!(outcome(&one), (1, Verdict::Fail));
    // The images are known now, and judged anew all the same.
    assert_eq!(outcome(&both), (0, Verdict::Pass));
    assert_eq!(outcome(&one), (1, Verdict::Fail));
    assert_eq!(outcome(&Policy::default()), (2, Verdict::Fail));
}

fn what_was_read_longest_ago_is_read_first_with_new_rules(fresh: &Fresh) {
    let server = Setup::default().start();
    let (store, host) = (fresh.open(), server.host());
    // The first image's layers are the oldest, though it is listed last.
    for (number, name) in [(0, "team/z"), (1, "team/b")] {
        push_image(&server, &format!("{name}:v1"), number);
        sweep(&store, &host, &limits());
    }
    push_image(&server, "team/c:v1", 2);
    let other = other_scanner();
    let nobody_reads = SweepLimits { threads: 0, time: Some(Duration::from_secs(2)), ..limits() };
    let outcome = sweep_with(&other, &Policy::default(), &store, &host, &nobody_reads);
    assert!(outcome.ended_early.is_some());
    let claimed = store.queue().claim("a test", &LayerKey::new(other.layer_key()), 9, 100_000, clock()).unwrap();
    let layers: Vec<_> = claimed.into_iter().map(|task| task.lease.layer).collect();
    let read = store.layers().last_read(&layers).unwrap();
    let times: Vec<Option<i64>> = layers.iter().map(|layer| read.get(layer).copied()).collect();
    // The base came with the first image.
    assert!(matches!(times[..], [None, Some(a), Some(b), Some(c)] if a <= b && b < c), "{times:?}");
}

/// What a reader of an earlier revision passed was read differently: layers and documents are read again.
fn a_store_of_an_older_reader_is_read_again(fresh: &Fresh) {
    let server = Setup::default().start();
    push_image(&server, "team/app:v1", 1);
    let (store, host) = (fresh.open(), server.host());
    let older = other_scanner();
    assert_ne!(older.layer_key(), scanner().layer_key());
    sweep_with(&older, &Policy::default(), &store, &host, &limits());
    // The older reader saw nothing in the image.
    let manifest = registry(&host, options()).manifest("team/app", &At::Tag("v1".into())).unwrap().digest;
    let key = LayerKey::new(older.layer_key());
    let mut passed = store.images().report(&manifest, &key).unwrap().unwrap().report;
    assert!(!passed.findings.is_empty() && passed.config_digest.is_some());
    passed.findings.clear();
    store.images().put_report(&passed, &key, None, clock()).unwrap();
    let again = sweep_with(&older, &Policy::default(), &store, &host, &limits());
    assert_eq!((again.sums.layers_read, again.verdict), (0, Verdict::Pass), "{again:?}");
    let pulled = again.sums.bytes_pulled;

    let newer = sweep(&store, &host, &limits());
    assert_eq!((newer.sums.layers_read, newer.failing, newer.verdict), (2, 1, Verdict::Fail), "{newer:?}");
    // The manifest and the configuration, too.
    assert!(newer.sums.bytes_pulled > pulled + 400_000, "{newer:?}");
    assert_eq!(sweep(&store, &host, &limits()).failing, 1);
}

fn an_image_without_a_whole_report_is_not_passed(fresh: &Fresh) {
    let server = Setup::default().start();
    push_image(&server, "team/app:v1", 1);
    let (store, host) = (fresh.open(), server.host());
    sweep(&store, &host, &limits());
    for damage in [&b"not a report"[..], &zstd::encode_all(&b"{}"[..], 3).unwrap()] {
        fresh.set_bytes("UPDATE image_reports SET report = ", damage);
        let swept = sweep(&store, &host, &limits());
        assert_eq!((swept.sums.layers_read, swept.failing, swept.verdict), (0, 1, Verdict::Fail), "{swept:?}");
        assert_eq!(fresh.count("image_reports"), 1, "it was assembled again");
    }
}

fn an_image_of_an_older_store_is_scanned_again(fresh: &Fresh) {
    fresh.fill_with_version_1();
    let server = Setup::default().start();
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/incident.tar");
    copy_from(&format!("oci-archive:{}", image.display()), &format!("docker://{}/team/incident:v1", server.host()));
    let store = fresh.open();
    assert_eq!(fresh.count("image_reports"), 0);
    let swept = sweep(&store, &server.host(), &limits());
    assert_eq!((swept.sums.layers_read, swept.failing, swept.verdict), (8, 1, Verdict::Fail), "{swept:?}");
    assert_eq!(fresh.count("image_reports"), 1);
    let again = sweep(&store, &server.host(), &limits());
    assert_eq!((again.sums.layers_read, again.failing, again.verdict), (0, 1, Verdict::Fail), "{again:?}");
}

/// An image with a file that is not read, in its second layer.
fn serve_with_a_gap() -> Server {
    let archive = [&b"7z\xbc\xaf\x27\x1c\x00\x04"[..], &noise(3, 200)].concat();
    let layer = Layer::plain(Tar::new().file("srv/data.7z", archive).finish());
    serve(&[clean_layer(), layer], |_, _, answer| answer)
}

fn images_with_gaps_are_listed_also_when_they_are_known(fresh: &Fresh) {
    let server = serve_with_a_gap();
    let store = fresh.open();
    for layers_read in [2, 0] {
        let swept = sweep(&store, &server.host(), &limits());
        assert_eq!((swept.sums.layers_read, swept.incomplete, swept.verdict), (layers_read, 1, Verdict::Incomplete));
        let [image] = &swept.incomplete_images[..] else { panic!("{swept:?}") };
        assert_eq!(image.name, format!("{}/app:v1", server.host()));
        assert!(image.manifest_digest.is_some() && image.gaps_total == 1, "{image:?}");
        let ImageGap { gap, layer } = &image.gaps[0];
        assert_eq!((gap.reason, *layer), (GapReason::UnsupportedArchive, Some(1)), "{gap:?}");
        assert!(gap.path.as_deref().is_some_and(|path| path.contains("srv/data.7z")), "{gap:?}");
    }
}

#[test]
fn the_program_names_images_with_gaps_and_why() {
    let server = serve_with_a_gap();
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.db").to_str().unwrap().to_string();
    let sweep = ["sweep", "registry", &server.host(), "--store", &store, "--plain-http", "--anonymous"];
    for known in [false, true] {
        let text = crate::support::layersift(&sweep).expect(3).stdout;
        let (_, list) = text.split_once("\nINCOMPLETE  1\n").unwrap_or_else(|| panic!("{known}: {text}"));
        for part in ["/app:v1", "unsupported-archive", "srv/data.7z", "layer 1"] {
            assert!(list.contains(part), "{known}: {part}: {text}");
        }
        let json = crate::support::layersift(&[&sweep[..], &["--format", "json"]].concat()).expect(3).json();
        let image = &json["incomplete_images"][0];
        assert_eq!(image["image"], json!(format!("{}/app:v1", server.host())));
        assert_eq!((&image["gaps"][0]["reason"], &image["gaps_total"]), (&json!("unsupported-archive"), &json!(1)));
        assert!(json["not_looked_at"].as_array().is_some_and(Vec::is_empty), "{json}");
    }
}

#[test]
fn the_program_sweeps_a_list_and_traces() {
    let server = Setup::default().start();
    push_image(&server, "team/app:v1", 7);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_string();
    let (list, store) = (path("images"), path("store.db"));
    std::fs::write(&list, format!("# what to sweep\n{0}/team/app:v1\n{0}/team/none:v1\n", server.host())).unwrap();
    assert!(ImageList::read(Path::new(&list)).is_ok());

    let sweep = ["sweep", "list", &list, "--store", &store, "--plain-http", "--anonymous"];
    let run = crate::support::layersift(&[&sweep[..], &["--format", "json"]].concat()).expect(1);
    let report = run.json();
    assert_eq!((report["images"].as_u64(), report["layers_read"].as_u64()), (Some(1), Some(2)));
    assert_eq!(report["new"].as_array().map(Vec::len), Some(1));
    assert_eq!(report["not_looked_at"].as_array().map(Vec::len), Some(1));
    assert!(!run.stdout.contains(&token(7)));

    let from_input = ["trace", "-", "--store", &store];
    let run = crate::support::layersift_with_input(&from_input, format!("{}\n", token(7)).into_bytes()).expect(0);
    assert!(run.stdout.contains("team/app:v1") && run.stdout.contains("app/settings"), "{}", run.stdout);
    assert!(!run.stdout.contains(&token(7)), "{}", run.stdout);
    crate::support::layersift_with_input(&from_input, b"another".to_vec()).expect(1);
    let run = crate::support::layersift(&["trace", "/app/settings", "--store", &store, "--format", "dot"]).expect(0);
    assert!(run.stdout.starts_with("digraph") && run.stdout.contains("team/app:v1"), "{}", run.stdout);

    // What a sweep has read, a scan need not read again; and the store holds no secret.
    let target = format!("docker://{}/team/app:v1", server.host());
    let scan = ["scan", &target, "--plain-http", "--store", &store, "--format", "json", "--reproducible"];
    let (with, without) = (crate::support::layersift(&scan).expect(1), [&scan[..3], &scan[5..]].concat());
    assert_eq!(with.json()["findings"], crate::support::layersift(&without).expect(1).json()["findings"]);
    // The stored report is rendered by the image's name, without the image.
    let name = format!("{}/team/app:v1", server.host());
    let render = crate::support::layersift(&["render", &name, "--store", &store, "--format", "json"]).expect(1);
    assert_eq!(render.json()["findings"], with.json()["findings"]);
    let unknown = format!("{}/team/app:v2", server.host());
    let render = crate::support::layersift(&["render", &unknown, "--store", &store]).expect(2);
    assert!(render.stderr.contains("scan it with --store first"), "{}", render.stderr);
    for file in ["store.db", "store.db-wal"] {
        let bytes = std::fs::read(path(file)).unwrap_or_default();
        assert!(memchr::memmem::find(&bytes, token(7).as_bytes()).is_none(), "{file}");
    }
}
