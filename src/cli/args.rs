//! Flags that several commands share, each declared once. A command flattens the groups that it needs.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::outputs::ReportOutputs;
use super::values;
use layersift_format::platform::Choice;
use layersift_model::Severity;
use layersift_report::FailOn;
use layersift_source::{Target, TargetError};

/// The image that a command reads.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Image to read: a path, - for standard input, or TRANSPORT:PATH
    pub(crate) target: OsString,

    /// Platform of a multi-architecture image: OS/ARCH[/VARIANT], or all [default: Linux on this machine's
    /// architecture]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Choice>,

    /// Read everything in the store of an engine: all images, containers and volumes, and what belongs to none of them
    #[arg(long)]
    pub(crate) all: bool,
}

impl TargetArgs {
    /// The target that is meant.
    pub(crate) fn parse(&self) -> Result<Target, TargetError> {
        let target = Target::parse_os(&self.target)?;
        if self.all { target.with_all() } else { Ok(target) }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ThreadsArgs {
    /// Number of threads [default: one per CPU core]
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0, hide_default_value = true,
        value_parser = values::threads())]
    pub(crate) threads: usize,
}

#[derive(Debug, Args)]
pub(crate) struct QuietArgs {
    /// Do not show progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TimeoutArgs {
    /// Time limit for each layer, and for each request to a registry with its retries, such as 30m [default: no limit]
    #[arg(long, value_name = "DURATION", value_parser = values::timeout)]
    pub(crate) timeout: Option<Duration>,
}

/// How to talk to registries. Credentials are not flags, because other users of the machine can read those.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Use plain HTTP instead of HTTPS
    #[arg(long, help_heading = "Registries")]
    pub(crate) plain_http: bool,

    /// Trust the certificate authorities in this PEM file besides the system's; may be repeated
    #[arg(long, help_heading = "Registries", value_name = "FILE")]
    pub(crate) registry_ca: Vec<PathBuf>,

    /// PEM file with the client certificate
    #[arg(long, help_heading = "Registries", value_name = "FILE", requires = "registry_key")]
    pub(crate) registry_cert: Option<PathBuf>,

    /// PEM file with the key of the client certificate
    #[arg(long, help_heading = "Registries", value_name = "FILE", requires = "registry_cert")]
    pub(crate) registry_key: Option<PathBuf>,

    /// Do not log in, even if credentials are stored
    ///
    /// Otherwise LAYERSIFT_REGISTRY_USER and LAYERSIFT_REGISTRY_PASSWORD are used if they are set, and the logins that
    /// docker and podman have stored if they are not.
    #[arg(long, help_heading = "Registries")]
    pub(crate) anonymous: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    /// Signature file, or directory of signature files, to use besides the built-in rules; may be repeated
    #[arg(long, value_name = "PATH")]
    pub(crate) rules: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FingerprintKeyArgs {
    /// File with the key for fingerprints of secrets; everything that shares a store needs the same key
    ///
    /// Without it a built-in key is used: fingerprints are then the same everywhere, and a short secret can be guessed
    /// from its fingerprint.
    #[arg(long, value_name = "FILE")]
    pub(crate) fingerprint_key: Option<PathBuf>,
}

/// The store that a command uses.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// Store to use: a SQLite file, or postgres://USER@HOST/DATABASE [default: ~/.local/share/layersift/store.db]
    #[arg(long, value_name = "STORE", env = "LAYERSIFT_STORE", hide_env_values = true)]
    store: Option<OsString>,
}

impl StoreArgs {
    /// The store that the flag or the environment names.
    pub(crate) fn name(&self) -> Option<&OsStr> {
        self.store.as_deref().filter(|name| !name.is_empty())
    }
}

/// Which findings fail.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// Fail on findings of this severity or higher: critical, high, medium, low, info, or none [default: the policy's,
    /// or high]
    #[arg(long, value_name = "SEVERITY")]
    pub(crate) fail_on: Option<FailOn>,

    /// Policy file: what fails, and what is allowed, why and until when
    ///
    /// TOML: `fail-on = "high"` and any number of `[[allow]]` tables. Each names a fingerprint, rule, path, layer,
    /// package or base, or several, which must all match; a reason; and the last day it holds, expires = 2027-01-31.
    /// Allowed findings stay in the report and do not fail. Gaps cannot be allowed.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    /// JSON report of an earlier scan, whose findings do not fail again
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
}

/// How a report of images is written.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) outputs: ReportOutputs,

    /// Lowest severity to list in text; findings that fail are always listed, and others are counted
    #[arg(long, value_name = "SEVERITY", default_value_t = Severity::Medium)]
    pub(crate) show: Severity,

    /// Include the values of secrets in text and JSON; the other formats never have them
    #[arg(long)]
    pub(crate) show_secrets: bool,

    /// Leave versions and durations out of the report, so that two scans of one image give the same bytes
    #[arg(long)]
    pub(crate) reproducible: bool,
}

/// How `sweep` and `worker` read layers.
#[derive(Debug, Args)]
pub(crate) struct ReadingArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,

    #[command(flatten)]
    pub(crate) fingerprint_key: FingerprintKeyArgs,

    #[command(flatten)]
    pub(crate) rules: RulesArgs,

    #[command(flatten)]
    pub(crate) threads: ThreadsArgs,

    /// Number of layers to pull at a time; 0 leaves them to workers
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = values::threads())]
    pub(crate) pulls: usize,

    /// Lease of a layer in seconds; a layer whose lease is not renewed goes to another worker, at once if the program
    /// that had it is seen to be dead
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) lease: i64,

    #[command(flatten)]
    pub(crate) timeout: TimeoutArgs,

    /// Maximum number of requests to a registry per second
    #[arg(long, value_name = "N")]
    pub(crate) max_requests: Option<std::num::NonZeroU32>,

    /// Maximum number of bytes from a registry per second, such as 50M
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub(crate) max_rate: Option<u64>,

    #[command(flatten)]
    pub(crate) quiet: QuietArgs,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}
