//! Tests of the provider, and of the manifests that are shipped for it.

use super::*;
use crate::admission::words::tests::failed;
use proptest::prelude::*;
use serde_json::json;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn request(keys: &[&str]) -> String {
    json!({"apiVersion": API_VERSION, "kind": "ProviderRequest", "request": {"keys": keys}}).to_string()
}

fn keys(texts: &[&str]) -> Vec<Key> {
    read(request(texts).as_bytes(), &KeyLimits::default()).unwrap()
}

fn answered(texts: &[&str], decisions: &[Decision]) -> serde_json::Value {
    let decide = |key: &Key| decisions.iter().find(|decision| decision.image == key.image);
    serde_json::from_slice(&answer(&keys(texts), decide)).unwrap()
}

#[test]
fn the_recorded_request_is_read() {
    let path = root().join("testdata/recordings/kubernetes/gatekeeper/provider-request.raw.json");
    let read = read(std::fs::File::open(path).unwrap(), &KeyLimits::default()).unwrap();
    let images: Vec<&str> = read.iter().map(|key| &key.image[..]).collect();
    assert_eq!(images, ["registry.example.org/m/a:1", "registry.example.org/m/b:1"]);
}

#[test]
fn a_key_may_begin_with_a_namespace() {
    let parts = |text: &str| {
        let key = keys(&[text]).remove(0);
        assert_eq!(key.text, text);
        (key.namespace, key.image)
    };
    assert_eq!(parts("[shop-2]app:1"), (Some("shop-2".into()), "app:1".into()));
    for image in
        ["app:1", "[::1]:5000/app:1", "[Shop]app", "[]app", "[shop", "", "[", &format!("[{}]a", "n".repeat(64))]
    {
        assert_eq!(parts(image), (None, image.into()), "{image}");
    }
}

#[test]
fn a_request_over_a_bound_is_an_error() {
    let limits = KeyLimits { body_bytes: 2_000, keys: 2, key_bytes: 10 };
    let words = |body: &str| read(body.as_bytes(), &limits).unwrap_err().to_string();
    assert_eq!(words(&request(&["a", "b", "c"])), "the request has more than 2 keys");
    assert_eq!(words(&request(&["a", &"b".repeat(11)])), "key 1 is longer than 10 bytes");
    assert_eq!(words(&request(&["a", &"b".repeat(1_500)])), "key 1 is longer than 10 bytes");
    assert_eq!(words(&request(&[&"b".repeat(2_000)])), "the body has more than 2000 bytes");
    assert_eq!(words(&"[".repeat(100)), "the body is nested more than 32 levels deep");
    let other = "the request is not a ProviderRequest of externaldata.gatekeeper.sh/v1beta1";
    assert_eq!(words(&request(&[]).replace("v1beta1", "v1")), other);
    assert_eq!(words(&request(&[]).replace("ProviderRequest", "ProviderResponse")), other);
    for body in ["", "{}", "null", "[]", "{\"request\":{}}"] {
        assert!(words(body).starts_with("the request cannot be read: "), "{body}");
    }
}

#[test]
fn an_answer_has_values_errors_and_nothing_for_what_is_not_known_yet() {
    let texts = ["[shop]good", "bad", "waits", "unknown", "nothing", "warned", "bad"];
    let effect =
        |image: &str, outcome, effect| Decision { effect, outcome, reasons: vec![], reasons_total: 0, ..failed(image) };
    let decisions = [
        effect("good", Outcome::Pass, Effect::Allow),
        failed("bad"),
        effect("waits", Outcome::Unknown, Effect::Wait),
        effect("unknown", Outcome::Unknown, Effect::Deny),
        effect("warned", Outcome::Incomplete, Effect::Warn),
    ];
    let value = answered(&texts, &decisions);
    assert_eq!((&value["apiVersion"], &value["kind"]), (&json!(API_VERSION), &json!("ProviderResponse")));
    let response = &value["response"];
    assert_eq!((&response["systemError"], &response["idempotent"]), (&json!(""), &json!(false)));
    let items = response["items"].as_array().unwrap();
    let found: Vec<&str> = items.iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(found, ["[shop]good", "bad", "warned"]);
    assert_eq!((&items[0]["value"]["allowed"], items[0].get("error")), (&json!(true), None));
    assert!(items[0]["value"]["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(items[1].get("value"), None, "with an error, a value is lost");
    assert!(items[1]["error"].as_str().unwrap().contains("aws.access-key"));
    assert_eq!(items[2]["value"]["allowed"], true);
    assert!(items[2]["value"]["warning"].as_str().unwrap().ends_with("not everything could be read"));
}

#[test]
fn a_decision_about_another_image_is_no_answer() {
    let other = Decision { effect: Effect::Allow, ..failed("other") };
    let json = answer(&keys(&["app"]), |_| Some(&other));
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(value["response"]["items"], json!([]));
}

#[test]
fn an_outage_has_a_text_and_no_items() {
    for (why, told) in [("the store is down\n", "the store is down "), ("", "the service is out of order")] {
        let value: serde_json::Value = serde_json::from_slice(&outage(why)).unwrap();
        assert_eq!(value["response"], json!({"idempotent": false, "items": [], "systemError": told}));
    }
}

proptest! {
    #[test]
    fn only_what_is_allowed_has_a_value(effects in prop::collection::vec(0..4usize, 0..20), text in "\\PC{0,30}") {
        let names: Vec<String> = (0..effects.len()).map(|index| format!("{text}{index}")).collect();
        let all = [Effect::Allow, Effect::Warn, Effect::Wait, Effect::Deny];
        let decide = |(name, effect): (&String, &usize)| Decision { effect: all[*effect], ..failed(name) };
        let asked = keys(&names.iter().map(|name| &name[..]).collect::<Vec<_>>());
        let decisions: Vec<Decision> = asked.iter().map(|key| key.image.clone()).collect::<Vec<_>>()
            .iter().zip(&effects).map(decide).collect();
        let find = |key: &Key| decisions.iter().find(|decision| decision.image == key.image);
        let value: serde_json::Value = serde_json::from_slice(&answer(&asked, find)).unwrap();
        for item in value["response"]["items"].as_array().unwrap() {
            let at = asked.iter().position(|key| item["key"] == key.text).unwrap();
            prop_assert_eq!(item.get("value").is_some(), effects[at] <= 1);
            prop_assert_eq!(item.get("error").is_some(), effects[at] == 3);
        }
        let shown = effects.iter().filter(|effect| **effect != 2).count();
        prop_assert_eq!(value["response"]["items"].as_array().unwrap().len(), shown);
    }

    #[test]
    fn any_bytes_are_keys_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes[..], &KeyLimits::default());
    }
}

