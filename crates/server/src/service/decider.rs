//! May this image in, for this place, by this policy? The one function behind every envelope. It reads stored reports,
//! and never an image: what is not known yet is queued, once, and answered as such.
//!
//! Decisions about known digests are kept for seconds, and for minutes while the store is out of reach: an image that
//! was let in before its database restarted is still let in.

mod attested;
mod looking;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use layersift_model::{Digest, LayerKey};
use layersift_scan::MemoryBudget;
use layersift_source::registry::Reference;
use layersift_store::{AskedImage, RequestClass, RequestLimits, ScanRequest, Seconds, Store, StoreError, Submitted};
use moka::future::Cache;
use tokio::time::Instant;

use super::attestations::Attestations;
use super::lookup::RememberedJudgements;
use super::resolver::{Resolved, Resolver};
use crate::admission::{AdmissionPolicy, AttestationUse, Decision, Effect, Outcome, Reason, Terms, Unreadable};
use crate::http::metrics::{DecisionLabels, Metrics, label};
use crate::settings::AllowList;

/// How long a decision by reports is kept, and how long it stands in while the store is out of reach.
const FRESH: Duration = Duration::from_secs(5);
const STALE: Duration = Duration::from_secs(600);

/// How long the store is waited for where there is a decision that can stand in, and how long it is not asked again
/// then.
const STALL: Duration = Duration::from_millis(500);
const OUT: Duration = Duration::from_secs(1);

/// How long it is kept that nothing is known: somebody waits for that to change.
const UNKNOWN: Duration = Duration::from_secs(1);

/// Threads that hand in requests for scans at a time.
const SUBMITS: usize = 4;

/// Decisions that are kept.
const MOST: u64 = 20_000;

/// Images that were asked about, until that is noted.
const MOST_ASKED: usize = 20_000;

/// Seconds after which a report that is missing although its image was scanned counts as too large to be stored.
const MISSING: Seconds = 60;

/// The reference of an image, and how it is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The reference, which may be any text.
    pub(crate) image: String,
    /// The digest that the answer has to be for.
    pub(crate) digest: Option<Digest>,
    /// The namespace that it is for.
    pub(crate) namespace: Option<String>,
    /// Registries that the image may be pulled from instead, by host.
    pub(crate) mirrors: Vec<String>,
    /// Who asks.
    pub(crate) client: String,
    /// Whether it is to be scanned if nothing is known.
    pub(crate) may_queue: bool,
    /// Until when there has to be an answer.
    pub(crate) until: Instant,
}

/// A decision, and what else an envelope has to know.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) decision: Decision,
    /// Whether its rule only warns.
    pub(crate) is_audit: bool,
    /// Whether nothing could be decided because the store is out of reach.
    pub(crate) is_outage: bool,
}

/// Why nothing could be decided by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    /// It is out of reach.
    OutOfReach,
    /// It may have a report that fails, and there was no time to read it.
    Late,
}

/// Decides.
pub(crate) struct Decider {
    store: Arc<Store>,
    key: LayerKey,
    policy: RwLock<Arc<AdmissionPolicy>>,
    allow: AllowList,
    resolver: Resolver,
    attestations: Attestations,
    limits: RequestLimits,
    fresh: Cache<CacheKey, Arc<Looked>>,
    stale: Cache<CacheKey, Arc<Looked>>,
    /// What attestations decided, for when the store is out of reach, and whether a stored report fails all the same.
    attested: Cache<CacheKey, Decision>,
    failing: Cache<CacheKey, Option<Digest>>,
    asked: Mutex<HashMap<String, AskedImage>>,
    /// Until when the store counts as out of reach.
    out_until: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
    clock: fn() -> Seconds,
    /// Threads that look into the store at a time, and threads that hand in requests: they do not wait for each other.
    calls: Arc<tokio::sync::Semaphore>,
    submits: Arc<tokio::sync::Semaphore>,
    /// Threads that read large reports at a time, their memory, and what they came to.
    large_calls: Arc<tokio::sync::Semaphore>,
    report_memory: MemoryBudget,
    remembered: Arc<RememberedJudgements>,
    /// Clients whose requests were too many a moment ago.
    full: Cache<String, ()>,
}

