//! Registries: images as they are served over HTTP by the OCI distribution-spec v1.1 and Docker's API before it.
//!
//! Blocking, and on `reqwest`. Not on `oci-client`, which is asynchronous, follows no `Link`, gives up at 429 and asks
//! for no scope but `repository:`; what would be left of it is less than what would have to be built around it.
//!
//! [`Registry`] is the way in for listings, [`RegistrySource`] for one image. What a request passes on its way:
//!
//! ```text
//! client   logs in (auth, challenge, credentials, helper), tries again (retry)
//!   http   follows redirects, keeps to the rate (pace), reads under a time limit
//!     guard   admits addresses         tls   decides on trust
//! stream   takes a blob up where it broke off      listing   turns pages
//! ```

mod api;
mod auth;
mod challenge;
mod client;
mod credentials;
mod error;
mod guard;
mod helper;
mod http;
mod listing;
mod options;
mod pace;
mod reference;
mod retry;
mod source;
mod stream;
mod tls;

pub use api::Page;
pub use client::{At, Manifest, Registry};
pub use credentials::CredentialFiles;
pub use error::RegistryError;
pub(super) use error::chain;
pub use listing::Names;
pub use options::{ClientCertificate, Credentials, Listing, Login, Rate, RegistryOptions, Retry};
pub use pace::Usage;
pub use reference::{Host, Reference, ReferenceError, check_repository, check_tag};
pub use source::RegistrySource;
pub use stream::{BlobStream, PROGRESS};
pub(super) use tls::with_nobody;
