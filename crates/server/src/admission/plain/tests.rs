//! Tests of plain JSON, and of the policy that is shipped for Kyverno.

use super::*;
use crate::admission::Outcome;
use crate::admission::words::tests::failed;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

fn question(value: &Value) -> Question {
    read(value.to_string().as_bytes(), &QuestionLimits::default()).unwrap()
}

fn answered(asked: &Value, decisions: &[Decision]) -> Value {
    serde_json::from_slice(&answer(&question(asked), decisions)).unwrap()
}

fn with(image: &str, effect: Effect) -> Decision {
    Decision { effect, ..failed(image) }
}

#[test]
fn images_are_texts_or_objects_with_a_digest() {
    let digest = Digest::of(b"x");
    let asked = question(&json!({"namespace": "shop", "images": ["a", {"image": "b", "digest": digest.to_string()},
        {"image": "c", "digest": null}, {"image": "d"}]}));
    let images: Vec<(&str, Option<&Digest>)> =
        asked.images.iter().map(|asked| (&asked.image[..], asked.digest.as_ref())).collect();
    assert_eq!(images, [("a", None), ("b", Some(&digest)), ("c", None), ("d", None)]);
    assert_eq!(asked.namespace.as_deref(), Some("shop"));
    assert_eq!(
        question(&json!({"images": [], "namespace": ""})),
        Question { images: vec![], namespace: None, wait: None }
    );
}

#[test]
fn a_question_of_another_form_is_an_error() {
    let limits = QuestionLimits { body_bytes: 1_000, images: 2, text_bytes: 100 };
    let words = |body: &str| {
        let error = read(body.as_bytes(), &limits).expect_err(body);
        let value: Value = serde_json::from_slice(&refuse(&error)).unwrap();
        assert_eq!((&value["allowed"], &value["decisions"]), (&json!(false), &json!([])));
        value["message"].as_str().unwrap().to_owned()
    };
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "\"a\"",
        r#"{"image":["a"]}"#,
        r#"{"Images":["a"]}"#,
        r#"{"images":"a"}"#,
        r#"{"images":{}}"#,
        r#"{"images":null}"#,
        r#"{"images":[7]}"#,
        r#"{"images":[null]}"#,
        r#"{"images":[{}]}"#,
        r#"{"images":[{"image":"a","tag":"b"}]}"#,
        r#"{"images":[{"image":"a","digest":"sha256:1"}]}"#,
        r#"{"images":[{"image":"a","image":"b"}]}"#,
        r#"{"images":[],"images":["a"]}"#,
        r#"{"images":[]} []"#,
    ] {
        assert!(words(body).starts_with("layersift: the question cannot be read: "), "{body}");
    }
    assert_eq!(words(r#"{"images":["a","b","c"]}"#), "layersift: the question has more than 2 images");
    let long = "layersift: a text of the question is longer than 100 bytes";
    assert_eq!(words(&json!({"images": ["a".repeat(101)]}).to_string()), long);
    assert_eq!(words(&json!({"images": [], "namespace": "a".repeat(800)}).to_string()), long);
    assert_eq!(words(&" ".repeat(1_001)), "layersift: the body has more than 1000 bytes");
    assert_eq!(words(&"[".repeat(500)), "layersift: the body is nested more than 32 levels deep");
    assert!(words(&json!({"\u{202e}".repeat(100): 1}).to_string()).len() <= MOST_ERROR + 20);
}

#[test]
fn an_answer_allows_only_if_each_image_has_a_decision_that_does() {
    let asked = json!({"images": ["a", "b"]});
    let value = answered(&asked, &[with("a", Effect::Allow), with("b", Effect::Warn)]);
    assert_eq!(value["allowed"], true);
    assert!(value["message"].as_str().unwrap().starts_with("layersift: b (sha256:"));
    assert_eq!(value["decisions"][1]["effect"], "warn");
    for decisions in [
        vec![],
        vec![with("a", Effect::Allow)],
        vec![with("a", Effect::Allow), with("b", Effect::Wait)],
        vec![with("a", Effect::Allow), with("b", Effect::Deny)],
        vec![with("a", Effect::Allow), with("b", Effect::Allow), with("b", Effect::Deny)],
        vec![with("a", Effect::Allow), with("b", Effect::Allow), with("other", Effect::Deny)],
    ] {
        let value = answered(&asked, &decisions);
        assert_eq!(value["allowed"], false, "{decisions:?}");
        assert_eq!(value["decisions"].as_array().unwrap().len(), decisions.len());
    }
    let value = answered(&json!({"images": []}), &[]);
    assert_eq!(value, json!({"allowed": true, "decisions": []}));
}

#[test]
fn a_decision_has_to_be_for_the_digest_that_was_asked_for() {
    let right = with("a", Effect::Allow);
    let asked = |digest: &Digest| json!({"images": [{"image": "a", "digest": digest}]});
    let digest = right.digest.clone().unwrap();
    assert_eq!(answered(&asked(&digest), std::slice::from_ref(&right))["allowed"], true);
    let other = answered(&asked(&Digest::of(b"other")), std::slice::from_ref(&right));
    assert_eq!(other["allowed"], false);
    assert_eq!(other["message"], "layersift: a: nothing was decided about this image");
    let unknown = Decision { digest: None, ..right };
    assert_eq!(answered(&asked(&digest), &[unknown])["allowed"], false);
}

#[test]
fn a_decision_is_written_whole() {
    let decision = Decision { retry_after: Some(2), outcome: Outcome::Unknown, ..with("a", Effect::Wait) };
    let value = answered(&json!({"images": ["a"]}), std::slice::from_ref(&decision));
    assert_eq!(value["decisions"][0], serde_json::to_value(&decision).unwrap());
    assert_eq!(value["decisions"][0]["retry_after"], 2);
}

proptest! {
    #[test]
    fn any_bytes_are_a_question_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes[..], &QuestionLimits::default());
    }

    #[test]
    fn one_that_is_not_let_in_denies_all(effects in prop::collection::vec(0..4usize, 0..8), missing: Option<usize>) {
        let all = [Effect::Allow, Effect::Warn, Effect::Wait, Effect::Deny];
        let names: Vec<String> = (0..effects.len()).map(|index| format!("app:{index}")).collect();
        let mut decisions: Vec<Decision> =
            names.iter().zip(&effects).map(|(name, effect)| with(name, all[*effect])).collect();
        let missing = missing.filter(|_| !decisions.is_empty());
        let is_missing = missing.map(|at| decisions.remove(at % names.len())).is_some();
        let value = answered(&json!({"images": names}), &decisions);
        prop_assert_eq!(&value["allowed"], !is_missing && effects.iter().all(|effect| *effect <= 1));
    }
}

