//! Opening a store: where it is, how old its schema is, and what is said when it cannot be opened.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::Fresh;
use crate::support::records::*;
use layersift_store::{Store, StoreError};

crate::on_both!(a_newer_store_is_refused, many_open_a_new_store_at_once, a_store_is_shared_by_threads);

fn a_newer_store_is_refused(fresh: &Fresh) {
    drop(fresh.open());
    let sql = "INSERT INTO schema_versions (version) VALUES (99)";
    if fresh.text.starts_with("postgres:") {
        ::postgres::Client::connect(&fresh.text, ::postgres::NoTls).unwrap().batch_execute(sql).unwrap();
    } else {
        rusqlite::Connection::open(&fresh.text).unwrap().execute_batch(sql).unwrap();
    }
    let error = Store::open(&fresh.text).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, known: 9, .. }), "{error:?}");
    assert!(error.to_string().contains("use the newer layersift that wrote it"), "{error}");
}

fn many_open_a_new_store_at_once(fresh: &Fresh) {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                fresh.open().layers().put_report(&layer_report(&number.to_string(), &key(), 1)).unwrap()
            });
        }
    });
    let layers: Vec<_> = (0..8).map(|number| digest(&number.to_string())).collect();
    assert_eq!(fresh.open().layers().with_reports(&layers, &key()).unwrap().len(), 8);
}

fn a_store_is_shared_by_threads(fresh: &Fresh) {
    let store = fresh.open();
    // The same layers in all orders, by more threads than there are connections.
    std::thread::scope(|scope| {
        for worker in 0..20 {
            let store = &store;
            scope.spawn(move || {
                let mut names: Vec<String> = (0..6).map(|number| format!("layer {number}")).collect();
                names.rotate_left(worker % 6);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let findings: Vec<_> = (0..6).map(|at| secret(names[at], at, "f", names[at])).collect();
                put(store, &format!("image {worker}"), &names, &findings);
            });
        }
    });
    for name in ["layer 0", "layer 5"] {
        let query = layersift_store::Query::Secret(fingerprint(name));
        let found = store.trace(&query, None, 100).unwrap();
        assert_eq!((found.total, found.images.iter().map(|image| image.places.len()).sum::<usize>()), (20, 20));
    }
}

#[test]
fn a_password_is_never_shown() {
    let word = "hunter-two";
    let urls = [
        format!("postgres://me:{word}@127.0.0.1:1/db"),
        format!("postgresql://me:{word}@127.0.0.1:1/db?sslmode=disable&connect_timeout=1"),
        format!("postgres://me@127.0.0.1:1/db?password={word}"),
        format!("postgres://me:{word}@127.0.0.1:x/db"),
        format!("postgres://me:{word}@127.0.0.1:1/db?nonsense={word}"),
        format!("postgres://me:a/{word}@127.0.0.1:1/db"),
        format!("postgres://me:a@{word}@127.0.0.1:1/db"),
        format!("postgres://me:a?{word}@127.0.0.1:1/db"),
        format!("postgres://me:a?x={word}@127.0.0.1:1/db"),
        format!("postgres://me:{word}"),
        format!("mysql://me:{word}@127.0.0.1/db"),
        // Names of files, which are addresses that were misspelled.
        format!("postgres:/me:{word}@127.0.0.1/db"),
        format!("postgres:/me:a:{word}@127.0.0.1/db"),
        format!("postgresql+x://me:{word}@127.0.0.1/db"),
        format!("POSTGRES:/me:{word}@127.0.0.1/db"),
        format!("me:{word}@127.0.0.1/db"),
        format!("host=127.0.0.1 password={word}"),
        format!("password = {word}"),
    ];
    for url in urls {
        let error = Store::open(&url).unwrap_err();
        let said = format!("{} {error:?}", chain(&error));
        assert!(!said.contains(word) && !said.contains("hunter"), "{said}");
        assert!(!std::path::Path::new(&url).exists(), "{said}");
    }
    let error = Store::open("postgres://me:hunter-two@127.0.0.1:1/db").unwrap_err();
    let said = chain(&error);
    assert!(said.starts_with("cannot open the store postgres://me:****@127.0.0.1:1/db: "), "{said}");
    assert!(said.contains("refused"), "{said}");
}

/// An error and its sources, as the program prints them.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn an_invalid_store_is_named_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("text");
    std::fs::write(&file, "This is no database, and it is longer than a header of one would be.".repeat(20)).unwrap();
    let missing = directory.path().join("none/none/store.db");
    for (text, reason) in [
        ("", "empty name"),
        ("redis://host", "unsupported scheme `redis`"),
        ("postgres://", "missing host"),
        ("postgres://host/db?sslmode=sometimes", "sslmode"),
        ("postgres://127.0.0.1:1/db?sslrootcert=/nowhere/ca.pem", "sslrootcert=/nowhere/ca.pem"),
        (file.to_str().unwrap(), "not a database"),
        (missing.to_str().unwrap(), "unable to create the file: No such file"),
    ] {
        let error = chain(&Store::open(text).unwrap_err());
        assert!(error.contains(reason) && error.contains(text.trim_end_matches('/')), "{error}");
    }
}

