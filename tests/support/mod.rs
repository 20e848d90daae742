//! What the integration tests share: running the program within bounds, and reading its reports.

#![allow(dead_code)]

pub mod artifacts;
pub mod fault_proxy;
pub mod fresh;
pub mod full_harbor;
pub mod go_client;
pub mod harbor;
pub mod harbor_scanner;
pub mod harbor_webhooks;
pub mod image;
pub mod many;
pub mod postgres;
pub mod pull;
pub mod records;
pub mod referred;
pub mod registry;
pub mod served;
pub mod server;
pub mod tar;
pub mod time_stamps;
pub mod tls_server;
pub mod token_server;
pub mod tools;
pub mod trivy_adapter;

#[allow(unused_imports)]
pub use fresh::Fresh;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use layersift_model::{ImageReport, Limits, to_json};
use layersift_report::Policy;
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, ImageScan, Options};
use layersift_source::registry::RegistryOptions;
use layersift_source::{Target, open};
use serde_json::Value;

/// What a run may take on a busy machine before it counts as hanging.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// What a run of the program did.
#[derive(Debug)]
pub struct Run {
    /// The exit status; `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// The most memory that was resident, in KiB, as sampled while it ran; 0 where the system does not say.
    pub peak_kib: u64,
    pub took: Duration,
}

impl Run {
    /// The report on standard output, which must be valid by the schema where it is one of images.
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        if value.get("findings").is_some() || value.get("reports").is_some() {
            check_report(&value);
        }
        value
    }

    /// Panics unless the program ended with `code` by itself.
    #[track_caller]
    pub fn expect(self, code: i32) -> Run {
        assert!(!self.stderr.contains("panicked"), "the program panicked: {}", self.stderr);
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

/// Runs `layersift` with `arguments`.
pub fn layersift(arguments: &[&str]) -> Run {
    finish(program().args(arguments), None)
}

/// Runs `layersift` with `arguments` and `input` on standard input.
pub fn layersift_with_input(arguments: &[&str], input: Vec<u8>) -> Run {
    finish(program().args(arguments), Some(input))
}

/// The program, with nothing from the environment that changes what it prints.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layersift"));
    for variable in [
        "NO_COLOR",
        "CLICOLOR",
        "CLICOLOR_FORCE",
        "COLUMNS",
        "LINES",
        "RUST_BACKTRACE",
        "LAYERSIFT_STORE",
        "LAYERSIFT_LOG",
    ] {
        command.env_remove(variable);
    }
    command
}

/// Runs `command` to its end, or kills it after [`DEADLINE`] and panics.
pub fn finish(command: &mut Command, input: Option<Vec<u8>>) -> Run {
    let started = Instant::now();
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(input) = input {
        let mut pipe = child.stdin.take().unwrap();
        // A program that has seen enough closes the pipe; that is no failure of the test.
        thread::spawn(move || drop(pipe.write_all(&input)));
    }
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let (code, peak_kib) = wait(&mut child, started);
    let [stdout, stderr] = [stdout, stderr].map(|text| text.join().unwrap());
    Run { code, stdout, stderr, peak_kib, took: started.elapsed() }
}

/// Waits for a program that was started with pipes, or kills it after [`DEADLINE`] and panics.
pub fn output_of(mut child: Child) -> std::process::Output {
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |pipe: &mut dyn Read| {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).map(|_| bytes).unwrap()
    };
    let (out, err) = (thread::spawn(move || read(&mut stdout)), thread::spawn(move || read(&mut stderr)));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > DEADLINE {
            child.kill().unwrap();
            panic!("still running after {DEADLINE:?}: {}", String::from_utf8_lossy(&err.join().unwrap()));
        }
        thread::sleep(Duration::from_millis(5));
    };
    std::process::Output { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child, started: Instant) -> (Option<i32>, u64) {
    let mut peak = 0;
    loop {
        peak = resident(child.id()).unwrap_or(0).max(peak);
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), peak);
        }
        if started.elapsed() > DEADLINE {
            child.kill().unwrap();
            panic!("still running after {DEADLINE:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The greatest resident size that a process had so far, in KiB.
fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// What the library says of `target`, as the JSON that others build on, secrets included.
pub fn report_of(scanner: &Analyzer, target: &str) -> Value {
    let target = Target::parse(target).unwrap();
    let opened = open(&target, &Limits::default(), &RegistryOptions::default()).unwrap();
    let reports = ImageScan::new(scanner).run(&target.text, opened).unwrap();
    let report = serde_json::from_str(&json_of(reports)).unwrap();
    check_report(&report);
    report
}

/// Panics unless `report` is valid by the JSON Schema of reports.
pub fn check_report(report: &Value) {
    static SCHEMA: OnceLock<jsonschema::Validator> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let text = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/report.schema.json"));
        jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap()
    });
    let faults: Vec<String> = schema.iter_errors(report).take(5).map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "invalid report: {faults:#?}");
}

/// What the default policy says of `reports`, as JSON without versions and times, secrets included.
pub fn json_of(mut reports: Vec<ImageReport>) -> String {
    for report in &mut reports {
        Policy::default().judge(report);
        report.make_reproducible();
    }
    to_json(&reports, true).unwrap()
}

/// The report of the built-in rules on a root file system of `files`, each a name and bytes.
pub fn report_of_files<P: AsRef<str>, B: AsRef<[u8]>>(files: &[(P, B)]) -> Value {
    let add = |tar: tar::Tar, (path, bytes): &(P, B)| tar.file(path.as_ref(), bytes.as_ref());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("files.tar");
    std::fs::write(&file, files.iter().fold(tar::Tar::new(), add).finish()).unwrap();
    let scanner = Analyzer::new(Ruleset::built_in().unwrap(), Options::default()).unwrap();
    report_of(&scanner, &format!("rootfs:{}", text(&file)))
}

/// The bytes of a finding's secret in a report that shows secrets.
pub fn revealed(finding: &Value) -> Vec<u8> {
    use base64::Engine as _;
    let secret = &finding["secret"];
    match (secret["value"].as_str(), secret["value_base64"].as_str()) {
        (Some(text), None) => text.into(),
        (None, Some(text)) => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
        _ => panic!("no value: {finding}"),
    }
}

/// A path below `testdata/`.
pub fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// `path` as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The findings of a report.
pub fn findings(report: &Value) -> &Vec<Value> {
    report["findings"].as_array().unwrap()
}

/// The reasons of a report's gaps.
pub fn gap_reasons(report: &Value) -> Vec<&str> {
    report["gaps"].as_array().unwrap().iter().map(|gap| gap["reason"].as_str().unwrap()).collect()
}
