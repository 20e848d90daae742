//! The API: scans, images, traces, the queue and the tokens.

use std::collections::BTreeMap;

use crate::running::{Client, Site, eventually};
use crate::scanned::{Scanned, scan};
use crate::support::registry::Registry;
use crate::support::{Run, layersift, testdata, text};
use serde_json::{Value, json};

/// The findings of the incident with the values of secrets: pairs of a secret and the rule that found it.
fn secrets() -> Vec<(String, String)> {
    let target = format!("docker-archive:{}", text(&testdata("incident.tar")));
    let report = layersift(&["scan", &target, "--format=json", "--show-secrets"]).expect(1).json();
    let secret = |finding: &Value| {
        let value = finding["secret"]["value"].as_str()?;
        Some((value.to_string(), finding["rule"].as_str()?.to_string()))
    };
    report["findings"].as_array().unwrap().iter().filter_map(secret).collect()
}

#[test]
fn an_image_is_handed_in_watched_and_listed() {
    let site = Site::sqlite();
    let registry = Registry::filled(&["team/app:v1", "team/app:v2"]);
    let running = site.start_for(&registry.host(), "");
    let client = running.client(&site.token(&["scan"]));
    let image = format!("{}/team/app", registry.host());
    let accepted = client.post("/api/v1/scans", &json!({ "image": format!("{image}:v1") })).expect(202);
    let scan = accepted.json();
    let path = accepted.header("location").to_string();
    assert_eq!(path, format!("/api/v1/scans/{}", scan["id"]));
    let digest = scan["digest"].as_str().unwrap();
    assert_eq!(scan["image"], format!("{image}@{digest}"), "what is scanned is the digest");

    let events = client.get(&format!("{path}/events")).expect(200);
    assert_eq!(events.header("content-type"), "text/event-stream");
    let data = |event: &BTreeMap<String, String>| serde_json::from_str::<Value>(&event["data"]).unwrap();
    let events: Vec<(String, Value)> =
        events.events().iter().map(|event| (event["event"].clone(), data(event))).collect();
    let (last, before) = events.split_last().unwrap();
    assert_eq!(
        (&last.0[..], &last.1["state"], &last.1["failure"]),
        ("end", &"done".into(), &Value::Null),
        "{events:?}"
    );
    assert!(before.iter().all(|(name, _)| *name == "progress"), "{events:?}");
    assert_eq!(client.get(&path).expect(200).json(), last.1);

    // The same image by another tag is the same digest, and is scanned already.
    let known = client.post("/api/v1/scans", &json!({ "image": format!("{image}:v2") })).expect(200).json();
    assert_eq!((&known["digest"], &known["state"]), (&scan["digest"], &"done".into()));
    let again = json!({ "image": format!("{image}@{digest}"), "again": true });
    let again = client.post("/api/v1/scans", &again).expect(202).json();
    eventually("the second scan", || {
        let scan = client.get(&format!("/api/v1/scans/{}", again["id"])).expect(200).json();
        (scan["state"] == "done").then_some(())
    });

    let all = client.get("/api/v1/scans").expect(200).json();
    let ids = |list: &Value| -> Vec<Value> {
        list["scans"].as_array().unwrap().iter().map(|scan| scan["id"].clone()).collect()
    };
    assert!(ids(&all).contains(&scan["id"]) && all["next"].is_null(), "{all}");
    let mut paged = Vec::new();
    let mut next = json!(0);
    while !next.is_null() {
        let page = client.get(&format!("/api/v1/scans?limit=1&state=done&after={next}")).expect(200).json();
        paged.extend(ids(&page));
        next = page["next"].clone();
    }
    assert_eq!(paged, ids(&all), "one a page");
    assert_eq!(client.get("/api/v1/scans?state=failed").expect(200).json()["scans"], json!([]));
    client.get("/api/v1/scans/999").expect(404);
}

