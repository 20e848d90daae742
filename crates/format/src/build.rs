//! How an image was built: the instruction of each layer and of each entry of the history, and the base image.
//!
//! Lines come from a Dockerfile that the reader names or from the provenance of the image; the base from an image that
//! the reader names, from the provenance, or from annotations. Provenance and annotations are what the author of the
//! image claims. What contradicts the image changes nothing but the notes.

mod claims;
mod field;
mod patch;

use layersift_model::{BuildEvidence, BuildStep, Digest, ImageBase};

use crate::config::HistoryEntry;
use crate::dockerfile::{Dockerfile, Variables, keyword, match_history};
use crate::history;
use crate::manifest::{Image, ImageKind, UnpackedImage};
use crate::provenance::{LayerLines, Provenance, Untold};

pub use claims::BuildClaims;
pub use patch::Fix;

/// What the reader of an image knows about its build.
#[derive(Clone, Debug, Default)]
pub struct BuildHints {
    /// The Dockerfile.
    pub dockerfile: Option<NamedDockerfile>,
    /// Images, one of which it may be based on: one for each platform.
    pub bases: Vec<KnownBase>,
}

/// A Dockerfile and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedDockerfile {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub dockerfile: Dockerfile,
    /// Its lines.
    pub lines: Vec<String>,
}

/// An image whose layers are known.
#[derive(Clone, Debug, Default)]
pub struct KnownBase {
    /// Its name.
    pub reference: String,
    /// The digest of its manifest.
    pub digest: Option<Digest>,
    /// The digests of its layers, compressed and not, as far as they are known.
    pub layers: Vec<(Option<Digest>, Option<Digest>)>,
    /// The number of entries of its history.
    pub history: usize,
}

/// How an image was built, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// The instruction that made each layer.
    pub layers: Vec<Option<BuildStep>>,
    /// The instruction that wrote each entry of the history.
    pub history: Vec<Option<BuildStep>>,
    /// The base image.
    pub base: Option<ImageBase>,
    /// How many entries of the history are those of the base image.
    pub base_history: Option<usize>,
    /// What contradicts the image or was not used.
    pub notes: Vec<String>,
    /// The Dockerfile that the lines are of.
    file: Option<NamedDockerfile>,
    /// Whether the provenance has that Dockerfile.
    is_claimed: bool,
}

impl NamedDockerfile {
    /// The Dockerfile `name`, which has the text `text`.
    pub fn new(name: &str, text: &str) -> NamedDockerfile {
        let lines = text.lines().map(Into::into).collect();
        NamedDockerfile { name: name.into(), dockerfile: Dockerfile::parse(text, &Variables::new()), lines }
    }
}

impl KnownBase {
    /// `image`, which was read as `reference`.
    pub fn new(reference: &str, image: &Image) -> KnownBase {
        KnownBase {
            reference: reference.into(),
            digest: image.manifest_digest.clone(),
            layers: image.layers.iter().map(|layer| (layer.digest.clone(), layer.diff_id.clone())).collect(),
            history: image.config.read().history.len(),
        }
    }

    /// Whether the layers of `image` begin with those of this one.
    fn begins(&self, image: &Image) -> bool {
        let is_same = |known: &Option<Digest>, found: &Option<Digest>| known.is_some() && known == found;
        !self.layers.is_empty()
            && self.layers.len() <= image.layers.len()
            && self.layers.iter().zip(&image.layers).all(|((digest, diff_id), layer)| match (diff_id, &layer.diff_id) {
                (Some(known), Some(found)) => known == found,
                _ => is_same(digest, &layer.digest),
            })
    }
}

impl Build {
    /// What is known about the build of `image`, from what the reader and the author say.
    pub fn of(image: &UnpackedImage<'_>, hints: &BuildHints, claims: &BuildClaims) -> Build {
        let entries = image.config.history.len();
        let mut build = Build {
            layers: vec![None; image.layers.len()],
            history: vec![None; entries],
            notes: claims.notes.clone(),
            ..Build::default()
        };
        if image.kind != ImageKind::Image || !image.has_config {
            return build;
        }
        build.add_known_base(image, hints);
        match &hints.dockerfile {
            Some(named) => {
                let stage = named.dockerfile.stages.len().checked_sub(1);
                build.add_dockerfile(image, named, stage, BuildEvidence::Option);
                build.file = Some(named.clone());
                build.add_provenance_base(image, claims);
            }
            None => build.add_provenance(image, claims),
        }
        build.add_annotations(claims);
        build
    }

    /// Whether an entry of the history is of the base image; `None` if that is not known.
    pub fn is_base_entry(&self, entry: usize) -> Option<bool> {
        self.base_history.map(|count| entry < count)
    }

