//! Images of many small layers that take much work: a sweep reads as many of them as a scan does, whoever reads them
//! and however often it is interrupted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::support::Fresh;
use crate::support::image::{INDEX, Layer, MANIFEST, bytes, config, descriptor, digest, index, manifest};
use crate::support::pull::{options, registry};
use crate::support::server::{Answer, Server};
use crate::support::tar::{Tar, gzip};
use layersift_fleet::{Progress, Registries, Sweep, SweepLimits};
use layersift_format::Cancellation;
use layersift_model::{Digest, GapReason, ImageReport, LayerKey, Limits, SweepProblemKind, SweepReport, Verdict};
use layersift_report::Policy;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use layersift_source::catalog::{Filter, WholeRegistry};
use layersift_store::Store;
use serde_json::json;

crate::on_both!(
    an_image_of_many_bombs_is_read_as_far_as_by_a_scan,
    a_sweep_that_is_interrupted_reads_no_more,
    an_index_of_many_bombs_is_one_target,
    ordinary_layers_are_all_read,
);

/// The bombs that are read of an image: those before the last take as much as all may, and not more.
const READ: usize = 9;

/// What one bomb takes at most.
const WORK: u64 = 100_000;

fn scanner() -> Analyzer {
    let target_work = WORK * (READ as u64 - 1);
    let limits = Limits { layer_work: WORK, layer_work_per_byte: 100, target_work, ..Limits::default() };
    Analyzer::new(Ruleset::built_in().unwrap(), Options { limits, ..Options::default() }).unwrap()
}

/// A layer of a few hundred bytes that takes more work than it may.
fn bomb(number: usize) -> Layer {
    let tar = Tar::new().file(&format!("bomb-{number}"), vec![b'a'; 200_000]).finish();
    Layer::stored(&tar, gzip(&tar), "+gzip")
}

/// A layer that takes no more work than its bytes permit.
fn ordinary(number: usize) -> Layer {
    Layer::plain(Tar::new().file(&format!("file-{number}"), format!("line {number}\n").repeat(100)).finish())
}

/// A registry.
#[derive(Default)]
struct Served {
    /// The manifests and indexes by the names of repositories and by digest, with their media types.
    manifests: BTreeMap<String, (Vec<u8>, &'static str)>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// The layers that were asked for.
    asked: Arc<Mutex<Vec<String>>>,
    /// Is cancelled when a number of layers were asked for.
    ends: Option<(usize, Cancellation)>,
}

impl Served {
    /// Adds an image. Returns its manifest.
    fn image(&mut self, name: &str, layers: &[Layer]) -> Vec<u8> {
        let mut config = config(layers);
        config["author"] = json!(name);
        let config = bytes(&config);
        let manifest = bytes(&manifest(&config, layers));
        for key in [name.to_string(), digest(&manifest)] {
            self.manifests.insert(key, (manifest.clone(), MANIFEST));
        }
        self.blobs.insert(digest(&config), config);
        self.blobs.extend(layers.iter().map(|layer| (digest(&layer.blob), layer.blob.clone())));
        manifest
    }

    fn index(&mut self, name: &str, images: &[Vec<u8>]) {
        let entries: Vec<_> = images.iter().map(|manifest| descriptor(MANIFEST, manifest)).collect();
        self.manifests.insert(name.into(), (bytes(&index(&entries)), INDEX));
    }

