//! Retries: a bounded number of attempts, after waits that double and are random, so that many scanners that failed
//! together do not come back together ("full jitter"), or after as long as the registry asks for.

use std::time::{Duration, SystemTime};

use reqwest::Url;

use super::error::{Identity, RegistryError};
use super::options::Retry;
use layersift_format::Cancellation;

/// Why an attempt failed.
pub(super) enum Failure {
    /// Another attempt would fail as well.
    Permanent(RegistryError),
    /// Another attempt may succeed.
    Temporary {
        /// The error to report if no attempt is left.
        error: RegistryError,
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
    },
}

impl Failure {
    /// The same failure of a request that was sent as `identity`.
    pub(super) fn of(self, identity: Identity) -> Failure {
        match self {
            Failure::Temporary { error, retry_after } => Failure::Temporary { error: error.of(identity), retry_after },
            permanent => permanent,
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Failure {
        Failure::Permanent(error)
    }
}

/// Runs `attempt` until it succeeds, fails permanently, or no attempt is left. `url` is what errors are about.
///
/// # Errors
/// The last failure, or a cancellation.
pub(super) fn run<T>(
    retry: &Retry,
    cancellation: &Cancellation,
    url: &Url,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, RegistryError> {
    let mut count = 1;
    loop {
        cancellation.check().map_err(|reason| RegistryError::cancelled(url, reason))?;
        match attempt() {
            Ok(value) => return Ok(value),
            Err(Failure::Permanent(error)) => return Err(error),
            Err(Failure::Temporary { error, .. }) if count >= retry.attempts => return Err(error.after(count)),
            // A cancellation during the wait is noticed when the loop begins again.
            Err(Failure::Temporary { retry_after, .. }) => drop(cancellation.wait(backoff(retry, count, retry_after))),
        }
        count += 1;
    }
}

/// How long to wait after failure number `count`.
pub(super) fn backoff(retry: &Retry, count: u32, retry_after: Option<Duration>) -> Duration {
    match retry_after {
        Some(wait) => wait.min(retry.longest_retry_after),
        None => {
            let doubled = retry.first_wait.saturating_mul(1 << count.saturating_sub(1).min(20));
            doubled.min(retry.longest_wait).mul_f64(fastrand::f64())
        }
    }
}

/// The wait that a `Retry-After` header asks for: seconds, or a date (RFC 9110, section 10.2.3).
pub(super) fn parse_retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(header).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

/// Whether a request that was answered with this status may succeed if it is sent again.
pub(super) fn is_temporary(status: u16) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded() {
        let retry = Retry::default();
        for count in [1, 2, 7, u32::MAX] {
            assert!(backoff(&retry, count, None) <= retry.longest_wait);
        }
        assert!(backoff(&retry, 1, None) <= retry.first_wait);
        assert_eq!(backoff(&retry, 1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(backoff(&retry, 1, Some(Duration::MAX)), retry.longest_retry_after);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(parse_retry_after(" 17 ", now), Some(Duration::from_secs(17)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:50:00 GMT", now), Some(Duration::from_secs(23)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon", now), None);
        assert_eq!(parse_retry_after("-1", now), None);
    }

    #[test]
    fn no_attempt_is_made_after_a_cancellation() {
        let url: Url = "https://h.example/v2/?n=secret".parse().unwrap();
        let cancellation = Cancellation::new();
        let mut attempts = 0;
        let result = run(&Retry::default(), &cancellation, &url, || {
            attempts += 1;
            cancellation.cancel();
            let error = RegistryError::NoTls { url: "made up".into() };
            Err::<(), _>(Failure::Temporary { error, retry_after: Some(Duration::MAX) })
        });
        let error = result.unwrap_err();
        assert!(matches!(error, RegistryError::Cancelled { .. }) && attempts == 1, "{error}");
        assert_eq!(error.to_string(), "https://h.example/v2/: cancelled");
    }
}
