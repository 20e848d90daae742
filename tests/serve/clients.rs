//! Who may ask: certificates of clients, the secret path, and the service's own certificate.

use reqwest::Identity;
use serde_json::json;

use crate::running::{Client, Running, Site, eventually};
use crate::support::registry::Keys;

fn tls(keys: &Keys, certificate: &str) -> String {
    format!(
        "[tls]\ncertificate = '{}'\nkey = '{}'\n",
        keys.path(&format!("{certificate}.crt")).display(),
        keys.path(&format!("{certificate}.key")).display()
    )
}

/// The status of a question with a client certificate; `None` if the connection is refused.
fn ask(running: &Running, keys: &Keys, certificate: Option<&str>, name: &str, path: &str) -> Option<u16> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = reqwest::Certificate::from_pem(&std::fs::read(keys.path("ca.crt")).unwrap()).unwrap();
    let mut http = reqwest::blocking::Client::builder().no_proxy().tls_certs_only([authority]);
    if let Some(certificate) = certificate {
        let read = |extension: &str| std::fs::read(keys.path(&format!("{certificate}.{extension}"))).unwrap();
        http = http.identity(Identity::from_pem(&[read("crt"), read("key")].concat()).unwrap());
    }
    let url = format!("{}{path}", running.url(name));
    let answer = http.build().unwrap().post(url).body(json!({ "images": [] }).to_string()).send();
    answer.ok().map(|answer| answer.status().as_u16())
}

/// A certificate of a client that expires as it is made.
fn expired(keys: &Keys) {
    let file = |name: &str| keys.path(name).display().to_string();
    keys.openssl(&format!(
        "req -newkey rsa:2048 -nodes -subj /CN=made-up-late -keyout {} -out {}",
        file("late.key"),
        file("late.csr")
    ));
    keys.openssl(&format!(
        "x509 -req -days 0 -CAcreateserial -CA {} -CAkey {} -in {} -out {} -extfile {}",
        file("ca.crt"),
        file("ca.key"),
        file("late.csr"),
        file("late.crt"),
        file("client.ext")
    ));
}

#[test]
fn an_address_with_an_authority_takes_certificates_alone() {
    let (keys, others) = (Keys::new(), Keys::new());
    let site = Site::sqlite();
    let running = site.start(&format!(
        "[listen]\nadmission = '127.0.0.1:0'\napi = '127.0.0.1:0'\n{}[clients.admission]\nca = '{}'\n\
         [clients.api]\nca = '{1}'\nscopes = ['admit']\n",
        tls(&keys, "server"),
        keys.path("ca.crt").display()
    ));
    let path = "/admit/v1/images";
    assert_eq!(ask(&running, &keys, Some("client"), "admission", path), Some(200));
    assert_eq!(ask(&running, &keys, None, "admission", path), None);
    std::fs::copy(others.path("client.crt"), keys.path("other.crt")).unwrap();
    std::fs::copy(others.path("client.key"), keys.path("other.key")).unwrap();
    assert_eq!(ask(&running, &keys, Some("other"), "admission", path), None, "of another authority");
    // At the address of the API, a token does as well.
    assert_eq!(ask(&running, &keys, Some("client"), "api", path), Some(200));
    assert_eq!(ask(&running, &keys, Some("client"), "api", "/api/v1/scans"), Some(403), "another scope");
    assert_eq!(ask(&running, &keys, None, "api", path), Some(401));
    expired(&keys);
    eventually("the end of the certificate", || {
        ask(&running, &keys, Some("late"), "admission", path).is_none().then_some(())
    });
}

#[test]
fn a_certificate_is_replaced_without_a_restart() {
    let (keys, new) = (Keys::new(), Keys::new());
    let site = Site::sqlite();
    let running = site.start(&format!("[listen]\napi = '127.0.0.1:0'\n{}", tls(&keys, "server")));
    let trusting = |keys: &Keys| Client::trusting(&running.url("api"), Some(&keys.path("ca.crt")));
    trusting(&keys).get("/healthz").expect(200);
    std::fs::write(keys.path("server.key"), "broken").unwrap();
    std::fs::copy(new.path("server.crt"), keys.path("server.crt")).unwrap();
    std::fs::copy(new.path("server.key"), keys.path("server.key")).unwrap();
    eventually("the new certificate", || {
        let sent = trusting(&new).request(reqwest::Method::GET, "/healthz").send();
        sent.ok().filter(|answer| answer.status() == 200)
    });
}

#[test]
fn a_certificate_is_made_where_there_is_none() {
    let site = Site::sqlite();
    let (certificate, key) = (site.path("own.crt"), site.path("own.key"));
    let table = format!(
        "[tls]\ncertificate = '{}'\nkey = '{}'\nself-signed = ['127.0.0.1', 'localhost']\n",
        certificate.display(),
        key.display()
    );
    let running = site.start(&format!("[listen]\napi = '127.0.0.1:0'\n{table}"));
    let client = Client::trusting(&running.url("api"), Some(&certificate));
    client.get("/healthz").expect(200);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o077, 0, "its key is for this user alone");
    // Replicas share it.
    let second = site.start(&format!("[listen]\napi = '127.0.0.1:0'\n{table}"));
    Client::trusting(&second.url("api"), Some(&certificate)).get("/healthz").expect(200);
}
