//! Stores of container engines on the disk of a host that is down: Docker, containerd and Podman.
//!
//! [`Engine::open`] reads the records of an engine and gives an [`ImageSource`] of its images and, if all is asked for,
//! its containers, its volumes and whatever belongs to none of them. Nothing is written to the disk. [`directory_tar`]
//! reads directories as tar archives, so that they are scanned like any layer.
//!
//! [`ImageSource`]: layersift_format::ImageSource

mod bases;
pub mod bbolt;
mod containerd;
pub mod directory_tar;
mod docker;
mod kept;
mod podman;
#[cfg(test)]
mod recorded;
mod records;
mod root;
mod source;
mod sqlite;
mod store;
mod tar_split;
mod unique;

pub use source::{Engine, Wanted};
