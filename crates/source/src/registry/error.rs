//! What goes wrong between this program and a registry. URLs are shown without what may be secret in them.

use std::io;

use reqwest::Url;

use super::credentials::CredentialsError;
use super::form::BodyForm;
use super::policy::BlockReason;
use super::reference::ReferenceError;
use super::refusal::Refusal;
use super::response::{ErrorResponse, RegistryErrorCode};
use super::shown;
use super::tls::ConfigurationError;
use layersift_format::{CancelReason, SourceError, TransportError, TransportFailure};
use layersift_model::{Digest, ParseError};

/// Why a registry does not give what was asked for. A message has its reasons in it, so that it can be shown alone.
///
/// No URL in it has a user, a password, a query or a fragment, and no text of a server has the credentials in it that
/// were sent along.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// A name that no registry, repository or tag can have.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// An option, a certificate or a key that cannot be used.
    #[error("{subject}: {error}")]
    Configuration {
        /// The file, or what the option is about.
        subject: String,
        /// Why it cannot be used.
        #[source]
        error: ConfigurationError,
    },
    /// Stored credentials that cannot be read.
    #[error("{place}: {error}; log in again, or pass --anonymous to pull without credentials")]
    Credentials {
        /// The file or the credential helper.
        place: String,
        /// Why they cannot be read.
        #[source]
        error: CredentialsError,
    },
    /// No connection, or no answer.
    #[error("{url}: no answer after {attempts} attempts: {}", chain(error))]
    Unreachable {
        /// The URL that was requested.
        url: String,
        /// Requests that were sent.
        attempts: u32,
        /// The last failure.
        #[source]
        error: reqwest::Error,
    },
    /// The TLS handshake failed: one side does not trust the other.
    #[error(
        "{url}: TLS handshake failed: {error}; pass the registry's CA certificate with --registry-ca, or the client \
         certificate that it requires with --registry-cert and --registry-key"
    )]
    Tls {
        /// The URL that was requested.
        url: String,
        /// What failed of it.
        #[source]
        error: rustls::Error,
    },
    /// The server answered with something other than TLS.
    #[error("{url}: the server does not speak TLS; pass --plain-http if the registry uses plain HTTP")]
    NoTls {
        /// The URL that was requested.
        url: String,
    },
    /// A URL that the registry sent us to, and that was not requested.
    #[error("{url}: not followed: {reason}")]
    Refused {
        /// The URL.
        url: String,
        /// Why it was not requested.
        #[source]
        reason: Refusal,
    },
    /// 401, or a token server that rejects the credentials.
    #[error("{url}: authentication failed: {reason}{response}{}", reason.advice())]
    Unauthorized {
        /// The URL that was requested: of the registry, or of its token server.
        url: String,
        /// What is wrong with the credentials.
        #[source]
        reason: AuthenticationError,
        /// What the server answered.
        response: ErrorResponse,
    },
    /// 403: no permission.
    #[error("{url}: access denied{response}; {}", identity.advice_on_denial(response))]
    Forbidden {
        /// The URL that was requested.
        url: String,
        /// Who asked.
        identity: Identity,
        /// What the server answered.
        response: ErrorResponse,
    },
    /// 404: no such repository, manifest or blob, or none that these credentials may know of.
    #[error("{url}: {}{response}; {}", absence(url), advice_on_absence(url, *identity, response))]
    NotFound {
        /// The URL that was requested.
        url: String,
        /// Who asked.
        identity: Identity,
        /// What the server answered.
        response: ErrorResponse,
    },
    /// 412: Harbor does not serve the image, because of what its scanner found, or because it was not scanned yet.
    #[error("{url}: blocked by a policy of the registry{response}; {}", BlockReason::of(response).advice())]
    Blocked {
        /// The URL that was requested.
        url: String,
        /// What the server answered.
        response: ErrorResponse,
    },
    /// 429, after all attempts.
    #[error("{url}: too many requests, after {attempts} attempts{response}; {}", identity.advice_on_rate())]
    TooManyRequests {
        /// The URL that was requested.
        url: String,
        /// Who asked.
        identity: Identity,
        /// Requests that were sent.
        attempts: u32,
        /// What the server answered the last time.
        response: ErrorResponse,
    },
    /// Any other status.
    #[error("{url}: unexpected status {}{response}", response.status)]
    Status {
        /// The URL that was requested.
        url: String,
        /// What the server answered.
        response: ErrorResponse,
    },
    /// A token server that gives no token.
    #[error("{realm}: no token for `{scope}`: {error}")]
    Token {
        /// The URL of the token server.
        realm: String,
        /// What the token was to allow.
        scope: String,
        /// Why there is none.
        #[source]
        error: TokenError,
    },
    /// A response that breaks the protocol.
    #[error("{url}: invalid response: {error}")]
    Protocol {
        /// The URL that was requested.
        url: String,
        /// What is wrong with it.
        #[source]
        error: ProtocolError,
    },
    /// A manifest of Docker's first schema, which has no configuration and names layers that may be empty.
    #[error(
        "{url}: unsupported manifest of Docker's schema 1{}; push the image again with a current client, or convert it \
         with `skopeo copy --format v2s2`",
        media_type.as_ref().map(|text| format!(" (`{text}`)")).unwrap_or_default()
    )]
    Schema1 {
        /// The URL that was requested.
        url: String,
        /// The content type that the registry gave it.
        media_type: Option<String>,
    },
    /// A document larger than the limit.
    #[error("{url}: the document is larger than {limit} bytes")]
    TooLarge {
        /// The URL that was requested.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A document whose bytes have another digest.
    #[error("{url}: digest mismatch: expected {expected}, found {found}; it was changed in transit or in the registry")]
    DigestMismatch {
        /// The URL that was requested.
        url: String,
        /// The digest it must have.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// A connection that was lost too often.
    #[error("{url}: connection lost at byte {at}; {retries} retries made no progress: {}", chain(error))]
    ConnectionLost {
        /// The URL that was requested.
        url: String,
        /// The bytes that were received before.
        at: u64,
        /// How often the rest was requested since the last progress.
        retries: u32,
        /// How it was lost the last time.
        #[source]
        error: io::Error,
    },
    /// A listing that was given up, because it does not end.
    #[error("{url}: the listing does not end: {reason}")]
    Endless {
        /// The page at which it was given up.
        url: String,
        /// How it shows.
        #[source]
        reason: EndlessListing,
    },
    /// The operation was cancelled, or its deadline has passed.
    #[error(
        "{url}: {reason}{}",
        after.map(|status| format!(", while waiting after status {status}")).unwrap_or_default()
    )]
    Cancelled {
        /// The URL, or the credential helper, that was waited for.
        url: String,
        /// The status of the last answer, if it waited to send the request again.
        after: Option<u16>,
        /// Which of the two.
        #[source]
        reason: CancelReason,
    },
}

