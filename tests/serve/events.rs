//! What registries say was pushed: each thing is queued once, whoever says it and however often, and read once.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::images::{Registry, clean, image, index, layer, leak, root};
use crate::running::{Answer, Client, Running, Site, eventually, pulling_from};
use crate::support::Fresh;
use crate::support::artifacts::Artifact;
use crate::support::harbor_webhooks::{Event, Format, Policy, Webhooks};
use crate::support::image::{INDEX, MANIFEST, digest};
use crate::support::postgres;
use reqwest::Method;

/// What the operator set.
const AUTH: &str = "Bearer made-up-secret-of-the-events-0123456789";

/// What Harbor calls the robot of a scan.
const ROBOT: &str = "robot$team+hrbscan-Layersift-c79ab506-eb6e-11f1-b170-c2c65cd2b90f";

const HARBOR: &str = "/events/harbor";
const DISTRIBUTION: &str = "/events/distribution";

/// Settings that take events about images at `host`.
fn settings(site: &Site, host: &str, more: &str) -> String {
    let auth = site.write("events", format!("{AUTH}\n").as_bytes());
    let auth = auth.display();
    format!("{}\n[events]\nharbor-auth = '{auth}'\ndistribution-auth = '{auth}'\n{more}\n", pulling_from(host))
}

fn send(running: &Running, path: &str, auth: &str, body: &str) -> Answer {
    let request = Client::new(&running.url("api")).request(Method::POST, path);
    Answer::of(request.header("Authorization", auth).body(body.to_string()).send().unwrap())
}

/// The body of a push, in Harbor's default format.
fn pushed(host: &str, name: &str, tag: &str, digest: &str) -> String {
    let policy = Policy::new("http://127.0.0.1/", AUTH, Format::Default);
    Event::push(host, &format!("team/{name}"), tag, digest).body(&policy)
}

/// The same as a notification of Distribution.
fn notification(host: &str, name: &str, tag: Option<&str>, (media_type, digest): (&str, &str)) -> Value {
    json!({ "id": "made-up", "timestamp": "2026-11-28T20:59:05Z", "action": "push",
        "target": { "mediaType": media_type, "digest": digest, "size": 7, "repository": format!("team/{name}"),
            "url": format!("http://{host}/v2/team/{name}/manifests/{digest}"), "tag": tag },
        "request": { "id": "made-up", "addr": "127.0.0.1:1", "host": host, "method": "PUT", "useragent": "x" },
        "actor": {}, "source": { "addr": "registry:5000", "instanceID": "made-up" } })
}

fn queued(store: &Fresh) -> Vec<String> {
    store.rows("SELECT reference FROM scan_requests")
}

/// Lets images without a tag wait no longer.
fn wait_no_longer(store: &Fresh) {
    store.rows("UPDATE scan_requests SET not_before = 0 WHERE state = 'queued' RETURNING id");
}

/// Waits until every request has ended well.
fn wait_until_done(store: &Fresh, number: usize) {
    eventually("scans that are done", || {
        let states = store.rows("SELECT state FROM scan_requests");
        assert!(!states.contains(&"failed".to_string()), "{:?}", store.rows("SELECT error FROM scan_requests"));
        (states == vec!["done"; number]).then_some(())
    });
}

/// The value of a metric, 0 where it was never counted.
fn metric(running: &Running, name: &str) -> u64 {
    let text = Client::new(&running.url("health")).get("/metrics").expect(200).text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_string));
    value.map_or(0, |value| value.parse().unwrap())
}

/// An index with two images, of which one leaks.
fn two() -> Artifact {
    index("app", &[("amd64", &[leak()]), ("arm64", &[layer("etc/motd", "x")])])
}

#[test]
fn each_push_is_queued_once() {
    for site in [Site::sqlite(), Site::postgres()] {
        let artifact = two();
        let registry = Registry::of(std::slice::from_ref(&artifact));
        let (host, root) = (registry.host(), root(&artifact));
        let running = site.start(&settings(&site, &host, ""));
        let url = format!("{}{HARBOR}", running.url("api"));
        let policies = [Format::Default, Format::CloudEvents].map(|format| Policy::new(&url, AUTH, format));
        let sent: Vec<Webhooks> = policies.into_iter().map(Webhooks::start).collect();
        for webhooks in &sent {
            // An event for each image of the index, named by its digest, and then one for the index.
            for (_, manifest) in &artifact.manifests[..2] {
                webhooks.send(&Event::push(&host, "team/app", "", &digest(manifest)));
            }
            webhooks.send(&Event::push(&host, "team/app", "v1", &root));
            // What a scan's robot pushes is an SBOM.
            let sbom = Event::push(&host, "team/app", "", &digest(b"an SBOM"));
            webhooks.send(&Event { operator: ROBOT.into(), ..sbom });
            let kind = "DELETE_ARTIFACT".to_string();
            webhooks.send(&Event { kind, ..Event::push(&host, "team/app", "v0", &digest(b"deleted")) });
        }
        for webhooks in &sent {
            assert!(webhooks.finish().iter().all(|delivery| delivery.tries == [Some(200)]));
        }
        let of = |manifest: &[u8]| format!("{host}/team/app@{}", digest(manifest));
        let all: BTreeSet<String> = artifact.manifests.iter().map(|(_, manifest)| of(manifest)).collect();
        assert_eq!(queued(site.fresh()).into_iter().collect::<BTreeSet<_>>(), all, "once each, and nothing else");
        let wrong = Webhooks::start(Policy::new(&url, "Bearer wrong", Format::Default));
        wrong.send(&Event::push(&host, "team/app", "v2", &digest(b"another")));
        assert_eq!(wrong.finish()[0].tries, [Some(401); 3]);
        assert_eq!(queued(site.fresh()).len(), 3);
    }
}

