//! What a service keeps, on SQLite and on PostgreSQL: since when it answers by a key, what it was asked about, and
//! which process does what only one is to do.

use std::process::{Command, Stdio};

use crate::support::Fresh;
use crate::support::postgres::Server;
use crate::support::records::*;
use layersift_model::LayerKey;
use layersift_store::{AskedImage, RequestClass, RequestLimits, ScanRequest, Store, StoreError};

crate::on_both!(
    the_last_time_of_a_key_counts,
    what_was_asked_about_is_noted_once,
    many_images_are_noted_at_once,
    what_waits_for_a_new_key_is_listed,
    one_process_leads,
    a_dead_process_does_not_lead,
);

/// Any time.
const NOW: i64 = 1_700_000_000;

fn asked(name: &str, key: Option<LayerKey>) -> AskedImage {
    let digest = digest(name);
    AskedImage { reference: format!("registry.test/{name}@{digest}"), digest, key }
}

/// The names of the images that were not answered by a report under `key`, at the time [`NOW`].
fn waiting(store: &Store, key: &LayerKey, since: i64, limit: u64) -> Vec<String> {
    let images = store.service().asked_before(key, since, limit, &RequestLimits::default(), NOW).unwrap();
    let name = |image: AskedImage| image.reference.split(['/', '@']).nth(1).unwrap().to_string();
    images.into_iter().map(name).collect()
}

fn the_last_time_of_a_key_counts(fresh: &Fresh) {
    let store = fresh.open();
    let service = store.service();
    assert!(service.served_keys().unwrap().is_empty());
    service.serve_key(&other_key(), 20).unwrap();
    service.serve_key(&key(), 10).unwrap();
    service.serve_key(&other_key(), 5).unwrap();
    assert_eq!(service.served_keys().unwrap(), [(other_key(), 20), (key(), 10)]);
    let error = service.serve_key(&LayerKey::new("k".repeat(513)), 1).unwrap_err();
    assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    service.ping().unwrap();
}

fn what_was_asked_about_is_noted_once(fresh: &Fresh) {
    let store = fresh.open();
    let note = |images: &[AskedImage], now| store.service().note_asked(images, now).unwrap();
    let rows = || {
        fresh.rows("SELECT a.last_asked, k.digest FROM asked_images a LEFT JOIN layer_keys k ON k.id = a.layer_key_id")
    };
    note(&[], 1);
    note(&[asked("app", None)], 20);
    assert_eq!(rows(), ["20|NULL"]);
    note(&[asked("app", None), asked("app", Some(key())), asked("app", None)], 30);
    assert_eq!(rows(), ["30|sha256:key-1"]);
    note(&[asked("app", None)], 10);
    assert_eq!(rows(), ["30|sha256:key-1"], "the time only grows, and the key stays");
    note(&[asked("app", Some(other_key()))], 31);
    assert_eq!(rows(), ["31|sha256:key-2"]);
    let long = AskedImage { reference: "r".repeat(513), ..asked("b", None) };
    let error = store.service().note_asked(&[asked("b", None), long], 40).unwrap_err();
    assert!(matches!(error, StoreError::Invalid { .. }), "{error:?}");
    assert_eq!(rows().len(), 1, "nothing of it");
}

fn many_images_are_noted_at_once(fresh: &Fresh) {
    let store = fresh.open();
    let images: Vec<AskedImage> = (0..1_500).map(|number| asked(&format!("{number}"), Some(key()))).collect();
    let backwards: Vec<AskedImage> = images.iter().rev().cloned().collect();
    std::thread::scope(|scope| {
        for images in [&images, &backwards, &images] {
            scope.spawn(|| store.service().note_asked(images, 10).unwrap());
        }
    });
    assert_eq!(fresh.count("asked_images"), 1_500);
}