/// A digest, the policy, and the rule of it that the digest is judged by.
type CacheKey = (Digest, u64, usize);

/// What came of looking into the store.
#[derive(Debug)]
enum Looked {
    /// A decision by reports, about no image in particular.
    Decided(Decision),
    /// There is nothing, or nothing that counts any more: with the reason, if it is not that.
    Nothing(Option<Box<Decision>>),
    /// The store failed.
    Failed(String),
}

/// How long what was found is kept.
struct Keeping;

impl moka::Expiry<CacheKey, Arc<Looked>> for Keeping {
    fn expire_after_create(&self, _: &CacheKey, looked: &Arc<Looked>, _: std::time::Instant) -> Option<Duration> {
        Some(match **looked {
            Looked::Decided(_) => FRESH,
            Looked::Nothing(_) | Looked::Failed(_) => UNKNOWN,
        })
    }
}

/// What a decider is made of.
pub(crate) struct DeciderParts {
    pub(crate) store: Arc<Store>,
    pub(crate) key: LayerKey,
    pub(crate) policy: AdmissionPolicy,
    pub(crate) allow: AllowList,
    pub(crate) resolver: Resolver,
    pub(crate) attestations: Attestations,
    pub(crate) limits: RequestLimits,
    pub(crate) metrics: Arc<Metrics>,
    /// The memory for reports that are read.
    pub(crate) report_memory: MemoryBudget,
    pub(crate) clock: fn() -> Seconds,
}

impl Decider {
    pub(crate) fn new(parts: DeciderParts) -> Decider {
        let DeciderParts { store, key, policy, allow, resolver, attestations, limits, metrics, report_memory, clock } =
            parts;
        Decider {
            store,
            key,
            policy: RwLock::new(Arc::new(policy)),
            allow,
            resolver,
            attestations,
            limits,
            fresh: Cache::builder().max_capacity(MOST).expire_after(Keeping).build(),
            stale: Cache::builder().max_capacity(MOST).time_to_live(STALE).build(),
            attested: Cache::builder().max_capacity(MOST).time_to_live(STALE).build(),
            failing: Cache::builder().max_capacity(MOST).time_to_live(FRESH).build(),
            asked: Mutex::default(),
            out_until: Mutex::default(),
            metrics,
            clock,
            calls: Arc::new(tokio::sync::Semaphore::new(super::CALLS)),
            submits: Arc::new(tokio::sync::Semaphore::new(SUBMITS)),
            large_calls: Arc::new(tokio::sync::Semaphore::new(super::LARGE_CALLS)),
            report_memory,
            remembered: Arc::default(),
            full: Cache::builder().max_capacity(MOST).time_to_live(UNKNOWN).build(),
        }
    }

    /// The policy, which stays the same for one request.
    pub(crate) fn policy(&self) -> Arc<AdmissionPolicy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides by another policy from now on.
    pub(crate) fn set_policy(&self, policy: AdmissionPolicy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
        self.fresh.invalidate_all();
        self.stale.invalidate_all();
        self.remembered.clear();
    }

    /// What large reports came to.
    pub(crate) fn remembered(&self) -> &RememberedJudgements {
        &self.remembered
    }

    /// Whether the service may pull an image.
    pub(crate) fn admits(&self, reference: &Reference) -> bool {
        self.allow.admits(reference)
    }

    /// What a reference names; `None` where that may be known a moment later.
    pub(crate) async fn resolve(&self, reference: &Reference) -> Option<Resolved> {
        match &reference.digest {
            Some(digest) => Some(Ok(digest.clone())),
            None => self.resolver.resolve(reference).await,
        }
    }

