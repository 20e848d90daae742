//! The time that `--timeout` allows for all steps of a command together.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::args::TimeoutArgs;
use layersift_format::Cancellation;

/// When a command has to end, if it has to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

/// When the command of this process has to end, for what waits for other processes.
static COMMAND: Mutex<Option<Instant>> = Mutex::new(None);

/// Begins to count the time of the command.
pub(crate) fn begin(time: Option<Duration>) -> Deadline {
    // A time that is too long to be counted does not end.
    let end = time.and_then(|time| Instant::now().checked_add(time));
    *COMMAND.lock().unwrap_or_else(PoisonError::into_inner) = end;
    Deadline(end)
}

/// What is left of the time that was begun last.
pub(crate) fn left_of_command() -> Option<Duration> {
    Deadline(*COMMAND.lock().unwrap_or_else(PoisonError::into_inner)).left()
}

impl TimeoutArgs {
    /// Begins to count the time.
    pub(crate) fn begin(&self) -> Deadline {
        begin(self.timeout)
    }
}

impl Deadline {
    /// What is left of the time.
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// Cancels at the end of the time.
    pub(crate) fn cancellation(self) -> Cancellation {
        self.left().map_or_else(Cancellation::never, Cancellation::with_deadline)
    }

    /// The same, or when `other` is cancelled.
    pub(crate) fn or(self, other: &Cancellation) -> Cancellation {
        self.left().map_or_else(|| other.clone(), |left| other.child_with_deadline(left))
    }
}