/// Why a registry, or its token server, does not let us in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// The registry takes neither passwords nor tokens.
    #[error("the registry requires a scheme other than Basic and Bearer")]
    UnsupportedScheme,
    /// The registry does not say how to log in, so another login would not help. Harbor answers so if a project does
    /// not exist.
    #[error("the registry refused the request without asking for credentials")]
    NoChallenge,
    /// The credentials or the token were good, and not enough (RFC 6750, `insufficient_scope`).
    #[error("the login does not allow this request")]
    NotAllowed,
    /// A token was sent. Token servers give one without rights for a wrong password as well as for a right one that has
    /// no access.
    #[error("the registry rejected the token of this login")]
    TokenRejected,
    /// Credentials were sent for the list of repositories. The registry answers a wrong password and a right one that
    /// may not list in the same way.
    #[error("the registry does not list its repositories for these credentials")]
    NoCatalog,
    /// Credentials were sent.
    #[error("the registry rejected the credentials")]
    CredentialsRejected,
    /// None were sent.
    #[error("the registry requires credentials and none were used")]
    NoCredentials,
    /// Credentials were sent, and asked who they belong to, the registry knows nobody.
    #[error("the registry does not accept the login: the password is wrong, or the account has expired or is locked")]
    NotAccepted,
    /// The registry accepted the login at some moments only.
    #[error("the registry accepts the login at some moments only, so that what it lists cannot be relied on")]
    Unsteady,
    /// None were sent, because the registry requires a password and there is a token.
    #[error("the registry requires a user and a password, and the credentials are a token")]
    UnusableCredentials,
    /// Credentials were sent to the token server.
    #[error("the token server rejected the credentials")]
    RejectedByTokenServer,
    /// None were sent to the token server.
    #[error("the token server does not allow anonymous access")]
    NoCredentialsForTokenServer,
    /// The registry redirected to a storage server that wants to be logged in to.
    #[error("the storage server that the registry redirected to requires credentials")]
    Storage,
}

impl AuthenticationError {
    /// What to do about it, as the end of a message.
    fn advice(self) -> &'static str {
        use AuthenticationError::{
            CredentialsRejected, NoCatalog, NoChallenge, NoCredentials, NotAccepted, NotAllowed, Storage, Unsteady,
        };
        use AuthenticationError::{
            NoCredentialsForTokenServer, RejectedByTokenServer, TokenRejected, UnusableCredentials,
        };
        match self {
            AuthenticationError::UnsupportedScheme | Storage => "",
            NoChallenge => "; check the name, and that there is access to it",
            NotAllowed => "; check the name and that these credentials have access",
            TokenRejected => "; check that the login is right and has access to the repository",
            NoCatalog => {
                "; check the password and that the account may list the repositories (Harbor: `catalog:read`), or use \
                 `sweep harbor` or `sweep list`"
            }
            CredentialsRejected | NotAccepted | RejectedByTokenServer => "; log in again",
            Unsteady => "; use a robot account, which nobody can lock",
            NoCredentials | NoCredentialsForTokenServer => "; log in",
            UnusableCredentials => "; log in with a password",
        }
    }
}

