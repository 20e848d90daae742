//! The service: it answers whether an image may be run or passed on, from the reports of a store, and has what is not
//! known yet read by workers. Nothing is scanned while somebody waits for an answer.
//!
//! ```text
//! decision      what is known about an image
//! policy        which rules hold for an image in a place
//! kubernetes    the same as an AdmissionReview
//! gatekeeper    the same as a ProviderResponse of Gatekeeper
//! plain         the same as plain JSON
//! matched       images with their decisions
//! words         decisions in words
//! bounded_json  bodies, before they are parsed
//! ```

mod bounded_json;
mod decision;
pub mod gatekeeper;
pub mod kubernetes;
mod matched;
pub mod plain;
mod policy;
mod words;

pub use bounded_json::OverBound;
pub use decision::{Basis, Decision, Effect, Outcome, Reason, Unreadable};
pub use policy::{AdmissionPolicy, AdmissionPolicyError, Terms};
