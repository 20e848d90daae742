//! The stand-in of Harbor's scanning, held against the recordings of a real one: refused pulls, tokens and robots of
//! the registry, indexes, rescans, outages of metadata, "scan all", webhooks, and the stand-in of a second adapter.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harbor_stub::{Poll, Script, Stub, made_up, recording, report_of};
use crate::images::{index, layer};
use crate::running::eventually;
use crate::support::artifacts::Artifact;
use crate::support::full_harbor::Account;
use crate::support::harbor_scanner::{Auth, HarborScanner, ScanAll, Settings, Setup, Status};
use crate::support::harbor_webhooks::{Event, Format, Policy, Webhooks};
use crate::support::server::{Answer, Request, Server};
use crate::support::trivy_adapter::{TrivyAdapter, cve};

/// An operator's robot that may do anything.
const ROBOT: &str = "robot$sweep-all";

fn scanning_with(stub: &Stub) -> HarborScanner {
    let harbor = HarborScanner::start(Setup::default());
    harbor.register(&stub.url(), Auth::None).unwrap();
    harbor.add_account(ROBOT, Account::robot("made-up", &[]).of_all(), true);
    harbor
}

fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
}

/// A request to the stand-in's registry or interface.
fn ask(harbor: &HarborScanner, method: &str, path: &str, authorization: &str) -> Answer {
    ask_with(harbor, method, path, authorization, "")
}

fn ask_with(harbor: &HarborScanner, method: &str, path: &str, authorization: &str, body: &str) -> Answer {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(harbor.host()).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n{body}",
        harbor.host(),
        body.len()
    )
    .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let split = head.lines().filter_map(|line| line.split_once(": "));
    let headers = split.map(|(name, value)| (name.into(), value.into())).collect();
    Answer { status, headers, body: bytes[end + 4..].to_vec() }
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

fn finding(id: &str, severity: &str) -> Value {
    json!({ "id": id, "package": format!("app/{id}"), "version": "aaaa", "severity": severity, "description": "d" })
}

/// What the recording of policies pulled.
fn policy_images(stub: &Stub, harbor: &HarborScanner) -> BTreeMap<&'static str, String> {
    let bad = ["Critical", "High", "Low"].map(|severity| finding(&format!("SECRET-bad-{severity}"), severity));
    let found: [(&str, Option<Vec<Value>>); 8] = [
        ("clean", Some(vec![])),
        ("bad", Some(bad.to_vec())),
        ("one", Some(vec![finding("SECRET-only-one", "High")])),
        ("unscanned", None),
        ("low", Some(vec![finding("SECRET-low", "Low")])),
        ("unknownsev", Some(vec![finding("SECRET-unknown", "Unknown")])),
        ("negligible", Some(vec![finding("SECRET-negligible", "Negligible")])),
        ("failed", Some(vec![])),
    ];
    let mut digests = BTreeMap::new();
    for (name, findings) in found {
        let repository = format!("block/{name}");
        let digest = harbor.push(&repository, "1", &made_up(name));
        if let Some(findings) = findings {
            let report = if name == "failed" { "no JSON".into() } else { report_of(&findings).to_string() };
            stub.script(&repository, Script::report(report));
            assert_eq!(harbor.scan(&repository, &digest).status, 202);
        }
        digests.insert(name, digest);
    }
    harbor.wait_all();
    let running = harbor.push("block/running", "1", &made_up("running"));
    stub.script("block/running", Script::endless());
    harbor.scan("block/running", &running);
    eventually("the scan", || (harbor.status(&running) == Some(Status::Running)).then_some(()));
    digests.insert("running", running);
    digests
}