fn what_waits_for_a_new_key_is_listed(fresh: &Fresh) {
    let store = fresh.open();
    let note = |name: &str, key, now| store.service().note_asked(&[asked(name, key)], now).unwrap();
    note("old", Some(other_key()), NOW - 30);
    note("new", Some(key()), NOW - 20);
    note("none", None, NOW - 10);
    note("long-ago", None, NOW - 9_000);
    assert_eq!(waiting(&store, &key(), NOW - 100, 10), ["none", "old"], "those asked about last come first");
    assert_eq!(waiting(&store, &key(), NOW - 100, 1), ["none"]);
    assert_eq!(waiting(&store, &key(), 0, 10), ["none", "old", "long-ago"]);
    assert_eq!(waiting(&store, &other_key(), NOW - 20, 10), ["none", "new"]);

    let queue = store.scan_requests();
    let AskedImage { reference, digest, .. } = asked("none", None);
    let request = ScanRequest { reference, digest, class: RequestClass::Background, client: "rescan".into() };
    let submit = || queue.submit(&request, &key(), false, &RequestLimits::default(), NOW).unwrap();
    submit();
    assert_eq!(waiting(&store, &key(), NOW - 100, 10), ["old"], "it is queued");
    let claimed = queue.claim(30, NOW).unwrap().unwrap();
    assert_eq!(waiting(&store, &key(), NOW - 100, 10), ["old"], "it is being scanned");
    queue.fail(&claimed, ("failed", "out of reach"), false, 60, NOW).unwrap();
    assert_eq!(waiting(&store, &key(), NOW - 100, 10), ["old"], "it failed a moment ago");
    fresh.execute(&format!("UPDATE scan_requests SET not_before = {NOW} - 1"));
    assert_eq!(waiting(&store, &key(), NOW - 100, 10), ["none", "old"], "it may be tried again");
    fresh.execute(&format!("UPDATE scan_requests SET not_before = {NOW} + 61"));
    assert_eq!(waiting(&store, &key(), NOW - 100, 10), ["none", "old"], "a clock was wrong");
    submit();
    let claimed = queue.claim(30, NOW).unwrap().unwrap();
    queue.finish(&claimed, &key(), NOW).unwrap();
    assert_eq!(waiting(&store, &key(), NOW - 100, 10), ["old"], "it was scanned under this key");
    assert_eq!(waiting(&store, &other_key(), NOW - 10, 10), ["none"], "and not under that one");
    // There may be no report although it was scanned: it is not scanned over and over.
    note("none", Some(other_key()), NOW);
    assert_eq!(waiting(&store, &key(), NOW - 100, 10), ["old"]);
}

fn one_process_leads(fresh: &Fresh) {
    let store = fresh.open();
    let lead = |name: &str, now| store.service().lead(name, 30, now).unwrap();
    let take_away =
        || fresh.execute("UPDATE service_leases SET process = 'elsewhere/' || process WHERE name = 'rescan'");
    assert!(lead("rescan", NOW) && lead("rescan", NOW + 10) && lead("prune", NOW));
    take_away();
    assert!(!lead("rescan", NOW + 11) && !lead("rescan", NOW + 39));
    store.service().resign("rescan").unwrap();
    assert!(!lead("rescan", NOW + 39), "only its own process gives it back");
    assert!(lead("prune", NOW + 39));
    assert!(lead("rescan", NOW + 40), "it ran out");
    take_away();
    assert!(!lead("rescan", NOW + 20), "a clock that is a little late takes nothing");
    assert!(lead("rescan", NOW - 9_000), "a clock was wrong");
    take_away();
    fresh.execute("UPDATE service_leases SET process = substr(process, 11)");
    store.service().resign("rescan").unwrap();
    assert_eq!(fresh.count("service_leases"), 1);
    // Many at once, of which each could have it.
    take_away();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(lead("rescan", NOW)));
        }
    });
}

/// Not a test of its own: takes a lease for the one below, and ends.
#[test]
#[ignore = "run by a_dead_process_does_not_lead"]
fn lead_and_wait() {
    let Ok(text) = std::env::var("LAYERSIFT_TEST_STORE") else { return };
    println!("leads {}", Store::open(&text).unwrap().service().lead("rescan", 100_000, NOW).unwrap());
    std::thread::sleep(crate::support::DEADLINE);
}

fn a_dead_process_does_not_lead(fresh: &Fresh) {
    use std::io::{BufRead, BufReader};
    let store = fresh.open();
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "service::lead_and_wait", "--ignored", "--nocapture"]);
    let mut child = test.env("LAYERSIFT_TEST_STORE", &fresh.text).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("leads true")));
    assert!(!store.service().lead("rescan", 30, NOW + 1).unwrap(), "it lives");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(store.service().lead("rescan", 30, NOW + 2).unwrap());
}

#[test]
fn a_ping_waits_for_no_server() {
    let server = Server::start();
    let store = Store::open(server.url()).unwrap();
    store.service().ping().unwrap();
    server.stop("fast");
    let error = store.service().ping().unwrap_err();
    assert!(matches!(error, StoreError::Database { .. }), "{error:?}");
    server.start_again();
    store.service().ping().unwrap();
}