#[test]
fn an_index_and_its_images_are_read_once() {
    for site in [Site::sqlite(), Site::postgres()] {
        let artifact = two();
        let registry = Registry::of(std::slice::from_ref(&artifact));
        let host = registry.host();
        let running = site.start(&settings(&site, &host, ""));
        for (_, manifest) in &artifact.manifests[..2] {
            send(&running, HARBOR, AUTH, &pushed(&host, "app", "", &digest(manifest))).expect(200);
        }
        send(&running, HARBOR, AUTH, &pushed(&host, "app", "v1", &root(&artifact))).expect(200);
        eventually("the index", || {
            let index = format!("SELECT state FROM scan_requests WHERE digest = '{}'", root(&artifact));
            (site.fresh().rows(&index) == ["done"]).then_some(())
        });
        let waiting = site.fresh().rows("SELECT digest FROM scan_requests WHERE state = 'queued' AND attempts = 0");
        assert_eq!(waiting.len(), 2, "the index goes before its images: {waiting:?}");
        let before = registry.server.requests().len();
        wait_no_longer(site.fresh());
        wait_until_done(site.fresh(), 3);
        assert_eq!(registry.server.requests().len(), before, "the images are known: nobody asks the registry");
        for blob in &artifact.blobs {
            assert_eq!(registry.server.requests_of(&format!("/blobs/{}", digest(blob))).len(), 1);
        }
    }
}

#[test]
fn somebody_who_waits_does_not_wait_for_an_index() {
    let site = Site::sqlite();
    let artifact = clean("app");
    let registry = Registry::of(std::slice::from_ref(&artifact));
    let running = site.start(&settings(&site, &registry.host(), ""));
    let root = root(&artifact);
    send(&running, HARBOR, AUTH, &pushed(&registry.host(), "app", "", &root)).expect(200);
    let later = site.fresh().rows("SELECT state FROM scan_requests WHERE not_before > requested_at");
    assert_eq!(later, ["queued"]);
    // The same image under a tag.
    send(&running, HARBOR, AUTH, &pushed(&registry.host(), "app", "v1", &root)).expect(200);
    wait_until_done(site.fresh(), 1);
}

#[test]
fn a_copy_is_answered_from_the_store_and_noted() {
    for site in [Site::sqlite(), Site::postgres()] {
        let original = image("app", &[leak()]);
        let copy = Artifact { name: "copy", ..original.clone() };
        let both = two();
        let copied = Artifact { name: "copied", ..both.clone() };
        let registry = Registry::of(&[original.clone(), copy, both.clone(), copied]);
        let host = registry.host();
        let running = site.start(&settings(&site, &host, ""));
        send(&running, HARBOR, AUTH, &pushed(&host, "app", "v1", &root(&original))).expect(200);
        send(&running, HARBOR, AUTH, &pushed(&host, "app", "v1", &root(&both))).expect(200);
        eventually("the first two", || {
            let ended = site.fresh().rows("SELECT state FROM scan_requests WHERE state IN ('done', 'failed')");
            (ended.len() == 2).then_some(())
        });
        // The second one is of another repository, as two artifacts have one name here.
        let before = registry.server.requests_of("/blobs/").len();
        send(&running, HARBOR, AUTH, &pushed(&host, "copy", "v1", &root(&original))).expect(200);
        eventually("the copy", || {
            let sql = "SELECT state FROM scan_requests WHERE reference LIKE '%/team/copy@%'";
            (site.fresh().rows(sql) == ["done"]).then_some(())
        });
        assert_eq!(registry.server.requests_of("/team/copy/").len(), 0, "an image that is known is not asked for");
        send(&running, HARBOR, AUTH, &pushed(&host, "copied", "v1", &root(&both))).expect(200);
        eventually("the copied index", || {
            let sql = "SELECT state FROM scan_requests WHERE reference LIKE '%/team/copied@%'";
            (site.fresh().rows(sql) == ["done"]).then_some(())
        });
        assert_eq!(registry.server.requests_of("/blobs/").len(), before, "no layer is pulled again");
        let places = site
            .fresh()
            .rows("SELECT DISTINCT r.project, r.repository FROM tags t JOIN repositories r ON r.id = t.repository_id");
        for name in ["copy", "copied"] {
            assert!(places.iter().any(|place| place.ends_with(name)), "{name}: {places:?}");
        }
        // The same push once more.
        let answer = send(&running, HARBOR, AUTH, &pushed(&host, "copy", "v1", &root(&original))).expect(200);
        assert_eq!(answer.json()["known"], 1);
    }
}

