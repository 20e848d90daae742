//! Decisions about images, and the envelopes that they are asked and answered in. Nothing here does any input or
//! output: a decision is made from reports by a policy.
//!
//! ```text
//! decision      what is known about an image
//! attestation   what attestations of an image decide
//! policy        which rules hold for an image in a place
//! kubernetes    the same as an AdmissionReview
//! gatekeeper    the same as a ProviderResponse of Gatekeeper
//! plain         the same as plain JSON
//! matched       images with their decisions
//! words         decisions in words
//! bounded_json  bodies, before they are parsed
//! ```

mod attestation;
mod bounded_json;
mod decision;
pub mod gatekeeper;
pub mod kubernetes;
mod matched;
pub mod plain;
mod policy;
mod words;

pub use attestation::{AttestationBasis, AttestationTerms, AttestationUse, AttestedImage};
pub(crate) use bounded_json::BoundedJson;
pub use bounded_json::OverBound;
pub(crate) use decision::layers_of_base;
pub use decision::{Basis, Decision, Effect, Judgement, Outcome, Reason, Unreadable};
pub use policy::{AdmissionPolicy, AdmissionTable, InvalidTable, Terms};
pub(crate) use words::{beginning, tidy};
