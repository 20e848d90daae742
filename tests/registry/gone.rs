//! Whether an image is gone: what a registry serves is named, and what it does not say is not held to be gone.

use std::io::{BufRead as _, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::support::image::{self, Layer, archive, docker_save};
use crate::support::registry::{Registry, Setup, USER};
use crate::support::tar::Tar;
use crate::support::{Run, finish, layersift, program, text};

const ABSENT: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

fn verify(arguments: &[&str]) -> Run {
    layersift(&[&["verify-gone", "--plain-http"], arguments].concat())
}

/// A list of changes of an image of `registry`, with one layer and the manifest `manifest`.
fn changes(folder: &Path, registry: &Registry, manifest: &str, layer: &str) -> String {
    write_list(folder, &format!("docker://{}/team/app:v1", registry.host()), 1, (manifest, &[layer]))
}

/// A list of changes with layers.
fn write_list(folder: &Path, source: &str, schema: u32, (manifest, layers): (&str, &[&str])) -> String {
    let layer = |digest: &&str| json!({ "old": digest, "old_diff_id": ABSENT, "new": ABSENT, "new_diff_id": ABSENT, "compression": "gzip" });
    let list = json!({
        "schema": schema, "tool": "0.1.0", "source": source, "output": "oci:new",
        "root": { "old": manifest, "new": ABSENT }, "manifests": [], "configs": [],
        "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        "places": [], "dropped": [], "held": [], "unread": [], "fingerprints": [],
    });
    let path = folder.join(format!("list-{schema}-{}.json", source.len()));
    std::fs::write(&path, list.to_string()).unwrap();
    text(&path).to_string()
}

/// The digest of the manifest, and that of the first layer.
fn served(registry: &Registry) -> (String, String) {
    let target = format!("docker://{}/team/app:v1", registry.host());
    let run = layersift(&["scan", "--plain-http", "--format", "json", "--fail-on", "none", &target]).expect(0);
    let report: Value = run.json();
    let text = |value: &Value| value.as_str().unwrap().to_string();
    (text(&report["image"]["manifest_digest"]), text(&report["layers"][0]["digest"]))
}

#[test]
fn what_is_served_is_named_in_every_repository() {
    let registry = Registry::filled(&["team/app:v1", "team/copy:v2"]);
    let host = registry.host();
    let (manifest, layer) = served(&registry);
    let run =
        verify(&[&format!("docker://{host}/team/app:v1"), "--repository", &format!("{host}/team/copy")]).expect(1);
    for repository in ["team/app", "team/copy"] {
        for what in [format!("manifest {manifest}"), format!("blob {layer}")] {
            let line = format!("served   {host}/{repository} {what}, also without a login\n");
            assert!(run.stdout.contains(&line), "{line}{}", run.stdout);
        }
    }
    assert!(run.stderr.contains("two hours"), "{}", run.stderr);
    let json = ["--format", "json", "--repository", &format!("{host}/team/none")];
    let json = verify(&[&[&format!("docker://{host}/team/app:v1")[..]], &json[..]].concat()).expect(1).json();
    assert_eq!(
        (&json["schema"], &json["verdict"], &json["layers_are_known"]),
        (&1.into(), &"fail".into(), &true.into())
    );
    let state = |repository: &str, digest: &str| {
        let things = json["things"].as_array().unwrap();
        let thing = things.iter().find(|thing| thing["repository"] == repository && thing["digest"] == digest).unwrap();
        (thing["state"].clone(), thing["to_strangers"].clone(), thing["kind"].clone())
    };
    assert_eq!(state("team/app", &manifest), ("served".into(), true.into(), "manifest".into()));
    assert_eq!(state("team/none", &layer), ("gone".into(), Value::Null, "blob".into()));
}

#[test]
fn a_blob_that_outlives_its_manifest_is_not_gone() {
    let registry = Registry::filled(&["team/app:v1"]);
    let folder = tempfile::tempdir().unwrap();
    let (_, layer) = served(&registry);
    let run = verify(&["--changes", &changes(folder.path(), &registry, ABSENT, &layer)]).expect(1);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", run.stdout);
    assert!(lines[0].starts_with("gone") && lines[1].starts_with("served") && lines[1].contains(&layer));
    verify(&["--changes", &changes(folder.path(), &registry, ABSENT, ABSENT)]).expect(0);
}

#[test]
fn an_image_whose_layers_nobody_names_is_incomplete() {
    let registry = Registry::filled(&["team/app:v1"]);
    let host = registry.host();
    let run = verify(&[&format!("docker://{host}/team/app@{ABSENT}")]).expect(3);
    assert!(run.stdout.starts_with("gone") && run.stderr.contains("layers are not known"), "{run:?}");
    let run = verify(&[&format!("docker://{host}/team/app:none")]).expect(2);
    assert!(run.stderr.contains("the tag is gone"), "{}", run.stderr);
}

#[test]
fn a_registry_that_does_not_let_us_in_has_not_said_that_it_is_gone() {
    let registry = Setup::default().basic().start();
    let folder = tempfile::tempdir().unwrap();
    let list = changes(folder.path(), &registry, ABSENT, ABSENT);
    let run = verify(&["--anonymous", "--changes", &list]).expect(3);
    assert!(run.stdout.lines().all(|line| line.starts_with("unknown")), "{}", run.stdout);
    drop(registry);
    verify(&["--changes", &list]).expect(3);
}

#[test]
fn it_waits_until_the_blob_is_gone() {
    let registry = Registry::filled(&["team/app:v1"]);
    let folder = tempfile::tempdir().unwrap();
    let (_, layer) = served(&registry);
    let list = changes(folder.path(), &registry, ABSENT, &layer);
    let waiting = std::thread::spawn(move || verify(&["--wait", "100s", "--changes", &list]));
    std::thread::sleep(std::time::Duration::from_millis(500));
    registry.forget_blob("team/app", &layer);
    let run = waiting.join().unwrap().expect(0);
    assert!(run.stdout.lines().all(|line| line.starts_with("gone")), "{}", run.stdout);
}

#[test]
fn a_layer_that_is_pushed_again_is_not_gone() {
    let registry = Registry::filled(&["team/app:v1"]);
    let folder = tempfile::tempdir().unwrap();
    let (_, layer) = served(&registry);
    let again = image::digest(b"pushed again");
    let source = format!("docker://{}/team/app:v1", registry.host());
    let list = write_list(folder.path(), &source, 1, (ABSENT, &[&again, &layer]));
    let waiting = std::thread::spawn(move || verify(&["--wait", "4s", "--changes", &list]));
    std::thread::sleep(std::time::Duration::from_millis(500));
    registry.put_blob("team/app", b"pushed again");
    registry.forget_blob("team/app", &layer);
    let run = waiting.join().unwrap().expect(1);
    assert!(run.stdout.lines().any(|line| line.starts_with("served") && line.contains(&again)), "{}", run.stdout);
}

#[test]
fn a_scrubbed_image_goes_to_a_new_tag_and_what_is_left_of_the_old_one_is_named() {
    let registry = Registry::filled(&["team/app:v1"]);
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("changes.json");
    let image = |tag: &str| format!("docker://{}/team/app:{tag}", registry.host());
    let scrub = |output: &str| {
        let flags = ["--path", "app/.env", "--plain-http", "--changes", text(&list)];
        layersift(&[&["scrub", &image("v1"), "-o", &image(output)][..], &flags].concat())
    };
    let run = scrub("v1").expect(2);
    assert!(run.stderr.contains("nothing is written over"), "{}", run.stderr);
    scrub("v2").expect(0);
    let printed = layersift(&[
        "scrub",
        &image("v1"),
        "-o",
        &image("v3"),
        "--path",
        "app/.env",
        "--plain-http",
        "--format",
        "json",
    ]);
    let printed = printed.expect(0).json();
    let written: Value = serde_json::from_slice(&std::fs::read(&list).unwrap()).unwrap();
    assert_eq!((&printed["schema"], &printed["layers"]), (&1.into(), &written["layers"]));
    std::fs::rename(&list, folder.path().join("first.json")).unwrap();
    let run = scrub("v2").expect(2);
    assert!(run.stderr.contains("exists already"), "{}", run.stderr);
    let scan = ["scan", "--plain-http", "--format", "json", "--fail-on", "none", &image("v2")];
    let report = layersift(&scan).expect(0).json();
    assert!(crate::support::findings(&report).iter().all(|finding| finding["path"] != "app/.env"));
    // The old manifest, configuration and layer are still there, and no other layer is asked for.
    let run = verify(&["--changes", text(&folder.path().join("first.json"))]).expect(1);
    assert_eq!(run.stdout.lines().filter(|line| line.starts_with("served")).count(), 3, "{}", run.stdout);
}

#[test]
fn a_store_knows_the_repositories_that_share_a_layer() {
    let registry = Registry::filled(&["team/app:v1", "team/copy:v2"]);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.db");
    let sweep = ["sweep", "registry", &registry.host(), "--plain-http", "--fail-on", "none", "--store", text(&store)];
    layersift(&sweep).expect(0);
    let (_, layer) = served(&registry);
    let list = changes(folder.path(), &registry, ABSENT, &layer);
    let run = verify(&["--changes", &list, "--store", text(&store)]).expect(1);
    for repository in ["team/app", "team/copy"] {
        let line = format!("served   {}/{repository} blob {layer}", registry.host());
        assert!(run.stdout.contains(&line), "{line}\n{}", run.stdout);
    }
}

#[test]
fn strangers_are_asked_as_well() {
    let registry = Setup::default().basic().start();
    let (user, password) = crate::support::registry::USER;
    registry.push("team/app:v1", &["--dest-tls-verify=false", "--dest-creds", &format!("{user}:{password}")]);
    let image = format!("docker://{}/team/app:v1", registry.host());
    let mut command = crate::support::program();
    command.args(["verify-gone", "--plain-http", &image]);
    command.env("LAYERSIFT_REGISTRY_USER", user).env("LAYERSIFT_REGISTRY_PASSWORD", password);
    let run = crate::support::finish(&mut command, None).expect(1);
    assert!(run.stdout.lines().all(|line| line.starts_with("served") && !line.contains("without a login")));
    assert!(run.stdout.lines().count() >= 3, "{}", run.stdout);
}

/// A layer of more than one piece of an upload, whose last piece is not a whole one, to a registry with a login.
#[test]
fn a_large_layer_is_pushed_in_pieces_with_a_login() {
    let registry = Setup::default().basic().start();
    let (user, password) = USER;
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(19);
    let large: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(33 << 20).collect();
    let tar = Tar::new().file("large", &large).file("app/key", "made up").finish();
    let source = folder.path().join("image.tar");
    std::fs::write(&source, archive(&docker_save(&[Layer::plain(tar)]))).unwrap();
    let image = format!("docker://{}/team/large:v1", registry.host());
    let run = |arguments: &[&str], password: &str| {
        let mut command = program();
        command.args(arguments).env("LAYERSIFT_REGISTRY_USER", user).env("LAYERSIFT_REGISTRY_PASSWORD", password);
        finish(&mut command, None)
    };
    let scrub = ["scrub", text(&source), "--path", "app/key", "-o", &image, "--plain-http", "-q"];
    run(&scrub, "wrong").expect(2);
    run(&scrub, password).expect(0);
    let scanned = run(&["scan", &image, "--plain-http", "-q", "--format", "json"], password).expect(0).json();
    assert_eq!(scanned["gaps"], json!([]), "every byte is there");
}

/// A server that gives each request, by its method and its path, the status and the body that `answer` says.
fn server(answer: fn(&str, &str) -> (&'static str, &'static str)) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = std::io::BufReader::new(&stream);
            let mut first = String::new();
            while reader.read_line(&mut first).is_ok_and(|length| length > 2) {
                first.push('\n');
            }
            let mut words = first.split_whitespace();
            let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let (status, body) = answer(method, path);
            let body_sent = if method == "HEAD" { "" } else { body };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = (&stream).write_all(format!("{head}{body_sent}").as_bytes());
        }
    });
    host
}

