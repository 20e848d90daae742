//! Services that are running: any number of replicas over the store of one [`Site`], and a client of them.

// Each test uses some of it.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, Fresh, Run, finish, program};
use reqwest::blocking::{RequestBuilder, Response};
use reqwest::{Certificate, Method};
use serde_json::Value;
use tempfile::TempDir;

/// Where a service listens whose settings do not say so. The system chooses the ports.
const LISTEN: &str = "[listen]\napi = '127.0.0.1:0'\nhealth = '127.0.0.1:0'\nmetrics = true\n";

/// What replicas have in common: a store, the key of fingerprints, and a directory for anything else.
pub struct Site {
    directory: TempDir,
    store: Fresh,
}

impl Site {
    /// A site with a SQLite file.
    pub fn sqlite() -> Site {
        Site::with(Fresh::sqlite())
    }

    /// A site with a database of its own in the tests' PostgreSQL.
    pub fn postgres() -> Site {
        Site::with(Fresh::postgres())
    }

    /// A site with a store that is there already, such as one on a server that is stopped in between.
    pub fn with(store: Fresh) -> Site {
        let site = Site { directory: tempfile::tempdir().unwrap(), store };
        site.write("key", b"a made-up key of 32 bytes or more");
        site
    }

    /// The store, as `--store` takes it.
    pub fn store(&self) -> &str {
        &self.store.text
    }

    /// The store, to look into or to change.
    pub fn fresh(&self) -> &Fresh {
        &self.store
    }

    /// A path in the directory. The key of fingerprints is `key`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file in the directory.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs `layersift` with `arguments` and the store.
    pub fn layersift(&self, arguments: &[&str]) -> Run {
        finish(program().args(arguments).args(["--store", self.store()]), None)
    }

    /// Makes a token with these scopes.
    pub fn token(&self, scopes: &[&str]) -> String {
        self.token_for("30d", scopes)
    }

    /// Makes a token that is good for a time, such as `1s`.
    pub fn token_for(&self, time: &str, scopes: &[&str]) -> String {
        let mut arguments = vec!["token", "add", "test", "--expires-in", time];
        arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
        self.layersift(&arguments).expect(0).stdout.trim().to_string()
    }

    /// `layersift serve`, not yet started. `settings` is TOML without the store and the key of fingerprints, which are
    /// added, as is a table `[listen]` where there is none. Settings before the first table are those of the file.
    pub fn command(&self, settings: &str) -> Command {
        let listen = if settings.contains("[listen]") { "" } else { LISTEN };
        let key = match settings.lines().any(|line| line.starts_with("fingerprint-key")) {
            true => String::new(),
            false => format!("fingerprint-key = '{}'\n", self.path("key").display()),
        };
        let file = tempfile::Builder::new().suffix(".toml").tempfile_in(self.directory.path()).unwrap();
        let file = file.into_temp_path().keep().unwrap();
        std::fs::write(&file, format!("store = '{}'\n{key}{settings}\n{listen}", self.store())).unwrap();
        let mut command = program();
        command.arg("serve").arg("--config").arg(file);
        command
    }

    /// Starts a service and waits until it answers.
    pub fn start(&self, settings: &str) -> Running {
        Running::start(self.command(settings))
    }

    /// Starts a service that pulls from the registry at `host`, by plain HTTP, with more `settings`.
    pub fn start_for(&self, host: &str, settings: &str) -> Running {
        self.start(&format!("{settings}\n{}", pulling_from(host)))
    }
}

/// Settings for a registry at `host` without TLS, the only one that images may be pulled from.
pub fn pulling_from(host: &str) -> String {
    format!("[registries]\nallow = ['{host}']\nplain-http = ['{host}']\n")
}

/// A service that is running. It is killed in the end, if it has not ended by then.
pub struct Running {
    child: Child,
    log: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts it, with whatever the environment of `command` adds, and waits until it answers.
    pub fn start(mut command: Command) -> Running {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines() {
                let line = line.unwrap();
                let message = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lines.lock().unwrap().push(message);
            }
        });
        let mut running = Running { child, log, reader: Some(reader) };
        running.wait_until_it_listens();
        running
    }

    fn wait_until_it_listens(&mut self) {
        let started = Instant::now();
        while !self.log().iter().any(|message| message["message"] == "listening") {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the service ended with {status}: {:#?}", self.log());
            }
            assert!(started.elapsed() < DEADLINE, "the service does not listen: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The URL of what listens as `name`, which is `api`, `admission`, `health` or `socket`: such as
    /// `http://127.0.0.1:40123` or `unix:///path`.
    #[track_caller]
    pub fn url(&self, name: &str) -> String {
        // The service names one address after another.
        eventually(&format!("the address of `{name}`"), || {
            let log = self.log();
            let listening = log.iter().filter(|message| message["message"] == "listening");
            let mut addresses = listening.filter_map(|message| message["address"].as_str()?.split_once(": "));
            addresses.find(|(known, _)| *known == name).map(|(_, url)| url.to_string())
        })
    }

    /// A client of the API with a token.
    pub fn client(&self, token: &str) -> Client {
        Client::new(&self.url("api")).with_token(token)
    }

    /// The messages so far: JSON, or as text whatever else there was on standard error.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Tells it to end and waits for that: its exit status, and all of its messages.
    pub fn stop(mut self) -> (Option<i32>, Vec<Value>) {
        self.signal("TERM");
        self.wait()
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    /// Waits until it has ended: its exit status, and all of its messages.
    pub fn wait(&mut self) -> (Option<i32>, Vec<Value>) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < DEADLINE, "the service does not end: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status.code(), self.log())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of one address, over TCP.
#[derive(Clone)]
pub struct Client {
    http: reqwest::blocking::Client,
    base: String,
    token: Option<String>,
}

impl Client {
    /// A client without a token.
    pub fn new(base: &str) -> Client {
        Client::trusting(base, None)
    }

    /// A client that trusts only the certificates in a PEM file.
    pub fn trusting(base: &str, authorities: Option<&Path>) -> Client {
        // The error is that of a second call.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::blocking::Client::builder().no_proxy().timeout(DEADLINE);
        let pem = authorities.map(|path| std::fs::read(path).unwrap()).unwrap_or_default();
        http = http.tls_certs_only(Certificate::from_pem_bundle(&pem).unwrap_or_default());
        Client { http: http.build().unwrap(), base: base.into(), token: None }
    }

    /// The same client with a token.
    pub fn with_token(&self, token: &str) -> Client {
        Client { token: Some(token.into()), ..self.clone() }
    }

    /// A request, not yet sent.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// `GET`.
    pub fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send().unwrap())
    }

    /// `POST` of JSON.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &body.to_string())
    }

    /// `POST` of any text as JSON.
    pub fn post_text(&self, path: &str, body: &str) -> Answer {
        let request = self.request(Method::POST, path).header("Content-Type", "application/json");
        Answer::of(request.body(body.to_string()).send().unwrap())
    }
}

/// An answer that was received whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn of(response: Response) -> Answer {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().unwrap().to_vec() }
    }

    /// Panics unless it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The server-sent events of a stream that has ended, each with its name as `event` and its `data`.
    pub fn events(&self) -> Vec<BTreeMap<String, String>> {
        let text = self.text();
        // Lines that begin with a colon are comments.
        let fields = |event: &str| -> BTreeMap<String, String> {
            let fields = event.lines().filter_map(|line| line.split_once(": ")).filter(|(name, _)| !name.is_empty());
            fields.map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        text.split("\n\n").map(fields).filter(|event| !event.is_empty()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Looks again and again until there is something.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "still waiting for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