fn manifest(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(root().join("deploy/gatekeeper").join(name)).unwrap();
    serde_norway::from_str(&text).unwrap()
}

#[test]
fn the_provider_speaks_what_gatekeeper_asks() {
    let provider = manifest("provider.yaml");
    assert_eq!((&provider["apiVersion"], &provider["kind"]), (&json!(API_VERSION), &json!("Provider")));
    assert!(provider["spec"]["url"].as_str().unwrap().starts_with("https://"));
    let timeout = provider["spec"]["timeout"].as_u64().unwrap();
    assert!((1..3).contains(&timeout), "0 fails every call, and Gatekeeper's own webhook has 3 s");
    assert!(provider["spec"].get("caBundle").is_some());
}

#[test]
fn the_constraint_uses_the_template_and_the_provider() {
    let (template, constraint) = (manifest("template.yaml"), manifest("constraint.yaml"));
    let kind = &template["spec"]["crd"]["spec"]["names"]["kind"];
    assert_eq!(constraint["kind"], *kind);
    assert_eq!(template["metadata"]["name"].as_str().unwrap(), kind.as_str().unwrap().to_lowercase());
    assert_eq!(constraint["spec"]["parameters"]["provider"], manifest("provider.yaml")["metadata"]["name"]);
    assert_eq!(constraint["spec"]["enforcementAction"], "deny");
    let kinds = constraint["spec"]["match"]["kinds"].as_array().unwrap().iter();
    let kinds: Vec<&str> =
        kinds.flat_map(|group| group["kinds"].as_array().unwrap()).map(|kind| kind.as_str().unwrap()).collect();
    for kind in ["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "PodTemplate"] {
        assert!(kinds.contains(&kind), "{kind}");
    }
}

/// How the rules work is not tested here, but that each is there.
#[test]
fn the_template_denies_each_key_that_no_response_lets_in() {
    let template = manifest("template.yaml");
    let target = &template["spec"]["targets"][0];
    assert_eq!(target["target"], "admission.k8s.gatekeeper.sh");
    let rego = target["rego"].as_str().unwrap();
    let one_line = rego.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "violation[{\"msg\": msg}] { key := keys[_] not allowed[key]",
        "pair[1].allowed == true not has_error(key) not has_system_error }",
        "has_system_error { answer.system_error != \"\" }",
        "has_error(key) { answer.errors[_][0] == key }",
        "external_data({\"provider\": provider, \"keys\": keys})",
        "images(input.review.object) - images(input.review.oldObject) { input.review.operation == \"UPDATE\"",
        "image := specs[_].volumes[_].image.reference",
        "{\"containers\", \"initContainers\", \"ephemeralContainers\"}",
        "[\"spec\", \"jobTemplate\", \"spec\", \"template\", \"spec\"]",
        "[\"data\", \"spec\", \"template\", \"spec\"]",
    ] {
        assert!(one_line.contains(part), "{part}");
    }
    assert_eq!(rego.matches("violation[").count(), 1);
    let code = rego.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    assert!(!code.collect::<String>().contains("status_code"), "it is 0 for what comes from the cache");
}
