//! Stores that somebody else wrote, with more in them than fits in memory.

use std::process::Command;

use crate::support::records::*;
use crate::support::{Fresh, layersift};
use layersift_model::Finding;
use layersift_store::{LayerRecord, Query, Store, StoreError};

crate::on_both!(
    what_is_too_large_is_an_error,
    an_answer_that_is_too_large_is_an_error,
    places_are_named_as_long_as_there_is_room,
    of_very_many_places_the_first_are_named,
    a_very_long_text_is_shortened,
);

/// Runs statements with more in them than the program lets SQLite have, which counts the memory of a process: in a
/// process of its own.
fn execute(fresh: &Fresh, sql: &str) {
    if !fresh.is_file() {
        return fresh.execute(sql);
    }
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "much::execute_in_file", "--ignored"]).envs([(FILE, fresh.text.as_str()), (SQL, sql)]);
    let done = test.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

/// What the test below is told.
const FILE: &str = "LAYERSIFT_TEST_FILE";
const SQL: &str = "LAYERSIFT_TEST_SQL";

/// Not a test of its own: what `execute` runs.
#[test]
#[ignore = "run by other tests"]
fn execute_in_file() {
    let (Ok(file), Ok(sql)) = (std::env::var(FILE), std::env::var(SQL)) else { return };
    rusqlite::Connection::open(file).unwrap().execute_batch(&sql).unwrap();
}

/// An expression for a text of `mebibytes`.
fn text(fresh: &Fresh, mebibytes: usize) -> String {
    match fresh.is_file() {
        true => format!("hex(zeroblob({}))", mebibytes << 19),
        false => format!("repeat('0', {})", mebibytes << 20),
    }
}

/// An expression for bytes.
fn bytes(fresh: &Fresh, mebibytes: usize) -> String {
    match fresh.is_file() {
        true => format!("zeroblob({})", mebibytes << 20),
        false => format!("decode(repeat('00', {}), 'hex')", mebibytes << 20),
    }
}

/// A query for the numbers below `end` as `n`.
fn numbers(fresh: &Fresh, end: usize) -> String {
    match fresh.is_file() {
        true => format!(
            "(WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {}) SELECT n FROM n) AS n",
            end - 1
        ),
        false => format!("(SELECT generate_series(0, {}) AS n) AS n", end - 1),
    }
}

fn assert_too_large(error: &StoreError, fresh: &Fresh, most: &str) {
    let said = error.to_string();
    assert!(matches!(error, StoreError::Damaged { .. }), "{said}");
    assert!(!fresh.is_file() || said.contains(&fresh.text), "{said}");
    assert!(said.contains("too large") && said.contains(most) && said.contains("use another store"), "{said}");
    assert!(said.len() < 1000, "{said}");
}

fn one() -> Query {
    Query::Secret(fingerprint("one"))
}

fn what_is_too_large_is_an_error(fresh: &Fresh) {
    put(&fresh.open(), "a", &["base"], &[secret("base", 0, "f", "one")]);
    for (column, most, value) in
        [("rules SET title", "24 MiB", text(fresh, 25)), ("images SET platform", "24 MiB", text(fresh, 25))]
    {
        execute(fresh, &format!("UPDATE {column} = {value}"));
        assert_too_large(&fresh.open().trace(&one(), None, 10).unwrap_err(), fresh, most);
        let run = layersift(&["trace", &fingerprint("one"), "--store", &fresh.text]).expect(2);
        assert!(run.stderr.contains("too large"), "{}", run.stderr);
    }
    execute(
        fresh,
        &format!("UPDATE images SET platform = NULL; UPDATE image_reports SET report = {}", bytes(fresh, 70)),
    );
    assert_too_large(&fresh.open().images().report(&digest("a"), &key()).unwrap_err(), fresh, "65 MiB");
    let image = digest("a").to_string();
    let run = layersift(&["render", &image, "--store", &fresh.text]).expect(2);
    assert!(run.stderr.contains("65 MiB"), "{}", run.stderr);
}

fn an_answer_that_is_too_large_is_an_error(fresh: &Fresh) {
    let store = fresh.open();
    let image = put(&store, "a", &["one", "two", "three", "four"], &[]);
    assert_eq!(store.images().layers(image).unwrap().len(), 4);
    execute(fresh, &format!("UPDATE instructions SET created_by = {}", text(fresh, 20)));
    assert_too_large(&store.images().layers(image).unwrap_err(), fresh, "65 MiB");
    // The connection is as good as before.
    execute(fresh, "UPDATE instructions SET created_by = 'RUN'");
    assert_eq!(store.images().layers(image).unwrap().len(), 4);
}

