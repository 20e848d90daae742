//! As what an image is attested and verified: nothing hides a platform that fails, and a pass means what the verifier
//! demands.

use serde_json::{Value, json};

use crate::attestations::Setting;
use crate::support::image::{INDEX, MANIFEST, bytes, descriptor, digest, index};
use crate::support::pull::{options, registry};
use layersift_source::registry::At;

impl Setting {
    /// Pushes an image that fails, and returns its manifest.
    fn put_failing(&self, repository: &str) -> Vec<u8> {
        self.registry.push(&format!("{repository}:failing"), &["--dest-tls-verify=false"]);
        let at = At::Tag("failing".into());
        registry(&self.registry.host(), options()).manifest(repository, &at).unwrap().bytes
    }

    fn put_index_of(&self, repository: &str, tag: &str, entries: &[Value]) -> Vec<u8> {
        let index = bytes(&index(entries));
        self.registry.put_manifest(repository, tag, INDEX, &index);
        index
    }
}

fn entry(manifest: &[u8], architecture: &str) -> Value {
    let media_type = serde_json::from_slice::<Value>(manifest).unwrap()["mediaType"].as_str().unwrap().to_owned();
    let mut entry = descriptor(&media_type, manifest);
    entry["platform"] = json!({"os": "linux", "architecture": architecture});
    entry
}

#[test]
fn neither_an_annotation_nor_an_inner_index_hides_a_platform_that_fails() {
    let setting = Setting::new();
    let failing = setting.put_failing("team/app");
    let clean = entry(&setting.put_clean("team/app", "clean", "arm64"), "arm64");
    for kind in ["x", "attestation-manifest"] {
        let mut marked = entry(&failing, "amd64");
        marked["annotations"] = json!({"vnd.docker.reference.type": kind});
        setting.put_index_of("team/app", "marked", &[marked, clean.clone()]);
        let refused = setting.attest("team/app:marked", &[]).expect(1);
        assert!(refused.stderr.contains("nothing is attested"), "{refused:?}");
        setting.verify("team/app:marked", &[]).expect(1);
    }
    let inner = setting.put_index_of("team/app", "inner", &[entry(&failing, "amd64")]);
    setting.put_index_of("team/app", "outer", &[clean.clone(), descriptor(INDEX, &inner)]);
    setting.attest("team/app:outer", &[]).expect(1);
    // The report of one platform does not attest the index, and that of another image is not passed over.
    let (report, other) = (setting.path("one.json"), setting.path("other.json"));
    for (name, path) in [("team/app:clean", &report), ("team/app:failing", &other)] {
        let scan = ["scan", &setting.image(name), "--plain-http", "-q", "--fail-on", "none", "--format", "json"];
        setting.run(&[&scan[..], &["-o", path]].concat()).expect(0);
    }
    let one = setting.attest("team/app:outer", &["--report", &report]).expect(0);
    assert!(one.stderr.contains("the index is not attested"), "{one:?}");
    setting.verify("team/app:outer", &[]).expect(1);
    let wrong = setting.attest("team/app:clean", &["--report", &report, "--report", &other]).expect(2);
    assert!(wrong.stderr.contains("is not of this image"), "{wrong:?}");
    let partial = setting.path("partial.json");
    let scan = ["scan", &setting.image("team/app:clean"), "--plain-http", "-q", "--no-referrers", "--format", "json"];
    setting.run(&[&scan[..], &["-o", &partial]].concat()).expect(0);
    let refused = setting.attest("team/app:clean", &["--report", &partial]).expect(2);
    assert!(refused.stderr.contains("--no-referrers"), "{refused:?}");
    let empty = setting.put_index_of("team/app", "empty", &[]);
    assert!(!empty.is_empty());
    let refused = setting.attest("team/app:empty", &[]).expect(2);
    assert!(refused.stderr.contains("the index has no image"), "{refused:?}");
    let twice = setting.attest("team/app:clean", &["--report", &report, "--report", &report]).expect(2);
    assert!(twice.stderr.contains("several reports"), "{twice:?}");
}

#[test]
fn an_index_of_indexes_is_attested_with_all_that_it_leads_to() {
    let setting = Setting::new();
    let [one, other] = ["amd64", "arm64"].map(|name| setting.put_clean("team/app", name, name));
    let inner = setting.put_index_of("team/app", "inner", &[entry(&one, "amd64")]);
    let outer = setting.put_index_of("team/app", "outer", &[entry(&other, "arm64"), descriptor(INDEX, &inner)]);
    let attested = setting.attest("team/app:outer", &["--format", "json"]).expect(0).json();
    let digests: Vec<&Value> = attested["images"].as_array().unwrap().iter().map(|image| &image["digest"]).collect();
    assert_eq!(digests.len(), 3);
    assert!(digests.iter().any(|found| **found == digest(&outer)));
    assert_eq!(attested["images"][0]["attached"].as_array().unwrap().len(), 2);
    let verified = setting.verify("team/app:outer", &["--format", "json"]).expect(0).json();
    assert_eq!((&verified["verdict"], verified["images"].as_array().unwrap().len()), (&"pass".into(), 3));
    assert!(verified["images"][0]["accepted"]["result"]["policy"]["failOn"] == "high");
}

