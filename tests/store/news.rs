//! What is new is announced once: also what a sweep found that was killed before it could say so.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Fresh;
use crate::support::many::{self, TOKENS};
use crate::support::records::*;
use crate::support::server::Server;
use layersift_store::{RunId, RunStatus, Scope, Store};

crate::on_both!(
    what_a_dead_run_found_is_announced_by_the_next,
    what_a_run_that_is_alive_found_is_left_to_it,
    what_was_adopted_is_not_announced_twice,
    what_did_not_fit_into_a_report_is_announced_by_the_next,
    a_sweep_that_is_killed_loses_no_news,
    a_report_that_could_not_be_written_is_announced_again,
);

const TARGET: &str = "registry.test";

fn start(store: &Store, now: i64) -> RunId {
    let run = store.runs().start(TARGET, &key(), now).unwrap();
    store.runs().renew(run, 60, now).unwrap();
    run
}

/// The run comes across an image with this secret.
fn find(store: &Store, run: RunId, name: &str) {
    let report = image_report(name, &[name], &[secret(name, 0, "f", name)]);
    store.images().put_report(&report, &key(), Some(run), 1).unwrap();
}

/// The run ends, and these are its news.
fn news(store: &Store, run: RunId, now: i64) -> Vec<String> {
    store.runs().adopt(run, now).unwrap();
    let page = store.runs().news(run, Scope::Target, 10).unwrap();
    assert!(page.is_complete);
    page.items.into_iter().map(|news| news.thing).collect()
}

fn things(names: &[&str]) -> Vec<String> {
    let mut things: Vec<String> = names.iter().map(|name| fingerprint(name)).collect();
    things.sort_unstable();
    things
}

fn what_a_dead_run_found_is_announced_by_the_next(fresh: &Fresh) {
    let store = fresh.open();
    let dead = start(&store, 100);
    find(&store, dead, "one");
    find(&store, dead, "two");
    // Somebody sweeps something else in the meantime.
    let other = store.runs().start("other.test", &key(), 200).unwrap();
    assert!(news(&store, other, 1_000).is_empty());

    let next = start(&store, 1_000);
    find(&store, next, "two");
    find(&store, next, "three");
    assert_eq!(news(&store, next, 1_001), things(&["one", "two", "three"]));
    // It is killed, too, before the report is written.
    let third = start(&store, 2_000);
    assert_eq!(news(&store, third, 2_001), things(&["one", "two", "three"]));
    store.runs().announce(third, None).unwrap();
    assert_eq!(news(&store, third, 2_002), things(&["one", "two", "three"]), "what it said stays known");
    let last = start(&store, 3_000);
    assert!(news(&store, last, 3_001).is_empty());
}

fn what_a_run_that_is_alive_found_is_left_to_it(fresh: &Fresh) {
    let store = fresh.open();
    let (slow, quick) = (start(&store, 100), start(&store, 100));
    find(&store, slow, "one");
    find(&store, quick, "one");
    find(&store, quick, "two");
    store.runs().renew(slow, 60, 140).unwrap();
    assert_eq!(news(&store, quick, 190), things(&["two"]));
    store.runs().announce(quick, None).unwrap();
    // A run that has ended announces nothing before its report is written.
    store.runs().update(slow, &layersift_model::SweepSums::default(), RunStatus::Done, 191).unwrap();
    let third = start(&store, 191);
    assert!(news(&store, third, 192).is_empty());
    assert_eq!(news(&store, slow, 193), things(&["one"]));
    store.runs().announce(slow, None).unwrap();
    assert!(news(&store, third, 999).is_empty());
}

fn what_was_adopted_is_not_announced_twice(fresh: &Fresh) {
    let store = fresh.open();
    let stalled = start(&store, 100);
    find(&store, stalled, "one");
    let next = start(&store, 1_000);
    assert_eq!(news(&store, next, 1_001), things(&["one"]));
    // The first run was stopped, and goes on.
    store.runs().renew(stalled, 60, 1_001).unwrap();
    find(&store, stalled, "two");
    assert_eq!(news(&store, stalled, 1_002), things(&["two"]));
    store.runs().announce(stalled, None).unwrap();
    store.runs().announce(next, None).unwrap();
    // A lease that a clock ten years ahead gave holds nothing back.
    let ahead = start(&store, 400_000_000);
    find(&store, ahead, "three");
    assert_eq!(news(&store, start(&store, 2_000), 2_001), things(&["three"]));
}

fn what_did_not_fit_into_a_report_is_announced_by_the_next(fresh: &Fresh) {
    let store = fresh.open();
    let names = ["one", "two", "three", "four"];
    let first = start(&store, 100);
    names.iter().for_each(|name| find(&store, first, name));
    let page = store.runs().news(first, Scope::Target, 3).unwrap();
    assert!(!page.is_complete);
    let said: Vec<String> = page.items.into_iter().map(|news| news.thing).collect();
    store.runs().announce(first, said.last().map(String::as_str)).unwrap();
    let next = start(&store, 101);
    let rest = news(&store, next, 102);
    assert_eq!([said, rest].concat(), things(&names));
}

/// Starts a sweep that writes its report to `report`.
fn sweep(fresh: &Fresh, host: &str, report: &str) -> Child {
    let mut command = crate::support::program();
    command.args(["sweep", "registry", host, "--store", &fresh.text, "--plain-http", "--anonymous", "--quiet"]);
    command.args(["--format=json", "--output", report]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// How many things the next sweep says are new, and its exit status.
fn next(fresh: &Fresh, host: &str) -> usize {
    let sweep = ["sweep", "registry", host, "--store", &fresh.text, "--plain-http", "--anonymous", "--format=json"];
    let report = crate::support::layersift(&sweep).expect(1).json();
    report["new"].as_array().unwrap().len()
}

fn a_sweep_that_is_killed_loses_no_news(fresh: &Fresh) {
    let server: Server = many::serve(Duration::from_millis(30));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    drop(fresh.open());
    let mut killed = sweep(fresh, &server.host(), file.to_str().unwrap());
    let started = Instant::now();
    while fresh.count("sightings") < 3 {
        assert!(started.elapsed() < crate::support::DEADLINE, "nothing is found");
        thread::sleep(Duration::from_millis(5));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!file.exists(), "it was too quick for this test");
    // Its lease on the layers that it read holds for half a minute, and nobody waits for it.
    let begun = Instant::now();
    assert_eq!(next(fresh, &server.host()), TOKENS);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert_eq!(next(fresh, &server.host()), 0);
}

fn a_report_that_could_not_be_written_is_announced_again(fresh: &Fresh) {
    let server = many::serve(Duration::ZERO);
    let status = sweep(fresh, &server.host(), "/nowhere/report.json").wait().unwrap();
    assert_eq!(status.code(), Some(2));
    assert_eq!(next(fresh, &server.host()), TOKENS);
    assert_eq!(next(fresh, &server.host()), 0);
}
