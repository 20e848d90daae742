//! Answers of another form than was requested: pages for a browser, encoded bodies, manifests of Docker's schema 1.

use std::io::Read;

use crate::support::image::{Layer, MANIFEST, digest};
use crate::support::layersift;
use crate::support::pull::{options, pull, registry, source};
use crate::support::served::{clean_layer, serve};
use crate::support::server::{Answer, Request, Server};
use crate::support::tar::gzip;
use layersift_model::Digest;
use layersift_source::registry::{At, Credentials, Login, Registry, RegistryError, RegistryOptions};
use serde_json::json;

const PAGE: &str = "\n<!doctype html><title>Log in</title><form action=/login>";
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// A registry whose answers to requests for `part` are altered.
fn altered(part: &'static str, alter: impl Fn(Answer) -> Answer + Send + Sync + 'static) -> (Server, Registry) {
    let server = serve(&[clean_layer()], move |request, _, answer| match request.path.contains(part) {
        true => alter(answer),
        false => answer,
    });
    let asked = registry(&server.host(), options());
    (server, asked)
}

fn page(_: Answer) -> Answer {
    Answer::new(200, PAGE).with("Content-Type", "text/html; charset=utf-8")
}

/// The same answer, compressed.
fn encoded(answer: Answer) -> Answer {
    Answer { body: gzip(&answer.body), ..answer }.with("Content-Encoding", "gzip")
}

fn tag(asked: &Registry) -> Result<Digest, RegistryError> {
    asked.manifest("app", &At::Tag("v1".into())).map(|manifest| manifest.digest)
}

fn layer(asked: &Registry) -> Result<Vec<u8>, RegistryError> {
    let layer: Layer = clean_layer();
    let size = layer.blob.len() as u64;
    let mut bytes = Vec::new();
    let mut blob = asked.blob("app", &digest(&layer.blob).parse().unwrap(), Some(size))?;
    blob.read_to_end(&mut bytes).map_err(|error| error.downcast::<RegistryError>().unwrap())?;
    Ok(bytes)
}

fn names(asked: &Registry) -> Result<Vec<String>, RegistryError> {
    asked.repositories().collect()
}

fn tags(asked: &Registry) -> Result<Vec<String>, RegistryError> {
    asked.tags("app").unwrap().collect()
}

/// Checks that every kind of answer that `alter` alters is an error that says `received`.
fn assert_told(alter: fn(Answer) -> Answer, received: &str) {
    let told = |error: RegistryError, expected: &str| {
        let message = error.to_string();
        assert!(matches!(error, RegistryError::Protocol { .. }) && !error.is_temporary(), "{error:?}");
        assert!(message.contains(&format!("expected {expected}, received {received}")), "{message}");
    };
    let (_server, asked) = altered("/manifests/", alter);
    told(tag(&asked).unwrap_err(), "a manifest");
    let known = tag(&altered("nothing", alter).1).unwrap();
    told(asked.manifest("app", &At::Digest(known)).unwrap_err(), "a manifest");
    let (server, asked) = altered("/blobs/", alter);
    told(layer(&asked).unwrap_err(), "the bytes of a blob");
    assert_eq!(server.requests().len(), 1, "it is not requested again");
    let digest = digest(&clean_layer().blob).parse().unwrap();
    told(asked.small_blob("app", &digest).unwrap_err(), "the bytes of a blob");
    let (_server, asked) = altered("_catalog", alter);
    told(names(&asked).unwrap_err(), "a page of a listing");
    let (_server, asked) = altered("tags/list", alter);
    told(tags(&asked).unwrap_err(), "a page of a listing");
}

#[test]
fn a_login_page_is_told_by_its_content_type() {
    assert_told(page, "`text/html`; a login page");
    let asked_digest = |answer: Answer| page(answer).with("Docker-Content-Digest", &digest(b"a manifest"));
    let (_server, asked) = altered("/manifests/", asked_digest);
    assert!(tag(&asked).unwrap_err().to_string().contains("received `text/html`"));
}

#[test]
fn an_encoding_that_was_not_requested_is_told() {
    assert_told(encoded, "content encoding `gzip`, which was not requested");
    // Also where only the digest of the registry's own header is known.
    let without_digest = |mut answer: Answer| {
        answer.headers.retain(|(name, _)| name == "Content-Type");
        encoded(answer)
    };
    let (_server, asked) = altered("/manifests/", without_digest);
    assert!(tag(&asked).unwrap_err().to_string().contains("content encoding `gzip`"));
}

#[test]
fn labels_that_are_wrong_do_no_harm() {
    fn labelled(answer: Answer) -> Answer {
        let Answer { status, body, headers } = answer;
        let headers = headers.into_iter().filter(|(name, _)| name != "Content-Type").collect();
        let answer = Answer { status, body, headers };
        answer.with("Content-Type", "text/html").with("Content-Encoding", "aws-chunked")
    }
    let server = serve(&[clean_layer()], |_, _, answer| labelled(answer));
    let asked = registry(&server.host(), options());
    assert_eq!(names(&asked).unwrap(), ["app"]);
    assert_eq!(tags(&asked).unwrap(), ["v1"]);
    assert_eq!(layer(&asked).unwrap(), clean_layer().blob);
    assert_eq!(pull(&source(&format!("{}/app:v1", server.host()), options())).unwrap().layers.len(), 1);
    // A label that is wrong, on bytes that have the digest.
    let (_server, asked) = altered("/manifests/", |answer| answer.with("Content-Encoding", "gzip"));
    tag(&asked).unwrap();
}

