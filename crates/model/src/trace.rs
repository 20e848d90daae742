//! The answer to a trace: every image and tag that has a secret, a finding, a layer, a path or a file of a package.
//!
//! Times are seconds since 1970, UTC.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::finding::{Package, State};
use crate::layer_key::LayerKey;
use crate::rule_info::{Confidence, Severity};

/// What a trace found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceReport {
    /// How many images have it.
    pub total: u64,
    /// Whether `total` is exact; otherwise there are at least as many.
    pub is_exact: bool,
    /// Images that have it, those with the fewest layers first, because they are the possible bases. There are fewer
    /// than `total` where a limit was given.
    pub images: Vec<TracedImage>,
    /// Whether `places_total` of every image is exact; otherwise the images may have it in more places.
    pub places_are_complete: bool,
    /// Where its secrets were seen in prompts and in answers of models, the first first; at most 1,000.
    #[serde(default)]
    pub prompts: Vec<TracedPrompt>,
}

impl TraceReport {
    /// The report of a trace that found nothing.
    pub fn empty() -> TraceReport {
        let (images, prompts) = (Vec::new(), Vec::new());
        TraceReport { total: 0, is_exact: true, images, places_are_complete: true, prompts }
    }

    /// Whether what was looked for is nowhere.
    pub fn is_empty(&self) -> bool {
        self.total == 0 && self.prompts.is_empty()
    }

    /// Calls `change` with the names of all repositories and tags.
    pub fn for_each_name(&mut self, change: &mut dyn FnMut(&mut String)) {
        for TracedTag { repository, tag, .. } in self.images.iter_mut().flat_map(|image| &mut image.tags) {
            [&mut repository.project, &mut repository.repository].into_iter().chain(tag).for_each(&mut *change);
        }
    }

    /// Adds the answer to a trace for the same secret by another fingerprint; names at most `limit` images.
    pub fn add(&mut self, other: TraceReport, limit: usize) {
        self.total += other.total;
        self.is_exact &= other.is_exact;
        self.places_are_complete &= other.places_are_complete;
        self.images.extend(other.images);
        self.images.truncate(limit);
        self.prompts.extend(other.prompts);
        self.prompts.sort_by_key(|prompt| prompt.first_seen);
    }
}

/// An image that has what was looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedImage {
    /// The digest of its manifest.
    pub manifest_digest: Digest,
    /// The digest of its configuration.
    pub config_digest: Option<Digest>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
    /// How many layers it has.
    pub layers_count: u64,
    /// When it was first seen.
    pub first_seen: i64,
    /// Its tags, those that exist now first; at most 20.
    pub tags: Vec<TracedTag>,
    /// How many tags it has had in all.
    pub tags_total: u64,
    /// Where in the image it is, by layer; at most 50 places.
    pub places: Vec<TracedPlace>,
    /// In how many places of the image it is.
    pub places_total: u64,
}

/// A place in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedPlace {
    /// The finding; `None` where a layer was looked for.
    pub finding: Option<TracedFinding>,
    /// The layer that it is in; `None` for the configuration.
    pub layer: Option<TracedLayer>,
    /// Whether it is still in the final image; `None` where no report of the image was made with the finding's key.
    pub state: Option<State>,
    /// The layer that overwrote or deleted it, by its position from 0 at the base.
    pub ended_by: Option<u64>,
    /// The base image that brought it, where one did.
    pub base: Option<BaseImage>,
}

/// A finding, as a trace names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedFinding {
    /// Its id.
    pub finding_id: String,
    /// What was looked for.
    pub rule: RuleSummary,
    /// The file, where it is in one.
    pub path: Option<String>,
    /// The archive members that lead to it, from the file inwards.
    pub inside: Vec<String>,
    /// The field of the configuration, where it is in one.
    pub config: Option<String>,
    /// The secret's keyed fingerprint.
    pub fingerprint: Option<String>,
    /// The secret's masked form.
    pub masked: Option<String>,
    /// The secret's length in bytes.
    pub length: Option<u64>,
    /// The package that the file belongs to.
    pub package: Option<Package>,
    /// The key of the reports that it is from.
    pub layer_key: LayerKey,
    /// When it was first stored.
    pub first_seen: i64,
    /// Where the secret was seen first in a prompt or in an answer of a model, if it was.
    #[serde(default)]
    pub first_prompt: Option<Box<TracedPrompt>>,
}

/// Whose text a secret was seen in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromptDirection {
    /// What went to a model.
    Prompt,
    /// What came from a model.
    Answer,
    /// What came from a model earlier, as a client sent it again in the history of a chat.
    Quoted,
}

impl PromptDirection {
    /// All directions.
    pub const ALL: [PromptDirection; 3] = [PromptDirection::Prompt, PromptDirection::Answer, PromptDirection::Quoted];

    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            PromptDirection::Prompt => "prompt",
            PromptDirection::Answer => "answer",
            PromptDirection::Quoted => "quoted",
        }
    }

    /// The direction of that name.
    pub fn named(name: &str) -> Option<PromptDirection> {
        PromptDirection::ALL.into_iter().find(|direction| direction.name() == name)
    }

    /// The words for people.
    pub fn describe(self) -> &'static str {
        match self {
            PromptDirection::Prompt => "a prompt",
            PromptDirection::Answer => "a model's answer",
            PromptDirection::Quoted => "a model's answer, as a client sent it again",
        }
    }
}

/// Where a secret was seen by a gate for prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedPrompt {
    /// The secret's keyed fingerprint.
    pub fingerprint: Option<String>,
    /// Whose text it was in.
    pub direction: PromptDirection,
    /// The client that sent or got it.
    pub client: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The id of the rule that found it.
    pub rule: String,
    /// When it was seen first.
    pub first_seen: i64,
    /// When it was seen last.
    pub last_seen: i64,
}

/// A rule, as traces and sweeps name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSummary {
    /// The rule's id.
    pub id: String,
    /// A few words.
    pub title: String,
    /// How bad the finding is: the rule's severity, or less.
    pub severity: Severity,
    /// How sure the finding is.
    pub confidence: Confidence,
}

/// A layer of an image, as a trace names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedLayer {
    /// Its position in the image, from 0 at the base.
    pub position: u64,
    /// The digest of its blob.
    pub digest: Digest,
    /// The digest of its uncompressed bytes.
    pub diff_id: Option<Digest>,
    /// The history instruction that made it, secrets masked.
    pub created_by: Option<String>,
}

/// An image that another one was built on: it consists of the first layers of the other, and no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseImage {
    /// The digest of its manifest: the first image with exactly these layers that was stored.
    pub manifest_digest: Digest,
    /// How many layers it has.
    pub layers_count: u64,
}

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Repository {
    /// The registry's host and port.
    pub registry: String,
    /// The project, in a registry that has projects; otherwise empty.
    pub project: String,
    /// The repository's name, without the project.
    pub repository: String,
}

/// A tag of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedTag {
    /// Where it is.
    pub repository: Repository,
    /// The tag; `None` for an image that was listed without one.
    pub tag: Option<String>,
    /// What the tag names: the image, or an index that lists it.
    pub digest: Digest,
    /// When it was first seen on this image.
    pub first_seen: i64,
    /// When it was last seen on this image.
    pub last_seen: i64,
    /// When it was found to be deleted or moved to another image.
    pub gone_at: Option<i64>,
    /// Since when sweeps that cover it have not seen it.
    pub unseen_since: Option<i64>,
    /// The user who was logged in then; `None` for nobody.
    pub unseen_by: Option<String>,
}
