//! The tables of the settings, with their defaults.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use layersift_store::RequestLimits;
use serde::{Deserialize, Serialize};

use super::{AllowList, Attestations, Audit, Events, Harbor, Notify, Prompts};
use crate::admission::AdmissionTable;
use crate::span::Span;

/// All settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Settings {
    /// The store: a SQLite file, or a `postgres://` URL.
    pub store: Option<String>,
    /// The file with the key for fingerprints of secrets.
    pub fingerprint_key: Option<PathBuf>,
    /// Files with keys that were used before: secrets are looked for by their fingerprints, too.
    #[serde(default)]
    pub old_fingerprint_keys: Vec<PathBuf>,
    /// Files or directories of signatures, besides the built-in rules.
    #[serde(default)]
    pub rules: Vec<PathBuf>,
    /// The policy file: which findings fail, and which are allowed.
    pub policy: Option<PathBuf>,
    /// Where it listens.
    #[serde(default)]
    pub listen: Listen,
    /// Its certificate.
    #[serde(default)]
    pub tls: Tls,
    /// Who may ask.
    #[serde(default)]
    pub clients: Clients,
    /// What happens to an image.
    #[serde(default)]
    pub admission: AdmissionTable,
    /// Which attestations stand in for a scan.
    #[serde(default)]
    pub attestations: Attestations,
    /// Where images may be pulled from.
    #[serde(default)]
    pub registries: Registries,
    /// How images are scanned.
    #[serde(default)]
    pub scans: Scans,
    /// What one client may take.
    #[serde(default)]
    pub limits: Limits,
    /// How long things are kept.
    #[serde(default)]
    pub retention: Retention,
    /// A Harbor that has its images scanned.
    pub harbor: Option<Harbor>,
    /// How decisions are logged.
    #[serde(default)]
    pub audit: Audit,
    /// Who may say what was pushed.
    #[serde(default)]
    pub events: Events,
    /// Where new findings are told.
    #[serde(default)]
    pub notify: Notify,
    /// What clients may send to a model. Without it, prompts are not checked.
    pub prompts: Option<Prompts>,
}

/// Where the service listens. What has no address is not served.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Listen {
    /// `/api/v1`, and admission as plain JSON, for clients with a token or a certificate.
    pub api: Option<SocketAddr>,
    /// Admission for a cluster, whose API server has no token.
    pub admission: Option<SocketAddr>,
    /// Requests to models, which are checked and forwarded.
    pub proxy: Option<SocketAddr>,
    /// `/healthz`, `/readyz` and, by choice, `/metrics`: plain HTTP without authentication.
    pub health: Option<SocketAddr>,
    /// A Unix socket for admission on this machine. Only the user that the service runs as can open it.
    pub socket: Option<PathBuf>,
    /// Whether `/metrics` is answered beside `/healthz`.
    #[serde(default)]
    pub metrics: bool,
    /// How long requests are answered after the signal to end, while `/readyz` says that no more should come.
    linger: Option<Span>,
}

impl Listen {
    /// How long requests are answered after the signal to end.
    pub fn linger(&self) -> Duration {
        self.linger.map(Duration::from).unwrap_or_default()
    }
}

/// The certificate of the service. It is read again when its file changes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tls {
    /// A PEM file with the certificate and its chain.
    pub certificate: Option<PathBuf>,
    /// A PEM file with its key.
    pub key: Option<PathBuf>,
    /// The names in a certificate that the service makes itself where the two files do not exist.
    #[serde(default)]
    pub self_signed: Vec<String>,
}

/// Who may ask.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Clients {
    /// Who may ask at the address for admission.
    #[serde(default)]
    pub admission: AdmissionClients,
    /// Who may ask at the address of the API.
    #[serde(default)]
    pub api: ApiClients,
}

/// Who may ask at the address for admission: who has a certificate, or knows the path.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AdmissionClients {
    /// A PEM file with the authorities of client certificates, of which one is then required.
    pub ca: Option<PathBuf>,
    /// A file with the first segment of every path, at least 32 characters.
    pub secret_path: Option<PathBuf>,
}

/// Who may ask at the address of the API: who has a token, or a certificate.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ApiClients {
    /// A PEM file with the authorities of client certificates.
    pub ca: Option<PathBuf>,
    /// What a client with a certificate and no token may do.
    #[serde(default)]
    pub scopes: BTreeSet<Scope>,
    /// Whether a client needs a certificate besides its token.
    #[serde(default)]
    pub require_certificate: bool,
}

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Have images scanned.
    Scan,
    /// Read reports, and ask where else something is.
    Read,
    /// Ask whether images may run.
    Admit,
    /// Act as the scanner of a Harbor.
    Harbor,
    /// Have prompts checked.
    Prompt,
    /// See tokens and the queue.
    Admin,
}

impl Scope {
    /// All scopes.
    pub const ALL: [Scope; 6] = [Scope::Scan, Scope::Read, Scope::Admit, Scope::Harbor, Scope::Prompt, Scope::Admin];

    /// The scope as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Scan => "scan",
            Scope::Read => "read",
            Scope::Admit => "admit",
            Scope::Harbor => "harbor",
            Scope::Prompt => "prompt",
            Scope::Admin => "admin",
        }
    }

    /// The scope of that name.
    pub fn named(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// Where images may be pulled from, and how.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Registries {
    /// The registries, or parts of them, that images may be pulled from: nothing is pulled from any other.
    #[serde(default)]
    pub allow: AllowList,
    /// Registries that are asked by plain HTTP.
    #[serde(default)]
    pub plain_http: Vec<String>,
    /// PEM files with authorities that are trusted besides the system's.
    #[serde(default)]
    pub ca: Vec<PathBuf>,
    /// The most requests to a registry per second.
    pub max_requests: Option<std::num::NonZeroU32>,
}