#[test]
fn a_pass_is_one_by_the_whole_judgement() {
    let setting = Setting::new();
    setting.put_clean("team/app", "v1", "amd64");
    setting.put_failing("team/leaky");
    let nothing_fails = setting.attest("team/leaky:failing", &["--fail-on", "none"]).expect(3);
    assert!(nothing_fails.stderr.contains("--fail-on none"), "{nothing_fails:?}");
    let (policy, baseline) = (setting.path("policy.toml"), setting.path("baseline.json"));
    std::fs::write(&policy, "fail-on = \"high\"\n").unwrap();
    setting.attest("team/app:v1", &["--policy", &policy, "--fail-on", "critical"]).expect(0);
    let weaker = setting.verify("team/app:v1", &[]).expect(1);
    assert!(weaker.stdout.contains("--fail-on critical instead of high"), "{weaker:?}");
    setting.verify("team/app:v1", &["--fail-on", "critical"]).expect(0);
    let weaker = setting.verify("team/app:v1", &["--policy", &policy]).expect(1);
    assert!(weaker.stdout.contains("--fail-on critical instead of high"), "{weaker:?}");
    setting.verify("team/app:v1", &["--policy", &policy, "--fail-on", "critical"]).expect(0);
    // What the policy excepts would fail, so the verifier names that policy.
    let image = setting.image("team/leaky:failing");
    let scan = ["scan", &image, "--plain-http", "-q", "--fail-on", "none", "--format", "json"];
    let found = setting.run(&scan).expect(0).json();
    let rules = found["rules"].as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap());
    let exceptions: String = rules
        .map(|rule| format!("[[allow]]\nrule = \"{rule}\"\nreason = \"made up\"\nexpires = 2099-12-31\n"))
        .collect();
    std::fs::write(&policy, format!("fail-on = \"high\"\n{exceptions}")).unwrap();
    setting.attest("team/leaky:failing", &["--policy", &policy]).expect(0);
    let excepted = setting.verify("team/leaky:failing", &[]).expect(1);
    assert!(excepted.stdout.contains("were excepted"), "{excepted:?}");
    setting.verify("team/leaky:failing", &["--policy", &policy]).expect(0);
    let scan = ["scan", &image, "--plain-http", "-q", "--fail-on", "none", "--format", "json", "-o", &baseline];
    setting.run(&scan).expect(0);
    setting.attest("team/leaky:failing", &["--baseline", &baseline]).expect(0);
    let with_baseline = setting.verify("team/leaky:failing", &[]).expect(1);
    assert!(with_baseline.stdout.contains("with the baseline"), "{with_baseline:?}");
    setting.verify("team/leaky:failing", &["--baseline", &baseline]).expect(0);
}

#[test]
fn the_platform_of_a_manifest_is_the_one_that_was_asked_for() {
    let setting = Setting::new();
    setting.put_clean("team/app", "v1", "amd64");
    setting.attest("team/app:v1", &[]).expect(0);
    setting.verify("team/app:v1", &["--platform", "linux/amd64"]).expect(0);
    let other = setting.verify("team/app:v1", &["--platform", "linux/arm64"]).expect(2);
    assert!(other.stderr.contains("the image is for linux/amd64, not linux/arm64"), "{other:?}");
}

#[test]
fn an_attestation_that_is_listed_and_missing_leaves_it_open() {
    let setting = Setting::new();
    let manifest = setting.put_clean("team/app", "v1", "amd64");
    setting.attest("team/app:v1", &[]).expect(0);
    let tag = digest(&manifest).replace(':', "-");
    let mut list = setting.get("team/app", &tag);
    let mut missing = list["manifests"][0].clone();
    missing["digest"] = list["manifests"][1]["digest"].clone();
    list["manifests"] = json!([list["manifests"][0], missing]);
    let second = list["manifests"][1]["digest"].as_str().unwrap().to_owned();
    setting.registry.put_manifest("team/app", &tag, INDEX, &bytes(&list));
    setting.registry.forget_manifest("team/app", &second);
    let open = setting.verify("team/app:v1", &["--format", "json"]).expect(3).json();
    assert_eq!((&open["verdict"], &open["images"][0]["accepted"]), (&"incomplete".into(), &Value::Null));
    assert_eq!(setting.get("team/app", "v1")["mediaType"], MANIFEST);
}
