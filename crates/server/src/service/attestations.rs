//! Attestations that are attached to images, read with the service's own logins and verified as `layersift verify`
//! does. What came of it is kept, so that a registry is asked once, however many ask, and not again for a while.

mod keys;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use layersift_attest::registry::{ReadLimits, collect_each};
use layersift_attest::{Attached, Demands, Refusal, verify_image};
use layersift_fleet::Registries;
use layersift_format::Cancellation;
use layersift_format::manifest::{image_digests, index_platforms};
use layersift_model::Digest;
use layersift_source::registry::{At, Reference, RegistryError, Repository};
use layersift_store::Seconds;
use moka::future::Cache;
use tokio::sync::Semaphore;

use self::keys::TrustedKeys;
use super::places::Places;
use crate::admission::AttestedImage;
use crate::http::metrics::{Metrics, label};
use crate::settings;

/// How long it is kept that an image is attested, and that it is not: somebody may wait for that to change.
const ACCEPTED: Duration = Duration::from_secs(300);
const NOT_TAKEN: Duration = Duration::from_secs(10);

/// Images that are kept.
const MOST: u64 = 10_000;

/// The longest that a registry may take for one image.
const LONGEST: Duration = Duration::from_secs(10);

/// Images that are read at a time, and those of one registry that are read or wait for that. A list of what is attached
/// to one may take some 10 MB.
const AT_ONCE: usize = 8;
const OF_ONE: usize = 32;

/// The most platforms of an index.
const MOST_PLATFORMS: usize = 32;

/// How much is read of what is attached to each manifest of an image, and of the bytes of all of them: attestations are
/// a few kilobytes.
const LIMITS: ReadLimits = ReadLimits { bundles: 200, manifests: 400, blob: 1 << 20, bytes: 8 << 20 };

/// The attestations of an image, or why they do not count.
pub(crate) type Read = Result<AttestedImage, NotTaken>;

/// Why attestations do not count.
#[derive(Clone, Debug)]
pub(crate) struct NotTaken {
    pub(crate) reason: String,
    /// Whether they were read, and refused.
    is_refused: bool,
}

/// Reads attestations.
pub(crate) struct Attestations {
    registries: Arc<Registries>,
    settings: settings::Attestations,
    /// The rule set of the service.
    ruleset: String,
    keys: TrustedKeys,
    known: Cache<Question, Arc<Read>>,
    places: Places,
    reading: Arc<Semaphore>,
    ending: Cancellation,
    metrics: Arc<Metrics>,
    clock: fn() -> Seconds,
}

/// An image in a repository, and the number of the keys that it is verified with.
type Question = (String, u64);

/// How long what was read is kept.
struct Keeping;

impl moka::Expiry<Question, Arc<Read>> for Keeping {
    fn expire_after_create(&self, _: &Question, read: &Arc<Read>, _: std::time::Instant) -> Option<Duration> {
        Some(if read.is_ok() { ACCEPTED } else { NOT_TAKEN })
    }
}

/// What attestations are read with.
pub(crate) struct AttestationParts {
    pub(crate) registries: Arc<Registries>,
    pub(crate) settings: settings::Attestations,
    pub(crate) ruleset: String,
    pub(crate) ending: Cancellation,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: fn() -> Seconds,
}

/// Reads the keys that the settings name, for a check.
pub(crate) fn check(settings: &settings::Attestations) -> Result<(), (PathBuf, String)> {
    TrustedKeys::open(&settings.keys).map(drop)
}

impl Attestations {
    /// # Errors
    /// For a key that cannot be read: with its file and the reason.
    pub(crate) fn open(parts: AttestationParts) -> Result<Attestations, (PathBuf, String)> {
        let AttestationParts { registries, settings, ruleset, ending, metrics, clock } = parts;
        Ok(Attestations {
            registries,
            keys: TrustedKeys::open(&settings.keys)?,
            settings,
            ruleset,
            known: Cache::builder().max_capacity(MOST).expire_after(Keeping).build(),
            places: Places::new(OF_ONE),
            reading: Arc::new(Semaphore::new(AT_ONCE)),
            ending,
            metrics,
            clock,
        })
    }

    /// Reads the keys again; whether they have changed.
    pub(crate) fn reload(&self) -> bool {
        match self.keys.reload() {
            Ok(has_changed) => {
                if has_changed {
                    tracing::info!("keys of attestations read again");
                }
                has_changed
            }
            Err((path, error)) => {
                tracing::error!(path = %path.display(), error, "the keys of attestations before stay in use");
                false
            }
        }
    }

    /// The rule set of the service.
    pub(crate) fn ruleset(&self) -> &str {
        &self.ruleset
    }

    /// The policies that an image may have been judged by.
    pub(crate) fn policies(&self, own: Option<&Digest>) -> Option<Vec<Option<Digest>>> {
        self.settings.policies(own)
    }

