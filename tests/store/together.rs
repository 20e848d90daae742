//! Several programs on one store: sweeps, a worker, traces, and a reader of another kind. None fails, and the store is
//! the one that they fill one after the other.
//!
//! `LAYERSIFT_TOGETHER_SECONDS=600 cargo test --release --test store -- together --nocapture` takes longer.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::many::{self, IMAGES, TOKENS};
use crate::support::{DEADLINE, Fresh};

crate::on_both!(programs_at_once_fill_the_store_as_one_does, many_programs_start_on_a_new_store);

/// What has to be the same, without numbers and times of one store.
const TABLES: [&str; 10] = [
    "SELECT digest, diff_id, blob_bytes FROM layers",
    "SELECT l.digest, bytes, r.blob_bytes FROM layer_reports r JOIN layers l ON l.id = r.layer_id",
    "SELECT manifest_digest, config_digest, platform, layers_count FROM images",
    "SELECT i.manifest_digest, position, l.digest, n.created_by FROM image_layers il \
     JOIN images i ON i.id = il.image_id JOIN layers l ON l.id = il.layer_id \
     LEFT JOIN instructions n ON n.id = il.instruction_id",
    "SELECT r.repository, t.tag, t.digest, i.manifest_digest, t.gone_at FROM tags t \
     JOIN repositories r ON r.id = t.repository_id JOIN images i ON i.id = t.image_id",
    "SELECT l.digest, finding_id, path, inside, config, state, fingerprint, masked, length, shared, excepted \
     FROM findings f LEFT JOIN layers l ON l.id = f.layer_id",
    "SELECT i.manifest_digest, f.finding_id, position, x.state, ended_position FROM image_findings x \
     JOIN images i ON i.id = x.image_id JOIN findings f ON f.id = x.finding",
    "SELECT i.manifest_digest, critical, high, medium, low, info, gaps, unread FROM image_counts c \
     JOIN images i ON i.id = c.image_id",
    "SELECT thing, target, announced FROM sightings",
    "SELECT state, max(attempts), count(*) FROM jobs GROUP BY state",
];

fn dump(fresh: &Fresh) -> Vec<Vec<String>> {
    TABLES.iter().map(|sql| fresh.rows(sql)).collect()
}

fn start(arguments: &[&str]) -> Child {
    let mut command = crate::support::program();
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A worker that a failing test does not leave behind.
struct Worker(Option<Child>);

impl Worker {
    /// Tells it to end, and waits.
    fn end(mut self) {
        let child = self.0.take().unwrap();
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        end("the worker", child, 0);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for a program that has to end with `code` and to log nothing but that it was told to end.
fn end(name: &str, child: Child, code: i32) -> String {
    const TOLD: &str = "warning: ending after a signal; a second one ends at once\n";
    let output = crate::support::output_of(child);
    let error = String::from_utf8_lossy(&output.stderr).replace(TOLD, "");
    assert_eq!((output.status.code(), &error[..]), (Some(code), ""), "{name}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn sweep<'a>(host: &'a str, store: &'a str) -> Vec<&'a str> {
    let mut sweep = vec!["sweep", "registry", host, "--store", store, "--plain-http", "--anonymous", "--quiet"];
    sweep.extend(["--format=json", "--threads=1"]);
    sweep
}

/// Reads the store as programs of others do, until `sweeps` have ended. How often it was read.
fn read_while(fresh: &Fresh, sweeps: &mut [Child]) -> usize {
    let trace = ["trace", "app/settings-5", "--store", &fresh.text, "--format=json"];
    let mut reads = 0;
    let started = Instant::now();
    while sweeps.iter_mut().any(|sweep| sweep.try_wait().unwrap().is_none()) {
        assert!(started.elapsed() < DEADLINE, "a sweep does not end");
        let traced = crate::support::layersift(&trace);
        // The finding may not be there yet, and at first there is no store.
        assert!([Some(0), Some(1)].contains(&traced.code) || traced.stderr.contains("there is no store"), "{traced:?}");
        if fresh.is_file() {
            let mut sqlite = Command::new("sqlite3");
            sqlite.args(["-cmd", ".timeout 60000", &fresh.text, "PRAGMA integrity_check"]);
            let output = sqlite.output().expect("sqlite3 is needed: apt-get install sqlite3");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.trim() == "ok", "{output:?}");
        } else if traced.code == Some(0) {
            fresh.rows(TABLES[5]);
        }
        reads += 1;
    }
    reads
}

fn programs_at_once_fill_the_store_as_one_does(fresh: &Fresh) {
    let seconds = std::env::var("LAYERSIFT_TOGETHER_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let time = Duration::from_secs(seconds.unwrap_or(0));
    let registry = many::serve(Duration::from_millis(2));
    let host = registry.host();
    let alone = fresh.another();
    end("alone", start(&sweep(&host, &alone.text)), 1);
    let expected = dump(&alone);
    let (started, mut rounds, mut reads) = (Instant::now(), 0, 0);
    while rounds < 2 || started.elapsed() < time {
        let store = fresh.another();
        let run = sweep(&host, &store.text);
        let mut sweeps: Vec<Child> = (0..2 + rounds % 2).map(|_| start(&run)).collect();
        let worker = ["worker", "--store", &store.text, "--plain-http", "--anonymous", "--quiet", "--threads=1"];
        let worker = Worker(Some(start(&worker)));
        reads += read_while(&store, &mut sweeps);
        let mut news = 0;
        for sweep in sweeps {
            let report: serde_json::Value = serde_json::from_str(&end("a sweep", sweep, 1)).unwrap();
            // Each image has two tags, and counts once.
            assert_eq!((&report["images"], &report["failing"]), (&IMAGES.into(), &IMAGES.into()));
            news += report["new"].as_array().unwrap().len();
        }
        assert_eq!(news, TOKENS, "everything is announced, and once");
        worker.end();
        for (table, (found, expected)) in TABLES.iter().zip(dump(&store).iter().zip(&expected)) {
            assert_eq!(found, expected, "round {rounds}: {table}");
        }
        rounds += 1;
    }
    println!("{rounds} rounds, {reads} reads, no difference, in {:?}", started.elapsed());
}

fn many_programs_start_on_a_new_store(fresh: &Fresh) {
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "# nothing\n").unwrap();
    for _ in 0..4 {
        let store = fresh.another();
        let sweep = ["sweep", "list", list.path().to_str().unwrap(), "--store", &store.text, "--quiet"];
        let sweeps: Vec<Child> = (0..6).map(|_| start(&sweep)).collect();
        for sweep in sweeps {
            end("a sweep of nothing", sweep, 3);
        }
        assert_eq!(store.count("runs"), 6);
        if store.is_file() {
            let directory = std::path::Path::new(&store.text).parent().unwrap();
            let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
            assert_eq!(names.collect::<Vec<_>>(), ["store.db"], "nothing is left beside the store");
        }
    }
}

#[test]
fn locks_are_kept_when_the_store_is_opened_again() {
    let fresh = Fresh::sqlite();
    let store = fresh.open();
    store.queue().enqueue(&crate::support::records::key(), &[], 1).unwrap();
    let wal = format!("{}-wal", fresh.text);
    for _ in 0..3 {
        drop(fresh.open());
        // The last program to close the file removes the log; with the locks gone, any would be the last.
        let mut sqlite = Command::new("sqlite3");
        let status = sqlite.args([&fresh.text, "SELECT count(*) FROM jobs"]).stdout(Stdio::null()).status();
        assert!(status.expect("sqlite3 is needed: apt-get install sqlite3").success());
        assert!(std::path::Path::new(&wal).exists());
    }
}
