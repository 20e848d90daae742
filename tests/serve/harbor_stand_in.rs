//! The stand-in of Harbor's scanning, held against the recordings of a real one: what it asks, how it polls, and what
//! it makes of reports.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harbor_stub::{SECOND, Script, Stub, default_report, made_up, metadata, recording, report_of};
use crate::running::{Client, eventually};
use crate::support::full_harbor::Account;
use crate::support::harbor_scanner::{Auth, HarborScanner, Setup, Status};
use crate::support::server::get;

/// A stand-in that scans with `stub`.
fn scanning_with(stub: &Stub, setup: Setup) -> HarborScanner {
    let harbor = HarborScanner::start(setup);
    harbor.register(&stub.url(), Auth::None).unwrap();
    harbor
}

/// The text of a log without what differs from run to run.
fn neutral(log: &str) -> String {
    let log = log.split_once("]: ").filter(|_| log.contains("job.go")).map_or(log, |(_, rest)| rest);
    let mut text = String::new();
    for part in log.split('"') {
        text += if part.starts_with("http://") { "URL" } else { part };
        text += "\"";
    }
    let is_id = |word: &&str| word.len() == 37 && word.matches('-').count() == 4;
    text.split(' ').filter(|word| !is_id(word)).collect::<Vec<_>>().join(" ")
}

/// A document whose numbers are all floating-point.
fn floating(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(floating).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), floating(value))).collect())
        }
        other => other.clone(),
    }
}

/// What recordings have of an overview.
fn short(overview: &Value) -> Value {
    json!({
        "scan_status": overview["scan_status"], "severity": overview["severity"], "summary": overview["summary"],
    })
}

#[test]
fn it_polls_and_gives_up_as_a_real_one_did() {
    let recorded = recording("scanner/polling-and-errors.json");
    let stub = Stub::start();
    let limit = SECOND * 5;
    let harbor = scanning_with(&stub, Setup { limit, workers: 64, ..Setup::default() });
    let cases: Vec<(&String, &Value, String)> = recorded
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, case)| {
            let repository = format!("lab/{name}");
            stub.script(&repository, Script::recorded(&case["adapter_answers"]));
            (name, case, harbor.push(&repository, "1", &made_up(name)))
        })
        .collect();
    for (name, _, digest) in &cases {
        assert_eq!(harbor.scan(&format!("lab/{name}"), digest).status, 202);
    }
    harbor.wait_all();
    for (name, case, digest) in &cases {
        let status = format!("{:?}", harbor.status(digest).unwrap());
        assert_eq!(case["ended"], status, "{name}: {:?}", harbor.log(digest));
        assert_eq!(case["summary"], harbor.overview(digest)["summary"], "{name}");
        let log = harbor.log(digest).unwrap_or_default();
        assert_eq!(neutral(&log), neutral(case["job_log"].as_str().unwrap_or_default()), "{name}");
        let calls: Vec<_> = harbor.calls().into_iter().filter(|call| call.digest == *digest).collect();
        let saw = case["adapter_saw"].as_array().unwrap();
        // What its stub had no route for was not recorded.
        let unseen = usize::from(name.starts_with("id-with"));
        assert_eq!(calls.len(), saw.len() + unseen, "{name}: {calls:#?}");
        for (call, saw) in calls.iter().zip(saw).filter(|(_, saw)| saw["note"].is_null()) {
            assert_eq!(call.status.map(Value::from).unwrap_or_default(), saw["answer"], "{name}");
        }
        let gaps = case["seconds_between"].as_array().unwrap().iter().map(|gap| gap.as_f64().unwrap());
        for ((gap, call), wait) in gaps.zip(saw).zip(harbor.waits(digest)) {
            let waited = gap - call["took_ms"].as_f64().unwrap() / 1_000.0;
            assert!((waited - f64::from(wait)).abs() < 0.2, "{name}: {wait} instead of {waited}");
        }
    }
    let violations = harbor.violations();
    let has = |name: &str, text: &str| {
        let (_, _, digest) = cases.iter().find(|(known, ..)| *known == name).unwrap();
        violations.iter().any(|violation| violation.starts_with(digest) && violation.contains(text))
    };
    for name in ["ra-zero", "ra-minus1"] {
        assert!(has(name, "a loop without a pause"), "{name}: {violations:#?}");
    }
    assert!(has("ok-empty-object", "Success with nothing found"), "{violations:#?}");
    assert!(has("slow-6s", "too long") && has("trickle-8s", "too long") && has("s-slow-6s", "too long"));
    assert!(has("r404-html", "without an error's message") && has("id-with-slash", "does not fit into a path"));
    assert!(has("ra-200", "is not read") && has("ra-absent", "without Refresh-After"));
    assert!(!has("ra-127", "Refresh-After") && !has("slow-4s", "too long"), "{violations:#?}");
}

