//! The arguments of commands that use a store: sweep, worker, trace.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::args::{FailingArgs, Format, RegistryArgs};

/// Where what is known is kept.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// Store to use: a SQLite file, or postgres://USER@HOST/DATABASE [default: ~/.local/share/layersift/store.db]
    #[arg(long, value_name = "STORE", env = "LAYERSIFT_STORE", hide_env_values = true)]
    pub store: Option<String>,

    /// File with the key that secrets are fingerprinted with; the same for everything that shares a store
    #[arg(long, value_name = "FILE")]
    pub fingerprint_key: Option<PathBuf>,
}

/// What reads layers.
#[derive(Debug, Args)]
pub struct ReadingArgs {
    #[command(flatten)]
    pub store: StoreArgs,

    /// Further signature files, or directories of them; the same for everything that shares a store
    #[arg(long, value_name = "PATH")]
    pub rules: Vec<PathBuf>,

    /// Threads that scan; as many as there are cores if not given
    #[arg(short = 'j', long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub threads: usize,

    /// Layers to pull at a time; with 0, workers elsewhere do
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub pulls: usize,

    /// Seconds after which a layer goes to another worker, when the one that has it gives no sign of life
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(i64).range(1..))]
    pub lease: i64,

    /// Requests to a registry in a second, at most
    #[arg(long, value_name = "N")]
    pub max_requests: Option<std::num::NonZeroU32>,

    /// Bytes from a registry in a second, at most, such as 50M
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_rate: Option<u64>,

    /// Show no progress, even on a terminal
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// How a sweep goes and what it tells.
#[derive(Debug, Args)]
pub struct SweepArgs {
    #[command(flatten)]
    pub reading: ReadingArgs,

    /// Only repositories, or REPOSITORY:TAG, that match this glob; may be given again
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,

    /// Leave out repositories, or REPOSITORY:TAG, that match this glob; may be given again
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,

    /// Only what was pushed in the last while, such as 36h or 7d, where the registry says when
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub pushed_within: Option<Duration>,

    /// Stop after a while, such as 6h; the next sweep goes on
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_time: Option<Duration>,

    /// Stop when so much was pulled, such as 500G; the next sweep goes on
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_bytes: Option<u64>,

    /// Sweep again and again, with this long from one start to the next
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub interval: Option<Duration>,

    #[command(flatten)]
    pub failing: FailingArgs,

    /// How to write the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Write the report to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum SweepCommand {
    /// All images of a Harbor, or of some of its projects
    Harbor {
        /// The Harbor's host, such as harbor.example.org
        host: String,

        /// Only this project; may be given again
        #[arg(long, value_name = "NAME")]
        project: Vec<String>,

        #[command(flatten)]
        how: SweepArgs,
    },
    /// All images of a registry that lists its repositories
    Registry {
        /// The registry's host, such as registry.example.org:5000
        host: String,

        #[command(flatten)]
        how: SweepArgs,
    },
    /// The images in a file, one reference a line
    List {
        /// The file; # begins a comment
        file: PathBuf,

        #[command(flatten)]
        how: SweepArgs,
    },
}

#[derive(Debug, Args)]
pub struct TraceArgs {
    /// What to look for: a finding's id, a secret's fingerprint, a layer's digest, ECOSYSTEM:PACKAGE[@VERSION], a path,
    /// or - for a secret on standard input
    pub what: String,

    #[command(flatten)]
    pub store: StoreArgs,

    /// Images to name, at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,

    /// How to write the answer
    #[arg(long, value_enum, default_value_t = TraceFormat::Text)]
    pub format: TraceFormat,

    /// Write the answer to a file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A form of the answer to a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TraceFormat {
    /// For a person.
    Text,
    /// For a program.
    Json,
    /// A graph for Graphviz.
    Dot,
}

/// A number and a unit: s, m, h or d.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration: write a number and s, m, h or d, such as 36h");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// A number of bytes, with K, M, G or T behind it for powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size: write a number of bytes, or one with K, M, G or T, such as 500G");
    let (number, shift) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        Some(b'T') => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|size| *size > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("36h"), Ok(Duration::from_secs(36 * 3600)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!((size("10"), size("2k"), size("500G")), (Ok(10), Ok(2048), Ok(500 << 30)));
        for wrong in ["", "h", "1w", "-1h", "1é", "99999999999999999999d"] {
            assert!(duration(wrong).is_err() && size(wrong).is_err(), "{wrong}");
        }
    }
}