    fn start(self) -> Server {
        let Served { manifests, blobs, asked, ends } = self;
        Server::answering(move |request, _| {
            let path = request.path.split('?').next().unwrap_or_default();
            if path == "/v2/_catalog" {
                let names: Vec<&String> = manifests.keys().filter(|name| !name.contains(':')).collect();
                return Answer::new(200, json!({ "repositories": names }).to_string());
            }
            let path = path.strip_prefix("/v2/").unwrap_or_default();
            if let Some((name, _)) = path.split_once("/tags/") {
                return Answer::new(200, json!({ "name": name, "tags": ["v1"] }).to_string());
            }
            if let Some((name, wanted)) = path.split_once("/manifests/") {
                let found = manifests.get(wanted).or_else(|| manifests.get(name));
                let Some((manifest, media_type)) = found else { return Answer::new(404, "{}") };
                let answer = Answer::new(200, manifest.clone()).with("Content-Type", media_type);
                return answer.with("Docker-Content-Digest", &digest(manifest));
            }
            let wanted = path.split_once("/blobs/").map(|(_, wanted)| wanted).unwrap_or_default();
            let Some(blob) = blobs.get(wanted) else { return Answer::new(404, "{}") };
            if !blob.starts_with(b"{") {
                let mut asked = asked.lock().unwrap();
                asked.push(wanted.into());
                if let Some((_, cancellation)) = ends.as_ref().filter(|(most, _)| asked.len() == *most) {
                    cancellation.cancel();
                }
            }
            Answer::new(200, blob.clone()).with("Content-Type", "application/octet-stream")
        })
    }
}

fn sweep(scanner: &Analyzer, store: &Store, host: &str, cancellation: &Cancellation) -> SweepReport {
    let (registries, progress) = (Registries::new(options(), None), Progress::default());
    let catalog = WholeRegistry::new(registry(host, options()));
    let policy = Policy::default();
    let clock = || 1_000;
    let sweep = Sweep { scanner, store, registries: &registries, policy: &policy, clock, progress: &progress };
    let limits = SweepLimits {
        threads: 4,
        lease: 100_000,
        with_referrers: false,
        cancellation: cancellation.clone(),
        ..SweepLimits::default()
    };
    sweep.run("the registry", &catalog, &Filter::default(), &limits).unwrap()
}

fn report_of(store: &Store, scanner: &Analyzer, manifest: &[u8]) -> Option<ImageReport> {
    let (manifest, key) = (digest(manifest).parse::<Digest>().unwrap(), LayerKey::new(scanner.layer_key()));
    store.images().report(&manifest, &key).unwrap().map(|stored| stored.report)
}

/// The layers of a report that were not read because of those before them.
fn left_out(report: &ImageReport) -> usize {
    let is_left_out = |gap: &&layersift_model::ImageGap| {
        gap.gap.reason == GapReason::LayerTooLarge && gap.gap.detail.ends_with("this one was not read")
    };
    report.gaps.iter().filter(is_left_out).count()
}

fn an_image_of_many_bombs_is_read_as_far_as_by_a_scan(fresh: &Fresh) {
    let (scanner, store, mut served) = (scanner(), fresh.open(), Served::default());
    let asked = Arc::clone(&served.asked);
    let layers: Vec<Layer> = (0..100).map(bomb).collect();
    let manifest = served.image("bombs", &layers);
    // The largest come first. Whoever has others has them read.
    let mut sorted = layers.clone();
    sorted.sort_by_key(|layer| (std::cmp::Reverse(layer.blob.len()), digest(&layer.blob)));
    let other = served.image("others", &sorted[97..]);
    let server = served.start();
    let never = Cancellation::never();
    let first = sweep(&scanner, &store, &server.host(), &never);
    assert_eq!((first.sums.layers_read, first.verdict), (READ as u64 + 3, Verdict::Incomplete), "{first:?}");
    let report = report_of(&store, &scanner, &manifest).unwrap();
    assert_eq!(left_out(&report), 100 - READ);
    assert_eq!(report.layers.iter().filter(|layer| layer.is_read).count(), READ);
    let mut expected: Vec<String> =
        sorted[..READ].iter().chain(&sorted[97..]).map(|layer| digest(&layer.blob)).collect();
    expected.sort_unstable();
    asked.lock().unwrap().sort_unstable();
    assert_eq!(*asked.lock().unwrap(), expected);
    assert_eq!(left_out(&report_of(&store, &scanner, &other).unwrap()), 0);

    let second = sweep(&scanner, &store, &server.host(), &never);
    assert_eq!((second.sums.layers_read, second.verdict), (0, Verdict::Incomplete), "{second:?}");
}

fn a_sweep_that_is_interrupted_reads_no_more(fresh: &Fresh) {
    let (scanner, store, mut served) = (scanner(), fresh.open(), Served::default());
    let layers: Vec<Layer> = (0..30).map(bomb).collect();
    let manifest = served.image("bombs", &layers);
    let ended = Cancellation::never().child();
    served.ends = Some((4, ended.clone()));
    let server = served.start();
    let first = sweep(&scanner, &store, &server.host(), &ended);
    assert!(first.ended_early.is_some() && first.sums.layers_read < READ as u64, "{first:?}");
    assert!(report_of(&store, &scanner, &manifest).is_none());
    let second = sweep(&scanner, &store, &server.host(), &Cancellation::never());
    assert_eq!(second.sums.layers_read + first.sums.layers_read, READ as u64, "{second:?}");
    assert_eq!((fresh.count("layer_reports"), fresh.count("jobs")), (READ as i64, READ as i64));
    assert_eq!(left_out(&report_of(&store, &scanner, &manifest).unwrap()), 30 - READ);
}

fn an_index_of_many_bombs_is_one_target(fresh: &Fresh) {
    let (scanner, store, mut served) = (scanner(), fresh.open(), Served::default());
    let bombs = |numbers: std::ops::Range<usize>| numbers.map(bomb).collect::<Vec<_>>();
    let images: Vec<Vec<u8>> = (0..20).map(|number| served.image("all", &bombs(number * 5..number * 5 + 5))).collect();
    served.index("all", &images);
    let server = served.start();
    let never = Cancellation::never();
    let first = sweep(&scanner, &store, &server.host(), &never);
    // The first took half, and the second less than the other half.
    assert_eq!((first.sums.layers_read, first.verdict), (10, Verdict::Incomplete), "{first:?}");
    assert_eq!(first.problems_total, 18, "{:?}", first.problems);
    let is_told = |problem: &layersift_model::SweepProblem| {
        problem.kind == SweepProblemKind::Image
            && problem.reason.ends_with("it was not read")
            && !problem.name.is_empty()
    };
    assert!(first.problems.iter().all(is_told), "{:?}", first.problems);
    for (number, manifest) in images.iter().enumerate() {
        let report = report_of(&store, &scanner, manifest);
        assert_eq!(report.map(|report| left_out(&report)), (number < 2).then_some(0), "{number}");
    }
    let second = sweep(&scanner, &store, &server.host(), &never);
    assert_eq!((second.sums.layers_read, second.problems_total), (0, 18), "{second:?}");
}

fn ordinary_layers_are_all_read(fresh: &Fresh) {
    let (scanner, store, mut served) = (scanner(), fresh.open(), Served::default());
    let images: Vec<Vec<u8>> = (0..3)
        .map(|image| served.image("all", &(image * 40..image * 40 + 50).map(ordinary).collect::<Vec<_>>()))
        .collect();
    served.index("all", &images);
    let server = served.start();
    let swept = sweep(&scanner, &store, &server.host(), &Cancellation::never());
    assert_eq!((swept.sums.layers_read, swept.problems_total), (130, 0), "{swept:?}");
    for manifest in &images {
        let report = report_of(&store, &scanner, manifest).unwrap();
        assert!(report.gaps.is_empty() && report.layers.iter().all(|layer| layer.is_read), "{:?}", report.gaps);
    }
}
