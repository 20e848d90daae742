//! What a Harbor and a second scanner send: no text of a request is in an error, and no report of a second scanner
//! makes one that Harbor would lose.
#![no_main]

use layersift_server::harbor::merge::{Missing, Second, merge, read};
use layersift_server::harbor::report::{MappingOptions, report};
use layersift_server::harbor::{metadata, scan_request};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const REQUEST: &str = r#"{"registry":{"url":"https://h.test","authorization":""},"artifact":{"repository":"a/b",
"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
"mime_type":"application/vnd.oci.image.manifest.v1+json"}}"#;

fuzz_target!(|data: &[u8]| {
    match scan_request::read(data) {
        Ok(request) => assert!(!request.wanted.is_empty()),
        Err(error) => {
            assert!(matches!(error.status(), 400 | 422));
            let body: Value = serde_json::from_slice(&error.body()).expect("an error is JSON");
            assert!(body["error"]["message"].is_string());
        }
    }
    if let Ok(second) = metadata::read(data) {
        let written = metadata::Metadata::of("1", Some(&second)).to_json();
        let written: Value = serde_json::from_slice(&written).expect("metadata are JSON");
        assert!(written["properties"].as_object().is_some_and(|all| all.values().all(Value::is_string)));
    }
    let request = scan_request::read(REQUEST.as_bytes()).expect("a good request");
    let options = MappingOptions::default();
    let ours = report(&[], &request.artifact, "1", &options);
    let second = read(data, &request.artifact.digest).map_or(Second::Missing(Missing::Unreadable), Second::Report);
    let merged = merge(ours, second, options.gap_severity).to_json(&options.limits);
    let merged: Value = serde_json::from_slice(&merged).expect("a report is JSON");
    let all = merged["vulnerabilities"].as_array().expect("it has a list");
    assert!(all.iter().any(|one| one["id"].as_str().is_some_and(|id| id.starts_with("GAP-"))), "ours stay");
    for one in all {
        let key: String =
            ["id", "package", "version"].iter().map(|name| one[name].as_str().unwrap_or_default()).collect();
        assert!(key.len() <= 2_704 && !key.contains('\0'), "Harbor's index has no room for it");
    }
});
