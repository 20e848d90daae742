//! The look into the store. It has two parts: which reports there are is known in a moment, and what large ones say
//! takes seconds and much memory, so few are read at a time, and none of them for nobody.

use std::sync::Arc;
use std::time::Duration;

use layersift_format::Cancellation;
use layersift_model::{Digest, LayerKey};
use layersift_scan::MemoryBudget;
use layersift_store::{Seconds, Store};
use tokio::sync::Semaphore;

use super::{Decider, Looked};
use crate::admission::{AdmissionPolicy, Outcome, Terms};
use crate::service::lookup::{
    CancelOnDrop, Found, Judging, NotRead, Older, Reading, RememberedJudgements, failing_of, find, layers_of_bases,
};

/// What a look needs on its threads.
pub(super) struct Looking {
    store: Arc<Store>,
    key: LayerKey,
    memory: MemoryBudget,
    remembered: Arc<RememberedJudgements>,
    terms: Terms,
    generation: u64,
    /// Base images whose findings do not count.
    bases: Vec<Digest>,
    cancellation: Cancellation,
}

/// The first part of a look.
enum Begun {
    Ended(Looked),
    /// There are reports, and some of them are large.
    Large(Found, Arc<Vec<Vec<Digest>>>),
}

impl Looking {
    fn reading(&self) -> Reading<'_> {
        Reading { store: &self.store, memory: &self.memory, cancellation: &self.cancellation }
    }

    fn judging(&self, bases: Arc<Vec<Vec<Digest>>>) -> Judging<'_> {
        Judging { terms: &self.terms, generation: self.generation, bases, remembered: &self.remembered }
    }

    /// Looks which reports there are, and judges them unless they are large.
    fn begin(&self, digest: &Digest, now: Seconds) -> Result<Begun, NotRead> {
        let Some(found) = find(&self.store, digest, &self.key, Older::Served)? else {
            return Ok(Begun::Ended(Looked::Nothing(None)));
        };
        let bases = Arc::new(layers_of_bases(&self.store, &self.bases)?);
        if found.is_large(&self.judging(Arc::clone(&bases))) {
            return Ok(Begun::Large(found, bases));
        }
        self.judge(&found, bases, digest, now).map(Begun::Ended)
    }

    fn judge(
        &self,
        found: &Found,
        bases: Arc<Vec<Vec<Digest>>>,
        digest: &Digest,
        now: Seconds,
    ) -> Result<Looked, NotRead> {
        let Some(reports) = found.judged(&self.reading(), &self.judging(bases))? else {
            return Ok(Looked::Nothing(None));
        };
        let decision = reports.decide(("", digest), &self.terms, now);
        Ok(match decision.outcome {
            Outcome::Unknown => Looked::Nothing(Some(Box::new(decision))),
            _ => Looked::Decided(decision),
        })
    }

    /// One of `manifests` of which a stored report fails.
    fn failing(&self, manifests: &[Digest]) -> Result<Option<Digest>, NotRead> {
        let bases = Arc::new(layers_of_bases(&self.store, &self.bases)?);
        failing_of(&self.reading(), manifests, &self.key, &self.judging(bases))
    }
}

impl Decider {
    /// Looks into the store, whose answer is waited for no longer than `patience`: whether there is a report is known
    /// at once where it is within reach. What works for it ends with it.
    pub(super) async fn look(
        &self,
        digest: &Digest,
        terms: &Terms,
        policy: &AdmissionPolicy,
        patience: Option<Duration>,
    ) -> Arc<Looked> {
        let (looking, _end) = self.looking(terms, policy);
        let (own, of, now) = (Arc::clone(&looking), digest.clone(), (self.clock)());
        let beginning = on_thread(&self.calls, move || own.begin(&of, now));
        let begun = match patience {
            None => beginning.await,
            Some(patience) => match tokio::time::timeout(patience, beginning).await {
                Ok(begun) => begun,
                Err(_) => return Arc::new(Looked::Failed("the store did not answer in time".into())),
            },
        };
        let looked = match begun {
            Some(Begun::Large(found, bases)) => {
                let of = digest.clone();
                on_thread(&self.large_calls, move || looking.judge(&found, bases, &of, now)).await
            }
            Some(Begun::Ended(looked)) => Some(looked),
            None => None,
        };
        let looked = looked.unwrap_or_else(|| Looked::Failed("the store cannot be reached".into()));
        if let Looked::Decided(decision) = &looked
            && decision.outcome == Outcome::Incomplete
        {
            self.metrics.gaps.inc_by(decision.reasons_total);
        }
        Arc::new(looked)
    }

    /// A manifest of which a stored report fails; `None` where the store cannot be reached.
    pub(super) async fn look_for_failing(
        &self,
        manifests: &[Digest],
        terms: &Terms,
        policy: &AdmissionPolicy,
    ) -> Option<Option<Digest>> {
        let (looking, _end) = self.looking(terms, policy);
        let manifests = manifests.to_vec();
        on_thread(&self.large_calls, move || looking.failing(&manifests)).await
    }

    /// What a look needs, and what ends it.
    fn looking(&self, terms: &Terms, policy: &AdmissionPolicy) -> (Arc<Looking>, CancelOnDrop) {
        let cancellation = Cancellation::new();
        let looking = Looking {
            store: Arc::clone(&self.store),
            key: self.key.clone(),
            memory: self.report_memory.clone(),
            remembered: Arc::clone(&self.remembered),
            terms: terms.clone(),
            generation: policy.generation(),
            bases: policy.bases().to_vec(),
            cancellation: cancellation.clone(),
        };
        (Arc::new(looking), CancelOnDrop(cancellation))
    }
}

/// Works on a thread that may block, in turn; `None` where the store failed.
async fn on_thread<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, NotRead> + Send + 'static,
) -> Option<T> {
    let turn = Arc::clone(turns).acquire_owned().await.ok()?;
    let worked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    match worked.await {
        Ok(Ok(worked)) => Some(worked),
        Ok(Err(NotRead::Cancelled)) => None,
        Ok(Err(error)) => {
            tracing::error!(%error, "the store failed");
            None
        }
        Err(_) => None,
    }
}
