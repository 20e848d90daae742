//! From errors to the problems that the report of a sweep lists.

use std::error::Error;

use layersift_format::SourceError;
use layersift_format::manifest::ImageError;
use layersift_model::{Gap, SweepProblem, SweepProblemKind};
use layersift_scan::ScanError;
use layersift_source::catalog::CatalogError;
use layersift_source::registry::{BlockReason, RegistryError};

use super::registries;

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

/// The images of an index before the image `name` took so much work that it was not read.
pub(super) fn too_much_work(name: String) -> SweepProblem {
    let reason = "the images before it in its index take more work than those of one target may; it was not read";
    SweepProblem { name, kind: SweepProblemKind::Image, reason: reason.into() }
}

/// A policy of the registry refuses pulls of the image `name`: `said` is the error, and `notes` what was tried.
pub(super) fn blocked(name: String, said: &str, notes: &[String]) -> SweepProblem {
    let notes: String = notes.iter().map(|note| format!("; {note}")).collect();
    SweepProblem { name, kind: SweepProblemKind::Blocked, reason: format!("{said}{notes}") }
}

/// Why a policy of the registry refuses pulls (Harbor's status 412); `None` for any other error.
pub(super) fn block_reason(error: &ScanError) -> Option<BlockReason> {
    let ScanError::Image(ImageError::Source(error)) = error else { return None };
    source_block_reason(error)
}

/// Whether the registry answered that there is no such manifest (404).
pub(super) fn is_not_found(error: &ScanError) -> bool {
    let ScanError::Image(ImageError::Source(SourceError::Transport(failure))) = error else { return false };
    matches!(failure.downcast_ref(), Some(RegistryError::NotFound { .. }))
}

/// Whether the registry does not let the login read it (401, 403).
pub(super) fn is_denied(error: &ScanError) -> bool {
    let ScanError::Image(ImageError::Source(SourceError::Transport(failure))) = error else { return false };
    failure.downcast_ref().is_some_and(registries::is_denied)
}

/// Why a policy of the registry refuses pulls, as the error of a source has it.
pub(super) fn source_block_reason(error: &SourceError) -> Option<BlockReason> {
    let SourceError::Transport(failure) = error else { return None };
    let Some(RegistryError::Blocked { response, .. }) = failure.downcast_ref() else { return None };
    Some(BlockReason::of(response))
}

/// An error with its sources, each where the text before does not have it already.
pub(super) fn text(error: &dyn Error) -> String {
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