    /// Decides about an image.
    pub(crate) async fn decide(&self, policy: &AdmissionPolicy, asked: &Asked) -> Judged {
        let parsed = asked.image.parse::<Reference>();
        let names = parsed.as_ref().map(names).unwrap_or_else(|_| vec![asked.image.clone()]);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let terms = policy.terms(&names, asked.namespace.as_deref());
        let mut outage = None;
        let mut decision = match &parsed {
            Ok(reference) => self.decide_reference((policy, terms), reference, asked, &mut outage).await,
            Err(error) => {
                let refused = Outcome::Unreadable(Unreadable::Refused);
                Decision::without_report(&asked.image, None, refused, &error.to_string())
            }
        };
        let is_by_digest = parsed.is_ok_and(|reference| reference.digest.is_some());
        if decision.basis.is_some() || decision.effect != Effect::Allow {
            terms.apply(&mut decision, is_by_digest);
        }
        if outage == Some(Outage::Late) {
            // Whoever makes an image could make its reports large.
            decision.effect = decision.effect.max(Effect::Wait);
        }
        if decision.effect == Effect::Wait {
            decision.retry_after.get_or_insert(1);
        }
        let labels = DecisionLabels { outcome: decision.outcome.label(), effect: decision.effect.name() };
        self.metrics.decisions.get_or_create(&labels).inc();
        Judged { decision, is_audit: terms.is_audit, is_outage: outage.is_some() }
    }

    async fn decide_reference(
        &self,
        (policy, terms): (&AdmissionPolicy, &Terms),
        reference: &Reference,
        asked: &Asked,
        outage: &mut Option<Outage>,
    ) -> Decision {
        let without = |digest: Option<Digest>, outcome: Outcome, why: &str| {
            Decision::without_report(&asked.image, digest, outcome, why)
        };
        let pulled = self.pulled(reference, &asked.mirrors);
        let digest = match (&reference.digest, &asked.digest) {
            (Some(named), Some(wanted)) if named != wanted => {
                let why = "the reference has another digest than the one that was asked for";
                return without(None, Outcome::Unreadable(Unreadable::Refused), why);
            }
            (Some(digest), _) | (None, Some(digest)) => digest.clone(),
            (None, None) => {
                let Some(pulled) = &pulled else { return without(None, refused(), &not_allowed(reference)) };
                match tokio::time::timeout_at(asked.until, self.resolver.resolve(pulled)).await {
                    Ok(Some(Ok(digest))) => digest,
                    Ok(Some(Err((why, text)))) => return without(None, Outcome::Unreadable(why), &text),
                    Ok(None) => return without(None, Outcome::Unknown, "its registry is being asked for other images"),
                    Err(_) => return without(None, Outcome::Unknown, "its registry did not answer in time"),
                }
            }
        };
        if policy.is_allowed(&digest) {
            let why = "the operator lets this digest in";
            let reasons = vec![Reason::of_words("allowed-digests", why)];
            return Decision { effect: Effect::Allow, reasons, ..without(Some(digest), Outcome::Pass, why) };
        }
        let looked = match tokio::time::timeout_at(asked.until, self.looked(&digest, terms, policy)).await {
            Ok(looked) => looked,
            Err(_) => {
                *outage = Some(Outage::Late);
                return without(Some(digest), Outcome::Unknown, "what the store knows could not be read in time");
            }
        };
        match &*looked {
            Looked::Decided(decision) => {
                let is_outdated = decision.basis.as_ref().is_some_and(|basis| basis.is_outdated);
                self.note_asked(pulled.as_ref(), &digest, (!is_outdated).then(|| self.key.clone()));
                Decision { image: asked.image.clone(), ..decision.clone() }
            }
            Looked::Nothing(why) => {
                let base = why.as_deref().cloned();
                let Some(pulled) = pulled else { return without(Some(digest), refused(), &not_allowed(reference)) };
                let why_not = match self.attested((policy, terms), (&pulled, &digest), asked).await {
                    Ok(decision) => {
                        // What is noted without a key is scanned in the background.
                        let key = (terms.attestations == AttestationUse::Accept).then(|| self.key.clone());
                        self.note_asked(Some(&pulled), &digest, key);
                        return Decision { image: asked.image.clone(), ..decision };
                    }
                    Err(why_not) => why_not,
                };
                self.note_asked(Some(&pulled), &digest, None);
                let queued = self.queue(&pulled, &digest, asked).await;
                let decision = match base {
                    // It was known once: what is known is told, besides what happens now.
                    Some(base) if queued.outcome == Outcome::Unknown => {
                        Decision { image: asked.image.clone(), retry_after: queued.retry_after, ..base }
                    }
                    _ => queued,
                };
                match why_not {
                    Some(why) => decision.without_attestation(&why),
                    None => decision,
                }
            }
            Looked::Failed(error) => {
                if let Some(before) = self.attested_before(policy, terms, &digest).await {
                    self.count_found("before-outage");
                    return Decision { image: asked.image.clone(), ..before };
                }
                *outage = Some(Outage::OutOfReach);
                without(Some(digest), Outcome::Unknown, error)
            }
        }
    }

