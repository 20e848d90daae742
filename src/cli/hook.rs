//! `layersift hook`: what a coding assistant runs before it sends a prompt, before and after it uses a tool.
//!
//! The contract of the assistants: JSON on standard input, an answer in JSON on standard output and exit status 0. Exit
//! status 2 blocks as well, with standard error as the reason; any other status lets everything through. So whatever
//! goes wrong here ends with status 2, unless the person asked for the opposite.

mod answer;
mod check;
mod checker;
mod content;
mod event;
mod files;
mod guard;
mod input;
mod install;
mod mentions;
mod message;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::args::RulesArgs;
use super::{output, values};
use layersift_report::FailOn;

/// The largest input, and the most bytes of files that are read for one event.
const MOST_BYTES: u64 = 16 << 20;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct HookArgs {
    #[command(subcommand)]
    command: Option<HookCommand>,

    #[command(flatten)]
    check: CheckArgs,
}

#[derive(Debug, Subcommand)]
enum HookCommand {
    /// Add the hook to the settings of an assistant, after showing the difference
    Install(install::InstallArgs),
    /// Remove the hook from the settings of an assistant, after showing the difference
    Uninstall(install::InstallArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// What to do with what cannot be checked: block it (closed), or let it through with a warning (open)
    #[arg(long, value_enum, value_name = "MODE", default_value_t = Fail::Closed)]
    fail: Fail,

    /// Time limit for one event, such as 5s; what took longer was not checked
    #[arg(long, value_name = "DURATION", value_parser = values::timeout, default_value = "10s")]
    timeout: Duration,

    /// Block findings of this severity or higher: critical, high, medium, low, info, or none [default: the policy's, or
    /// high]
    #[arg(long, value_name = "SEVERITY")]
    fail_on: Option<FailOn>,

    /// Policy file, as for `layersift scan`: what blocks, and what is allowed, why and until when
    #[arg(long, value_name = "FILE")]
    policy: Option<std::path::PathBuf>,

    #[command(flatten)]
    rules: RulesArgs,
}

/// What happens with what cannot be checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fail {
    /// It is blocked.
    #[default]
    Closed,
    /// It passes, with a warning.
    Open,
}

/// The answer to an assistant: what is printed, and the exit status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answer {
    /// On standard output: JSON, or nothing.
    output: String,
    /// On standard error: the reason, for exit status 2, or a warning.
    reason: String,
    status: u8,
    /// The reason of a block that standard output says alone; empty for what is not blocked.
    unsaid: String,
}

impl Answer {
    fn print(&self) -> ExitCode {
        if !self.reason.is_empty() {
            output::error_line(&self.reason);
        }
        let is_said = self.output.is_empty()
            || output::answer(format!("{}\n", self.output).as_bytes()).is_ok()
                && (self.unsaid.is_empty() || !output::is_discarded());
        if is_said {
            return ExitCode::from(self.status);
        }
        // Nobody reads what the answer says. Status 2 is a block for all assistants, and standard error its reason.
        // What is discarded may have been closed, and whoever discards it on purpose loses nothing.
        if !self.unsaid.is_empty() {
            output::error_line(&self.unsaid);
        }
        ExitCode::from(2)
    }
}

/// Answers an assistant, or changes its settings.
pub(crate) fn run(args: &HookArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(HookCommand::Install(install)) => install::run(install, install::Change::Install),
        Some(HookCommand::Uninstall(install)) => install::run(install, install::Change::Uninstall),
        None => Ok(answer(&args.check)),
    }
}

/// Checks the event on standard input. Nothing is written but the answer, and nothing is sent anywhere.
fn answer(args: &CheckArgs) -> ExitCode {
    guard::guarded(args.fail, args.timeout, || {
        let text = input::read(std::io::stdin().lock(), MOST_BYTES)?;
        let event = event::Event::parse(&text)?;
        let settings = check::Settings {
            rules: &args.rules.rules,
            policy: args.policy.as_deref(),
            fail_on: args.fail_on.map(|FailOn(limit)| limit),
            most_bytes: MOST_BYTES,
        };
        let checked = check::check(&event, &settings)?;
        Ok(answer::of(&event, &checked, args.fail))
    })
}
