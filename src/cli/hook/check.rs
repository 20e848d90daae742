//! The check of an event: the rules of images and those for prompts, over its text and the files that it mentions.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::checker::{Checker, HIDDEN};
use super::content::{NameId, Place, Text};
use super::event::{Assistant, Event, Kind};
use super::{files, message};
use crate::cli::context;
use layersift_format::json::Node;
use layersift_model::{Gap, Severity};
use layersift_prompts::PlainText;
use layersift_report::Policy;

/// How events are checked.
pub(super) struct Settings<'s> {
    pub(super) rules: &'s [PathBuf],
    pub(super) policy: Option<&'s Path>,
    /// The least severity that blocks, if it is not that of the policy; `Some(None)` blocks nothing.
    pub(super) fail_on: Option<Option<Severity>>,
    /// The most bytes of files that are read.
    pub(super) most_bytes: u64,
}

/// What was found. What is shown of it has no secret in it: names and paths may be secrets themselves.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Findings that block.
    pub(super) found: Vec<Found>,
    /// What could not be checked, a line each.
    pub(super) unchecked: Vec<String>,
    /// The tool, as it is shown.
    pub(super) tool: Option<String>,
    /// The file that the event is about, as it is shown.
    pub(super) file: Option<String>,
    /// The file that the assistant keeps the conversation in, as it is shown.
    pub(super) transcript: Option<String>,
    /// The names in the event in which something was found. They are not shown.
    pub(super) hidden: HashSet<String>,
}

/// A finding that blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) rule: String,
    pub(super) title: String,
    /// The secret, masked; `None` for text that is no secret.
    pub(super) masked: Option<String>,
    /// Where it is, as it is shown.
    pub(super) place: String,
    /// Where in the event it is, unless it is in a file.
    pub(super) at: Option<Place>,
    /// The name of the value it is in, unless it is in a file. It is compared and never shown.
    pub(super) part: Option<String>,
}

impl Checked {
    /// Adds a finding unless the same is known of its value, or of one that it is in or that is in it.
    pub(super) fn add(&mut self, found: Found) {
        let is_same = |known: &Found| {
            known.rule == found.rule
                && known.masked == found.masked
                && match (&known.part, &found.part) {
                    (Some(known), Some(part)) => is_within(known, part) || is_within(part, known),
                    (known, part) => known == part,
                }
        };
        if !self.found.iter().any(is_same) {
            self.found.push(found);
        }
    }
}

