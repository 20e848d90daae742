//! What is carved: the files of findings, a file at a path, or a whole layer.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};

use super::image::OpenedImage;
use layersift_evidence::{Artifact, ArtifactKind, Carver, FoundIn, LayerIdentity, Wanted};
use layersift_format::manifest::Image;
use layersift_model::{Digest, FileLocation, Finding, ImageReport, Location};

/// What stands for all findings.
const ALL: &str = "all";

/// What is carved of an image.
pub(super) struct Selection<'i> {
    pub(super) image: &'i Image,
    /// The report that the findings are of.
    pub(super) report: Option<&'i ImageReport>,
    /// What is wanted of each layer. A whole layer is wanted by itself.
    layers: Vec<(usize, Vec<Wanted>)>,
    /// Documents, and the findings in them.
    documents: BTreeMap<Digest, (String, Vec<FoundIn>)>,
}

impl<'i> Selection<'i> {
    /// The file at `path` of a layer, or the whole layer.
    pub(super) fn of_layer(opened: &'i OpenedImage, layer: usize, path: Option<&str>) -> anyhow::Result<Selection<'i>> {
        let [image] = &opened.images[..] else {
            bail!("the target has {} images: choose one with --platform, or name it", opened.images.len());
        };
        let wanted = path.map_or_else(Wanted::blob, |path| Wanted::path(path.as_bytes()));
        Ok(Selection { image, report: None, layers: vec![(layer, vec![wanted])], documents: BTreeMap::new() })
    }

    /// The files and documents of the findings with these ids. All have to be of one image.
    pub(super) fn of_findings(
        opened: &'i OpenedImage,
        reports: &'i [ImageReport],
        ids: &BTreeSet<&str>,
    ) -> anyhow::Result<Selection<'i>> {
        let is_wanted = |finding: &&Finding| ids.contains(ALL) || ids.contains(&finding.id[..]);
        let mut with_findings = reports.iter().filter(|report| report.findings.iter().any(|one| is_wanted(&one)));
        let (Some(report), None) = (with_findings.next(), with_findings.next()) else {
            bail!("the findings are of no image of the target, or of several: name those of one");
        };
        let known: BTreeSet<&str> = report.findings.iter().map(|finding| &finding.id[..]).collect();
        for id in ids.iter().filter(|id| **id != ALL) {
            ensure!(known.contains(id), "{id}: the image has no finding with this id");
        }
        let image = opened.images.iter().find(|image| {
            (&image.manifest_digest, &image.config_digest) == (&report.manifest_digest, &report.config_digest)
        });
        let image = image.context("the report is not of this image: its manifest or configuration is another one")?;
        let mut selection = Selection { image, report: Some(report), layers: Vec::new(), documents: BTreeMap::new() };
        let mut files: BTreeMap<(usize, Option<u32>), Wanted> = BTreeMap::new();
        for finding in report.findings.iter().filter(is_wanted) {
            match &finding.location {
                Location::File(file) => {
                    let entry = file.attributes.as_ref().map(|attributes| attributes.entry);
                    let new = || entry.map_or_else(Wanted::blob, Wanted::entry);
                    let wanted = files.entry((file.layer_of_entry(), entry)).or_insert_with(new);
                    wanted.findings.push((found(finding), range(finding, file)));
                }
                Location::Config(_) => {
                    selection.add_document("configuration", report.config_digest.as_ref(), finding)?
                }
                Location::Document(document) => {
                    let document = &document.document;
                    selection.add_document(&document.kind, document.digest.as_ref(), finding)?;
                }
                Location::Image => {
                    ensure!(ids.contains(ALL), "{}: a combination of findings is in no file", finding.id);
                }
            }
        }
        for ((layer, entry), wanted) in files {
            match selection.layers.last_mut().filter(|(last, of)| *last == layer && entry.is_some() && !of.is_empty()) {
                // What is in no file of a layer comes first, as its whole blob.
                Some((_, of)) if !of.iter().any(Wanted::is_blob) => of.push(wanted),
                _ => selection.layers.push((layer, vec![wanted])),
            }
        }
        Ok(selection)
    }

