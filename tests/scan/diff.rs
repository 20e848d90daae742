//! Two images compared: gone and rotated, still there, and back again.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::image::{Layer, archive, docker_save};
use crate::support::tar::Tar;
use crate::support::{Run, layersift, many, text};

/// An image with a file for each of `layers`, in a layer of its own; a path that begins with `!` is removed.
fn image(folder: &Path, name: &str, layers: &[(&str, &str)]) -> PathBuf {
    let layer = |(path, content): &(&str, &str)| match path.strip_prefix('!') {
        Some(removed) => Layer::plain(Tar::new().whiteout(removed).finish()),
        None => Layer::plain(Tar::new().file(path, content).finish()),
    };
    let layers: Vec<Layer> = layers.iter().map(layer).collect();
    let path = folder.join(format!("{name}.tar"));
    std::fs::write(&path, archive(&docker_save(&layers))).unwrap();
    path
}

fn diff(before: &Path, after: &Path, flags: &[&str]) -> Run {
    layersift(&[&["diff", text(before), text(after)], flags].concat())
}

/// Fates of secrets by the places that they had, or have.
fn fates(run: &Run) -> Vec<(String, String)> {
    let json: Value = run.json();
    let secrets = json["comparisons"][0]["secrets"].as_array().unwrap().clone();
    let place = |secret: &Value| {
        let of = if secret["before"].as_array().unwrap().is_empty() { "after" } else { "before" };
        secret[of][0]["place"].as_str().unwrap().to_string()
    };
    secrets.iter().map(|secret| (place(secret), secret["fate"].as_str().unwrap().to_string())).collect()
}

fn env(number: usize) -> String {
    format!("GITLAB_TOKEN={}\n", many::token(number))
}

#[test]
fn a_rebuilt_image_with_a_new_value_is_gone_and_rotated() {
    let folder = tempfile::tempdir().unwrap();
    let before = image(folder.path(), "before", &[("etc/os", "x"), ("app/.env", &env(1))]);
    let after = image(folder.path(), "after", &[("etc/os", "x"), ("app/.env", &env(2))]);
    let run = diff(&before, &after, &["--format", "json"]).expect(1);
    let expected = [("app/.env", "gone-and-rotated"), ("app/.env", "new")];
    let mut found = fates(&run);
    found.sort();
    assert_eq!(found, expected.map(|(place, fate)| (place.to_string(), fate.to_string())));
    let json = run.json();
    let layers = &json["comparisons"][0]["layers"];
    assert_eq!((&layers["shared_first"], layers["went"].as_array().unwrap().len()), (&1.into(), 1));
    let run = diff(&before, &after, &[]).expect(1);
    assert!(run.stdout.contains("gone and rotated: another value is in its place"), "{}", run.stdout);
    assert!(run.stdout.starts_with("FAIL"), "the new value leaks: {}", run.stdout);
}

#[test]
fn a_value_that_is_deleted_is_still_in_a_layer() {
    let folder = tempfile::tempdir().unwrap();
    let before = image(folder.path(), "before", &[("app/.env", &env(1))]);
    let after = image(folder.path(), "after", &[("app/.env", &env(1)), ("!app/.env", "")]);
    let run = diff(&before, &after, &["--format", "json"]).expect(0);
    assert_eq!(fates(&run), [("app/.env".to_string(), "still-in-layer".to_string())]);
    diff(&before, &after, &["--require-gone"]).expect(1);
}

#[test]
fn a_value_that_came_back_elsewhere_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let before = image(folder.path(), "before", &[("app/.env", &env(1)), ("!app/.env", "")]);
    let after = image(folder.path(), "after", &[("srv/settings", &env(1)), ("app/.env", &env(2))]);
    let run = diff(&before, &after, &["--format", "json"]).expect(1);
    assert!(fates(&run).contains(&("app/.env".into(), "still-there".into())), "{:?}", fates(&run));
    let gone = image(folder.path(), "gone", &[("etc/os", "x")]);
    let run = diff(&before, &gone, &["--format", "json", "--require-gone"]).expect(0);
    assert_eq!(fates(&run), [("app/.env".to_string(), "gone".to_string())]);
}

#[test]
fn packages_are_compared() {
    let status = |version: &str| {
        format!("Package: curl\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n")
    };
    let folder = tempfile::tempdir().unwrap();
    let before = image(folder.path(), "before", &[("var/lib/dpkg/status", &status("7.0"))]);
    let after = image(folder.path(), "after", &[("var/lib/dpkg/status", &status("8.0"))]);
    let json = diff(&before, &after, &["--format", "json"]).expect(0).json();
    let changed = &json["comparisons"][0]["packages"]["changed"][0];
    assert_eq!((&changed["name"], &changed["after"][0]), (&"curl".into(), &"8.0".into()), "{json}");
    let json = diff(&before, &after, &["--format", "json", "--no-packages"]).expect(0).json();
    assert!(json["comparisons"][0]["packages"].is_null());
}