/// The report of a recording that was left out of it for its size.
fn large(name: &str) -> Value {
    let random = |length: usize| -> String { (0..length).map(|_| fastrand::alphanumeric()).collect() };
    let one = |id: String| {
        json!({
            "id": id, "package": "app/a.txt", "version": "aaaaaaaaaaaa", "severity": "High", "links": ["x"],
            "description": "d", "vendor_attributes": { "k": "v" },
        })
    };
    let with = |field: &str, value: Value, id: &str| {
        let mut finding = one(format!("SECRET-{id}"));
        finding[field] = value;
        report_of(&[finding])
    };
    let many = |count: usize, words: usize| -> Value {
        let all: Vec<Value> = (0..count)
            .map(|number| {
                let mut finding = one(format!("SECRET-{name}-{number}"));
                finding["description"] = "d".repeat(words).into();
                finding
            })
            .collect();
        report_of(&all)
    };
    match name {
        "n-100" => many(100, 1),
        "n-1000" => many(1_000, 1),
        "n-10000" => many(10_000, 1),
        "n-66000" => many(66_000, 1),
        "mb-1" => many(1_000, 1_000),
        "mb-5" => many(5_000, 900),
        "mb-20" => many(10_000, 1_950),
        "name-4000" => with("package", random(4_000).into(), "n4000"),
        "name-4000-repetitive" => with("package", "a/".repeat(2_000).into(), name),
        "one-bad-among-good" => {
            let mut bad = one("SECRET-bad".into());
            bad["package"] = random(4_000).into();
            report_of(&[one("SECRET-good-1".into()), bad, one("SECRET-good-2".into())])
        }
        "desc-5k" => with("description", random(5_000).into(), name),
        "desc-1m" => with("description", random(1_000_000).into(), name),
        "links-many" => {
            let links = (0..500).map(|number| format!("https://example.invalid/{number}"));
            with("links", links.collect(), name)
        }
        "vendor-100k" => with("vendor_attributes", json!({ "k": random(100_000) }), name),
        other => panic!("{other} is recorded"),
    }
}

/// The bytes that a real Harbor was sent.
fn sent(name: &str, case: &Value) -> Vec<u8> {
    match &case["sent"] {
        Value::Object(_) => case["sent"].to_string().into_bytes(),
        // A character stands for a byte.
        Value::String(text) if text.starts_with(['{', 'ï']) => text.chars().map(|c| c as u32 as u8).collect(),
        _ if name == "deep-nesting" => {
            let mut text = report_of(&[]).to_string();
            text.insert_str(1, &format!("\"deep\":{}{},", "[".repeat(20_000), "]".repeat(20_000)));
            text.into_bytes()
        }
        _ => large(name).to_string().into_bytes(),
    }
}