#[test]
fn reports_are_what_render_writes() {
    let scanned = Scanned::start(Site::sqlite(), "");
    let render = |flags: &[&str]| -> Run { scanned.site.layersift(&[&["render", &scanned.digest], flags].concat()) };
    for format in layersift_report::FORMATS {
        let rendered = render(&["--format", format.name]).expect(1);
        let report = scanned.get(&scanned.path(&format!("/report?format={}", format.name))).expect(200);
        assert_eq!(report.text(), rendered.stdout, "{}", format.name);
    }
    let report = scanned.get(&scanned.path("/report")).expect(200);
    assert_eq!(report.header("content-type"), "application/json");
    crate::support::check_report(&report.json());
    assert_eq!(report.json()["verdict"], "fail");
    let low = scanned.get(&scanned.path("/report?format=text&show=low")).expect(200);
    assert_eq!(low.text(), render(&["--show", "low"]).expect(1).stdout);
    assert!(low.header("content-type").starts_with("text/plain") && !low.text().contains('\u{1b}'));
    scanned.get(&scanned.path("/report?format=pdf")).expect(400);
    scanned.get(&scanned.path("/report?formt=json")).expect(400);
    scanned.get("/api/v1/images/sha256:00/report").expect(400);
    scanned.get(&format!("/api/v1/images/sha256:{}/report", "0".repeat(64))).expect(404);

    let decision = scanned.get(&scanned.path("")).expect(200).json();
    assert_eq!((&decision["outcome"], &decision["effect"]), (&"fail".into(), &"deny".into()), "{decision}");
}

#[test]
fn findings_and_images_come_in_pages() {
    let scanned = Scanned::start(Site::sqlite(), "");
    let all = scanned.get(&scanned.path("/report")).expect(200).json()["findings"].clone();
    let all = all.as_array().unwrap();
    let page = |rest: &str| scanned.get(&scanned.path(&format!("/findings{rest}"))).expect(200).json();
    let of = |page: &Value| -> Vec<Value> {
        page["findings"].as_array().unwrap().iter().map(|found| found["finding"].clone()).collect()
    };
    let whole = page("");
    assert_eq!((of(&whole), &whole["total"], &whole["next"]), (all.clone(), &all.len().into(), &Value::Null));
    let mut paged = Vec::new();
    let mut next = json!(0);
    while !next.is_null() {
        let page = page(&format!("?limit=3&after={next}"));
        assert_eq!(page["total"], all.len());
        paged.extend(of(&page));
        next = page["next"].clone();
    }
    assert_eq!(&paged, all, "three a page");
    let critical = page("?severity=critical");
    let is_critical = |finding: &&Value| finding["severity"] == "critical";
    let expected: Vec<Value> = all.iter().filter(is_critical).cloned().collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    assert_eq!((of(&critical), &critical["total"]), (expected.clone(), &expected.len().into()));
    for wrong in
        ["?limit=0", "?limit=1001", "?limit=x", "?severity=bad", "?after=-1", "?severty=low", "?limit=1&limit=2"]
    {
        scanned.get(&scanned.path(&format!("/findings{wrong}"))).expect(400);
    }

    // An index stands for its images.
    let index = scanned.push_index("team/app:index");
    scan(&scanned.client, &format!("{}/team/app:index", scanned.registry.host()));
    let found = scanned.get(&format!("/api/v1/images/{index}/findings")).expect(200).json();
    assert_eq!((&found["findings"], &found["total"]), (&whole["findings"], &whole["total"]));

    let digests = |images: &Value| -> Vec<Value> {
        images["images"].as_array().unwrap().iter().map(|image| image["digest"].clone()).collect()
    };
    let images = scanned.get("/api/v1/images").expect(200).json();
    assert_eq!((digests(&images), &images["next"]), (vec![json!(scanned.digest), json!(index)], &Value::Null));
    let mut paged = Vec::new();
    let mut next = json!(0);
    while !next.is_null() {
        let page = scanned.get(&format!("/api/v1/images?limit=1&after={next}")).expect(200).json();
        paged.extend(digests(&page));
        next = page["next"].clone();
    }
    assert_eq!(paged, digests(&images), "one a page");
}