/// Whether the value `part` is the value `outer` or in it.
pub(super) fn is_within(part: &str, outer: &str) -> bool {
    part.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Checks `event`.
///
/// # Errors
/// If the rules or the policy cannot be used.
pub(super) fn check(event: &Event, settings: &Settings<'_>) -> anyhow::Result<Checked> {
    if event.kind == Kind::Nothing || (event.kind == Kind::Other && event.content.is_empty()) {
        return Ok(Checked::default());
    }
    context::load_ahead();
    let policy = policy(settings)?;
    let checker = Checker::new(settings.rules, policy)?;
    let mut checked = Checked::default();
    as_it_is(event, &checker, event.content.text(), &mut checked);
    disguised(event, &checker, &mut checked);
    // What is found in the structure alone needs the names around it.
    if !event.content.structure().bytes().is_empty() {
        as_it_is(event, &checker, event.content.structure(), &mut checked);
    }
    files::embedded(event, &checker, &mut checked);
    if matches!(event.kind, Kind::Prompt | Kind::Other) {
        files::mentioned(event, settings.most_bytes, &checker, &mut checked);
    }
    hide(event, &checker, &mut checked);
    // The process ends soon, and thousands of rules need not be given back one by one.
    std::mem::forget(checker);
    Ok(checked)
}

fn policy(settings: &Settings<'_>) -> anyhow::Result<Policy> {
    let mut policy = match settings.policy {
        Some(path) => Policy::read(path, context::today())?,
        None => Policy::default(),
    };
    if let Some(limit) = settings.fail_on {
        policy.fail_on = limit;
    }
    Ok(policy)
}

/// Checks `text` of `event`.
fn as_it_is(event: &Event, checker: &Checker, text: &Text, checked: &mut Checked) {
    let report = checker.scan("prompt", text.bytes(), event.scope());
    checked.unchecked.extend(report.gaps.iter().map(|gap| unread("the text", &gap.gap)));
    for offset in checker.offsets(&report) {
        note_name(event, text.place(offset), checked);
    }
    for (found, offset) in checker.blocking(&report) {
        checked.add(placed(event, found, offset.and_then(|offset| text.place(offset))));
    }
    files::packed(event, text.bytes(), &|offset| text.place(offset), checker, checked);
}

/// Checks the text without escapes and without characters that hide a secret.
fn disguised(event: &Event, checker: &Checker, checked: &mut Checked) {
    let text = event.content.text();
    for plain in PlainText::rounds(text.bytes()) {
        let report = checker.scan("prompt", plain.bytes(), event.scope());
        checked.unchecked.extend(report.gaps.iter().map(|gap| unread("the text", &gap.gap)));
        let place = |offset: usize| text.place(plain.origin(&(offset..offset + 1)).start);
        for offset in checker.offsets(&report) {
            note_name(event, place(offset), checked);
        }
        for (found, offset) in checker.blocking(&report).filter(|(found, _)| PlainText::counts(&found.rule)) {
            checked.add(placed(event, found, offset.and_then(place)));
        }
        files::packed(event, plain.bytes(), &place, checker, checked);
    }
}

/// Notes that something was found at `place`, if that is a name.
fn note_name(event: &Event, place: Option<Place>, checked: &mut Checked) {
    let name = place.filter(|place| place.is_in_name).and_then(|place| event.content.path(place.name).pop());
    checked.hidden.extend(name.map(String::from));
}

/// `found` at `place` of the event.
pub(super) fn placed(event: &Event, found: Found, place: Option<Place>) -> Found {
    let Some(place) = place else { return Found { place: "the text".into(), part: None, ..found } };
    // A secret of the structure may consist of several values.
    let part = event.content.path(place.whole.unwrap_or(place.name)).join(".");
    Found { at: Some(place), part: Some(part), ..found }
}

/// `place` for a person.
fn described(event: &Event, place: Place, hidden: &HashSet<String>) -> String {
    let name = named(event, place.name, hidden);
    match (place.is_in_name, place.line) {
        (true, _) => format!("the name of {name}"),
        (false, Some(line)) => format!("{name}, line {line}"),
        (false, None) => name,
    }
}

/// The names of a value, for a person.
pub(super) fn named(event: &Event, name: NameId, hidden: &HashSet<String>) -> String {
    let path = event.content.path(name);
    match (&path[..], &event.file) {
        (["content"], Some(file)) => file.clone(),
        _ => path.iter().map(|name| if hidden.contains(*name) { HIDDEN } else { name }).collect::<Vec<_>>().join("."),
    }
}

pub(super) fn unread(what: &str, gap: &Gap) -> String {
    format!("{what}: {}", gap.detail)
}

/// Takes secrets out of all that is shown: a name, a path or a member of an archive may be one.
fn hide(event: &Event, checker: &Checker, checked: &mut Checked) {
    let Checked { found, unchecked, tool, file, transcript, hidden } = checked;
    if found.is_empty() && unchecked.is_empty() {
        return;
    }
    if let (Assistant::Claude, Some((_, response))) = (event.assistant, &event.response) {
        let mut names = HashSet::new();
        add_names(response, &mut names);
        names.retain(|name| checker.shown(name) != *name);
        hidden.extend(names.into_iter().map(String::from));
    }
    // No more than that are listed.
    unchecked.truncate(message::MOST_LISTED);
    unchecked.iter_mut().for_each(|line| *line = checker.shown(line));
    for (index, one) in found.iter_mut().enumerate() {
        let place = one.at.map_or_else(|| std::mem::take(&mut one.place), |at| described(event, at, hidden));
        one.place = if index < message::MOST_LISTED { checker.shown(&place) } else { HIDDEN.into() };
    }
    let shown = |text: &Option<String>| text.as_deref().map(|text| checker.shown(text));
    (*tool, *file, *transcript) = (shown(&event.tool), shown(&event.file), shown(&event.transcript));
}

/// Adds the names of all members in `value`.
fn add_names<'v>(value: &'v Node, names: &mut HashSet<&'v str>) {
    for item in value.elements() {
        add_names(item, names);
    }
    for (name, value) in value.members() {
        names.insert(name);
        add_names(value, names);
    }
}
