//! `layersift image-verifier`: what containerd's image verifier (io.containerd.image-verifier.v1.bindir) runs before
//! each pull.
//!
//! containerd's contract: the flags have one dash, and a descriptor comes on standard input. Exit status 0 allows the
//! pull, any other denies it. Standard output is the reason, of which 32 KiB are kept; standard error reaches its debug
//! log only. A verifier that takes longer than 10 seconds is killed, and its reason is lost.

mod answer;
mod ask;
mod bin_dir;
mod call;
mod check;
mod config;
mod containerd;
mod reason;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::formats::{OutputArgs, TextOrJson};
use super::output;
use config::Config;
use reason::Judgement;

/// The name of the command.
const COMMAND: &str = "image-verifier";

/// The flags that containerd passes, without their dash.
const FLAGS: [&str; 4] = ["name", "digest", "stdin-media-type", "operation"];

/// What is left to whoever decides to give its own reason after the time is up.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct ImageVerifierArgs {
    /// Image to be pulled, as containerd names it
    #[arg(long, value_name = "NAME", required_unless_present = "check", allow_hyphen_values = true)]
    name: Option<String>,

    /// Digest that the name was resolved to
    #[arg(long, value_name = "DIGEST", required_unless_present = "check", allow_hyphen_values = true)]
    digest: Option<String>,

    /// Media type of the JSON on standard input
    #[arg(long, value_name = "TYPE", default_value = call::DESCRIPTOR, allow_hyphen_values = true)]
    stdin_media_type: String,

    /// What containerd is about to do: pull or run
    #[arg(long, value_name = "OPERATION", allow_hyphen_values = true)]
    operation: Option<String>,

    /// Check whether containerd asks this verifier, and whether the service answers
    #[arg(long, conflicts_with_all = ["name", "digest"])]
    check: bool,

    /// Configuration of containerd to check, or - for standard input, such as the output of `containerd config dump`
    /// [default: /etc/containerd/config.toml]
    #[arg(long, value_name = "FILE", requires = "check")]
    containerd_config: Option<PathBuf>,

    #[command(flatten)]
    output: OutputArgs<TextOrJson>,
}

/// The arguments of this process, as the command line expects them.
pub(crate) struct Arguments {
    /// With the name of the command, and two dashes for each flag of containerd.
    pub(crate) list: Vec<OsString>,
    /// Whether containerd waits for a decision, so that an error must be a denial with its reason.
    pub(crate) is_call: bool,
}

impl Arguments {
    /// Translates arguments of containerd, which names no command: it runs a link called `…image-verifier`, or one with
    /// any other name, and then the first argument is one of its flags. Other arguments stay as they are.
    pub(crate) fn of(given: impl IntoIterator<Item = OsString>) -> Arguments {
        let mut list: Vec<OsString> = given.into_iter().collect();
        let program = list.first().and_then(|program| Path::new(program).file_name()).unwrap_or_default();
        let is_link = program.to_string_lossy().ends_with(COMMAND);
        let first = list.get(1).and_then(|first| first.to_str()).unwrap_or_default();
        if first != COMMAND {
            if !is_link && two_dashes(first).is_none() {
                return Arguments { list, is_call: false };
            }
            list.insert(1.min(list.len()), COMMAND.into());
        }
        let mut is_value = false;
        for argument in list.iter_mut().skip(2) {
            let translated = argument.to_str().filter(|_| !is_value).and_then(two_dashes);
            is_value = translated.as_ref().is_some_and(|translated| !translated.contains('='));
            if let Some(translated) = translated {
                *argument = translated.into();
            }
        }
        let other = ["--check", "--help", "-h", "--version", "-V"];
        let is_call = list.len() > 2 && !list.iter().any(|argument| other.iter().any(|other| argument == *other));
        Arguments { list, is_call }
    }
}

/// A flag of containerd with two dashes; `None` for anything else.
fn two_dashes(argument: &str) -> Option<String> {
    let rest = argument.strip_prefix('-')?;
    let flag = rest.split_once('=').map_or(rest, |(flag, _)| flag);
    FLAGS.contains(&flag).then(|| format!("--{rest}"))
}

