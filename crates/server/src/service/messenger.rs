//! Messages are sent from the store, in order and one at a time, by one replica. What the receiver does not take is
//! sent again until it does, for a week. A receiver that answers too late gets a message twice, under one name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use layersift_format::{Cancellation, read_small};
use layersift_model::{ParseError, parse};
use layersift_source::webhook::{self, Webhook, WebhookAnswer, WebhookError};
use layersift_store::{NotTaken, Seconds, Store, StoreError, StoredNotification};

use super::Service;
use crate::http::metrics::label;
use crate::notify::{Message, body, signature};

/// The name of the lease of the replica that sends.
const LEASE: &str = "notify";

/// Seconds that the lease holds, and after which it is renewed: a message takes less than what is left.
const LEASE_SECONDS: Seconds = 30;
const RENEWAL: Seconds = 10;

/// How often is looked for a message.
const TICK: Duration = Duration::from_secs(1);

/// How long the receiver may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds before a message is sent again: the first time, and at most.
const FIRST_DELAY: Seconds = 5;
const LONGEST_DELAY: Seconds = 300;

/// Seconds after which a message is given up.
const GIVEN_UP: Seconds = 7 * 86_400;

/// Bytes of a key at least.
const LEAST_KEY: usize = 16;

/// Sends messages.
pub(crate) struct Messenger {
    pub(crate) service: Arc<Service>,
    /// With patience: what was sent has to be recorded.
    pub(crate) store: Arc<Store>,
    pub(crate) webhook: Webhook,
}

/// Whether this replica sends, and when that was found out.
struct Lease {
    is_ours: bool,
    checked: Seconds,
}

/// What became of a message that was sent.
enum Outcome {
    Taken,
    NotTaken { how: NotTaken, why: String, retry_after: Option<Duration> },
}

impl Messenger {
    /// Sends until the service ends. It blocks.
    pub(crate) fn run(&self) {
        let Service { ending, clock, .. } = &*self.service;
        let mut lease = Lease { is_ours: false, checked: Seconds::MIN };
        while !ending.wait(TICK) {
            if let Err(error) = self.send_all(&mut lease, *clock) {
                tracing::error!(%error, "cannot send messages: the store failed");
                lease.checked = Seconds::MIN;
            }
        }
        if let Err(error) = self.store.service().resign(LEASE) {
            tracing::error!(%error, "the store failed");
        }
    }

    /// Sends what may be sent now, if this is the replica that sends.
    fn send_all(&self, lease: &mut Lease, clock: fn() -> Seconds) -> Result<(), StoreError> {
        while !self.service.ending.is_cancelled() {
            let now = clock();
            if !(0..RENEWAL).contains(&now.saturating_sub(lease.checked)) {
                *lease = Lease { is_ours: self.store.service().lead(LEASE, LEASE_SECONDS, now)?, checked: now };
            }
            if !lease.is_ours {
                return Ok(());
            }
            let Some(next) = self.store.notifications().next(now)? else { return Ok(()) };
            self.send(&next, clock)?;
        }
        Ok(())
    }

    fn send(&self, next: &StoredNotification, clock: fn() -> Seconds) -> Result<(), StoreError> {
        let notifications = self.store.notifications();
        let host = self.webhook.url.host();
        let count = |result: &str| {
            self.service.metrics.notifications.get_or_create(&label("result", result)).inc();
        };
        match self.post(next, clock()) {
            Outcome::Taken => {
                count("sent");
                tracing::info!(host, delivery = next.delivery, "message sent");
                notifications.sent(next.id, clock())
            }
            Outcome::NotTaken { why, .. } if clock().saturating_sub(next.created_at) >= GIVEN_UP => {
                count("given-up");
                tracing::error!(host, delivery = next.delivery, about = next.message, "message given up: {why}");
                notifications.give_up(next.id, clock())
            }
            Outcome::NotTaken { how, why, retry_after } => {
                count("failed");
                let asked = retry_after.map_or(0, |time| Seconds::try_from(time.as_secs()).unwrap_or(LONGEST_DELAY));
                let delay = delay(next.attempts).max(asked).min(LONGEST_DELAY);
                tracing::warn!(host, delivery = next.delivery, delay, "message not taken: {why}");
                notifications.not_taken(next.id, (how, &why), delay, clock())
            }
        }
    }

    fn post(&self, next: &StoredNotification, now: Seconds) -> Outcome {
        let not_taken = |how, why: String| Outcome::NotTaken { how, why, retry_after: None };
        let message = match self.message(next, now) {
            Ok(message) => message,
            Err((how, why)) => return not_taken(how, why),
        };
        // Not cancelled by the end of the service: nobody would know whether the receiver has it.
        let deadline = Cancellation::new().child_with_deadline(TIMEOUT);
        match self.webhook.post(message, &deadline) {
            Ok(WebhookAnswer { status: 200..=299, .. }) => Outcome::Taken,
            Ok(WebhookAnswer { status, retry_after }) => {
                // Anything else may be a matter of the receiver and not of the message.
                let how = if matches!(status, 400 | 413 | 415 | 422) { NotTaken::Refused } else { NotTaken::Outage };
                Outcome::NotTaken { how, why: format!("status {status}"), retry_after }
            }
            Err(error @ WebhookError::Header(_)) => not_taken(NotTaken::Refused, error.to_string()),
            Err(error) => not_taken(NotTaken::Outage, error.to_string()),
        }
    }

    /// A message as it is sent now.
    fn message(&self, next: &StoredNotification, now: Seconds) -> Result<webhook::Message, (NotTaken, String)> {
        let settings = &self.service.settings.notify;
        let damaged = |error: ParseError| (NotTaken::Refused, format!("it is damaged: {error}"));
        let message: Message = parse::json(&next.message).map_err(damaged)?;
        let body = body(settings.format, &next.delivery, &message).map_err(damaged)?;
        let mut headers = vec![
            ("content-type", body.media_type.to_string()),
            ("x-layersift-delivery", next.delivery.clone()),
            ("x-layersift-timestamp", now.to_string()),
        ];
        if let Some(path) = &settings.secret {
            // It may be replaced while the service runs.
            let key = key(path).map_err(|why| (NotTaken::Outage, format!("{}: {why}", path.display())))?;
            headers.push(("x-layersift-signature", signature(&key, now, &body.bytes)));
        }
        Ok(webhook::Message { headers, body: body.bytes })
    }
}

/// Seconds before a message is sent again that was sent so often.
fn delay(attempts: u64) -> Seconds {
    let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(16);
    FIRST_DELAY.saturating_mul(1 << doublings).min(LONGEST_DELAY)
}

/// The key that messages are signed with: what is in the file, without the ends of lines after it, as a shell reads it.
///
/// # Errors
/// With the reason, for a file that cannot be read, or a key that can be guessed.
pub(crate) fn key(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = read_small(path).map_err(|error| error.to_string())?;
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    match bytes.len() {
        0..LEAST_KEY => Err(format!("the key can be guessed: expected at least {LEAST_KEY} bytes")),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_five_minutes() {
        let delays: Vec<Seconds> = (0..9).map(delay).collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(delay(u64::MAX), 300);
    }
}
