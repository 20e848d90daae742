//! What the service may answer, or not answer: only a clear "yes" allows a pull, and every denial has its reason in
//! time.

use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use crate::setup::{DIGEST, Verifier, decided};
use crate::support::registry::Keys;
use crate::support::server::{Answer, Server};
use crate::support::{text, tls_server};
use serde_json::json;

const NAME: &str = "r.example/app:1";

/// What is longer than any time that a test configures, and far below a test's deadline.
const FOREVER: Duration = Duration::from_secs(60);

/// What a verifier says when the service answers with `answer`.
fn denial(answer: Answer) -> String {
    let server = Server::answering(move |_, _| answer.clone());
    let verifier = Verifier::new(&format!("http://{}", server.host()), "timeout = \"2s\"");
    let run = verifier.pull(NAME, DIGEST).expect(1);
    assert!(run.stdout.starts_with("layersift: denied: ") && run.stdout.len() <= 2_049, "{}", run.stdout);
    run.stdout
}

#[test]
fn garbage_is_a_denial() {
    let allowed = json!({"allowed": true, "decisions": []}).to_string();
    for body in ["", "yes", "{}", "[]", "null", "{\"allowed\":true}", &allowed, &"[".repeat(100_000), "\u{0}\u{1b}[2J"]
    {
        let said = denial(Answer::new(200, body));
        assert!(said.contains("the service's answer"), "{said}");
    }
    let other = json!({"allowed": true, "decisions": [{"digest": "sha256:0", "effect": "allow", "outcome": "pass"}]});
    assert!(denial(Answer::new(200, other.to_string())).contains("no decision for this digest"));
    let huge = vec![b' '; 5 << 20];
    assert!(denial(Answer::new(200, huge)).contains("longer than 4 MiB"));
}

#[test]
fn a_long_reason_is_cut() {
    let reasons: Vec<_> = (0..50).map(|_| json!({"rule": "r", "title": "é".repeat(5_000), "layer": 1})).collect();
    let decision = json!({"digest": DIGEST, "effect": "deny", "outcome": "fail", "reasons": reasons,
        "reasons_total": 812});
    let said = denial(Answer::new(200, json!({"allowed": false, "decisions": [decision]}).to_string()));
    assert!(said.contains("807 more"), "{said}");
}

#[test]
fn errors_of_http_name_their_status() {
    for (status, reason) in [
        (401, "does not accept the token"),
        (403, "may not ask"),
        (404, "status 404"),
        (500, "status 500"),
        (502, "status 502"),
        (204, "status 204"),
    ] {
        let said = denial(Answer::new(status, "no\u{1b}[2J such\npage"));
        assert!(said.contains(reason) && !said.contains('\u{1b}'), "{said}");
    }
    let elsewhere = Server::answering(|request, _| decided(request, "allow"));
    let redirect = Answer::new(307, "").with("Location", &format!("http://{}/admit/v1/images", elsewhere.host()));
    assert!(denial(redirect).contains("status 307"));
    assert_eq!(elsewhere.requests().len(), 0, "the token goes to the service alone");
}

