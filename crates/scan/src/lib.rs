//! The scanner: analyzes bytes, files and layers, and assembles the report of an image.
//!
//! An [`Analyzer`] holds a compiled set of rules. It scans bytes, files and layers; each result is a pure function of
//! the bytes and the rules. An [`ImageScan`] reads the layers of an image from any [`layersift_format::ImageSource`],
//! has them scanned, and assembles a [`layersift_model::ImageReport`].
//!
//! ```
//! use layersift_rules::Ruleset;
//! use layersift_scan::{Analyzer, Options};
//!
//! let analyzer = Analyzer::new(Ruleset::built_in()?, Options::default())?;
//! let file = analyzer.bytes("app/settings", b"GITLAB_TOKEN=glpat-Zk7Qm2Xr9Tb4Wn6Ve001\n");
//! assert_eq!(file.findings[0].rule.id, "gitlab.personal-access-token");
//! assert_eq!(file.findings[0].place.line, Some(1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod allowance;
mod analyzer;
pub mod assemble;
mod compiled_rules;
pub mod confirm;
pub mod content;
pub mod decoding;
mod directories;
mod documents;
pub mod engine;
mod image_scan;
mod inventory;
pub mod layer;
mod layer_scan;
#[doc(hidden)]
pub mod layer_work;
mod listed_gaps;
mod masking;
mod memory;
mod name_batch;
mod observe;
mod once;
mod read_layers;
mod rule_examples;
mod source_layers;
mod stored;
mod target_budget;
mod target_work;
mod text_scan;
pub mod values;
mod waiting;
mod worker;

pub use analyzer::{Analyzer, FileReport, Options, READER_REVISION, RulesetError};
pub use documents::{DocumentReport, DocumentWork};
pub use image_scan::{ImageScan, KnownLayers, ScanError};
pub use inventory::InventoryScan;
pub use layersift_rules::Scope;
pub use masking::NameWork;
pub use memory::{ExtraMemory, MemoryBudget, MemoryLease, RetainedMemory};
pub use observe::{NoObserver, Observer};
pub use rule_examples::Fault;
pub use target_work::{WorkBefore, order};
pub use text_scan::{TextFinding, TextReport};
