//! How a service starts, refuses to start, and ends.

use crate::running::{Client, Running, Site, eventually};
use crate::scanned::Scanned;
use crate::support::server::Server;
use crate::support::{Run, finish};
use serde_json::json;

/// A start that fails, or a check.
fn start(site: &Site, settings: &str, flags: &[&str]) -> Run {
    finish(site.command(settings).args(flags), None)
}

#[test]
fn it_listens_answers_and_ends_by_a_signal() {
    let site = Site::sqlite();
    let running = site.start("");
    let health = Client::new(&running.url("health"));
    assert_eq!(health.get("/healthz").expect(200).text(), "ok\n");
    let ready = health.get("/readyz").expect(200).json();
    assert_eq!(ready, json!({ "ready": true, "store": "ok" }));
    assert!(health.get("/metrics").expect(200).text().ends_with("# EOF\n"));
    health.get("/api/v1/queue").expect(404);
    let api = Client::new(&running.url("api"));
    assert_eq!(api.get("/healthz").expect(200).text(), "ok\n");
    api.get("/metrics").expect(401);
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log:#?}");
    assert!(log.iter().any(|message| message["message"] == "the service ended"), "{log:#?}");
}

#[test]
fn a_scan_in_progress_goes_back_to_the_queue() {
    let site = Site::sqlite();
    let silent = Server::answering(|request, _| {
        if request.path.contains("/manifests/") {
            std::thread::sleep(crate::support::DEADLINE);
        }
        crate::support::server::Answer::new(200, "{}")
    });
    let running = site.start_for(&silent.host(), "");
    let client = running.client(&site.token(&["scan"]));
    let image = format!("{}/app@sha256:{}", silent.host(), "0".repeat(64));
    let scan = client.post("/api/v1/scans", &json!({ "image": image })).expect(202);
    let path = scan.header("location").to_string();
    eventually("the scan", || (client.get(&path).expect(200).json()["state"] == "running").then_some(()));
    // The stream is there before the service is told to end.
    let stream = client.request(reqwest::Method::GET, &format!("{path}/events")).send().unwrap();
    let events = std::thread::spawn(move || stream.text().unwrap());
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log:#?}");
    assert_eq!(site.fresh().rows("SELECT state FROM scan_requests"), ["queued"]);
    assert!(!events.join().unwrap().contains("event: end"));
}

#[test]
fn a_restart_goes_on_where_a_crash_was() {
    let Scanned { site, running, registry, client, digest } = Scanned::start(Site::sqlite(), "");
    let path = format!("/api/v1/images/{digest}/findings");
    let before = client.get(&path).expect(200).json();
    let token = site.token(&["read"]);
    running.kill();
    let running = site.start_for(&registry.host(), "");
    assert_eq!(running.client(&token).get(&path).expect(200).json(), before);
}

#[test]
fn it_does_not_start_with_the_built_in_key() {
    let site = Site::sqlite();
    for flags in [&[][..], &["--check"]] {
        let mut command = crate::support::program();
        command.args(["serve", "--store", site.store()]).env("LAYERSIFT_SERVE_LISTEN__API", "127.0.0.1:0").args(flags);
        let run = finish(&mut command, None).expect(2);
        assert!(run.stderr.contains("the built-in fingerprint key is public"), "{}", run.stderr);
        assert!(run.stderr.contains("set `fingerprint-key`"), "{}", run.stderr);
    }
    site.write("short", b"short");
    let short = format!("fingerprint-key = '{}'", site.path("short").display());
    let run = start(&site, &short, &[]).expect(2);
    assert!(run.stderr.contains("at least 16 bytes"), "{}", run.stderr);
}

#[test]
fn wrong_settings_are_named_with_their_line() {
    let site = Site::sqlite();
    // Two lines are before these.
    for (settings, expected) in [
        ("[listen]\napo = '127.0.0.1:0'", "line 4 column 1"),
        ("[listen]\napi = 'localhost:0'", "line 4 column 7"),
        ("[scans]\ntimeout = '1 day'", "line 4"),
        ("[admission]\non-unknown = 'perhaps'", "unknown variant, expected"),
        ("[listen]\napi = '0.0.0.0:0'", "must not cross a network unencrypted"),
        ("rules = ['/nowhere/rules']", "/nowhere/rules"),
        ("policy = '/nowhere/policy.toml'", "/nowhere/policy.toml"),
        ("[[prompts.policies]]\nmax-bytes = 0", "invalid `max-bytes`"),
        ("[[prompts.policies]]\nallow-rules = ['github.', 'githbu.']", "unknown rule `githbu.`"),
        ("old-fingerprint-keys = ['/nowhere/key']", "/nowhere/key"),
        ("[tls]\ncertificate = '/nowhere/tls.crt'\nkey = '/nowhere/tls.key'", "/nowhere/tls.crt"),
    ] {
        for flags in [&[][..], &["--check"]] {
            let run = start(&site, settings, flags).expect(2);
            assert!(run.stderr.contains(expected), "{settings}: {}", run.stderr);
        }
    }
    let missing = crate::support::layersift(&["serve", "--config", "/nowhere/serve.toml"]).expect(2);
    assert!(missing.stderr.contains("/nowhere/serve.toml"), "{}", missing.stderr);
}

#[test]
fn a_check_changes_nothing() {
    let site = Site::sqlite();
    let run = start(&site, "", &["--check"]).expect(0);
    assert_eq!(run.stdout, "the settings are valid\n");
    assert!(!std::path::Path::new(site.store()).exists());
}

#[test]
fn a_newer_store_is_refused() {
    let site = Site::sqlite();
    drop(site.fresh().open());
    site.fresh().execute("INSERT INTO schema_versions (version) VALUES (9999)");
    for flags in [&[][..], &["--check"]] {
        let run = start(&site, "", flags).expect(2);
        assert!(run.stderr.contains("newer"), "{}", run.stderr);
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let site = Site::sqlite();
    let running: Running = site.start("");
    let taken = running.url("api").strip_prefix("http://").unwrap().to_string();
    let run = start(&site, &format!("[listen]\napi = '{taken}'"), &[]).expect(2);
    assert!(run.stderr.contains(&format!("cannot listen at {taken}")), "{}", run.stderr);
}