#[test]
fn the_policy_for_kyverno_fails_closed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kyverno/policy.yaml");
    let policy: Value = serde_norway::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(
        (&policy["apiVersion"], &policy["kind"]),
        (&json!("policies.kyverno.io/v1"), &json!("ValidatingPolicy"))
    );
    let spec = &policy["spec"];
    assert_eq!((&spec["failurePolicy"], &spec["validationActions"]), (&json!("Fail"), &json!(["Deny"])));
    let rules = spec["matchConstraints"]["resourceRules"].as_array().unwrap();
    let resources: Vec<&str> = rules
        .iter()
        .flat_map(|rule| rule["resources"].as_array().unwrap())
        .map(|name| name.as_str().unwrap())
        .collect();
    for resource in ["pods", "pods/ephemeralcontainers", "deployments", "cronjobs", "podtemplates"] {
        assert!(resources.contains(&resource), "{resource}");
    }
    let variable = |name: &str| {
        let all = spec["variables"].as_array().unwrap();
        let found = all.iter().find(|variable| variable["name"] == name).unwrap_or_else(|| panic!("{name}"));
        found["expression"].as_str().unwrap().to_owned()
    };
    for field in ["containers", "initContainers", "ephemeralContainers", "volumes", "reference"] {
        assert!(variable("images").contains(field) && variable("oldImages").contains(field), "{field}");
    }
    let post = variable("answer");
    assert!(post.contains(".Post(") && post.contains("\"images\"") && post.contains("\"namespace\""), "{post}");
    let validations = spec["validations"].as_array().unwrap();
    assert_eq!(validations.len(), 1);
    let expression = validations[0]["expression"].as_str().unwrap();
    for part in ["statusCode.orValue(0) == 200 &&", "allowed.orValue(false) == true"] {
        assert!(expression.contains(part), "{expression}");
    }
}
