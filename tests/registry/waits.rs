//! Waits that a registry asks for: they are told with their end, and limits of time end them.

use crate::support::served::{clean_layer, serve};
use crate::support::server::{Answer, Server};
use crate::support::{Run, layersift, text};

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
    let target = format!("docker://{}/app:v1", server.host());
    layersift(&[&["scan", &target, "--plain-http", "--anonymous"][..], flags].concat())
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
    let server = busy_for("/blobs/", "3600");
    let run = scan(&server, &["--timeout", "1s"]).expect(3);
    told(&run);
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
