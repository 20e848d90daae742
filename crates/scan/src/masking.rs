//! Masks secrets in the names of a layer and in the texts of an image. They are printed, stored and sent on; what a
//! rule finds in one is a finding, and must not get out through the text.

use std::collections::{BTreeSet, HashMap};

use layersift_model::{Gap, HardLink, ImagePath, ImageReport, LayerReport, Origin, Owners, Package, Secret};

/// Shorter secrets may be ordinary words.
const SHORTEST: usize = 12;

/// No name is longer than a path.
const LONGEST: usize = layersift_model::LONGEST_NAME;

/// The first bytes of a secret, by which it is found.
const HEAD: usize = 8;

/// Masks the secrets of the layer's findings in everything that the report says besides.
pub(crate) fn mask_layer(report: &mut LayerReport) {
    let secrets = report.findings.iter().filter_map(|finding| finding.secret.as_ref());
    let Some(secrets) = Secrets::of(secrets) else { return };
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

/// Masks the secrets of an image's findings in every text that its report has from the image.
pub(crate) fn mask_report(report: &mut ImageReport) {
    let found = report.findings.iter().filter_map(|finding| finding.secret.as_ref()?.value.as_ref());
    if let Some(secrets) = Secrets::of(found) {
        report.for_each_text(&mut |text| secrets.mask(text));
    }
}

/// The secrets that may be in names.
struct Secrets {
    /// By their first bytes; of those that begin alike the longest first.
    by_head: HashMap<[u8; HEAD], Vec<(Vec<u8>, String)>>,
    /// Which pairs of bytes begin one: most places of a text need no look at the map.
    begins: Box<[bool; 1 << 16]>,
}

/// The number of a pair of bytes.
fn pair(head: &[u8; HEAD]) -> usize {
    usize::from(u16::from_le_bytes([head[0], head[1]]))
}

impl Secrets {
    /// Those of `secrets` that may be; `None` if none may be in a name.
    fn of<'f>(secrets: impl Iterator<Item = &'f Secret>) -> Option<Secrets> {
        let fits = |secret: &&Secret| (SHORTEST..=LONGEST).contains(&secret.reveal().len());
        let distinct: BTreeSet<&Secret> = secrets.filter(fits).collect();
        let mut by_head: HashMap<[u8; HEAD], Vec<(Vec<u8>, String)>> = HashMap::new();
        for secret in distinct {
            let bytes = secret.reveal();
            if let Some(head) = bytes.first_chunk() {
                by_head.entry(*head).or_default().push((bytes.to_vec(), secret.masked()));
            }
        }
        by_head.values_mut().for_each(|secrets| secrets.sort_by_key(|(bytes, _)| std::cmp::Reverse(bytes.len())));
        let mut begins = Box::new([false; 1 << 16]);
        by_head.keys().for_each(|head| begins[pair(head)] = true);
        (!by_head.is_empty()).then_some(Secrets { by_head, begins })
    }

    /// `text` with all secrets masked; `None` if it has none.
    fn masked(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut out: Option<Vec<u8>> = None;
        let (mut at, mut copied) = (0, 0);
        while let Some(head) = text.get(at..).and_then(|rest| rest.first_chunk::<HEAD>()) {
            let known = if self.begins[pair(head)] { self.by_head.get(head) } else { None };
            let known = known.into_iter().flatten();
            let found = known.into_iter().find(|(secret, _)| text[at..].starts_with(secret));
            let Some((secret, masked)) = found else {
                at += 1;
                continue;
            };
            let out = out.get_or_insert_default();
            out.extend_from_slice(&text[copied..at]);
            out.extend_from_slice(masked.as_bytes());
            at += secret.len();
            copied = at;
        }
        if let Some(out) = &mut out {
            out.extend_from_slice(&text[copied..]);
        }
        out
    }

    fn mask(&self, text: &mut String) {
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
