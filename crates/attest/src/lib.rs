//! Attestations about container images in the forms of cosign: written, attached, read and verified.
//!
//! An attestation is a [`Statement`] about a digest, signed in an [`Envelope`]. It is attached in two forms: as a
//! [`Bundle`] in a manifest that refers to the image, and as a [`Layer`] of the `.att` manifest. `cosign
//! verify-attestation` of both versions accepts what this crate writes, and this crate reads what they write.
//!
//! ```
//! use layersift_attest::keys::{PrivateKey, Signer};
//! use layersift_attest::{Bundle, Envelope, Evidence, Statement, signed_statements};
//! use layersift_model::Digest;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = PrivateKey::generate_p256()?;
//! let image = Digest::of(b"the bytes of a manifest");
//! let predicate = serde_json::json!({ "result": "nothing found" });
//! let statement = Statement::new(Some("registry.example/app"), &image, "https://example.org/scan/v1", &predicate)?;
//! let bundle = Bundle::new(Envelope::sign(&statement, &key)?, key.public_key());
//!
//! // Whoever pulls the image reads what is attached, and believes what a trusted key signed about this image.
//! let mut evidence = Evidence::default();
//! evidence.add_bundle(bundle.to_json()?.as_bytes());
//! let trusted = [key.public_key().clone()];
//! let (statements, refusals) = signed_statements(&evidence, &image, &trusted, "https://example.org/scan/v1");
//! assert_eq!((statements.len(), refusals.len()), (1, 0));
//! # Ok(())
//! # }
//! ```
//!
//! What Layersift says about an image is in [`predicate`], and [`verify`] decides whether an image is attested as it
//! has to be. Nothing here opens a connection or a file, or asks for the time: [`registry`] reads and writes through a
//! trait that the caller implements, and [`timestamp`] makes and checks what is exchanged with a time stamp authority.

mod bundle;
mod dsse;
mod encoding;
mod evidence;
mod json;
pub mod keys;
mod legacy;
mod oci;
pub mod predicate;
pub mod registry;
mod statement;
pub mod timestamp;
mod verify;

pub use bundle::{Artifact, BUNDLE, Bundle, BundleError, bundle_layer};
pub use dsse::{Envelope, EnvelopeError, PAYLOAD_TYPE, SealError, pae};
pub use evidence::{Attestation, Evidence, Form, UnreadableError};
pub use json::JsonError;
pub use legacy::{Layer, LegacyError, NewLayer, legacy_layers};
pub use oci::{Descriptor, Document, INDEX, MANIFEST};
pub use statement::{Statement, StatementError, Subject};
pub use verify::{
    Accepted, Attached, Demands, JudgementDemand, MOST_AHEAD, Refusal, Verification, signed_statements, verify,
    verify_image,
};
