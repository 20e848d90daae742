//! SIGINT and SIGTERM: the first one asks a sweep or a worker to end, the second one ends the process at once.

use std::sync::Arc;
use std::thread;

use anyhow::Context;
use signal_hook::consts::signal::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::output;
use layersift_format::Cancellation;

/// Has writes beyond a limit of the size of files fail, rather than end the process and leave what it was writing.
///
/// # Errors
/// When the system does not let us handle signals.
pub(crate) fn survive_limits() -> anyhow::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::default()).context("cannot handle signals")?;
    Ok(())
}

/// A token that the first signal cancels.
///
/// # Errors
/// When the system does not let us handle signals.
pub(crate) fn cancellation() -> anyhow::Result<Cancellation> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot handle signals")?;
    let cancellation = Cancellation::new();
    let cancelled = cancellation.clone();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if cancelled.is_cancelled() {
                    // As a shell reports a process that a signal ended.
                    signal_hook::low_level::exit(128 + signal);
                }
                output::warn(["ending after a signal; a second one ends at once"]);
                cancelled.cancel();
            }
        })
        .context("cannot handle signals")?;
    Ok(cancellation)
}