    /// Where an image is pulled from: as it is named, or from a mirror, wherever the service may.
    fn pulled(&self, reference: &Reference, mirrors: &[String]) -> Option<Reference> {
        if self.allow.admits(reference) {
            return Some(reference.clone());
        }
        let at = |mirror: &String| Some(Reference { host: mirror.parse().ok()?, ..reference.clone() });
        mirrors.iter().filter_map(at).find(|at| self.allow.admits(at))
    }

    /// Counts where a decision was found.
    fn count_found(&self, place: &str) {
        self.metrics.cache.get_or_create(&label("found", place)).inc();
    }

    /// What the store knows: as it was seconds ago, or now. While it is out of reach, as it was minutes ago.
    async fn looked(&self, digest: &Digest, terms: &Terms, policy: &AdmissionPolicy) -> Arc<Looked> {
        let key = (digest.clone(), policy.generation(), terms.number);
        if let Some(looked) = self.fresh.get(&key).await {
            self.count_found("memory");
            return looked;
        }
        let before = self.stale.get(&key).await;
        if let Some(before) = before.clone().filter(|_| self.is_store_out()) {
            self.count_found("before-outage");
            return before;
        }
        self.count_found("store");
        let patience = before.as_ref().map(|_| STALL);
        let looked = self.fresh.get_with(key.clone(), self.look(digest, terms, policy, patience)).await;
        match *looked {
            Looked::Decided(_) => self.stale.insert(key, Arc::clone(&looked)).await,
            Looked::Nothing(_) => self.stale.invalidate(&key).await,
            Looked::Failed(_) => {
                self.note_store_out();
                if let Some(before) = before {
                    self.count_found("before-outage");
                    return before;
                }
            }
        }
        looked
    }

    /// Whether the store failed a moment ago: what was known before is then answered at once.
    fn is_store_out(&self) -> bool {
        let out_until = *self.out_until.lock().unwrap_or_else(PoisonError::into_inner);
        out_until.is_some_and(|until| Instant::now() < until)
    }

