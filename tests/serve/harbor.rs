//! The scanner for Harbor, asked by a stand-in that polls and stores as a real one.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::images::{SECRET, clean, image, index, layer, leak};
use crate::running::{Client, Running, Site, eventually, pulling_from};
use crate::support::artifacts::Artifact;
use crate::support::harbor_scanner::{Auth, HarborScanner, Settings, Setup, Status};
use crate::support::image::Layer;
use crate::support::tar::Tar;
use crate::support::trivy_adapter::{TrivyAdapter, cve};
use crate::support::{DEADLINE, Fresh, postgres};

/// The secret that Harbor shows.
pub const ADAPTER: &str = "made-up-secret-of-the-adapter-0123456789";

/// Settings of an adapter for images of `harbor`, with more of them in `[harbor]`.
pub fn settings(site: &Site, harbor: &HarborScanner, more: &str) -> String {
    let secrets = site.write("secrets", format!("{ADAPTER}\n").as_bytes());
    let key = site.write("credentials", b"another made-up key of 32 bytes or more");
    format!(
        "{}\n[harbor]\nsecrets = '{}'\ncredentials-key = '{}'\n{more}\n",
        pulling_from(&harbor.host()),
        secrets.display(),
        key.display(),
    )
}

/// Starts a service and registers its adapter.
pub fn start(site: &Site, harbor: &HarborScanner, more: &str) -> Running {
    let running = site.start(&settings(site, harbor, more));
    register(harbor, &running);
    running
}

pub fn register(harbor: &HarborScanner, running: &Running) {
    let url = format!("{}/harbor", running.url("api"));
    let metadata = harbor.register(&url, Auth::Bearer(ADAPTER.into())).unwrap();
    assert!(metadata.wants_bearer(), "a ready token opens one repository only");
}

/// Images of every kind: what is found, deleted, exposed, and nothing at all.
fn images() -> Vec<(&'static str, Artifact)> {
    let deleted = layer("app/.wh..env", "");
    let settings = |number: usize| layer("app/settings", &format!("token = glpat-Zk7Qm2Xr9Tb4Wn6Ve{number:03}\n"));
    vec![
        ("team/leak", image("leak", &[leak()])),
        ("team/deleted", image("deleted", &[leak(), deleted.clone()])),
        ("team/deleted-later", image("deleted-later", &[leak(), layer("etc/motd", "x"), deleted])),
        ("team/two", image("two", &[settings(1), settings(2)])),
        ("team/other-place", image("other-place", &[layer("srv/.env", &format!("GITLAB_TOKEN={SECRET}\n"))])),
        ("team/clean", clean("clean")),
        ("other/leak", image("leak", &[leak()])),
        ("other/both", index("both", &[("amd64", &[leak()]), ("arm64", &[settings(3)])])),
    ]
}

fn push_all(harbor: &HarborScanner) -> BTreeMap<&'static str, String> {
    images().into_iter().map(|(name, artifact)| (name, harbor.push(name, "v1", &artifact))).collect()
}

/// A row without what it has of a table: everything that an operator reads.
fn read(findings: &[Value]) -> BTreeSet<String> {
    findings.iter().map(Value::to_string).collect()
}

