//! Masks secrets in the names of a layer and in the texts of an image. They are printed, stored and sent on; what a
//! rule finds in one is a finding, and must not get out through the text.

mod known;
mod names;

use layersift_model::{FingerprintKey, Gap, HardLink, ImagePath, ImageReport, LayerReport, Origin, Owners, Package};

pub(crate) use known::KnownSecrets;
pub use names::NameWork;

/// Masks the secrets of the layer's findings in everything that the report says besides.
pub(crate) fn mask_layer(report: &mut LayerReport) {
    // The secrets of a layer that was just read have their bytes, which any key will do for.
    let key = FingerprintKey::default();
    let found: Vec<_> = report.findings.iter().filter_map(|finding| finding.secret.clone()).collect();
    let Some(secrets) = KnownSecrets::of(&found, &key) else { return };
    for finding in &mut report.findings {
        secrets.mask_path(&mut finding.place.path);
        finding.place.inside.iter_mut().for_each(|name| secrets.mask(name));
        finding.note.iter_mut().for_each(|note| secrets.mask(note));
    }
    report.whiteouts.iter_mut().for_each(|path| secrets.mask(path));
    for HardLink { link, origin, .. } in &mut report.hard_links {
        secrets.mask_path(link);
        if let Origin::Below(path) = origin {
            secrets.mask_path(path);
        }
    }
    for link in &mut report.symlinks {
        secrets.mask_path(&mut link.path);
        if let Some(masked) = secrets.masked(&link.target) {
            link.target = masked;
        }
    }
    for Gap { path, detail, .. } in &mut report.gaps {
        path.iter_mut().chain([detail]).for_each(|text| secrets.mask(text));
    }
    secrets.mask_owners(&mut report.owners);
}

/// Masks `secrets` in every text that the report has from the image.
pub(crate) fn mask_report(report: &mut ImageReport, secrets: Option<&KnownSecrets<'_>>) {
    if let Some(secrets) = secrets {
        report.for_each_text(&mut |text| secrets.mask(text));
    }
}

impl KnownSecrets<'_> {
    pub(crate) fn mask(&self, text: &mut String) {
        if let Some(masked) = self.masked(text.as_bytes()) {
            *text = String::from_utf8_lossy(&masked).into_owned();
        }
    }

    fn mask_path(&self, path: &mut ImagePath) {
        if let Some(masked) = self.masked(path.as_bytes()) {
            *path = path.masked(&masked);
        }
    }

    fn mask_owners(&self, owners: &mut Owners) {
        for Package { name, version, .. } in owners.npm.values_mut().chain(&mut owners.os) {
            [Some(name), version.as_mut()].into_iter().flatten().for_each(|text| self.mask(text));
        }
        let has_secret = |name: &String, version: &String| {
            self.masked(name.as_bytes()).is_some() || self.masked(version.as_bytes()).is_some()
        };
        if owners.versions.iter().any(|(name, version)| has_secret(name, version)) {
            for (mut name, mut version) in std::mem::take(&mut owners.versions) {
                self.mask(&mut name);
                self.mask(&mut version);
                owners.versions.insert(name, version);
            }
        }
    }
}
