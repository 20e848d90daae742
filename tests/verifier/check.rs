//! `layersift image-verifier --check`: whether a configuration of containerd asks the verifier, and what stops pulls.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::setup::{Verifier, decided};
use crate::support::server::{Answer, Server};
use crate::support::{Run, finish, text};
use serde_json::Value;

/// A configuration of containerd that is right, but for `images`, lines of the plugin for images.
fn containerd(verifier: &Verifier, images: &str) -> String {
    let bin_dir = verifier.path("bin");
    format!(
        "version = 3\n[plugins.'io.containerd.image-verifier.v1.bindir']\nbin_dir = {bin_dir:?}\nmax_verifiers = 10\n\
         per_verifier_timeout = '10s'\n[plugins.'io.containerd.cri.v1.images']\n{images}\n"
    )
}

fn check(verifier: &Verifier, containerd: &str) -> Run {
    let file = verifier.write("config.toml", containerd);
    let mut command = verifier.command(&verifier.link());
    finish(command.args(["--check", "--format", "json", "--containerd-config", text(&file)]), None)
}

/// The points that are not `ok`, each as its name, state and detail.
fn wrong(run: Run, code: i32) -> Vec<(String, String, String)> {
    let report: Value = serde_json::from_str(&run.expect(code).stdout).unwrap();
    assert_eq!(report["in_force"], code == 0);
    let word = |point: &Value, field: &str| point[field].as_str().unwrap().to_string();
    let points = report["points"].as_array().unwrap().iter();
    let points = points.map(|point| (word(point, "name"), word(point, "state"), word(point, "detail")));
    points.filter(|(_, state, _)| state != "ok").collect()
}

/// An answering service and a verifier that is installed.
fn installed() -> (Server, Verifier) {
    let server = Server::answering(|request, _| decided(request, "allow"));
    let verifier = Verifier::new(&format!("http://{}", server.host()), "");
    verifier.link();
    (server, verifier)
}

#[test]
fn a_right_installation_is_in_force() {
    let (server, verifier) = installed();
    assert_eq!(wrong(check(&verifier, &containerd(&verifier, "disable_snapshot_annotations = true")), 0), []);
    assert_eq!(server.requests().len(), 1);
    let file = verifier.path("config.toml");
    let mut command = verifier.command(&verifier.link());
    let said = finish(command.args(["--check", "--containerd-config", text(&file)]), None).expect(0).stdout;
    assert!(said.contains("10-layersift-image-verifier can be run") && said.contains("\nIn force"), "{said}");
    let mut command = verifier.command(&verifier.link());
    let dump = std::fs::read(&file).unwrap();
    finish(command.args(["--check", "--containerd-config", "-"]), Some(dump)).expect(0);
}

#[test]
fn each_setting_that_bypasses_verifiers_is_found() {
    let (_server, verifier) = installed();
    for setting in [
        "use_local_image_pull = true",
        "discard_unpacked_layers = true",
        "disable_snapshot_annotations = false",
        "image_pull_with_sync_fs = true",
        "max_concurrent_downloads = 4",
        "registry.mirrors.'docker.io'.endpoint = ['https://m']",
        "registry.configs.'m'.auth.username = 'u'",
        "registry.auths.'https://m'.username = 'u'",
    ] {
        let found = wrong(check(&verifier, &containerd(&verifier, setting)), 1);
        let [(name, state, detail)] = &found[..] else { panic!("{setting}: {found:?}") };
        assert_eq!((&name[..], &state[..]), ("pulls for Kubernetes", "not-asked"));
        let key = setting.split([' ', '\'']).next().unwrap().trim_end_matches('.');
        assert!(detail.starts_with(key), "{detail}");
    }
    let old = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndiscard_unpacked_layers = true\n";
    let bin_dir = verifier.path("bin");
    let old = format!("{old}[plugins.'io.containerd.image-verifier.v1.bindir']\nbin_dir = {bin_dir:?}\n");
    assert_eq!(wrong(check(&verifier, &old), 1).len(), 1);
}

#[test]
fn disabled_plugins_are_found() {
    let (_server, verifier) = installed();
    for plugin in ["io.containerd.image-verifier.v1.bindir", "io.containerd.transfer.v1.local"] {
        let text = format!("disabled_plugins = ['{plugin}']\n{}", containerd(&verifier, ""));
        let found = wrong(check(&verifier, &text), 1);
        assert!(found.len() == 1 && found[0].2.contains(plugin), "{found:?}");
    }
}

