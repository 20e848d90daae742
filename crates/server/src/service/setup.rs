//! What a service is made of, and its life: it starts, listens until it is told to end, answers what is in progress and
//! gives back what it has claimed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use axum::Router;
use layersift_fleet::{Progress, Registries};
use layersift_format::{Cancellation, read_small_text};
use layersift_model::{FingerprintKey, LayerKey};
use layersift_report::Policy;
use layersift_scan::Analyzer;
use layersift_source::webhook::Webhook;
use layersift_store::{Seconds, Store, StoreError};
use tokio::sync::{Semaphore, watch};

use super::access::Access;
use super::attestations::{self, AttestationParts, Attestations};
use super::audit::{self, AuditSetupError, Keeper};
use super::decider::{Decider, DeciderParts};
use super::events::EventSenders;
use super::harbor::Adapter;
use super::harbor::catch_up::CatchUp;
use super::harbor::driver::Driver;
use super::harbor::logins::ScanLogins;
use super::harbor::steps::Steps;
use super::lookup::report_memory;
use super::messenger::{self, Messenger};
use super::models::Models;
use super::notices::Notices;
use super::prompts::PromptGate;
use super::resolver::Resolver;
use super::scans::Scanner;
use super::upkeep::{ReadPolicy, Upkeep};
use super::{CALLS, CLUSTER_WAITING, LARGE_CALLS, OTHER_WAITING, STREAMS, Service};
use crate::admission::{AdmissionPolicy, InvalidTable};
use crate::http::answers::AnswerMemory;
use crate::http::body::BodyMemory;
use crate::http::connections::Connections;
use crate::http::limits::Rates;
use crate::http::listener::Listener;
use crate::http::metrics::Metrics;
use crate::http::tls::{ClientCertificates, Tls, TlsError, make_self_signed};
use crate::routes;
use crate::settings::Settings;

/// Bytes of a secret path at least, and what it may have.
const LEAST_PATH: usize = 32;

/// File descriptors besides those of connections: of the store, registries, layers.
const OTHER_FILES: u64 = 256;

/// Connections of probes, and of a socket.
const FEW: usize = 64;

/// As long as it takes.
const LONG: std::time::Duration = std::time::Duration::from_secs(3_600);