/// Why a token server gave no token. No text of it is kept, because it may be the token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The status of its response.
    #[error("unexpected status {}{_0}", _0.status)]
    Status(ErrorResponse),
    /// The connection was lost.
    #[error("connection lost: {}", chain(_0))]
    Read(#[source] io::Error),
    /// The response is larger than the limit, in bytes.
    #[error("the response is larger than {0} bytes")]
    TooLarge(u64),
    /// The response is not the JSON it should be.
    #[error("the response is not a JSON document with a token")]
    Json,
    /// The response has another form.
    #[error("expected a JSON document with a token, received {0}")]
    Form(BodyForm),
    /// The response has no token in it.
    #[error("the response has no token")]
    Missing,
}

/// What is wrong with a response that breaks the protocol.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// Other bytes of a blob than were requested.
    #[error("requested the bytes from offset {0} on and received another range")]
    Range(u64),
    /// A body of another form than was requested.
    #[error("expected {expected}, received {received}")]
    Form {
        /// What was requested, with its article.
        expected: &'static str,
        /// What the server says that it sent.
        received: BodyForm,
    },
    /// A page of a listing that is not the JSON it should be.
    #[error("not a page of a listing: {0}")]
    Listing(#[source] ParseError),
    /// A name in a listing is longer than any may be; its length in bytes.
    #[error("a name of {0} bytes")]
    NameTooLong(usize),
    /// `X-Total-Count` is not a number.
    #[error("invalid X-Total-Count header")]
    TotalCount,
    /// A listing ends before it has as many items as its `X-Total-Count` says.
    #[error("the listing ends after {listed} of {total} items")]
    Short {
        /// Different items that were listed.
        listed: u64,
        /// How many there are, without those that came while it was read.
        total: u64,
    },
    /// The link to the next page is not a URL.
    #[error("the link to the next page is not a URL")]
    Link,
    /// A `Link` header that cannot be parsed, and may have led to another page.
    #[error("the Link header cannot be parsed, and may lead to further pages; ask the registry's vendor about it")]
    LinkHeader,
    /// The challenge names a token server that has no URL.
    #[error("the URL of the token server is invalid")]
    Realm,
    /// A path that makes no URL.
    #[error("invalid URL: {0}")]
    Url(#[source] <Url as std::str::FromStr>::Err),
    /// The body cannot be read.
    #[error("{}", chain(_0))]
    Read(#[source] io::Error),
}

/// How it shows that a listing does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndlessListing {
    /// More pages than the limit.
    #[error("more than {0} pages")]
    Pages(usize),
    /// More names than the limit.
    #[error("more than {0} names")]
    Names(usize),
    /// A page leads to an earlier one.
    #[error("a page leads back to an earlier one")]
    Circle,
    /// Two pages in a row are the same.
    #[error("two pages are the same")]
    SamePage,
    /// So many pages in a row had nothing new.
    #[error("{0} pages in a row have nothing new")]
    NothingNew(usize),
}

/// Who asked, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Somebody who logged in.
    Credentials,
    /// Nobody who is known.
    Anonymous,
}

impl Identity {
    fn advice_on_denial(self, response: &ErrorResponse) -> &'static str {
        match self {
            _ if response.is_from_storage => STORAGE_ADVICE,
            Identity::Credentials => "check that these credentials may pull from the repository",
            Identity::Anonymous => {
                "no credentials were used: log in, or check that the repository allows anonymous access"
            }
        }
    }

    fn advice_on_rate(self) -> &'static str {
        match self {
            Identity::Credentials => "lower the request rate",
            Identity::Anonymous => "no credentials were used: log in, or lower the request rate",
        }
    }
}

/// What to do about an error of the storage server, which credentials are not sent to.
const STORAGE_ADVICE: &str = "check the storage of the registry";

/// What a 404 for this URL says.
fn absence(url: &str) -> &'static str {
    if is_of_blob(url) { "the registry answered 404 for the blob" } else { "not found" }
}

fn advice_on_absence(url: &str, identity: Identity, response: &ErrorResponse) -> &'static str {
    match identity {
        _ if response.is_from_storage => STORAGE_ADVICE,
        // Whoever has its manifest may read it.
        _ if is_of_blob(url) => "a manifest names it, so it was deleted or never uploaded: push the image again",
        Identity::Credentials => "check the name and that these credentials have access",
        Identity::Anonymous => {
            "check the name; no credentials were used: log in, or check that the repository allows anonymous access"
        }
    }
}

