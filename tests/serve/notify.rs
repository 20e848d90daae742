//! What is found for the first time and fails is told once, whatever becomes of the service and of the receiver.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::images::{Registry, SECRET, clean, image, layer, leak, root};
use crate::running::{Client, Running, Site, eventually, pulling_from};
use crate::scanned::scan;
use crate::support::artifacts::Artifact;
use crate::support::image::Layer;
use crate::support::server::{Answer, Request, Server};
use crate::support::tar::Tar;

const KEY: &str = "a made-up key of the receiver";

/// What the path of the receiver has, which is a secret.
const PATH: &str = "/services/made-up-path-of-the-receiver";

/// A receiver that answers with a status, and with 400 to whatever names `refused`.
struct Receiver {
    server: Server,
    status: Arc<AtomicU16>,
}

impl Receiver {
    fn start(status: u16, refused: &'static str) -> Receiver {
        let status = Arc::new(AtomicU16::new(status));
        let now = Arc::clone(&status);
        let server = Server::answering(move |request, _| {
            let is_refused = !refused.is_empty() && String::from_utf8_lossy(&request.body).contains(refused);
            Answer::new(if is_refused { 400 } else { now.load(Ordering::Relaxed) }, "ok")
        });
        Receiver { server, status }
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    fn url(&self) -> String {
        format!("http://{}{PATH}", self.server.host())
    }

    fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    /// The messages so far, each with the name of its delivery.
    fn messages(&self) -> Vec<(String, Value)> {
        let message = |request: &Request| {
            let delivery = request.header("x-layersift-delivery").unwrap().to_string();
            (delivery, serde_json::from_slice(&request.body).unwrap())
        };
        self.requests().iter().map(message).collect()
    }
}

/// Settings of a service that tells `receiver`.
fn settings(site: &Site, host: &str, receiver: &Receiver, more: &str) -> String {
    let key = site.write("notify-key", format!("{KEY}\n").as_bytes());
    let url = receiver.url();
    format!("{}\n[notify]\nurl = '{url}'\nsecret = '{}'\n{more}\n", pulling_from(host), key.display())
}

fn client(site: &Site, running: &Running) -> Client {
    running.client(&site.token(&["scan"]))
}

/// The number of messages in a state.
fn count(site: &Site, state: &str) -> usize {
    site.fresh().rows(&format!("SELECT id FROM notifications WHERE state = '{state}'")).len()
}

/// Messages are sent again at once.
fn wait_no_longer(site: &Site) {
    site.fresh().rows("UPDATE notifications SET not_before = 0 WHERE state = 'waiting' RETURNING id");
}

fn token(number: usize) -> Layer {
    layer(&format!("app/settings-{number}"), &format!("token = glpat-Zk7Qm2Xr9Tb4Wn6Ve{number:03}\n"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_new_and_fails_is_told_once() {
    for site in [Site::sqlite(), Site::postgres()] {
        let leaking = image("leaking", &[layer("etc/motd", "x"), leak(), layer("app/.wh..env", "")]);
        let other = image("other", &[leak()]);
        let registry = Registry::of(&[leaking.clone(), other.clone(), clean("clean")]);
        let receiver = Receiver::start(204, "");
        let settings = settings(&site, &registry.host(), &receiver, "");
        let running = site.start(&settings);
        let scans = client(&site, &running);
        scan(&scans, &registry.by_digest(&leaking));
        eventually("a message", || (count(&site, "sent") == 1).then_some(()));
        // The same secret in another image, the same image again, and nothing.
        scan(&scans, &registry.by_digest(&other));
        scan(&scans, &format!("{}/team/clean:v1", registry.host()));
        let again = json!({ "image": registry.by_digest(&leaking), "again": true });
        scans.post("/api/v1/scans", &again).expect(202);
        eventually("the scan", || {
            (site.fresh().rows("SELECT state FROM scan_requests WHERE state <> 'done'").is_empty()).then_some(())
        });
        let (_, log) = running.stop();
        let running = site.start(&settings);
        scan(&client(&site, &running), &registry.by_digest(&leaking));
        assert_eq!(site.fresh().count("notifications"), 1);
        let [(delivery, message)] = &receiver.messages()[..] else { panic!("{:?}", receiver.messages()) };
        assert_eq!((&message["kind"], &message["id"]), (&json!("new-findings"), &json!(delivery)));
        assert_eq!(message["image"], registry.by_digest(&leaking));
        assert_eq!((&message["digest"], &message["findings_total"]), (&json!(root(&leaking)), &json!(1)));
        let finding = &message["findings"][0];
        for (field, value) in [
            ("rule", json!("gitlab.personal-access-token")),
            ("path", json!("app/.env")),
            ("layer", json!(1)),
            ("state", json!("deleted")),
            ("times_seen", json!(1)),
            ("field", Value::Null),
        ] {
            assert_eq!(finding[field], value, "{message:#}");
        }
        assert_eq!(finding["fingerprint"].as_str().unwrap().len(), 32);
        assert!(finding["masked"].as_str().unwrap().starts_with("glpa"), "{finding}");
        let request = &receiver.requests()[0];
        assert_eq!((&request.method[..], &request.path[..]), ("POST", PATH));
        let time = request.header("x-layersift-timestamp").unwrap();
        let mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap().chain_update(format!("{time}."));
        let expected = format!("sha256={}", hex(&mac.chain_update(&request.body).finalize().into_bytes()));
        assert_eq!(request.header("x-layersift-signature").unwrap(), expected);
        // Nowhere is the secret, nor the path of the receiver.
        let everything = format!("{message} {log:?} {:?}", site.fresh().rows("SELECT message FROM notifications"));
        assert!(!everything.contains(SECRET) && !everything.contains(PATH), "{everything}");
    }
}

#[test]
fn a_receiver_that_was_down_is_told_everything_in_order() {
    for site in [Site::sqlite(), Site::postgres()] {
        let names = ["a", "b", "c", "d", "e", "f"];
        let images: Vec<Artifact> =
            names.iter().enumerate().map(|(number, name)| image(name, &[token(number)])).collect();
        let registry = Registry::of(&images);
        let receiver = Receiver::start(503, "");
        let settings = settings(&site, &registry.host(), &receiver, "");
        let running = site.start(&settings);
        let scans = client(&site, &running);
        for image in &images[..3] {
            scan(&scans, &registry.by_digest(image));
        }
        eventually("a try", || (!receiver.requests().is_empty()).then_some(()));
        // It dies, and the next one goes on, with another try of the first message.
        running.kill();
        let running = site.start(&settings);
        let scans = client(&site, &running);
        for image in &images[3..] {
            scan(&scans, &registry.by_digest(image));
        }
        wait_no_longer(&site);
        let tries = receiver.requests().len();
        eventually("another try", || (receiver.requests().len() > tries).then_some(()));
        assert_eq!(count(&site, "waiting"), 6);
        let tried: BTreeSet<String> = receiver.messages().into_iter().map(|(delivery, _)| delivery).collect();
        assert_eq!(tried.len(), 1, "one message at a time, until it is taken");
        // The hour is over.
        receiver.answer(200);
        let tries = receiver.requests().len();
        eventually("the end", || {
            wait_no_longer(&site);
            (count(&site, "sent") == 6).then_some(())
        });
        let told: Vec<(String, Value)> = receiver.messages().split_off(tries);
        let images_told: Vec<&Value> = told.iter().map(|(_, message)| &message["image"]).collect();
        let expected: Vec<Value> = images.iter().map(|image| registry.by_digest(image).into()).collect();
        assert_eq!(images_told, expected.iter().collect::<Vec<_>>(), "everything, once, and in order");
        assert!(tried.contains(&told[0].0), "a message keeps its name");
        let health = Client::new(&running.url("health"));
        eventually("the metrics", || {
            let text = health.get("/metrics").text();
            (text.contains("layersift_notifications_total{result=\"sent\"} 6")
                && text.contains("layersift_notifications_waiting 0"))
            .then_some(())
        });
    }
}

#[test]
fn a_message_that_is_refused_is_not_in_the_way() {
    let site = Site::sqlite();
    let (bad, good) = (image("bad", &[token(1)]), image("good", &[token(2)]));
    let registry = Registry::of(&[bad.clone(), good.clone()]);
    let receiver = Receiver::start(200, "team/bad@");
    let running = site.start(&settings(&site, &registry.host(), &receiver, ""));
    let scans = client(&site, &running);
    scan(&scans, &registry.by_digest(&bad));
    eventually("a refusal", || (!receiver.requests().is_empty()).then_some(()));
    scan(&scans, &registry.by_digest(&good));
    eventually("the other message", || (count(&site, "sent") == 1).then_some(()));
    assert_eq!(count(&site, "waiting"), 1, "it is tried again");
    // For a week.
    site.fresh().rows("UPDATE notifications SET created_at = created_at - 604800 WHERE state = 'waiting' RETURNING id");
    eventually("the end", || {
        wait_no_longer(&site);
        (count(&site, "given-up") == 1).then_some(())
    });
    let said =
        running.log().iter().any(|line| line["message"].as_str().unwrap_or_default().starts_with("message given"));
    assert!(said);
}

#[test]
fn what_a_killed_service_found_is_told_by_the_next() {
    for site in [Site::sqlite(), Site::postgres()] {
        let leaking = image("leaking", &[leak()]);
        let registry = Registry::of(&[leaking.clone(), clean("clean"), image("other", &[token(7)])]);
        let running = site.start(&pulling_from(&registry.host()));
        let scans = client(&site, &running);
        scan(&scans, &registry.by_digest(&leaking));
        scan(&scans, &format!("{}/team/other:v1", registry.host()));
        running.kill();
        // As if it had been killed between the end of the sweep and its announcement.
        let digest = root(&leaking);
        let of_image = format!("image_id = (SELECT id FROM images WHERE manifest_digest = '{digest}')");
        site.fresh().rows(&format!("UPDATE sightings SET announced = 0 WHERE {of_image} RETURNING thing"));
        let receiver = Receiver::start(200, "");
        let running = site.start(&settings(&site, &registry.host(), &receiver, ""));
        scan(&client(&site, &running), &format!("{}/team/clean:v1", registry.host()));
        eventually("the message", || (count(&site, "sent") == 1).then_some(()));
        let [(_, message)] = &receiver.messages()[..] else { panic!("{:?}", receiver.messages()) };
        assert_eq!((&message["image"], &message["digest"]), (&json!(registry.by_digest(&leaking)), &json!(digest)));
        assert_eq!(message["findings"][0]["path"], "app/.env");
    }
}

#[test]
fn what_the_policy_allows_is_not_told() {
    let site = Site::sqlite();
    let leaking = image("leaking", &[leak(), token(1)]);
    let registry = Registry::of(std::slice::from_ref(&leaking));
    let allow = "[[allow]]\npath = 'app/.env'\nreason = 'a made-up exception'\nexpires = 2099-01-01\n";
    let policy = site.write("policy.toml", allow.as_bytes());
    let receiver = Receiver::start(200, "");
    let more = settings(&site, &registry.host(), &receiver, "");
    let running = site.start(&format!("policy = '{}'\n{more}", policy.display()));
    scan(&client(&site, &running), &registry.by_digest(&leaking));
    eventually("the message", || (count(&site, "sent") == 1).then_some(()));
    let (_, message) = &receiver.messages()[0];
    let paths: Vec<&Value> = message["findings"].as_array().unwrap().iter().map(|finding| &finding["path"]).collect();
    assert_eq!(paths, [&json!("app/settings-1")], "{message:#}");
}

#[test]
fn a_channel_is_told_in_its_form() {
    let hostile = "app/<!channel>\u{202e}`\n*x*/.env";
    let many = (100..160).fold(Tar::new(), |tar, number| {
        tar.file(&format!("app/settings-{number}"), format!("token = glpat-Zk7Qm2Xr9Tb4Wn6Ve{number:03}\n").as_bytes())
    });
    let images = [
        image("hostile", &[layer(hostile, &format!("GITLAB_TOKEN={SECRET}\n"))]),
        image("many", &[Layer::plain(many.finish())]),
    ];
    let registry = Registry::of(&images);
    for (format, media_type) in [("slack", "application/json"), ("cloudevents", "application/cloudevents+json")] {
        let site = Site::sqlite();
        let receiver = Receiver::start(200, "");
        let settings = settings(&site, &registry.host(), &receiver, &format!("format = '{format}'"));
        let running = site.start(&settings);
        let scans = client(&site, &running);
        images.iter().for_each(|image| drop(scan(&scans, &registry.by_digest(image))));
        eventually("the messages", || (count(&site, "sent") == 2).then_some(()));
        let requests = receiver.requests();
        assert!(requests.iter().all(|request| request.header("content-type") == Some(media_type)));
        let [(_, hostile), (delivery, many)] = &receiver.messages()[..] else { panic!() };
        if format == "slack" {
            let text = hostile["text"].as_str().unwrap();
            assert!(text.contains("&lt;!channel&gt;") && !text.contains('<') && !text.contains('\u{202e}'), "{text}");
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(many["text"].as_str().unwrap().ends_with("and 50 more"), "{many}");
            assert_eq!(many.as_object().unwrap().len(), 1);
        } else {
            assert_eq!((&many["specversion"], &many["id"]), (&json!("1.0"), &json!(delivery)));
            assert_eq!(many["data"]["findings_total"], 60);
            assert_eq!(many["data"]["findings"].as_array().unwrap().len(), 50);
            let path = hostile["data"]["findings"][0]["path"].as_str().unwrap();
            assert!(!path.contains(['\u{202e}', '\n']) && path.ends_with("/.env"), "{path:?}");
        }
    }
}

#[test]
fn a_url_is_checked_and_not_shown() {
    let site = Site::sqlite();
    let check = |settings: &str, flags: &[&str]| {
        let output = site.command(settings).arg("--check").args(flags).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let plain = pulling_from("registry.example");
    let short = site.write("short", b"short\n");
    let secret = format!("secret = '{}'", short.display());
    for (settings, flags) in [
        (format!("{plain}[notify]\nurl = 'http://hooks.example/made-up-path'"), vec![]),
        (plain.clone(), vec!["--notify", "http://hooks.example/made-up-path"]),
        (plain.clone(), vec!["--notify", "made-up-path"]),
        (format!("{plain}[notify]\n{secret}"), vec![]),
        (format!("{plain}[notify]\nurl = 'https://hooks.example/made-up-path'\n{secret}"), vec![]),
        (format!("{plain}[notify]\nurl = 'https://hooks.example/made-up-path'\nformat = 'teams'"), vec![]),
    ] {
        let (is_valid, text) = check(&settings, &flags);
        assert!(!is_valid && !text.contains("made-up-path"), "{settings} {flags:?}: {text}");
    }
    let (is_valid, text) = check(&plain, &["--notify", "https://hooks.example/made-up-path"]);
    assert!(is_valid, "{text}");
    // The flag comes before the settings.
    let registry = Registry::of(&[image("leaking", &[leak()])]);
    let (first, second) = (Receiver::start(200, ""), Receiver::start(200, ""));
    let mut command = site.command(&settings(&site, &registry.host(), &first, ""));
    command.args(["--notify", &second.url()]);
    let running = Running::start(command);
    scan(&client(&site, &running), &format!("{}/team/leaking:v1", registry.host()));
    eventually("the message", || (second.requests().len() == 1).then_some(()));
    assert!(first.requests().is_empty());
}

#[test]
fn what_is_of_a_base_image_is_not_told() {
    let site = Site::sqlite();
    let (base, app) = (image("base", &[leak()]), image("app", &[leak(), token(1)]));
    let registry = Registry::of(&[base.clone(), app.clone()]);
    let receiver = Receiver::start(200, "");
    let settings = settings(&site, &registry.host(), &receiver, "");
    let running = site.start(&format!("{settings}\n[admission]\nbase-images = ['{}']", root(&base)));
    let scans = client(&site, &running);
    scan(&scans, &registry.by_digest(&base));
    scan(&scans, &registry.by_digest(&app));
    eventually("the message", || (count(&site, "sent") == 1).then_some(()));
    let [(_, message)] = &receiver.messages()[..] else { panic!("{:?}", receiver.messages()) };
    let findings = message["findings"].as_array().unwrap();
    assert_eq!((findings.len(), &findings[0]["path"]), (1, &json!("app/settings-1")), "{message:#}");
}

#[test]
fn what_does_not_fail_is_told_by_choice() {
    for (findings, told) in [("failing", 0), ("all", 1)] {
        let site = Site::sqlite();
        let leaking = image("leaking", &[leak()]);
        let registry = Registry::of(std::slice::from_ref(&leaking));
        let policy = site.write("policy.toml", b"fail-on = 'none'\n");
        let receiver = Receiver::start(200, "");
        let more = settings(&site, &registry.host(), &receiver, &format!("findings = '{findings}'"));
        let running = site.start(&format!("policy = '{}'\n{more}", policy.display()));
        scan(&client(&site, &running), &registry.by_digest(&leaking));
        // A message is there before its scan has ended.
        assert_eq!(site.fresh().count("notifications"), told, "{findings}");
    }
}