#[test]
fn every_image_shows_what_is_in_it_in_any_order_of_scans() {
    let mut orders: Vec<Vec<usize>> = vec![(0..8).collect(), (0..8).rev().collect()];
    orders.push(vec![3, 0, 7, 1, 6, 2, 5, 4]);
    let mut seen: Option<BTreeMap<&str, BTreeSet<String>>> = None;
    for order in orders {
        let harbor = HarborScanner::start(Setup::default());
        let digests = push_all(&harbor);
        let site = Site::sqlite();
        let _running = start(&site, &harbor, "");
        let names: Vec<&str> = images().iter().map(|(name, _)| *name).collect();
        for place in &order {
            let name = names[*place];
            assert_eq!(harbor.scan(name, &digests[name]).status, 202);
            harbor.wait_all();
        }
        // A second time, so that each was scanned after each other one.
        for name in &names {
            harbor.scan(name, &digests[name]);
        }
        harbor.wait_all();
        assert_eq!(harbor.violations(), Vec::<String>::new());
        let shown: BTreeMap<&str, BTreeSet<String>> =
            names.iter().map(|name| (*name, read(&harbor.vulnerabilities(&digests[name])))).collect();
        assert_eq!(*seen.get_or_insert_with(|| shown.clone()), shown, "{order:?}");
        assert!(shown["team/clean"].is_empty());
        let id = |name: &str| -> Vec<String> {
            let found = harbor.vulnerabilities(&digests[name]);
            let ids = found.iter().map(|finding| finding["id"].as_str().unwrap().to_string());
            ids.filter(|id| id.starts_with("SECRET-")).collect()
        };
        let leak = id("team/leak");
        let prefix = "SECRET-gitlab.personal-access-token-";
        assert!(leak.len() == 1 && leak[0].starts_with(prefix) && leak[0].len() == prefix.len() + 8, "{leak:?}");
        assert_eq!((id("team/deleted"), id("team/other-place")), (leak.clone(), leak.clone()), "an id is stable");
        assert_eq!((id("team/two").len(), id("other/both").len()), (2, 2));
        let found = harbor.vulnerabilities(&digests["team/deleted"]);
        let row = found.iter().find(|row| row["id"] == leak[0].as_str()).unwrap();
        assert!(row["version"].as_str().unwrap().ends_with("-deleted") && row["package"] == "app/.env", "{row}");
        assert_eq!(row["cwe_ids"], json!(["CWE-798"]));
        let all = format!("{:?} {:?}", harbor.rows(), site.fresh().rows("SELECT * FROM scan_requests"));
        assert!(!all.contains(SECRET), "the secret is in nothing that is shown or queued");
    }
}

/// How many images go through, besides four that take long; `LAYERSIFT_HARBOR_IMAGES=500` is the bar of the adapter.
fn many() -> usize {
    std::env::var("LAYERSIFT_HARBOR_IMAGES").map_or(60, |number| number.parse().unwrap())
}

#[test]
fn many_images_go_through_while_four_scans_take_both_processors() {
    let harbor = HarborScanner::start(Setup { pace: 0.1, patience: DEADLINE * 10, ..Setup::default() });
    let mut expected: BTreeMap<String, usize> = BTreeMap::new();
    let many = many();
    for number in 0..many {
        let tokens = number % 4;
        let layers: Vec<_> = (0..=tokens)
            .map(|place| match place {
                0 => layer("etc/motd", &format!("image {number}")),
                place => layer(
                    &format!("app/settings-{place}"),
                    &format!("token = glpat-Zk7Qm2Xr9Tb4Wn6Ve{:03}\n", (number + place) % 1_000),
                ),
            })
            .collect();
        let artifact = image("many", &layers);
        expected.insert(harbor.push(&format!("team/app-{number}"), "v1", &artifact), tokens);
    }
    // Four layers that take a while, and that never come to an end while the others are scanned.
    let noise: Vec<u8> = (0..48 << 20).map(|_| fastrand::u8(..)).collect();
    let busy = (0..4).map(|number| {
        let tar = crate::support::tar::Tar::new();
        let blob = tar.file("noise", &noise[number..]).finish();
        harbor.push(&format!("busy/app-{number}"), "v1", &image("busy", &[crate::support::image::Layer::plain(blob)]))
    });
    let busy: Vec<String> = busy.collect();
    let site = Site::postgres();
    let _running = start(&site, &harbor, "");
    for number in 0..4 {
        assert_eq!(harbor.scan(&format!("busy/app-{number}"), "v1").status, 202);
    }
    for number in 0..many {
        assert_eq!(harbor.scan(&format!("team/app-{number}"), "v1").status, 202);
    }
    harbor.wait_all();
    assert_eq!(harbor.statuses(), BTreeMap::from([("Success".to_string(), many + 4)]), "{:#?}", harbor.violations());
    assert_eq!(harbor.violations(), Vec::<String>::new());
    for (digest, tokens) in &expected {
        let found = harbor.vulnerabilities(digest);
        let secrets = found.iter().filter(|finding| finding["id"].as_str().unwrap().starts_with("SECRET-"));
        assert_eq!(secrets.count(), *tokens, "{found:#?}");
    }
    assert!(busy.iter().all(|digest| harbor.status(digest) == Some(Status::Success)));
    // How long calls took is for the reader: a test says nothing about time.
    println!("{} calls, the slowest took {:?}", harbor.calls().len(), harbor.slowest());
    let shown = || -> BTreeMap<String, BTreeSet<String>> {
        expected.keys().map(|digest| (digest.clone(), read(&harbor.vulnerabilities(digest)))).collect()
    };
    let before = shown();
    // Everything again, in another order: known digests are answered from the store.
    let pulled = harbor.requests().iter().filter(|request| request.path.contains("/blobs/")).count();
    assert_eq!(harbor.scan_all().unwrap().submitted, many + 4);
    harbor.wait_all();
    assert_eq!(harbor.statuses(), BTreeMap::from([("Success".to_string(), many + 4)]));
    let again = harbor.requests().iter().filter(|request| request.path.contains("/blobs/")).count();
    assert_eq!(pulled, again, "nothing is pulled again");
    assert_eq!(shown(), before, "every row is as it was");
}

