//! An installed verifier: its configuration, a call of containerd, and the answers of the service.

use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::support::server::{Answer, Request};
use crate::support::{Run, finish, program};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The digest that most calls are about.
pub const DIGEST: &str = "sha256:7f9b9c04f70f49b50a4bca33c4586a238475c1285204ca22476eb389db633880";

/// The Bearer token that the service expects.
pub const TOKEN: &str = "ls-made-up-token";

/// A verifier with its configuration in a folder of its own.
pub struct Verifier {
    folder: TempDir,
}

impl Verifier {
    /// A verifier that asks `service`, with more `lines` of configuration.
    pub fn new(service: &str, lines: &str) -> Verifier {
        let verifier = Verifier { folder: tempfile::tempdir().unwrap() };
        let token = verifier.write("token", &format!("{TOKEN}\n"));
        let certs = verifier.path("certs.d");
        verifier.write(
            "image-verifier.toml",
            &format!("service = {service:?}\ntoken-file = {token:?}\ncontainerd-certs = {certs:?}\n{lines}\n"),
        );
        verifier
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file below the folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program with this configuration.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LAYERSIFT_VERIFIER_CONFIG", self.path("image-verifier.toml"));
        // What is installed on this machine must not count.
        command.env("PATH", self.path("programs")).env("HOME", "/root");
        command
    }

    /// A link in `bin_dir`.
    pub fn link(&self) -> PathBuf {
        let link = self.path("bin/10-layersift-image-verifier");
        if !link.exists() {
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(program().get_program(), &link).unwrap();
        }
        link
    }

    /// Runs it as containerd does, with the flags and the standard input of a call.
    pub fn call(&self, argv: &[&str], stdin: &str) -> Run {
        finish(self.command(&self.link()).args(argv), Some(stdin.into()))
    }

    /// Runs it for `name` at `digest`.
    pub fn pull(&self, name: &str, digest: &str) -> Run {
        self.call(&flags(name, digest), &descriptor(digest))
    }
}

/// The flags of containerd.
pub fn flags<'f>(name: &'f str, digest: &'f str) -> [&'f str; 6] {
    ["-name", name, "-digest", digest, "-stdin-media-type", "application/vnd.oci.descriptor.v1+json"]
}

/// The standard input that belongs to them.
pub fn descriptor(digest: &str) -> String {
    format!("{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"{digest}\",\"size\":801}}\n")
}

/// What the service decides about the images of a question: `effect`, with one reason.
pub fn decided(request: &Request, effect: &str) -> Answer {
    let question: Value = serde_json::from_slice(&request.body).unwrap();
    let outcome = if effect == "allow" { "pass" } else { "fail" };
    let decide = |image: &Value| {
        json!({"image": image["image"], "digest": image["digest"], "platforms": ["linux/amd64"], "outcome": outcome,
            "effect": effect, "reasons": [{"rule": "github.personal-access-token", "title": "GitHub token",
            "severity": "critical", "layer": 2, "instruction": "COPY conf /opt\u{1b}[2J\n", "place": "opt/kept.conf",
            "platform": null}], "reasons_total": 1, "basis": null, "retry_after": null})
    };
    let decisions: Vec<Value> = question["images"].as_array().unwrap().iter().map(decide).collect();
    let allowed = matches!(effect, "allow" | "warn");
    Answer::new(200, json!({"allowed": allowed, "decisions": decisions}).to_string())
}

/// A stand-in service on a Unix socket. It serves until the test ends.
pub struct UnixService {
    folder: TempDir,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl UnixService {
    pub fn answering(answer: impl Fn(&Request) -> Answer + Send + 'static) -> UnixService {
        let (folder, requests) = (tempfile::tempdir().unwrap(), Arc::default());
        let service = UnixService { folder, requests };
        let listener = UnixListener::bind(service.socket()).unwrap();
        let requests = Arc::clone(&service.requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = Request::read(&stream) else { continue };
                requests.lock().unwrap().push(request.clone());
                answer(&request).write_to(&mut stream);
                // What is left of the request must not reset the connection.
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read(&mut [0; 64]);
            }
        });
        service
    }

    pub fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("verifier.sock")
    }
}
