//! An append-only log of what the service decided, which shows when it was changed.
//!
//! Each decision is an [`Entry`], a line of JSON in a file. The lines are the leaves of a Merkle tree (RFC 6962,
//! section 2.1), whose root is signed now and then: a [`Checkpoint`] in the form of C2SP's tlog-checkpoint. Whoever has
//! a checkpoint can tell whether the entries before it are still those that were written, and [`verify`] names the
//! first one that is not. `docs/audit.md` describes the files.
//!
//! [`AuditLog::append`] returns after the entry is on disk. It blocks, and so does all of this crate.

mod answer;
mod checkpoint;
mod entry;
mod error;
mod fetch;
mod files;
mod known;
mod log;
mod note;
mod open;
mod reading;
mod s3;
mod ship;
mod sigv4;
mod sink;
mod tree;
mod upkeep;
mod verify;
mod walk;
mod writer;

pub use checkpoint::Checkpoint;
pub use entry::{Entry, Kind, MOST_LINE, Verdict};
pub use error::AuditError;
pub use fetch::fetch;
pub use log::AuditLog;
pub use note::{NoteError, SigningKey, VerifierKey};
pub use open::{KeyFrom, Opened, Options, Recovery};
pub use s3::{S3Options, S3Sink};
pub use ship::Shipped;
pub use sink::{DirectorySink, Sink, SinkError};
pub use tree::{Hash, Range, leaf_hash, node_hash};
pub use upkeep::{Retention, last_entries};
pub use verify::{Change, Note, Problem, Verification, VerifyOptions, verify};
