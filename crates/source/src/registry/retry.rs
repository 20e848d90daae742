//! Retries: a bounded number of attempts, after waits that double and are random, so that many scanners that failed
//! together do not come back together ("full jitter"), or after as long as the registry asks for. Such a wait may be
//! hours, so it is logged.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use reqwest::Url;

use super::error::{Identity, RegistryError, redacted};
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

/// Retries requests to one registry.
pub(super) struct Retries {
    options: Retry,
    /// What ends waits, so that their requests fail.
    patience: Cancellation,
    /// The end of the wait that was logged last: many threads wait for the same time.
    logged: Mutex<Timestamp>,
}

impl Retries {
    pub(super) fn new(options: Retry, patience: Cancellation) -> Retries {
        Retries { options, patience, logged: Mutex::new(Timestamp::MIN) }
    }

    /// Runs `attempt` until it succeeds, fails permanently, or no attempt is left. `url` is what errors are about.
    ///
    /// # Errors
    /// The last failure, or a cancellation.
    pub(super) fn run<T>(
        &self,
        cancellation: &Cancellation,
        url: &Url,
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, RegistryError> {
        let mut count = 1;
        // The status after which it waits for the next attempt.
        let mut after = None;
        loop {
            cancellation.check().map_err(|reason| RegistryError::cancelled(url, reason).waiting_after(after))?;
            let (error, retry_after) = match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Permanent(error)) => return Err(error),
                Err(Failure::Temporary { error, retry_after }) => (error, retry_after),
            };
            if count >= self.options.attempts {
                return Err(error.after(count));
            }
            after = error.status();
            let wait = backoff(&self.options, count, retry_after);
            if retry_after.is_some_and(|asked| !asked.is_zero()) {
                self.log(url, after, wait);
            }
            if !self.wait(wait, cancellation) {
                return Err(error.after(count));
            }
            count += 1;
        }
    }

    /// How long to wait after failure number `count`, for which the registry asked for no time.
    pub(super) fn backoff(&self, count: u32) -> Duration {
        backoff(&self.options, count, None)
    }

    /// Waits, and returns whether another attempt is worth it. A cancellation is noticed when the attempt begins.
    fn wait(&self, time: Duration, cancellation: &Cancellation) -> bool {
        const TICK: Duration = Duration::from_millis(100);
        if !self.patience.can_cancel() {
            cancellation.wait(time);
            return true;
        }
        let started = Instant::now();
        loop {
            let left = time.saturating_sub(started.elapsed());
            if self.patience.is_cancelled() {
                return false;
            }
            if left.is_zero() || cancellation.wait(left.min(TICK)) {
                return true;
            }
        }
    }

    /// Logs a wait that the registry asked for, unless one that ends at about the same time was logged already.
    fn log(&self, url: &Url, status: Option<u16>, wait: Duration) {
        const ABOUT: Duration = Duration::from_secs(5);
        let until = Timestamp::now().checked_add(wait).unwrap_or(Timestamp::MAX);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if until.duration_since(*logged).unsigned_abs() <= ABOUT {
            return;
        }
        *logged = until;
        let until = until.strftime("%Y-%m-%dT%H:%M:%SZ");
        tracing::warn!(url = redacted(url), status, "the registry asks to wait: the request is sent again at {until}");
    }
}

/// How long to wait after failure number `count`.
fn backoff(retry: &Retry, count: u32, retry_after: Option<Duration>) -> Duration {
    match retry_after {
        Some(wait) => wait.min(retry.longest_retry_after),
        None => {
            let doubled = retry.first_wait.saturating_mul(1 << count.saturating_sub(1).min(20));
            doubled.min(retry.longest_wait).mul_f64(fastrand::f64())
        }
    }
}

/// The wait that a `Retry-After` header asks for: seconds, or a date (RFC 9110, section 10.2.3).
pub(crate) fn parse_retry_after(header: &str, now: SystemTime) -> Option<Duration> {
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
    use super::super::response::ErrorResponse;
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
    fn a_wait_ends_with_the_patience() {
        let url: Url = "https://h.example/v2/".parse().unwrap();
        let patience = Cancellation::new();
        let result = Retries::new(Retry::default(), patience.clone()).run(&Cancellation::never(), &url, || {
            patience.cancel();
            let error = RegistryError::of_response(&url, ErrorResponse::of_status(429), Identity::Anonymous);
            Err::<(), _>(Failure::Temporary { error, retry_after: Some(Duration::MAX) })
        });
        assert!(matches!(result, Err(RegistryError::TooManyRequests { attempts: 1, .. })), "{result:?}");
    }

    #[test]
    fn no_attempt_is_made_after_a_cancellation() {
        let url: Url = "https://h.example/v2/?n=secret".parse().unwrap();
        let cancellation = Cancellation::new();
        let mut attempts = 0;
        let result = Retries::new(Retry::default(), Cancellation::never()).run(&cancellation, &url, || {
            attempts += 1;
            cancellation.cancel();
            let response = ErrorResponse::of_status(429);
            let error = RegistryError::of_response(&url, response, Identity::Anonymous);
            Err::<(), _>(Failure::Temporary { error, retry_after: Some(Duration::MAX) })
        });
        let error = result.unwrap_err();
        assert!(matches!(error, RegistryError::Cancelled { .. }) && attempts == 1, "{error}");
        assert_eq!(error.to_string(), "https://h.example/v2/: cancelled, while waiting after status 429");
    }
}
