//! Proxies that the environment names: they are used, names are left to them, and the guard still holds.

use std::process::Command;

use crate::support::pull::{options, registry};
use crate::support::server::{Answer, Server};
use layersift_model::Digest;
use layersift_source::registry::At;

/// Runs the test `ask` below in a process of its own behind `proxy`, and gives what it prints.
fn behind(proxy: &Server, host: &str, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for name in ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name);
    }
    command.args(["--exact", "proxy::ask", "--ignored", "--nocapture"]).env("TEST_HOST", host);
    command.env("HTTP_PROXY", format!("http://made-up:made-up-password@{}", proxy.host()));
    let output = command.envs(environment.iter().copied()).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
#[ignore = "run by the tests that set an environment for it"]
fn ask() {
    let asked = registry(&std::env::var("TEST_HOST").unwrap(), options());
    match asked.manifest("app", &At::Tag("v1".into())) {
        Ok(manifest) => println!("got {}", manifest.digest),
        Err(error) => println!("failed: {error}\n{error:?}"),
    }
}

#[test]
fn a_name_that_only_the_proxy_knows() {
    let proxy = Server::answering(|_, _| Answer::new(200, "{}"));
    let said = behind(&proxy, "registry.invalid", &[]);
    assert!(said.contains(&format!("got {}", Digest::of(b"{}"))), "{said}");
    let requests = proxy.requests();
    assert_eq!(requests[0].path, "http://registry.invalid/v2/app/manifests/v1");
    assert!(requests[0].header("proxy-authorization").is_some());
}

#[test]
fn hosts_that_need_no_proxy() {
    let proxy = Server::answering(|_, _| Answer::new(500, ""));
    let server = Server::answering(|_, _| Answer::new(200, "{}"));
    let said = behind(&proxy, &server.host(), &[("NO_PROXY", "127.0.0.1")]);
    assert!(said.contains("got sha256:"), "{said}");
    assert!(proxy.requests().is_empty());
}

#[test]
fn the_proxy_is_not_sent_inside_by_a_registry() {
    for target in ["http://localhost/x", "http://127.0.0.1/x", "http://10.0.0.1/x", "http://169.254.169.254/x"] {
        let proxy = Server::answering(move |_, _| Answer::new(302, "").with("Location", target));
        let said = behind(&proxy, "registry.invalid", &[]);
        assert!(said.contains("not followed") && !said.contains("made-up"), "{said}");
        assert_eq!(proxy.requests().len(), 1);
    }
}

#[test]
fn a_proxy_that_is_not_there() {
    let gone = Server::answering(|_, _| Answer::new(200, "{}"));
    let address = format!("http://made-up:made-up-password@127.0.0.1:{}", unused_port());
    let said = behind(&gone, "registry.invalid", &[("HTTP_PROXY", &address)]);
    assert!(said.contains("failed: http://registry.invalid/v2/app/manifests/v1: no answer"), "{said}");
    assert!(!said.contains("made-up"), "{said}");
    assert!(gone.requests().is_empty());
}

fn unused_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
