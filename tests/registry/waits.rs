//! Waits that a registry asks for: they are told with their end, and limits of time end them.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::image::digest;
use crate::support::served::{clean_layer, serve};
use crate::support::server::{Answer, Server, get};
use crate::support::time_stamps::authority;
use crate::support::{Run, layersift, testdata, text};

fn busy(retry_after: &str) -> Answer {
    Answer::new(429, r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#).with("Retry-After", retry_after)
}

/// A registry that answers every request for `part` as busy.
fn busy_for(part: &'static str, retry_after: &'static str) -> Server {
    serve(&[clean_layer()], move |request, _, answer| match request.path.contains(part) {
        true => busy(retry_after),
        false => answer,
    })
}

fn scan(server: &Server, flags: &[&str]) -> Run {
    read("scan", server, flags)
}

fn read(command: &str, server: &Server, flags: &[&str]) -> Run {
    let target = format!("docker://{}/app:v1", server.host());
    layersift(&[&[command, &target, "--plain-http", "--anonymous"][..], flags].concat())
}

/// The only line on standard error that tells of a wait.
fn told(run: &Run) -> serde_json::Value {
    let lines: Vec<&str> = run.stderr.lines().filter(|line| line.contains("asks to wait")).collect();
    let [line] = lines.as_slice() else { panic!("{}", run.stderr) };
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    let message = line["message"].as_str().unwrap();
    let (_, until) = message.split_once("sent again at ").unwrap();
    assert!(until.parse::<jiff::Timestamp>().is_ok(), "{message}");
    assert_eq!((&line["level"], &line["status"]), (&"WARN".into(), &429.into()), "{line}");
    line
}

#[test]
fn a_wait_is_told_and_the_scan_goes_on() {
    let server =
        serve(
            &[clean_layer()],
            move |request, before, answer| {
                if before == 0 && request.path.contains("/manifests/") { busy("1") } else { answer }
            },
        );
    let run = scan(&server, &["-q"]).expect(0);
    assert!(told(&run)["url"].as_str().unwrap().ends_with("/v2/app/manifests/v1"));
    assert_eq!(server.requests_of("/manifests/v1").len(), 2);
}

#[test]
fn a_wait_is_not_told_where_nothing_is_asked_for() {
    let server = serve(&[clean_layer()], move |_, before, answer| if before == 0 { busy("0") } else { answer });
    assert_eq!(scan(&server, &[]).expect(0).stderr, "");
}

#[test]
fn the_time_limit_of_a_scan_ends_a_wait() {
    for retry_after in ["3600", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let server = busy_for("/manifests/", retry_after);
        let run = scan(&server, &["--timeout", "1s"]).expect(3);
        told(&run);
        assert!(run.stderr.contains("deadline exceeded, while waiting after status 429"), "{}", run.stderr);
        assert_eq!(server.requests().len(), 1);
    }
    for command in ["scan", "layers", "sbom"] {
        let server = busy_for("/blobs/", "3600");
        told(&read(command, &server, &["--timeout", "1s"]).expect(3));
    }
}

/// What a command is called with, besides the name of the image in a registry.
struct Signing {
    folder: tempfile::TempDir,
}

impl Signing {
    fn new() -> Signing {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), "made up for this test\n").unwrap();
        let signing = Signing { folder };
        let (prefix, password) = (signing.at("key"), signing.at("password"));
        layersift(&["generate-key", &prefix, "--password-file", &password]).expect(0);
        signing
    }

    fn at(&self, name: &str) -> String {
        text(&self.folder.path().join(name)).to_string()
    }

    fn verify(&self, host: &str) -> Run {
        let (image, key) = (format!("docker://{host}/app:v1"), self.at("key.pub"));
        layersift(&["verify", &image, "--key", &key, "--timeout", "1s", "--plain-http", "--anonymous"])
    }

    fn attest(&self, host: &str) -> Run {
        let (image, key, password) = (format!("docker://{host}/app:v1"), self.at("key.key"), self.at("password"));
        let key = ["attest", &image, "--key", &key, "--password-file", &password];
        layersift(&[&key[..], &["--timeout", "1s", "--plain-http", "--anonymous"]].concat())
    }
}

