//! The heartbeat of a sweep: as long as it is alive, no other sweep announces what it finds.

use std::thread::Scope;
use std::time::Duration;

use layersift_format::Cancellation;
use layersift_store::{RunId, Seconds};

use super::Sweep;
use super::worker::whole;

/// How often the lease is renewed while it holds.
const RENEWALS: u32 = 4;

/// Renews the lease of a run until it is dropped.
pub(super) struct Heartbeat(Cancellation);

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Renews the lease of `run` until what is returned is dropped.
pub(super) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    sweep: &'scope Sweep<'_>,
    run: RunId,
    lease: Seconds,
) -> Heartbeat {
    let ended = Cancellation::new();
    let heartbeat = Heartbeat(ended.clone());
    let pause = Duration::from_secs(u64::try_from(lease).unwrap_or_default()) / RENEWALS;
    scope.spawn(move || {
        loop {
            // A store that is out of reach now may be back before the lease runs out.
            if let Err(error) = sweep.store.runs().renew(run, whole(lease), (sweep.clock)()) {
                tracing::warn!(error = %error, "lease of the sweep not renewed");
            }
            if ended.wait(pause) {
                break;
            }
        }
    });
    heartbeat
}