fn places_are_named_as_long_as_there_is_room(fresh: &Fresh) {
    let store = fresh.open();
    let leaks: Vec<Finding> = (0..45).map(|n| secret("base", 0, &format!("f{n}"), "one")).collect();
    put(&store, "a", &["base"], &leaks);
    put(&store, "b", &["base", "own"], &leaks);
    execute(fresh, &format!("UPDATE findings SET path = {} || path", text(fresh, 1)));
    let found = store.trace(&one(), None, 10).unwrap();
    let named: Vec<usize> = found.images.iter().map(|image| image.places.len()).collect();
    assert!((20..45).contains(&named[0]) && named[1] == 0, "{named:?}");
    assert!(found.images.iter().all(|image| image.places_total == 45));
    assert!(found.is_exact && found.places_are_complete);
    let run = layersift(&["trace", &fingerprint("one"), "--store", &fresh.text]).expect(0);
    assert!(run.stdout.contains(&format!("… and {} more places", 45 - named[0])), "{}", run.stdout.len());
    assert!(run.stdout.contains("… and 45 more places"), "{}", run.stdout.len());
}

fn of_very_many_places_the_first_are_named(fresh: &Fresh) {
    let store = fresh.open();
    put(&store, "a", &["base"], &[secret("base", 0, "f", "one")]);
    let columns = "layer_key_id, layer_id, rule_id, state, fingerprint, masked, length, shared, first_seen";
    execute(
        fresh,
        &format!(
            "INSERT INTO findings (finding_id, path, {columns}) \
         SELECT 'more' || n, 'g' || (10000000 + n) || substr({long}, 1, 5000), {columns} FROM findings, {numbers}",
            long = text(fresh, 1),
            numbers = numbers(fresh, 30_000),
        ),
    );
    let found = store.trace(&one(), None, 10).unwrap();
    let image = &found.images[0];
    assert_eq!((found.total, image.places.len(), image.places_total), (1, 50, 20_000));
    assert!(!found.places_are_complete);
    let path = |at: usize| image.places[at].finding.as_ref().unwrap().path.clone().unwrap();
    assert_eq!(path(0), "f");
    assert!(path(1).starts_with("g10000000000") && path(1).len() == 5009, "{}", path(1));
    assert!(path(49).starts_with("g1000004800"), "{}", path(49));
    let page = store.images().findings(image_id(&store), &key()).unwrap();
    assert!(!page.is_complete && page.items.len() > 1_000, "{}", page.items.len());
}

fn image_id(store: &Store) -> layersift_store::ImageId {
    store.images().find(&digest("a")).unwrap().unwrap().id
}

#[test]
fn the_largest_value_is_written_and_read() {
    the_largest_value(&Fresh::postgres());
    // SQLite counts the memory of all connections of a process.
    let mut test = Command::new(std::env::current_exe().unwrap());
    let done = test.args(["--exact", "much::the_largest_value_in_a_file", "--ignored"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

/// Not a test of its own: what the one above runs in a process of its own.
#[test]
#[ignore = "run by the_largest_value_is_written_and_read"]
fn the_largest_value_in_a_file() {
    the_largest_value(&Fresh::sqlite());
}

fn the_largest_value(fresh: &Fresh) {
    let store = fresh.open();
    let record = |bytes: usize| LayerRecord { report: vec![7; bytes], ..layer_report("a", &key(), 1) };
    let error = store.layers().put_report(&record((64 << 20) + 1)).unwrap_err();
    assert!(matches!(&error, StoreError::Invalid { .. }) && error.to_string().contains("64 MiB"), "{error}");
    assert_eq!(store.layers().report(&digest("a"), &key()).unwrap(), None);
    store.layers().put_report(&record(64 << 20)).unwrap();
    let read = store.layers().report(&digest("a"), &key()).unwrap().unwrap();
    assert!(read.report == record(64 << 20).report);
}

fn a_very_long_text_is_shortened(fresh: &Fresh) {
    let store = fresh.open();
    let mut report = image_report("a", &["one", "two"], &[secret("one", 0, "f", "one")]);
    for layer in &mut report.layers {
        layer.created_by = Some("é".repeat(13 << 20));
    }
    for _ in 0..2 {
        store.images().put_report(&report, &key(), None, 10).unwrap();
    }
    assert_eq!(fresh.count("instructions"), 1);
    let found = store.trace(&one(), None, 10).unwrap();
    let layer = found.images[0].places[0].layer.clone().unwrap();
    assert_eq!(layer.created_by.unwrap().len(), 1 << 20);
    assert_eq!(store.images().report(&digest("a"), &key()).unwrap().unwrap().report, report);
}