    /// The instruction at a line of the Dockerfile that the provenance has.
    pub fn step_at(&self, line: u64) -> Option<BuildStep> {
        let NamedDockerfile { name, dockerfile, .. } = self.file.as_ref().filter(|_| self.is_claimed)?;
        let instruction = dockerfile.instruction_at(line);
        let lines = instruction.map_or((line, line), |found| (found.line, found.end_line));
        Some(step(name, dockerfile, lines, BuildEvidence::Provenance))
    }

    /// The change of the Dockerfile, or of `.dockerignore`, that fixes something, if it does not have to be guessed. It
    /// quotes lines of the Dockerfile, which may hold secrets.
    pub fn patch(&self, fix: Fix<'_>) -> Option<String> {
        self.file.as_ref()?.patch(fix)
    }

    /// The entry of the history that set a field of the configuration, such as `Env[1]`, if only one can have.
    pub fn entry_of(&self, image: &UnpackedImage<'_>, field: &str) -> Option<usize> {
        field::entry(&image.config, field)
    }

    fn add_known_base(&mut self, image: &UnpackedImage<'_>, hints: &BuildHints) {
        // Of several that fit, the one with the most layers.
        let fitting = hints.bases.iter().filter(|base| base.begins(image));
        let best = fitting.max_by_key(|base| base.layers.len());
        let Some(base) = best else {
            if let Some(base) = hints.bases.first() {
                self.notes
                    .push(format!("the image does not begin with the layers of the base image {}", base.reference));
            }
            return;
        };
        self.base = Some(ImageBase {
            reference: Some(base.reference.clone()),
            digest: base.digest.clone(),
            layers: Some(base.layers.len()),
            evidence: BuildEvidence::Option,
            is_proven: true,
        });
        self.base_history = Some(base.history).filter(|count| *count > 0 && *count <= image.config.history.len());
    }

    /// Adds the lines of a Dockerfile, whose stage `stage` was built.
    fn add_dockerfile(
        &mut self,
        image: &UnpackedImage<'_>,
        named: &NamedDockerfile,
        stage: Option<usize>,
        evidence: BuildEvidence,
    ) {
        let NamedDockerfile { name, dockerfile, .. } = named;
        let history = &image.config.history;
        let Some(stage) = stage else {
            self.notes.push(format!("{name} has no stage"));
            return;
        };
        let matched = match_history(dockerfile, stage, history);
        for (entry, instruction) in matched.instructions.iter().enumerate() {
            let found = instruction.and_then(|index| dockerfile.instructions.get(index));
            self.history[entry] = found.map(|one| step(name, dockerfile, (one.line, one.end_line), evidence));
        }
        let is_option = evidence == BuildEvidence::Option;
        let aligned = history::align(&image.config, image.layers.len());
        if is_option && matched.is_squashed {
            self.notes.push(format!(
                "several instructions of {name} are in one layer, as buildah builds without --layers; \
                 their layer has no line"
            ));
        } else if is_option {
            let step_of = |entry: &Option<usize>| {
                let entry = entry.filter(|entry| history.get(*entry).is_some_and(has_files))?;
                self.history.get(entry)?.clone()
            };
            self.layers = aligned.entries.iter().map(step_of).collect();
        }
        if let Some(unmatched) = matched.unmatched.and_then(|index| dockerfile.instructions.get(index))
            && is_option
        {
            self.notes.push(format!(
                "line {} of {name} and the lines before it do not match the history of the image",
                unmatched.line
            ));
        }
        self.base_history = self.base_history.or(matched.own_from);
        let root =
            dockerfile.lineage(stage).first().and_then(|root| dockerfile.stages.get(*root)).map(|root| &root.base);
        if let (Some(own_from), Some(root), true) = (matched.own_from, root, is_option)
            && aligned.fits
            && !root.eq_ignore_ascii_case("scratch")
        {
            let is_before = |entry: &&Option<usize>| entry.is_some_and(|entry| entry < own_from);
            let layers = aligned.entries.iter().filter(is_before).count();
            let reference = Some(root.clone()).filter(|root| !root.contains('$'));
            self.claim(ImageBase { reference, digest: None, layers: Some(layers), evidence, is_proven: false });
        }
    }

    fn add_provenance(&mut self, image: &UnpackedImage<'_>, claims: &BuildClaims) {
        let Some((provenance, lines)) = self.provenance(image, claims) else { return };
        if let Some(file) = &provenance.file {
            let (name, dockerfile, lines_of_file) = (file.name.clone(), file.dockerfile.clone(), file.lines.clone());
            let named = NamedDockerfile { name, dockerfile, lines: lines_of_file };
            let steps = lines.lines.iter().map(|lines| {
                lines.first().map(|lines| step(&named.name, &named.dockerfile, *lines, BuildEvidence::Provenance))
            });
            self.layers = steps.collect();
            self.add_dockerfile(image, &named, provenance.target_stage(), BuildEvidence::Provenance);
            (self.file, self.is_claimed) = (Some(named), true);
        }
        self.claim_base(provenance, &lines);
    }