/// How images are scanned.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Scans {
    /// Images at a time; 0 leaves them to other replicas.
    pub at_once: usize,
    /// Layers that this process pulls at a time; 0 leaves them to workers.
    pub pulls: usize,
    /// Threads that scan; 0 is one for each core.
    pub threads: usize,
    /// Whether new images are read with what refers to them, such as signatures and attestations.
    pub referrers: bool,
    /// The longest that one image may take.
    timeout: Span,
    /// The most images that wait.
    pub queued: u64,
    /// The most images of one client that wait.
    pub queued_per_client: u64,
    /// How long an image that could not be read is not tried again.
    retry_failed: Span,
}

impl Default for Scans {
    fn default() -> Scans {
        Scans {
            at_once: 4,
            pulls: 4,
            threads: 0,
            referrers: true,
            timeout: Span::of_seconds(3_600),
            queued: 10_000,
            queued_per_client: 1_000,
            retry_failed: Span::of_seconds(60),
        }
    }
}

impl Scans {
    /// The longest that one image may take.
    pub fn timeout(&self) -> Duration {
        self.timeout.into()
    }

    /// How many seconds an image that could not be read is not tried again.
    pub fn retry_failed(&self) -> i64 {
        self.retry_failed.seconds()
    }
}

/// What clients may take.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at a time, at each of the addresses for the API, for admission and for the proxy. Over it, the one
    /// that was idle longest is closed.
    pub connections: usize,
    /// Requests of one client per second, and as many at once.
    pub requests_per_second: std::num::NonZeroU32,
    /// Memory for bodies that are being received, in bytes.
    pub body_memory: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        const REQUESTS: std::num::NonZeroU32 = match std::num::NonZeroU32::new(1_000) {
            Some(number) => number,
            None => std::num::NonZeroU32::MIN,
        };
        Limits { connections: 1_000, requests_per_second: REQUESTS, body_memory: 32 << 20 }
    }
}

/// How long things are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Retention {
    reports: Span,
    requests: Span,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { reports: Span::of_seconds(90 * 86_400), requests: Span::of_seconds(7 * 86_400) }
    }
}

impl Retention {
    /// Seconds that the report of an image is kept which no tag leads to and nobody asks for.
    pub fn reports(&self) -> i64 {
        self.reports.seconds()
    }

    /// Seconds that requests are kept that have ended.
    pub fn requests(&self) -> i64 {
        self.requests.seconds()
    }
}

impl Settings {
    /// How long the queue may be.
    pub(crate) fn request_limits(&self) -> RequestLimits {
        RequestLimits {
            queued: self.scans.queued,
            queued_per_client: self.scans.queued_per_client,
            retry_failed: self.scans.retry_failed(),
        }
    }

    /// Whether the values go together.
    pub(super) fn check_together(&self) -> Result<(), String> {
        self.notify.check()?;
        self.attestations.check_together()?;
        let Settings { listen, tls, clients, events, .. } = self;
        if listen.api.is_none() && listen.admission.is_none() && listen.socket.is_none() && listen.proxy.is_none() {
            return Err("there is nothing to listen at: set `listen.api`, `listen.admission`, `listen.socket` or \
                        `listen.proxy`"
                .into());
        }
        if tls.certificate.is_some() != tls.key.is_some() {
            return Err("`tls.certificate` and `tls.key` go together: set both, or neither".into());
        }
        if !tls.self_signed.is_empty() && tls.certificate.is_none() {
            return Err("`tls.self-signed` needs `tls.certificate` and `tls.key`, the files to write".into());
        }
        if listen.api.is_none() && !events.is_empty() {
            return Err("`[events]` needs `listen.api`, where they are taken".into());
        }
        for (name, address) in [("api", listen.api), ("admission", listen.admission), ("proxy", listen.proxy)] {
            if tls.certificate.is_none() && address.is_some_and(|address| !address.ip().is_loopback()) {
                let why = "tokens must not cross a network unencrypted";
                return Err(format!("`listen.{name}` is not a loopback address and there is no `[tls]`: {why}"));
            }
        }
        if (clients.admission.ca.is_some() || clients.api.ca.is_some()) && tls.certificate.is_none() {
            return Err("client certificates need `[tls]`".into());
        }
        let AdmissionClients { ca, secret_path } = &clients.admission;
        if listen.admission.is_some() && ca.is_none() && secret_path.is_none() {
            return Err("`listen.admission` is open to anyone: set `clients.admission.ca`, or \
                        `clients.admission.secret-path`"
                .into());
        }
        if let Some(harbor) = &self.harbor {
            if listen.api.is_none() {
                return Err("`[harbor]` is answered at the address of the API: set `listen.api`".into());
            }
            harbor.check_together()?;
        }
        let ApiClients { ca, scopes, require_certificate } = &clients.api;
        if ca.is_none() && (!scopes.is_empty() || *require_certificate) {
            return Err("`clients.api.scopes` and `require-certificate` need `clients.api.ca`".into());
        }
        if *require_certificate && !scopes.is_empty() {
            return Err(
                "`clients.api.scopes` is for clients without a token, which `require-certificate` demands".into()
            );
        }
        if let Some(prompts) = &self.prompts {
            if listen.api.is_none() && listen.proxy.is_none() {
                return Err(
                    "`[prompts]` is answered at the address of the API: set `listen.api`, or `listen.proxy`".into()
                );
            }
            prompts.check()?;
        }
        let has_upstreams = self.prompts.as_ref().is_some_and(|prompts| !prompts.upstreams.is_empty());
        if has_upstreams != listen.proxy.is_some() {
            return Err("`listen.proxy` and `[prompts.upstreams]` go together: set both, or neither".into());
        }
        self.audit.check_together()
    }
}