#[test]
fn it_makes_of_reports_what_a_real_one_did() {
    let recorded = recording("scanner/reports.json");
    let stub = Stub::start();
    let harbor = scanning_with(&stub, Setup::default());
    for (name, case) in recorded.as_object().unwrap() {
        let repository = format!("lab/{name}");
        stub.script(&repository, Script::report(sent(name, case)));
        let digest = harbor.push(&repository, "1", &made_up(name));
        let rows = harbor.row_count();
        assert_eq!(harbor.scan(&repository, &digest).status, 202);
        harbor.wait_all();
        let status = format!("{:?}", harbor.status(&digest).unwrap());
        if name == "name-4000-repetitive" {
            // PostgreSQL compresses it, and the stand-in does not: nobody's path may depend on that.
            assert_eq!(status, "Error");
            continue;
        }
        let log = harbor.log(&digest);
        assert_eq!(case["status"], status, "{name}: {log:?}");
        assert_eq!(harbor.vulnerabilities(&digest).len(), case["findings_shown"].as_u64().unwrap() as usize, "{name}");
        assert_eq!(case["overview"], short(&harbor.overview(&digest)), "{name}");
        if let Some(error) = case["job_log_errors"][0].as_str() {
            assert_eq!(neutral(error), neutral(&log.unwrap()), "{name}");
            assert_eq!(harbor.row_count(), rows, "{name}: nothing of it is stored");
        }
        if case["shown"].is_object() {
            let mut shown = case["shown"].clone();
            for finding in shown.get_mut("vulnerabilities").and_then(Value::as_array_mut).into_iter().flatten() {
                finding["artifact_digests"] = json!([digest]);
            }
            assert_eq!(floating(&harbor.report(&digest)), floating(&shown), "{name}");
        }
    }
    let violations = harbor.violations();
    assert!(violations.iter().any(|text| text.contains("that is split")), "{violations:#?}");
    assert!(violations.iter().any(|text| text.contains("without a link")), "{violations:#?}");
}

#[test]
fn what_is_frozen_and_what_is_rewritten_is_as_it_was() {
    let recorded = recording("scanner/same-finding-in-two-images.json");
    let stub = Stub::start();
    let harbor = scanning_with(&stub, Setup::default());
    let finding = |words: &str, severity: &str, number: usize| {
        json!({
            "id": "SECRET-shared-1", "package": "app/k.pem", "version": "0011", "fix_version": "",
            "severity": severity, "description": format!("{words} words"),
            "links": [format!("https://example.invalid/{}", if number == 1 { "one" } else { "two" })],
            "cwe_ids": [format!("CWE-{}", 797 + number)], "vendor_attributes": { "n": number },
        })
    };
    let scan = |repository: &str, digest: &str, finding: Value, severity: &str| {
        let mut report = report_of(&[finding]);
        report["severity"] = severity.into();
        stub.script(repository, Script::report(report.to_string()));
        assert_eq!(harbor.scan(repository, digest).status, 202);
        harbor.wait_all();
    };
    let compare = |name: &str, digest: &str| {
        let recorded = recorded[name].as_object().unwrap().values().next().unwrap();
        let mut shown = recorded.clone();
        shown["generated_at"] = "2026-11-28T20:00:00Z".into();
        shown["vulnerabilities"][0]["artifact_digests"] = json!([digest]);
        assert_eq!(floating(&harbor.report(digest)), floating(&shown), "{name}");
    };
    let first = harbor.push("lab/first", "1", &made_up("first"));
    let second = harbor.push("lab/second", "1", &made_up("second"));
    scan("lab/first", &first, finding("first", "High", 1), "High");
    compare("first image", &first);
    assert_eq!(harbor.violations(), Vec::<String>::new());
    scan("lab/second", &second, finding("second", "Low", 2), "Low");
    compare("second image: other description, links, cwe_ids, vendor_attributes, severity Low", &second);
    compare("first image after that (not scanned again)", &first);
    let overview = &recorded["first image overview after that"];
    assert_eq!(short(overview), short(&harbor.overview(&first)));
    assert_eq!(harbor.violations().len(), 5, "each is noted: {:#?}", harbor.violations());
    scan("lab/second", &second, finding("third", "Low", 3), "Low");
    compare("second image scanned again with a third description", &second);
    let row = harbor.row("SECRET-shared-1", "app/k.pem", "0011").unwrap();
    assert_eq!((row.description.as_str(), row.severity, harbor.rows().len()), ("first words", "Low", 1));
}