fn list_of(folder: &Path, source: &str, schema: u32) -> String {
    write_list(folder, source, schema, (ABSENT, &[ABSENT]))
}

#[test]
fn only_a_registry_says_that_something_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let list = |host: &str| list_of(folder.path(), &format!("docker://{host}/team/app:v1"), 1);
    let nothing = server(|_, _| ("404 Not Found", "not here"));
    let run = verify(&["--changes", &list(&nothing)]).expect(3);
    assert!(run.stdout.contains("does not answer as a registry"), "{}", run.stdout);
    let pages = server(|_, path| if path == "/v2/" { ("200 OK", "<html>") } else { ("404 Not Found", "") });
    verify(&["--changes", &list(&pages)]).expect(3);
    // HEAD is not believed.
    let odd = server(|method, path| match (method, path) {
        (_, "/v2/") => ("200 OK", "{}"),
        ("HEAD", _) => ("404 Not Found", ""),
        (_, path) if path.contains("/manifests/") => ("200 OK", "{}"),
        _ => ("404 Not Found", ""),
    });
    let run = verify(&["--changes", &list(&odd)]).expect(1);
    assert!(run.stdout.contains("served") && run.stdout.contains("manifest"), "{}", run.stdout);
    // Any server may answer at the root, and with 404 for all else.
    for root in ["", "{}"] {
        let plain = match root {
            "" => server(|_, path| if path == "/v2/" { ("200 OK", "") } else { ("404 Not Found", "<html>") }),
            _ => server(|_, path| if path == "/v2/" { ("200 OK", "{}") } else { ("404 Not Found", "{}") }),
        };
        let run = verify(&["--changes", &list(&plain)]).expect(3);
        assert!(run.stdout.contains("unknown"), "{}", run.stdout);
    }
    let registry = server(|_, path| match path {
        "/v2/" => ("200 OK", "{}"),
        _ => ("404 Not Found", r#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}"#),
    });
    verify(&["--changes", &list(&registry)]).expect(0);
    let run = verify(&["--changes", &list_of(folder.path(), &format!("docker://{odd}/team/app:v1"), 2)]).expect(2);
    assert!(run.stderr.contains("not a list of changes that this version reads"), "{}", run.stderr);
}

