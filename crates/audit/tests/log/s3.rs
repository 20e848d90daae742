//! Copies in a bucket with object lock, in a server that stands in for S3.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
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

/// More than any sink may read of an answer, and than a connection holds.
const ENDLESS: usize = 64 << 20;

/// A stand-in that answers each request with `head`, and `body` again and again until nobody reads it any more: its
/// URL, and how many bytes it could send.
fn endless(head: &'static str, body: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sent, body) = (Arc::new(AtomicUsize::new(0)), body.repeat(1024));
    let count = Arc::clone(&sent);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 16 << 10];
            let length = stream.read(&mut request).unwrap();
            let mut written = stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes());
            let is_head = request[..length].starts_with(b"HEAD");
            while !is_head && written.is_ok() && count.load(Ordering::Relaxed) < ENDLESS {
                written = stream.write_all(body.as_bytes());
                count.fetch_add(body.len(), Ordering::Relaxed);
            }
        }
    });
    (url, sent)
}

#[test]
fn an_answer_without_end_is_not_read_to_the_end() {
    let (url, sent) = endless("HTTP/1.1 403 Forbidden", "<Error>AccessDenied</Error>");
    let refused = sink(&url, "testing").put("key.pub", b"x").unwrap_err();
    assert!(matches!(&refused, SinkError::Refused { status: 403, answer, .. } if answer.chars().count() == 300));
    assert!(sent.load(Ordering::Relaxed) < ENDLESS, "an error");
    // Without a checksum or a length, the object itself is read.
    let (url, sent) = endless("HTTP/1.1 200 OK", "another object, ");
    assert!(matches!(sink(&url, "testing").has("key.pub", b"x"), Err(SinkError::Differs { .. })));
    assert!(sent.load(Ordering::Relaxed) < ENDLESS, "an object");
}

#[test]
fn what_a_server_says_is_quoted_without_the_credentials() {
    let (id, secret, token) = ("AKIDMADEUPEXAMPLE", "wJalr/Made+UpSecretKeyEXAMPLE", "FwoGZXIvMadeUpSession/Token==");
    let (url, _) = endless("HTTP/1.1 403 Forbidden", &format!("<Error>{id} {secret} {token}</Error>"));
    let options = S3Options {
        endpoint: url,
        region: "us-east-1".into(),
        bucket: "audit".into(),
        prefix: String::new(),
        access_key: id.into(),
        secret_key: secret.into(),
        session_token: Some(token.into()),
        retain: Duration::from_secs(1),
    };
    let refused = S3Sink::new(options).unwrap().put("key.pub", b"x").unwrap_err().to_string();
    assert!(refused.contains("answered 403: <Error>**** **** ****</Error>"), "{refused}");
    for value in [id, secret, token] {
        assert!(!refused.contains(value), "{refused}");
    }
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