#[test]
fn its_requests_are_those_of_a_real_one() {
    let recorded = recording("scanner/one-scan-seen-by-adapter.json");
    let stub = Stub::start();
    let harbor = scanning_with(&stub, Setup::default());
    let answers = json!({ "polls": [{ "refresh": "1" }, { "refresh": "2" }] });
    stub.script("lab/one", Script::recorded(&answers));
    let digest = harbor.push("lab/one", "1", &made_up("one"));
    harbor.scan("lab/one", "1");
    harbor.wait_all();
    assert_eq!(harbor.waits(&digest), [2, 1, 2]);
    let requests: Vec<_> =
        stub.server.requests().into_iter().filter(|request| !request.path.ends_with("metadata")).collect();
    assert_eq!(requests.len(), recorded.as_array().unwrap().len());
    for (request, recorded) in requests.iter().zip(recorded.as_array().unwrap()) {
        let headers = |all: Vec<(String, String)>| {
            all.into_iter()
                .map(|(name, value)| match name.as_str() {
                    "Host" | "Content-Length" => (name, String::new()),
                    _ => (name, value),
                })
                .collect::<Vec<_>>()
        };
        let pairs: Vec<(String, String)> = serde_json::from_value(recorded["headers"].clone()).unwrap();
        assert_eq!(headers(request.headers.clone()), headers(pairs), "{}", request.path);
        assert_eq!(recorded["method"], request.method);
    }
    // The same text but for what is its own.
    let ours = String::from_utf8(requests[0].body.clone()).unwrap();
    let theirs = recorded[0]["body"].as_str().unwrap();
    let [mine, real]: [Value; 2] = [&ours, theirs].map(|text| serde_json::from_str(text).unwrap());
    let mut expected = theirs.to_string();
    for (part, field) in
        [("registry", "url"), ("registry", "authorization"), ("artifact", "digest"), ("artifact", "size")]
    {
        expected = expected.replace(&real[part][field].to_string(), &mine[part][field].to_string());
    }
    assert_eq!(ours, expected);
    let login = |request: &Value| {
        let text = request["registry"]["authorization"].as_str().unwrap().strip_prefix("Basic ").unwrap().to_string();
        // Their password is a placeholder, whose base64 was shortened.
        let login = STANDARD.decode(&text[..text.len() / 4 * 4]).unwrap();
        let login = String::from_utf8(login).unwrap();
        login.split_once(':').map(|(name, secret)| (name.to_string(), secret.len())).unwrap()
    };
    let ((name, length), (theirs, _)) = (login(&mine), login(&real));
    let prefix = "robot$lab+hrbscan-Layersift-";
    assert!(name.starts_with(prefix) && theirs.starts_with(prefix) && name.len() == theirs.len(), "{name} {theirs}");
    assert_eq!(length, 32);
    assert_eq!(harbor.robots(), Vec::<String>::new(), "it is deleted after the scan");
}

#[test]
fn it_shows_who_it_is_as_a_real_one_did() {
    let recorded = recording("scanner/auth-kinds-and-metadata.json");
    let kinds = [
        ("ls basic", Auth::Basic("harbor:s3cret-of-the-adapter".into())),
        ("ls-bearer", Auth::Bearer("a-bearer-token-of-the-adapter".into())),
        ("ls-apikey", Auth::ApiKey("an-api-key-of-the-adapter".into())),
    ];
    for (name, auth) in kinds {
        let stub = Stub::start();
        let harbor = HarborScanner::start(Setup::default());
        // A path in the URL is kept.
        harbor.register(&format!("{}/", stub.url()), auth).unwrap();
        harbor.push("lab/one", "1", &made_up(name));
        harbor.scan("lab/one", "1");
        harbor.wait_all();
        let requests = stub.server.requests();
        let saw = recorded[name]["adapter saw"].as_array().unwrap();
        for saw in saw {
            let method = saw["method"].as_str().unwrap();
            let is_it = |path: &str| if method == "POST" { path.ends_with("/scan") } else { path.ends_with("/report") };
            let request = requests.iter().find(|request| is_it(&request.path)).unwrap();
            for pair in saw["headers"].as_array().unwrap().iter().filter(|pair| pair[0] != "Host") {
                let value = request.header(pair[0].as_str().unwrap()).unwrap();
                assert!(value == pair[1] || pair[0] == "Content-Length", "{pair} {value}");
            }
        }
        assert!(requests.iter().all(|request| {
            request.header("authorization").or(request.header("x-scanneradapter-api-key")).is_some()
        }));
    }
}

