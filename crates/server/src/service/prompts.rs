//! The prompt gate of the service: which policy holds for whom, how many are checked at a time, and how much memory
//! their bodies may take.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt;
use layersift_prompts::{Client, Gate, Policy, Witness};
use layersift_scan::Analyzer;
use layersift_store::Seconds;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::sightings::Sightings;
use crate::http::answers::ChargedBytes;
use crate::http::problem::Problem;
use crate::settings::Prompts;

/// The memory for bodies of prompts, in KiB. A body takes a few times its size while it is read. What takes more,
/// values of JSON and texts whose disguises are undone, the gate itself bounds: to 64 and 96 MiB for all bodies that it
/// reads at a time.
const MEMORY: usize = 96 << 10;
const TIMES: usize = 5;

/// The memory for answers that are streamed, in KiB.
const STREAMS: usize = 96 << 10;

/// The bytes that are expected of a body that does not say its size.
const UNKNOWN: usize = 64 << 10;

/// How long a body may take to arrive.
const ARRIVING: Duration = Duration::from_secs(20);

/// How long a body waits for memory and for its turn. LiteLLM and the SDKs wait for minutes.
const TURN: Duration = Duration::from_secs(5);

/// Checks prompts.
pub(crate) struct PromptGate {
    shared: Arc<Shared>,
    /// One for each check at a time.
    turns: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    /// The memory for streams, in KiB.
    pub(crate) streams: Arc<Semaphore>,
    /// The largest body of any policy.
    most_bytes: usize,
    /// Fingerprints of secrets, if they are kept.
    pub(crate) sightings: Option<Arc<Sightings>>,
}

/// What checks need on their threads.
pub(crate) struct Shared {
    pub(crate) gate: Gate,
    settings: Prompts,
    policies: Vec<Policy>,
    usual: Policy,
}

/// A body that arrived, with the memory that it takes.
pub(crate) struct PromptBody {
    pub(crate) bytes: Vec<u8>,
    /// Whether it has more bytes than any policy allows; what is there is only its beginning.
    pub(crate) is_too_large: bool,
    memory: OwnedSemaphorePermit,
}

impl PromptBody {
    /// The body with other bytes in place of its own, such as its masked copy.
    pub(crate) fn replaced(self, bytes: Vec<u8>) -> PromptBody {
        PromptBody { bytes, ..self }
    }

    /// The bytes, to be sent: from now on they take their own size, until they were sent.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        let needed = self.bytes.len() / 1024 + 1;
        drop(self.memory.split(self.memory.num_permits().saturating_sub(needed)));
        ChargedBytes::of(self.bytes, self.memory)
    }
}

/// How a body is received.
pub(crate) struct Receiving {
    /// Its size, if it is known.
    pub(crate) length: Option<usize>,
    /// How long it may take to arrive.
    pub(crate) time: Duration,
    /// Whether it may become as large as any body may be, such as one that is decompressed.
    pub(crate) may_grow: bool,
}

impl Receiving {
    /// A body with these headers, received as a request is.
    pub(crate) fn of(headers: &HeaderMap) -> Receiving {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Receiving { length, time: ARRIVING, may_grow: false }
    }
}

