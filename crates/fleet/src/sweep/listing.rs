//! What a sweep makes of its listing: what it rests on, whether there is less than there should be, and which tags are
//! gone.
//!
//! What a registry lists is never known to be the whole, so that it is said what the listing rests on. Only a listing
//! that came to its end with a login that was accepted says that a tag is gone, and only in the projects that it
//! listed. Every other tag that the sweep covers and did not see is not seen, which says nothing about the image.

use layersift_model::{ListingCounts, SweepListing, SweepProblem, SweepProblemKind};
use layersift_source::catalog::{Coverage, ListedRepositories};
use layersift_store::{CoveredTags, RunListing, TagGroup, TagRepositories};

use super::{Running, SweepError};

/// A fall against the last sweep that is worth a warning, in percent.
const WORTH_A_WARNING: u64 = 10;

/// What a sweep covers, and how much it should find there.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    /// Whether the filter admits everything that the catalog lists, so that a tag which is not listed is gone.
    pub is_whole: bool,
    /// The projects that were named; all, if empty.
    pub projects: Vec<String>,
    /// The filter in words: only sweeps with the same filter are compared.
    pub filter: String,
    /// How much less than the last time may be listed, in percent, for the sweep to be complete.
    pub max_shrink: Option<u64>,
    /// How many images must be listed for the sweep to be complete.
    pub at_least: Option<u64>,
}

impl Running<'_> {
    /// Judges the listing once the sweep has ended, and records which tags are gone and which were not seen. `None` for
    /// a catalog that is no listing of a registry.
    pub(super) fn judge_listing(&mut self, has_ended_early: bool) -> Result<Option<SweepListing>, SweepError> {
        let expected = &self.limits.expected;
        let images = self.sweep.progress.counted().images;
        if let Some(least) = expected.at_least.filter(|least| images < *least && !has_ended_early) {
            let listed = Counted("image", "images", images);
            self.add_problem(listing_problem(format!("{listed} listed, and at least {least} expected")));
        }
        let Some(coverage) = self.catalog.coverage() else { return Ok(None) };
        let counts = ListingCounts { projects: coverage.projects, repositories: coverage.repositories, images };
        let last = self.sweep.store.runs().last_listing(self.target, &expected.filter)?;
        let mut warnings = Vec::new();
        let mut is_reliable = coverage.is_checked && !has_ended_early;
        for fall in last.filter(|_| is_reliable).iter().flat_map(|last| falls(last, &counts)) {
            if fall.percent > WORTH_A_WARNING {
                warnings.push(fall.to_string());
            }
            if let Some(most) = self.limits.expected.max_shrink.filter(|most| fall.percent > *most) {
                is_reliable = false;
                let accept = "to accept it, sweep once without --max-shrink";
                self.add_problem(listing_problem(format!("{fall}, and at most {most} % allowed; {accept}")));
            }
        }
        let record = RunListing {
            filter: self.limits.expected.filter.clone(),
            user: coverage.user.clone(),
            counts,
            is_complete: is_reliable,
        };
        self.sweep.store.runs().put_listing(self.run, &record)?;
        if self.limits.expected.is_whole && !has_ended_early {
            self.mark(&coverage, is_reliable)?;
        }
        let mut notes = coverage.notes;
        notes.append(&mut self.notes);
        let Coverage { user, login, .. } = coverage;
        Ok(Some(SweepListing { user, login, counts, last, warnings, notes }))
    }

    /// Records which tags are gone, if the listing can be relied on, and which were not seen.
    fn mark(&self, coverage: &Coverage, is_reliable: bool) -> Result<(), SweepError> {
        let (tags, now) = (self.sweep.store.tags(), (self.sweep.clock)());
        let user = coverage.user.as_deref().unwrap_or_default();
        for host in self.catalog.hosts() {
            for group in coverage.listed.iter().filter(|_| is_reliable) {
                let project = group.project.as_deref().unwrap_or_default();
                let repositories = match &group.repositories {
                    ListedRepositories::AllBut(names) => TagRepositories::AllBut(names),
                    ListedRepositories::Only(names) => TagRepositories::Only(names),
                };
                let group = TagGroup { registry: host.name(), project, repositories };
                tags.mark_gone(&group, self.run, user, now)?;
            }
            let covered = match coverage.projects {
                Some(_) => CoveredTags::OfProjects(&self.limits.expected.projects),
                None => CoveredTags::OfRegistry,
            };
            tags.mark_unseen(host.name(), covered, self.run, user, now)?;
        }
        Ok(())
    }
}

fn listing_problem(reason: String) -> SweepProblem {
    SweepProblem { name: String::new(), kind: SweepProblemKind::Listing, reason }
}

/// A number of things, with their names for one and for several.
#[derive(Clone, Copy)]
struct Counted(&'static str, &'static str, u64);

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counted(one, several, count) = *self;
        write!(f, "{count} {}", if count == 1 { one } else { several })
    }
}

/// That fewer things are listed than the last time.
struct Fall {
    now: Counted,
    before: u64,
    /// Rounded up.
    percent: u64,
}

impl std::fmt::Display for Fall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fall { now, before, percent } = self;
        write!(f, "{now} listed, {before} by the last sweep: {percent} % fewer")
    }
}

fn falls(last: &ListingCounts, counts: &ListingCounts) -> Vec<Fall> {
    let numbers = [
        (last.projects.unwrap_or_default(), Counted("project", "projects", counts.projects.unwrap_or_default())),
        (last.repositories, Counted("repository", "repositories", counts.repositories)),
        (last.images, Counted("image", "images", counts.images)),
    ];
    let fall = |(before, now): (u64, Counted)| {
        let fewer = before.checked_sub(now.2).filter(|fewer| *fewer > 0)?;
        Some(Fall { now, before, percent: fewer.saturating_mul(100).div_ceil(before) })
    };
    numbers.into_iter().filter_map(fall).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_are_in_percent_and_rounded_up() {
        let counts = |repositories, images| ListingCounts { projects: Some(7), repositories, images };
        let percents = |last, now| falls(&last, &now).iter().map(|fall| fall.percent).collect::<Vec<_>>();
        assert_eq!(percents(counts(100, 1_000), counts(90, 899)), [10, 11]);
        assert_eq!(percents(counts(100, 0), counts(200, 0)), [0_u64; 0]);
        assert_eq!(percents(counts(3, 1), counts(0, 0)), [100, 100]);
        let text = falls(&counts(130, 5), &counts(90, 5))[0].to_string();
        assert_eq!(text, "90 repositories listed, 130 by the last sweep: 31 % fewer");
    }
}