    fn note_store_out(&self) {
        *self.out_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + OUT);
    }

    /// Has an image scanned, unless it is already waited for, and says what becomes of it.
    async fn queue(&self, pulled: &Reference, digest: &Digest, asked: &Asked) -> Decision {
        let without =
            |outcome: Outcome, why: &str| Decision::without_report(&asked.image, Some(digest.clone()), outcome, why);
        if !asked.may_queue {
            return without(Outcome::Unknown, "it was not scanned yet, and is not for a dry run");
        }
        if self.full.contains_key(&asked.client) {
            return answer_of(Submitted::Full, (self.clock)(), without);
        }
        let submitted = self.submit(pulled, digest, RequestClass::Admission, &asked.client, false);
        match tokio::time::timeout_at(asked.until, submitted).await {
            Ok(Ok(submitted)) => {
                if submitted == Submitted::Full {
                    self.full.insert(asked.client.clone(), ()).await;
                }
                answer_of(submitted, (self.clock)(), without)
            }
            Ok(Err(_)) => without(Outcome::Unknown, "it was not scanned yet, and the store cannot be reached"),
            Err(_) => without(Outcome::Unknown, "it was not scanned yet, and the store did not answer in time"),
        }
    }

    /// Hands in a request for a scan.
    pub(crate) async fn submit(
        &self,
        pulled: &Reference,
        digest: &Digest,
        class: RequestClass,
        client: &str,
        is_again: bool,
    ) -> Result<Submitted, StoreError> {
        let request =
            ScanRequest { reference: by_digest(pulled, digest), digest: digest.clone(), class, client: client.into() };
        let (store, key, limits, now) = (Arc::clone(&self.store), self.key.clone(), self.limits, (self.clock)());
        let Ok(turn) = Arc::clone(&self.submits).acquire_owned().await else { return Ok(Submitted::Full) };
        let submitted = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let submitted = store.scan_requests().submit(&request, &key, is_again, &limits, now)?;
            match submitted {
                // Its report was removed, or is too large to be stored.
                Submitted::Done { ended_at } if now.saturating_sub(ended_at) > MISSING => {
                    store.scan_requests().submit(&request, &key, true, &limits, now)
                }
                submitted => Ok(submitted),
            }
        });
        match submitted.await {
            Ok(submitted) => submitted.inspect_err(|error| tracing::error!(%error, "the store failed")),
            Err(_) => Ok(Submitted::Full),
        }
    }

    fn note_asked(&self, pulled: Option<&Reference>, digest: &Digest, key: Option<LayerKey>) {
        let Some(pulled) = pulled else { return };
        let reference = by_digest(pulled, digest);
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() < MOST_ASKED || asked.contains_key(&reference) {
            asked.insert(reference.clone(), AskedImage { reference, digest: digest.clone(), key });
        }
    }

    /// Takes images back that could not be noted.
    pub(crate) fn put_back_asked(&self, images: Vec<AskedImage>) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        for image in images.into_iter().take(MOST_ASKED) {
            asked.entry(image.reference.clone()).or_insert(image);
        }
    }

    /// The images that were asked about since the last time.
    pub(crate) fn take_asked(&self) -> Vec<AskedImage> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner)).into_values().collect()
    }
}

fn refused() -> Outcome {
    Outcome::Unreadable(Unreadable::Refused)
}

fn not_allowed(reference: &Reference) -> String {
    format!("its registry {} is not among the registries that the service may pull from", reference.host)
}

/// What is pulled: the digest alone, as a tag may move.
pub(crate) fn by_digest(pulled: &Reference, digest: &Digest) -> String {
    Reference { tag: None, digest: Some(digest.clone()), ..pulled.clone() }.to_string()
}

/// The names that rules know an image by: with and without its digest or its tag. A tag beside a digest says nothing:
/// the digest is what is pulled.
pub(crate) fn names(reference: &Reference) -> Vec<String> {
    let bare = format!("{}/{}", reference.host, reference.repository);
    let whole = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => format!("{bare}@{digest}"),
        (None, Some(tag)) => format!("{bare}:{tag}"),
        (None, None) => return vec![bare],
    };
    vec![whole, bare]
}

/// What became of a request for a scan, as a decision.
fn answer_of(submitted: Submitted, now: Seconds, without: impl Fn(Outcome, &str) -> Decision) -> Decision {
    match submitted {
        Submitted::Accepted(state) => {
            let why = match state {
                layersift_store::RequestState::Running => "it is being scanned",
                _ => "it waits to be scanned",
            };
            without(Outcome::Unknown, why)
        }
        Submitted::Done { ended_at } if now.saturating_sub(ended_at) <= 2 => {
            without(Outcome::Unknown, "it was just scanned")
        }
        Submitted::Done { .. } => without(
            Outcome::Unreadable(Unreadable::Failed),
            "it was scanned, and its report is not in the store: it may be too large",
        ),
        Submitted::Failed(failure, error) => without(Outcome::Unreadable(Unreadable::named(&failure)), &error),
        Submitted::Full => {
            let decision = without(Outcome::Unknown, "too many images wait to be scanned; try again later");
            Decision { retry_after: Some(10), ..decision }
        }
    }
}
