//! `layersift image-verifier --check`: whether containerd asks this verifier before every pull, and whether the
//! verifier can answer. Every point is looked at, so that one run names everything that is wrong.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use serde::Serialize;

use super::bin_dir::{self, Entry};
use super::config::{self, Config, OnUnavailable};
use super::containerd::{Containerd, NEWEST, TRANSFER, VERIFIER};
use super::{GRACE, ask};
use crate::cli::formats::{OutputArgs, TextOrJson};
use crate::cli::output;

/// The first version of containerd whose plugin for Kubernetes pulls through the transfer service.
const FIRST_VERSION: (u32, u32) = (2, 1);

/// What a point means for pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Ok,
    /// It works, and may not be what is wanted.
    Warning,
    /// Images are pulled without asking.
    NotAsked,
    /// Every pull is denied.
    BlocksPulls,
}

#[derive(Debug, Serialize)]
struct Point {
    name: &'static str,
    state: State,
    detail: String,
}

#[derive(Default)]
struct Points(Vec<Point>);

#[derive(Serialize)]
struct Report<'p> {
    in_force: bool,
    points: &'p [Point],
}

impl Points {
    fn add(&mut self, name: &'static str, state: State, detail: impl Into<String>) {
        self.0.push(Point { name, state, detail: detail.into() });
    }

    fn in_force(&self) -> bool {
        self.0.iter().all(|point| matches!(point.state, State::Ok | State::Warning))
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Point { name, state, detail } in &self.0 {
            let state = match state {
                State::Ok => "ok",
                State::Warning => "warning",
                State::NotAsked => "NOT ASKED",
                State::BlocksPulls => "BLOCKS PULLS",
            };
            // A string can always be written to.
            let _ = writeln!(text, "{state:<12}  {name:<22}  {detail}");
        }
        let verdict = if self.in_force() { "In force" } else { "NOT in force" };
        text + &format!("\n{verdict}: containerd's configuration, its verifiers and the service were checked.\n")
    }
}

