//! Debian's `docker-registry` on a loopback port, filled by `skopeo`. A machine without them fails the test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::artifacts::Artifact;
use super::image::digest;

/// The image that is pushed, as `docker save` wrote it.
const IMAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/incident.tar");

/// A user of a registry with [`Setup::basic`], and its password.
pub const USER: (&str, &str) = ("robot$reader", "made-up-password");

/// The password, hashed by bcrypt.
const HASHED: &str = "robot$reader:$2b$04$bxcz4TtorVe.1snuPtu81uPza9zpeRy19h14n1.zzdEfE0c.SlhZG";

/// A registry that is running.
pub struct Registry {
    pub port: u16,
    child: Child,
    directory: TempDir,
}

/// What a registry is started with.
#[derive(Default)]
pub struct Setup {
    /// Lines of its `http` section.
    http: String,
    /// Its `auth` section.
    auth: String,
    basic: bool,
}

impl Setup {
    /// TLS with this certificate and key; with authorities, clients need a certificate as well.
    pub fn tls(mut self, certificate: &Path, key: &Path, authorities: Option<&Path>) -> Setup {
        self.http = format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
        if let Some(authorities) = authorities {
            self.http += &format!("    clientcas:\n      - {}\n", authorities.display());
        }
        self
    }

    /// Tokens of the service at `realm`, which signs with the key of `certificate`.
    pub fn token(mut self, realm: &str, certificate: &Path) -> Setup {
        self.auth = format!(
            "auth:\n  token:\n    realm: {realm}\n    service: made-up-registry\n    issuer: made-up-issuer\n    \
             rootcertbundle: {}\n",
            certificate.display()
        );
        self
    }

    /// User and password, [`USER`].
    pub fn basic(mut self) -> Setup {
        self.basic = true;
        self
    }

    /// Starts it, without anything in it.
    pub fn start(self) -> Registry {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().display().to_string();
        let mut auth = self.auth;
        if self.basic {
            std::fs::write(directory.path().join("htpasswd"), HASHED).unwrap();
            auth = format!("auth:\n  htpasswd:\n    realm: made-up\n    path: {root}/htpasswd\n");
        }
        let port = free_port();
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\n\
             http:\n  addr: 127.0.0.1:{port}\n{}{auth}",
            self.http
        );
        let config = directory.path().join("config.yml");
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("docker-registry is needed: apt-get install docker-registry");
        let mut registry = Registry { port, child, directory };
        registry.wait();
        registry
    }
}

impl Registry {
    /// A registry on plain HTTP that asks nobody who they are, with the image as each of `names`.
    pub fn filled(names: &[&str]) -> Registry {
        let registry = Setup::default().start();
        names.iter().for_each(|name| registry.push(name, &["--dest-tls-verify=false"]));
        registry
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Pushes the image as `name`, such as `team/app:v1`.
    pub fn push(&self, name: &str, flags: &[&str]) {
        let target = format!("docker://{}/{name}", self.host());
        run(Command::new("skopeo").arg("copy").args(flags).arg(format!("docker-archive:{IMAGE}")).arg(target));
    }

    /// Puts a manifest, over plain HTTP and without logging in.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let answer = self.send("PUT", &format!("/v2/{repository}/manifests/{tag}"), media_type, bytes);
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    /// Puts a blob, in the same way.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) {
        let started = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        let location =
            started.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap_or_else(|| panic!("{started}"));
        let path = location.split_once(&self.host()).map_or(location, |(_, path)| path);
        let path = format!("{path}&digest={}", digest(bytes));
        let answer = self.send("PUT", &path, "application/octet-stream", bytes);
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    /// Puts an artifact as `repository:v1`, in the same way.
    pub fn put_artifact(&self, repository: &str, artifact: &Artifact) {
        artifact.blobs.iter().for_each(|blob| self.put_blob(repository, blob));
        for (media_type, manifest) in &artifact.manifests {
            self.put_manifest(repository, &digest(manifest), media_type, manifest);
        }
        let (media_type, root) = artifact.manifests.last().unwrap();
        self.put_manifest(repository, "v1", media_type, root);
    }

    /// Makes a repository lose a blob, as a garbage collection does.
    pub fn forget_blob(&self, repository: &str, digest: &str) {
        let link = digest.replace(':', "/");
        let repositories = self.directory.path().join("data/docker/registry/v2/repositories");
        std::fs::remove_dir_all(repositories.join(repository).join("_layers").join(link)).unwrap();
    }

    /// Makes a repository lose a manifest, as a deletion does.
    pub fn forget_manifest(&self, repository: &str, digest: &str) {
        let link = digest.replace(':', "/");
        let repositories = self.directory.path().join("data/docker/registry/v2/repositories");
        std::fs::remove_dir_all(repositories.join(repository).join("_manifests/revisions").join(link)).unwrap();
    }

    fn send(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {media_type}\r\n\
             Content-Length: {}\r\n\r\n",
            self.host(),
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(self.child.try_wait().unwrap().is_none(), "docker-registry ended: {}", log());
            assert!(Instant::now() < until, "docker-registry does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program that must succeed, and gives what it printed.
pub fn run(command: &mut Command) -> Vec<u8> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Keys and certificates made for one test.
pub struct Keys(TempDir);

impl Keys {
    /// An authority, a certificate for `127.0.0.1` and one for a client, all made up.
    pub fn new() -> Keys {
        let keys = Keys(tempfile::tempdir().unwrap());
        keys.openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=made-up-authority -keyout {} -out {}",
            keys.text("ca.key"),
            keys.text("ca.crt")
        ));
        keys.signed("server", "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n");
        keys.signed("client", "extendedKeyUsage=clientAuth\n");
        keys
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn signed(&self, name: &str, extensions: &str) {
        let file = |extension: &str| self.text(&format!("{name}.{extension}"));
        std::fs::write(file("ext"), extensions).unwrap();
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN=made-up-{name} -keyout {} -out {}",
            file("key"),
            file("csr")
        ));
        self.openssl(&format!(
            "x509 -req -days 2 -CAcreateserial -CA {} -CAkey {} -in {} -out {} -extfile {}",
            self.text("ca.crt"),
            self.text("ca.key"),
            file("csr"),
            file("crt"),
            file("ext")
        ));
    }

    pub fn openssl(&self, arguments: &str) -> Vec<u8> {
        run(Command::new("openssl").args(arguments.split(' ')))
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