#[test]
fn reports_are_compared_without_their_images_under_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let report = |name: &str, number: usize, flags: &[&str]| {
        let image = image(folder.path(), name, &[("app/.env", &env(number))]);
        let path = folder.path().join(format!("{name}.json"));
        let scan = ["scan", text(&image), "--format", "json", "-o", text(&path)];
        layersift(&[&scan, flags].concat()).expect(1);
        path
    };
    let (before, after) = (report("one", 1, &[]), report("two", 2, &[]));
    let run = diff(&before, &after, &["--format", "json"]).expect(1);
    // Nothing was searched for the value itself.
    assert!(fates(&run).contains(&("app/.env".into(), "not-found".into())));
    let run = diff(&before, &after, &["--fail-on", "none", "--require-gone"]).expect(3);
    assert!(run.stdout.contains("the image after is a kept report"), "{}", run.stdout);
    let key = folder.path().join("key");
    std::fs::write(&key, [7; 32]).unwrap();
    let other = report("three", 2, &["--fingerprint-key", text(&key)]);
    let run = diff(&before, &other, &[]).expect(2);
    assert!(run.stderr.contains("different fingerprint keys"), "{}", run.stderr);
}

#[test]
fn an_image_that_cannot_be_read_makes_no_secret_gone() {
    let folder = tempfile::tempdir().unwrap();
    let before = image(folder.path(), "before", &[("app/.env", &env(1))]);
    let broken = image(folder.path(), "after", &[("etc/os", "x")]);
    let mut bytes = std::fs::read(&broken).unwrap();
    let at = bytes.windows(6).rposition(|window| window == b"etc/os").unwrap();
    bytes[at + 200] ^= 0xff;
    std::fs::write(&broken, bytes).unwrap();
    let run = diff(&before, &broken, &["--format", "json"]).expect(3);
    assert_eq!(fates(&run), [("app/.env".to_string(), "not-found".to_string())]);
}

/// A made-up password, and another one.
const OLD: &str = "Zq8vN2mK7wR4tY6uP9sD3fG5hJ1";
const NEW: &str = "Wm4kT7xB2nC9vL5pQ8rS1dF6gH3";

/// The fates of the secrets of `before`, a file `app/.env`, in an image with these files.
fn fates_of(before: &str, after: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let before = image(folder.path(), "before", &[("app/.env", before)]);
    let after = image(folder.path(), "after", after);
    let json = diff(&before, &after, &["--format", "json", "--no-packages", "--require-gone"]).json();
    let secrets = json["comparisons"][0]["secrets"].as_array().unwrap().clone();
    let old = secrets.iter().filter(|secret| !secret["before"].as_array().unwrap().is_empty());
    old.map(|secret| secret["fate"].as_str().unwrap().to_string()).collect()
}

#[test]
fn a_value_that_no_rule_finds_any_more_is_not_gone() {
    let (before, rotated) = (format!("DB_PASSWORD={OLD}\n"), format!("DB_PASSWORD={NEW}\n"));
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("svc:{OLD} and so on"));
    for (path, content) in [
        ("app/config.yml", format!("url: postgres://svc:{OLD}@db.internal:5432/app\n")),
        ("app/notes.txt", format!("the old one {OLD} is still valid\n")),
        ("app/longer.txt", format!("x{OLD}extra\n")),
        ("app/encoded.txt", format!("{encoded}\n")),
    ] {
        let found = fates_of(&before, &[("app/.env", &rotated), (path, &content)]);
        assert_eq!(found, ["still-there"], "{path}");
        let found = fates_of(&before, &[(path, &content), (&format!("!{path}"), ""), ("app/.env", &rotated)]);
        assert_eq!(found, ["still-in-layer"], "{path}");
    }
    assert_eq!(fates_of(&before, &[("app/.env", &rotated)]), ["gone-and-rotated"]);
}

#[test]
fn a_part_of_a_secret_that_stays_is_not_gone() {
    let before = format!("DATABASE_URL=postgres://svc:{OLD}@db.internal:5432/app\n");
    let after = format!("DATABASE_URL=postgres://svc:{NEW}@db.internal:5432/app\n");
    let kept = format!("DB_PASSWORD={OLD}\n");
    let found = fates_of(&before, &[("app/.env", &after), ("app/notes.txt", &kept)]);
    assert!(!found.is_empty() && found.iter().all(|fate| fate == "still-there"), "{found:?}");
    let found = fates_of(&before, &[("app/.env", &after)]);
    assert!(!found.is_empty() && found.iter().all(|fate| fate == "gone-and-rotated"), "{found:?}");
}

