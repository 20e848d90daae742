//! Values in plain files become filler, in every place, or nothing is written.

use crate::support::{Memory, SECRET, Tar, found, found_value, has, names, pieces, refusal, without_secret};

fn env(value: &str) -> String {
    format!("A=1\nKEY={value}\nB=2\n")
}

#[test]
fn a_value_becomes_filler_of_the_same_length() {
    let image = Memory::of(vec![
        Tar::new().file("a", "a").file("app/.env", env(SECRET)).file("b", "b"),
        Tar::new().file("c", "c"),
    ]);
    let result = without_secret(&image, vec![found(&image, 0, "app/.env", 1, 8)], &[]).unwrap();
    let expected = Tar::new().file("a", "a").file("app/.env", env(&"x".repeat(SECRET.len()))).file("b", "b").finish();
    assert_eq!(*result.image.layer(0), expected);
    assert_eq!(result.image.layer(1), image.layer(1));
    let [place] = &result.scrubbed.changes.places[..] else { panic!("one place") };
    assert_eq!((place.entry, place.offset, place.length), (Some(1), Some(8), Some(SECRET.len() as u64)));
    assert!(result.image.blobs.values().all(|blob| !has(blob, SECRET)));
}

#[test]
fn the_same_secret_goes_from_files_where_no_rule_saw_it() {
    // In the second file it lies across the pieces in which files are read.
    let large = "a".repeat((256 << 10) - 5) + SECRET + &"b".repeat(300 << 10) + SECRET;
    let image = Memory::of(vec![
        Tar::new().file("app/.env", env(SECRET)),
        Tar::new().file("log", &large).file("twice", format!("{SECRET}{SECRET}")),
    ]);
    let result = without_secret(&image, vec![found(&image, 0, "app/.env", 0, 8)], &[]).unwrap();
    assert!(result.image.blobs.values().all(|blob| !has(blob, SECRET)));
    assert_eq!(result.scrubbed.changes.places.len(), 5);
    assert_eq!(result.image.layer(1).len(), image.layer(1).len());
}

#[test]
fn a_short_value_goes_only_where_it_was_found() {
    let image = Memory::of(vec![Tar::new().file(".env", env("hunter2")).file("book", "hunter2")]);
    let finding = found_value("hunter2", &image, 0, ".env", 0, 8);
    let result = without_secret(&image, vec![finding], &[]).unwrap();
    let expected = Tar::new().file(".env", env("xxxxxxx")).file("book", "hunter2").finish();
    assert_eq!(*result.image.layer(0), expected);
}

#[test]
fn what_is_not_a_plain_file_is_refused_and_path_removes_it() {
    let signed = format!("-----BEGIN PGP SIGNED MESSAGE-----\n{}", env(SECRET));
    let files: [(&str, Vec<u8>, &str); 6] = [
        ("program", [b"\x7fELF", SECRET.as_bytes()].concat(), "executable"),
        ("db", [b"SQLite format 3", SECRET.as_bytes()].concat(), "database"),
        ("zip", [b"PK\x03\x04", SECRET.as_bytes()].concat(), "archive"),
        ("gz", [b"\x1f\x8b\x08", SECRET.as_bytes()].concat(), "compressed"),
        ("data", [SECRET.as_bytes(), b"\0"].concat(), "not a text"),
        ("signed", signed.into_bytes(), "signed"),
    ];
    for (path, bytes, part) in files {
        let image = Memory::of(vec![Tar::new().file(".env", env(SECRET)), Tar::new().file(path, bytes).file("b", "b")]);
        let findings = || vec![found(&image, 0, ".env", 0, 8)];
        let message = refusal(without_secret(&image, findings(), &[]));
        assert!(message.starts_with(path) && message.contains(part), "{message}");
        assert!(message.contains(&format!("--path {path}")) && !message.contains(SECRET), "{message}");
        let result = without_secret(&image, findings(), &[path]).unwrap();
        assert_eq!(names(result.image.layer(1)), ["b"]);
        assert!(result.image.blobs.values().all(|blob| !has(blob, SECRET)));
    }
}

#[test]
fn a_place_that_is_hidden_in_a_file_is_refused() {
    let image = Memory::of(vec![Tar::new().file(".env", env(SECRET)).file("other", "nothing here")]);
    let plain = found(&image, 0, ".env", 0, 8);
    let hidden = |change: fn(&mut layersift_model::FileLocation)| {
        let mut finding = found(&image, 0, "other", 1, 0);
        let layersift_model::Location::File(file) = &mut finding.location else { panic!("a file") };
        change(file);
        vec![plain.clone(), finding]
    };
    let cases = [
        (hidden(|file| file.inside = vec!["member".into()]), "inside of member"),
        (hidden(|file| file.views = vec!["base64".into()]), "encoded as base64"),
        (hidden(|_| {}), "does not hold the value itself"),
    ];
    for (findings, part) in cases {
        let message = refusal(without_secret(&image, findings, &[]));
        assert!(message.starts_with("other in layer 0") && message.contains(part), "{message}");
    }
    // No flag helps where there is no file.
    let message = refusal(without_secret(&image, hidden(|file| file.attributes = None), &[]));
    assert!(message.starts_with("layer 0: ") && message.contains("belong to no file"), "{message}");
    assert!(!message.contains("--path"), "{message}");
}

#[test]
fn a_finding_of_a_file_removes_the_file() {
    let image = Memory::of(vec![Tar::new().file("a\\b", "x").file("b", "b")]);
    let mut finding = found(&image, 0, "a\\\\b", 0, 0);
    finding.secret = None;
    let result = without_secret(&image, vec![finding], &[]).unwrap();
    assert_eq!(names(result.image.layer(0)), ["b"]);
}

#[test]
fn an_unknown_finding_and_a_request_without_effect_are_refused() {
    let image = Memory::of(vec![Tar::new().file("a", "a")]);
    assert!(refusal(without_secret(&image, Vec::new(), &[])).contains("no finding has the id 1"));
    let finding = crate::support::finding(SECRET, layersift_model::Location::Config("Env[0]".into()));
    assert!(refusal(without_secret(&image, vec![finding], &[])).contains("does not have what has to go"));
    assert_eq!(pieces(image.layer(0)).0.len(), 1);
}
