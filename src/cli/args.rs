//! Commands and flags, with the help that teaches them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::store_args::{ReadingArgs, SweepCommand, TraceArgs};
use layersift_format::platform::Choice;
use layersift_model::Severity;
use layersift_report::FailOn;

/// Finds what leaked in a container image, through which layer and instruction, and whether it is still there.
///
/// Every layer, every byte: also what a later layer overwrote or deleted, because anyone who can pull the image can
/// pull that layer.
#[derive(Debug, Parser)]
#[command(name = "layersift", version, propagate_version = true, after_help = EXIT_STATUS)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "\
Exit status:
  0  pass: everything was looked at, and nothing fails
  1  fail: a finding is as severe as --fail-on, or more
  2  usage, or an error: there is no verdict
  3  incomplete: something could not be looked at";

const TRACE_STATUS: &str = "\
Exit status:
  0  it is in an image
  1  it is in no image that the store knows
  2  usage, or an error";

const TARGETS: &str = "\
Targets:
  image.tar                        what docker save, podman, skopeo or buildah wrote; or .gz, .zst
  directory                        an OCI layout, skopeo's dir:, or a root file system
  -                                such a tar on standard input
  docker://[HOST/]NAME[:TAG]       an image in a registry, pulled as a stream; or @DIGEST
  docker-daemon:NAME[:TAG]         an image of the Docker or Podman daemon at DOCKER_HOST
  docker-archive:FILE[:REFERENCE]  one image of a docker save tar
  oci:DIRECTORY[:REFERENCE]        one image of an OCI layout
  oci-archive:FILE[:REFERENCE]     one image of an OCI layout in a tar
  dir:DIRECTORY                    skopeo's directory transport
  rootfs:PATH                      a root file system, as directory or tar

Examples:
  layersift scan image.tar
  docker save app:1.2 | layersift scan --fail-on critical -
  layersift scan --format json -o report.json oci:layout:v1";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scan an image and say what leaked
    #[command(after_help = format!("{TARGETS}\n\n{EXIT_STATUS}"))]
    Scan(ScanArgs),
    /// Show what each layer of an image is: instruction, size, files, whiteouts
    #[command(after_help = TARGETS)]
    Layers(LayersArgs),
    /// Scan every image of a registry, each layer once, into a store
    #[command(after_help = EXIT_STATUS)]
    Sweep {
        #[command(subcommand)]
        command: SweepCommand,
    },
    /// Read layers that sweeps of other machines have queued in a store
    Worker(ReadingArgs),
    /// Show where else a secret, a finding, a layer, a path or a package is
    #[command(after_help = TRACE_STATUS)]
    Trace(TraceArgs),
    /// List, show, check and try rules
    Rules {
        #[command(subcommand)]
        command: RulesCommand,
    },
    /// Print completions for a shell
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write man pages into a directory
    Man {
        /// The directory, which must exist.
        directory: PathBuf,
    },
}

/// How an image is chosen and read.
#[derive(Debug, Args)]
pub struct Source {
    /// What to read: a path, - for standard input, or TRANSPORT:PATH
    pub target: String,

    /// Which image of a multi-architecture index: OS/ARCH[/VARIANT], or all
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<Choice>,

    /// Threads to use; as many as there are cores if not given
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,

    /// Show no progress, even on a terminal
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// How registries are talked to. Who asks is not said with a flag, which others on the machine could read.
#[derive(Debug, Args)]
pub struct RegistryArgs {
    /// Talk plain HTTP to the registry
    #[arg(long, help_heading = "Registries")]
    pub plain_http: bool,

    /// PEM file of an authority to trust beside the system's; may be given again
    #[arg(long, help_heading = "Registries", value_name = "FILE")]
    pub registry_ca: Vec<PathBuf>,

    /// PEM file with our certificate, for registries that ask for one
    #[arg(long, help_heading = "Registries", value_name = "FILE", requires = "registry_key")]
    pub registry_cert: Option<PathBuf>,

    /// PEM file with the key of our certificate
    #[arg(long, help_heading = "Registries", value_name = "FILE", requires = "registry_cert")]
    pub registry_key: Option<PathBuf>,