#[test]
fn what_is_not_known_is_not_gone() {
    let registry = Registry::filled(&["team/app:v1"]);
    let host = registry.host();
    let folder = tempfile::tempdir().unwrap();
    let absent = list_of(folder.path(), &format!("docker://{host}/team/app:v1"), 1);
    verify(&["--changes", &absent]).expect(0);
    // A list of one image says nothing of another one.
    let other = format!("docker://{host}/team/app@sha256:{}", "1".repeat(64));
    let run = verify(&["--changes", &absent, &other]).expect(3);
    assert!(run.stderr.contains("its layers are not known"), "{}", run.stderr);
    // Nor does that of an archive say what a registry calls the layers.
    let archive = list_of(folder.path(), "docker-archive:image.tar", 1);
    let run = verify(&["--changes", &archive, "--repository", &format!("{host}/team/app")]).expect(3);
    assert!(run.stderr.contains("in no registry"), "{}", run.stderr);
    // The image in one repository does not say what another one calls them.
    let image = format!("docker://{host}/team/app:v1");
    let run = verify(&["--changes", &archive, &image, "--repository", &format!("{host}/team/other")]).expect(1);
    assert!(run.stderr.contains("team/other has the layer"), "{}", run.stderr);
    let run = verify(&["--changes", &absent, "--repository", &format!("{host}/team/ap")]).expect(3);
    assert!(run.stderr.contains("team/ap: there is no such repository"), "{}", run.stderr);
}

