//! The command line: what a person types, and what they see.

mod args;
mod progress;
mod registry;
mod rules;
mod rules_catalogue;
mod scan;
mod store_args;
mod sweep;
mod sweep_report;
mod terminal;
mod trace;
mod trace_report;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};

use args::{Cli, Command};

/// Runs the program with the arguments of this process.
///
/// # Errors
/// What stops it: exit status 2.
pub fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Scan(args) => scan::scan(&args),
        Command::Layers(args) => scan::layers(&args),
        Command::Sweep { command } => sweep::sweep(&command),
        Command::Worker(args) => sweep::worker(&args),
        Command::Trace(args) => trace::trace(&args),
        Command::Rules { command } => rules::run(&command),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "layersift", &mut script);
            write_out(&String::from_utf8_lossy(&script), None).map(|()| ExitCode::SUCCESS)
        }
        Command::Man { directory } => man(&directory).map(|()| ExitCode::SUCCESS),
    }
}

/// Where this user's programs keep what can be made again (XDG Base Directory Specification): compiled rules.
fn cache() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("layersift"))
}

/// Writes `text` to `file`, or to standard output; colours only go to a terminal.
fn write_out(text: &str, file: Option<&Path>) -> anyhow::Result<()> {
    match file {
        Some(path) => {
            // Colours are only in text; JSON has no escape sequences.
            let plain = anstream::adapter::strip_str(text).to_string();
            std::fs::write(path, plain).with_context(|| format!("cannot write {}", path.display()))
        }
        None => {
            let mut out = anstream::stdout().lock();
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                // Whoever closed the pipe has seen enough; the verdict holds all the same.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                outcome => Ok(outcome?),
            }
        }
    }
}

fn man(directory: &Path) -> anyhow::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("cannot write man pages to {}", directory.display()))
}