    /// Ask as nobody, whatever logins are stored
    ///
    /// Otherwise LAYERSIFT_REGISTRY_USER and LAYERSIFT_REGISTRY_PASSWORD are used where they are set, and the logins
    /// that docker and podman have stored where they are not.
    #[arg(long, help_heading = "Registries")]
    pub anonymous: bool,
}

#[derive(Debug, Args)]
pub struct ScanArgs {
    #[command(flatten)]
    pub source: Source,

    /// How to write the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Write the report to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Further signature files, or directories of them
    #[arg(long, value_name = "PATH")]
    pub rules: Vec<PathBuf>,

    #[command(flatten)]
    pub failing: FailingArgs,

    /// In text, list findings of this severity and above; what fails is always listed, and the rest is counted
    #[arg(long, value_name = "SEVERITY", default_value_t = Severity::Medium)]
    pub show: Severity,

    /// Add the raw values of secrets to the report
    #[arg(long)]
    pub show_secrets: bool,

    /// File with the key that secrets are fingerprinted with
    ///
    /// Without it a built-in key is used: fingerprints are then the same everywhere, and a short secret can be guessed
    /// from its fingerprint.
    #[arg(long, value_name = "FILE")]
    pub fingerprint_key: Option<PathBuf>,

    /// Store whose layers need not be read again, and that gets what is new: a SQLite file, or postgres://…
    #[arg(long, value_name = "STORE", conflicts_with = "show_secrets")]
    pub store: Option<String>,

    /// Leave versions and durations out of the report, so that two scans of one image give the same bytes
    #[arg(long)]
    pub reproducible: bool,
}

/// What fails.
#[derive(Debug, Args)]
pub struct FailingArgs {
    /// The least severity that fails: critical, high, medium, low, info, or none [default: the policy's, or high]
    #[arg(long, value_name = "SEVERITY")]
    pub fail_on: Option<FailOn>,

    /// File with what fails and what is allowed, for which reason and until when
    ///
    /// TOML: `fail-on = "high"` and any number of `[[allow]]` tables. Each names a fingerprint, rule, path, layer or
    /// package, or several, which must all match; a reason; and the last day it holds, expires = 2027-01-31. What is
    /// allowed stays in the report and does not fail. Gaps cannot be allowed.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,

    /// JSON report of an earlier scan, whose findings do not fail again
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LayersArgs {
    #[command(flatten)]
    pub source: Source,

    /// How to write the table
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Write the table to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List rules: severity, confidence, id, title
    List {
        /// Only rules with this in their id or title
        filter: Option<String>,

        /// Further signature files, or directories of them
        #[arg(long, value_name = "PATH")]
        rules: Vec<PathBuf>,

        /// How to write the list
        #[arg(long, value_enum, default_value_t = RulesFormat::Text)]
        format: RulesFormat,
    },
    /// Show the page of a rule: what it is, what a thief can do with it, what to do, and examples
    Show {
        /// The rule's id
        id: String,

        /// Further signature files, or directories of them
        #[arg(long, value_name = "PATH")]
        rules: Vec<PathBuf>,
    },
    /// Check signature files, and run their examples and counterexamples
    ///
    /// Without files the built-in rules are checked. Exit status 1 means that an example does not hold, 2 that a file
    /// cannot be used.
    Check {
        /// Signature files, or directories of them
        paths: Vec<PathBuf>,
    },
    /// Show what the rules find in one file, which need not be in an image
    Test {
        /// The file
        file: PathBuf,

        /// Further signature files, or directories of them
        #[arg(long, value_name = "PATH")]
        rules: Vec<PathBuf>,

        /// Show the raw values of secrets
        #[arg(long)]
        show_secrets: bool,
    },
}

/// A form of the list of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RulesFormat {
    /// For a person.
    Text,
    /// For a program.
    Json,
    /// The catalogue in docs/signatures.md.
    Markdown,
}

/// A form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a person.
    Text,
    /// For a program; see README for the fields.
    Json,
}

impl Format {
    /// What writes reports in this form.
    pub fn render(self) -> layersift_report::Render {
        let name = match self {
            Format::Text => "text",
            Format::Json => "json",
        };
        let known = layersift_report::FORMATS.iter().find(|format| format.name == name);
        known.map_or(layersift_report::FORMATS[0].render, |format| format.render)
    }
}