/// Checks and reports. Exit status 0 if the verifier is in force, 1 if not.
pub(super) fn run(containerd: Option<&Path>, out: &OutputArgs<TextOrJson>) -> anyhow::Result<ExitCode> {
    let containerd = Containerd::read(containerd)?;
    let mut points = Points::default();
    check_containerd(&containerd, &mut points);
    let timeout = check_timeout(&containerd, &mut points);
    check_bin_dir(&containerd, &mut points);
    check_verifier(timeout, &mut points);
    let bytes = match out.format {
        TextOrJson::Text => points.text(),
        TextOrJson::Json => {
            let report = Report { in_force: points.in_force(), points: &points.0 };
            output::pretty(&report)?
        }
    };
    output::write(bytes.as_bytes(), out.output.as_deref())?;
    Ok(if points.in_force() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check_containerd(containerd: &Containerd, points: &mut Points) {
    let files: Vec<String> = containerd.files.iter().map(|path| path.display().to_string()).collect();
    match &files[..] {
        [] => points.add("containerd", State::Ok, "no configuration file: containerd's defaults"),
        files if containerd.version > NEWEST => {
            let detail =
                format!("{}: version {} is newer than this program knows", files.join(", "), containerd.version);
            points.add("containerd", State::Warning, detail);
        }
        files => points.add("containerd", State::Ok, format!("{}: version {}", files.join(", "), containerd.version)),
    }
    for (name, id) in [("plugin", VERIFIER), ("transfer service", TRANSFER)] {
        match containerd.is_disabled(id) {
            true => points.add(name, State::NotAsked, format!("disabled_plugins has {id}")),
            false => points.add(name, State::Ok, format!("{id} is enabled")),
        }
    }
    if containerd.is_cri_disabled() {
        points.add("Kubernetes", State::Warning, "the plugin CRI is disabled: a kubelet cannot use this containerd");
    }
    if let Some(version) = installed_version() {
        match version >= FIRST_VERSION {
            true => points.add("version", State::Ok, format!("containerd {}.{}", version.0, version.1)),
            false => {
                let detail =
                    format!("containerd {}.{} asks no verifier for Kubernetes: 2.1 does", version.0, version.1);
                points.add("version", State::NotAsked, detail);
            }
        }
    }
    let settings = containerd.settings_without_verifiers();
    for setting in &settings {
        let detail = format!("{setting}: Kubernetes pulls images without the transfer service, which asks verifiers");
        points.add("pulls for Kubernetes", State::NotAsked, detail);
    }
    if settings.is_empty() {
        let detail = "no setting that bypasses verifiers, where containerd is 2.1 or later";
        points.add("pulls for Kubernetes", State::Ok, detail);
    }
}

/// The version of the program `containerd`, if there is one.
fn installed_version() -> Option<(u32, u32)> {
    let output = Command::new("containerd").arg("--version").stdin(Stdio::null()).output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// The version in `containerd github.com/containerd/containerd/v2 v2.4.2 COMMIT`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text.split_whitespace().nth(2)?;
    let mut numbers = version.strip_prefix('v').unwrap_or(version).split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// How long containerd waits for a verifier.
fn check_timeout(containerd: &Containerd, points: &mut Points) -> Option<std::time::Duration> {
    match containerd.per_verifier_timeout() {
        Ok(timeout) if timeout.is_zero() => {
            points.add("per_verifier_timeout", State::BlocksPulls, "0: every verifier is killed at once");
            None
        }
        Ok(timeout) => {
            points.add("per_verifier_timeout", State::Ok, format!("{} seconds", timeout.as_secs_f64()));
            Some(timeout)
        }
        Err(error) => {
            points.add("per_verifier_timeout", State::NotAsked, format!("{error:#}: the plugin does not start"));
            None
        }
    }
}

fn check_bin_dir(containerd: &Containerd, points: &mut Points) {
    let directory = containerd.bin_dir();
    let shown = directory.display();
    let entries = match bin_dir::entries(&directory) {
        Ok(Some(entries)) if !entries.is_empty() => entries,
        Ok(Some(_)) => return points.add("bin_dir", State::NotAsked, format!("{shown} is empty")),
        Ok(None) => return points.add("bin_dir", State::NotAsked, format!("{shown} does not exist")),
        Err(error) => return points.add("bin_dir", State::BlocksPulls, format!("{shown}: {error}")),
    };
    let asked = containerd.max_verifiers().unwrap_or(usize::MAX);
    let (run, skipped) = entries.split_at(asked.min(entries.len()));
    points.add("bin_dir", State::Ok, format!("{shown}: {} files, of which {} are run", entries.len(), run.len()));
    for entry in run {
        if let Some(problem) = entry.problem() {
            points.add("bin_dir", State::BlocksPulls, format!("{} {problem}", entry.name));
        }
    }
    if !skipped.is_empty() {
        let names: Vec<&str> = skipped.iter().map(|entry| &entry.name[..]).collect();
        let detail = format!("max_verifiers = {asked}: {} never run", names.join(", "));
        points.add("max_verifiers", State::Warning, detail);
    }
    let ours: Vec<&Entry> = run.iter().filter(|entry| entry.is_ours()).collect();
    if ours.is_empty() {
        let detail = match skipped.iter().find(|entry| entry.is_ours()) {
            Some(entry) => format!("{} is skipped, as max_verifiers is {asked}", entry.name),
            None => format!("no file in {shown} runs layersift"),
        };
        points.add("verifier", State::NotAsked, detail);
    }
    for entry in ours {
        match entry.probe() {
            Ok(()) => points.add("verifier", State::Ok, format!("{} can be run", entry.name)),
            Err(problem) => points.add("verifier", State::BlocksPulls, format!("{} {problem}", entry.name)),
        }
    }
}

/// The verifier's own configuration, and the service.
fn check_verifier(containerds: Option<std::time::Duration>, points: &mut Points) {
    let path = config::path();
    let config = match Config::read(&path) {
        Ok(config) => config,
        Err(error) => return points.add("configuration", State::BlocksPulls, format!("{error:#}")),
    };
    points.add("configuration", State::Ok, path.display().to_string());
    let seconds = config.timeout.as_secs();
    match containerds {
        Some(containerds) if config.timeout + GRACE >= containerds => {
            let detail = format!("{seconds} seconds: containerd kills verifiers first, and the reason is lost");
            points.add("timeout", State::Warning, detail);
        }
        _ => points.add("timeout", State::Ok, format!("{seconds} seconds")),
    }
    if let Err(error) = config.allows(&layersift_model::Digest::of(b"")) {
        points.add("allowed digests", State::BlocksPulls, format!("{error:#}"));
    }
    let unavailable = match config.on_unavailable {
        OnUnavailable::Deny => State::BlocksPulls,
        OnUnavailable::Allow => State::NotAsked,
    };
    match config
        .service()
        .map_err(|error| format!("{error:#}"))
        .and_then(|service| ask::probe(&service, config.timeout))
    {
        Ok(()) => points.add("service", State::Ok, format!("{} answers", config.address)),
        Err(problem) => points.add("service", unavailable, problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_containerd() {
        assert_eq!(parse_version("containerd github.com/containerd/containerd/v2 v2.4.2 d2a3c7b\n"), Some((2, 4)));
        assert_eq!(parse_version("containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24\n"), Some((1, 7)));
        assert_eq!(parse_version("containerd"), None);
    }
}
