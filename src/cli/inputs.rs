//! The files that this process reads, by its arguments. No output replaces one of them.
//!
//! All arguments but those that name outputs count, so that a flag that is added later counts as well.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::ensure;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// The arguments that name what is written.
const OUTPUTS: [&str; 2] = ["output", "reports"];

/// The arguments that may name a directory whose files are read.
const DIRECTORIES: [&str; 6] = ["target", "before", "after", "base", "folder", "rules"];

static INPUTS: OnceLock<Inputs> = OnceLock::new();

/// What is read.
#[derive(Debug, Default)]
struct Inputs {
    paths: Vec<Input>,
    /// The files, as they were when the process began: each by its device and its number.
    known: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Input {
    path: PathBuf,
    may_be_directory: bool,
}

/// Notes what is read, and refuses to write over it.
///
/// # Errors
/// If an output is an input as well.
pub(crate) fn note(command: &Command, matches: &ArgMatches) -> anyhow::Result<()> {
    let (inputs, outputs) = Inputs::of(command, matches);
    let inputs = INPUTS.get_or_init(|| inputs);
    outputs.iter().try_for_each(|output| inputs.check(output))
}

/// Refuses to write to `output` what is read.
pub(crate) fn check(output: &Path) -> anyhow::Result<()> {
    INPUTS.get().map_or(Ok(()), |inputs| inputs.check(output))
}

impl Inputs {
    /// The inputs that arguments name, and the outputs.
    fn of(command: &Command, matches: &ArgMatches) -> (Inputs, Vec<PathBuf>) {
        // What standard input is redirected from.
        let standard = Input { path: "/dev/stdin".into(), may_be_directory: false };
        let (mut inputs, mut outputs) = (Inputs { paths: vec![standard], known: Vec::new() }, Vec::new());
        let mut next = Some((command, matches));
        while let Some((command, matches)) = next {
            for argument in command.get_arguments().filter(|argument| argument.get_possible_values().is_empty()) {
                let id = argument.get_id().as_str();
                let values = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
                if OUTPUTS.contains(&id) {
                    outputs.extend(values.map(PathBuf::from));
                } else if matches.value_source(id) != Some(ValueSource::DefaultValue) {
                    let may_be_directory = DIRECTORIES.contains(&id);
                    inputs.paths.extend(values.flat_map(paths).map(|path| Input { path, may_be_directory }));
                }
            }
            let below = |(name, matches)| command.find_subcommand(name).map(|command| (command, matches));
            next = matches.subcommand().and_then(below);
        }
        let files = inputs.paths.iter().filter_map(|input| fs::metadata(&input.path).ok().filter(Metadata::is_file));
        inputs.known = files.map(|file| (file.dev(), file.ino())).collect();
        (inputs, outputs)
    }

    fn check(&self, output: &Path) -> anyhow::Result<()> {
        let Some(written) = fs::metadata(output).ok().filter(Metadata::is_file) else { return Ok(()) };
        let is_read = self.known.contains(&(written.dev(), written.ino()))
            || self.paths.iter().any(|input| input.has(output, &written));
        ensure!(!is_read, "{} is what is read, or a file in it; write to another file", output.display());
        Ok(())
    }
}

impl Input {
    /// Whether the file `written` at `output` is this one, or is in this directory.
    fn has(&self, output: &Path, written: &Metadata) -> bool {
        let Ok(read) = fs::metadata(&self.path) else { return false };
        if read.is_dir() {
            let whole = |path: &Path| path.canonicalize().ok();
            let is_below = || whole(output).zip(whole(&self.path)).is_some_and(|(out, input)| out.starts_with(input));
            return self.may_be_directory && is_below();
        }
        (read.dev(), read.ino()) == (written.dev(), written.ino())
    }
}

/// What an argument may name: a path, `TRANSPORT:PATH` or `TRANSPORT:PATH:NAME`.
fn paths(argument: &OsStr) -> Vec<PathBuf> {
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    let bytes = argument.as_bytes();
    let mut found = vec![path(bytes)];
    if let Some(colon) = bytes.iter().position(|&byte| byte == b':') {
        let rest = &bytes[colon + 1..];
        found.push(path(rest));
        found.extend(rest.iter().rposition(|&byte| byte == b':').map(|colon| path(&rest[..colon])));
    }
    found
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn no_output_is_an_input() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["image.tar", "key", "old.json"] {
            fs::write(at(name), "x").unwrap();
        }
        fs::create_dir(at("layout")).unwrap();
        fs::write(at("layout/index.json"), "x").unwrap();
        fs::hard_link(at("image.tar"), at("hard")).unwrap();
        std::os::unix::fs::symlink("key", at("link")).unwrap();
        let scan = ["target", "fingerprint-key", "output"].map(|id| Arg::new(id).long(id));
        let command = Command::new("layersift").subcommand(Command::new("scan").args(scan));
        let given = |target: &str, output: &str| {
            let output = at(output);
            let (key, target) = (at("key"), target.replace('@', directory.path().to_str().unwrap()));
            let (key, out) = (key.to_str().unwrap(), output.to_str().unwrap());
            let list = ["layersift", "scan", "--target", &target, "--fingerprint-key", key, "--output", out];
            let (inputs, outputs) = Inputs::of(&command, &command.clone().try_get_matches_from(list).unwrap());
            assert_eq!(outputs, std::slice::from_ref(&output));
            inputs.check(&output)
        };
        for (target, output) in [
            ("@/image.tar", "image.tar"),
            ("docker-archive:@/image.tar", "hard"),
            ("oci-archive:@/image.tar:name", "image.tar"),
            ("@/image.tar", "link"),
            ("oci:@/layout", "layout/index.json"),
        ] {
            let error = given(target, output).unwrap_err().to_string();
            assert!(error.contains("is what is read"), "{error}");
        }
        for (target, output) in [("@/image.tar", "old.json"), ("@/image.tar", "new"), ("oci:@/layout", "layout/new")] {
            given(target, output).unwrap();
        }
    }
}