#[test]
fn it_takes_the_metadata_that_a_real_one_took() {
    let recorded = recording("scanner/auth-kinds-and-metadata.json");
    let stub = Stub::start();
    let harbor = HarborScanner::start(Setup { limit: SECOND, ..Setup::default() });
    let cases: Vec<_> = recorded.as_object().unwrap().iter().filter(|(_, case)| case["sent"].is_object()).collect();
    assert_eq!(cases.len(), 8);
    for (name, case) in cases {
        stub.set_metadata(&case["sent"]);
        let registered = harbor.register(&stub.url(), Auth::None);
        assert_eq!(registered.is_ok(), case["ping status"] == 200, "{name}: {registered:?}");
    }
    stub.set_metadata(&metadata());
    stub.state().metadata_delay = Duration::from_secs(2);
    assert!(harbor.register(&stub.url(), Auth::None).is_err(), "it takes longer than Harbor waits");
    assert!(harbor.register("http://127.0.0.1:1", Auth::None).is_err());
}

#[test]
fn a_ready_token_comes_where_the_property_says_so() {
    let recorded = recording("scanner/auth-kinds-and-metadata.json");
    let case = &recorded["property registry-authorization-type: Bearer"];
    let stub = Stub::start();
    let mut metadata = metadata();
    metadata["properties"] = json!({ "harbor.scanner-adapter/registry-authorization-type": "Bearer" });
    stub.set_metadata(&metadata);
    let harbor = scanning_with(&stub, Setup::default());
    let digest = harbor.push("empty/bearertype", "1", &made_up("token"));
    harbor.scan("empty/bearertype", &digest);
    harbor.wait_all();
    let body = &stub.scans_of("empty/bearertype")[0];
    let token = body["registry"]["authorization"].as_str().unwrap().strip_prefix("Bearer ").unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    for name in ["iss", "aud", "access"] {
        assert_eq!(claims[name], case["claims"][name], "{name}");
    }
    let lifetime = |claims: &Value| claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(lifetime(&claims), lifetime(&case["claims"]));
    assert_eq!(body["artifact"]["tag"], case["scan_request"]["artifact"]["tag"]);
}

#[test]
fn what_its_page_shows_of_one_scan_is_what_a_real_one_showed() {
    let recorded = recording("scanner/one-scan-seen-by-client.json");
    let stub = Stub::start();
    let harbor = scanning_with(&stub, Setup::default());
    let digest = harbor.push("lab/one", "1", &made_up("one"));
    stub.script("lab/one", Script::report(default_report().to_string()));
    assert_eq!(recorded["start"]["answer"]["status"], harbor.scan("lab/one", &digest).status);
    harbor.wait_all();
    assert_eq!(harbor.status(&digest), Some(Status::Success));
    let body =
        |name: &str| -> Value { serde_json::from_str(recorded[name]["answer"]["body"].as_str().unwrap()).unwrap() };
    let mut theirs = body("vulnerabilities_accept_1.1").as_object().unwrap().values().next().unwrap().clone();
    for finding in theirs["vulnerabilities"].as_array_mut().unwrap() {
        finding["artifact_digests"] = json!([digest]);
    }
    assert_eq!(floating(&harbor.report(&digest)), floating(&theirs));
    let theirs = body("artifact")["scan_overview"].as_object().unwrap().values().next().unwrap().clone();
    let ours = harbor.overview(&digest);
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    for name in ["complete_percent", "scan_status", "scanner", "severity", "summary"] {
        assert_eq!(ours[name], theirs[name], "{name}");
    }
}