#[test]
fn a_registry_has_to_know_the_text() {
    let site = Site::sqlite();
    let running = site.start(&settings(&site, "registry.example", ""));
    let body = pushed("registry.example", "app", "v1", &digest(b"x"));
    for auth in ["", "Bearer", AUTH.trim_start_matches("Bearer "), &format!("{AUTH}x"), &AUTH[..AUTH.len() - 1]] {
        for path in [HARBOR, DISTRIBUTION] {
            send(&running, path, auth, &body).expect(401);
        }
    }
    // The token of a client is none.
    let token = site.token(&["scan", "read", "admit", "admin", "harbor"]);
    send(&running, HARBOR, &format!("Bearer {token}"), &body).expect(401);
    Answer::of(Client::new(&running.url("api")).request(Method::GET, HARBOR).send().unwrap()).expect(405);
    send(&running, HARBOR, AUTH, &body).expect(200);
    // Both are accepted while one replaces the other. Any text will do.
    let new = "Basic bWFkZS11cDptYWRlLXVw, and blanks";
    site.write("events", format!("{AUTH}\n{new}\n").as_bytes());
    eventually("the new text", || (send(&running, HARBOR, new, &body).status == 200).then_some(()));
    send(&running, HARBOR, AUTH, &body).expect(200);
    site.write("events", format!("{new}\n").as_bytes());
    eventually("the end of the old text", || (send(&running, HARBOR, AUTH, &body).status == 401).then_some(()));
    assert_eq!(queued(site.fresh()).len(), 1);
    let wrong = (0..100).map(|_| send(&running, HARBOR, "Bearer wrong", &body).status);
    let wrong: BTreeSet<u16> = wrong.collect();
    assert!(wrong.contains(&429) && wrong.iter().all(|status| matches!(status, 401 | 429)), "{wrong:?}");
    send(&running, HARBOR, new, &body).expect(200);
    let (_, log) = running.stop();
    assert!(!format!("{log:?}").contains("made-up-secret"), "{log:#?}");
}

#[test]
fn without_a_text_nobody_is_heard() {
    let site = Site::sqlite();
    let running = site.start(&pulling_from("registry.example"));
    for path in [HARBOR, DISTRIBUTION] {
        send(&running, path, AUTH, "{}").expect(404);
    }
}

#[test]
fn what_a_real_harbor_sent_is_taken() {
    let recorded = include_str!("../../testdata/recordings/harbor/webhooks/events.json");
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    let bodies: Vec<&str> = recorded
        .as_object()
        .unwrap()
        .values()
        .flat_map(|deliveries| deliveries.as_array().unwrap())
        .filter_map(|delivery| delivery["body"].as_str())
        .collect();
    let site = Site::sqlite();
    let running = site.start(&settings(&site, "127.0.0.1:18000", "[scans]\nat-once = 0"));
    for body in &bodies {
        send(&running, HARBOR, AUTH, body).expect(200);
    }
    // Three policies said the same.
    let mut names: Vec<String> = queued(site.fresh());
    names.iter_mut().for_each(|name| *name = name.split('@').next().unwrap().into());
    names.sort_unstable();
    let expected = ["app/api", "bad", "copy", "copy", "multi", "multi", "multi"];
    let expected: Vec<String> = expected.iter().map(|name| format!("127.0.0.1:18000/hooks/{name}")).collect();
    let others: Vec<&String> = names.iter().filter(|name| !expected.contains(name)).collect();
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}, of which unexpected: {others:?}");
    assert!(metric(&running, "layersift_events_total{source=\"harbor\",outcome=\"ignored\"}") > 9);
}