#[test]
fn a_busy_service_is_asked_again() {
    let server = Server::answering(|request, before| match before {
        0 => Answer::new(503, "").with("Retry-After", "0"),
        1 => Answer::new(429, "").with("Retry-After", "1"),
        2 => Answer::new(500, ""),
        _ => decided(request, "allow"),
    });
    let verifier = Verifier::new(&format!("http://{}", server.host()), "timeout = \"60s\"");
    verifier.pull(NAME, DIGEST).expect(0);
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn what_is_not_known_yet_is_waited_for_and_then_denied() {
    let waiting = |request: &crate::support::server::Request| {
        let digest = serde_json::from_slice::<serde_json::Value>(&request.body).unwrap()["images"][0]["digest"].clone();
        let decision = json!({"digest": digest, "effect": "wait", "outcome": "unknown", "retry_after": 1});
        Answer::new(200, json!({"allowed": false, "decisions": [decision]}).to_string())
    };
    let server = Server::answering(move |request, before| match before {
        0 => waiting(request),
        _ => decided(request, "warn"),
    });
    let verifier = Verifier::new(&format!("http://{}", server.host()), "timeout = \"60s\"");
    assert!(verifier.pull(NAME, DIGEST).expect(0).stdout.contains("allowed: with a warning: something fails"));
    let never = Server::answering(move |request, _| waiting(request));
    // That nothing is known is no outage: nothing is allowed because of it.
    let lines = "timeout = \"2s\"\non-unavailable = \"allow\"";
    let verifier = Verifier::new(&format!("http://{}", never.host()), lines);
    assert!(verifier.pull(NAME, DIGEST).expect(1).stdout.contains("not known yet"));
    let busy = Server::answering(|_, _| Answer::new(503, "full").with("Retry-After", "600"));
    let verifier = Verifier::new(&format!("http://{}", busy.host()), lines);
    assert!(
        verifier.pull(NAME, DIGEST).expect(1).stdout.contains("not known yet: the service answered with status 503")
    );
    assert_eq!(busy.requests().len(), 1);
}

#[test]
fn a_service_that_never_answers_is_given_up_in_time() {
    let silent = Server::start(|_, _, _| thread::sleep(FOREVER));
    let dripping = Server::start(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{");
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf_host = deaf.local_addr().unwrap().to_string();
    for host in [silent.host(), dripping.host(), deaf_host] {
        let service = format!("http://{host}");
        let run = Verifier::new(&service, "timeout = \"1s\"").pull(NAME, DIGEST);
        assert!(run.took < FOREVER / 2, "{:?}", run.took);
        let said = run.expect(1).stdout;
        assert!(said.starts_with("layersift: denied: the service cannot be asked: http://127.0.0.1"), "{said}");
    }
}

#[test]
fn standard_input_that_never_ends_is_given_up_in_time() {
    let verifier = Verifier::new("http://127.0.0.1:1", "timeout = \"1s\"");
    let mut command = verifier.command(&verifier.link());
    command.args(crate::setup::flags(NAME, DIGEST)).stdin(std::process::Stdio::piped());
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take();
    let output = crate::support::output_of(child);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("no decision within 1 seconds"), "{output:?}");
    drop(stdin);
}

#[test]
fn an_absent_service_denies_unless_the_operator_says_otherwise() {
    let socket = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}/none.sock", text(socket.path()));
    for service in ["http://127.0.0.1:1", &socket] {
        let said = Verifier::new(service, "").pull(NAME, DIGEST).expect(1).stdout;
        assert!(said.contains("the service cannot be asked"), "{said}");
        let said = Verifier::new(service, "on-unavailable = \"allow\"").pull(NAME, DIGEST).expect(0).stdout;
        assert!(said.contains("allowed: without a decision"), "{said}");
    }
    // What answers is there, whatever it answers. A gateway answers for a service that is not.
    for (status, code) in [(401, 1), (404, 1), (500, 1), (200, 1), (502, 0)] {
        let answering = Server::answering(move |_, _| Answer::new(status, ""));
        let verifier = Verifier::new(&format!("http://{}", answering.host()), "on-unavailable = \"allow\"");
        verifier.pull(NAME, DIGEST).expect(code);
    }
}

#[test]
fn allowed_digests_need_no_service() {
    let verifier = Verifier::new("http://127.0.0.1:1", &format!("allowed-digests = [\"{DIGEST}\"]"));
    std::fs::remove_file(verifier.path("token")).unwrap();
    assert!(verifier.pull(NAME, DIGEST).expect(0).stdout.contains("list of allowed digests"));
    let listing = Verifier::new("http://127.0.0.1:1", "");
    let list = listing.write("allowed", &format!("# the service itself\n{DIGEST}\n"));
    let configuration = std::fs::read_to_string(listing.path("image-verifier.toml")).unwrap();
    listing.write("image-verifier.toml", &format!("{configuration}allowed-digests-file = {list:?}\n"));
    listing.pull(NAME, DIGEST).expect(0);
    let other = "sha256:7b585a48df70ec1fd951eb53b08e2593c56980f2d2c96055e19371665211f493";
    listing.pull(NAME, other).expect(1);
}

#[test]
fn https_is_verified_and_may_ask_for_a_certificate() {
    let keys = Keys::new();
    let decision = json!({"digest": DIGEST, "effect": "allow", "outcome": "pass"});
    let body = json!({"allowed": true, "decisions": [decision]}).to_string();
    let host = tls_server::start(&keys, "127.0.0.1", move |has_certificate| match has_certificate {
        true => Answer::new(200, body.clone()),
        false => Answer::new(401, "no certificate"),
    });
    let service = format!("https://{host}");
    let file = |name: &str| format!("{:?}", text(&keys.path(name)));
    let ca = format!("ca = {}\n", file("ca.crt"));
    let certificate = format!("client-certificate = {}\nclient-key = {}\n", file("client.crt"), file("client.key"));
    Verifier::new(&service, &format!("{ca}{certificate}")).pull(NAME, DIGEST).expect(0);
    assert!(Verifier::new(&service, &ca).pull(NAME, DIGEST).expect(1).stdout.contains("status 401"));
    let untrusted = Verifier::new(&service, &certificate).pull(NAME, DIGEST).expect(1).stdout;
    assert!(untrusted.contains("the service cannot be asked") || untrusted.contains("CA certificates"), "{untrusted}");
    let wrong = Verifier::new(&service, &format!("ca = {}\n", file("server.key"))).pull(NAME, DIGEST).expect(1).stdout;
    assert!(wrong.contains("no PEM certificate"), "{wrong}");
}