#[test]
fn ten_workers_take_five_hundred_images() {
    let stub = Stub::start();
    let harbor = scanning_with(&stub, Setup::default());
    let shared = |place: usize| {
        json!({
            "id": format!("SECRET-shared-{place}"), "package": "app/k.pem", "version": "0011", "severity": "High",
            "description": "d", "links": ["https://example.invalid/r"],
        })
    };
    let own = |number: usize| {
        let mut finding = shared(number);
        finding["package"] = format!("app/{number}").into();
        finding
    };
    let digests: Vec<String> = (0..500)
        .map(|number| {
            let repository = format!("team/app-{number}");
            stub.script(&repository, Script::findings(&[shared(number % 7), own(number)]));
            harbor.push(&repository, "1", &made_up(&repository))
        })
        .collect();
    assert_eq!(harbor.scan_all().unwrap().submitted, 500);
    harbor.wait_all();
    for (number, digest) in digests.iter().enumerate() {
        let found = harbor.vulnerabilities(digest);
        let packages: Vec<&Value> = found.iter().map(|finding| &finding["package"]).collect();
        assert!(packages.len() == 2 && packages.contains(&&json!(format!("app/{number}"))), "{packages:?}");
    }
    assert_eq!((harbor.row_count(), harbor.violations()), (507, Vec::new()));
    let longest: Vec<String> = (0..15)
        .map(|number| {
            let repository = format!("long/app-{number}");
            stub.script(&repository, Script::endless());
            let digest = harbor.push(&repository, "1", &made_up(&repository));
            harbor.scan(&repository, &digest);
            digest
        })
        .collect();
    let count = |status| longest.iter().filter(|digest| harbor.status(digest) == Some(status)).count();
    eventually("ten scans", || (count(Status::Running) == 10).then_some(()));
    assert_eq!(count(Status::Pending), 5);
}

#[test]
fn a_robot_that_may_scan_lists_what_was_not_scanned() {
    let stub = Stub::start();
    let harbor = scanning_with(&stub, Setup::default());
    let robot = |name: &str| format!("Basic {}", STANDARD.encode(format!("{name}:made-up")));
    harbor.add_account("robot$scan", Account::robot("made-up", &["team"]), true);
    harbor.add_account("robot$read", Account::robot("made-up", &["team"]), false);
    let scanned = harbor.push("team/a/b", "1", &made_up("scanned"));
    let fresh = harbor.push("team/a/b", "2", &made_up("fresh"));
    harbor.scan("team/a/b", &scanned);
    harbor.wait_all();
    let artifacts = "/api/v2.0/projects/team/repositories/a%252Fb/artifacts";
    let listing = get(&harbor.host(), &format!("{artifacts}?with_scan_overview=true"), Some(&robot("robot$scan")));
    let items: Vec<Value> = serde_json::from_slice(&listing.body).unwrap();
    let missing: Vec<&Value> =
        items.iter().filter(|item| item["scan_overview"].is_null()).map(|item| &item["digest"]).collect();
    assert_eq!((listing.header("x-total-count"), missing), (Some("2"), vec![&json!(fresh)]));
    let recorded = recording("scanner/index-rescan-stop-sbom.json")["index_listing"][0].clone();
    for name in ["type", "size", "manifest_media_type", "media_type", "repository_name", "references", "accessories"] {
        assert!(items[0].get(name).is_some() && recorded.get(name).is_some(), "{name}: {}", items[0]);
    }
    let one =
        get(&harbor.host(), &format!("{artifacts}/{scanned}?with_scan_overview=true"), Some(&robot("robot$scan")));
    let one: Value = serde_json::from_slice(&one.body).unwrap();
    let overview = one["scan_overview"].as_object().unwrap();
    assert_eq!(overview["application/vnd.security.vulnerability.report; version=1.1"]["scan_status"], "Success");
    let list =
        get(&harbor.host(), &format!("{artifacts}/{scanned}/additions/vulnerabilities"), Some(&robot("robot$scan")));
    let list: Value = serde_json::from_slice(&list.body).unwrap();
    assert_eq!(list.as_object().unwrap().values().next(), Some(&harbor.report(&scanned)));
    let client = Client::new(&harbor.url());
    let scan = |authorization: &str| {
        let request = client.request(reqwest::Method::POST, &format!("{artifacts}/{fresh}/scan"));
        request.header("Authorization", authorization).send().unwrap().status().as_u16()
    };
    assert_eq!([scan(&robot("robot$none")), scan(&robot("robot$read")), scan(&robot("robot$scan"))], [401, 403, 202]);
    harbor.wait_all();
    assert_eq!(harbor.status(&fresh), Some(Status::Success));
    assert_eq!(harbor.asked().last().unwrap().0, "robot$scan");
}
