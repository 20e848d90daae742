//! Checks what goes to a model and what comes from it.
//!
//! A [`Gate`] reads a body in the form of an API or of a gateway, scans every part of it with an
//! [`layersift_scan::Analyzer`], and decides by the [`Policy`] of the client: allow, mask or deny. Only what is new is
//! denied; what stands in the history of a chat is masked in a copy.
//!
//! ```
//! use std::sync::Arc;
//!
//! use layersift_prompts::{Client, Decision, Gate, Policy};
//! use layersift_rules::Ruleset;
//! use layersift_scan::{Analyzer, Options};
//!
//! let options = Options { limits: Gate::limits(), ..Options::default() };
//! let gate = Gate::new(Arc::new(Analyzer::new(Ruleset::built_in()?, options)?), 1000);
//! let client = Client { name: "laptop", policy: &Policy::default() };
//! let verdict = gate.check(b"Deploy it with glpat-Zk7Qm2Xr9Tb4Wn6Ve001", None, client);
//! assert_eq!(verdict.decision, Decision::Deny);
//! assert_eq!(verdict.reasons[0].rule, "gitlab.personal-access-token");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod advice;
mod batch;
mod cache;
mod collect;
mod conversation;
mod copy;
mod data;
mod file;
mod form;
mod gate;
mod inner;
mod json;
mod outcome;
mod packed;
mod pieces;
mod plain;
mod pointers;
mod policy;
mod room;
mod sequences;
mod sighting;
mod stream;
mod strings;
mod url;
mod verdict;

pub use conversation::{Conversation, Kind, Part, Role, Turn, Unseen, UnseenReason};
pub use data::{Data, bytes_of_numbers, data_in};
pub use file::{Inside, each_inside};
pub use form::{Form, is_form_bounded_by, is_text, read};
pub use gate::{Client, Gate};
pub use json::Unreadable;
pub use packed::{PackedFile, packed_files};
pub use plain::PlainText;
pub use policy::{Action, Policy};
pub use room::values_in;
pub use sighting::{Direction, Sighting, Witness};
pub use stream::{StreamCheck, held_back};
pub use verdict::{Decision, Place, Reason, Verdict};
