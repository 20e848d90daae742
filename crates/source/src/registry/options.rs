//! Options of the registry client, and their defaults.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use layersift_format::Cancellation;

use super::pace::ByteLimit;

/// Options of the registry client.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// The credentials to use.
    pub login: Login,
    /// Plain HTTP instead of HTTPS, for this registry and the token server on its host.
    pub plain_http: bool,
    /// PEM files of CA certificates that are trusted besides the system's.
    pub extra_roots: Vec<PathBuf>,
    /// The certificate for a registry that requires one of its clients.
    pub client_certificate: Option<ClientCertificate>,
    /// Directories like `/etc/docker/certs.d`, with a directory for each `HOST[:PORT]`.
    pub certificate_directories: Vec<PathBuf>,
    /// How failures are retried.
    pub retry: Retry,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the registry may be silent, before it answers and while it sends a body.
    pub stall_timeout: Duration,
    /// How often the rest of a blob is requested after a lost connection, without 64 KiB of progress in between.
    pub resumptions: u32,
    /// How long a login is tried that the registry does not accept: Harbor locks a user for 1.5 seconds after anyone's
    /// wrong password.
    pub login_patience: Duration,
    /// Limits of requests and bytes per second.
    pub rate: Rate,
    /// The most bytes of all registries that have these options.
    pub byte_limit: Option<ByteLimit>,
    /// Limits of listings.
    pub listing: ListingLimits,
    /// The most bytes of a manifest, a configuration, a token or a page of a listing.
    pub document_bytes: u64,
    /// The most bytes of a blob whose size is not known from a manifest.
    pub blob_bytes: u64,
    /// What ends requests, reads, retries and waits early, with [`RegistryError::Cancelled`](super::RegistryError).
    pub cancellation: Cancellation,
    /// What ends waits for another attempt, which a registry may ask to be hours: the request then fails as if no
    /// attempt was left. Requests that do not wait go on.
    pub patience: Cancellation,
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
            login_patience: Duration::from_secs(10),
            rate: Rate::default(),
            byte_limit: None,
            listing: ListingLimits::default(),
            document_bytes: limits.document_bytes,
            blob_bytes: limits.layer_bytes,
            cancellation: Cancellation::never(),
            patience: Cancellation::never(),
        }
    }
}

/// The credentials to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// None.
    Anonymous,
    /// Those that `docker login` and `podman login` stored for the repository; none if they stored none.
    Stored,
    /// These, for every repository of the registry.
    As(Credentials),
}

/// Credentials. `Debug` does not show their secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that a token server exchanges for access tokens.
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
    /// A PEM file with the certificate and its chain.
    pub certificate: PathBuf,
    /// A PEM file with its key.
    pub key: PathBuf,
}

/// How requests are retried that fail to connect, time out, or are answered with 429, 500, 502, 503 or 504.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The most attempts, at least one.
    pub attempts: u32,
    /// The longest wait after the first failure. It doubles with each failure; the wait is a random part of it.
    pub first_wait: Duration,
    /// The longest wait after any failure.
    pub longest_wait: Duration,
    /// The longest wait that a `Retry-After` header may ask for. After it, the request is sent again even if the header
    /// asks for more.
    pub longest_retry_after: Duration,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts: 6,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            // Limits of public registries are counted by hours, and some by days.
            longest_retry_after: Duration::from_secs(24 * 3_600),
        }
    }
}

/// Rate limits for all threads together. `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second.
    pub requests_per_second: Option<NonZeroU32>,
    /// Bytes of response bodies per second.
    pub bytes_per_second: Option<NonZeroU64>,
}

/// Limits of a listing of repositories or tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingLimits {
    /// Names to request per page.
    pub page: u32,
    /// The most pages of one listing.
    pub pages: usize,
    /// The most names of one listing.
    pub names: usize,
}

impl Default for ListingLimits {
    fn default() -> ListingLimits {
        ListingLimits { page: 1_000, pages: 10_000, names: 2_000_000 }
    }
}