#[test]
fn tls_is_insisted_on_where_the_url_says_so() {
    let fresh = Fresh::postgres();
    // A socket needs no TLS, and the test's server offers none.
    let separator = if fresh.text.contains('?') { '&' } else { '?' };
    for mode in ["disable", "prefer"] {
        Store::open(format!("{}{separator}sslmode={mode}", fresh.text)).unwrap();
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let error = Store::open(format!("{}{separator}sslmode={mode}", fresh.text)).unwrap_err();
        assert!(matches!(error, StoreError::Open { .. }) && chain(&error).contains("TLS"), "{error}");
    }
}

#[test]
fn a_file_is_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = Store::open(path.to_str().unwrap()).unwrap();
    store.layers().put_report(&layer_report("a", &key(), 1)).unwrap();
    for name in ["store.db", "store.db-wal"] {
        let mode = std::fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(store.name(), path.to_str().unwrap());
}

#[test]
fn a_store_that_everybody_can_write_to_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("below");
    let path = below.join("store.db");
    // The directory is made for the user alone.
    drop(Store::open(&path).unwrap());
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&below), mode(&path)), (0o700, 0o600));
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (place, bad, good) in [(&below, 0o777, 0o770), (&path, 0o666, 0o660)] {
        set(place, bad);
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(&error, StoreError::Untrusted { place: named, .. } if named == place), "{error:?}");
        assert!(error.to_string().contains("chmod o-w"), "{error}");
        let run = crate::support::layersift(&["trace", "app/settings", "--store", path.to_str().unwrap()]).expect(2);
        assert!(run.stderr.contains("others decide what is in it"), "{}", run.stderr);
        set(place, good);
        drop(Store::open(&path).unwrap());
    }
    // What a link leads to is checked as well, and so is what SQLite would take for a part of the store.
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    drop(Store::open(&link).unwrap());
    set(&path, 0o606);
    assert!(matches!(Store::open(&link), Err(StoreError::Untrusted { .. })));
    set(&path, 0o600);
    let log = below.join("store.db-journal");
    std::fs::write(&log, "").unwrap();
    set(&log, 0o666);
    assert!(matches!(Store::open(&path), Err(StoreError::Untrusted { place, .. }) if place == log));
    std::fs::remove_file(&log).unwrap();
    let pipe = below.join("pipe.db");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let error = Store::open(&pipe).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

/// Not a test of its own: what the one below runs in an environment of its own.
#[test]
#[ignore = "run by the_default_store_is_in_the_users_data_directory"]
fn open_default() {
    println!("opened {}", Store::open_default().unwrap().name());
}

#[test]
fn the_default_store_is_in_the_users_data_directory() {
    let home = tempfile::tempdir().unwrap();
    let run = |data: Option<&str>, home: Option<&std::path::Path>| {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "open::open_default", "--ignored", "--nocapture"])
            .env_remove("XDG_DATA_HOME")
            .env_remove("HOME");
        test.envs(data.map(|data| ("XDG_DATA_HOME", data))).envs(home.map(|home| ("HOME", home)));
        let output = test.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let expected = home.path().join(".local/share/layersift/store.db");
    assert!(run(None, Some(home.path())).contains(&format!("opened {}\n", expected.display())));
    assert!(run(Some("relative"), Some(home.path())).contains(&format!("opened {}\n", expected.display())));
    let mode = std::fs::metadata(expected.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let data = home.path().join("data");
    assert!(run(data.to_str(), None).contains(&format!("opened {}\n", data.join("layersift/store.db").display())));
    assert!(run(None, None).contains("neither XDG_DATA_HOME nor HOME names a directory"));
}

#[test]
fn a_command_that_only_reads_creates_no_store() {
    let directory = tempfile::tempdir().unwrap();
    let (missing, empty) = (directory.path().join("store.db"), directory.path().join("empty.db"));
    std::fs::write(&empty, "").unwrap();
    let database = Fresh::postgres();
    let image = "registry.test/app:v1";
    for store in [missing.to_str().unwrap(), empty.to_str().unwrap(), &database.text] {
        for command in [["trace", "app/settings"], ["render", image]] {
            let run = crate::support::layersift(&[&command[..], &["--store", store]].concat()).expect(2);
            assert!(run.stderr.contains("there is no store"), "{}", run.stderr);
        }
    }
    assert!(!missing.exists());
    assert_eq!(std::fs::metadata(&empty).unwrap().len(), 0);
    assert_eq!(database.rows("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), ["0"]);
    let home = tempfile::tempdir().unwrap();
    let mut trace = crate::support::program();
    trace.args(["trace", "app/settings"]).env("HOME", home.path()).env_remove("XDG_DATA_HOME");
    crate::support::finish(&mut trace, None).expect(2);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    // And one that lists nothing is asked for something.
    let run = crate::support::layersift(&["trace", "app/settings", "--limit", "0"]).expect(2);
    assert!(run.stderr.contains("--limit"), "{}", run.stderr);
}
