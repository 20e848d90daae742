//! `layersift trace`.

use std::io::Read;
use std::process::ExitCode;

use anyhow::Context;

use super::store_args::{TraceArgs, TraceFormat};
use super::sweep::{fingerprint_key, open_store};
use super::{terminal, write_out};
use crate::cli::trace_report as report;
use layersift_store::Query;

/// The longest secret that is read from standard input, in bytes.
const MOST_SECRET: u64 = 1 << 20;

/// Looks in the store for what the arguments name. Exit status 1 where there is none, as `grep` has it.
pub fn trace(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let store = open_store(&args.store)?;
    let (name, query) = match &args.what[..] {
        "-" => {
            let fingerprint = fingerprint_of_input(args)?;
            (format!("the secret with the fingerprint {fingerprint}"), Query::Secret(fingerprint))
        }
        what => (what.to_string(), Query::parse(what.strip_prefix('/').unwrap_or(what))),
    };
    let trace = store.trace(&query, None, args.limit)?;
    let mut rendered = Vec::new();
    match args.format {
        TraceFormat::Text => report::text(&name, &trace, terminal::width(args.output.as_deref()), &mut rendered)?,
        TraceFormat::Json => report::json(&name, &trace, &mut rendered)?,
        TraceFormat::Dot => report::dot(&name, &trace, &mut rendered)?,
    }
    write_out(&String::from_utf8(rendered)?, args.output.as_deref())?;
    Ok(if trace.total == 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// The secret itself is neither shown nor stored.
fn fingerprint_of_input(args: &TraceArgs) -> anyhow::Result<String> {
    let mut secret = Vec::new();
    std::io::stdin().lock().take(MOST_SECRET + 1).read_to_end(&mut secret).context("cannot read standard input")?;
    anyhow::ensure!(secret.len() as u64 <= MOST_SECRET, "the secret on standard input is longer than 1 MiB");
    let end = secret.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    anyhow::ensure!(end > 0, "there is no secret on standard input");
    Ok(fingerprint_key(args.store.fingerprint_key.as_deref())?.fingerprint(&secret[..end]))
}
