//! Files behind which is another process: pipes, and devices such as a terminal.
//!
//! A command waits for that process, as any tool does. One whose time is limited waits until the end of that time.

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::deadline;
use layersift_format::CancelReason;

/// The time for what is there already, if nothing else is left: a report is written after the scan took all the time.
const LEAST: Duration = Duration::from_secs(1);

/// Does `work`, which opens the file at `path`, and reads it.
///
/// # Errors
/// If the time of the command is over before.
pub(crate) fn within<T: Send + 'static>(path: &Path, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let Some(left) = deadline::left_of_command().filter(|_| may_wait(path)) else { return Ok(work()) };
    let (sender, receiver) = mpsc::sync_channel(1);
    // Nothing interrupts it; where nobody comes to the other end, it ends with this process.
    thread::Builder::new().name("blocking".into()).spawn(move || drop(sender.send(work())))?;
    receiver.recv_timeout(left.max(LEAST)).map_err(|error| match error {
        RecvTimeoutError::Timeout => CancelReason::DeadlineExceeded.into(),
        RecvTimeoutError::Disconnected => io::Error::other("the thread that reads ended early"),
    })
}

/// Whether to open or to read the file may take as long as somebody else wants.
pub(crate) fn may_wait(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| !file.is_file() && !file.is_dir())
}