    fn add_provenance_base(&mut self, image: &UnpackedImage<'_>, claims: &BuildClaims) {
        if let Some((provenance, lines)) = self.provenance(image, claims) {
            self.claim_base(provenance, &lines);
        }
    }

    /// The provenance of the image, and the lines of its layers. Two that say different things say nothing.
    fn provenance<'c>(
        &mut self,
        image: &UnpackedImage<'_>,
        claims: &'c BuildClaims,
    ) -> Option<(&'c Provenance, LayerLines)> {
        let manifest = image.manifest_digest.as_ref();
        let (own, others): (Vec<_>, Vec<_>) =
            claims.provenances.iter().partition(|one| manifest.is_some_and(|manifest| one.is_about(manifest)));
        if !others.is_empty() {
            self.notes.push("a provenance is about another manifest and was not used".into());
        }
        let layers: Vec<Option<Digest>> = image.layers.iter().map(|layer| layer.digest.clone()).collect();
        let mut told: Vec<(&Provenance, LayerLines)> = Vec::new();
        for provenance in own {
            if provenance.wrong_lines() > 0 {
                self.notes.push("the provenance names lines that its Dockerfile does not have".into());
            }
            match provenance.layer_lines(&layers) {
                Ok(lines) => told.push((provenance, lines)),
                Err(Untold::NoSteps) => told.push((provenance, LayerLines::default())),
                Err(untold) => self.notes.push(untold.to_string()),
            }
        }
        told.dedup_by(|one, other| one.1 == other.1);
        if told.len() > 1 {
            self.notes.push("the image has several provenances that contradict each other; none was used".into());
            return None;
        }
        let (provenance, mut lines) = told.pop()?;
        lines.lines.resize(image.layers.len(), Vec::new());
        Some((provenance, lines))
    }

    fn claim_base(&mut self, provenance: &Provenance, lines: &LayerLines) {
        let evidence = BuildEvidence::Provenance;
        let claim = match &lines.base {
            Some(base) => ImageBase {
                reference: Some(base.reference.clone()),
                digest: base.digest.clone(),
                layers: Some(base.layers),
                evidence,
                is_proven: false,
            },
            None => match claims::only_image(&provenance.materials) {
                Some((reference, digest)) => {
                    ImageBase { reference: Some(reference), digest, layers: None, evidence, is_proven: false }
                }
                None => return,
            },
        };
        self.claim(claim);
    }

    fn add_annotations(&mut self, claims: &BuildClaims) {
        if let Some((reference, digest)) = &claims.annotated_base {
            let (reference, digest) = (reference.clone(), digest.clone());
            let evidence = BuildEvidence::Annotation;
            self.claim(ImageBase { reference, digest, layers: None, evidence, is_proven: false });
        }
    }

    /// Takes the base image that something names, if nothing better does.
    fn claim(&mut self, claim: ImageBase) {
        let Some(base) = &self.base else {
            self.base = Some(claim);
            return;
        };
        if let (Some(layers), Some(known)) = (claim.layers, base.layers)
            && layers != known
        {
            self.notes.push(format!(
                "the {} says that the base image has {layers} layers, the {} that it has {known}",
                source(&claim),
                source(base)
            ));
        }
    }
}

fn source(base: &ImageBase) -> &'static str {
    match base.evidence {
        BuildEvidence::Option if base.is_proven => "base image that was named",
        BuildEvidence::Option => "Dockerfile",
        BuildEvidence::Store => "store",
        BuildEvidence::Provenance => "provenance",
        BuildEvidence::Annotation => "annotation",
    }
}

/// Whether an entry is of an instruction that makes a layer.
fn has_files(entry: &HistoryEntry) -> bool {
    matches!(keyword(entry), "RUN" | "COPY" | "ADD" | "WORKDIR")
}

fn step(name: &str, dockerfile: &Dockerfile, (line, end_line): (u64, u64), evidence: BuildEvidence) -> BuildStep {
    let stage = dockerfile.stage_at(line);
    BuildStep {
        file: name.into(),
        line,
        end_line,
        stage: stage.map(|stage| dockerfile.stage_name(stage)),
        base: stage.and_then(|stage| dockerfile.stages.get(stage)).map(|stage| stage.base.clone()),
        evidence,
    }
}

#[cfg(test)]
mod tests;