/// Writes zeros for as long as somebody reads them, and counts them.
fn endless(stream: &mut std::net::TcpStream, written: &AtomicU64) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n");
    while stream.write_all(&[b'x'; 4096]).is_ok() {
        written.fetch_add(4096, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_time_limit_of_verify_and_attest_ends_a_wait() {
    let signing = Signing::new();
    for part in ["/manifests/", "/referrers/", "/blobs/"] {
        let server = busy_for(part, "3600");
        let run = signing.attest(&server.host());
        assert!(run.code == Some(3) && server.requests_of("/uploads/").is_empty(), "{part}: {run:?}");
        // An image without attestations has no blob that decides.
        let run = signing.verify(&server.host());
        assert_eq!(run.code, Some(if part == "/blobs/" { 1 } else { 3 }), "{part}: {run:?}");
    }
}

#[test]
fn the_time_limit_of_verify_and_attest_ends_a_read() {
    let signing = Signing::new();
    // Of the layer, no more is read than the manifest says that there is.
    let layer = format!("/blobs/{}", digest(&clean_layer().blob));
    for part in ["/manifests/", "/referrers/", &layer] {
        let (written, of_server) = (Arc::new(AtomicU64::new(0)), part.to_string());
        let (image, count) = (serve(&[clean_layer()], |_, _, answer| answer), Arc::clone(&written));
        let port = image.port;
        let server = Server::start(move |request, _, stream| match request.path.contains(&of_server) {
            true => endless(stream, &count),
            false => get(&format!("127.0.0.1:{port}"), &request.path, None).write_to(stream),
        });
        let run = signing.attest(&server.host());
        assert_eq!(run.code, Some(3), "{part}: {run:?}");
        if part != layer {
            let run = signing.verify(&server.host());
            assert_eq!(run.code, Some(3), "{part}: {run:?}");
        }
        // A second has room for a hundred of them.
        assert!((1..2 << 20).contains(&written.load(Ordering::Relaxed)), "{part}: {written:?}");
    }
}

#[test]
fn the_time_limit_ends_a_wait_for_a_time_stamp() {
    let signing = Signing::new();
    let silent = Server::start(|_, _, stream| drop(stream.read_to_end(&mut Vec::new())));
    authority(signing.folder.path());
    let (authorities, url) = (signing.at("ca.pem"), format!("http://{}/", silent.host()));
    let image = text(&testdata("incident.tar")).to_string();
    let stamp = ["--timestamp", &url, "--timestamp-authorities", &authorities, "--timeout", "10s"];
    let (key, password, out) = (signing.at("key.key"), signing.at("password"), signing.at("out"));
    let bundle = signing.at("bundle");
    let attest = ["attest", &image, "--key", &key, "--password-file", &password, "-o", &out, "--attach-failing"];
    for command in [&attest[..], &["carve", &image, "--layer", "0", "-o", &bundle]] {
        let begun = std::time::Instant::now();
        let run = layersift(&[command, &stamp].concat()).expect(3);
        assert!(run.stderr.contains("deadline exceeded"), "{}", run.stderr);
        // Without the limit, an authority is waited for as long as half a minute.
        assert!(begun.elapsed() < Duration::from_secs(25), "{command:?}");
    }
    assert!(!silent.requests().is_empty() && !std::path::Path::new(&bundle).exists());
}

#[test]
fn the_end_of_a_sweep_ends_a_wait() {
    for part in ["_catalog", "tags/list", "/manifests/", "/blobs/"] {
        let server = busy_for(part, "3600");
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store.db");
        let host = server.host();
        let sweep = ["sweep", "registry", &host, "--plain-http", "--anonymous", "--format", "json", "--max-time", "1s"];
        let run = layersift(&[&sweep[..], &["--store", text(&store)]].concat()).expect(3);
        told(&run);
        assert_eq!(run.json()["ended_early"].as_str(), Some("its time is up"), "{part}");
    }
}

#[test]
fn many_threads_that_wait_for_the_same_time_are_told_once() {
    let repositories = Server::answering(|request, _| match request.path.contains("_catalog") {
        true => Answer::new(200, r#"{"repositories":["a","b","c","d","e","f"]}"#),
        false => busy("3600"),
    });
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store.db");
    let host = repositories.host();
    let sweep = ["sweep", "registry", &host, "--plain-http", "--anonymous", "--max-time", "1s"];
    let run = layersift(&[&sweep[..], &["--store", text(&store)]].concat()).expect(3);
    told(&run);
}
