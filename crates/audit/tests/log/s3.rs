//! Copies in a bucket with object lock, in a server that stands in for S3.

use std::time::Duration;

use layersift_audit::{S3Options, S3Sink, Sink, SinkError, fetch};

use crate::{entry, opened};

fn sink(endpoint: &str, secret_key: &str) -> S3Sink {
    S3Sink::new(S3Options {
        endpoint: endpoint.into(),
        region: "us-east-1".into(),
        bucket: "audit".into(),
        prefix: format!("replica {}/", std::process::id()),
        access_key: std::env::var("AWS_ACCESS_KEY_ID").unwrap_or_else(|_| "testing".into()),
        secret_key: secret_key.into(),
        session_token: None,
        retain: Duration::from_secs(24 * 3600),
    })
    .unwrap()
}

/// `docs/audit.md` says how to start the server and make the bucket.
#[test]
#[ignore = "needs LAYERSIFT_TEST_S3 and the bucket `audit` with object lock"]
fn copies_are_locked_in_a_bucket() {
    let endpoint = std::env::var("LAYERSIFT_TEST_S3").unwrap();
    let secret_key = std::env::var("AWS_SECRET_ACCESS_KEY").unwrap_or_else(|_| "testing".into());
    let mut sink = sink(&endpoint, &secret_key);
    let folder = tempfile::tempdir().unwrap();
    let log = opened(folder.path(), 10);
    for number in 0..35 {
        log.append(&entry(number)).unwrap();
    }
    log.checkpoint().unwrap();
    log.close_segment().unwrap();
    let shipped = log.ship(&mut sink).unwrap();
    assert_eq!((shipped.sent, shipped.found, shipped.entries), (10, 0, 35));
    // Without the note of what was shipped, the bucket is asked.
    std::fs::remove_file(folder.path().join("shipped")).unwrap();
    let shipped = log.ship(&mut sink).unwrap();
    assert_eq!((shipped.sent, shipped.found), (0, 10));
    assert!(matches!(sink.has("key.pub", b"another"), Err(SinkError::Differs { .. })));
    assert!(!sink.has("nothing", b"").unwrap());
}

#[test]
fn settings_are_checked_and_secrets_not_shown() {
    let options = S3Options {
        endpoint: "https://s3.example.org".into(),
        region: "us-east-1".into(),
        bucket: "audit".into(),
        prefix: String::new(),
        access_key: "AKIDEXAMPLE".into(),
        secret_key: "hidden".into(),
        session_token: Some("hidden".into()),
        retain: Duration::from_secs(1),
    };
    assert!(!format!("{options:?}").contains("hidden"));
    for endpoint in ["", "s3.example.org", "https://", "https://s3.example.org/path", "https://user@s3.example.org"] {
        assert!(S3Sink::new(S3Options { endpoint: endpoint.into(), ..options.clone() }).is_err(), "{endpoint}");
    }
    for bucket in ["", "a/b"] {
        assert!(S3Sink::new(S3Options { bucket: bucket.into(), ..options.clone() }).is_err(), "{bucket}");
    }
    // Nothing listens there.
    let mut sink = sink("http://127.0.0.1:1", "testing");
    assert!(matches!(sink.put("key.pub", b""), Err(SinkError::Unreachable { .. })));
}

#[test]
fn a_bucket_is_where_the_variables_say() {
    let variables = |name: &str| match name {
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("made-up".to_string()),
        "AWS_DEFAULT_REGION" => Some("eu-central-1".to_string()),
        _ => None,
    };
    let S3Options { endpoint, region, .. } = S3Options::from_variables("audit", &variables).unwrap();
    assert_eq!((&endpoint[..], &region[..]), ("https://s3.eu-central-1.amazonaws.com", "eu-central-1"));
    let elsewhere = |name: &str| match name {
        "AWS_ENDPOINT_URL" => Some("https://s3.example.org".to_string()),
        name => variables(name),
    };
    assert_eq!(S3Options::from_variables("audit", &elsewhere).unwrap().endpoint, "https://s3.example.org");
    let without = S3Options::from_variables("audit", &|_| None).unwrap_err();
    assert!(without.to_string().contains("AWS_ACCESS_KEY_ID"), "{without}");
    assert!(fetch("s3://audit", &variables).unwrap().is_err(), "a bucket is not an object");
    assert!(fetch("checkpoint", &variables).is_none(), "a file is not a URL");
}
