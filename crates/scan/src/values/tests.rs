//! Values are found in every form that a scan reads, and nothing of them is kept.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

/// A made-up password, and one with punctuation.
const VALUE: &str = "Zq8vN2mK7wR4tY6uP9sD3fG5hJ1";
const ODD: &str = "Zq8v&N2m<K7wR4/tY6u\"P9s+D3";

fn search(values: &[&str]) -> ValueSearch {
    let mut wanted = Values::default();
    values.iter().for_each(|value| wanted.add(value, value.as_bytes()));
    ValueSearch::new(wanted, Options { threads: 1, ..Options::default() }, &Cancellation::never()).unwrap()
}

fn is_in(search: &ValueSearch, bytes: &[u8]) -> bool {
    !search.in_document(bytes).places.is_empty()
}

fn wrapped(bytes: &[u8], width: usize) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
    lines.join("\n") + "\n"
}

#[test]
fn a_value_in_base64_is_found_wherever_its_lines_are_broken() {
    let search = search(&[VALUE, "Zq8vN2mK"]);
    for before in 0..80 {
        for width in [64, 76] {
            let text = format!("{}{VALUE}{}", "w".repeat(before), " and more words after it".repeat(4));
            let wrapped = wrapped(text.as_bytes(), width);
            let found = search.in_document(wrapped.as_bytes());
            assert!(found.places.iter().any(|place| place.names.contains(VALUE)), "{before} {width}");
            assert!(found.places.iter().any(|place| place.names.contains("Zq8vN2mK")), "{before} {width}");
        }
    }
}

#[test]
fn escapes_of_other_languages_are_found() {
    let search = search(&[ODD]);
    let json = ODD.replace('&', "\\u0026").replace('<', "\\u003c").replace('"', "\\\"");
    let lower = "Zq8v%26N2m%3cK7wR4%2ftY6u%22P9s%2bD3";
    let some = "Zq8v%26N2m%3CK7wR4/tY6u%22P9s%2BD3";
    let html = ODD.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&#34;");
    for text in [ODD, &json, lower, some, &html, &ODD.replace('/', "\\/")] {
        assert!(is_in(&search, format!("x {text} y").as_bytes()), "{text}");
        assert!(is_in(&search, STANDARD.encode(format!("some words {text}")).as_bytes()), "{text}");
    }
    assert!(!is_in(&search, b"Zq8v N2m K7wR4 tY6u P9s D3"));
}

#[test]
fn values_that_look_like_placeholders_are_found() {
    assert!(is_in(&search(&["changeme123"]), b"the password is changeme123."));
    assert!(is_in(&search(&["a-b-c-d-e"]), STANDARD.encode("some words a-b-c-d-e and others").as_bytes()));
}

#[test]
fn lines_of_a_value_may_be_indented() {
    let value = "-----BEGIN MADE-UP-----\nabcdefghijklmnop\nqrstuvwxyz\n";
    assert!(is_in(
        &search(&[value]),
        b"key: |\n    -----BEGIN MADE-UP-----\n    abcdefghijklmnop\n    qrstuvwxyz\n    "
    ));
    assert!(is_in(&search(&[value]), b"K=-----BEGIN MADE-UP-----\\nabcdefghijklmnop\\nqrstuvwxyz\\n"));
}

#[test]
fn headers_of_entries_are_searched() {
    use layersift_format::Cancellation;
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    let records = format!("{} SCHILY.xattr.user.x={VALUE}\n", 24 + VALUE.len());
    header.set_size(records.len() as u64);
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, records.as_bytes()).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    builder.append_data(&mut header, "srv/x", &b"1"[..]).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&builder.into_inner().unwrap()).unwrap();
    let found = search(&[VALUE]).in_blob(file.path(), &Cancellation::never()).unwrap();
    assert_eq!(found.places.len(), 1, "{found:?}");
    assert!(found.places[0].place.contains("headers of entries"), "{found:?}");
    assert!(search(&["another-value-x"]).in_blob(file.path(), &Cancellation::never()).unwrap().places.is_empty());
}

#[test]
fn short_values_are_left_out_and_parts_have_the_name_of_the_whole() {
    let mut values = Values::default();
    values.add("short", b"hunter2");
    values.add("url", format!("postgres://svc:{VALUE}@db.example/app").as_bytes());
    assert_eq!(values.left_out(), &BTreeMap::from([("short".to_string(), LeftOut::Short)]));
    let search =
        ValueSearch::new(values, Options { threads: 1, ..Options::default() }, &Cancellation::never()).unwrap();
    let found = search.in_document(format!("we use {VALUE} here").as_bytes());
    assert_eq!(found.places[0].names, BTreeSet::from(["url".to_string()]));
}

#[test]
fn no_search_is_made_once_that_is_cancelled() {
    let cancellation = Cancellation::new();
    cancellation.cancel();
    let mut values = Values::default();
    values.add("value", VALUE.as_bytes());
    let search = ValueSearch::new(values, Options { threads: 1, ..Options::default() }, &cancellation);
    assert!(matches!(search, Err(RulesetError::Cancelled(_))));
}

#[test]
fn nothing_of_the_values_reaches_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let mut values = Values::default();
    values.add("value", VALUE.as_bytes());
    let cache = Some(folder.path().join("cache"));
    ValueSearch::new(values, Options { threads: 1, cache, ..Options::default() }, &Cancellation::never()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
