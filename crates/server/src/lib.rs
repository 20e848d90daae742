//! The service: it answers whether an image may be run or passed on, from the reports of a store, and has what is not
//! known yet read by workers. Nothing is scanned while somebody waits for an answer.
//!
//! ```text
//! decision     what is known about an image, and what the policy makes of it
//! policy       which rules hold for an image in a place
//! kubernetes   the same as an AdmissionReview
//! ```

mod decision;
pub mod kubernetes;
mod policy;

pub use decision::{Basis, Decision, Effect, Outcome, Reason, Unreadable};
pub use policy::{AdmissionPolicy, AdmissionPolicyError, Terms};