#[test]
fn the_findings_of_a_second_adapter_stay() {
    let found = vec![cve("CVE-2026-0001", "openssl", "3.0.1", "Critical"), cve("CVE-2026-0002", "zlib", "1.2", "Low")];
    let trivy = TrivyAdapter::start(&[("team/leak", found.clone()), ("team/clean", found)]);
    trivy.state().pulls = true;
    let harbor = HarborScanner::start(Setup::default());
    let leaking = harbor.push("team/leak", "v1", &image("leak", &[leak()]));
    let clean = harbor.push("team/clean", "v1", &clean("clean"));
    let site = Site::sqlite();
    let merge = format!("merge-adapter = '{}'\nmerge-required = false", trivy.url());
    let running = start(&site, &harbor, &merge);
    makes_sboms(&harbor, &running);
    let scan = |name: &str, digest: &str| {
        assert_eq!(harbor.scan(name, digest).status, 202);
        harbor.wait_all();
        let found = harbor.vulnerabilities(digest);
        let ids: BTreeSet<String> = found.iter().map(|finding| finding["id"].as_str().unwrap().into()).collect();
        (harbor.status(digest).unwrap(), ids, harbor.overview(digest)["severity"].clone())
    };
    let cves = BTreeSet::from(["CVE-2026-0001".to_string(), "CVE-2026-0002".to_string()]);
    let (status, ids, severity) = scan("team/leak", &leaking);
    assert_eq!((status, severity), (Status::Success, json!("Critical")), "the worse one wins");
    assert!(ids.is_superset(&cves) && ids.iter().any(|id| id.starts_with("SECRET-")), "{ids:?}");
    assert_eq!(scan("team/clean", &clean).1, cves);
    let row = harbor.row("CVE-2026-0001", "openssl", "3.0.1").unwrap();
    assert_eq!((row.fix_version.as_str(), row.scores[0]), ("3.0.1-fixed", Some(7.5)), "nothing of it is lost");
    // Down: the report says so, and is no clean one.
    trivy.state().is_down = true;
    let (status, ids, _) = scan("team/clean", &clean);
    assert_eq!(status, Status::Success);
    assert!(!ids.is_empty() && ids.iter().all(|id| id.starts_with("GAP-")), "{ids:?}");
    trivy.state().is_down = false;
    trivy.state().fails = Some("running trivy wrapper: no database".into());
    assert!(scan("team/clean", &clean).1.iter().all(|id| id.starts_with("GAP-")));
    assert_eq!(harbor.violations(), Vec::<String>::new());
    drop(running);
    let required = format!("merge-adapter = '{}'\nmerge-required = true", trivy.url());
    let _running = start(&site, &harbor, &required);
    let (status, ..) = scan("team/clean", &clean);
    assert!(status == Status::Error && harbor.log(&clean).unwrap().contains("no database"), "{:?}", harbor.log(&clean));
    trivy.state().fails = Some(format!("running trivy wrapper: {SECRET} was refused"));
    let (status, ..) = scan("team/clean", &clean);
    let log = harbor.log(&clean).unwrap();
    assert!(status == Status::Error && log.contains("was refused") && !log.contains(SECRET), "{log}");
}

