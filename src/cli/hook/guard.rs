//! Failing closed: an error, a panic or too much time becomes an answer that blocks.
//!
//! The check runs on the main thread, because another thread and its memory take longer than the check of a short
//! prompt. A second thread sleeps until the time is up, and then ends the process.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Answer, Fail};
use crate::cli::output;

/// Prints the answer of `check`, or that for what cannot be checked if it fails, panics or takes more than `timeout`.
pub(super) fn guarded(fail: Fail, timeout: Duration, check: impl FnOnce() -> anyhow::Result<Answer>) -> ExitCode {
    // A message of a panic may quote what is checked.
    panic::set_hook(Box::new(|_| {}));
    let is_answered = Arc::new(AtomicBool::new(false));
    if let Err(error) = watch(fail, timeout, Arc::clone(&is_answered)) {
        return failed(fail, &format!("cannot start a thread: {error}")).print();
    }
    let answer = outcome(fail, check);
    if is_answered.swap(true, Ordering::SeqCst) {
        // The other thread is ending the process.
        thread::sleep(Duration::from_secs(1));
        return ExitCode::from(2);
    }
    answer.print()
}

/// The answer of `check`, whatever happens in it.
fn outcome(fail: Fail, check: impl FnOnce() -> anyhow::Result<Answer>) -> Answer {
    match panic::catch_unwind(AssertUnwindSafe(check)) {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => failed(fail, &output::one_line(&error)),
        Err(_) => failed(fail, "internal error: the check panicked"),
    }
}

/// Ends the process with the answer for what was not checked in time, unless there is another answer by then.
fn watch(fail: Fail, timeout: Duration, is_answered: Arc<AtomicBool>) -> std::io::Result<()> {
    let wait = move || {
        thread::sleep(timeout);
        if !is_answered.swap(true, Ordering::SeqCst) {
            let answer = failed(fail, &format!("the check took longer than {}", human(timeout)));
            output::error_line(&answer.reason);
            std::process::exit(i32::from(answer.status));
        }
    };
    thread::Builder::new().spawn(wait).map(drop)
}

/// The answer for what could not be checked, because of `reason`.
fn failed(fail: Fail, reason: &str) -> Answer {
    match fail {
        Fail::Closed => Answer {
            reason: format!("Layersift blocked this, because it could not be checked: {reason}"),
            status: 2,
            ..Answer::default()
        },
        Fail::Open => Answer { reason: format!("Layersift did not check this: {reason}"), ..Answer::default() },
    }
}

fn human(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Answer {
        Answer { output: "{}".into(), ..Answer::default() }
    }

    #[test]
    fn a_panic_blocks_and_says_nothing_of_what_was_checked() {
        let check = || -> anyhow::Result<Answer> { panic!("at byte 3 of hunter2") };
        let answer = outcome(Fail::Closed, check);
        assert_eq!((answer.status, &answer.output[..]), (2, ""));
        assert!(answer.reason.contains("panicked") && !answer.reason.contains("hunter2"), "{answer:?}");
        let answer = outcome(Fail::Open, check);
        assert_eq!((answer.status, &answer.output[..]), (0, ""));
    }

    #[test]
    fn an_error_blocks_with_its_reason() {
        let answer = outcome(Fail::Closed, || Err(anyhow::anyhow!("no\u{1b}[31m such file").context("policy")));
        assert_eq!(answer.status, 2);
        assert!(answer.reason.ends_with("policy: no\u{fffd}[31m such file"), "{answer:?}");
    }

    #[test]
    fn what_was_checked_is_answered() {
        assert_eq!(outcome(Fail::Closed, || Ok(allowed())), allowed());
    }

    #[test]
    fn unwinding_is_not_turned_off() {
        // With `panic = "abort"` nothing could be caught.
        const { assert!(cfg!(panic = "unwind")) };
        let manifest = include_str!("../../../Cargo.toml");
        assert!(!manifest.contains("panic = \"abort\""));
    }
}