/// Decides about a pull, or checks the installation.
pub(crate) fn run(args: &ImageVerifierArgs) -> anyhow::Result<ExitCode> {
    if args.check {
        return check::run(args.containerd_config.as_deref(), &args.output);
    }
    print(&decide(call::Call::of(args)))
}

/// Denies with `reason`, for what goes wrong before there is a decision.
pub(crate) fn deny(reason: &str) -> ExitCode {
    // Without standard output the exit status alone must do.
    print(&Judgement::deny(reason)).unwrap_or(ExitCode::FAILURE)
}

fn print(judgement: &Judgement) -> anyhow::Result<ExitCode> {
    output::write(format!("{}\n", judgement.text()).as_bytes(), None)?;
    Ok(if judgement.is_allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the thread that decides tells the one that waits.
enum Message {
    Timeout(Duration),
    Judgement(Judgement),
}

/// The decision, or a denial when the time is up. All that may block, files included, is done on another thread, which
/// the end of the process ends.
fn decide(call: call::Call) -> Judgement {
    let started = Instant::now();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let judgement = judge(&call, started, &sender).unwrap_or_else(|error| Judgement::deny(&format!("{error:#}")));
        // Nobody receives it after the time is up.
        drop(sender.send(Message::Judgement(judgement)));
    });
    let mut timeout = config::DEFAULT_TIMEOUT;
    loop {
        let left = (timeout + GRACE).saturating_sub(started.elapsed());
        match receiver.recv_timeout(left) {
            Ok(Message::Timeout(configured)) => timeout = configured,
            Ok(Message::Judgement(judgement)) => return judgement,
            Err(RecvTimeoutError::Timeout) => {
                return Judgement::deny(&format!("no decision within {} seconds", timeout.as_secs()));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Judgement::deny("internal error: the verifier stopped; its standard error says why");
            }
        }
    }
}

fn judge(call: &call::Call, started: Instant, sender: &Sender<Message>) -> anyhow::Result<Judgement> {
    let config = Config::read(&config::path())?;
    // Whoever waits may have given up.
    drop(sender.send(Message::Timeout(config.timeout)));
    let image = call.check(std::io::stdin())?;
    if config.allows(&image.digest)? {
        return Ok(Judgement::allow("in the list of allowed digests"));
    }
    Ok(ask::judge(&config, &image, config.timeout.saturating_sub(started.elapsed())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(given: &[&str]) -> (Vec<String>, bool) {
        let Arguments { list, is_call } = Arguments::of(given.iter().map(OsString::from));
        (list.into_iter().map(|argument| argument.into_string().unwrap()).collect(), is_call)
    }

    #[test]
    fn containerd_names_no_command_and_writes_one_dash() {
        let expected = ["image-verifier", "--name", "a", "--digest", "sha256:0"];
        for program in ["/b/image-verifier", "/b/10-layersift-image-verifier", "/b/10-any-name", "layersift"] {
            let (list, is_call) = translated(&[program, "-name", "a", "-digest", "sha256:0"]);
            assert_eq!((&list[0][..], &list[1..]), (program, &expected.map(String::from)[..]));
            assert!(is_call);
        }
        let (list, is_call) = translated(&["layersift", "image-verifier", "-name=a", "--digest", "sha256:0"]);
        assert_eq!(list[1..], ["image-verifier", "--name=a", "--digest", "sha256:0"]);
        assert!(is_call);
    }

    #[test]
    fn values_and_other_commands_stay_as_they_are() {
        let (list, _) = translated(&["image-verifier", "-name", "-digest", "-digest", "-name"]);
        assert_eq!(list[1..], ["image-verifier", "--name", "-digest", "--digest", "-name"]);
        for other in [&["layersift", "scan", "-name"][..], &["layersift"], &["layersift", "-v"], &[]] {
            assert_eq!(translated(other), (other.iter().map(ToString::to_string).collect(), false));
        }
        assert!(!translated(&["image-verifier", "--check"]).1);
        assert!(!translated(&["layersift", "image-verifier", "--help"]).1);
    }
}
