//! Registries: images served over HTTP by the OCI distribution-spec v1.1, or by Docker's API that came before it.
//!
//! Blocking, and built on `reqwest`. The crate `oci-client` is not used: it is asynchronous, does not follow `Link`
//! headers, does not retry after 429, and requests no scope but `repository:`.
//!
//! [`Registry`] is the client for manifests, blobs and listings; [`RegistrySource`] reads one image. Below them, a
//! request passes these modules:
//!
//! ```text
//! client   logs in (auth, token_server, challenge, credentials, helper), retries (retry)
//!   http   follows redirects, keeps to the rate (pace), reads under a time limit
//!     guard   checks addresses (refusal)         tls   checks certificates
//! stream   resumes a blob after a lost connection      listing   reads pages (link)
//! ```

mod api;
mod attached;
mod auth;
mod challenge;
mod claims;
mod client;
mod credentials;
mod error;
mod form;
mod guard;
mod helper;
mod hosts;
mod http;
mod link;
mod listing;
mod login;
mod options;
mod pace;
mod policy;
mod presence;
mod push;
mod reference;
mod referrers;
mod refusal;
mod response;
mod retry;
mod shown;
mod source;
mod stream;
mod tls;
mod token_server;
mod upload;

pub use api::Page;
pub use attached::Repository;
pub use client::{At, Manifest, Registry};
pub use credentials::CredentialsError;
pub(super) use error::chain;
pub use error::{AuthenticationError, EndlessListing, Identity, ProtocolError, RegistryError, TokenError};
pub use form::BodyForm;
pub use hosts::{HostsError, Mirror, mirrors};
pub use layersift_model::LoginState;
pub use listing::Names;
pub use options::{ClientCertificate, Credentials, ListingLimits, Login, Rate, RegistryOptions, Retry};
pub use pace::{ByteLimit, Usage};
pub use policy::BlockReason;
pub use reference::{Host, Reference, ReferenceError, check_repository, check_tag};
pub use refusal::{Network, Refusal};
pub use response::{ErrorResponse, RegistryErrorCode};
pub(super) use retry::parse_retry_after;
pub use source::RegistrySource;
pub(super) use source::TRANSPORT;
pub use stream::BlobStream;
pub use tls::ConfigurationError;
pub use tls::service_tls;
pub(super) use tls::without_trust;
pub use upload::UploadError;
