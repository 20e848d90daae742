//! Recorded calls of containerd, in every shape in which the program can be installed.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::setup::{DIGEST, TOKEN, UnixService, Verifier, decided, descriptor, flags};
use crate::support::server::Server;
use crate::support::{finish, program, text};
use serde_json::{Value, json};

/// The calls of containerd 2.4.2, each distinct one once; `testdata/recordings/README.md` says how they came.
fn recorded() -> Vec<(Vec<String>, String)> {
    let cases: Value =
        serde_json::from_str(include_str!("../../testdata/recordings/containerd/verifier_calls.json")).unwrap();
    let calls = cases["calls"].as_array().unwrap();
    let argv =
        |call: &Value| call["argv"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().into()).collect();
    calls.iter().map(|call| (argv(call), call["stdin"].as_str().unwrap().into())).collect()
}

fn question(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn every_recorded_call_is_answered_over_tcp_and_over_a_socket() {
    let tcp = Server::answering(|request, _| decided(request, "allow"));
    let unix = UnixService::answering(|request| decided(request, "deny"));
    let allowing = Verifier::new(&format!("http://{}", tcp.host()), "");
    let denying = Verifier::new(&unix.address(), "");
    let calls = recorded();
    assert!(calls.len() >= 9, "{}", calls.len());
    for (argv, stdin) in &calls {
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let allowed = allowing.call(&argv, stdin).expect(0).stdout;
        assert!(allowed.starts_with("layersift: allowed: nothing fails"), "{allowed}");
        let denied = denying.call(&argv, stdin).expect(1).stdout;
        assert!(denied.contains("GitHub token [github.personal-access-token] in opt/kept.conf, layer 2"), "{denied}");
        assert!(denied.len() <= 2_049 && denied.lines().count() == 1, "{denied:?}");
        assert!(!denied.contains('\u{1b}'), "{denied:?}");
        let (name, digest) = (argv[1], argv[3]);
        let tagged = name.split('@').next().unwrap();
        let image = json!({"image": format!("{tagged}@{digest}"), "digest": digest});
        let asked = tcp.requests().pop().unwrap();
        assert_eq!((&asked.method[..], &asked.path[..]), ("POST", "/admit/v1/images"));
        assert_eq!(question(&asked.body)["images"], json!([image]));
        assert_eq!(question(&unix.requests.lock().unwrap().last().unwrap().body)["images"], json!([image]));
    }
    for request in tcp.requests().iter().chain(unix.requests.lock().unwrap().iter()) {
        assert_eq!(request.header("authorization"), Some(&format!("Bearer {TOKEN}")[..]));
        assert_eq!(request.header("content-type"), Some("application/json"));
        let wait = question(&request.body)["wait"].as_str().unwrap().strip_suffix('s').unwrap().parse::<u64>().unwrap();
        assert!(wait <= 7, "the answer needs some of the 8 seconds: {wait}");
    }
}

#[test]
fn it_can_be_a_link_a_script_or_the_program_itself() {
    let server = Server::answering(|request, _| decided(request, "allow"));
    let verifier = Verifier::new(&format!("http://{}", server.host()), "");
    let layersift = program().get_program().to_str().unwrap().to_string();
    let script = verifier.write("script", &format!("#!/bin/sh\nexec {layersift} image-verifier \"$@\"\n"));
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let plain = verifier.path("image-verifier");
    symlink(&layersift, &plain).unwrap();
    let other = verifier.path("10-other-name");
    symlink(&layersift, &other).unwrap();
    for path in [script.as_path(), &plain, &other, Path::new(&layersift)] {
        let mut command = verifier.command(path);
        let run = finish(command.args(flags("r.example/app:1", DIGEST)), Some(descriptor(DIGEST).into_bytes()));
        assert!(run.expect(0).stdout.contains("allowed"), "{}", path.display());
    }
    let mut command = verifier.command(Path::new(&layersift));
    let command = command.args(["image-verifier", "--name=r.example/app:1", "--digest", DIGEST]);
    finish(command, Some(descriptor(DIGEST).into_bytes())).expect(0);
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn an_image_that_is_about_to_run_comes_in_an_envelope() {
    let server = Server::answering(|request, _| decided(request, "allow"));
    let verifier = Verifier::new(&format!("http://{}", server.host()), "");
    let media_type = "application/vnd.containerd.image-verifier.input.v1+json";
    let argv = ["-name", "r.example/app:1", "-digest", DIGEST, "-stdin-media-type", media_type, "-operation", "run"];
    let stdin = json!({"operation": "run", "annotations": {"io.kubernetes.cri.sandbox-name": "a"},
        "descriptor": {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": DIGEST, "size": 7}});
    verifier.call(&argv, &stdin.to_string()).expect(0);
}

#[test]
fn mirrors_of_this_machine_go_along() {
    let server = Server::answering(|request, _| decided(request, "allow"));
    let verifier = Verifier::new(&format!("http://{}", server.host()), "");
    let hosts = "server = \"https://upstream.example\"\n[host.\"http://127.0.0.1:18420\"]\n\
                 capabilities = [\"pull\", \"resolve\"]\nskip_verify = true\n";
    verifier.write("certs.d/docker.io/hosts.toml", hosts);
    verifier.write("certs.d/broken.example/hosts.toml", "[host");
    verifier.pull("docker.io/ls/single:1", DIGEST).expect(0);
    let image = &question(&server.requests()[0].body)["images"][0];
    let mirrors = ["http://127.0.0.1:18420/v2/ls/single", "https://upstream.example/v2/ls/single"];
    assert_eq!(image["mirrors"], json!(mirrors));
    assert_eq!(image["mirrors_skip_verify"], json!(mirrors[..1]));
    for name in ["broken.example/app:1", "other.example/app:1"] {
        verifier.pull(name, DIGEST).expect(0);
        let image = question(&server.requests().pop().unwrap().body)["images"][0].clone();
        assert_eq!(image.get("mirrors"), None, "{name}");
    }
}

#[test]
fn what_is_not_understood_is_denied_with_a_reason() {
    let server = Server::answering(|request, _| decided(request, "allow"));
    let verifier = Verifier::new(&format!("http://{}", server.host()), "");
    let name = "r.example/app:1";
    let other = "sha256:7b585a48df70ec1fd951eb53b08e2593c56980f2d2c96055e19371665211f493";
    let contradicting = format!("{name}@{other}");
    let unknown_type = ["-name", name, "-digest", DIGEST, "-stdin-media-type", "text/plain"];
    let unknown_flag = ["-name", name, "-digest", DIGEST, "-platform", "linux"];
    for (argv, stdin, reason) in [
        (&flags(name, "sha256:7f9b")[..], descriptor("sha256:7f9b"), "invalid digest"),
        (&flags("single", DIGEST), descriptor(DIGEST), "unexpected image name"),
        (&flags("", DIGEST), descriptor(DIGEST), "unexpected image name"),
        (&flags(&contradicting, DIGEST), descriptor(DIGEST), "unexpected image name"),
        (&flags(name, DIGEST), descriptor(other), "the descriptor is for the digest"),
        (&flags(name, DIGEST), String::new(), "not a descriptor"),
        (&flags(name, DIGEST), "[]".into(), "not a descriptor"),
        (&unknown_type, descriptor(DIGEST), "unknown type of standard input"),
        (&unknown_flag, descriptor(DIGEST), "unexpected argument"),
        (&flags(name, DIGEST)[..2], descriptor(DIGEST), "--digest"),
    ] {
        let run = verifier.call(argv, &stdin).expect(1);
        assert!(run.stdout.starts_with("layersift: denied: ") && run.stdout.contains(reason), "{argv:?}: {run:?}");
    }
    assert_eq!(server.requests().len(), 0);
    let logging =
        finish(verifier.command(&verifier.link()).args(flags(name, DIGEST)).env("LAYERSIFT_LOG", "x=y"), None);
    assert!(logging.expect(1).stdout.contains("LAYERSIFT_LOG"));
}

#[test]
fn a_broken_configuration_denies_with_its_reason() {
    let verifier = Verifier::new("ftp://r.example", "");
    let run = verifier.pull("r.example/app:1", DIGEST).expect(1);
    assert!(run.stdout.contains("invalid configuration") && run.stdout.contains("ftp://r.example"), "{run:?}");
    let absent = Verifier::new("http://127.0.0.1:1", "");
    std::fs::remove_file(absent.path("image-verifier.toml")).unwrap();
    let run = absent.pull("r.example/app:1", DIGEST).expect(1);
    assert!(run.stdout.contains("cannot read") && run.stdout.contains(text(&absent.path(""))), "{run:?}");
    let no_token = Verifier::new("http://127.0.0.1:1", "");
    std::fs::remove_file(no_token.path("token")).unwrap();
    assert!(no_token.pull("r.example/app:1", DIGEST).expect(1).stdout.contains("cannot read"));
}
