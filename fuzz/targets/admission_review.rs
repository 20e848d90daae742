//! Bodies that ask a webhook, a provider or the plain interface: no image that a search finds is missing, and what
//! cannot be read is never let in.
#![no_main]

use layersift_server::admission::kubernetes::{Answer, Mode, Operation, ReviewLimits, answer, read, refuse};
use layersift_server::admission::{gatekeeper, plain};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::collections::HashSet;

/// Where pod specs are.
const PATHS: [&str; 5] = [
    "/spec",
    "/spec/template/spec",
    "/spec/jobTemplate/spec/template/spec",
    "/template/spec",
    "/data/spec/template/spec",
];

fuzz_target!(|data: &[u8]| {
    let limits = ReviewLimits { body_bytes: 16_384, depth: 40, images: 20, text_bytes: 200 };
    let mode = Mode::Enforce { may_ask_again: false };
    match read(data, &limits) {
        Err(error) => assert!(!matches!(refuse(&error, mode), Answer::Body { is_allowed: true, .. })),
        Ok(review) => {
            let found: HashSet<&str> = review.images.iter().map(|image| &image.reference[..]).collect();
            assert_eq!(found.len(), review.images.len());
            // The last one of two equal names, as most parsers take it.
            if let Ok(value) = serde_json::from_slice::<Value>(data) {
                let known = match review.operation {
                    Operation::Update => search(&value["request"]["oldObject"]),
                    _ => HashSet::new(),
                };
                if review.operation != Operation::Delete {
                    let new = search(&value["request"]["object"]);
                    assert!(new.difference(&known).all(|image| found.contains(&image[..])), "{new:?} {found:?}");
                }
            }
            let Answer::Body { is_allowed, json } = answer(&review, &[], mode) else { panic!("no time is left") };
            assert_eq!(is_allowed, review.images.is_empty(), "nothing was decided");
            let written: Value = serde_json::from_slice(&json).expect("an answer is JSON");
            assert_eq!(written["response"]["uid"], review.head.uid);
        }
    }
    if let Ok(keys) = gatekeeper::read(data, &gatekeeper::KeyLimits::default()) {
        let _ = gatekeeper::answer(&keys, |_| None);
    }
    if let Ok(question) = plain::read(data, &plain::QuestionLimits::default()) {
        let written: Value = serde_json::from_slice(&plain::answer(&question, &[])).expect("an answer is JSON");
        assert_eq!(written["allowed"], question.images.is_empty());
    }
});

fn search(object: &Value) -> HashSet<String> {
    let mut found = HashSet::new();
    for spec in PATHS.iter().filter_map(|path| object.pointer(path)) {
        for (field, end) in [
            ("containers", "/image"),
            ("initContainers", "/image"),
            ("ephemeralContainers", "/image"),
            ("volumes", "/image/reference"),
        ] {
            let items = spec[field].as_array().into_iter().flatten();
            found.extend(items.filter_map(|item| item.pointer(end)?.as_str().map(String::from)));
        }
    }
    found
}
