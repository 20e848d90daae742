//! Kubernetes: an AdmissionReview is read for the images that it would run, and answered with decisions.
//!
//! ```text
//! review   what is read, and within which bounds
//! images   where it stands: the known paths of a review, and of the objects in it
//! answer   decisions as an AdmissionReview
//! ```

mod answer;
mod images;
mod review;

pub use answer::{ASK_AGAIN_SECONDS, Answer, Mode, answer, not_entered, refuse};
pub use review::{Head, Image, Operation, Problem, Review, ReviewError, ReviewLimits, TypeName, read};
