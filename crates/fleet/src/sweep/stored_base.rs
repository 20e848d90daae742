//! The base image of a report by the store.

use layersift_model::{BuildEvidence, Digest, ImageBase, ImageReport};
use layersift_store::{Store, StoreError};

/// Sets the base image of `report`, unless it is proven already: the image of `store` that has exactly the layers that
/// it begins with.
///
/// Stored reports do not have it, because it depends on which images were stored before.
///
/// # Errors
/// When the store fails.
pub fn add_stored_base(store: &Store, report: &mut ImageReport) -> Result<(), StoreError> {
    if report.base.as_ref().is_some_and(|base| base.is_proven) {
        return Ok(());
    }
    let layers: Option<Vec<Digest>> = report.layers.iter().map(|layer| layer.digest.clone()).collect();
    let claimed = report.base.as_ref().and_then(|base| base.layers);
    let Some(found) = layers.map(|layers| store.images().base_of(&layers, claimed)).transpose()?.flatten() else {
        return Ok(());
    };
    if let Some(claimed) = claimed.filter(|claimed| *claimed != found.layers) {
        let stored = found.layers;
        report.notes.push(format!(
            "the build claims a base image of {claimed} layers; the store has none of these, but one of {stored}"
        ));
    }
    report.set_base(ImageBase {
        reference: found.reference,
        digest: Some(found.manifest_digest),
        layers: Some(found.layers),
        evidence: BuildEvidence::Store,
        is_proven: true,
    });
    Ok(())
}