#[test]
fn other_rules_make_no_secret_gone() {
    let folder = tempfile::tempdir().unwrap();
    let report = |name: &str, content: &str, flags: &[&str]| {
        let image = image(folder.path(), name, &[("app/.env", content)]);
        let path = folder.path().join(format!("{name}.json"));
        layersift(
            &[&["scan", text(&image), "--format", "json", "--fail-on", "none", "-o", text(&path)], flags].concat(),
        );
        path
    };
    let rules = folder.path().join("rules.toml");
    let rule = "[[signature]]\nid = \"a.b\"\ntitle = \"t\"\nseverity = \"low\"\npattern = \"acme_[0-9]{9}\"\n\
                keywords = [\"acme_\"]\nwhat = \"-\"\nrisk = \"-\"\nfix = \"-\"\n\
                [[signature.example]]\ninput = \"acme_123456789\"\n";
    std::fs::write(&rules, rule).unwrap();
    let (before, after) = (report("one", &env(1), &[]), report("two", "x", &["--rules", text(&rules)]));
    let run = diff(&before, &after, &["--format", "json", "--require-gone"]).expect(3);
    assert_eq!(fates(&run), [("app/.env".to_string(), "not-found".to_string())]);
}

#[test]
fn a_pipe_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let other = image(folder.path(), "other", &[("etc/os", "x")]);
    diff(&pipe, &other, &[]).expect(2);
    diff(&other, &pipe, &[]).expect(2);
    layersift(&["diff", &format!("docker-archive:{}", text(&pipe)), text(&other)]).expect(2);
    layersift(&["carve", text(&pipe), "all", "-o", text(&folder.path().join("x"))]).expect(2);
    layersift(&["render", text(&pipe)]).expect(2);
    layersift(&["carve", "--verify", text(&pipe)]).expect(2);
    layersift(&["carve", text(&other), "all", "--report", text(&pipe), "-o", text(&folder.path().join("x"))]).expect(2);
}

#[test]
fn values_are_found_in_headers_and_broken_lines_and_never_kept() {
    let folder = tempfile::tempdir().unwrap();
    let before = image(folder.path(), "before", &[("app/.env", &format!("DB_PASSWORD={OLD}\n"))]);
    use base64::Engine as _;
    let digits = base64::engine::general_purpose::STANDARD.encode(format!("some words before it {OLD} and after it"));
    let lines: Vec<&str> = digits.as_bytes().chunks(40).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let broken = image(folder.path(), "broken", &[("notes", &lines.join("\n"))]);
    let mut header = tar::Header::new_ustar();
    header.set_username(OLD).unwrap();
    header.set_size(1);
    let mut layer = tar::Builder::new(Vec::new());
    layer.append_data(&mut header, "srv/x", &b"1"[..]).unwrap();
    let owned = folder.path().join("owned.tar");
    std::fs::write(&owned, archive(&docker_save(&[Layer::plain(layer.into_inner().unwrap())]))).unwrap();
    let cache = folder.path().join("cache");
    for after in [&broken, &owned] {
        let mut command = crate::support::program();
        command.args(["diff", text(&before), text(after), "--format", "json", "--require-gone", "--no-packages"]);
        let run = crate::support::finish(command.env("XDG_CACHE_HOME", &cache), None);
        assert_eq!(fates(&run), [("app/.env".to_string(), "still-there".to_string())], "{after:?}");
    }
    let kept = std::fs::read_dir(cache.join("layersift")).map(Iterator::count).unwrap_or(0);
    assert_eq!(kept, 0, "rules of values are not kept");
}

#[test]
fn what_cannot_be_searched_for_is_not_gone() {
    let folder = tempfile::tempdir().unwrap();
    let before = image(folder.path(), "before", &[("app/.env", &format!("DB_PASSWORD={OLD}\n"))]);
    let after = image(folder.path(), "after", &[("app/notes", &format!("the old one is {OLD}\n"))]);
    let mut command = crate::support::program();
    command.args(["diff", text(&before), "-", "--format", "json", "--require-gone", "--no-packages"]);
    let run = crate::support::finish(&mut command, Some(std::fs::read(&after).unwrap())).expect(3);
    assert_eq!(fates(&run), [("app/.env".to_string(), "not-found".to_string())]);
    assert!(run.stdout.contains("standard input can be read only once"), "{}", run.stdout);
    // A report has no values.
    let kept = folder.path().join("before.json");
    layersift(&["scan", text(&before), "--format", "json", "--fail-on", "none", "-o", text(&kept)]).expect(0);
    let run = diff(&kept, &after, &["--format", "json", "--require-gone"]).expect(3);
    assert_eq!(fates(&run), [("app/.env".to_string(), "not-found".to_string())]);
}