#[test]
fn what_may_not_be_pulled_is_not_queued() {
    let site = Site::sqlite();
    let auth = site.write("events", AUTH.as_bytes());
    let allow = "[registries]\nallow = ['registry.example/team/a*']";
    let running = site.start(&format!("{allow}\n[events]\nharbor-auth = '{}'", auth.display()));
    let digest = digest(b"x");
    send(&running, DISTRIBUTION, AUTH, "{}").expect(404);
    for host in ["registry.example.evil.example", "registry", "registry.example:5000", "127.0.0.1:1"] {
        let answer = send(&running, HARBOR, AUTH, &pushed(host, "app", "v1", &digest)).expect(200);
        assert_eq!((answer.json()["refused"].clone(), answer.json()["queued"].clone()), (json!(1), json!(0)), "{host}");
    }
    send(&running, HARBOR, AUTH, &pushed("registry.example", "b", "v1", &digest)).expect(200);
    for number in 0..49 {
        send(&running, HARBOR, AUTH, &pushed("other.example", &format!("app{number}"), "v1", &digest)).expect(200);
    }
    assert_eq!(queued(site.fresh()), Vec::<String>::new());
    assert_eq!(metric(&running, "layersift_events_total{source=\"harbor\",outcome=\"refused\"}"), 54);
    let (_, log) = running.stop();
    let said = log.iter().filter(|message| message["host"] == "other.example").count();
    assert_eq!(said, 1, "it is said once in a while");
}

#[test]
fn notifications_of_distribution_are_taken() {
    let site = Site::sqlite();
    let (artifact, other) = (two(), clean("other"));
    let registry = Registry::of(&[artifact.clone(), other.clone()]);
    let host = registry.host();
    let running = site.start(&settings(&site, &host, ""));
    let of = |name: &str, tag, manifest: &(String, Vec<u8>)| {
        notification(&host, name, tag, (&manifest.0, &digest(&manifest.1)))
    };
    let mut pull = of("other", Some("v1"), &other.manifests[0]);
    pull["action"] = "pull".into();
    let blob = notification(&host, "app", None, ("application/octet-stream", &digest(b"a blob")));
    let events = json!({ "events": [
        of("app", None, &artifact.manifests[0]), of("app", None, &artifact.manifests[1]), blob, pull,
        of("app", Some("v1"), &artifact.manifests[2]), of("other", Some("v1"), &other.manifests[0]),
    ], "unknown": [] });
    assert_eq!((artifact.manifests[0].0.as_str(), artifact.manifests[2].0.as_str()), (MANIFEST, INDEX));
    let answer = send(&running, DISTRIBUTION, AUTH, &events.to_string()).expect(200).json();
    assert_eq!(answer, json!({ "queued": 4, "known": 0, "refused": 0, "ignored": 2 }));
    eventually("the index and the other image", || {
        let ended = site.fresh().rows("SELECT state FROM scan_requests WHERE state = 'done'");
        (ended.len() >= 2).then_some(())
    });
    wait_no_longer(site.fresh());
    wait_until_done(site.fresh(), 4);
    // A body that will never be read would be sent for ever.
    for body in ["", "{}", "no JSON", &format!("{{\"events\":[\"{}\"]}}", "x".repeat(5 << 20))] {
        send(&running, DISTRIBUTION, AUTH, body).expect(200);
    }
    send(&running, HARBOR, AUTH, "no JSON").expect(400);
    assert_eq!(metric(&running, "layersift_events_total{source=\"distribution\",outcome=\"invalid\"}"), 4);
}

#[test]
fn a_registry_is_told_to_come_again() {
    let server = postgres::Server::start();
    let site = Site::with(Fresh::at(server.url()));
    let running = site.start(&settings(&site, "registry.example", "[scans]\nat-once = 0\nqueued = 3"));
    let push = |number: u32| {
        let digest = digest(&number.to_be_bytes());
        send(&running, HARBOR, AUTH, &pushed("registry.example", "app", "v1", &digest)).status
    };
    assert_eq!((0..5).map(push).collect::<Vec<_>>(), [200, 200, 200, 503, 503], "the queue is full");
    assert_eq!(push(0), 200, "it waits already");
    server.stop("immediate");
    assert_eq!(push(7), 503);
    server.start_again();
    site.fresh().rows("DELETE FROM scan_requests RETURNING id");
    eventually("the store", || (push(7) == 200).then_some(()));
    assert_eq!(queued(site.fresh()).len(), 1);
}

#[test]
fn an_image_that_failed_a_moment_ago_is_read_when_it_is_pushed() {
    let site = Site::sqlite();
    let artifact = clean("app");
    let registry = Registry::of(std::slice::from_ref(&artifact));
    let running = site.start(&settings(&site, &registry.host(), "[scans]\nretry-failed = '1h'"));
    let body = pushed(&registry.host(), "missing", "v1", &digest(b"missing"));
    for number in 1..=2 {
        send(&running, HARBOR, AUTH, &body).expect(200);
        eventually("a failure", || {
            let scans = metric(&running, "layersift_scan_requests_ended_total{result=\"not-found\"}");
            (scans == number).then_some(())
        });
        eventually("its end", || (site.fresh().rows("SELECT state FROM scan_requests") == ["failed"]).then_some(()));
    }
}
