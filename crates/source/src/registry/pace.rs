//! Rate limits of requests and bytes, and counts of both. All threads that talk to one registry share them.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::options::Rate;
use layersift_format::{CancelReason, Cancellation};

/// Requests that were sent to a registry so far, and bytes that came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests sent, to the registry, its token service and wherever they redirect to.
    pub requests: u64,
    /// Bytes of answers read, headers not counted.
    pub bytes: u64,
}

/// Bytes that may be read from all registries together. The token is cancelled once they are.
#[derive(Clone, Debug)]
pub struct ByteLimit(Arc<Bounded>);

#[derive(Debug)]
struct Bounded {
    left: AtomicU64,
    cancellation: Cancellation,
}

impl ByteLimit {
    /// A limit of `bytes`, which cancels `cancellation`.
    pub fn new(bytes: u64, cancellation: Cancellation) -> ByteLimit {
        ByteLimit(Arc::new(Bounded { left: AtomicU64::new(bytes), cancellation }))
    }

    /// Whether all bytes were read.
    pub fn is_reached(&self) -> bool {
        self.0.left.load(Ordering::Relaxed) == 0
    }

    fn take(&self, count: u64) -> Result<(), CancelReason> {
        let before =
            self.0.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(count)));
        if before.unwrap_or_default() > count {
            return Ok(());
        }
        self.0.cancellation.cancel();
        Err(CancelReason::Cancelled)
    }
}

/// Keeps requests and bytes under their rates, and counts them.
pub(super) struct Pace {
    requests: Option<Bucket>,
    bytes: Option<Bucket>,
    limit: Option<ByteLimit>,
    sent: AtomicU64,
    read: AtomicU64,
}

impl Pace {
    pub(super) fn new(rate: &Rate, limit: Option<ByteLimit>) -> Pace {
        Pace {
            limit,
            requests: rate.requests_per_second.map(|rate| Bucket::new(rate.into())),
            bytes: rate.bytes_per_second.map(Bucket::new),
            sent: AtomicU64::new(0),
            read: AtomicU64::new(0),
        }
    }

    /// Waits until another request may be sent.
    ///
    /// # Errors
    /// When it is cancelled before.
    pub(super) fn request(&self, cancellation: &Cancellation) -> Result<(), CancelReason> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        wait(self.requests.as_ref(), 1, cancellation)
    }

    /// Counts bytes that were read, and waits until the next ones may be.
    ///
    /// # Errors
    /// When it is cancelled before, and when no more bytes may be read.
    pub(super) fn bytes(&self, count: usize, cancellation: &Cancellation) -> Result<(), CancelReason> {
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        self.limit.as_ref().map_or(Ok(()), |limit| limit.take(count as u64))?;
        wait(self.bytes.as_ref(), count as u64, cancellation)
    }

    pub(super) fn usage(&self) -> Usage {
        Usage { requests: self.sent.load(Ordering::Relaxed), bytes: self.read.load(Ordering::Relaxed) }
    }
}

fn wait(bucket: Option<&Bucket>, count: u64, cancellation: &Cancellation) -> Result<(), CancelReason> {
    let pause = bucket.map(|bucket| bucket.take(count, Instant::now())).unwrap_or_default();
    if !pause.is_zero() {
        cancellation.wait(pause);
    }
    cancellation.check()
}

/// A token bucket that holds the tokens of one second. It may go into debt: a thread that takes more tokens than there
/// are waits until the debt is paid, so that threads are served in the order they came.
struct Bucket {
    rate: NonZeroU64,
    state: Mutex<(f64, Instant)>,
}

impl Bucket {
    fn new(rate: NonZeroU64) -> Bucket {
        Bucket { rate, state: Mutex::new((rate.get() as f64, Instant::now())) }
    }

    /// Takes `count` tokens, and returns how long to wait for them.
    fn take(&self, count: u64, now: Instant) -> Duration {
        let rate = self.rate.get() as f64;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, at) = *state;
        let held = (held + now.saturating_duration_since(at).as_secs_f64() * rate).min(rate) - count as f64;
        *state = (held, now.max(at));
        Duration::try_from_secs_f64((-held / rate).max(0.0)).unwrap_or(Duration::from_secs(60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_second_at_once_and_then_its_rate() {
        let bucket = Bucket::new(NonZeroU64::new(10).unwrap());
        let start = Instant::now();
        assert_eq!(bucket.take(10, start), Duration::ZERO);
        assert_eq!(bucket.take(5, start).as_millis(), 500);
        assert_eq!(bucket.take(5, start).as_millis(), 1_000);
        let later = start + Duration::from_secs(2);
        assert_eq!(bucket.take(10, later), Duration::ZERO);
        assert_eq!(bucket.take(1, later).as_millis(), 100);
    }

    #[test]
    fn requests_and_bytes_are_counted() {
        let (pace, never) = (Pace::new(&Rate::default(), None), Cancellation::never());
        pace.request(&never).unwrap();
        pace.bytes(70, &never).unwrap();
        pace.bytes(7, &never).unwrap();
        assert_eq!(pace.usage(), Usage { requests: 1, bytes: 77 });
    }
    #[test]
    fn a_wait_for_the_rate_ends_at_the_deadline() {
        let rate = Rate { bytes_per_second: NonZeroU64::new(1), ..Rate::default() };
        let deadline = Cancellation::with_deadline(Duration::from_millis(5));
        assert_eq!(Pace::new(&rate, None).bytes(1 << 30, &deadline), Err(CancelReason::DeadlineExceeded));
    }

    #[test]
    fn a_limit_of_bytes_is_that_of_all_registries() {
        let (ending, never) = (Cancellation::new(), Cancellation::never());
        let limit = ByteLimit::new(100, ending.clone());
        let paces = [0, 1].map(|_| Pace::new(&Rate::default(), Some(limit.clone())));
        assert_eq!(paces[0].bytes(60, &never), Ok(()));
        assert_eq!(paces[1].bytes(39, &never), Ok(()));
        assert!(!limit.is_reached() && !ending.is_cancelled());
        assert_eq!(paces[1].bytes(1, &never), Err(CancelReason::Cancelled));
        assert!(limit.is_reached() && ending.is_cancelled());
        assert_eq!(paces[0].bytes(1, &never), Err(CancelReason::Cancelled));
    }
}
