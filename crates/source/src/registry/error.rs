//! What goes wrong between this program and a registry. Addresses are shown without what may be secret in them.

use reqwest::Url;

use super::reference::ReferenceError;
use layersift_format::{SourceError, TransportError, TransportFailure};
use layersift_model::Digest;

/// Why a registry does not give what was asked for.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryError {
    /// A name that no registry can have.
    #[error("{0}")]
    Reference(String),
    /// An option, a certificate or a key that cannot be used.
    #[error("{what}: {reason}")]
    Configuration {
        /// Which.
        what: String,
        /// Why not.
        reason: String,
    },
    /// Stored credentials that cannot be read.
    #[error("{place}: {reason}; log in again, or scan without stored credentials")]
    Credentials {
        /// The file or the credential helper.
        place: String,
        /// Why not.
        reason: String,
    },
    /// Nobody answers.
    #[error("{url}: no answer after {attempts} attempts: {reason}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// How often.
        attempts: u32,
        /// What happened the last time.
        reason: String,
    },
    /// Whoever answers is not trusted, or does not trust us.
    #[error("{url}: {reason}; name the authority that signed it, or the client certificate it wants")]
    Tls {
        /// What was asked for.
        url: String,
        /// Why.
        reason: String,
    },
    /// Whoever answers does not speak TLS.
    #[error("{url}: the answer is no TLS; if this registry has none, say so with --plain-http")]
    NoTls {
        /// What was asked for.
        url: String,
    },
    /// An address that this program was sent to and does not go to.
    #[error("{url}: not followed: {reason}")]
    Refused {
        /// Where it leads.
        url: String,
        /// Why it is not followed.
        reason: String,
    },
    /// 401: credentials are missing or wrong.
    #[error("{url}: the registry wants to know who asks, and {reason}")]
    Unauthorized {
        /// What was asked for.
        url: String,
        /// What is wrong with who we are.
        reason: String,
    },
    /// 403: these credentials may not.
    #[error("{url}: these credentials may not read it{said}")]
    Forbidden {
        /// What was asked for.
        url: String,
        /// What the registry says, with `: ` in front; empty where it says nothing.
        said: String,
    },
    /// 404: there is none.
    #[error("{url}: there is none{said}; check the name, and whether these credentials may see it")]
    NotFound {
        /// What was asked for.
        url: String,
        /// What the registry says.
        said: String,
    },
    /// 412: Harbor does not give the image out, because of what a scanner found, or because none has looked yet.
    #[error("{url}: the registry's policy blocks it{said}; let the registry scan it, or pull as its scanner does")]
    Blocked {
        /// What was asked for.
        url: String,
        /// What the registry says.
        said: String,
    },
    /// 429, still, after waiting.
    #[error("{url}: too many requests, still after {attempts} attempts; ask less often, or log in")]
    TooManyRequests {
        /// What was asked for.
        url: String,
        /// How often.
        attempts: u32,
    },
    /// Any other answer.
    #[error("{url}: the answer is {status}{said}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status code.
        status: u16,
        /// What the registry says.
        said: String,
    },
    /// A token service that gives no token.
    #[error("{realm}: no token for `{scope}`: {reason}")]
    Token {
        /// The token service.
        realm: String,
        /// What the token was to allow.
        scope: String,
        /// Why there is none.
        reason: String,
    },
    /// An answer that is not what the protocol says.
    #[error("{url}: {reason}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A document larger than the limit.
    #[error("{url}: the document is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// A document whose bytes have another digest.
    #[error("{url}: expected {expected}, found {found}; somebody changed it, or the registry is damaged")]
    DigestMismatch {
        /// What was asked for.
        url: String,
        /// The digest it must have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// A blob that broke off too often.
    #[error("{url}: broke off at byte {at}, {times} times without getting on: {reason}")]
    Cut {
        /// What was asked for.
        url: String,
        /// Where it broke off.
        at: u64,
        /// How often.
        times: u32,
        /// What happened the last time.
        reason: String,
    },
    /// A listing that does not end.
    #[error("{url}: the listing does not end: {reason}")]
    Endless {
        /// The page at which it was given up.
        url: String,
        /// What gave it away.
        reason: String,
    },
}

impl From<ReferenceError> for RegistryError {
    fn from(error: ReferenceError) -> RegistryError {
        RegistryError::Reference(error.to_string())
    }
}

impl From<RegistryError> for std::io::Error {
    fn from(error: RegistryError) -> std::io::Error {
        std::io::Error::other(error)
    }
}

impl RegistryError {
    /// Whether the registry is out of reach or overloaded for the time being, whatever it is asked for.
    pub fn is_outage(&self) -> bool {
        match self {
            RegistryError::Unreachable { .. } | RegistryError::TooManyRequests { .. } => true,
            RegistryError::Status { status, .. } => matches!(status, 502..=504),
            _ => false,
        }
    }

    /// The same error, after so many attempts.
    pub(super) fn after(mut self, count: u32) -> RegistryError {
        if let RegistryError::Unreachable { attempts, .. } | RegistryError::TooManyRequests { attempts, .. } = &mut self
        {
            *attempts = count;
        }
        self
    }
}

/// An address as it may be shown: without user, password, query and fragment, all of which may be secret.
pub(super) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let path: String = url.path().chars().take(512).collect();
    format!("{}://{host}{port}{path}", url.scheme())
}

/// What went wrong, innermost reason last, without the address, which may have a secret in it.
pub(super) fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    chain(&error)
}

/// An error and its reasons.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next.filter(|_| said.len() < 8) {
        let text = error.to_string();
        if said.last().is_none_or(|last| !last.contains(&text)) {
            said.push(text);
        }
        next = error.source();
    }
    said.join(": ")
}

impl TransportError for RegistryError {
    fn is_temporary(&self) -> bool {
        self.is_outage()
    }
}

impl From<RegistryError> for SourceError {
    fn from(error: RegistryError) -> SourceError {
        TransportFailure::new(error).into()
    }
}
