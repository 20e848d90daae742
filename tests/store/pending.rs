//! Images that wait for their layers: they have a share of the memory of the process, and a sweep plans only as many as
//! fit.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::Fresh;
use crate::support::image::{Layer, MANIFEST, bytes, config, digest, manifest};
use crate::support::pull::{options, registry};
use crate::support::server::{Answer, Server};
use crate::support::tar::Tar;
use layersift_fleet::{Expected, Progress, Registries, Sweep, SweepLimits};
use layersift_model::Verdict;
use layersift_report::Policy;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, MemoryBudget, Options};
use layersift_source::catalog::{Filter, WholeRegistry};
use serde_json::json;

/// The images, and the bytes of each configuration.
const IMAGES: usize = 40;

/// The memory of the process. What waits has an eighth.
const MEMORY: u64 = 64 << 20;

/// A registry whose only layer is not served until nobody asks for a configuration any more; and how many were asked
/// for until then. Each configuration has a number of labels of the same length.
fn served(labels: usize, length: usize) -> (Server, Arc<Mutex<Option<usize>>>) {
    let layer = Layer::plain(Tar::new().file("motd", "hello\n").finish());
    let layers = std::slice::from_ref(&layer);
    let (mut configs, mut manifests) = (BTreeMap::new(), BTreeMap::new());
    for number in 0..IMAGES {
        let mut config = config(layers);
        let labels = (0..labels).map(|label| (format!("l{label}"), json!("x".repeat(length))));
        config["config"]["Labels"] = json!(labels.collect::<serde_json::Map<_, _>>());
        config["author"] = json!(number.to_string());
        let config = bytes(&config);
        manifests.insert(format!("app{number}"), bytes(&manifest(&config, layers)));
        configs.insert(digest(&config), config);
    }
    let (asked, waited) = (Mutex::new(HashSet::new()), Arc::new(Mutex::new(None)));
    let counted = Arc::clone(&waited);
    let server = Server::answering(move |request, _| {
        let path = request.path.split('?').next().unwrap_or_default();
        if path == "/v2/_catalog" {
            let names: Vec<&String> = manifests.keys().collect();
            return Answer::new(200, json!({ "repositories": names }).to_string());
        }
        let path = path.strip_prefix("/v2/").unwrap_or_default();
        if let Some((name, _)) = path.split_once("/tags/") {
            return Answer::new(200, json!({ "name": name, "tags": ["v1"] }).to_string());
        }
        if let Some(manifest) = path.split_once("/manifests/").and_then(|(name, _)| manifests.get(name)) {
            let answer = Answer::new(200, manifest.clone()).with("Content-Type", MANIFEST);
            return answer.with("Docker-Content-Digest", &digest(manifest));
        }
        let Some((_, wanted)) = path.split_once("/blobs/") else { return Answer::new(404, "{}") };
        if let Some(config) = configs.get(wanted) {
            asked.lock().unwrap().insert(wanted.to_string());
            return Answer::new(200, config.clone()).with("Content-Type", "application/octet-stream");
        }
        let mut counted = counted.lock().unwrap();
        if counted.is_none() {
            let mut last = usize::MAX;
            while last != asked.lock().unwrap().len() {
                last = asked.lock().unwrap().len();
                std::thread::sleep(Duration::from_millis(1_500));
            }
            *counted = Some(last);
        }
        Answer::new(200, layer.blob.clone()).with("Content-Type", "application/octet-stream")
    });
    (server, waited)
}

/// How many images were planned while the first layer was read. All are scanned in the end, with this verdict.
fn planned(labels: usize, length: usize, verdict: Verdict) -> usize {
    let (server, waited) = served(labels, length);
    let options_of_scan = Options { memory: MemoryBudget::new(MEMORY), ..Options::default() };
    let scanner = Analyzer::new(Ruleset::built_in().unwrap(), options_of_scan).unwrap();
    let fresh = Fresh::sqlite();
    let store = fresh.open();
    let registries = Registries::new(options(), None);
    let catalog = WholeRegistry::new(registry(&server.host(), options()));
    let progress = Progress::default();
    let clock = || 1_000;
    let policy = Policy::default();
    let sweep = Sweep {
        scanner: &scanner,
        store: &store,
        registries: &registries,
        policy: &policy,
        clock,
        progress: &progress,
    };
    let expected = Expected { is_whole: true, ..Expected::default() };
    let limits = SweepLimits { threads: 2, lease: 100_000, expected, with_referrers: false, ..SweepLimits::default() };
    let report = sweep.run("the registry", &catalog, &Filter::default(), &limits).unwrap();
    assert_eq!((report.sums.images, report.verdict), (IMAGES as u64, verdict), "{:?}", report.problems);
    assert_eq!(report.problems_total, 0, "{:?}", report.problems);
    assert_eq!(scanner.memory().used(), 0);
    waited.lock().unwrap().unwrap()
}

#[test]
fn images_wait_for_their_layers_in_a_share_of_the_memory() {
    let planned = |thousands| planned(thousands, 1_000, Verdict::Pass);
    assert_eq!(planned(10), IMAGES);
    // Eight mebibytes of configurations, and one that each of the threads has read.
    let some = planned(800);
    assert!((8..=20).contains(&some), "{some}");
    // What takes much is not kept until there is room, and planned again then.
    let few = planned(3_000);
    assert!((2..=12).contains(&few), "{few}");
}

#[test]
fn configurations_with_too_many_values_do_not_wait() {
    // Scanning one as a file takes memory beside what reading it took, for several at once.
    assert_eq!(planned(60_000, 1, Verdict::Incomplete), IMAGES);
}
