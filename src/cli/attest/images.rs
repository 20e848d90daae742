//! The digests that are attested: of every platform, and of the index that has them.

use std::collections::BTreeMap;

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

/// The results by the digests of the manifests. One manifest has one: another report might say something else.
pub(super) fn by_digest(
    results: impl IntoIterator<Item = (Digest, ScanResult)>,
) -> anyhow::Result<BTreeMap<Digest, ScanResult>> {
    let mut all = BTreeMap::new();
    for (digest, result) in results {
        ensure!(!all.contains_key(&digest), "{digest}: there are several reports of this manifest; pass one of them");
        all.insert(digest, result);
    }
    Ok(all)
}

/// What to attest of an image in a registry: the manifests that there are results of, and their index if that is all of
/// the manifests that it leads to.
///
/// # Errors
/// For a result of another image: what it says is not lost.
pub(super) fn registry_images(
    remote: &RegistryImage,
    results: &BTreeMap<Digest, ScanResult>,
) -> anyhow::Result<Vec<Image>> {
    let subjects: Vec<&Descriptor> = match &remote.platforms {
        Some(platforms) => platforms.iter().map(|platform| &platform.subject).collect(),
        None => vec![&remote.root],
    };
    for digest in results.keys() {
        let is_of_image = subjects.iter().any(|subject| subject.digest == *digest);
        ensure!(is_of_image, "{}: the report of {digest} is not of this image", remote.target());
    }
    let image = |subject: &&Descriptor| {
        let result = results.get(&subject.digest)?.clone();
        Some(Image { subject: (*subject).clone(), result })
    };
    let mut images: Vec<Image> = subjects.iter().filter_map(image).collect();
    if remote.platforms.is_some() && images.len() == subjects.len() && !images.is_empty() {
        let all: Vec<ScanResult> = images.iter().map(|image| image.result.clone()).collect();
        let result = ScanResult::of_index(&all);
        ensure!(result.is_some(), "the reports are of scans with different rules, or judged by different policies");
        images.extend(result.map(|result| Image { subject: remote.root.clone(), result }));
    }
    Ok(images)
}

/// What to attest of an image elsewhere.
pub(super) fn local_images(results: &BTreeMap<Digest, ScanResult>) -> Vec<Image> {
    let subject = |digest: &Digest| Descriptor { digest: digest.clone(), ..Descriptor::of(MANIFEST, b"") };
    results.iter().map(|(digest, result)| Image { subject: subject(digest), result: result.clone() }).collect()
}
