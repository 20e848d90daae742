//! TLS: trusted CAs and client certificates, against Debian's `docker-registry` with certificates made by `openssl`.

use std::fs;
use std::path::PathBuf;

use crate::support::pull::{options, pull, registry, registry_error, source};
use crate::support::registry::{Keys, Registry, Setup};
use crate::support::server::{Answer, Server};
use crate::support::tls_server;
use layersift_source::registry::{At, ClientCertificate, Refusal, Registry as Client, RegistryError, RegistryOptions};

fn over_tls() -> RegistryOptions {
    RegistryOptions { plain_http: false, ..options() }
}

fn trusting(keys: &Keys) -> RegistryOptions {
    RegistryOptions { extra_roots: vec![keys.path("ca.crt")], ..over_tls() }
}

/// Whether the TLS handshake failed with `text`.
fn is_tls(error: &RegistryError, text: &str) -> bool {
    matches!(error, RegistryError::Tls { error, .. } if error.to_string().contains(text))
}

fn serve(keys: &Keys, clients: bool) -> Registry {
    let authority = keys.path("ca.crt");
    let authorities = clients.then_some(authority.as_path());
    Setup::default().tls(&keys.path("server.crt"), &keys.path("server.key"), authorities).start()
}

/// A directory like `/etc/docker/certs.d`, for one host.
fn certificates(host: &str, keys: &Keys, files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(host);
    fs::create_dir(&path).unwrap();
    for (from, to) in files {
        fs::copy(keys.path(from), path.join(to)).unwrap();
    }
    (directory, path)
}

#[test]
fn a_registry_without_tls_is_recognized_at_once() {
    let server = Setup::default().start();
    server.push("team/app:v1", &["--dest-tls-verify=false"]);
    let source = source(&format!("{}/team/app:v1", server.host()), over_tls());
    let error = registry_error(pull(&source));
    assert!(matches!(&error, RegistryError::NoTls { .. }), "{error:?}");
    assert!(error.to_string().contains("--plain-http"), "{error}");
    assert_eq!(source.registry().usage().requests, 1);
}

#[test]
fn untrusted_registries_are_refused() {
    let keys = Keys::new();
    let server = serve(&keys, false);
    server.push("team/app:v1", &["--dest-tls-verify=false"]);
    let name = format!("{}/team/app:v1", server.host());
    assert!(pull(&source(&name, trusting(&keys))).unwrap().layers.len() > 1);

    let stranger = source(&name, over_tls());
    let error = registry_error(pull(&stranger));
    assert!(is_tls(&error, "UnknownIssuer"), "{error}");
    assert_eq!(stranger.registry().usage().requests, 1, "a certificate does not get better by asking again");

    let others = source(&name, trusting(&Keys::new()));
    assert!(matches!(registry_error(pull(&others)), RegistryError::Tls { .. }));
    // Over plain HTTP the server answers 400, and nothing was sent that it could answer otherwise.
    assert_eq!(registry_error(pull(&source(&name, options()))).status(), Some(400));
}

#[test]
fn a_certificate_for_another_host() {
    let keys = Keys::new();
    let asked = |address: &str| {
        let host = tls_server::start(&keys, address, |_| Answer::new(200, "{}"));
        registry(&host, trusting(&keys)).manifest("app", &At::Tag("v1".into()))
    };
    assert!(asked("127.0.0.1").is_ok());
    let error = asked("127.0.0.2").unwrap_err();
    assert!(is_tls(&error, "not valid for"), "{error}");
}

#[test]
fn directories_of_certificates() {
    let keys = Keys::new();
    let server = serve(&keys, true);
    let host = server.host();
    let files = [("ca.crt", "authority.crt"), ("client.crt", "client.cert"), ("client.key", "client.key")];
    let (directory, path) = certificates(&host, &keys, &files);
    server.push("team/app:v1", &[&format!("--dest-cert-dir={}", path.display())]);
    let name = format!("{host}/team/app:v1");
    let with = |directory: &tempfile::TempDir| RegistryOptions {
        certificate_directories: vec!["/nonexistent".into(), directory.path().into()],
        ..over_tls()
    };
    assert!(pull(&source(&name, with(&directory))).unwrap().layers.len() > 1);
    let (without, _path) = certificates(&host, &keys, &files[..1]);
    let error = registry_error(pull(&source(&name, with(&without))));
    assert!(is_tls(&error, "ertificate"), "{error}");
    let (elsewhere, _path) = certificates("other.example", &keys, &files);
    assert!(matches!(registry_error(pull(&source(&name, with(&elsewhere)))), RegistryError::Tls { .. }));
}

