//! The digests that are attested: of every platform, and of the index that has them.

use anyhow::ensure;

use super::repository::RegistryImage;
use layersift_attest::predicate::ScanResult;
use layersift_attest::{Descriptor, MANIFEST};
use layersift_model::Digest;

/// Something to attest.
pub(super) struct Image {
    pub(super) subject: Descriptor,
    pub(super) result: ScanResult,
}

/// What to attest of an image in a registry: the manifests that there are results of, and their index if that is all of
/// its platforms.
pub(super) fn registry_images(remote: &RegistryImage, results: &[(Digest, ScanResult)]) -> anyhow::Result<Vec<Image>> {
    let result_of = |digest: &Digest| results.iter().find(|(of, _)| of == digest).map(|(_, result)| result.clone());
    let Some(platforms) = &remote.platforms else {
        let subject = remote.root.clone();
        return Ok(result_of(&subject.digest).map(|result| Image { subject, result }).into_iter().collect());
    };
    let mut images = Vec::new();
    for subject in platforms {
        images.extend(result_of(&subject.digest).map(|result| Image { subject: subject.clone(), result }));
    }
    if images.len() == platforms.len() && !images.is_empty() {
        let all: Vec<ScanResult> = images.iter().map(|image| image.result.clone()).collect();
        let result = ScanResult::of_index(&all);
        ensure!(result.is_some(), "the reports are of scans with different rules, or judged by different policies");
        images.extend(result.map(|result| Image { subject: remote.root.clone(), result }));
    }
    Ok(images)
}

/// What to attest of an image elsewhere.
pub(super) fn local_images(results: &[(Digest, ScanResult)]) -> Vec<Image> {
    let subject = |digest: &Digest| Descriptor { digest: digest.clone(), ..Descriptor::of(MANIFEST, b"") };
    results.iter().map(|(digest, result)| Image { subject: subject(digest), result: result.clone() }).collect()
}