    /// What the artifacts of a bundle say that they are, without findings.
    pub(super) fn of_artifacts(image: &'i Image, artifacts: &[Artifact]) -> Selection<'i> {
        let mut selection = Selection { image, report: None, layers: Vec::new(), documents: BTreeMap::new() };
        for artifact in artifacts {
            let entry = artifact.attributes.as_ref().map(|attributes| attributes.entry);
            let wanted = match (artifact.kind, entry) {
                (ArtifactKind::File, Some(entry)) => Wanted::entry(entry),
                _ => Wanted::blob(),
            };
            match (artifact.layer, &artifact.digest, selection.layers.last_mut()) {
                (Some(layer), _, Some((last, of)))
                    if *last == layer && !of.iter().chain([&wanted]).any(Wanted::is_blob) =>
                {
                    of.push(wanted);
                }
                (Some(layer), _, _) => selection.layers.push((layer, vec![wanted])),
                (None, Some(digest), _) => {
                    selection.documents.insert(digest.clone(), (artifact.path.clone(), Vec::new()));
                }
                // It is of nothing, so it is missed.
                (None, None, _) => {}
            }
        }
        selection
    }

    fn add_document(&mut self, what: &str, digest: Option<&Digest>, finding: &Finding) -> anyhow::Result<()> {
        let digest = digest.with_context(|| format!("{}: the {what} has no digest", finding.id))?;
        let (_, findings) = self.documents.entry(digest.clone()).or_insert_with(|| (what.into(), Vec::new()));
        findings.push(found(finding));
        Ok(())
    }

    /// Takes all of it out.
    pub(super) fn carve(&self, opened: &OpenedImage, carver: &mut Carver) -> anyhow::Result<()> {
        for (layer, wanted) in &self.layers {
            carver.layer(self.identity(*layer)?, opened.layer(self.image, *layer)?, wanted)?;
        }
        for (digest, (what, findings)) in &self.documents {
            carver.document(what, &opened.document(self.image, digest)?, findings.clone())?;
        }
        Ok(())
    }

    /// What the image says of a layer.
    fn identity(&self, index: usize) -> anyhow::Result<LayerIdentity> {
        let count = self.image.layers.len();
        let layer =
            self.image.layers.get(index).with_context(|| format!("the image has no layer {index}, but {count}"))?;
        let summary = self.report.and_then(|report| report.layers.get(index));
        Ok(LayerIdentity {
            index,
            digest: layer.digest.clone(),
            diff_id: layer.diff_id.clone(),
            created_by: summary.and_then(|summary| summary.created_by.clone()),
            created_at: summary.and_then(|summary| summary.created_at),
            ..LayerIdentity::default()
        })
    }
}

fn found(finding: &Finding) -> FoundIn {
    let file = finding.file();
    let document = finding.document();
    FoundIn {
        id: finding.id.clone(),
        rule: finding.rule.id.clone(),
        severity: finding.severity.name().into(),
        masked: finding.secret.as_ref().map(|secret| secret.masked.clone()),
        fingerprint: finding.fingerprint().map(Into::into),
        inside: file.map(|file| file.inside.clone()).unwrap_or_default(),
        views: file.map(|file| file.views.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        line: file.and_then(|file| file.line).or(document.and_then(|document| document.line)),
        state: finding.state().name().into(),
        ended_by: file.and_then(|file| file.ended_by.as_ref()).map(|layer| layer.index),
        range: None,
    }
}

/// Where the secret is in its file, if it is written there as it is.
fn range(finding: &Finding, file: &FileLocation) -> Option<(u64, u64)> {
    let is_plain = file.inside.is_empty() && file.views.is_empty();
    let length = finding.secret.as_ref().filter(|_| is_plain)?.length;
    Some((file.offset?, length as u64))
}
