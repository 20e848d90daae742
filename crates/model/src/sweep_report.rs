//! The report of a sweep: what was scanned, what is new, and what could not be scanned.

use std::fmt;

use crate::digest::Digest;
use crate::image_report::ImageGap;
use crate::trace::RuleSummary;
use crate::verdict::Verdict;

/// The report of one sweep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepReport {
    /// What was swept, as it was called.
    pub target: String,
    /// The number of the run in the store.
    pub run: i64,
    /// What was done.
    pub sums: SweepSums,
    /// How many of the listed images fail.
    pub failing: u64,
    /// How many of the listed images have gaps.
    pub incomplete: u64,
    /// Images with gaps; not all of them where there are more than the sweep lists. See `incomplete`.
    pub incomplete_images: Vec<IncompleteImage>,
    /// What no earlier sweep of the same target found.
    pub news: Vec<NewFinding>,
    /// Whether `news` names everything that is new.
    pub news_are_complete: bool,
    /// Images, repositories and registries that could not be scanned; not all of them where there are more than the
    /// sweep lists. See `problems_total`.
    pub problems: Vec<SweepProblem>,
    /// How many there were.
    pub problems_total: u64,
    /// What the listing of images rests on; `None` for a list of a file.
    pub listing: Option<SweepListing>,
    /// Why the sweep ended before everything was scanned, if it did.
    pub ended_early: Option<String>,
    /// Fails where an image fails; incomplete where an image has gaps or was not scanned.
    pub verdict: Verdict,
}

impl SweepReport {
    /// Calls `change` with every name and message that a registry can choose.
    pub fn for_each_name(&mut self, change: &mut dyn FnMut(&mut String)) {
        for IncompleteImage { name, manifest_digest: _, gaps, gaps_total: _ } in &mut self.incomplete_images {
            change(name);
            gaps.iter_mut().for_each(|gap| change(&mut gap.gap.detail));
        }
        for SweepProblem { name, kind: _, reason } in &mut self.problems {
            [name, reason].into_iter().for_each(&mut *change);
        }
        if let Some(SweepListing { user: _, login: _, counts: _, last: _, warnings, notes }) = &mut self.listing {
            warnings.iter_mut().chain(notes).for_each(&mut *change);
        }
        self.ended_early.iter_mut().for_each(change);
    }
}

/// What a sweep did, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepSums {
    /// Images that were listed.
    pub images: u64,
    /// Layers that were read.
    pub layers_read: u64,
    /// Layers that were known already.
    pub layers_known: u64,
    /// Bytes that were pulled.
    pub bytes_pulled: u64,
    /// Bytes that were not pulled, because their layers were known.
    pub bytes_saved: u64,
}

/// What the listing of a registry's images rests on. That a registry lists everything it has is never known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepListing {
    /// The user who was logged in; `None` for nobody.
    pub user: Option<String>,
    /// What the registry says about the login.
    pub login: LoginState,
    /// What was listed.
    pub counts: ListingCounts,
    /// What the last complete sweep of the same target and filter listed.
    pub last: Option<ListingCounts>,
    /// What a person should look at: that there is much less than the last time.
    pub warnings: Vec<String>,
    /// What changed while images were listed and read, and what was not seen.
    pub notes: Vec<String>,
}

/// Numbers of things that were listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListingCounts {
    /// Projects, where the registry has projects.
    pub projects: Option<u64>,
    /// Repositories.
    pub repositories: u64,
    /// Images, of which each counts once in a repository.
    pub images: u64,
}

/// What a registry says about the login that it was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginState {
    /// None was given.
    #[default]
    Anonymous,
    /// It was accepted.
    Accepted,
    /// The registry lets anyone in, or cannot be asked without asking for something.
    Unchecked,
}

impl LoginState {
    /// The state as it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            LoginState::Anonymous => "anonymous",
            LoginState::Accepted => "accepted",
            LoginState::Unchecked => "unchecked",
        }
    }
}

/// Something that a sweep was the first to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFinding {
    /// The secret's keyed fingerprint, or the id of a finding that is not a secret.
    pub thing: String,
    /// The manifest digest of the first image that it was found in.
    pub image: Digest,
    /// A rule that found it.
    pub rule: RuleSummary,
    /// The secret's masked form.
    pub masked: Option<String>,
    /// The path of a file that it is in.
    pub path: Option<String>,
}

/// An image that was scanned with gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncompleteImage {
    /// The image, as the catalog names it.
    pub name: String,
    /// The digest of its manifest.
    pub manifest_digest: Option<Digest>,
    /// What was not read of it; the first of them where there are many.
    pub gaps: Vec<ImageGap>,
    /// How many gaps it has.
    pub gaps_total: u64,
}

/// Something that could not be scanned. `Display` writes one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepProblem {
    /// The image, repository or registry, as the catalog names it; empty where `reason` names it.
    pub name: String,
    /// What kind of problem it is.
    pub kind: SweepProblemKind,
    /// What happened, in words.
    pub reason: String,
}

/// What kind of problem kept a sweep from an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SweepProblemKind {
    /// A catalog, or a repository of it, could not be listed.
    Catalog,
    /// Less was listed than was expected.
    Listing,
    /// The registry cannot be used at all, such as for lack of a certificate.
    Registry,
    /// The image's manifest or configuration could not be read.
    Image,
    /// A document of the image is missing, or does not have the digest that names it.
    Documents,
    /// The registry refuses pulls until the image was scanned (Harbor's status 412).
    Blocked,
}

impl SweepProblemKind {
    /// The kind as it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            SweepProblemKind::Catalog => "catalog",
            SweepProblemKind::Listing => "listing",
            SweepProblemKind::Registry => "registry",
            SweepProblemKind::Image => "image",
            SweepProblemKind::Documents => "documents",
            SweepProblemKind::Blocked => "blocked",
        }
    }
}

impl fmt::Display for SweepProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}: {}", self.name, self.reason) }
    }
}
