//! `layersift trace`.

use std::io::Read;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;

use super::args::{FingerprintKeyArgs, StoreArgs};
use super::formats::{Format, OutputArgs};
use super::{context, masked, output, terminal};
use layersift_model::{FingerprintKey, TraceReport};
use layersift_report::trace as table;
use layersift_store::Query;

/// The longest secret that is read from standard input, in bytes.
const MOST_SECRET: u64 = 1 << 20;

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// What to look for: a finding's id, a secret's fingerprint, a layer's digest, ECOSYSTEM:PACKAGE[@VERSION], a path,
    /// or - for a secret on standard input
    what: String,

    #[command(flatten)]
    output: OutputArgs<TraceFormat>,

    /// Maximum number of images to list
    #[arg(long, value_name = "N", default_value = "100")]
    limit: NonZeroUsize,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    fingerprint_key: FingerprintKeyArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TraceFormat {
    Text,
    Json,
    Dot,
}

impl Format for TraceFormat {
    fn all() -> Vec<Self> {
        vec![TraceFormat::Text, TraceFormat::Json, TraceFormat::Dot]
    }

    fn name(self) -> &'static str {
        match self {
            TraceFormat::Text => "text",
            TraceFormat::Json => "json",
            TraceFormat::Dot => "dot",
        }
    }

    fn about(self) -> &'static str {
        match self {
            TraceFormat::Text => "for a person",
            TraceFormat::Json => "for a program",
            TraceFormat::Dot => "a graph for Graphviz",
        }
    }
}

/// Looks in the store for what the arguments name. Exit status 1 if it is not found, like that of `grep`.
pub(crate) fn run(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let store = context::open_existing_store(&args.store)?;
    let (name, queries) = match &args.what[..] {
        "-" => {
            let fingerprints = fingerprints_of_input(args)?;
            let name = format!("the secret with the fingerprint {}", fingerprints.join(" or "));
            (name, fingerprints.into_iter().map(Query::Secret).collect())
        }
        // What was asked for may be a secret, which no image has to have.
        what => (masked::message(what), vec![Query::parse(what.strip_prefix('/').unwrap_or(what))]),
    };
    let mut trace = TraceReport::empty();
    for query in &queries {
        trace.add(store.trace(query, None, args.limit.get())?, args.limit.get());
    }
    mask(&mut trace)?;
    let file = args.output.output.as_deref();
    output::stream(file, |out| match args.output.format {
        TraceFormat::Text => table::text(&name, &trace, terminal::width(file), out),
        TraceFormat::Json => table::json(&name, &trace, out),
        TraceFormat::Dot => table::dot(&name, &trace, out),
    })?;
    Ok(if trace.is_empty() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Masks secrets in the names of repositories and tags, which the store has as they are.
fn mask(trace: &mut TraceReport) -> anyhow::Result<()> {
    if trace.images.iter().all(|image| image.tags.is_empty()) {
        return Ok(());
    }
    let analyzer = context::analyzer(context::ruleset(&[])?, FingerprintKey::default(), 1)?;
    trace.for_each_name(&mut |name| *name = analyzer.mask_name(name));
    // The process ends soon; freeing the compiled rules would only take time.
    std::mem::forget(analyzer);
    Ok(())
}

/// The fingerprints of a secret, of which there are two if it is a key in digits. The secret itself is neither shown
/// nor stored.
fn fingerprints_of_input(args: &TraceArgs) -> anyhow::Result<Vec<String>> {
    let mut secret = Vec::new();
    std::io::stdin().lock().take(MOST_SECRET + 1).read_to_end(&mut secret).context("cannot read standard input")?;
    ensure!(secret.len() as u64 <= MOST_SECRET, "the secret on standard input is longer than 1 MiB");
    while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        secret.pop();
    }
    ensure!(!secret.is_empty(), "there is no secret on standard input");
    Ok(context::fingerprint_key(&args.fingerprint_key)?.fingerprints(&secret))
}