#[test]
fn the_platforms_of_an_index_are_asked_for_one_by_one() {
    let registry = Registry::filled(&["team/app:v1"]);
    let host = registry.host();
    let (manifest, _) = served(&registry);
    let at = manifest.parse().map(layersift_source::registry::At::Digest).unwrap();
    let read = crate::support::pull::registry(&host, crate::support::pull::options());
    let found = read.manifest("team/app", &at).unwrap();
    let entry = image::descriptor(found.media_type.as_deref().unwrap(), &found.bytes);
    let index = image::bytes(&image::index(&[entry]));
    registry.put_manifest("team/app", "index", image::INDEX, &index);
    registry.forget_manifest("team/app", &manifest);
    let image = format!("docker://{host}/team/app@{}", image::digest(&index));
    let run = verify(&["--format", "json", &image]).expect(1);
    assert!(run.stderr.contains(&format!("{manifest}: the manifest is gone")), "{}", run.stderr);
    assert_eq!(run.json()["layers_are_known"], false);
}

#[test]
fn the_list_has_what_else_leads_to_the_value() {
    let registry = Registry::filled(&["team/app:v1"]);
    let host = registry.host();
    let folder = tempfile::tempdir().unwrap();
    let (manifest, _) = served(&registry);
    let at = manifest.parse().map(layersift_source::registry::At::Digest).unwrap();
    let read = crate::support::pull::registry(&host, crate::support::pull::options());
    let found = read.manifest("team/app", &at).unwrap();
    let report = layersift(&[
        "scan",
        "--plain-http",
        "--format",
        "json",
        "--show-secrets",
        "--fail-on",
        "none",
        &format!("docker://{host}/team/app:v1"),
    ])
    .expect(0)
    .json();
    let finding = crate::support::findings(&report)
        .iter()
        .find(|finding| finding["path"] == "app/.env" && finding["secret"].is_object())
        .unwrap();
    let value = finding["secret"]["value"].as_str().unwrap();
    // What refers to the image, in the list that stands in for the referrers API, has the value as well.
    let notes = format!("notes: {value}");
    registry.put_blob("team/app", notes.as_bytes());
    registry.put_blob("team/app", b"{}");
    let subject = image::descriptor(found.media_type.as_deref().unwrap(), &found.bytes);
    let referrer = json!({
        "schemaVersion": 2, "mediaType": image::MANIFEST, "artifactType": "application/vnd.x",
        "config": image::descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [image::descriptor("text/plain", notes.as_bytes())], "subject": subject,
    });
    let referrer = image::bytes(&referrer);
    let of_referrer = image::digest(&referrer);
    registry.put_manifest("team/app", &of_referrer, image::MANIFEST, &referrer);
    let entry = image::descriptor(image::MANIFEST, &referrer);
    let list = image::bytes(&image::index(&[entry]));
    registry.put_manifest("team/app", &manifest.replace(':', "-"), image::INDEX, &list);
    // The image is one platform of an index.
    let mut entry = subject;
    entry["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let mut other = image::descriptor(image::MANIFEST, &referrer);
    other["platform"] = json!({ "os": "linux", "architecture": "arm64" });
    let index = image::bytes(&image::index(&[entry, other]));
    registry.put_manifest("team/app", "index", image::INDEX, &index);
    let changes = folder.path().join("changes.json");
    let (id, output) = (finding["id"].as_str().unwrap(), format!("docker://{host}/team/app:clean"));
    layersift(&[
        "scrub",
        &format!("docker://{host}/team/app:index"),
        "--platform",
        "linux/amd64",
        "--finding",
        id,
        "-o",
        &output,
        "--changes",
        text(&changes),
        "--plain-http",
        "-q",
    ])
    .expect(0);
    let written: Value = serde_json::from_slice(&std::fs::read(&changes).unwrap()).unwrap();
    let held = |digest: &str| written["held"].as_array().unwrap().iter().any(|held| held["digest"] == digest);
    assert!(held(&image::digest(&index)), "{written}");
    assert!(held(&of_referrer) && held(&image::digest(notes.as_bytes())), "{written}");
}