#[test]
fn a_trace_finds_what_is_named_and_secrets_by_any_key() {
    let scanned = Scanned::start(Site::sqlite(), "");
    let (secret, rule) = secrets().into_iter().next().unwrap();
    let findings = scanned.get(&scanned.path("/findings")).expect(200).json();
    let finding = &findings["findings"][0]["finding"];
    let names = |trace: &Value| -> Vec<Value> {
        trace["images"].as_array().unwrap().iter().map(|image| image["manifest_digest"].clone()).collect()
    };
    let path = finding["path"].as_str().unwrap();
    for query in
        [finding["id"].as_str().unwrap(), path, &format!("/{path}"), finding["layer"]["digest"].as_str().unwrap()]
    {
        let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let trace = scanned.get(&format!("/api/v1/trace?q={query}")).expect(200).json();
        assert_eq!(names(&trace), [json!(scanned.digest)], "{query}: {trace}");
        assert!(trace["images"][0]["holds"].as_array().unwrap().iter().all(|hold| hold["fingerprint"].is_null()));
    }
    assert_eq!(scanned.get("/api/v1/trace?q=no/such/path").expect(200).json()["total"], 0);

    let by_secret = |client: &Client, secret: &str| {
        let trace = client.post("/api/v1/trace", &json!({ "secret": secret })).expect(200);
        assert!(!trace.text().contains(secret));
        trace.json()
    };
    let found = by_secret(&scanned.client, &secret);
    assert_eq!((names(&found), &found["images"][0]["holds"][0]["rule"]), (vec![json!(scanned.digest)], &json!(rule)));
    assert_eq!(by_secret(&scanned.client, "a made-up secret that is nowhere")["total"], 0);

    for (limit, status) in
        [("2", 200), ("2.0", 200), ("null", 200), ("0", 400), ("2.5", 400), ("-1", 400), ("\"2\"", 400)]
    {
        let body = format!(r#"{{"secret":"x","limit":{limit}}}"#);
        scanned.client.post_text("/api/v1/trace", &body).expect(status);
    }

    // Another key: the fingerprints of stored reports are still those of the key before.
    scanned.site.write("new", b"another made-up key of 32 bytes or more");
    let new = format!("fingerprint-key = '{}'\n", scanned.site.path("new").display());
    let old = format!("old-fingerprint-keys = ['{}']\n", scanned.site.path("key").display());
    let token = scanned.site.token(&["read"]);
    let total = |settings: &str| by_secret(&scanned.site.start(settings).client(&token), &secret)["total"].clone();
    assert_eq!((total(&new), total(&(new.clone() + &old))), (json!(0), json!(1)));
}

#[test]
fn the_queue_is_counted_and_tokens_tell_nothing_secret() {
    use sha2::Digest as _;
    let scanned = Scanned::start(Site::sqlite(), "");
    let queue = scanned.get("/api/v1/queue").expect(200).json();
    let none = json!({
        "requests": { "admission": 0, "registry-scanner": 0, "event": 0, "background": 0 },
        "layers": { "queued": 0, "leased": 0, "poisoned": 0 },
    });
    assert_eq!(queue, none);
    let token = scanned.site.token(&["admit", "read"]);
    let hash = crate::support::image::hex(&sha2::Sha256::digest(token.as_bytes()));
    assert_eq!(scanned.site.fresh().rows("SELECT hash FROM api_tokens").iter().filter(|row| **row == hash).count(), 1);
    let listed = scanned.get("/api/v1/tokens").expect(200);
    let tokens = listed.json()["tokens"].clone();
    let scopes: Vec<&Value> = tokens.as_array().unwrap().iter().map(|token| &token["scopes"]).collect();
    assert_eq!(scopes.len(), 2);
    assert!(scopes.contains(&&json!(["read", "admit"])) && tokens[0]["name"] == "test", "{tokens}");
    assert!(!listed.text().contains(&token) && !listed.text().contains(&hash) && !listed.text().contains(&token[10..]));
}

#[test]
fn a_token_is_good_until_it_expires_or_is_revoked() {
    let site = Site::sqlite();
    let running = site.start("");
    let good = site.token(&["read"]);
    let expiring = running.client(&site.token_for("1s", &["read"]));
    let revoked = running.client(&site.token(&["read"]));
    revoked.get("/api/v1/queue").expect(200);
    site.layersift(&["token", "revoke", "3"]).expect(0);
    for client in [&expiring, &revoked] {
        let answer = eventually("the end of the token", || {
            Some(client.get("/api/v1/queue")).filter(|answer| answer.status != 200)
        });
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    running.client(&good).get("/api/v1/queue").expect(200);
    for wrong in [&good[..good.len() - 1], &format!("{good}0"), "x", "layersift_"] {
        running.client(wrong).get("/api/v1/queue").expect(401);
    }
    let log = format!("{:?}", running.log());
    assert!(!log.contains(&good), "a token is in the log");
}

#[test]
fn only_listed_registries_are_pulled_from() {
    let site = Site::sqlite();
    let registry = Registry::filled(&["team/app:v1", "other/app:v1"]);
    let host = registry.host();
    let running = site.start(&format!("[registries]\nallow = ['{host}/team/*']\nplain-http = ['{host}']\n"));
    let client = running.client(&site.token(&["scan"]));
    let submit = |image: &str| client.post("/api/v1/scans", &json!({ "image": image }));
    for image in [
        format!("{host}/other/app:v1"),
        format!("localhost:{}/team/app:v1", registry.port),
        format!("127.0.0.1:1/team/app@sha256:{}", "0".repeat(64)),
        "alpine".into(),
        "rootfs:app".into(),
    ] {
        let problem = submit(&image).expect(403);
        assert_eq!(problem.header("content-type"), "application/problem+json", "{image}");
        assert!(problem.json()["detail"].as_str().unwrap().contains("not among the registries"), "{image}");
    }
    let archive = testdata("incident.tar");
    for image in [
        "rootfs:/",
        "docker-daemon:app:v1",
        "docker-archive:/image.tar",
        "oci:/image",
        "containers-storage:app/x:1",
        "/etc/passwd",
        "../x",
        "file:///etc/passwd",
        "http://169.254.169.254/x",
        text(&archive),
        "",
        "a b",
    ] {
        submit(image).expect(400);
    }
    for body in ["", "{", "[]", "null", "{}", r#"{"image":1}"#, r#"{"image":"a","agian":true}"#, r#"{"image":"a"}x"#] {
        client.post_text("/api/v1/scans", body).expect(400);
    }
    client.post_text("/api/v1/scans", &format!("\"{}\"", "x".repeat(65 << 10))).expect(413);
    submit(&format!("{host}/team/app:none")).expect(404);
    assert_eq!(client.get("/api/v1/scans").expect(200).json()["scans"], json!([]), "nothing was queued");
    submit(&format!("{host}/team/app:v1")).expect(202);
}

#[test]
fn fingerprints_under_the_public_key_are_left_out() {
    let site = Site::sqlite();
    let registry = Registry::filled(&["team/app:v1"]);
    let image = format!("docker://{}/team/app:v1", registry.host());
    let scan = ["scan", &image, "--plain-http", "--anonymous", "--format=json"];
    let report = site.layersift(&scan).expect(1).json();
    let secret = report["findings"].as_array().unwrap().iter().find(|finding| finding["secret"].is_object()).unwrap();
    let secret = &secret["secret"];
    let fingerprint = secret["fingerprint"].as_str().unwrap();
    let digest = report["image"]["manifest_digest"].as_str().unwrap();

    // No registry is listed: the image is not scanned again under the key of the service, and decisions rest on no
    // report under another one.
    let running = site.start("");
    let client = running.client(&site.token(&["read"]));
    client.get(&format!("/api/v1/images/{digest}")).expect(404);
    let answers = ["/report", "/report?format=text", "/findings"].map(|rest| {
        let answer = client.get(&format!("/api/v1/images/{digest}{rest}")).expect(200);
        assert!(!answer.text().contains(fingerprint), "{rest}: {}", answer.text());
        answer
    });
    let found = answers[2].json();
    let with_secret = |found: &&Value| found["finding"]["secret"].is_object();
    let found = found["findings"].as_array().unwrap().iter().find(with_secret).unwrap();
    assert_eq!(found["finding"]["secret"]["fingerprint"], "", "{found}");
    crate::support::check_report(&answers[0].json());
    let by_value = client.post("/api/v1/trace", &json!({ "secret": secrets()[0].0 })).expect(200).json();
    assert_eq!(by_value["total"], 0, "its fingerprint is under another key: {by_value}");
}

#[test]
fn it_works_on_postgresql_with_two_replicas() {
    let scanned = Scanned::start(Site::postgres(), "");
    let other = scanned.site.start_for(&scanned.registry.host(), "");
    let client = other.client(&scanned.site.token(&["scan", "read"]));
    let findings = scanned.get(&scanned.path("/findings")).expect(200).json();
    assert_eq!(client.get(&scanned.path("/findings")).expect(200).json(), findings);
    let known = client.post("/api/v1/scans", &json!({ "image": scanned.image() })).expect(200).json();
    assert_eq!(known["state"], "done");
    let trace = client.post("/api/v1/trace", &json!({ "secret": secrets()[0].0 })).expect(200).json();
    assert_eq!(trace["images"][0]["manifest_digest"], scanned.digest);
}
