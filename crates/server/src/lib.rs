//! The service: it answers whether an image may be run or passed on, from the reports of a store, and has what is not
//! known yet read by workers. Nothing is scanned while somebody waits for an answer.
//!
//! ```text
//! admission  decisions, and the envelopes that they are asked and answered in: no input or output
//! harbor     what Harbor asks its scanner, and reports in its form: no input or output
//! events     what registries say about pushes: no input or output
//! notify     messages about new findings: no input or output
//! prompts    the prompt gate's answers: no input or output
//! settings   the file and the variables
//! service    what the service does: looks up, resolves, queues, scans
//! routes     what is answered where
//! http       connections, TLS, tokens, bounds
//! ```
//!
//! [`settings::load`] reads the settings, [`check`] checks what they name, and [`Parts::serve`] serves until it is told
//! to end.

pub mod admission;
pub mod events;
pub mod harbor;
mod http;
mod notify;
mod prompts;
mod routes;
mod service;
pub mod settings;
mod span;

pub use http::tls::TlsError;
pub use http::tokens;
pub use service::{AuditSetupError, Parts, ScanLogins, SetupError, check};