/// Waits until the second adapter has said what it is, and what it makes is announced.
fn makes_sboms(harbor: &HarborScanner, running: &Running) {
    eventually("the capability", || {
        register(harbor, running);
        let metadata = harbor.metadata().unwrap();
        let updated = "harbor.scanner-adapter/vulnerability-database-updated-at";
        let is_known = metadata.0["properties"][updated].is_string();
        (is_known && metadata.consumes("sbom", crate::support::image::MANIFEST)).then_some(())
    });
}

/// An image with packages, of which its second layer removes one, and a secret.
fn packaged() -> Artifact {
    let json = |name: &str| format!(r#"{{"name":"{name}","version":"1.0.0"}}"#);
    let base = Tar::new()
        .file("lib/apk/db/installed", "P:musl\nV:1.2.5-r0\nA:x86_64\n\n")
        .file("app/node_modules/gone/package.json", json("gone"))
        .file("app/node_modules/kept/package.json", json("kept"));
    let last = Tar::new().whiteout("app/node_modules/gone");
    image("packaged", &[Layer::plain(base.finish()), leak(), Layer::plain(last.finish())])
}

#[test]
fn bills_of_materials_are_made_of_the_layers() {
    let harbor = HarborScanner::start(Setup::default());
    let digest = harbor.push("team/app", "v1", &packaged());
    let site = Site::sqlite();
    let _running = start(&site, &harbor, "");
    let metadata = harbor.metadata().unwrap();
    assert!(metadata.consumes("sbom", crate::support::image::MANIFEST));
    for _ in 0..2 {
        assert_eq!(harbor.scan_sbom("team/app", &digest).status, 202);
        harbor.wait_all();
        let (status, report, log) = harbor.sbom(&digest).unwrap();
        assert_eq!(status, Status::Success, "{log:?}");
        assert_eq!(
            (&report["media_type"], &report["scanner"]["name"]),
            (&json!("application/spdx+json"), &json!("Layersift"))
        );
        assert_eq!(report["artifact"]["digest"], json!(digest));
        let bill = &report["sbom"];
        assert_eq!(bill["spdxVersion"], "SPDX-2.3");
        let packages = bill["packages"].as_array().unwrap().iter().skip(1);
        assert_eq!(packages.map(|one| one["name"].as_str().unwrap()).collect::<Vec<_>>(), ["musl", "kept"]);
        assert!(!report.to_string().contains("cryptographic"), "{report}");
    }
    assert_eq!(harbor.violations(), Vec::<String>::new());
    assert!(site.fresh().rows("SELECT id FROM harbor_tasks WHERE sealed IS NOT NULL").is_empty());
}

#[test]
fn secrets_in_names_are_masked_in_bills_of_materials() {
    let name = format!("a-{SECRET}");
    let package = format!(r#"{{"name":"{name}","version":"1-{SECRET}","license":"{SECRET}"}}"#);
    let tar = Tar::new()
        .file("etc/os-release", format!("ID=debian\nVERSION_ID=\"{SECRET}\"\n"))
        .file("app/node_modules/a/package.json", package);
    let harbor = HarborScanner::start(Setup::default());
    let digest = harbor.push("team/app", "v1", &image("named", &[Layer::plain(tar.finish())]));
    let site = Site::sqlite();
    let _running = start(&site, &harbor, "");
    assert_eq!(harbor.scan_sbom("team/app", &digest).status, 202);
    harbor.wait_all();
    let (status, report, log) = harbor.sbom(&digest).unwrap();
    assert_eq!(status, Status::Success, "{log:?}");
    let report = report.to_string();
    assert!(!report.contains(SECRET) && report.contains("a-glpa****"), "{report}");
}

#[test]
fn a_bill_is_waited_for_while_its_layers_are_slow() {
    let harbor = HarborScanner::start(Setup::default());
    let digest = harbor.push("team/app", "v1", &packaged());
    let site = Site::sqlite();
    let _running = start(&site, &harbor, "");
    harbor.close();
    assert_eq!(harbor.scan_sbom("team/app", &digest).status, 202);
    eventually("the reading", || {
        let reading = "SELECT id FROM harbor_tasks WHERE phase = 'scan'";
        (!site.fresh().rows(reading).is_empty()).then_some(())
    });
    assert_eq!(harbor.sbom(&digest).unwrap().0, Status::Running);
    harbor.open();
    harbor.wait_all();
    assert_eq!(harbor.sbom(&digest).unwrap().0, Status::Success, "{:?}", harbor.sbom(&digest));
}

#[test]
fn a_second_adapter_without_bills_leaves_them_to_us() {
    let trivy = TrivyAdapter::start(&[]);
    trivy.state().makes_sboms = false;
    let harbor = HarborScanner::start(Setup::default());
    let digest = harbor.push("team/app", "v1", &packaged());
    let site = Site::sqlite();
    let _running = start(&site, &harbor, &format!("merge-adapter = '{}'", trivy.url()));
    assert_eq!(harbor.scan_sbom("team/app", &digest).status, 202);
    harbor.wait_all();
    let (status, report, log) = harbor.sbom(&digest).unwrap();
    assert_eq!((status, &report["scanner"]["name"]), (Status::Success, &json!("Layersift")), "{log:?}");
}

#[test]
fn a_second_adapter_that_is_odd_costs_its_own_findings_only() {
    let found = vec![cve("CVE-2026-0001", "openssl", "3.0.1", "Critical")];
    let trivy = TrivyAdapter::start(&[("team/leak", found.clone())]);
    let harbor = HarborScanner::start(Setup { pace: 0.05, ..Setup::default() });
    let digest = harbor.push("team/leak", "v1", &image("leak", &[leak()]));
    let site = Site::sqlite();
    let merge = format!("merge-adapter = '{}'\ndeadline = '24s'", trivy.url());
    let running = start(&site, &harbor, &merge);
    let scan = || -> BTreeSet<String> {
        assert_eq!(harbor.scan("team/leak", &digest).status, 202);
        harbor.wait_all();
        assert_eq!(harbor.status(&digest), Some(Status::Success), "{:?}", harbor.log(&digest));
        let found = harbor.vulnerabilities(&digest);
        let ids = found.iter().map(|finding| finding["id"].as_str().unwrap());
        let known = ids.map(|id| if id.starts_with("SECRET-") { "SECRET" } else { id });
        known.filter(|id| !id.starts_with("FINDING-")).map(String::from).collect()
    };
    let with = |id: &str| BTreeSet::from(["SECRET".to_string(), id.to_string()]);
    trivy.state().polls = usize::MAX;
    assert_eq!(scan(), with("GAP-second-scanner-timed-out"), "it never ends");
    trivy.state().polls = 0;
    trivy.state().has_forgotten = true;
    assert_eq!(scan(), with("GAP-second-scanner-failed"), "it forgets every scan");
    trivy.state().has_forgotten = false;
    let unreadable = vec![json!({ "id": "CVE-2026-0002", "vendor_attributes": "a text" })];
    trivy.state().findings.insert("team/leak".into(), unreadable);
    assert_eq!(scan(), with("GAP-second-scanner-unreadable"));
    trivy.state().findings.insert("team/leak".into(), found);
    assert_eq!(scan(), with("CVE-2026-0001"));
    assert_eq!(harbor.violations(), Vec::<String>::new());
    drop(running);
    trivy.state().findings.insert("team/leak".into(), vec![json!({ "id": "x", "links": 7 })]);
    let _running = start(&site, &harbor, &format!("{merge}\nmerge-required = true"));
    harbor.scan("team/leak", &digest);
    harbor.wait_all();
    assert!(harbor.log(&digest).unwrap().contains("not a report"), "{:?}", harbor.log(&digest));
}

#[test]
fn polls_are_put_off_while_the_store_is_down() {
    let server = postgres::Server::start();
    let site = Site::with(Fresh::at(server.url()));
    let harbor = HarborScanner::start(Setup { pace: 0.05, ..Setup::default() });
    let digest = harbor.push("team/app", "v1", &clean("app"));
    let _running = start(&site, &harbor, "");
    harbor.close();
    harbor.scan("team/app", &digest);
    eventually("a scan", || {
        (!site.fresh().rows("SELECT id FROM harbor_tasks WHERE phase = 'scan'").is_empty()).then_some(())
    });
    server.stop("immediate");
    let polls = || harbor.calls().iter().filter(|call| call.method == "GET").count();
    let before = polls();
    eventually("polls during the outage", || (polls() > before + 3).then_some(()));
    assert_eq!(harbor.status(&digest), Some(Status::Running), "{:?}", harbor.log(&digest));
    server.start_again();
    harbor.open();
    harbor.wait_all();
    assert_eq!(harbor.status(&digest), Some(Status::Success), "{:?}", harbor.log(&digest));
    assert_eq!(harbor.violations(), Vec::<String>::new());
}

#[test]
fn bills_of_materials_of_a_second_adapter_pass_through() {
    let trivy = TrivyAdapter::start(&[]);
    let harbor = HarborScanner::start(Setup::default());
    let digest = harbor.push("team/app", "v1", &clean("app"));
    let site = Site::sqlite();
    let running = start(&site, &harbor, &format!("merge-adapter = '{}'", trivy.url()));
    makes_sboms(&harbor, &running);
    assert_eq!(harbor.scan_sbom("team/app", &digest).status, 202);
    harbor.wait_all();
    let (status, sbom, log) = harbor.sbom(&digest).unwrap();
    assert_eq!(status, Status::Success, "{log:?}");
    assert!(sbom.to_string().contains("SPDX-2.3"), "{sbom}");
    trivy.state().fails = Some("no space left on the device".into());
    harbor.scan_sbom("team/app", &digest);
    harbor.wait_all();
    let (status, _, log) = harbor.sbom(&digest).unwrap();
    assert!(status == Status::Error && log.unwrap().contains("no space left"));
    assert_eq!(harbor.violations(), Vec::<String>::new());
}

#[test]
fn any_replica_answers_for_a_scan() {
    let harbor = HarborScanner::start(Setup::default());
    let digest = harbor.push("team/leak", "v1", &image("leak", &[leak()]));
    let site = Site::postgres();
    let replicas = [start(&site, &harbor, ""), start(&site, &harbor, "[scans]\nat-once = 0\npulls = 0")];
    let clients = replicas.each_ref().map(|replica| Client::new(&replica.url("api")).with_token(ADAPTER));
    let request = json!({
        "registry": { "url": harbor.url(), "authorization": "" },
        "artifact": {
            "repository": "team/leak", "digest": digest, "tag": "v1", "size": 1,
            "mime_type": "application/vnd.oci.image.manifest.v1+json",
        },
    });
    harbor.set_project("team", Settings { is_public: true, ..Settings::default() });
    let ids: Vec<String> = clients
        .iter()
        .map(|client| client.post("/harbor/api/v1/scan", &request).expect(202).json()["id"].as_str().unwrap().into())
        .collect();
    for (client, id) in clients.iter().zip(ids.iter().rev()) {
        let path = format!("/harbor/api/v1/scan/{id}/report");
        let report = eventually("a report", || {
            let answer = client.get(&path);
            match answer.status {
                302 => {
                    let pause: u8 = answer.header("Refresh-After").parse().unwrap();
                    assert!((1..=127).contains(&pause));
                    None
                }
                _ => Some(answer.expect(200).json()),
            }
        });
        assert_eq!((&report["artifact"]["digest"], &report["severity"]), (&json!(digest), &json!("Critical")));
        assert!(report["generated_at"].as_str().unwrap() > "2026", "{}", report["generated_at"]);
    }
}

#[test]
fn the_login_of_a_scan_is_sealed_while_it_is_needed_and_gone_afterwards() {
    let harbor = HarborScanner::start(Setup { pace: 0.05, ..Setup::default() });
    let digest = harbor.push("team/leak", "v1", &image("leak", &[leak()]));
    let site = Site::sqlite();
    let running = start(&site, &harbor, "");
    harbor.close();
    harbor.scan("team/leak", &digest);
    let sealed = eventually("a task", || {
        let sql = "SELECT hex(sealed) FROM harbor_tasks WHERE sealed IS NOT NULL AND phase = 'scan'";
        site.fresh().rows(sql).pop()
    });
    assert!(format!("{sealed:?}").len() > 100, "{sealed:?}");
    let logins = || -> BTreeSet<String> {
        let sent =
            harbor.requests().into_iter().filter_map(|request| request.header("authorization").map(String::from));
        sent.filter_map(|header| Some(header.split_once(' ')?.1.to_string())).collect()
    };
    eventually("a pull with the login", || (!logins().is_empty()).then_some(()));
    let shown = |site: &Site, running: &Running| {
        let columns = "SELECT id, reference, source, request, phase, progress, error FROM harbor_tasks";
        let shown = format!("{:?} {:?}", site.fresh().rows(columns), running.log());
        for secret in logins() {
            assert!(!shown.contains(&secret), "{secret}");
        }
    };
    shown(&site, &running);
    harbor.open();
    harbor.wait_all();
    assert_eq!(harbor.status(&digest), Some(Status::Success), "{:?}", harbor.log(&digest));
    shown(&site, &running);
    assert_eq!(site.fresh().rows("SELECT id FROM harbor_tasks WHERE sealed IS NOT NULL"), Vec::<String>::new());
}

#[test]
fn workers_pull_with_the_login_of_the_scan() {
    let harbor = HarborScanner::start(Setup { pace: 0.05, ..Setup::default() });
    let digest = harbor.push("team/leak", "v1", &image("leak", &[leak()]));
    let site = Site::sqlite();
    let _running = start(&site, &harbor, "[scans]\npulls = 0");
    let key = site.path("key");
    let credentials = site.path("credentials");
    let mut worker = crate::support::program();
    worker.args(["worker", "--store", site.store(), "--anonymous", "--quiet", "--fingerprint-key"]).arg(key);
    worker.arg("--credentials-key").arg(credentials);
    let mut worker = worker.spawn().unwrap();
    harbor.scan("team/leak", &digest);
    harbor.wait_all();
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!(harbor.status(&digest), Some(Status::Success), "{:?}", harbor.log(&digest));
    let found = harbor.vulnerabilities(&digest);
    assert!(found.iter().any(|row| row["id"].as_str().unwrap().starts_with("SECRET-")), "{found:#?}");
}

#[test]
fn a_scan_that_does_not_end_ends_in_an_error() {
    let harbor = HarborScanner::start(Setup { pace: 0.2, ..Setup::default() });
    let digest = harbor.push("team/app", "v1", &clean("app"));
    let site = Site::sqlite();
    let _running = start(&site, &harbor, "deadline = '2s'");
    harbor.close();
    harbor.scan("team/app", &digest);
    harbor.wait_all();
    harbor.open();
    assert_eq!(harbor.status(&digest), Some(Status::Error));
    assert!(harbor.log(&digest).unwrap().contains("did not end in time"), "{:?}", harbor.log(&digest));
    assert_eq!(harbor.violations(), Vec::<String>::new());
}

#[test]
fn metadata_is_answered_while_the_store_is_down() {
    let server = postgres::Server::start();
    let site = Site::with(Fresh::at(server.url()));
    let harbor = HarborScanner::start(Setup::default());
    let blocking = Settings { prevent_vul: true, severity: "low".into(), ..Settings::default() };
    harbor.set_project("team", blocking);
    let digest = harbor.push("team/app", "v1", &clean("app"));
    let running = start(&site, &harbor, "");
    server.stop("immediate");
    let url = format!("{}/harbor", running.url("api"));
    harbor.register(&url, Auth::Bearer(ADAPTER.into())).unwrap();
    assert!(harbor.refused("team/app", &digest).is_some(), "an image that was not scanned cannot be pulled");
    // A scan is an error with a message, not a silence.
    assert_eq!(harbor.scan("team/app", &digest).status, 202);
    harbor.wait_all();
    assert_eq!(harbor.status(&digest), Some(Status::Error));
    assert_eq!(harbor.violations(), Vec::<String>::new());
    server.start_again();
    eventually("a report", || {
        harbor.scan("team/app", &digest);
        harbor.wait_all();
        (harbor.status(&digest) == Some(Status::Success)).then_some(())
    });
    assert_eq!(harbor.refused("team/app", &digest), None);
}

#[test]
fn each_kind_of_login_is_taken_and_no_other() {
    let harbor = HarborScanner::start(Setup::default());
    let site = Site::sqlite();
    let running = start(&site, &harbor, "");
    let url = format!("{}/harbor", running.url("api"));
    for auth in [Auth::Basic(format!("harbor:{ADAPTER}")), Auth::Bearer(ADAPTER.into()), Auth::ApiKey(ADAPTER.into())] {
        harbor.register(&url, auth).unwrap();
    }
    let wrong = format!("{ADAPTER}x");
    for auth in [Auth::None, Auth::Basic(format!("harbor:{wrong}")), Auth::Bearer(wrong.clone()), Auth::ApiKey(wrong)] {
        let error = harbor.register(&url, auth.clone()).unwrap_err();
        assert!(error.contains("401"), "{auth:?}: {error}");
    }
    let answer = Client::new(&running.url("api")).post("/harbor/api/v1/scan", &json!({})).expect(401).json();
    assert!(answer["error"]["message"].is_string(), "{answer}");
    let known = Client::new(&running.url("api")).with_token(ADAPTER);
    for path in ["none", "00000000-0000-0000-0000-000000000000"] {
        let answer = known.get(&format!("/harbor/api/v1/scan/{path}/report")).expect(404).json();
        assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
}

#[test]
fn a_layer_that_cannot_be_read_is_a_gap_that_blocks() {
    let harbor = HarborScanner::start(Setup::default());
    let blocking = Settings { prevent_vul: true, severity: "high".into(), ..Settings::default() };
    harbor.set_project("team", blocking);
    let broken = crate::support::image::Layer::stored(b"no tar", b"no gzip".to_vec(), "+gzip");
    let digest = harbor.push("team/broken", "v1", &image("broken", &[broken]));
    let site = Site::sqlite();
    let _running = start(&site, &harbor, "");
    harbor.scan("team/broken", &digest);
    harbor.wait_all();
    let found = harbor.vulnerabilities(&digest);
    assert_eq!(harbor.status(&digest), Some(Status::Success), "{:?}", harbor.log(&digest));
    assert!(found.iter().any(|gap| gap["id"].as_str().unwrap().starts_with("GAP-") && gap["severity"] == "High"));
    assert!(harbor.refused("team/broken", &digest).unwrap().contains("vulnerabilit"));
    assert_eq!(harbor.violations(), Vec::<String>::new());
}
