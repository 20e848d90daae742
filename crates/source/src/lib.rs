//! Where images come from: archives, directories, daemons and registries, and the catalogs that list them.
//!
//! [`open`] opens a [`Target`] as a source that lists its images and opens their blobs, without decoding either. A new
//! transport is one file with a [`Transport`] and one line in [`TRANSPORTS`]. [`registry`] is the client for registries
//! that the transport `docker:` uses, and [`catalog`] lists the images of a whole registry.
//!
//! ```no_run
//! use layersift_format::Opened;
//! use layersift_format::manifest::images;
//! use layersift_format::platform::Choice;
//! use layersift_model::Limits;
//! use layersift_source::registry::RegistryOptions;
//! use layersift_source::{Target, open};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (target, limits) = (Target::parse("docker://alpine:3.22")?, Limits::default());
//! match open(&target, &limits, &RegistryOptions::default())? {
//!     Opened::Source(source) => {
//!         for image in images(&*source, &Choice::Default, &limits)? {
//!             println!("{:?} has {} layers", image.reference, image.layers.len());
//!         }
//!     }
//!     Opened::Stream(_) => println!("{} can be read only once", target.name()),
//! }
//! # Ok(())
//! # }
//! ```

pub mod catalog;
mod daemon;
mod docker_archive;
pub mod endpoint;
mod engine_store;
mod name_list;
mod oci_layout;
mod open;
pub mod registry;
mod rootfs;
pub mod service;
mod skopeo_dir;
mod stream;
mod target;
mod tree;
mod waiting;
pub mod webhook;

pub use daemon::DaemonError;
pub use open::open;
pub use target::{TRANSPORTS, Target, TargetError, Transport};
