//! Signals and timeouts: a worker gives its layers back, a sweep writes what it has, a scan reports what it did not
//! read.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::fault_proxy::{self, Fault};
use crate::support::image::{Layer, digest, oci, write_directory};
use crate::support::registry::{Registry, Setup};
use crate::support::server::Server;
use crate::support::tar::Tar;
use crate::support::{DEADLINE, Fresh};
use layersift_model::LayerKey;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};
use serde_json::Value;

const SIGTERM: i32 = 15;

/// A made-up token.
const TOKEN: &str = "glpat-Zk7Qm2Xr9Tb4Wn6Ve001";

/// A registry with one image, behind a proxy that does `fault` to its layer.
struct SlowRegistry {
    _registry: Registry,
    proxy: Server,
}

impl SlowRegistry {
    fn start(fault: Fault) -> SlowRegistry {
        let registry = Setup::default().start();
        let text = format!("token = {TOKEN}\n{}", "a line\n".repeat(4_000));
        let layer = Layer::plain(Tar::new().file("app/settings", text.as_bytes()).finish());
        let blob = digest(&layer.blob);
        let directory = tempfile::tempdir().unwrap();
        write_directory(directory.path(), &oci(&[layer]));
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]);
        command.arg(format!("oci:{}", directory.path().display()));
        command.arg(format!("docker://{}/team/app:v1", registry.host()));
        assert!(command.status().expect("skopeo is needed: apt-get install skopeo").success());
        let proxy =
            fault_proxy::start(
                registry.port,
                move |request, _| {
                    if request.path.ends_with(&blob) { fault.clone() } else { Fault::None }
                },
            );
        SlowRegistry { _registry: registry, proxy }
    }
}

/// A program that is running, and the store that it uses.
struct Running {
    child: Child,
    fresh: Fresh,
    key: LayerKey,
}

impl Running {
    fn start(fresh: Fresh, arguments: &[&str]) -> Running {
        let mut command = crate::support::program();
        command.args(arguments).args(["--store", &fresh.text, "--plain-http", "--anonymous", "--lease=100000"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let key = LayerKey::new(Analyzer::new(Ruleset::built_in().unwrap(), Options::default()).unwrap().layer_key());
        Running { child, fresh, key }
    }

    /// Waits until as many layers are queued, and as many are leased.
    fn wait_for(&self, queued: u64, leased: u64) {
        let (store, started) = (self.fresh.open(), Instant::now());
        loop {
            let counts = store.queue().counts(&self.key).unwrap();
            if (counts.queued, counts.leased) == (queued, leased) {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "{counts:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn terminate(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end: exit status, standard output and standard error.
    fn end(&mut self) -> (Option<i32>, String, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < DEADLINE, "the program does not end");
            thread::sleep(Duration::from_millis(20));
        };
        let (mut out, mut error) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        (status.code(), out, error)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Queues the layer of `registry` for workers.
fn queue(fresh: &Fresh, registry: &SlowRegistry) {
    let host = registry.proxy.host();
    let sweep = ["sweep", "registry", &host, "--store", &fresh.text, "--pulls=0", "--max-time=1s"];
    crate::support::layersift(&[&sweep[..], &["--plain-http", "--anonymous"]].concat()).expect(3);
}

fn messages(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| Some(line["message"].as_str()?.to_string())).collect()
}

#[test]
fn a_worker_gives_its_layer_back() {
    let registry = SlowRegistry::start(Fault::Drip(Duration::from_millis(20)));
    for fresh in [Fresh::sqlite(), Fresh::postgres()] {
        queue(&fresh, &registry);
        let mut worker = Running::start(fresh, &["worker"]);
        worker.wait_for(0, 1);
        worker.terminate();
        let (code, out, error) = worker.end();
        assert_eq!((code, &out[..]), (Some(0), ""), "{error}");
        worker.wait_for(1, 0);
        let messages = messages(&error);
        for expected in ["worker started", "reading layer", "layer given back", "worker ended"] {
            assert!(messages.iter().any(|message| message == expected), "{error}");
        }
        assert!(!error.contains(TOKEN), "{error}");
    }
}

#[test]
fn a_layer_is_given_back_while_a_registry_is_silent_and_a_second_signal_ends_at_once() {
    let registry = SlowRegistry::start(Fault::Silence(1_000));
    let fresh = Fresh::sqlite();
    queue(&fresh, &registry);
    let mut worker = Running::start(fresh, &["worker"]);
    worker.wait_for(0, 1);
    worker.terminate();
    worker.wait_for(1, 0);
    // It may have ended by itself.
    if worker.child.try_wait().unwrap().is_none() {
        worker.terminate();
    }
    let (code, _, error) = worker.end();
    assert!([Some(0), Some(128 + SIGTERM)].contains(&code), "{code:?} {error}");
}

#[test]
fn a_sweep_writes_what_it_has() {
    let registry = SlowRegistry::start(Fault::Drip(Duration::from_millis(20)));
    let host = registry.proxy.host();
    let mut sweep = Running::start(Fresh::sqlite(), &["sweep", "registry", &host, "--format=json"]);
    sweep.wait_for(0, 1);
    sweep.terminate();
    let (code, out, error) = sweep.end();
    assert_eq!(code, Some(3), "{error}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&report["ended_early"], &report["images"]), (&"it was terminated".into(), &1.into()), "{report}");
    sweep.wait_for(1, 0);
}

#[test]
fn a_layer_that_takes_too_long_is_an_attempt() {
    let registry = SlowRegistry::start(Fault::Drip(Duration::from_millis(20)));
    let fresh = Fresh::sqlite();
    let host = registry.proxy.host();
    let sweep = ["sweep", "registry", &host, "--store", &fresh.text, "--plain-http", "--anonymous"];
    let run = crate::support::layersift(&[&sweep[..], &["--timeout=1s", "--max-time=8s", "-v"]].concat()).expect(3);
    assert!(run.stderr.contains("layer not read") && run.stderr.contains("deadline exceeded"), "{}", run.stderr);
}

#[test]
fn a_scan_that_takes_too_long_reports_what_it_did_not_read() {
    let registry = SlowRegistry::start(Fault::Drip(Duration::from_millis(20)));
    let image = format!("docker://{}/team/app:v1", registry.proxy.host());
    let scan = ["scan", &image, "--plain-http", "--anonymous", "--timeout=1s", "--format=json"];
    let report = crate::support::layersift(&scan).expect(3).json();
    assert_eq!(report["gaps"][0]["reason"], "deadline-exceeded", "{report}");
    assert_eq!(report["verdict"], "incomplete");
}
