//! The command line: the commands, and the one place that starts them. Each command has a file of its own with its
//! flags; flags that several commands share are groups in `args.rs`.

mod args;
mod attest;
mod audit;
mod blocking;
mod build;
mod carve;
mod context;
mod deadline;
mod diff;
mod draft;
mod formats;
mod generate_key;
mod help;
mod hook;
mod image_verifier;
mod input_file;
mod inputs;
mod layers;
mod log;
mod masked;
mod output;
mod output_file;
mod outputs;
mod printable;
mod progress;
mod prompt;
mod read;
mod render;
mod report;
mod rules;
mod rules_catalogue;
mod saved;
mod sbom;
mod scan;
mod scrub;
mod serve;
mod shell;
mod signals;
mod stamp;
mod sweep;
mod sweep_files;
mod terminal;
mod token;
mod trace;
mod values;
mod verify;
mod verify_gone;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use layersift_format::CancelReason;
use layersift_model::Verdict;

/// Finds what leaked in a container image, through which layer and instruction, and whether it is still there.
///
/// Reads every byte of every layer, including files that a later layer overwrote or deleted: anyone who can pull the
/// image can pull those layers.
#[derive(Debug, Parser)]
#[command(name = "layersift", version, propagate_version = true, after_help = help::EXIT_STATUS)]
struct Cli {
    #[command(flatten)]
    log: log::LogArgs,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Scan an image and report what leaked
    #[command(after_help = help::scan())]
    Scan(scan::ScanArgs),
    /// Write saved JSON reports in another format, or judged by another policy
    #[command(after_help = help::render())]
    Render(render::RenderArgs),
    /// Show the layers of an image: instruction, size, files, whiteouts
    #[command(after_help = help::TARGETS)]
    Layers(layers::LayersArgs),
    /// List the packages of an image and the layers that brought them
    #[command(after_help = help::SBOM)]
    Sbom(sbom::SbomArgs),
    /// Compare two images: what came, what went, and whether a leaked secret is gone and rotated
    #[command(after_help = help::DIFF)]
    Diff(diff::DiffArgs),
    /// Write a new image without a file or a secret, and list what changed
    #[command(after_help = help::SCRUB)]
    Scrub(scrub::ScrubArgs),
    /// Ask registries whether an image and its layers are gone
    #[command(after_help = help::VERIFY_GONE)]
    VerifyGone(verify_gone::VerifyGoneArgs),
    /// Take files out of layers as evidence, in a bundle that shows every later change
    #[command(after_help = help::CARVE)]
    Carve(carve::CarveArgs),
    /// Sign what a scan found, and attach it to the image for cosign and other gates
    #[command(after_help = help::ATTEST)]
    Attest(attest::AttestArgs),
    /// Verify that an image has an attestation that fits
    #[command(after_help = help::VERIFY)]
    Verify(verify::VerifyArgs),
    /// Make a key for attestations
    #[command(after_help = help::GENERATE_KEY)]
    GenerateKey(generate_key::GenerateKeyArgs),
    /// Scan every image of a registry into a store, or of a folder, each layer once
    #[command(after_help = help::SWEEP_STATUS)]
    Sweep {
        #[command(subcommand)]
        command: sweep::SweepCommand,
    },
    /// Read layers that sweeps on other machines have queued in a store
    #[command(after_help = help::WORKER_STATUS)]
    Worker(worker::WorkerArgs),
    /// Show which images contain a secret, a finding, a layer, a path or a package
    #[command(after_help = help::TRACE_STATUS)]
    Trace(trace::TraceArgs),
    /// Answer whether images may run, and scan those that are not known yet
    #[command(after_help = help::SERVE)]
    Serve(serve::ServeArgs),
    /// Make, list and revoke tokens of the service's clients
    Token {
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    /// Verify and show the log of what the service decided
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Decide about a pull of containerd, by asking the service
    #[command(after_help = help::IMAGE_VERIFIER)]
    ImageVerifier(image_verifier::ImageVerifierArgs),
    /// Check prompts and tool calls of a coding assistant, as its hook
    #[command(after_help = help::HOOK)]
    Hook(hook::HookArgs),
    /// List, show, check and try rules
    Rules {
        #[command(subcommand)]
        command: rules::RulesCommand,
    },
    /// Print completions for a shell
    Completions {
        /// Shell to print completions for
        shell: clap_complete::Shell,
    },
    /// Write man pages to a directory
    Man {
        /// Directory to write to, which must exist
        directory: PathBuf,
    },
}

/// Runs the program with the arguments of this process. An error is printed, and is exit status 2; a timeout before
/// there was anything to report is exit status 3.
pub(crate) fn run() -> ExitCode {
    let arguments = image_verifier::Arguments::of(std::env::args_os());
    let (Cli { log, command }, parser, matches) = match parsed(&arguments.list) {
        Ok(parsed) => parsed,
        Err(error) if arguments.is_call => return image_verifier::deny(&printable::message(&error.to_string())),
        Err(error) => return output::usage(&error),
    };
    let begun = signals::survive_limits().and_then(|()| log::init(&log, command.log_level()));
    let outcome = begun.and_then(|()| inputs::note(&parser, &matches)).and_then(|()| command.run());
    outcome.unwrap_or_else(|error| {
        if arguments.is_call {
            return image_verifier::deny(&output::one_line(&error));
        }
        output::error(&error);
        let is_timeout = error.chain().any(|error| CancelReason::of(error).is_some());
        ExitCode::from(if is_timeout { Verdict::Incomplete.exit_code() } else { 2 })
    })
}

fn parsed(arguments: &[OsString]) -> Result<(Cli, clap::Command, ArgMatches), clap::Error> {
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
    Ok((cli, command, matches))
}

impl Command {
    fn run(&self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Scan(args) => scan::run(args),
            Command::Render(args) => render::run(args),
            Command::Layers(args) => layers::run(args),
            Command::Sbom(args) => sbom::run(args),
            Command::Diff(args) => diff::run(args),
            Command::Scrub(args) => scrub::run(args),
            Command::VerifyGone(args) => verify_gone::run(args),
            Command::Carve(args) => carve::run(args),
            Command::Attest(args) => attest::run(args),
            Command::Verify(args) => verify::run(args),
            Command::GenerateKey(args) => generate_key::run(args),
            Command::Sweep { command } => sweep::run(command),
            Command::Worker(args) => worker::run(args),
            Command::Trace(args) => trace::run(args),
            Command::Serve(args) => serve::run(args),
            Command::Token { command } => token::run(command),
            Command::Audit { command } => audit::run(command),
            Command::ImageVerifier(args) => image_verifier::run(args),
            Command::Hook(args) => hook::run(args),
            Command::Rules { command } => rules::run(command),
            Command::Completions { shell } => shell::completions(*shell, &mut Cli::command()),
            Command::Man { directory } => shell::man(directory, Cli::command()),
        }
    }

    /// What is logged where neither a flag nor the environment sets a level. Commands that run for days say what they
    /// do.
    fn log_level(&self) -> tracing::level_filters::LevelFilter {
        match self {
            Command::Worker(args) => args.log_level(),
            Command::Sweep { command } => command.log_level(),
            Command::Serve(args) => args.log_level(),
            _ => tracing::level_filters::LevelFilter::WARN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
