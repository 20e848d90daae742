//! BuildKit's provenance: which lines of which Dockerfile made which layers, as the author of an image says.
//!
//! Sources: BuildKit, `docs/attestations/slsa-definitions.md` and `slsa-provenance.md`; SLSA provenance v0.2 and v1.
//! Only provenance of `mode=max` has a Dockerfile and steps.
//!
//! A step lists chains: all layers of what it made, base first. A layer is told by its place in a chain and not by its
//! digest, because compression and timestamps may be changed after the steps were written down.

mod read;

use std::collections::BTreeSet;

use layersift_model::Digest;

use crate::dockerfile::{Dockerfile, Variables};

/// The most instructions that one layer may come from.
const MAX_LINES: usize = 16;

/// What a provenance says about a build.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// The digests of the manifests that the statement is about; empty if it names none.
    pub subjects: Vec<Digest>,
    /// The digest of the manifest that the index says the statement is about.
    pub attached_to: Option<Digest>,
    /// The Dockerfile, if there is one.
    pub file: Option<SourceFile>,
    /// The stage that was built, if it is not the last.
    pub target: Option<String>,
    /// What the build used.
    pub materials: Vec<Material>,
    steps: Vec<Step>,
    /// The number of ranges of lines that are not in the Dockerfile.
    wrong_lines: usize,
}

/// The Dockerfile of a build.
#[derive(Clone, Debug, Default)]
pub struct SourceFile {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub dockerfile: Dockerfile,
    /// Its lines.
    pub lines: Vec<String>,
}

/// Something that a build used, such as an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// Its package URL or address.
    pub uri: String,
    /// Its digest.
    pub digest: Option<Digest>,
}

/// A step of a build.
#[derive(Clone, Debug, Default)]
struct Step {
    /// The layers of each of its results, base first.
    chains: Vec<Vec<Digest>>,
    /// The ranges of lines of the instructions that it comes from.
    lines: Vec<(u64, u64)>,
    /// The image that it fetches.
    image: Option<String>,
}

/// What a provenance says about the layers of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerLines {
    /// For each layer, the first and the last line of the instructions that it may come from; the best is the first.
    pub lines: Vec<Vec<(u64, u64)>>,
    /// The image that the first layers are of.
    pub base: Option<StepBase>,
}

/// The image that a build fetched and began from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepBase {
    /// How the build names it.
    pub reference: String,
    /// The digest that the name ends in.
    pub digest: Option<Digest>,
    /// How many layers it has.
    pub layers: usize,
}

/// Why a provenance does not tell which lines made the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untold {
    /// It has no steps: it is of `mode=min`, or of another builder.
    NoSteps,
    /// None of its results has as many layers as the image.
    OtherLayers,
    /// Several of its results have as many layers, and nothing tells which is the image.
    Ambiguous,
}

impl Provenance {
    /// Whether the statement is about the image with the manifest `manifest`.
    ///
    /// A statement without a subject is about what the index attaches it to.
    pub fn is_about(&self, manifest: &Digest) -> bool {
        match self.subjects.is_empty() {
            true => self.attached_to.as_ref() == Some(manifest),
            false => self.subjects.contains(manifest),
        }
    }

    /// The lines that made the layers of an image whose manifest names `layers`.
    ///
    /// # Errors
    /// [`Untold`], if the provenance does not tell.
    pub fn layer_lines(&self, layers: &[Option<Digest>]) -> Result<LayerLines, Untold> {
        let chain = self.chain_of_image(layers)?;
        // The length of a chain that the image's begins with, and its steps.
        let mut starts: Vec<(usize, &Step)> = Vec::new();
        for step in &self.steps {
            let is_start = |one: &&Vec<Digest>| !one.is_empty() && chain.starts_with(one);
            let shortest = step.chains.iter().filter(is_start).map(Vec::len).min();
            starts.extend(shortest.map(|length| (length, step)));
        }
        starts.sort_by_key(|(length, _)| *length);
        let stages = self.stages_of(&starts);
        // Steps with chains of one length are looked at once, however many layers they have.
        let mut lines: Vec<Vec<(u64, u64)>> = Vec::with_capacity(chain.len());
        for same in starts.chunk_by(|(one, _), (other, _)| one == other) {
            let length = same.first().map_or(0, |(length, _)| *length);
            let own = self.lines_of(same.iter().map(|(_, step)| *step), &stages);
            lines.resize(length, own);
        }
        lines.resize(chain.len(), Vec::new());
        let base = starts.iter().filter_map(|(length, step)| Some((*length, step.image.as_ref()?))).next_back();
        let base = base.map(|(layers, image)| StepBase::new(image, layers));
        Ok(LayerLines { lines, base })
    }

