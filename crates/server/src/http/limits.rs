//! How many requests a client may send per second.

use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Clients that are remembered before those are forgotten that sent nothing for a while.
const MANY: usize = 10_000;

/// A rate for each of any number of clients.
#[derive(Debug)]
pub(crate) struct Rates {
    limiter: DefaultKeyedRateLimiter<String>,
    clock: DefaultClock,
}

impl Rates {
    /// As many at once as per second.
    pub(crate) fn new(per_second: NonZeroU32) -> Rates {
        Rates { limiter: RateLimiter::keyed(Quota::per_second(per_second)), clock: DefaultClock::default() }
    }

    /// Counts a request. `Err` has the seconds to wait.
    pub(crate) fn take(&self, client: &str) -> Result<(), u64> {
        if self.limiter.len() > MANY {
            self.limiter.retain_recent();
        }
        let taken = self.limiter.check_key(&client.to_string());
        taken.map_err(|not_until| not_until.wait_time_from(self.clock.now()).as_secs().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_rate() {
        let rates = Rates::new(NonZeroU32::new(3).unwrap());
        let taken = |client| (0..5).filter(|_| rates.take(client).is_ok()).count();
        assert_eq!((taken("one"), taken("two")), (3, 3));
        assert_eq!(rates.take("one"), Err(1));
    }
}