    /// Whether attestations that were read a while ago are too old by now.
    pub(crate) fn is_too_old(&self, image: &AttestedImage) -> bool {
        let age = i64::try_from(self.settings.max_age().as_secs()).unwrap_or(i64::MAX);
        let scanned = image.accepted.iter().map(|accepted| accepted.result.scanned_at.as_second()).min();
        scanned.is_none_or(|scanned| (self.clock)().saturating_sub(scanned) > age)
    }

    /// The attestations of the image `digest` in the repository of `pulled`; `None` where its registry is busy with
    /// others, or this process is ending. It goes on to read where its caller has no more time, for the next one.
    pub(crate) async fn of(&self, pulled: &Reference, digest: &Digest) -> Option<Arc<Read>> {
        let image = format!("{}/{}@{digest}", pulled.host, pulled.repository);
        let (number, keys) = self.keys.current();
        let question = (image.clone(), number);
        if let Some(known) = self.known.get(&question).await {
            return Some(known);
        }
        let place = self.places.place(&pulled.host, &image)?;
        let demands = Demands {
            keys,
            rulesets: self.settings.rulesets(&self.ruleset),
            most_age: SignedDuration::try_from(self.settings.max_age()).ok(),
            ..Demands::default()
        };
        let (registries, pulled, digest) = (Arc::clone(&self.registries), pulled.clone(), digest.clone());
        let (known, reading, ending) = (self.known.clone(), Arc::clone(&self.reading), self.ending.clone());
        let (metrics, clock) = (Arc::clone(&self.metrics), self.clock);
        let asked = tokio::spawn(async move {
            let _place = place;
            let read = async {
                let turn = reading.acquire_owned().await.ok();
                let read = tokio::task::spawn_blocking(move || {
                    let _turn = turn;
                    let read = read(&registries, (&pulled, &digest), &demands, (clock, &ending));
                    (!ending.is_cancelled()).then_some(read)
                });
                let read = read.await.ok().flatten().ok_or(())?;
                metrics.attestations.get_or_create(&label("result", result(&read))).inc();
                Ok::<_, ()>(Arc::new(read))
            };
            known.try_get_with(question, read).await
        });
        asked.await.ok()?.ok()
    }
}

fn result(read: &Read) -> &'static str {
    match read {
        Ok(_) => "accepted",
        Err(NotTaken { is_refused: true, .. }) => "refused",
        Err(_) => "failed",
    }
}

fn read(
    registries: &Registries,
    (pulled, digest): (&Reference, &Digest),
    demands: &Demands,
    (clock, ending): (fn() -> Seconds, &Cancellation),
) -> Read {
    let failed = |error: RegistryError| NotTaken { reason: error.to_string(), is_refused: false };
    let ending = ending.child_with_deadline(LONGEST);
    let registry = registries.of(&pulled.host).map_err(failed)?.with_cancellation(ending.clone());
    let found = registry.manifest(&pulled.repository, &At::Digest(digest.clone())).map_err(failed)?;
    let refused = |reason: &str| NotTaken { reason: reason.into(), is_refused: true };
    let Some(mut manifests) = image_digests(digest, &found.bytes) else {
        return Err(refused("the image is an index that is damaged, or that names other indexes"));
    };
    manifests.sort();
    manifests.dedup();
    if manifests.len() > MOST_PLATFORMS + 1 {
        return Err(refused("the index has more platforms than are looked at"));
    }
    let repository = Repository::new(&registry, &pulled.repository, &ending);
    let others = manifests.iter().filter(|manifest| *manifest != digest);
    let subjects: Vec<&Digest> = std::iter::once(digest).chain(others).collect();
    let evidence = collect_each(&repository, subjects.iter().copied(), &LIMITS).map_err(failed)?;
    let attached = |(subject, evidence): (&Digest, _)| Attached { subject: subject.clone(), evidence };
    let mut attached = subjects.into_iter().zip(evidence).map(attached);
    let Some(root) = attached.next() else { return Err(refused("nothing was read")) };
    let platforms: Vec<Attached> = attached.collect();
    let now = Timestamp::from_second(clock()).map_err(|_| refused("the clock of the service is wrong"))?;
    match verify_image(&root, &platforms, demands, now) {
        Ok(accepted) => Ok(AttestedImage { accepted, manifests, platforms: index_platforms(&found.bytes) }),
        Err(refusals) => Err(refused(&main_reason(&refusals))),
    }
}

/// The reason that says most, and how many others there are. An image that is not attested has one for each statement
/// of somebody else, or of another type.
fn main_reason(refusals: &[Refusal]) -> String {
    let telling = |refusal: &&Refusal| match refusal {
        Refusal::FailedLater(_) | Refusal::NotAllRead(_) => 0,
        Refusal::Nothing(_) => 3,
        Refusal::Key | Refusal::PredicateType { .. } | Refusal::Unreadable(_) => 2,
        _ => 1,
    };
    match refusals.iter().min_by_key(telling) {
        None => "no attestation is attached".into(),
        Some(refusal) if refusals.len() == 1 => refusal.full_text(),
        Some(refusal) => format!("{} ({} in all)", refusal.full_text(), refusals.len()),
    }
}
