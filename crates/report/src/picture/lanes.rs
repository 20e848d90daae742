//! The lanes of the picture: one for each secret or, where there are too many, one for secrets that have something in
//! common.

use std::collections::BTreeMap;

use layersift_model::{Finding, Severity, State};

use crate::grouped::{Entry, Section};
use crate::markup::one_line;

/// When a secret is there: it comes with a layer, and is there until a layer ends it or the image ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    /// The layer that brings it; `None` for the configuration and other documents, which are not in a layer.
    pub(super) from: Option<usize>,
    /// The layer that ends it.
    pub(super) to: Option<usize>,
    pub(super) state: State,
}

/// A vertical line of the picture.
pub(super) struct Lane {
    pub(super) severity: Severity,
    /// What it shows, in words.
    pub(super) title: String,
    /// The numbers of its secrets; the first is the one that it leads to.
    pub(super) entries: Vec<usize>,
    /// When they are there, and how many.
    pub(super) segments: BTreeMap<Segment, usize>,
}

/// A secret on its way to a lane.
struct Drawn<'s, 'r> {
    section: &'s Section<'r>,
    entry: &'s Entry<'r>,
    segments: Vec<Segment>,
}

/// What secrets of one rule have in common if they share a lane, from when they are there.
type Share<'f> = &'f dyn Fn(&[Segment]) -> Vec<Segment>;

/// At most `most` lanes for the secrets of `sections`, in their order. Secrets share a lane if there are too many:
/// those of one rule that come and go together, then those of one rule and state, then those of one rule.
pub(super) fn lanes(sections: &[Section<'_>], most: usize) -> Vec<Lane> {
    let secrets = || {
        sections.iter().flat_map(|section| {
            let secrets = section.entries.iter().filter(|entry| entry.is_secret());
            secrets.map(move |entry| Drawn { section, entry, segments: segments(entry) })
        })
    };
    if secrets().count() <= most {
        return secrets().map(|drawn| lane(vec![drawn])).collect();
    }
    let states = |segments: &[Segment]| {
        let mut states: Vec<State> = segments.iter().map(|segment| segment.state).collect();
        states.sort_unstable();
        states.dedup();
        states.into_iter().map(|state| Segment { from: None, to: None, state }).collect()
    };
    let shared: [Share<'_>; 3] = [&<[Segment]>::to_vec, &states, &|_| Vec::new()];
    let mut groups: Vec<Vec<Drawn<'_, '_>>> = Vec::new();
    for share in shared {
        groups = grouped(secrets(), share);
        if groups.len() <= most {
            break;
        }
    }
    if groups.len() > most {
        // The sections are ordered by severity: what shares the last lane is the least severe.
        let rest = groups.split_off(most.saturating_sub(1)).into_iter().flatten().collect();
        groups.push(rest);
    }
    groups.into_iter().map(lane).collect()
}

/// The secrets by rule, severity and what `share` makes of when they are there.
fn grouped<'s, 'r>(secrets: impl Iterator<Item = Drawn<'s, 'r>>, share: Share<'_>) -> Vec<Vec<Drawn<'s, 'r>>> {
    let mut groups: Vec<Vec<Drawn<'s, 'r>>> = Vec::new();
    let mut known: BTreeMap<(&str, Severity, Vec<Segment>), usize> = BTreeMap::new();
    for drawn in secrets {
        let key = (&drawn.section.rule.id[..], drawn.section.severity, share(&drawn.segments));
        let index = *known.entry(key).or_insert(groups.len());
        match groups.get_mut(index) {
            Some(group) => group.push(drawn),
            None => groups.push(vec![drawn]),
        }
    }
    groups
}

fn lane(group: Vec<Drawn<'_, '_>>) -> Lane {
    let first = group.first();
    let severity = first.map_or(Severity::Info, |drawn| drawn.section.severity);
    let mut counts: BTreeMap<Segment, usize> = BTreeMap::new();
    group.iter().flat_map(|drawn| &drawn.segments).for_each(|segment| *counts.entry(*segment).or_default() += 1);
    let lives: Vec<String> = counts.keys().take(4).map(|segment| segment.in_words()).collect();
    let more = if counts.len() > 4 { "; and others" } else { "" };
    Lane {
        severity,
        title: format!("{} ({severity}): {}{more}.", name(&group), lives.join("; ")),
        entries: group.iter().map(|drawn| drawn.entry.number).collect(),
        segments: counts,
    }
}

/// What the secrets of a lane are called.
fn name(group: &[Drawn<'_, '_>]) -> String {
    let Some(first) = group.first() else { return String::new() };
    let rule = one_line(&first.section.rule.title, 120);
    let is_one_rule = group.iter().all(|drawn| drawn.section.rule.id == first.section.rule.id);
    match group.len() {
        1 => {
            let secret = first.entry.first().and_then(|finding| finding.secret.as_ref());
            let masked = secret.map(|secret| one_line(&secret.masked, 80)).unwrap_or_default();
            format!("{}: {rule}, {masked}", first.entry.number)
        }
        count if is_one_rule => format!("{count} secrets of the rule {rule}"),
        count => format!("{count} other secrets"),
    }
}

/// When the secret is there, each time once.
fn segments(entry: &Entry<'_>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = entry.places.iter().map(|finding| segment(finding)).collect();
    segments.sort_unstable();
    segments.dedup();
    segments
}

/// When the secret of `finding` is there.
fn segment(finding: &Finding) -> Segment {
    let Some(file) = finding.file() else { return Segment { from: None, to: None, state: State::Present } };
    let from = file.layer.index;
    // What is gone and has no layer that ended it was ended by its own.
    let to = file.ended_by.as_ref().map(|end| end.index).or((file.state != State::Present).then_some(from));
    Segment { from: Some(from), to, state: file.state }
}

impl Segment {
    /// When it is there, in words.
    fn in_words(self) -> String {
        match (self.from, self.to) {
            (None, _) => "in the configuration or another document".into(),
            (Some(from), Some(to)) => format!("comes with layer {from}, {} in layer {to}", self.state.name()),
            (Some(from), None) => format!("comes with layer {from}, in the final image"),
        }
    }
}
