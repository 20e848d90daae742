//! The prompt gate of the service: which policy holds for whom, how many are checked at a time, and how much memory
//! their bodies may take.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use layersift_prompts::{Client, Gate, Policy, Witness};
use layersift_scan::Analyzer;
use layersift_store::Seconds;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::sightings::Sightings;
use crate::http::problem::Problem;
use crate::settings::Prompts;

/// The memory for bodies of prompts, in KiB. A body takes a few times its size while it is read.
const MEMORY: usize = 96 << 10;
const TIMES: usize = 4;

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
    _memory: OwnedSemaphorePermit,
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
            most_bytes,
            sightings,
        }
    }

    /// Receives a body.
    ///
    /// # Errors
    /// 408 if it does not arrive, 429 if there is no memory for it, 400 if the connection fails.
    pub(crate) async fn receive(&self, body: Body, length: Option<usize>) -> Result<PromptBody, Problem> {
        let expected = length.unwrap_or(self.most_bytes).min(self.most_bytes);
        let share = (expected.saturating_mul(TIMES) / 1024 + 1).min(MEMORY);
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let memory = tokio::time::timeout(TURN, Arc::clone(&self.memory).acquire_many_owned(share)).await;
        let memory = memory.map_err(|_| busy())?.map_err(|_| busy())?;
        let collected = tokio::time::timeout(ARRIVING, Limited::new(body, self.most_bytes).collect()).await;
        let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
        match collected.map_err(late)? {
            Ok(collected) => {
                Ok(PromptBody { bytes: collected.to_bytes().into(), is_too_large: false, _memory: memory })
            }
            Err(error) if error.is::<LengthLimitError>() => {
                Ok(PromptBody { bytes: Vec::new(), is_too_large: true, _memory: memory })
            }
            Err(_) => Err(Problem::invalid("the body did not arrive as a whole")),
        }
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
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
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

fn busy() -> Problem {
    Problem::too_many("too many prompts are being checked; try again", 1)
}
