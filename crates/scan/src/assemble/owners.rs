//! Finds the package that a file of the image belongs to.

use std::sync::Arc;

use layersift_model::{FileChecksums, ImagePath, LayerReport, Owners, Package, PathKey};

/// The package of the file at `path`, which layer `index` added: its nearest npm package, or the package that lists the
/// file in its records. The records of the same layer take precedence over those of the layers below.
pub fn owner(path: &ImagePath, index: usize, layers: &[Option<Arc<LayerReport>>]) -> Option<Package> {
    let reports: Vec<&Owners> = layers.iter().take(index + 1).rev().flatten().map(|report| &report.owners).collect();
    npm(path, &reports).or_else(|| os(path, &reports))
}

fn npm(path: &ImagePath, reports: &[&Owners]) -> Option<Package> {
    // A package.json at the root would own every file of the image.
    path.ancestors().filter(|directory| !directory.is_root()).find_map(|directory| {
        let key = directory.key();
        reports.iter().find_map(|owners| owners.npm.get(&key)).cloned()
    })
}

fn os(path: &ImagePath, reports: &[&Owners]) -> Option<Package> {
    let keys = keys(path);
    let package = reports.iter().find_map(|owners| {
        let index = keys.iter().find_map(|key| owners.files.get(key))?;
        owners.os.get(*index as usize).cloned()
    })?;
    let version = reports.iter().find_map(|owners| owners.versions.get(&package.name)).cloned();
    Some(Package { version: package.version.or(version), ..package })
}

/// The ecosystem of the package that ships the file at `path`, which layer `index` added, with exactly the checksums
/// `content`. The records of the same layer take precedence over those of the layers below.
pub fn shipped_by<'l>(
    path: &ImagePath,
    content: &FileChecksums,
    index: usize,
    layers: &'l [Option<Arc<LayerReport>>],
) -> Option<&'l str> {
    let keys = keys(path);
    let mut reports = layers.iter().take(index + 1).rev().flatten();
    let (ecosystem, sum) = reports.find_map(|report| keys.iter().find_map(|key| report.owners.sums.get(key)))?;
    content.is(sum).then_some(&**ecosystem)
}

/// The paths under which a package may list a file: in an image with a merged /usr, /lib and /bin are below /usr.
fn keys(path: &ImagePath) -> Vec<PathKey> {
    let unmerged = path.as_bytes().strip_prefix(b"usr/").map(ImagePath::normalize);
    [Some(path.clone()), unmerged].into_iter().flatten().map(|path| path.key()).collect()
}