impl PromptGate {
    /// A gate that scans with `analyzer`.
    pub(crate) fn new(analyzer: Analyzer, settings: Option<&Prompts>, clock: fn() -> Seconds) -> PromptGate {
        let settings = settings.cloned().unwrap_or_default();
        let policies: Vec<Policy> = settings.policies.iter().map(|policy| policy.policy()).collect();
        let usual = Policy::default();
        let largest = policies.iter().map(|policy| policy.max_bytes).max();
        let most_bytes = largest.unwrap_or_default().max(usual.max_bytes);
        let threads = match settings.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let sightings = (settings.fingerprints > 0).then(|| Arc::new(Sightings::new(settings.fingerprints, clock)));
        let gate = Gate::new(Arc::new(analyzer), settings.remembered);
        let gate = match &sightings {
            Some(sightings) => gate.told_to(Arc::clone(sightings) as Arc<dyn Witness>),
            None => gate,
        };
        PromptGate {
            shared: Arc::new(Shared { gate, settings, policies, usual }),
            turns: Arc::new(Semaphore::new(threads)),
            memory: Arc::new(Semaphore::new(MEMORY)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            most_bytes,
            sightings,
        }
    }

    /// Receives a body.
    ///
    /// # Errors
    /// 408 if it does not arrive, 429 if there is no memory for it, 400 if the connection fails.
    pub(crate) async fn receive(&self, body: Body, receiving: Receiving) -> Result<PromptBody, Problem> {
        let Receiving { length, time, may_grow } = receiving;
        let expected = if may_grow { self.most_bytes } else { length.unwrap_or(UNKNOWN) };
        let memory = self.memory(expected).await?;
        let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
        tokio::time::timeout(time, self.collect(body, memory)).await.map_err(late)?
    }

    /// Collects a body, for which there is some memory already, and takes more as it arrives.
    async fn collect(&self, mut body: Body, mut memory: OwnedSemaphorePermit) -> Result<PromptBody, Problem> {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Problem::invalid("the body did not arrive as a whole"))?;
            // Trailers are not forwarded.
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > self.most_bytes {
                return Ok(PromptBody { bytes: Vec::new(), is_too_large: true, memory });
            }
            let needed = share(bytes.len() + data.len());
            if needed > memory.num_permits() {
                let more = needed.max(2 * memory.num_permits()).min(share(self.most_bytes)) - memory.num_permits();
                memory.merge(self.permits(more).await?);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(PromptBody { bytes, is_too_large: false, memory })
    }

    /// Memory for a body of this size.
    async fn memory(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        self.permits(share(bytes.min(self.most_bytes))).await
    }

    async fn permits(&self, count: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let memory = tokio::time::timeout(TURN, Arc::clone(&self.memory).acquire_many_owned(count)).await;
        memory.map_err(|_| busy())?.map_err(|_| busy())
    }

    /// Checks on a thread that may block, once it is the body's turn.
    ///
    /// # Errors
    /// 429 if there is no turn in time.
    pub(crate) async fn check<T: Send + 'static>(
        &self,
        check: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        self.check_in(turn.map_err(|_| busy())?, check).await
    }

    /// The same without a bound on the wait: for streams, whose model waits as well.
    ///
    /// # Errors
    /// If the check fails.
    pub(crate) async fn check_in_time<T: Send + 'static>(
        &self,
        check: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.check_in(Arc::clone(&self.turns).acquire_owned().await, check).await
    }

    async fn check_in<T: Send + 'static>(
        &self,
        turn: Result<OwnedSemaphorePermit, AcquireError>,
        check: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = turn.map_err(|_| busy())?;
        let shared = Arc::clone(&self.shared);
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            check(&shared)
        });
        checked.await.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the check failed"))
    }

    /// The largest body that is received.
    pub(crate) fn most_bytes(&self) -> usize {
        self.most_bytes
    }
}

impl Shared {
    /// The client with these names, of which `name` keeps what is remembered apart, with its policy.
    pub(crate) fn client<'c>(&'c self, name: &'c str, names: &[String]) -> Client<'c> {
        let policies = self.settings.policies.iter().zip(&self.policies);
        let found = policies.into_iter().find(|(settings, _)| settings.holds_for(names));
        Client { name, policy: found.map_or(&self.usual, |(_, policy)| policy) }
    }
}

/// The memory for a body of this size, in KiB.
fn share(bytes: usize) -> usize {
    (bytes.saturating_mul(TIMES) / 1024 + 1).min(MEMORY)
}

fn busy() -> Problem {
    Problem::too_many("too many prompts are being checked; try again", 1)
}
