//! The filters: a form that the script shows, and the numbers that it filters by. No text goes to the script.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use layersift_model::{Finding, Severity, State};
use serde_json::json;

use super::Image;
use crate::markup::{json_in_script, one_line, plain};

/// Rules and layers that can be chosen.
const CHOICES: usize = 1_000;

/// Writes the form, which is hidden until the script finds it; nothing where there is nothing to filter.
pub(super) fn form(images: &[Image<'_>], out: &mut dyn Write) -> io::Result<()> {
    if images.iter().all(|image| image.report.findings.is_empty()) {
        return writeln!(out, "<noscript></noscript>");
    }
    writeln!(out, "<noscript><p>Without JavaScript everything is here; only the filters are not.</p></noscript>")?;
    writeln!(out, "<form id=\"filters\" hidden aria-label=\"Filter the picture and the findings\">")?;
    writeln!(out, "<label>Path or text <input type=\"search\" name=\"text\" autocomplete=\"off\"></label>")?;
    severities(out)?;
    select("rule", "Rule", rules(images).into_iter().zip(0..).map(|((_, name), index)| (index, name)), out)?;
    select("layer", "Layer", layers(images).into_iter(), out)?;
    let states = State::ALL.into_iter().zip(0..).map(|(state, index)| (index, state.name().into()));
    select("state", "State", states, out)?;
    let judged = ["counts", "allowed", "in the baseline"].map(String::from);
    let has_judged = images.iter().flat_map(Image::findings).any(|finding| !finding.counts());
    let judged = judged.into_iter().zip(0..).map(|(name, index)| (index, name)).filter(|_| has_judged);
    select("judged", "Policy", judged, out)?;
    writeln!(out, "<button type=\"reset\">Clear</button>")?;
    writeln!(out, "<output role=\"status\" aria-live=\"polite\"></output>\n</form>")
}

fn severities(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<label>Severity <select name=\"severity\"><option value=\"\">all</option>")?;
    let severities = Severity::ALL.into_iter().enumerate();
    writeln!(out, "<optgroup label=\"At least\">")?;
    for (rank, severity) in severities.clone().filter(|(rank, _)| (1..4).contains(rank)) {
        writeln!(out, "<option value=\"0 {rank}\">{severity} or above</option>")?;
    }
    writeln!(out, "</optgroup><optgroup label=\"Only\">")?;
    for (rank, severity) in severities {
        writeln!(out, "<option value=\"{rank} {rank}\">{severity}</option>")?;
    }
    writeln!(out, "</optgroup></select></label>")
}

/// Writes a list to choose from; nothing where there is nothing to choose.
fn select(
    name: &str,
    label: &str,
    choices: impl Iterator<Item = (i64, String)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let choices: Vec<(i64, String)> = choices.take(CHOICES).collect();
    if choices.is_empty() {
        return Ok(());
    }
    writeln!(out, "<label>{label} <select name=\"{name}\"><option value=\"\">all</option>")?;
    for (value, name) in choices {
        writeln!(out, "<option value=\"{value}\">{}</option>", plain(&name))?;
    }
    writeln!(out, "</select></label>")
}

/// The rules of all findings by id, with what they are called in the list.
fn rules<'r>(images: &[Image<'r>]) -> BTreeMap<&'r str, String> {
    let rules = images.iter().flat_map(|image| &image.sections).map(|section| section.rule);
    rules.map(|rule| (&rule.id[..], one_line(&format!("{}: {}", rule.id, rule.title), 90))).collect()
}

/// The layers with findings, by their number, with their instruction if there is one image; -1 stands for none.
fn layers(images: &[Image<'_>]) -> BTreeMap<i64, String> {
    let numbers: BTreeSet<i64> = images.iter().flat_map(Image::findings).map(layer).collect();
    let made = |number: i64| match images {
        [one] => usize::try_from(number).ok().and_then(|index| one.report.layers.get(index)?.created_by.as_deref()),
        _ => None,
    };
    let name = |number: i64| match (number, made(number)) {
        (-1, _) => "none (configuration, documents)".into(),
        (_, Some(made)) => one_line(&format!("{number}: {made}"), 70),
        (_, None) => number.to_string(),
    };
    numbers.into_iter().map(|number| (number, name(number))).collect()
}

fn layer(finding: &Finding) -> i64 {
    finding.file().and_then(|file| i64::try_from(file.layer.index).ok()).unwrap_or(-1)
}

/// Writes what the findings are filtered by: a list of numbers for each field, in the order of the page.
pub(super) fn data(images: &[Image<'_>], out: &mut dyn Write) -> io::Result<()> {
    let rules: BTreeMap<&str, usize> = rules(images).into_keys().zip(0..).collect();
    let all: Vec<&Finding> = images.iter().flat_map(Image::findings).collect();
    let rank = |finding: &Finding| Severity::ALL.iter().position(|severity| *severity == finding.severity);
    let state = |finding: &Finding| State::ALL.iter().position(|state| *state == finding.state());
    let judged = |finding: &Finding| match (&finding.allowed, finding.baseline) {
        (Some(_), _) => 1,
        (None, true) => 2,
        (None, false) => 0,
    };
    let data = json!({
        "images": images.iter().map(|image| image.report.findings.len()).collect::<Vec<_>>(),
        "rule": all.iter().map(|finding| rules.get(&finding.rule.id[..])).collect::<Vec<_>>(),
        "severity": all.iter().map(|finding| rank(finding)).collect::<Vec<_>>(),
        "layer": all.iter().map(|finding| layer(finding)).collect::<Vec<_>>(),
        "state": all.iter().map(|finding| state(finding)).collect::<Vec<_>>(),
        "judged": all.iter().map(|finding| judged(finding)).collect::<Vec<_>>(),
        "lane": lanes(images),
    });
    writeln!(out, "<script type=\"application/json\" id=\"data\">{}</script>", json_in_script(&data))
}

/// The line of the picture that each finding is on, counted over all pictures of the page; -1 for none.
fn lanes(images: &[Image<'_>]) -> Vec<i64> {
    let mut lanes = Vec::new();
    let mut before = 0;
    for image in images {
        let of_entry = image.picture.lane_of_entry();
        for entry in image.sections.iter().flat_map(|section| &section.entries) {
            let lane = of_entry.get(&entry.number).and_then(|lane| i64::try_from(before + lane).ok()).unwrap_or(-1);
            lanes.extend(entry.places.iter().map(|_| lane));
        }
        before += image.picture.lanes();
    }
    lanes
}
