//! Tests of answering: each point of the recordings' list that is about an answer.

use super::super::review::{Image, Operation, Problem, ReviewLimits, TypeName, read};
use super::*;
use crate::admission::matched::MOST_MESSAGE;
use crate::admission::words::tests::failed;
use crate::admission::{Outcome, Reason};
use serde_json::{Value, json};

const ENFORCE: Mode = Mode::Enforce { may_ask_again: false };
const PATIENT: Mode = Mode::Enforce { may_ask_again: true };

fn review(images: &[&str]) -> Review {
    let image = |reference: &&str| Image { reference: reference.to_string(), paths: vec!["spec".into()] };
    Review {
        head: Head { api_version: "admission.k8s.io/v1".into(), uid: "Ab-ü\u{1f511}".into() },
        kind: TypeName::default(),
        resource: TypeName::default(),
        sub_resource: String::new(),
        name: String::new(),
        namespace: String::new(),
        operation: Operation::Create,
        is_dry_run: false,
        username: String::new(),
        images: images.iter().map(image).collect(),
    }
}

fn with(image: &str, effect: Effect) -> Decision {
    Decision { effect, ..failed(image) }
}

fn waiting(image: &str, retry_after: Option<u64>) -> Decision {
    let unknown = Decision::without_report(image, None, Outcome::Unknown, "its layers are queued");
    Decision { effect: Effect::Wait, retry_after, ..unknown }
}

fn body(answer: &Answer) -> Value {
    let Answer::Body { is_allowed, json } = answer else { panic!("no body: {answer:?}") };
    let value: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(value["response"]["allowed"], *is_allowed);
    holds(&value);
    value
}

/// What holds for every answer.
fn holds(value: &Value) {
    let response = value["response"].as_object().unwrap();
    assert_eq!(value["kind"], "AdmissionReview");
    for never in ["patch", "patchType", "result"] {
        assert!(!response.contains_key(never), "a call with {never} has failed");
    }
    let is_plain = |text: &str| text.chars().all(|c| !layersift_model::changes_display(c) && !is_invisible(c));
    if let Some(status) = response.get("status") {
        let message = status["message"].as_str().unwrap();
        assert!(message.len() <= MOST_MESSAGE && is_plain(message), "{message}");
        assert!(status["code"].as_u64().unwrap() >= 400, "less becomes 400");
        assert!(status["reason"].is_string());
    }
    let warnings: Vec<&str> =
        response.get("warnings").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(warnings.iter().all(|text| !text.is_empty() && text.chars().count() <= MOST_WARNING && is_plain(text)));
    assert!(warnings.iter().map(|text| text.chars().count()).sum::<usize>() <= MOST_WARNINGS);
    assert_eq!(warnings.iter().collect::<HashSet<_>>().len(), warnings.len(), "duplicates are dropped");
    for (key, text) in response.get("auditAnnotations").and_then(Value::as_object).into_iter().flatten() {
        assert!((1..=63).contains(&key.len()), "{key}");
        assert!(key.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)), "{key}");
        let text = text.as_str().unwrap();
        assert!(text.len() <= MOST_ANNOTATION && is_plain(text), "{text}");
    }
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{2060}' | '\u{ad}')
}

#[test]
fn the_uid_and_the_version_of_the_request_are_repeated() {
    let mut review = review(&[]);
    let value = body(&answer(&review, &[], ENFORCE));
    assert_eq!(
        value,
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "response": {"uid": "Ab-ü\u{1f511}", "allowed": true}})
    );
    review.head.api_version = "admission.k8s.io/v1beta1".into();
    assert_eq!(body(&answer(&review, &[], ENFORCE))["apiVersion"], "admission.k8s.io/v1beta1");
}