/// What a service is made of.
pub struct Parts {
    /// The settings, which were checked.
    pub settings: Settings,
    /// The store for answers: it should not wait long for a server that is out of reach.
    pub store: Store,
    /// The store for scans: it should wait for a server that restarts.
    pub scan_store: Store,
    /// Scans, and makes fingerprints with the key of the operator.
    pub analyzer: Analyzer,
    /// Scans prompts, with limits for them; `None` if they are not checked.
    pub prompt_analyzer: Option<Analyzer>,
    /// Keys of fingerprints that were used before.
    pub old_keys: Vec<FingerprintKey>,
    /// Clients of registries for scans, with the service's own logins.
    pub registries: Registries,
    /// The same for answers, until `answering` is cancelled.
    pub answer_registries: Registries,
    /// Cancelled by the service when the last request was answered. The store for answers waits no longer then, either.
    pub answering: Cancellation,
    /// Reads which findings fail; called again and again.
    pub findings: Box<dyn Fn() -> Result<Policy, String> + Send + Sync>,
    /// Seconds since 1970.
    pub clock: fn() -> Seconds,
    /// Variables of the environment, such as the login of the bucket for copies of the log of decisions.
    pub variable: fn(&str) -> Option<String>,
}

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Fingerprints under the built-in key can be computed by anyone.
    #[error(
        "the built-in fingerprint key is public, and the service passes fingerprints on: set `fingerprint-key` to a \
         file with random bytes, such as from: head -c 32 /dev/urandom > FILE"
    )]
    PublicKey,
    /// A certificate or a key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address that cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address, or the path of the socket.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The secret path.
    #[error("{path}: {reason}", path = path.display())]
    SecretPath {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What senders of events have in `Authorization`.
    #[error("{path}: {reason}", path = path.display())]
    Events {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A key whose attestations count.
    #[error("[attestations] {path}: {reason}", path = path.display())]
    Attestations {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The API of a model.
    #[error("[prompts.upstreams] {0}")]
    Upstreams(String),
    /// Where messages go.
    #[error("invalid [notify]: {0}")]
    Notify(String),
    /// The policy.
    #[error("{0}")]
    Policy(String),
    /// What the scanner of a Harbor needs.
    #[error("[harbor] {0}")]
    Harbor(String),
    /// The admission rules.
    #[error("invalid [admission]: {0}")]
    Admission(#[from] InvalidTable),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log of decisions.
    #[error(transparent)]
    Audit(#[from] AuditSetupError),
    /// The system has no threads left.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

/// What listens, and what it answers.
struct Bound {
    name: &'static str,
    listener: Listener,
    router: Router,
}

impl Parts {
    /// Serves until `ending` is cancelled. `listening` is told the addresses once requests are answered.
    ///
    /// # Errors
    /// When the service cannot start.
    pub fn serve(self, ending: Cancellation, listening: impl FnOnce(&[String])) -> Result<(), SetupError> {
        let Parts {
            settings,
            store,
            scan_store,
            analyzer,
            prompt_analyzer,
            old_keys,
            registries,
            answer_registries,
            answering,
            findings,
            clock,
            variable,
        } = self;
        refuse_public_key(analyzer.fingerprint_key())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(SetupError::Runtime)?;
        let (store, scan_store) = (Arc::new(store), Arc::new(scan_store));
        let harbor = Adapter::open(&settings, &ending)?;
        let registries = match &harbor {
            Some(harbor) => {
                let logins = ScanLogins::new(Arc::clone(&scan_store), Arc::clone(&harbor.key), clock);
                registries.with_logins(Arc::new(logins))
            }
            None => registries,
        };
        let (analyzer, registries) = (Arc::new(analyzer), Arc::new(registries));
        let key = LayerKey::new(analyzer.layer_key());
        store.service().serve_key(&key, clock())?;
        let webhook = webhook(&settings)?;
        let metrics = Arc::new(Metrics::new());
        let (audit, keeper) = audit::Opening {
            settings: &settings.audit,
            store: &store,
            metrics: &metrics.audit,
            analyzer: &analyzer,
            clock,
            variable: &variable,
        }
        .open()?;
        let (read, policy) = policies(&settings, &*findings)?;
        let answer_registries = Arc::new(answer_registries);
        let attestations = Attestations::open(AttestationParts {
            registries: Arc::clone(&answer_registries),
            settings: settings.attestations.clone(),
            ruleset: analyzer.ruleset().into(),
            ending: answering.clone(),
            metrics: Arc::clone(&metrics),
            clock,
        })
        .map_err(attestation_key)?;
        tracing::info!(
            digest = policy.digest(),
            file = read.digest.as_ref().map(tracing::field::display),
            "policy read"
        );
        let report_memory = report_memory();
        let decider = Decider::new(DeciderParts {
            report_memory: report_memory.clone(),
            store: Arc::clone(&store),
            key: key.clone(),
            policy,
            allow: settings.registries.allow.clone(),
            resolver: Resolver::new(answer_registries, answering.clone()),
            attestations,
            limits: settings.request_limits(),
            metrics: Arc::clone(&metrics),
            clock,
        });
        let service = Arc::new(Service {
            events: event_senders(&settings)?,
            access: Access::new(Arc::clone(&store), settings.clients.api.clone(), clock),
            harbor,
            prompts: prompt_analyzer.map(|analyzer| PromptGate::new(analyzer, settings.prompts.as_ref(), clock)),
            models: models(&settings)?,
            audit,
            connections: connections(&settings),
            cluster_bodies: BodyMemory::new(settings.limits.body_memory / 4 * 3),
            other_bodies: BodyMemory::new(settings.limits.body_memory / 4),
            cluster_waiting: Semaphore::new(CLUSTER_WAITING),
            other_waiting: Semaphore::new(OTHER_WAITING),
            streams: Arc::new(Semaphore::new(STREAMS)),
            rates: Rates::new(settings.limits.requests_per_second),
            fingerprint_keys: [vec![analyzer.fingerprint_key().clone()], old_keys].concat(),
            calls: Arc::new(Semaphore::new(CALLS)),
            large_calls: Arc::new(Semaphore::new(LARGE_CALLS)),
            report_memory,
            answers: AnswerMemory::new(),
            store: Arc::clone(&store),
            key,
            decider,
            metrics: Arc::clone(&metrics),
            progress: Arc::new(Progress::default()),
            clock,
            ending: ending.clone(),
            settings,
        });
        let (bound, tls) = runtime.block_on(async { bind(&service) })?;
        let addresses: Vec<String> = bound.iter().map(Bound::to_string).collect();
        let scanner = Scanner {
            store: Arc::clone(&scan_store),
            analyzer,
            registries,
            allow: service.settings.registries.allow.clone(),
            metrics,
            progress: Arc::clone(&service.progress),
            clock,
            with_referrers: service.settings.scans.referrers,
            timeout: service.settings.scans.timeout(),
            retry_failed: service.settings.scans.retry_failed(),
            ending: ending.clone(),
            notices: Notices {
                findings: webhook.is_some().then_some(service.settings.notify.findings),
                service: Arc::clone(&service),
            },
        };
        let messenger = webhook.map(|webhook| {
            tracing::info!(host = webhook.url.host(), "new findings are told");
            Messenger { service: Arc::clone(&service), store: Arc::clone(&scan_store), webhook }
        });
        let upkeep = Upkeep { read_policy: read_policy(&service, &read, findings), service: Arc::clone(&service), tls };
        let scans = service.settings.scans.clone();
        let catch_up = match &service.harbor {
            Some(adapter) => CatchUp::open(&service, adapter, &scan_store, &scanner.registries)?,
            None => None,
        };
        let work = || {
            thread::scope(|scope| {
                scope.spawn(|| upkeep.run());
                scope.spawn(|| upkeep.prune());
                scope.spawn(|| messenger.as_ref().map(Messenger::run));
                scope.spawn(|| scanner.run(scans.at_once, scans.pulls));
                if let Some(adapter) = &service.harbor {
                    let driver = Driver::new(Steps {
                        service: &service,
                        adapter,
                        store: &scan_store,
                        registries: &scanner.registries,
                        analyzer: &scanner.analyzer,
                    });
                    scope.spawn(move || driver.run());
                }
                if let Some(catch_up) = &catch_up {
                    scope.spawn(|| catch_up.run());
                }
                let (end, is_ending) = watch::channel(false);
                let (ended, linger) = (ending.clone(), service.settings.listen.linger());
                scope.spawn(move || {
                    while !ended.wait(LONG) {}
                    thread::sleep(linger);
                    let _ = end.send(true);
                });
                listening(&addresses);
                runtime.block_on(serve_all(bound, &service, is_ending));
                if let Err(error) = service.note_sightings() {
                    tracing::error!(%error, "the last fingerprints of prompts are not kept");
                }
                answering.cancel();
                // Also where it ended by itself.
                ending.cancel();
            });
        };
        // Whatever may still decide has ended before the log is closed.
        Keeper::run(keeper, work);
        // What blocks is not dropped on a thread of the runtime.
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        Ok(())
    }
}

/// Checks what a start would check, without listening and without a store.
///
/// # Errors
/// As [`Parts::serve`].
pub fn check(
    settings: &Settings,
    key: &FingerprintKey,
    findings: &(dyn Fn() -> Result<Policy, String> + Send + Sync),
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), SetupError> {
    refuse_public_key(key)?;
    event_senders(settings)?;
    models(settings)?;
    webhook(settings)?;
    policies(settings, findings)?;
    attestations::check(&settings.attestations).map_err(attestation_key)?;
    Adapter::open(settings, &Cancellation::never())?;
    audit::check(&settings.audit, variable)?;
    let Settings { tls, clients, .. } = settings;
    if let Some(path) = &clients.admission.secret_path {
        secret_path(path)?;
    }
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key)
        && (tls.self_signed.is_empty() || certificate.exists())
    {
        Tls::open(certificate, key, api_certificates(settings))?;
        Tls::open(certificate, key, admission_certificates(settings))?;
    }
    Ok(())
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.listener {
            Listener::Tcp(_, tls) => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                let address = self.listener.address().map(|address| address.to_string()).unwrap_or_default();
                write!(f, "{}: {scheme}://{address}", self.name)
            }
            Listener::Unix(_, file) => write!(f, "{}: unix://{}", self.name, file.path().display()),
        }
    }
}

fn refuse_public_key(key: &FingerprintKey) -> Result<(), SetupError> {
    if key.id() == FingerprintKey::default().id() { Err(SetupError::PublicKey) } else { Ok(()) }
}

fn event_senders(settings: &Settings) -> Result<EventSenders, SetupError> {
    EventSenders::open(&settings.events).map_err(|(path, reason)| SetupError::Events { path, reason })
}

fn models(settings: &Settings) -> Result<Models, SetupError> {
    let upstreams = settings.prompts.as_ref().map(|prompts| prompts.upstreams.clone()).unwrap_or_default();
    Models::open(&upstreams).map_err(SetupError::Upstreams)
}

fn attestation_key((path, reason): (PathBuf, String)) -> SetupError {
    SetupError::Attestations { path, reason }
}

/// Where messages go, if anywhere. The key that they are signed with has to be good.
fn webhook(settings: &Settings) -> Result<Option<Webhook>, SetupError> {
    if let Some(path) = &settings.notify.secret {
        messenger::key(path).map_err(|why| SetupError::Notify(format!("{}: {why}", path.display())))?;
    }
    let url = settings.notify.url().map_err(SetupError::Notify)?;
    Ok(url.map(|url| Webhook { url, ca: settings.notify.ca.clone() }))
}

/// Which findings fail, and what happens to images because of that.
fn policies(
    settings: &Settings,
    findings: &(dyn Fn() -> Result<Policy, String> + Send + Sync),
) -> Result<(Policy, AdmissionPolicy), SetupError> {
    let findings = findings().map_err(SetupError::Policy)?;
    let admission = settings.admission.policy(&findings)?;
    Ok((findings, admission))
}

/// Reads the policy again: an exception may have been added, or have expired.
fn read_policy(
    service: &Arc<Service>,
    first: &Policy,
    findings: Box<dyn Fn() -> Result<Policy, String> + Send + Sync>,
) -> ReadPolicy {
    let table = service.settings.admission.clone();
    let clock = service.clock;
    // Exceptions end with a day.
    let version = move |policy: &Policy| (policy.digest.clone(), clock().div_euclid(86_400));
    let last = Mutex::new(Some(version(first)));
    Box::new(move || {
        let new = findings()?;
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let new_version = Some(version(&new));
        if *last == new_version {
            return Ok(None);
        }
        let policy = table.policy(&new).map_err(|error| error.to_string())?;
        *last = new_version;
        Ok(Some(policy))
    })
}

fn api_certificates(settings: &Settings) -> ClientCertificates {
    match &settings.clients.api {
        clients if clients.require_certificate => {
            clients.ca.clone().map_or(ClientCertificates::None, ClientCertificates::Required)
        }
        clients => clients.ca.clone().map_or(ClientCertificates::None, ClientCertificates::Optional),
    }
}

fn admission_certificates(settings: &Settings) -> ClientCertificates {
    settings.clients.admission.ca.clone().map_or(ClientCertificates::None, ClientCertificates::Required)
}

/// The certificates that are looked at again and again, by the name of what listens with them.
type NamedTls = Vec<(&'static str, Arc<Tls>)>;

fn bind(service: &Arc<Service>) -> Result<(Vec<Bound>, NamedTls), SetupError> {
    let settings = &service.settings;
    let listen = &settings.listen;
    if let (Some(certificate), Some(key), false) =
        (&settings.tls.certificate, &settings.tls.key, settings.tls.self_signed.is_empty())
    {
        make_self_signed(certificate, key, &settings.tls.self_signed)?;
    }
    let open = |clients: ClientCertificates| match (&settings.tls.certificate, &settings.tls.key) {
        (Some(certificate), Some(key)) => Ok::<_, TlsError>(Some(Arc::new(Tls::open(certificate, key, clients)?))),
        _ => Ok(None),
    };
    let (mut bound, mut named) = (Vec::new(), Vec::new());
    let failed = |address: String| move |source| SetupError::Listen { address, source };
    if let Some(address) = listen.api {
        let tls = open(api_certificates(settings))?;
        named.extend(tls.clone().map(|tls| ("api", tls)));
        let listener = Listener::tcp(address, tls).map_err(failed(address.to_string()))?;
        bound.push(Bound { name: "api", listener, router: routes::api(service) });
    }
    if let Some(address) = listen.admission {
        let tls = open(admission_certificates(settings))?;
        named.extend(tls.clone().map(|tls| ("admission", tls)));
        let secret = settings.clients.admission.secret_path.as_deref().map(secret_path).transpose()?;
        let listener = Listener::tcp(address, tls).map_err(failed(address.to_string()))?;
        bound.push(Bound { name: "admission", listener, router: routes::admission(service, secret) });
    }
    if let Some(address) = listen.proxy {
        let tls = open(api_certificates(settings))?;
        named.extend(tls.clone().map(|tls| ("proxy", tls)));
        let listener = Listener::tcp(address, tls).map_err(failed(address.to_string()))?;
        bound.push(Bound { name: "proxy", listener, router: routes::proxy(service) });
    }
    if let Some(address) = listen.health {
        let listener = Listener::tcp(address, None).map_err(failed(address.to_string()))?;
        bound.push(Bound { name: "health", listener, router: routes::health(service) });
    }
    if let Some(path) = &listen.socket {
        let listener = Listener::unix(path).map_err(failed(path.display().to_string()))?;
        bound.push(Bound { name: "socket", listener, router: routes::socket(service) });
    }
    Ok((bound, named))
}

/// The secret segment of paths, from its file.
fn secret_path(path: &Path) -> Result<String, SetupError> {
    let invalid = |reason: String| SetupError::SecretPath { path: path.into(), reason };
    let text = read_small_text(path).map_err(|error| invalid(error.to_string()))?;
    let text = text.trim();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if text.len() < LEAST_PATH || !is_plain {
        let expected = format!("expected at least {LEAST_PATH} letters, digits, - or _");
        return Err(invalid(format!("a secret path that can be guessed: {expected}")));
    }
    Ok(text.to_string())
}

/// A pool for what listens under each name. Probes have one of their own, so that no client makes a replica look dead.
fn connections(settings: &Settings) -> Vec<(&'static str, Arc<Connections>)> {
    let wanted = settings.limits.connections.max(1);
    // A connection of the proxy has one to a model.
    let pools = if settings.listen.proxy.is_some() { 4 } else { 2 };
    let most = most_connections(pools * wanted + 2 * FEW) / pools;
    let many = most.saturating_sub(FEW).clamp(1, wanted);
    let pools = [("api", many), ("admission", many), ("proxy", many), ("health", FEW), ("socket", FEW)];
    pools.into_iter().map(|(name, most)| (name, Connections::new(most))).collect()
}

/// As many connections as there may be, and as the system has file descriptors for.
fn most_connections(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = wanted as u64 + OTHER_FILES;
    if current.is_some_and(|current| current < needed) {
        let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum });
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX).max(16);
    if most < wanted {
        tracing::warn!(wanted, most, "fewer connections than set: the limit of open files is low");
    }
    wanted.min(most)
}

async fn serve_all(bound: Vec<Bound>, service: &Arc<Service>, ending: watch::Receiver<bool>) {
    let mut all = tokio::task::JoinSet::new();
    for Bound { name, listener, router } in bound {
        let pool = service.connections.iter().find(|(of, _)| *of == name);
        let pool = pool.map_or_else(|| Connections::new(FEW), |(_, pool)| Arc::clone(pool));
        all.spawn(listener.serve(router, pool, ending.clone()));
    }
    while all.join_next().await.is_some() {}
}
