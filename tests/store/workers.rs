//! Workers that are killed: whatever dies, in the end every layer has one result, and it is the one of a calm run.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Fresh;
use crate::support::fault_proxy::{self, Fault};
use crate::support::image::{Layer, digest, oci, write_directory};
use crate::support::registry::{Registry, Setup};
use crate::support::tar::Tar;
use layersift_model::{Digest, LayerKey, LayerReport};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use layersift_store::Store;

const IMAGES: usize = 7;
/// More than are queued at a time.
const LAYERS: usize = 12;
const WORKERS: usize = 4;
const KILLS: usize = 30;

/// A layer with a made-up token in it.
fn layer(number: usize) -> Layer {
    let text = format!("token = glpat-Zk7Qm2Xr9Tb4Wn6Ve{number:03}\n{}", format!("line {number}\n").repeat(400));
    Layer::plain(Tar::new().file(&format!("app/settings-{number}"), text.as_bytes()).finish())
}

/// Pushes images without a layer in common; the digests of all layers.
fn fill(registry: &Registry) -> Vec<Digest> {
    let mut digests = Vec::new();
    for image in 0..IMAGES {
        let layers: Vec<Layer> = (0..LAYERS).map(|number| layer(image * LAYERS + number)).collect();
        digests.extend(layers.iter().map(|layer| digest(&layer.blob).parse::<Digest>().unwrap()));
        let directory = tempfile::tempdir().unwrap();
        write_directory(directory.path(), &oci(&layers));
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]);
        command.arg(format!("oci:{}", directory.path().display()));
        command.arg(format!("docker://{}/team/app{image}:v1", registry.host()));
        assert!(command.status().expect("skopeo is needed: apt-get install skopeo").success());
    }
    digests
}

fn start(arguments: &[&str]) -> Child {
    let mut command = crate::support::program();
    command.args(arguments).args(["--plain-http", "--anonymous"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What the store has of each layer, in a form that is the same for the same findings.
fn results(store: &Store, key: &LayerKey, layers: &[Digest]) -> BTreeMap<String, String> {
    let text = |layer: &Digest| {
        let record = store.layers().report(layer, key).unwrap().unwrap_or_else(|| panic!("no report of {layer}"));
        let report = LayerReport::from_kept(&record.report).unwrap();
        let LayerReport { blob, diff_id, bytes, entries, files, findings, gaps, .. } = report;
        (layer.to_string(), format!("{blob} {diff_id} {bytes} {entries} {files} {findings:?} {gaps:?}"))
    };
    layers.iter().map(text).collect()
}

#[test]
fn a_job_that_is_gone_is_queued_again() {
    let registry = crate::support::many::serve(Duration::ZERO);
    for fresh in [Fresh::sqlite(), Fresh::postgres()] {
        drop(fresh.open());
        let mut sweeping = start(&["sweep", "registry", &registry.host(), "--store", &fresh.text, "--pulls=0"]);
        let started = Instant::now();
        while fresh.count("jobs") < 24 {
            assert!(started.elapsed() < crate::support::DEADLINE, "nothing is queued");
            thread::sleep(Duration::from_millis(20));
        }
        // As after a crash of a server that does not keep what it has committed.
        fresh.execute("DELETE FROM job_sources; DELETE FROM jobs");
        let mut worker = start(&["worker", "--store", &fresh.text]);
        let status = loop {
            if let Some(status) = sweeping.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < crate::support::DEADLINE, "the sweep does not end");
            thread::sleep(Duration::from_millis(20));
        };
        worker.kill().unwrap();
        worker.wait().unwrap();
        assert_eq!(status.code(), Some(1));
    }
}

#[test]
fn workers_that_are_killed_lose_nothing() {
    let registry = Setup::default().start();
    let layers = fill(&registry);
    let key = LayerKey::new(Analyzer::new(Ruleset::built_in().unwrap(), Options::default()).unwrap().layer_key());

    let calm = Fresh::sqlite();
    let sweep = ["sweep", "registry", &registry.host(), "--store", &calm.text, "--plain-http", "--anonymous"];
    crate::support::layersift(&sweep).expect(1);
    let expected = results(&calm.open(), &key, &layers);

    // Every blob takes a while, so that workers die in the middle of one.
    let slow = fault_proxy::start(registry.port, |request, _| match request.path.contains("/blobs/") {
        true => Fault::Drip(Duration::from_micros(50)),
        false => Fault::None,
    });
    let fresh = Fresh::postgres();
    let host = format!("127.0.0.1:{}", slow.port);
    let worker = ["worker", "--store", &fresh.text, "--pulls=1", "--lease=2"];
    let mut workers: Vec<Child> = (0..WORKERS).map(|_| start(&worker)).collect();
    let sweep = ["sweep", "registry", &host, "--store", &fresh.text, "--pulls=0", "--lease=2", "--quiet"];
    let mut sweeping = start(&sweep);
    let started = Instant::now();
    for kill in 0..KILLS {
        thread::sleep(Duration::from_millis(150 + 97 * (kill as u64 % 5)));
        let victim = &mut workers[kill % WORKERS];
        victim.kill().unwrap();
        victim.wait().unwrap();
        *victim = start(&worker);
    }
    let status = loop {
        if let Some(status) = sweeping.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < crate::support::DEADLINE, "the sweep does not end");
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(1));
    for mut worker in workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    // A layer whose workers died three times was set aside; the next sweep takes it up again.
    let sweep = ["sweep", "registry", &registry.host(), "--store", &fresh.text, "--plain-http", "--anonymous"];
    crate::support::layersift(&sweep).expect(1);
    assert_eq!(results(&fresh.open(), &key, &layers), expected);
}