#[test]
fn a_denial_has_code_and_reason_and_a_message_with_all_that_matters() {
    let value = body(&answer(&review(&["app:1"]), &[failed("app:1")], PATIENT));
    let status = &value["response"]["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(403), &json!("Forbidden")));
    let message = status["message"].as_str().unwrap();
    for part in ["layersift: app:1", "aws.access-key", "AWS access key", "app/.env", "layer 3", "COPY . /app"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert_eq!(status.get("details"), None);
}

#[test]
fn an_image_without_a_decision_is_denied() {
    let value = body(&answer(&review(&["a", "b"]), &[with("a", Effect::Allow)], PATIENT));
    assert_eq!(value["response"]["status"]["message"], "layersift: b: nothing was decided about this image");
    let value = body(&answer(&review(&["a"]), &[with("A", Effect::Allow)], PATIENT));
    assert_eq!(value["response"]["allowed"], false, "names are compared exactly");
    let others = [with("a", Effect::Allow), failed("other")];
    assert_eq!(body(&answer(&review(&["a"]), &others, PATIENT))["response"]["allowed"], false);
    let twice = [with("a", Effect::Deny), with("a", Effect::Allow)];
    assert_eq!(body(&answer(&review(&["a"]), &twice, PATIENT))["response"]["allowed"], false);
}

#[test]
fn what_is_not_known_yet_is_asked_again_while_there_is_time() {
    let pod = review(&["a", "b"]);
    let decisions = [waiting("a", Some(3)), with("b", Effect::Warn)];
    assert_eq!(answer(&pod, &decisions, PATIENT), Answer::AskAgain);
    let value = body(&answer(&pod, &decisions, ENFORCE));
    let status = &value["response"]["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(429), &json!("TooManyRequests")));
    assert_eq!(status["details"], json!({"retryAfterSeconds": 3}));
    assert_eq!(status["message"], "layersift: a: not known yet: its layers are queued");
    for (asked, told) in [(None, USUAL_RETRY), (Some(0), 1), (Some(9_000), MOST_RETRY)] {
        let value = body(&answer(&review(&["a"]), &[waiting("a", asked)], ENFORCE));
        assert_eq!(value["response"]["status"]["details"]["retryAfterSeconds"], told);
    }
    // With a denial, no waiting helps.
    let value = body(&answer(&review(&["a", "c"]), &[waiting("a", None), failed("c")], PATIENT));
    assert_eq!(value["response"]["status"]["code"], 403);
    assert!(value["response"]["status"]["message"].as_str().unwrap().starts_with("layersift: c"));
}

#[test]
fn warnings_reach_the_client_also_with_a_denial() {
    let pod = review(&["a", "b"]);
    let value = body(&answer(&pod, &[with("a", Effect::Warn), with("b", Effect::Allow)], ENFORCE));
    assert_eq!(value["response"]["allowed"], true);
    assert_eq!(value["response"].get("status"), None);
    assert!(value["response"]["warnings"][0].as_str().unwrap().starts_with("layersift: a (sha256:"));
    let value = body(&answer(&pod, &[with("a", Effect::Warn), failed("b")], ENFORCE));
    assert_eq!(value["response"]["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(value["response"]["allowed"], false);
}

#[test]
fn in_audit_mode_all_may_in_and_the_denial_is_a_warning() {
    let pod = review(&["a", "b", "c", "d"]);
    let decisions = [failed("a"), waiting("b", None), with("d", Effect::Allow)];
    let value = body(&answer(&pod, &decisions, Mode::Audit));
    let response = &value["response"];
    assert_eq!((&response["allowed"], response.get("status")), (&json!(true), None));
    let warnings: Vec<&str> = response["warnings"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(warnings[0].starts_with("layersift would deny: a (sha256:"), "{warnings:?}");
    assert_eq!(warnings[1], "layersift would wait for: b: not known yet: its layers are queued");
    assert_eq!(warnings[2], "layersift would deny: c: nothing was decided about this image");
    assert_eq!((&response["auditAnnotations"]["effect"], warnings.len()), (&json!("deny"), 3));
    assert_eq!(response["auditAnnotations"]["mode"], "audit");
}

#[test]
fn audit_annotations_name_digest_platforms_and_what_the_decision_rests_on() {
    let basis = crate::admission::Basis {
        ruleset: "sha256:rules".into(),
        reader_revision: Some(4),
        scanned_at: 77,
        is_outdated: false,
        attestation: None,
    };
    let decision = Decision { basis: Some(basis), platforms: vec!["linux/amd64".into()], ..failed("a") };
    let value = body(&answer(&review(&["a"]), std::slice::from_ref(&decision), ENFORCE));
    let text = value["response"]["auditAnnotations"]["image-0"].as_str().unwrap();
    let digest = decision.digest.unwrap();
    let begin = format!("deny, {digest}, linux/amd64, rules sha256:rules, reader 4, scanned at 77: a (sha256:");
    assert!(text.starts_with(&begin), "{text}");
}

#[test]
fn answers_about_many_hostile_images_stay_in_their_bounds() {
    let hostile = |index: usize| format!("\u{1b}[2J\u{202e}{index}\n\0{}", "ä\u{200b}\"<".repeat(200));
    let names: Vec<String> = (0..500).map(hostile).collect();
    let pod = review(&names.iter().map(|name| &name[..]).collect::<Vec<_>>());
    let reason = Reason {
        rule: "\u{7f}\n".repeat(900),
        title: "\u{2066}".repeat(900),
        instruction: Some("RUN \u{1b}]0;x\u{7}\n".repeat(500)),
        place: Some("\u{feff}🔑".repeat(900)),
        platform: Some("\r".repeat(900)),
        ..Reason::of_words("", "")
    };
    for effect in [Effect::Allow, Effect::Warn, Effect::Wait, Effect::Deny] {
        let decide = |name: &String| Decision {
            effect,
            reasons: vec![reason.clone(); 20],
            reasons_total: u64::MAX,
            platforms: vec!["\n".repeat(500); 50],
            ..failed(name)
        };
        let decisions: Vec<Decision> = names.iter().map(decide).collect();
        for mode in [ENFORCE, Mode::Audit] {
            let Answer::Body { json, .. } = answer(&pod, &decisions, mode) else { panic!("a body") };
            holds(&serde_json::from_slice(&json).unwrap());
            assert!(json.len() < 64 << 10, "{} bytes", json.len());
        }
    }
}

#[test]
fn a_message_about_many_images_counts_the_rest() {
    let names: Vec<String> = (0..60).map(|index| format!("registry.example.org/app:{index}")).collect();
    let decisions: Vec<Decision> = names.iter().map(|name| failed(name)).collect();
    let pod = review(&names.iter().map(|name| &name[..]).collect::<Vec<_>>());
    let value = body(&answer(&pod, &decisions, ENFORCE));
    let message = value["response"]["status"]["message"].as_str().unwrap();
    let told = message.matches("registry.example.org/app:").count();
    assert!(told >= 8 && message.ends_with(&format!(" | and {} more images", 60 - told)), "{message}");
    let warn: Vec<Decision> = names.iter().map(|name| with(name, Effect::Warn)).collect();
    let value = body(&answer(&pod, &warn, ENFORCE));
    let warnings = value["response"]["warnings"].as_array().unwrap();
    let left = 60 - (warnings.len() - 1);
    assert_eq!(*warnings.last().unwrap(), json!(format!("layersift: warnings about {left} more images are left out")));
    let annotations = value["response"]["auditAnnotations"].as_object().unwrap();
    assert_eq!(annotations["images-left-out"], "40");
}

#[test]
fn what_cannot_be_read_is_denied_with_its_uid() {
    let head = Head { api_version: "admission.k8s.io/v1".into(), uid: "U-1".into() };
    let error = ReviewError { head: Some(Box::new(head)), namespace: None, problem: Problem::Images(1_000) };
    let value = body(&refuse(&error, ENFORCE));
    let words = "layersift: this request cannot be judged: the object has more than 1000 image references";
    assert_eq!(value["response"]["uid"], "U-1");
    assert_eq!(value["response"]["status"], json!({"code": 403, "reason": "Forbidden", "message": words}));
    let value = body(&refuse(&error, Mode::Audit));
    assert_eq!((&value["response"]["allowed"], &value["response"]["warnings"][0]), (&json!(true), &json!(words)));
    let error = read(&b"{}"[..], &ReviewLimits::default()).unwrap_err();
    assert!(matches!(refuse(&error, ENFORCE), Answer::NotAReview(_)));
}
