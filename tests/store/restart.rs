//! A PostgreSQL server that restarts, and connections that break: what is written, is written once.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Fresh;
use crate::support::many::{self, TOKENS};
use crate::support::postgres::Server;
use crate::support::records::*;
use layersift_store::{Job, Store, StoreError, StoreOptions};

fn sweep(fresh: &Fresh, host: &str, arguments: &[&str]) -> Child {
    let mut command = crate::support::program();
    command.args(["sweep", "registry", host, "--store", &fresh.text, "--plain-http", "--anonymous"]);
    command.args(["--quiet", "--format=json"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits until the store has some reports of layers, and not all.
fn wait_for_reports(fresh: &Fresh) {
    let started = Instant::now();
    while fresh.count("layer_reports") < 2 {
        assert!(started.elapsed() < crate::support::DEADLINE, "nothing is read");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_restart_of_the_server_is_waited_for() {
    let (server, registry) = (Server::start(), many::serve(Duration::from_millis(150)));
    let fresh = Fresh::at(server.url());
    drop(fresh.open());
    let sweeping = sweep(&fresh, &registry.host(), &["--pulls=2"]);
    wait_for_reports(&fresh);
    for mode in ["fast", "immediate"] {
        server.stop(mode);
        thread::sleep(Duration::from_millis(700));
        server.start_again();
        thread::sleep(Duration::from_millis(300));
    }
    let output = crate::support::output_of(sweeping);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("store out of reach"), "{error}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["new"].as_array().map(Vec::len), Some(TOKENS), "{report}");
    assert_eq!((&report["ended_early"], &report["incomplete"]), (&serde_json::Value::Null, &0.into()), "{report}");
    assert_eq!(fresh.rows("SELECT state, max(attempts) FROM jobs GROUP BY state"), ["done|1"]);
}

#[test]
fn an_outage_that_is_longer_than_the_time_limit_is_an_error() {
    let (server, registry) = (Server::start(), many::serve(Duration::from_millis(150)));
    let fresh = Fresh::at(server.url());
    drop(fresh.open());
    let sweeping = sweep(&fresh, &registry.host(), &["--pulls=2", "--timeout=2s"]);
    wait_for_reports(&fresh);
    server.stop("fast");
    let output = crate::support::output_of(sweeping);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("cannot read or write the store"), "{error}");
}

#[test]
fn a_wait_ends_when_it_is_cancelled() {
    let server = Server::start();
    let options = StoreOptions { cancelled: Some(Arc::new(|| true)), ..StoreOptions::default() };
    let store = Store::open_with(server.url(), options).unwrap();
    store.layers().put_report(&layer_report("a", &key(), 1)).unwrap();
    server.stop("fast");
    let error = store.layers().put_report(&layer_report("b", &key(), 1)).unwrap_err();
    assert!(matches!(error, StoreError::Database { .. }), "{error:?}");
    server.start_again();
    store.layers().put_report(&layer_report("b", &key(), 1)).unwrap();
}

/// What a connection does with its next commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    /// It breaks before the server has it.
    Before,
    /// It breaks before the client has the answer.
    After,
}

/// A proxy for the socket in `server`. It breaks the connection at the commit with the number `at`.
fn proxy(server: &Path, directory: &Path, at: usize, how: Break) {
    const SOCKET: &str = ".s.PGSQL.5432";
    let listener = UnixListener::bind(directory.join(SOCKET)).unwrap();
    let (server, commits) = (server.join(SOCKET), Arc::new(AtomicUsize::new(0)));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), UnixStream::connect(&server).unwrap());
            let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut answers, &mut back));
            let commits = Arc::clone(&commits);
            thread::spawn(move || forward(client, server, &commits, at, how));
        }
    });
}

fn forward(mut client: UnixStream, mut server: UnixStream, commits: &AtomicUsize, at: usize, how: Break) {
    let mut buffer = [0; 1 << 16];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        let message = &buffer[..length];
        let is_commit = memchr::memmem::find(message, b"; COMMIT").is_some();
        if is_commit && commits.fetch_add(1, Ordering::SeqCst) == at {
            let _ = client.shutdown(std::net::Shutdown::Both);
            if how == Break::After {
                server.write_all(message).unwrap();
                thread::sleep(Duration::from_millis(300));
            }
            let _ = server.shutdown(std::net::Shutdown::Both);
            return;
        }
        if server.write_all(message).is_err() {
            return;
        }
    }
}

#[test]
fn a_commit_whose_answer_is_lost_happens_once() {
    for how in [Break::Before, Break::After] {
        // The commits: of the layers that are queued, of the claim, of the result, of the run.
        for at in 0..4 {
            let server = Server::start();
            let fresh = Fresh::at(server.url());
            drop(fresh.open());
            let directory = tempfile::tempdir().unwrap();
            proxy(server.directory(), directory.path(), at, how);
            let host = directory.path().to_str().unwrap().replace('/', "%2F");
            let store = Store::open(format!("postgres://layersift@{host}/postgres")).unwrap();
            let jobs: Vec<Job> =
                ["a", "b"].map(|layer| Job { layer: digest(layer), size: 1, priority: 0, source: "s".into() }).into();
            assert_eq!(store.queue().enqueue(&key(), &jobs, 1).unwrap(), 2, "{how:?} {at}");
            let tasks = store.queue().claim("w", &key(), 1, 60, 2).unwrap();
            assert_eq!(fresh.rows("SELECT state, claims FROM jobs"), ["leased|1", "queued|0"], "{how:?} {at}");
            let lease = &tasks[0].lease;
            let name = if lease.layer == digest("a") { "a" } else { "b" };
            assert!(store.queue().finish(lease, &layer_report(name, &key(), 3)).unwrap(), "{how:?} {at}");
            store.runs().start("t", &key(), 4).unwrap();
            assert_eq!((fresh.count("runs"), fresh.count("layer_reports")), (1, 1), "{how:?} {at}");
        }
    }
}
