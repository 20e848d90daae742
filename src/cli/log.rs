//! Log messages on standard error: for a person on a terminal, otherwise one JSON object a line.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use clap::{ArgAction, Args};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use super::masked;
use super::printable::Printable;
use super::progress;

const VARIABLE: &str = "LAYERSIFT_LOG";

/// What the names of our crates begin with. Messages of other crates are not shown: they may quote headers of requests.
const OURS: &str = "layersift";

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Log progress to standard error; -vv logs more
    ///
    /// LAYERSIFT_LOG sets a level, such as debug, or levels of crates, such as warn,layersift_fleet=debug. The flag
    /// takes precedence. Messages are JSON, one object a line, unless standard error is a terminal.
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 900)]
    verbose: u8,
}

/// Starts logging at the level of the flag, of the environment, or at `default`.
///
/// # Errors
/// For directives in the environment that cannot be used.
pub(crate) fn init(args: &LogArgs, default: LevelFilter) -> anyhow::Result<()> {
    let filter = match args.verbose {
        0 => from_environment()?.unwrap_or_else(|| ours(default)),
        1 => ours(default.max(LevelFilter::INFO)),
        2 => ours(LevelFilter::DEBUG),
        _ => ours(LevelFilter::TRACE),
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(AroundBars);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if io::stderr().is_terminal() {
        let has_colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        layer.with_ansi(has_colours).with_target(false).with_timer(TimeOfDay).with_filter(filter).boxed()
    } else {
        layer.json().flatten_event(true).with_filter(filter).boxed()
    };
    tracing::subscriber::set_global_default(Registry::default().with(layer)).context("cannot start logging")
}

fn ours(level: LevelFilter) -> Targets {
    Targets::new().with_target(OURS, level)
}

fn from_environment() -> anyhow::Result<Option<Targets>> {
    match std::env::var(VARIABLE) {
        Ok(text) if !text.trim().is_empty() => directives(text.trim()).map(Some),
        _ => Ok(None),
    }
}

/// Parses `LEVEL`, `CRATE=LEVEL`, or several of them separated by commas.
fn directives(text: &str) -> anyhow::Result<Targets> {
    let expected = "expected a level (error, warn, info, debug, trace, off) or CRATE=LEVEL, separated by commas";
    let parsed: Targets = text.parse().ok().with_context(|| format!("invalid {VARIABLE}: {expected}"))?;
    let mut filter = ours(parsed.default_level().unwrap_or(LevelFilter::WARN));
    for (target, level) in parsed.iter() {
        anyhow::ensure!(
            target.starts_with(OURS),
            "invalid {VARIABLE}: a name in it is no crate of layersift, such as layersift_fleet"
        );
        filter = filter.with_target(target, level);
    }
    Ok(filter)
}

/// The time of day in UTC: who watches a terminal knows the date.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        write!(out, "{}", jiff::Timestamp::now().strftime("%H:%M:%S"))
    }
}

/// Standard error, around the progress bar.
#[derive(Clone, Copy)]
struct AroundBars;

impl MakeWriter<'_> for AroundBars {
    type Writer = AroundBars;

    fn make_writer(&self) -> AroundBars {
        AroundBars
    }
}

impl Write for AroundBars {
    /// A message comes whole, in one call.
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let text = masked::message(&String::from_utf8_lossy(message));
        let printable = Printable::new(text.as_bytes());
        progress::without_bars(|| io::stderr().lock().write_all(printable.as_bytes())).map(|()| message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_for_our_crates_alone() {
        let filter = directives("debug").unwrap();
        assert!(filter.would_enable("layersift_fleet", &tracing::Level::DEBUG));
        assert!(!filter.would_enable("hyper", &tracing::Level::ERROR));
    }

    #[test]
    fn crates_have_levels_of_their_own() {
        let filter = directives("layersift_fleet=debug,error").unwrap();
        assert!(filter.would_enable("layersift_fleet::sweep", &tracing::Level::DEBUG));
        assert!(!filter.would_enable("layersift_source", &tracing::Level::WARN));
        for wrong in ["hyper=debug", "loud", "layersift=loud"] {
            assert!(directives(wrong).is_err(), "{wrong}");
        }
    }
}