#[test]
fn it_refuses_the_pulls_that_a_real_one_refused() {
    let recorded = recording("scanner/policy-412-and-allowlist.json");
    let stub = Stub::start();
    let harbor = scanning_with(&stub);
    let images = policy_images(&stub, &harbor);
    let robot = basic(ROBOT, "made-up");
    let pull = |name: &str| ask(&harbor, "GET", &format!("/v2/block/{name}/manifests/{}", images[name]), &robot);
    // Another sweep scanned some of theirs meanwhile.
    let disturbed = [
        ("severity=negligible", "failed"),
        ("severity=negligible", "low"),
        ("severity=negligible", "unknownsev"),
        ("severity=bogus", "unscanned"),
        ("severity=", "unscanned"),
    ];
    let mut compared = 0;
    for (setting, cases) in recorded.as_object().unwrap().iter().filter(|(name, _)| *name != "allowlist") {
        let severity = setting.strip_prefix("severity=").unwrap().to_string();
        harbor.set_project("block", Settings { prevent_vul: true, severity, ..Settings::default() });
        for (name, case) in cases.as_object().unwrap() {
            if !images.contains_key(&name[..]) || disturbed.contains(&(setting, name)) {
                continue;
            }
            let answer = pull(name);
            assert_eq!(case["status"], answer.status, "{setting} {name}: {}", text(&answer));
            if answer.status == 412 {
                assert_eq!(case["body"], text(&answer), "{setting} {name}");
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 8 * 9 - disturbed.len());
    harbor.set_project("block", Settings { prevent_vul: true, severity: "low".into(), ..Settings::default() });
    let head = ask(&harbor, "HEAD", &format!("/v2/block/bad/manifests/{}", images["bad"]), &robot);
    assert_eq!((head.status, head.body.len()), (412, 0));
    assert_eq!(ask(&harbor, "GET", "/v2/block/bad/manifests/1", &robot).status, 412);
    assert_eq!(ask(&harbor, "GET", "/v2/block/bad/tags/list", &robot).status, 200);
    // An index is not refused, its images are.
    let multi = index("multi", &[("amd64", &[layer("a", "a")]), ("arm64", &[layer("a", "b")])]);
    let root = harbor.push("block/multi", "1", &multi);
    let child = crate::support::image::digest(&multi.manifests[0].1);
    assert_eq!(ask(&harbor, "GET", &format!("/v2/block/multi/manifests/{root}"), &robot).status, 200);
    assert_eq!(ask(&harbor, "GET", &format!("/v2/block/multi/manifests/{child}"), &robot).status, 412);
}

#[test]
fn its_allow_list_is_exact() {
    let recorded = recording("scanner/policy-412-and-allowlist.json")["allowlist"].clone();
    let stub = Stub::start();
    let harbor = scanning_with(&stub);
    let images = policy_images(&stub, &harbor);
    let refused = |name: &str, ids: &[&str]| {
        let allow_list = ids.iter().map(ToString::to_string).collect();
        let (prevent_vul, severity) = (true, "low".to_string());
        harbor.set_project("block", Settings { prevent_vul, severity, allow_list, ..Settings::default() });
        harbor.refused(&format!("block/{name}"), &images[name])
    };
    let [low, high, critical] = ["SECRET-bad-Low", "SECRET-bad-High", "SECRET-bad-Critical"];
    let cases: [(&str, &str, &[&str]); 6] = [
        ("other case", "one", &["secret-only-ONE"]),
        ("prefix", "one", &["SECRET-only"]),
        ("with spaces around", "one", &[" SECRET-only-one "]),
        ("star", "one", &["SECRET-*"]),
        ("two of three", "bad", &[low, high]),
        ("all three", "bad", &[low, high, critical]),
    ];
    for (name, image, ids) in cases {
        let theirs = &recorded[name][1];
        let ours = refused(image, ids);
        assert_eq!(theirs["status"], if ours.is_some() { 412 } else { 200 }, "{name}: {ours:?}");
        let body = theirs["body"].as_str().unwrap();
        if let Some(ours) = ours {
            assert!(body.contains(&json!(ours).to_string()), "{name}: {ours} {body}");
        }
    }
    assert_eq!((recorded["one id: pull"]["status"].as_u64(), refused("one", &["SECRET-only-one"])), (Some(200), None));
    assert_eq!(harbor.overview(&images["one"])["severity"], "High", "what is allowed stays in the overview");
}

/// What the recording of credentials asked the registry.
fn registry_requests(
    digest: &str,
    other: &str,
    theirs: &str,
    public: &str,
) -> [(&'static str, &'static str, String); 12] {
    let own = "/v2/lab/cred/deep/repo";
    [
        ("GET manifest by digest", "GET", format!("{own}/manifests/{digest}")),
        ("HEAD manifest by digest", "HEAD", format!("{own}/manifests/{digest}")),
        ("GET manifest by tag", "GET", format!("{own}/manifests/1")),
        ("GET tags/list", "GET", format!("{own}/tags/list")),
        ("GET _catalog", "GET", "/v2/_catalog".into()),
        ("GET /v2/", "GET", "/v2/".into()),
        ("GET referrers", "GET", format!("{own}/referrers/{digest}")),
        ("GET manifest, other repository, same project", "GET", format!("/v2/lab/other/manifests/{other}")),
        ("GET manifest, other project (private)", "GET", format!("/v2/proj/a/b/c/manifests/{theirs}")),
        ("GET manifest, other project (public)", "GET", format!("/v2/pub/app/manifests/{public}")),
        ("POST blob upload", "POST", format!("{own}/blobs/uploads/")),
        ("DELETE manifest", "DELETE", format!("{own}/manifests/{digest}")),
    ]
}

#[test]
fn its_robot_and_its_tokens_open_what_those_of_a_real_one_did() {
    let recorded = recording("scanner/registry-credentials.json");
    let stub = Stub::start();
    let harbor = scanning_with(&stub);
    let own = harbor.push("lab/cred/deep/repo", "1", &made_up("own"));
    let other = harbor.push("lab/other", "1", &made_up("other"));
    let theirs = harbor.push("proj/a/b/c", "1", &made_up("theirs"));
    harbor.set_project("pub", Settings { is_public: true, ..Settings::default() });
    let public = harbor.push("pub/app", "1", &made_up("public"));
    let requests = registry_requests(&own, &other, &theirs, &public);
    stub.script("lab/cred/deep/repo", Script::endless());
    harbor.scan("lab/cred/deep/repo", "1");
    let body = eventually("the request", || stub.scans_of("lab/cred/deep/repo").first().cloned());
    let robot = body["registry"]["authorization"].as_str().unwrap().to_string();
    let scope = |names: &[&str]| {
        let scopes = names.iter().map(|name| format!("&scope=repository%3A{}%3Apull", name.replace('/', "%2F")));
        format!("/service/token?service=harbor-registry{}", scopes.collect::<String>())
    };
    let token = |path: &str| {
        let answer = ask(&harbor, "GET", path, &robot);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["access_token"], &body["expires_in"]), (200, &json!(""), &json!(1_800)));
        format!("Bearer {}", body["token"].as_str().unwrap())
    };
    let claims = |token: &str| -> Value {
        let part = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let compare = |name: &str, authorization: &str| {
        for (what, method, path) in &requests {
            let answer = ask(&harbor, method, path, authorization);
            let theirs = &recorded[name][what];
            assert_eq!(theirs["status"], answer.status, "{name}: {what}: {}", text(&answer));
            let challenge = answer.header("www-authenticate").map_or(Value::Null, Value::from);
            assert_eq!(theirs["www-authenticate"], challenge, "{name}: {what}");
        }
    };
    let narrow = token(&scope(&["lab/cred/deep/repo"]));
    assert_eq!(claims(&narrow)["access"], recorded["token_claims"]["access"]);
    compare("with_bearer_token_for_its_repository", &narrow);
    let wide = token(&scope(&["lab/cred/deep/repo", "lab/other", "proj/a/b/c", "pub/app"]));
    let (ours, theirs) = (claims(&wide)["access"].clone(), &recorded["token_many_scopes_claims"]["access"]);
    let sorted = |access: &Value| {
        let mut actions: Vec<String> = serde_json::from_value(access["actions"].clone()).unwrap();
        actions.sort();
        (access["name"].clone(), actions)
    };
    for (ours, theirs) in ours.as_array().unwrap().iter().zip(theirs.as_array().unwrap()) {
        assert_eq!(sorted(ours), sorted(theirs));
    }
    compare("with_bearer_token_many_scopes", &wide);
    compare("with_basic_directly_on_v2", &robot);
    let settings = Settings { prevent_vul: true, severity: "low".into(), ..Settings::default() };
    harbor.set_project("lab", settings);
    compare("prevent_vul_on__bearer", &narrow);
    compare("prevent_vul_on__basic_directly", &robot);
    assert_eq!(recorded["stop"]["answer"]["status"], harbor.stop("lab/cred/deep/repo", &own).status);
    assert_eq!(recorded["overview_after_stop"]["scan_status"], harbor.overview(&own)["scan_status"]);
    harbor.wait_all();
    compare("after_the_scan_ended__old_bearer_token", &narrow);
    compare("after_the_scan_ended__basic", &robot);
    let late = token(&scope(&["lab/cred/deep/repo"]));
    assert_eq!(claims(&late)["access"][0]["actions"], json!([]), "a token for nothing");
    let stranger = Setup { token_lifetime: Duration::ZERO, ..Setup::default() };
    let harbor = HarborScanner::start(stranger);
    let digest = harbor.push("lab/app", "1", &made_up("late"));
    harbor.add_account(ROBOT, Account::robot("made-up", &[]).of_all(), true);
    let path = "/service/token?service=harbor-registry&scope=repository:lab/app:pull";
    let body: Value = serde_json::from_slice(&ask(&harbor, "GET", path, &basic(ROBOT, "made-up")).body).unwrap();
    let late = format!("Bearer {}", body["token"].as_str().unwrap());
    assert_eq!(ask(&harbor, "GET", &format!("/v2/lab/app/manifests/{digest}"), &late).status, 401, "it has expired");
}

#[test]
fn it_scans_an_index_and_scans_again_as_a_real_one_did() {
    let recorded = recording("scanner/index-rescan-stop-sbom.json");
    let stub = Stub::start();
    let harbor = scanning_with(&stub);
    let multi = index("multi", &[("amd64", &[layer("a", "amd64")]), ("arm64", &[layer("a", "arm64")])]);
    let root = harbor.push("proj/multi", "1", &multi);
    assert_eq!(recorded["index_scan"]["start"]["answer"]["status"], harbor.scan("proj/multi", &root).status);
    harbor.wait_all();
    let listed: Value = recorded["index_listing"][0]["references"].clone();
    let order = |bodies: Vec<Value>, listed: Vec<Value>| -> Vec<usize> {
        let place = |body: &Value| listed.iter().position(|digest| body["artifact"]["digest"] == *digest).unwrap();
        bodies.iter().map(place).collect()
    };
    let theirs = recorded["index_scan"]["adapter_saw"].as_array().unwrap().iter();
    let theirs = theirs.filter_map(|call| serde_json::from_str(call["body"].as_str()?).ok()).collect();
    let digests = listed.as_array().unwrap().iter().map(|child| child["child_digest"].clone()).collect();
    let children: Vec<Value> =
        multi.manifests[..2].iter().map(|(_, bytes)| crate::support::image::digest(bytes).into()).collect();
    let scans = stub.scans_of("proj/multi");
    assert_eq!(order(scans.clone(), children), order(theirs, digests));
    assert_eq!(scans[0]["artifact"]["tag"], "", "an image of an index has no tag");
    let overview = harbor.overview(&root);
    let theirs = &recorded["index_scan"]["overview"];
    assert_eq!((&overview["summary"], &overview["severity"]), (&theirs["summary"], &theirs["severity"]));
    let id = STANDARD.decode(overview["report_id"].as_str().unwrap()).unwrap();
    assert_eq!(String::from_utf8(id).unwrap().matches('|').count(), 1);
    let findings = harbor.vulnerabilities(&root);
    assert_eq!((findings.len(), findings[0]["artifact_digests"].as_array().unwrap().len()), (3, 2));
    // Errors by REST.
    let robot = basic(ROBOT, "made-up");
    harbor.push("proj/a/b/c", "1.0", &made_up("abc"));
    let chart = Artifact {
        manifests: vec![(
            crate::support::image::MANIFEST.into(),
            br#"{"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json"}}"#.to_vec(),
        )],
        ..made_up("chart")
    };
    let chart = harbor.push("proj/chart", "0.1.0", &chart);
    for name in [
        "chart_scan",
        "scan_by_tag",
        "scan_unknown_tag",
        "scan_unknown_repo",
        "scan_unknown_project",
        "scan_wrong_type",
    ] {
        let request = &recorded[name]["request"];
        let path = request["path"].as_str().unwrap();
        let path = match name {
            "chart_scan" => format!("/api/v2.0/projects/proj/repositories/chart/artifacts/{chart}/scan"),
            _ => path.to_string(),
        };
        let answer = ask_with(&harbor, "POST", &path, &robot, request["body"].as_str().unwrap_or_default());
        let theirs = &recorded[name]["answer"];
        assert_eq!(theirs["status"], answer.status, "{name}");
        assert_eq!(theirs["body"].as_str().unwrap().trim_end(), text(&answer), "{name}");
    }
    // A rescan.
    harbor.wait_all();
    let digest = harbor.push("lab/rescan", "1", &made_up("rescan"));
    harbor.push("lab/twin", "1", &made_up("rescan"));
    harbor.scan("lab/rescan", &digest);
    harbor.wait_all();
    let first = harbor.overview(&digest);
    stub.script("lab/rescan", Script { never_ends: true, polls: vec![Poll::again("1")], ..Script::findings(&[]) });
    harbor.scan("lab/rescan", &digest);
    let running = eventually("the rescan", || {
        let overview = harbor.overview(&digest);
        (overview["scan_status"] == "Running").then_some(overview)
    });
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let theirs = &recorded["rescan"]["while_running_overview"];
    assert_eq!((names(&running), &running["end_time"]), (names(theirs), &theirs["end_time"]));
    assert_eq!((harbor.report(&digest), first["scan_status"].as_str()), (json!({}), Some("Success")));
    let conflict = harbor.scan("lab/twin", &digest);
    let theirs = &recorded["same_digest_other_repository_while_first_is_scanned_again"]["scan_started_there"]["answer"];
    assert_eq!(
        (theirs["status"].as_u64().unwrap() as u16, theirs["body"].as_str().unwrap().trim_end()),
        (conflict.status, &text(&conflict)[..])
    );
    // Stopped: the adapter is told nothing, and polling ends.
    assert_eq!(recorded["stop"]["answer"]["answer"]["status"], harbor.stop("lab/rescan", &digest).status);
    harbor.wait_all();
    assert_eq!(names(&harbor.overview(&digest)), names(&recorded["stop"]["overview"]));
    assert_eq!((harbor.status(&digest), harbor.report(&digest)), (Some(Status::Stopped), json!({})));
    // An SBOM.
    stub.script("lab/rescan", Script::report(r#"{"sbom":{}}"#));
    assert_eq!(recorded["sbom"]["start"]["answer"]["status"], harbor.scan_sbom("lab/rescan", &digest).status);
    harbor.wait_all();
    let theirs: Value = serde_json::from_str(recorded["sbom"]["adapter_saw"][0]["body"].as_str().unwrap()).unwrap();
    let ours = stub.scans_of("lab/rescan").pop().unwrap();
    assert_eq!(ours["enabled_capabilities"], theirs["enabled_capabilities"]);
    let poll = stub.server.requests().into_iter().rfind(|request| request.method == "GET").unwrap();
    let theirs = &recorded["sbom"]["adapter_saw"][1];
    assert_eq!(poll.path.split_once('?').unwrap().1, theirs["path"].as_str().unwrap().split_once('?').unwrap().1);
    let accept = theirs["headers"].as_array().unwrap().iter().find(|pair| pair[0] == "Accept").unwrap();
    assert_eq!(accept[1], poll.header("accept").unwrap());
    assert_eq!(harbor.sbom(&digest).unwrap().0, Status::Success);
}

#[test]
fn what_is_pushed_while_metadata_is_down_is_never_scanned() {
    let recorded = recording("scanner/metadata-down-autoscan-scanall.json");
    let stub = Stub::start();
    let harbor = scanning_with(&stub);
    let settings = Settings { prevent_vul: true, severity: "low".into(), auto_scan: true, ..Settings::default() };
    harbor.set_project("block", settings);
    let bad = harbor.push("block/bad", "1", &made_up("bad"));
    let right_after = harbor.refused("block/bad", &bad);
    assert!(right_after.is_some_and(|text| text.contains("status of vulnerability scanning")));
    harbor.wait_all();
    let words = |name: &str| -> Value { serde_json::from_str(recorded[name]["body"].as_str().unwrap()).unwrap() };
    let message = |name: &str| words(name)["errors"][0]["message"].as_str().map(String::from);
    assert_eq!(harbor.refused("block/bad", &bad), message("metadata down: bad (has report)"));
    let up = stub.state().metadata.clone();
    stub.state().metadata = Answer::new(500, "");
    let fresh = eventually("an image that nobody can scan", || {
        let name = format!("fresh-{}", fastrand::u64(..));
        let repository = format!("block/{name}");
        let digest = harbor.push(&repository, "1", &made_up(&name));
        (harbor.status(&digest).is_none() && harbor.refused(&repository, &digest).is_none())
            .then_some((repository, digest))
    });
    let (repository, digest) = fresh;
    assert!(harbor.refused("block/bad", &bad).is_some(), "what has a report stays as it was");
    let answer = harbor.scan(&repository, &digest);
    let theirs = &recorded["metadata down: scan asked for"]["answer"];
    assert_eq!(
        (theirs["status"].as_u64(), theirs["body"].as_str().unwrap().trim_end()),
        (Some(400), &text(&answer)[..])
    );
    stub.state().metadata = up;
    let refused = eventually("metadata", || harbor.refused(&repository, &digest));
    assert_eq!(Some(refused), message("and pull"));
    assert_eq!(harbor.overview(&digest), recorded["pushed while metadata was down, a while later: overview"]);
    let asked = harbor.metadata_asked();
    for _ in 0..200 {
        let _ = harbor.metadata();
    }
    assert!(harbor.metadata_asked() <= asked + 10, "answers are remembered");
    assert_eq!(harbor.violations().iter().filter(|text| !text.contains("without a link")).count(), 0);
}

#[test]
fn scan_all_is_one_task_for_each_artifact() {
    let stub = Stub::start();
    let harbor = scanning_with(&stub);
    for number in 0..30 {
        harbor.push(&format!("proj/app-{number}"), "1", &made_up(&format!("{number}")));
    }
    harbor.push("other/same", "1", &made_up("7"));
    let multi = index("multi", &[("amd64", &[layer("a", "x")]), ("arm64", &[layer("a", "y")])]);
    harbor.push("proj/multi", "1", &multi);
    let endless = harbor.push("zz/last", "1", &made_up("last"));
    stub.script("zz/last", Script::endless());
    let done = harbor.scan_all().unwrap();
    assert_eq!(done, ScanAll { total: 33, submitted: 32, conflicts: 1, unsupported: 0 });
    assert_eq!(harbor.scan_all(), None, "one after the other");
    eventually("all others", || (harbor.statuses().get("Success") == Some(&32)).then_some(()));
    harbor.stop("zz/last", &endless);
    harbor.wait_all();
    assert_eq!(harbor.calls().iter().filter(|call| call.method == "POST").count(), 33, "an image once");
    assert!(harbor.scan_all().is_some());
}

/// The event that a recorded body is about.
fn event_of(body: &str, headers_of: Format) -> Option<(Event, Policy)> {
    let document: Value = serde_json::from_str(body).unwrap();
    let data = if headers_of == Format::Default { &document["event_data"] } else { &document["data"] };
    let kinds = [("pushed", "PUSH_ARTIFACT"), ("pulled", "PULL_ARTIFACT"), ("deleted", "DELETE_ARTIFACT")];
    let kind = document["type"].as_str().unwrap();
    let kind = kinds.iter().find(|(event, known)| kind == *known || kind == format!("harbor.artifact.{event}"))?.1;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let time = document["time"].as_str().map(|text| text.parse::<jiff::Timestamp>().unwrap().as_second());
    let event = Event {
        kind: kind.into(),
        occur_at: time.unwrap_or_else(|| document["occur_at"].as_i64().unwrap()),
        operator: word(&document["operator"]),
        digest: word(&data["resources"][0]["digest"]),
        tag: word(&data["resources"][0]["tag"]),
        host: "127.0.0.1:18000".into(),
        repository: word(&data["repository"]["repo_full_name"]),
        date_created: data["repository"]["date_created"].as_i64(),
        is_public: data["repository"]["repo_type"] == "public",
        ids: (word(&document["id"]), word(&document["requestid"])),
    };
    Some((event, Policy::new("http://127.0.0.1:1/x", "", headers_of)))
}

#[test]
fn its_webhooks_are_byte_by_byte_those_of_a_real_one() {
    let recorded = recording("webhooks/events.json");
    let came: Vec<&Value> = recorded.as_object().unwrap().values().flat_map(|all| all.as_array().unwrap()).collect();
    let receiver = Server::answering(|_, _| Answer::new(200, ""));
    let mut compared = 0;
    for recorded in came.iter().filter(|recorded| recorded["path"] != "/noauth") {
        let body = recorded["body"].as_str().unwrap();
        let format = if recorded["path"] == "/default" { Format::Default } else { Format::CloudEvents };
        let Some((event, policy)) = event_of(body, format) else { continue };
        assert_eq!(event.body(&policy), body);
        let pairs: Vec<(String, String)> = match &recorded["headers"] {
            Value::Array(_) => serde_json::from_value(recorded["headers"].clone()).unwrap(),
            fields => fields
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().into()))
                .collect(),
        };
        let auth = pairs.iter().find(|(name, _)| name == "Authorization").map(|(_, value)| value.clone()).unwrap();
        let url = format!("http://{}/{}", receiver.host(), compared);
        let webhooks = Webhooks::start(Policy::new(&url, &auth, format));
        webhooks.send(&event);
        assert!(webhooks.finish()[0].is_done);
        let request = receiver.requests().pop().unwrap();
        assert_eq!(
            (request.method.as_str(), String::from_utf8(request.body.clone()).unwrap().as_str()),
            ("POST", body)
        );
        for (name, value) in pairs.iter().filter(|(name, _)| name != "Host") {
            assert!(request.header(name) == Some(&value[..]) || name == "Content-Length", "{name}: {value}");
        }
        compared += 1;
    }
    assert!(compared > 20, "{compared}");
}

#[test]
fn its_webhooks_are_tried_as_often_as_those_of_a_real_one() {
    let recorded = recording("webhooks/retries.json");
    let limit = Duration::from_millis(500);
    let receiver = Server::answering(move |request: &Request, _| match request.path.as_str() {
        "/s500" => Answer::new(500, ""),
        "/s404" => Answer::new(404, ""),
        "/s302" => Answer::new(302, "").with("Location", "/other"),
        _ => {
            std::thread::sleep(limit * 3);
            Answer::new(200, "")
        }
    });
    for (path, events) in recorded["deliveries"].as_object().unwrap() {
        let policy = Policy::new(&format!("http://{}{path}", receiver.host()), "", Format::Default);
        let webhooks = Webhooks::start(Policy { limit, ..policy });
        webhooks.send(&Event::push("registry.example", "team/app", "1", "sha256:00"));
        let delivery = webhooks.finish().remove(0);
        let tries = events.as_object().unwrap().values().map(|event| event["tries"].as_u64().unwrap()).max();
        assert_eq!(tries, Some(delivery.tries.len() as u64), "{path}: {delivery:?}");
        assert_eq!(delivery.is_done, path == "/s302", "{path}");
    }
    assert_eq!(receiver.requests_of("/other").len(), 0);
}

#[test]
fn the_second_adapter_is_one_that_harbor_takes() {
    let found = [cve("CVE-2026-0001", "openssl", "3.0.1", "Critical"), cve("CVE-2026-0002", "zlib", "1.2", "Low")];
    let trivy = TrivyAdapter::start(&[("team/app", found.to_vec())]);
    trivy.state().pulls = true;
    let harbor = HarborScanner::start(Setup::default());
    let metadata = harbor.register(&trivy.url(), Auth::None).unwrap();
    assert!(!metadata.wants_bearer() && metadata.consumes("sbom", crate::support::image::MANIFEST));
    let digest = harbor.push("team/app", "1", &made_up("app"));
    let run = || {
        assert_eq!(harbor.scan("team/app", &digest).status, 202);
        harbor.wait_all();
        (harbor.status(&digest).unwrap(), harbor.log(&digest).unwrap_or_default())
    };
    assert_eq!(run(), (Status::Success, String::new()));
    assert_eq!(harbor.waits(&digest), [2, 5, 5], "it does not say when to ask again");
    let summary = json!({ "fixable": 2, "total": 2, "summary": { "Critical": 1, "Low": 1 } });
    assert_eq!(harbor.overview(&digest)["summary"], summary);
    harbor.scan_sbom("team/app", &digest);
    harbor.wait_all();
    assert_eq!(harbor.sbom(&digest).unwrap().1["media_type"], "application/spdx+json");
    trivy.state().fails = Some("running trivy wrapper: no database".into());
    let (status, log) = run();
    assert!(status == Status::Error && log.contains("running trivy wrapper: no database"), "{log}");
    trivy.state().has_forgotten = true;
    assert!(run().1.contains("cannot find scan job"));
    trivy.state().is_down = true;
    let (status, log) = run();
    assert!(status == Status::Error && log.contains("EOF"), "{log}");
    assert_eq!(trivy.scans().len(), 4);
}
