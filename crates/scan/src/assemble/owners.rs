//! Finds the package that a file of the image belongs to.

use std::sync::Arc;

use layersift_model::{FileChecksums, ImagePath, LayerReport, Owners, Package, PathKey};

use super::work::Work;

/// The package of the file at `path`, which layer `index` added: its nearest npm package, or the package that lists the
/// file in its records. The records of the same layer take precedence over those of the layers below.
/// `None` too if there is no `work` left to look.
pub(crate) fn owner(
    path: &ImagePath,
    index: usize,
    layers: &[Option<Arc<LayerReport>>],
    work: &mut Work,
) -> Option<Package> {
    let reports: Vec<&Owners> = layers.iter().take(index + 1).rev().flatten().map(|report| &report.owners).collect();
    npm(path, &reports, work).or_else(|| os(path, &reports, work))
}

fn npm(path: &ImagePath, reports: &[&Owners], work: &mut Work) -> Option<Package> {
    let reports: Vec<_> = reports.iter().filter(|owners| !owners.npm.is_empty()).collect();
    if reports.is_empty() {
        return None;
    }
    let directories = path.ancestor_keys();
    if !work.take((directories.len() * reports.len()) as u64) {
        return None;
    }
    // The nearest first. A package.json at the root would own every file of the image.
    let nearest = directories.iter().skip(1).rev();
    nearest.into_iter().find_map(|key| reports.iter().find_map(|owners| owners.npm.get(key)).cloned())
}

fn os(path: &ImagePath, reports: &[&Owners], work: &mut Work) -> Option<Package> {
    let keys = keys(path);
    if !work.take(reports.len() as u64) {
        return None;
    }
    let package = reports.iter().find_map(|owners| {
        let index = keys.iter().find_map(|key| owners.files.get(key))?;
        owners.os.get(*index as usize).cloned()
    })?;
    let version = reports.iter().find_map(|owners| owners.versions.get(&package.name)).cloned();
    Some(Package { version: package.version.or(version), ..package })
}

/// The ecosystem of the package that ships the file at `path`, which layer `index` added, with exactly the checksums
/// `content`. The records of the same layer take precedence over those of the layers below.
pub(crate) fn shipped_by<'l>(
    path: &ImagePath,
    content: &FileChecksums,
    index: usize,
    layers: &'l [Option<Arc<LayerReport>>],
    work: &mut Work,
) -> Option<&'l str> {
    let keys = keys(path);
    if !work.take(index as u64) {
        return None;
    }
    let mut reports = layers.iter().take(index + 1).rev().flatten();
    let (ecosystem, sum) = reports.find_map(|report| keys.iter().find_map(|key| report.owners.sums.get(key)))?;
    content.is(sum).then_some(&**ecosystem)
}

/// The paths under which a package may list a file: in an image with a merged /usr, /lib and /bin are below /usr.
fn keys(path: &ImagePath) -> Vec<PathKey> {
    let unmerged = path.as_bytes().strip_prefix(b"usr/").map(ImagePath::normalize);
    [Some(path.clone()), unmerged].into_iter().flatten().map(|path| path.key()).collect()
}
