//! One image, given to runtimes and to layersift, and whether layersift passed over something that a runtime got.

use std::path::Path;

use memchr::memmem;
use serde_json::Value;

use super::image::{Form, Image, Packaging};
use super::runtime::{Obtained, Runtime};
use crate::support::{Run, finish, program, revealed, text};

/// What happened to an image.
pub struct Comparison {
    pub failure: Option<Failure>,
    /// Whether any runtime accepted the image.
    pub accepted: bool,
    /// Whether layersift says that it read everything.
    pub complete: bool,
    /// Tokens that only lie between the files of a layer, and that layersift is silent about.
    pub slack: usize,
}

/// A silent pass, or a crash.
#[derive(Clone)]
pub struct Failure {
    pub reason: String,
    pub mutations: Vec<String>,
    pub packaging: Packaging,
    pub form: Form,
    /// The names of the runtimes that got what layersift did not find.
    pub runtimes: Vec<&'static str>,
}

/// What layersift says of an image.
struct Said {
    run: Run,
    /// Whether it said that everything was read.
    is_complete: bool,
    secrets: Vec<Vec<u8>>,
    gaps: String,
}

pub fn compare(image: &Image, runtimes: &[&'static dyn Runtime]) -> Comparison {
    let folder = tempfile::tempdir().unwrap();
    let path = image.write(folder.path());
    let said = scan(image, &path);
    let mut comparison = Comparison { failure: None, accepted: false, complete: said.is_complete, slack: 0 };
    let mut reasons = Vec::new();
    let mut at_fault = Vec::new();
    if !matches!(said.run.code, Some(0..=3)) || said.run.stderr.contains("panicked") {
        reasons.push(format!("layersift crashed: {}", said.run.stderr.trim()));
    }
    for runtime in runtimes {
        let work = tempfile::tempdir().unwrap();
        let obtained = runtime.obtain(image, &path, work.path());
        comparison.accepted |= obtained.accepted;
        let missed = missed(image, &said, &obtained);
        comparison.slack += missed.iter().filter(|(_, counts)| !counts).count();
        for (reason, _) in missed.into_iter().filter(|(_, counts)| *counts) {
            at_fault.push(runtime.name());
            reasons.push(format!("{} got the token of `{reason}`", runtime.name()));
        }
    }
    if !reasons.is_empty() {
        let status = said.run.code.map_or("a signal".to_string(), |code| code.to_string());
        reasons.push(format!("layersift: exit status {status}, gaps: {}", said.gaps));
        at_fault.dedup();
        comparison.failure = Some(Failure {
            reason: reasons.join("; "),
            mutations: image.mutations.clone(),
            packaging: image.packaging,
            form: image.form,
            runtimes: at_fault,
        });
    }
    comparison
}

/// The places of tokens that a runtime got and layersift is silent about, and whether they count as a failure.
fn missed(image: &Image, said: &Said, obtained: &Obtained) -> Vec<(String, bool)> {
    if !said.is_complete {
        return Vec::new();
    }
    let numbers = obtained.in_files.union(&obtained.in_blobs);
    let tokens = numbers.map(|number| (number, &image.tokens[*number]));
    tokens
        .filter(|(_, token)| !said.secrets.iter().any(|secret| memmem::find(secret, token.text.as_bytes()).is_some()))
        .map(|(number, token)| (token.place.clone(), obtained.in_files.contains(number) || token.certain))
        .collect()
}

fn scan(image: &Image, path: &Path) -> Said {
    let reference = image.reference.as_ref().map(|reference| format!(":{reference}")).unwrap_or_default();
    let (target, input) = match image.form {
        Form::Transport => (format!("{}:{}{reference}", image.packaging.transport(), text(path)), None),
        Form::Path => (text(path).to_string(), None),
        Form::StandardInput => ("-".to_string(), Some(std::fs::read(path).unwrap())),
    };
    let mut command = program();
    command.args(["scan", "--format", "json", "--show-secrets", "-q", &target]);
    let run = finish(&mut command, input);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_default();
    let reports: Vec<&Value> = match report["reports"].as_array() {
        Some(reports) => reports.iter().collect(),
        None => vec![&report],
    };
    let of_all =
        |key: &'static str| reports.iter().flat_map(move |report| report[key].as_array().into_iter().flatten());
    let gaps: Vec<&str> = of_all("gaps").filter_map(|gap| gap["reason"].as_str()).collect();
    let has_secret = |finding: &&Value| finding["secret"].is_object();
    let secrets = of_all("findings").filter(has_secret).map(revealed).collect();
    let is_complete = matches!(run.code, Some(0 | 1)) && gaps.is_empty();
    let gaps = if gaps.is_empty() { "none".to_string() } else { gaps.join(", ") };
    Said { is_complete, secrets, gaps, run }
}