#[test]
fn a_client_certificate_of_the_caller() {
    let keys = Keys::new();
    let server = serve(&keys, true);
    let files = [("ca.crt", "authority.crt"), ("client.crt", "client.cert"), ("client.key", "client.key")];
    let (_directory, path) = certificates(&server.host(), &keys, &files);
    server.push("team/app:v1", &[&format!("--dest-cert-dir={}", path.display())]);
    let name = format!("{}/team/app:v1", server.host());
    let certificate = ClientCertificate { certificate: keys.path("client.crt"), key: keys.path("client.key") };
    let with = RegistryOptions { client_certificate: Some(certificate), ..trusting(&keys) };
    assert!(pull(&source(&name, with)).unwrap().layers.len() > 1);
    assert!(matches!(registry_error(pull(&source(&name, trusting(&keys)))), RegistryError::Tls { .. }));
}

#[test]
fn invalid_certificates() {
    let keys = Keys::new();
    let host = "registry.example".parse().unwrap();
    let failed = |options: RegistryOptions| match Client::new(&host, options) {
        Err(RegistryError::Configuration { subject, .. }) => subject,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it is taken"),
    };
    for file in [keys.path("server.key"), keys.path("server.ext"), keys.path("there-is-none")] {
        let subject = failed(RegistryOptions { extra_roots: vec![file.clone()], ..over_tls() });
        assert_eq!(subject, file.display().to_string());
    }
    let pair =
        |certificate: &str, key: &str| ClientCertificate { certificate: keys.path(certificate), key: keys.path(key) };
    for pair in [pair("client.crt", "server.key"), pair("client.crt", "ca.crt"), pair("client.key", "client.key")] {
        failed(RegistryOptions { client_certificate: Some(pair), ..trusting(&keys) });
    }
}

#[test]
fn nothing_leads_from_https_to_http() {
    let keys = Keys::new();
    let storage = Server::answering(|_, _| Answer::new(200, r#"{"token":"made-up"}"#));
    let target = format!("http://{}/x", storage.host());
    let asked = |answer: Answer| {
        let host = tls_server::start(&keys, "127.0.0.1", move |_| answer.clone());
        registry(&host, trusting(&keys)).manifest("app", &At::Tag("v1".into())).unwrap_err()
    };
    let error = asked(Answer::new(307, "").with("Location", &target));
    assert!(matches!(error, RegistryError::Refused { reason: Refusal::InsecureRedirect, .. }), "{error}");
    let challenge = format!("Bearer realm=\"{target}\",service=\"x\"");
    let error = asked(Answer::new(401, "").with("WWW-Authenticate", &challenge));
    assert!(matches!(error, RegistryError::Refused { reason: Refusal::InsecureTokenServer, .. }), "{error}");
    assert!(storage.requests().is_empty());
}

#[test]
fn our_certificate_is_shown_to_the_registry_only() {
    let keys = Keys::new();
    let shown = |shown: bool| Answer::new(200, if shown { "shown" } else { "hidden" });
    let storage = tls_server::start(&keys, "127.0.0.1", shown);
    let target = format!("https://{storage}/x");
    let redirecting = tls_server::start(&keys, "127.0.0.1", move |shown| {
        assert!(shown);
        Answer::new(307, "").with("Location", &target)
    });
    let certificate = ClientCertificate { certificate: keys.path("client.crt"), key: keys.path("client.key") };
    let asked = |host: &str| {
        let options = RegistryOptions { client_certificate: Some(certificate.clone()), ..trusting(&keys) };
        registry(host, options).manifest("app", &At::Tag("v1".into())).unwrap().bytes
    };
    assert_eq!(asked(&storage), b"shown");
    assert_eq!(asked(&redirecting), b"hidden");
}