#[test]
fn whatever_cannot_be_run_blocks_every_pull() {
    let (_server, verifier) = installed();
    let right = containerd(&verifier, "");
    let blocked = |name: &str, problem: &str| {
        let found = wrong(check(&verifier, &right), 1);
        let [(_, state, detail)] = &found[..] else { panic!("{name}: {found:?}") };
        assert_eq!(state, "blocks-pulls");
        assert!(detail.starts_with(name) && detail.contains(problem), "{detail}");
        let path = verifier.path("bin").join(name);
        if path.is_dir() { std::fs::remove_dir(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    };
    let script = |name: &str, text: &str| {
        let path = verifier.write(&format!("bin/{name}"), text);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    verifier.write("bin/00-README.txt", "verifiers");
    blocked("00-README.txt", "is not executable");
    verifier.write("bin/.x", "");
    blocked(".x", "is not executable");
    std::fs::create_dir(verifier.path("bin/20-dir")).unwrap();
    blocked("20-dir", "is a directory");
    symlink("/nowhere", verifier.path("bin/20-link")).unwrap();
    blocked("20-link", "cannot be read");
    script("20-text", "echo OK\n");
    blocked("20-text", "begins with `#!`");
    script("20-bad", "#!/no/such/interpreter\n");
    blocked("20-bad", "/no/such/interpreter");
    script("20-layersift", "#!/bin/sh\n# image-verifier\nexit 0\n");
    blocked("20-layersift", "does not deny an invalid call");
    assert_eq!(wrong(check(&verifier, &right), 0), []);
}

#[test]
fn a_verifier_that_is_not_asked_is_found() {
    let (_server, verifier) = installed();
    let right = containerd(&verifier, "");
    for number in 0..10 {
        symlink("/bin/true", verifier.path("bin").join(format!("0{number}-other"))).unwrap();
    }
    let found = wrong(check(&verifier, &right), 1);
    let names: Vec<&str> = found.iter().map(|(name, ..)| &name[..]).collect();
    assert_eq!(names, ["max_verifiers", "verifier"]);
    assert!(found[1].2.contains("10-layersift-image-verifier is skipped"), "{found:?}");
    assert_eq!(wrong(check(&verifier, &right.replace("max_verifiers = 10", "max_verifiers = -1")), 0), []);
    for (bin_dir, problem) in [("none", "does not exist"), ("empty", "is empty")] {
        std::fs::create_dir_all(verifier.path("empty")).unwrap();
        let elsewhere = right.replace(text(&verifier.path("bin")), text(&verifier.path(bin_dir)));
        let found = wrong(check(&verifier, &elsewhere), 1);
        assert!(found[0].1 == "not-asked" && found[0].2.contains(problem), "{found:?}");
    }
}

#[test]
fn a_containerd_that_is_too_old_is_found() {
    let (_server, verifier) = installed();
    for (version, code) in [("v2.4.2", 0), ("v2.0.7", 1), ("1.7.24~ds1", 1)] {
        let name = "github.com/containerd/containerd/v2";
        let program =
            verifier.write("programs/containerd", &format!("#!/bin/sh\necho containerd {name} {version} x\n"));
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(wrong(check(&verifier, &containerd(&verifier, "")), code).len(), code as usize, "{version}");
    }
}

#[test]
fn a_service_that_cannot_be_asked_is_found() {
    let refusing = Server::answering(|_, _| Answer::new(401, ""));
    let verifier = Verifier::new(&format!("http://{}", refusing.host()), "");
    verifier.link();
    let found = wrong(check(&verifier, &containerd(&verifier, "")), 1);
    assert!(found.len() == 1 && found[0].1 == "blocks-pulls" && found[0].2.contains("token"), "{found:?}");
    let absent = Verifier::new("http://127.0.0.1:1", "on-unavailable = \"allow\"\ntimeout = \"20s\"");
    absent.link();
    let found = wrong(check(&absent, &containerd(&absent, "")), 1);
    let states: Vec<(&str, &str)> = found.iter().map(|(name, state, _)| (&name[..], &state[..])).collect();
    assert_eq!(states, [("timeout", "warning"), ("service", "not-asked")]);
}

#[test]
fn a_configuration_that_cannot_be_read_is_an_error() {
    let (_server, verifier) = installed();
    assert!(check(&verifier, "version = ").expect(2).stderr.contains("config.toml"));
    let mut command = verifier.command(&verifier.link());
    let missing = verifier.path("missing.toml");
    finish(command.args(["--check", "--containerd-config", text(&missing)]), None).expect(2);
}
