//! Trying again: a bounded number of times, after waits that double and are random, so that many scanners that failed
//! together do not come back together ("full jitter"), or after as long as the registry asks for.

use std::time::{Duration, SystemTime};

use super::error::RegistryError;
use super::options::Retry;

/// What became of one attempt.
pub(super) enum Failure {
    /// It makes no sense to try again.
    Final(RegistryError),
    /// It may work the next time.
    Passing {
        /// What to say when it is the last time.
        error: RegistryError,
        /// How long the registry asks to wait.
        wait: Option<Duration>,
    },
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Failure {
        Failure::Final(error)
    }
}

/// Runs `attempt` until it gives something, fails for good, or was run often enough.
///
/// # Errors
/// The last failure.
pub(super) fn run<T>(retry: &Retry, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, RegistryError> {
    let mut count = 1;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing { error, .. }) if count >= retry.attempts => return Err(error.after(count)),
            Err(Failure::Passing { wait, .. }) => std::thread::sleep(pause(retry, count, wait)),
        }
        count += 1;
    }
}

/// How long to wait after failure number `count`.
pub(super) fn pause(retry: &Retry, count: u32, asked: Option<Duration>) -> Duration {
    match asked {
        Some(asked) => asked.min(retry.longest_retry_after),
        None => {
            let doubled = retry.first_wait.saturating_mul(1 << count.saturating_sub(1).min(20));
            doubled.min(retry.longest_wait).mul_f64(fastrand::f64())
        }
    }
}

/// The wait that a `Retry-After` header asks for: seconds, or a date (RFC 9110, section 10.2.3).
pub(super) fn asked(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(header).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

/// Whether an answer with this status may be another one the next time.
pub(super) fn is_passing(status: u16) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded() {
        let retry = Retry::default();
        for count in [1, 2, 7, u32::MAX] {
            assert!(pause(&retry, count, None) <= retry.longest_wait);
        }
        assert!(pause(&retry, 1, None) <= retry.first_wait);
        assert_eq!(pause(&retry, 1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(pause(&retry, 1, Some(Duration::MAX)), retry.longest_retry_after);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(asked(" 17 ", now), Some(Duration::from_secs(17)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:00 GMT", now), Some(Duration::from_secs(23)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(asked("soon", now), None);
        assert_eq!(asked("-1", now), None);
    }
}
