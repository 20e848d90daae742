//! The output of `layersift sbom`: what an image is made of, as CycloneDX and SPDX for other programs, and as a table.
//!
//! Packages that a later layer removed are in CycloneDX and the table as well, told apart: anyone who can pull the
//! image can pull them. SPDX has no words for that, so it has only what a container of the image has.

mod cyclonedx;
mod spdx;
mod text;

use layersift_model::{Ecosystem, ImageReport, InstalledPackage, Inventory, State};

use crate::exchange::{self, Uuid};

pub use cyclonedx::cyclonedx;
pub use spdx::spdx;
pub use text::text;

/// What an image is made of.
#[derive(Clone, Copy, Debug)]
pub struct Materials<'m> {
    /// Its packages and marks of AI.
    pub inventory: &'m Inventory,
    /// Its secrets and keys, if they were searched for.
    pub secrets: Option<&'m ImageReport>,
}

/// The image, as a person calls it.
fn image_name(inventory: &Inventory) -> &str {
    inventory.reference.as_deref().unwrap_or(&inventory.target)
}

/// The version with the epoch of an RPM before it, as rpm prints it.
fn version(package: &InstalledPackage) -> String {
    match &package.record.epoch {
        Some(epoch) => format!("{epoch}:{}", package.record.version),
        None => package.record.version.clone(),
    }
}

/// The name as people write it: `@scope/name` and `group:name`.
fn full_name(package: &InstalledPackage) -> String {
    let record = &package.record;
    match (&record.namespace, record.ecosystem) {
        (Some(scope), Ecosystem::Npm) => format!("@{scope}/{}", record.name),
        (Some(group), _) => format!("{group}:{}", record.name),
        (None, _) => record.name.clone(),
    }
}

/// What became of a file, such as `deleted in layer 3`; `None` where it is still there.
fn fate(state: State, ended_by: Option<usize>) -> Option<String> {
    let by = ended_by.map(|layer| format!(" in layer {layer}")).unwrap_or_default();
    (state != State::Present).then(|| format!("{}{by}", state.name()))
}

/// A UUID of the document, the same for the same contents.
fn serial(materials: &Materials<'_>, purpose: &str) -> String {
    let Materials { inventory, secrets } = materials;
    let mut text = Uuid::default();
    text.add(format_args!("sbom {purpose}\n{}\n{:?}\n", inventory.target, inventory.read_at));
    let Inventory { manifest_digest, config_digest, version, .. } = inventory;
    text.add(format_args!("{manifest_digest:?}\n{config_digest:?}\n{version}\n"));
    for package in &inventory.packages {
        let purl = inventory.purl(package);
        text.add(format_args!("{purl} {} {} {:?}\n", package.path, package.layer, package.state));
    }
    text.add(format_args!("{:?}\n{}\n", inventory.ai, inventory.gaps.len()));
    if let Some(report) = secrets {
        text.add(format_args!("{}", exchange::uuid(std::slice::from_ref(report), purpose)));
    }
    text.finish()
}
