//! What registries say was pushed is queued. The answer comes once it is in the store: a registry that gets none tries
//! again, and what is lost all the same is found by the next sweep.
//!
//! Registries tell of each image of an index, and then of the index. Images without a tag wait for a while, in which
//! the index is scanned with all of its images: after that they are known, and no registry is asked.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use layersift_source::registry::Host;
use layersift_store::{RequestClass, RequestLimits, ScanRequest, Seconds, StoreError, Submitted};
use moka::future::Cache;

use super::Service;
use super::decider::by_digest;
use crate::admission::tidy;
use crate::events::{Event, Push};
use crate::http::accepted::AcceptedTexts;
use crate::http::metrics::{EventLabels, Metrics};
use crate::http::peer::Peer;
use crate::http::problem::Problem;
use crate::settings;

/// Seconds for which an image without a tag waits for an index that it may be of.
const UNTAGGED: Seconds = 10;

/// How long the store may take. Harbor gives 3 s.
const LONGEST: Duration = Duration::from_millis(2_500);

/// How often is said that what a host tells of is not queued.
const SAID: Duration = Duration::from_secs(600);

/// Hosts of which that is remembered.
const MOST_SAID: u64 = 1_000;

/// Bytes of a reason in the log.
const MOST_REASON: usize = 300;

/// Who says what was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Harbor,
    Distribution,
}

impl Sender {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Sender::Harbor => "harbor",
            Sender::Distribution => "distribution",
        }
    }
}

/// Who may say what was pushed.
pub(crate) struct EventSenders {
    harbor: Option<AcceptedTexts>,
    distribution: Option<AcceptedTexts>,
    said: Cache<String, ()>,
}

/// What became of the events of one body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) queued: usize,
    pub(crate) known: usize,
    pub(crate) refused: usize,
    pub(crate) ignored: usize,
}

impl EventSenders {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// With the file and the reason.
    pub(crate) fn open(settings: &settings::Events) -> Result<EventSenders, (std::path::PathBuf, String)> {
        let open = |path: &Path| AcceptedTexts::open(path).map_err(|reason| (path.to_path_buf(), reason));
        Ok(EventSenders {
            harbor: settings.harbor_auth.as_deref().map(open).transpose()?,
            distribution: settings.distribution_auth.as_deref().map(open).transpose()?,
            said: Cache::builder().max_capacity(MOST_SAID).time_to_live(SAID).build(),
        })
    }

    fn of(&self, sender: Sender) -> Option<&AcceptedTexts> {
        match sender {
            Sender::Harbor => self.harbor.as_ref(),
            Sender::Distribution => self.distribution.as_ref(),
        }
    }

    /// Reads the files again.
    pub(crate) fn reload(&self) {
        for texts in [&self.harbor, &self.distribution].into_iter().flatten() {
            match texts.reload() {
                Ok(true) => tracing::info!(?texts, "read again"),
                Ok(false) => {}
                Err(error) => tracing::error!(error, "what was accepted before still is"),
            }
        }
    }
}

impl Service {
    /// Lets a sender in.
    ///
    /// # Errors
    /// 404 where there is none by the settings, 401, and 429 for an address with many wrong texts.
    pub(crate) async fn admit_sender(
        &self,
        sender: Sender,
        authorization: Option<&HeaderValue>,
        peer: &Peer,
    ) -> Result<(), Problem> {
        let Some(texts) = self.events.of(sender) else {
            return Err(Problem::not_found(format!("`events.{}-auth` is not set", sender.name())));
        };
        let text = authorization.map_or(&[][..], HeaderValue::as_bytes);
        self.access.check_text(text, texts, peer).await
    }

    /// Queues what was pushed.
    ///
    /// # Errors
    /// 503 where the store is out of reach, or the queue is full: some may be queued then.
    pub(crate) async fn take_events(self: &Arc<Service>, sender: Sender, events: Vec<Event>) -> Result<Taken, Problem> {
        let count = |outcome: &'static str, number: usize| count(&self.metrics, sender, outcome, number);
        let mut taken = Taken::default();
        let mut pushes = Vec::new();
        for event in events {
            match event {
                Event::Push(push) if self.decider.admits(&push.reference) => pushes.push(push),
                Event::Push(push) => {
                    let why = "its registry or repository is not among those that the service may pull from";
                    self.say_refused(sender, push.reference.host.name(), why).await;
                    taken.refused += 1;
                }
                Event::Unnamed(why) => {
                    self.say_refused(sender, "", &why).await;
                    taken.refused += 1;
                }
                Event::OfScanner | Event::Other => taken.ignored += 1,
            }
        }
        count("refused", taken.refused);
        count("ignored", taken.ignored);
        if pushes.is_empty() {
            return Ok(taken);
        }
        let number = pushes.len();
        let submitted =
            tokio::time::timeout(LONGEST, self.with_store(move |service| service.submit_all(sender, &pushes)));
        let late = |_| Err(Problem::unavailable("the store did not answer in time; try again"));
        let submitted = submitted.await.unwrap_or_else(late).inspect_err(|_| count("failed", number))?;
        let full = submitted.iter().filter(|submitted| **submitted == Submitted::Full).count();
        taken.known = submitted.iter().filter(|submitted| matches!(submitted, Submitted::Done { .. })).count();
        taken.queued = number - full - taken.known;
        for (outcome, number) in [("queued", taken.queued), ("known", taken.known), ("failed", full)] {
            count(outcome, number);
        }
        match full {
            0 => Ok(taken),
            _ => {
                self.say_refused(sender, "queue", "too many images wait to be scanned").await;
                Err(Problem::unavailable("too many images wait to be scanned; try again"))
            }
        }
    }

    /// It blocks.
    fn submit_all(&self, sender: Sender, pushes: &[Push]) -> Result<Vec<Submitted>, StoreError> {
        let limits = self.settings.request_limits();
        // A registry is one client, and stands for all who push to it. What was pushed may be read although it could
        // not be a moment ago.
        let most = limits.queued_per_client.max(limits.queued / 2);
        let limits = RequestLimits { queued_per_client: most, retry_failed: -1, ..limits };
        let now = (self.clock)();
        let submit = |push: &Push| {
            let request = ScanRequest {
                reference: by_digest(&push.reference, &push.digest),
                digest: push.digest.clone(),
                class: RequestClass::Event,
                client: format!("{} events", sender.name()),
            };
            let not_before = if push.is_untagged { now.saturating_add(UNTAGGED) } else { 0 };
            tracing::debug!(image = request.reference, is_accessory = push.is_accessory, "pushed");
            self.store.scan_requests().submit_later(&request, &self.key, false, &limits, (not_before, now))
        };
        pushes.iter().map(submit).collect()
    }

    /// Says what is not queued, once in a while.
    async fn say_refused(&self, sender: Sender, host: &str, why: &str) {
        let key = format!("{} {host}", sender.name());
        if !self.events.said.contains_key(&key) {
            self.events.said.insert(key, ()).await;
            let why = tidy(why, MOST_REASON);
            // What is no name of a registry may be anything.
            let is_name = host.contains('.') && host.parse::<Host>().is_ok();
            let host = if is_name { host } else { "(not a name)" };
            tracing::warn!(sender = sender.name(), host, why, "a push is not queued; more like it are not logged");
        }
    }
}

/// Counts events by what became of them.
pub(crate) fn count(metrics: &Metrics, sender: Sender, outcome: &'static str, number: usize) {
    if number > 0 {
        let labels = EventLabels { source: sender.name(), outcome };
        metrics.events.get_or_create(&labels).inc_by(number as u64);
    }
}
