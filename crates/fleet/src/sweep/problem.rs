//! From errors to the problems that the report of a sweep lists.

use std::error::Error;

use layersift_format::SourceError;
use layersift_format::manifest::ImageError;
use layersift_model::{Gap, SweepProblem, SweepProblemKind};
use layersift_scan::ScanError;
use layersift_source::catalog::CatalogError;
use layersift_source::registry::RegistryError;

/// A catalog, or a repository of it, cannot be listed.
pub(super) fn catalog(error: &CatalogError) -> SweepProblem {
    SweepProblem { name: String::new(), kind: SweepProblemKind::Catalog, reason: text(error) }
}

/// A registry cannot be used.
pub(super) fn registry(error: &RegistryError) -> SweepProblem {
    SweepProblem { name: String::new(), kind: SweepProblemKind::Registry, reason: text(error) }
}

/// The manifest or the configuration of the image `name` cannot be read.
pub(super) fn image(name: String, error: &ScanError) -> SweepProblem {
    SweepProblem { name, kind: SweepProblemKind::Image, reason: text(error) }
}

/// A document of the image `name` is missing or damaged.
pub(super) fn document(name: String, gap: &Gap) -> SweepProblem {
    let reason = format!("{}: {}", gap.reason.name(), gap.detail);
    SweepProblem { name, kind: SweepProblemKind::Documents, reason }
}

/// The manifest of the image `name` does not name the digests of its layers.
pub(super) fn undigested(name: String) -> SweepProblem {
    SweepProblem { name, kind: SweepProblemKind::Documents, reason: "a layer has no digest".into() }
}

/// The registry refuses pulls of the image `name` until it was scanned; `is_asked` tells whether it was asked to scan.
pub(super) fn blocked(name: String, is_asked: bool) -> SweepProblem {
    let asked = if is_asked { "; the registry was asked to scan the image" } else { "" };
    SweepProblem { name, kind: SweepProblemKind::Blocked, reason: format!("blocked by the registry{asked}") }
}

/// Whether an error says that the registry refuses pulls until the image was scanned (Harbor's status 412).
pub(super) fn is_blocked(error: &ScanError) -> bool {
    let ScanError::Image(ImageError::Source(SourceError::Transport(failure))) = error else { return false };
    matches!(failure.downcast_ref(), Some(RegistryError::Blocked { .. }))
}

/// An error with its sources, each where the text before does not have it already.
fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}