/// Whether a URL is that of a blob: its last segments are `blobs` and the digest.
fn is_of_blob(url: &str) -> bool {
    url.rsplit('/').nth(1) == Some("blobs")
}

impl RegistryError {
    /// Whether the same request may succeed later: the registry is out of reach or overloaded, the connection was lost,
    /// or the operation was cancelled.
    pub fn is_temporary(&self) -> bool {
        match self {
            RegistryError::Unreachable { .. }
            | RegistryError::TooManyRequests { .. }
            | RegistryError::ConnectionLost { .. }
            | RegistryError::Cancelled { .. }
            | RegistryError::Token { error: TokenError::Read(_), .. } => true,
            _ => matches!(self.status(), Some(502..=504)),
        }
    }

    /// Whether a listing ends with it because the next page is not known, or not on the registry.
    pub(crate) fn is_of_link(&self) -> bool {
        use ProtocolError::{Link, LinkHeader};
        matches!(
            self,
            RegistryError::Protocol { error: Link | LinkHeader, .. }
                | RegistryError::Refused { reason: Refusal::OtherOrigin(_), .. }
        )
    }

    /// Whether it says that the registry does not accept the login that it was given, whatever is asked for.
    pub fn is_of_login(&self) -> bool {
        use AuthenticationError::{NotAccepted, RejectedByTokenServer, Unsteady, UnusableCredentials};
        matches!(
            self,
            RegistryError::Unauthorized {
                reason: NotAccepted | RejectedByTokenServer | UnusableCredentials | Unsteady,
                ..
            }
        )
    }

    /// The HTTP status of the response that it came from, if it came from one.
    pub fn status(&self) -> Option<u16> {
        self.response().map(|response| response.status)
    }

    /// The error codes in the body of that response.
    pub fn codes(&self) -> &[RegistryErrorCode] {
        self.response().map_or(&[], |response| &response.codes)
    }

    /// The response that it came from, if it came from one.
    pub fn response(&self) -> Option<&ErrorResponse> {
        match self {
            RegistryError::Unauthorized { response, .. }
            | RegistryError::Forbidden { response, .. }
            | RegistryError::NotFound { response, .. }
            | RegistryError::Blocked { response, .. }
            | RegistryError::TooManyRequests { response, .. }
            | RegistryError::Status { response, .. }
            | RegistryError::Token { error: TokenError::Status(response), .. } => Some(response),
            _ => None,
        }
    }

    /// The error of a response from `url` with a status other than the expected ones.
    pub(super) fn of_response(url: &Url, response: ErrorResponse, identity: Identity) -> RegistryError {
        let url = redacted(url);
        match response.status {
            401 => RegistryError::Unauthorized { url, reason: AuthenticationError::CredentialsRejected, response },
            403 => RegistryError::Forbidden { url, identity, response },
            404 => RegistryError::NotFound { url, identity, response },
            412 => RegistryError::Blocked { url, response },
            429 => RegistryError::TooManyRequests { url, identity, attempts: 1, response },
            _ => RegistryError::Status { url, response },
        }
    }

    /// The error of an operation that was cancelled while it waited for `url`.
    pub(super) fn cancelled(url: &Url, reason: CancelReason) -> RegistryError {
        RegistryError::Cancelled { url: redacted(url), after: None, reason }
    }

    /// The same error of an operation that waited to send a request again after this status, if it did.
    pub(super) fn waiting_after(mut self, status: Option<u16>) -> RegistryError {
        if let RegistryError::Cancelled { after, .. } = &mut self {
            *after = status;
        }
        self
    }

    /// The same error of a 401, for this reason.
    pub(super) fn because(mut self, why: Option<AuthenticationError>) -> RegistryError {
        if let (RegistryError::Unauthorized { reason, .. }, Some(why)) = (&mut self, why) {
            *reason = why;
        }
        self
    }

    /// The same error of a request that was sent as `asked`.
    pub(super) fn of(mut self, asked: Identity) -> RegistryError {
        if let RegistryError::TooManyRequests { identity, .. } = &mut self {
            *identity = asked;
        }
        self
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

impl TransportError for RegistryError {
    fn is_temporary(&self) -> bool {
        RegistryError::is_temporary(self)
    }
}

impl From<RegistryError> for SourceError {
    fn from(error: RegistryError) -> SourceError {
        TransportFailure::new(error).into()
    }
}

impl From<RegistryError> for io::Error {
    fn from(error: RegistryError) -> io::Error {
        io::Error::other(error)
    }
}

/// A URL without user, password, query and fragment, all of which may be secret, nor what may be in its path.
pub(super) fn redacted(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), shown::path(url.path()))
}

/// An error and its sources in one line. Those whose text is there already are left out.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next.filter(|_| texts.len() < 8) {
        let text = error.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}