    /// Lines that are not in the Dockerfile that the provenance has.
    pub fn wrong_lines(&self) -> usize {
        self.wrong_lines
    }

    /// The chain that is the whole image: the only one with as many layers, the one with its digests, or the one that
    /// the stage that was built made.
    fn chain_of_image(&self, layers: &[Option<Digest>]) -> Result<&[Digest], Untold> {
        if self.steps.iter().all(|step| step.chains.is_empty()) {
            return Err(Untold::NoSteps);
        }
        let mut candidates: Vec<(&Step, &Vec<Digest>)> = self
            .steps
            .iter()
            .flat_map(|step| step.chains.iter().map(move |chain| (step, chain)))
            .filter(|(_, chain)| chain.len() == layers.len() && !chain.is_empty())
            .collect();
        if candidates.is_empty() {
            return Err(Untold::OtherLayers);
        }
        let is_exact = |chain: &[Digest]| chain.iter().zip(layers).all(|(one, layer)| layer.as_ref() == Some(one));
        if let Some((_, chain)) = candidates.iter().find(|(_, chain)| is_exact(chain)) {
            return Ok(chain);
        }
        let different = |candidates: &[(&Step, &Vec<Digest>)]| {
            candidates.iter().map(|(_, chain)| *chain).collect::<BTreeSet<_>>().len()
        };
        if different(&candidates) > 1 {
            let target = self.target_stage();
            candidates.retain(|(step, _)| target.is_some() && self.stages_of_step(step).any(|one| Some(one) == target));
        }
        match (different(&candidates), candidates.first()) {
            (1, Some((_, chain))) => Ok(chain),
            _ => Err(Untold::Ambiguous),
        }
    }

    /// The index of the stage that was built.
    pub fn target_stage(&self) -> Option<usize> {
        let dockerfile = &self.file.as_ref()?.dockerfile;
        match &self.target {
            Some(target) => dockerfile.stage(target),
            None => dockerfile.stages.len().checked_sub(1),
        }
    }

    fn stages_of_step<'p>(&'p self, step: &'p Step) -> impl Iterator<Item = usize> + 'p {
        let stage = |(line, _): &(u64, u64)| self.file.as_ref()?.dockerfile.stage_at(*line);
        step.lines.iter().filter_map(stage)
    }

    /// The stages that the image is made of: those of the stage that was built, if the steps are in it.
    fn stages_of(&self, steps: &[(usize, &Step)]) -> BTreeSet<usize> {
        let (Some(file), Some(target)) = (&self.file, self.target_stage()) else { return BTreeSet::new() };
        let lineage: BTreeSet<usize> = file.dockerfile.lineage(target).into_iter().collect();
        let is_in = |step: &Step| self.stages_of_step(step).any(|stage| lineage.contains(&stage));
        let are_in = steps.iter().all(|(_, step)| step.lines.is_empty() || is_in(step));
        if are_in { lineage } else { BTreeSet::new() }
    }

    /// The ranges of lines of `steps`, which have the same result; those in `stages` first, the last of them before the
    /// others: a `FROM` of the same image in several stages is one step.
    fn lines_of<'s>(&self, steps: impl Iterator<Item = &'s Step>, stages: &BTreeSet<usize>) -> Vec<(u64, u64)> {
        let place = |line: u64| {
            let stage = self.file.as_ref()?.dockerfile.stage_at(line)?;
            stages.contains(&stage).then_some(stage)
        };
        let mut lines: Vec<(u64, u64)> = steps.flat_map(|step| step.lines.iter().copied()).collect();
        lines.sort_unstable();
        lines.dedup();
        lines.sort_by_cached_key(|(line, _)| std::cmp::Reverse(place(*line)));
        lines.truncate(MAX_LINES);
        lines
    }
}

impl StepBase {
    /// The base image `identifier`, such as `docker-image://docker.io/library/alpine:3@sha256:…`.
    fn new(identifier: &str, layers: usize) -> StepBase {
        let name = identifier.split_once("://").map_or(identifier, |(_, name)| name);
        let (reference, digest) = match name.rsplit_once('@') {
            Some((reference, digest)) => (reference, digest.parse().ok()),
            None => (name, None),
        };
        StepBase { reference: reference.into(), digest, layers }
    }
}

/// The build arguments among the options of a build.
fn build_arguments(options: &Variables) -> Variables {
    let argument = |(name, value): (&String, &String)| Some((name.strip_prefix("build-arg:")?.into(), value.clone()));
    options.iter().filter_map(argument).collect()
}

#[cfg(test)]
mod tests;