#[test]
fn a_blob_that_is_said_to_be_a_page_is_resumed() {
    let blob = clean_layer().blob;
    let server = Server::start(move |request: &Request, before, stream| {
        use std::io::Write;
        let headers = format!("Content-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", blob.len());
        let from = if request.header("range").is_some() { 100 } else { 0 };
        let status =
            if from > 0 { format!("206 Part\r\nContent-Range: bytes {from}-9/9\r\n") } else { "200 OK\r\n".into() };
        let headers =
            if from > 0 { headers.replace(&blob.len().to_string(), &(blob.len() - from).to_string()) } else { headers };
        let body = if before == 0 { &blob[..100] } else { &blob[from..] };
        stream.write_all(&[format!("HTTP/1.1 {status}{headers}").as_bytes(), body].concat()).unwrap();
    });
    assert_eq!(layer(&registry(&server.host(), options())).unwrap(), clean_layer().blob);
}

#[test]
fn a_manifest_of_schema_1_is_told_by_its_media_type() {
    for (media_type, said) in [(SCHEMA_1, SCHEMA_1), ("application/json", "application/json"), ("", "schema 1;")] {
        let manifest = json!({
            "schemaVersion": 1, "name": "app", "tag": "v1", "architecture": "amd64",
            "fsLayers": [{ "blobSum": digest(b"") }], "history": [{ "v1Compatibility": "{}" }],
            "signatures": [{ "signature": "made-up" }],
        });
        let (_server, asked) = altered("/manifests/", move |_| {
            let answer = Answer::new(200, manifest.to_string());
            // Its digest does not cover the signatures.
            answer.with("Content-Type", media_type).with("Docker-Content-Digest", &digest(b"without signatures"))
        });
        let error = tag(&asked).unwrap_err();
        assert!(matches!(error, RegistryError::Schema1 { .. }) && !error.is_temporary(), "{error:?}");
        let message = error.to_string();
        assert!(message.contains("Docker's schema 1") && message.contains(said), "{message}");
    }
    let (_server, asked) =
        altered("/manifests/", |answer| Answer { headers: Vec::new(), ..answer }.with("Content-Type", MANIFEST));
    tag(&asked).unwrap();
}

#[test]
fn a_blob_that_is_not_found_is_told_as_one() {
    let (_server, asked) = altered("/blobs/", |_| Answer::new(404, r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#));
    let message = layer(&asked).unwrap_err().to_string();
    assert!(message.contains("the registry answered 404 for the blob: BLOB_UNKNOWN"), "{message}");
    assert!(!message.contains("credentials") && message.contains("push the image again"), "{message}");
}

#[test]
fn what_the_storage_denies_is_not_a_matter_of_credentials() {
    let storage = Server::answering(|request, _| Answer::new(if request.path == "/a" { 403 } else { 404 }, ""));
    for path in ["a", "b"] {
        let target = format!("http://{}/{path}", storage.host());
        let (_server, asked) = altered("/blobs/", move |_| Answer::new(307, "").with("Location", &target));
        let message = layer(&asked).unwrap_err().to_string();
        assert!(message.contains("at the storage server") && !message.contains("log in"), "{message}");
    }
}

#[test]
fn a_token_server_that_answers_in_another_form() {
    for (alter, received) in [(page as fn(Answer) -> Answer, "`text/html`"), (encoded, "content encoding `gzip`")] {
        let service = Server::answering(move |_, _| alter(Answer::new(200, r#"{"token":"made-up"}"#)));
        let challenge = format!("Bearer realm=\"http://{}/token\"", service.host());
        let server = Server::answering(move |_, _| Answer::new(401, "").with("WWW-Authenticate", &challenge));
        let error = tag(&registry(&server.host(), options())).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, RegistryError::Token { .. }), "{error:?}");
        assert!(message.contains(&format!("expected a JSON document with a token, received {received}")), "{message}");
        assert!(!message.contains("made-up"), "{message}");
    }
}

#[test]
fn credentials_in_a_content_type_are_masked() {
    let login = Login::As(Credentials::Password { user: "someone".into(), password: "made-up".into() });
    let server = Server::answering(|request, _| match request.header("authorization") {
        None => Answer::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
        Some(_) => Answer::new(200, "what?").with("Content-Type", "text/made-up"),
    });
    let error = tag(&registry(&server.host(), RegistryOptions { login, ..options() })).unwrap_err().to_string();
    assert!(error.contains("received `text/****`"), "{error}");
}

#[test]
fn the_program_says_what_it_received() {
    let scan = |server: &Server, code| {
        let target = format!("docker://{}/app:v1", server.host());
        layersift(&["scan", &target, "--plain-http", "--anonymous", "--format", "json"]).expect(code)
    };
    scan(&altered("nothing", page).0, 0);
    let run = scan(&altered("/manifests/", page).0, 2);
    assert!(run.stderr.contains("expected a manifest, received `text/html`"), "{}", run.stderr);
    let server = serve(&[clean_layer()], |request, _, answer| {
        let is_layer = request.path.ends_with(&digest(&clean_layer().blob));
        if is_layer { encoded(answer) } else { answer }
    });
    let gaps = scan(&server, 3).json()["gaps"].clone();
    assert!(gaps[0]["detail"].as_str().is_some_and(|text| text.contains("content encoding `gzip`")), "{gaps}");
}
