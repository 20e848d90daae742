//! What a caller decides about talking to a registry, and what holds where it decides nothing.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

/// How a registry is talked to.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Who asks.
    pub login: Login,
    /// Plain HTTP instead of HTTPS, for this registry and the token service on its host.
    pub plain_http: bool,
    /// Files of PEM certificates that are trusted beside the system's.
    pub extra_roots: Vec<PathBuf>,
    /// Who we are to a registry that asks for a certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// Directories like `/etc/docker/certs.d`, with a directory for each `HOST[:PORT]`.
    pub certificate_directories: Vec<PathBuf>,
    /// How failures are retried.
    pub retry: Retry,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the registry may be silent: before it answers, and at any point of an answer.
    pub stall_timeout: Duration,
    /// How often a blob may break off without getting on by [`super::PROGRESS`] bytes.
    pub resumptions: u32,
    /// How much is asked of the registry.
    pub rate: Rate,
    /// Bounds of listings.
    pub listing: Listing,
    /// Bytes of a manifest, a configuration, a token or a page of a listing.
    pub document_bytes: u64,
    /// Bytes of a blob whose size nobody named.
    pub blob_bytes: u64,
}

impl Default for RegistryOptions {
    fn default() -> RegistryOptions {
        let limits = layersift_model::Limits::default();
        RegistryOptions {
            login: Login::Stored,
            plain_http: false,
            extra_roots: Vec::new(),
            client_certificate: None,
            certificate_directories: vec!["/etc/containers/certs.d".into(), "/etc/docker/certs.d".into()],
            retry: Retry::default(),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
            resumptions: 5,
            rate: Rate::default(),
            listing: Listing::default(),
            document_bytes: limits.document_bytes,
            blob_bytes: limits.layer_bytes,
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// Nobody in particular.
    Anonymous,
    /// Whoever the files of Docker and Podman name for the repository; nobody where they name none.
    Stored,
    /// This one, for every repository of the registry.
    As(Credentials),
}

/// What proves who asks. Its `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that a token service gives access tokens for.
    IdentityToken {
        /// The user; may be empty.
        user: String,
        /// The token.
        token: String,
    },
    /// A token that the registry itself takes.
    AccessToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Password { .. } => "Password(****)",
            Credentials::IdentityToken { .. } => "IdentityToken(****)",
            Credentials::AccessToken(_) => "AccessToken(****)",
        })
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// A PEM file with the certificate, and those that lead to its authority.
    pub certificate: PathBuf,
    /// A PEM file with its key.
    pub key: PathBuf,
}

/// How failures are retried: connections that fail, silence, and 429, 500, 502, 503 and 504.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often something is asked for in all; at least once.
    pub attempts: u32,
    /// The longest wait after the first failure. It doubles with each; the wait is a random part of it.
    pub first_wait: Duration,
    /// The longest wait after any failure.
    pub longest_wait: Duration,
    /// The longest wait that a registry may ask for.
    pub longest_retry_after: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 6,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            longest_retry_after: Duration::from_secs(120),
        }
    }
}

/// How much is asked of a registry, by all threads together. `None` is no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Requests in a second.
    pub requests_per_second: Option<NonZeroU32>,
    /// Bytes of answers in a second.
    pub bytes_per_second: Option<NonZeroU64>,
}

/// Bounds of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Names to ask for at a time.
    pub page: u32,
    /// Pages of one listing.
    pub pages: usize,
    /// Names of one listing.
    pub names: usize,
}

impl Default for Listing {
    fn default() -> Listing {
        Listing { page: 1_000, pages: 10_000, names: 2_000_000 }
    }
}
