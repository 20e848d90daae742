//! The findings: a section for each rule with what, risk, fix and references, and in it the secrets with their places.

use std::collections::HashMap;
use std::io::{self, Write};

use layersift_model::RuleInfo;

use super::Image;
use super::places::Places;
use crate::grouped::{Entry, Section};
use crate::markup::{code, isolated, one_line, shown, web_address};
use crate::terminal::{plural, thousands};

/// Items of a list that are open; more are folded.
const OPEN: usize = 10;

/// Items of a folded list that a browser lays out together.
const CHUNK: usize = 100;

/// References of a rule.
const REFERENCES: usize = 20;

/// Writes all findings of the image.
pub(super) fn write(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    let count = image.report.findings.len() as u64;
    image.heading("findings", &format!("Findings <span class=\"count\">{}</span>", thousands(count)), out)?;
    if image.sections.is_empty() {
        return writeln!(out, "<p>Nothing was found.</p>");
    }
    let places = Places::new(image);
    let mut explained: HashMap<&str, usize> = HashMap::new();
    for (index, section) in image.sections.iter().enumerate() {
        let explained_in = *explained.entry(&section.rule.id).or_insert(index);
        begin(image, section, index, explained_in, out)?;
        let mut write = |entry: &Entry<'_>, out: &mut dyn Write| write_entry(image, entry, &places, out);
        folded(&section.entries, "finding", Entry::len, &mut write, out)?;
        writeln!(out, "</section>")?;
    }
    Ok(())
}

fn begin(image: &Image<'_>, section: &Section<'_>, index: usize, first: usize, out: &mut dyn Write) -> io::Result<()> {
    let (rule, severity, id, level) = (section.rule, section.severity, image.id, image.level + 1);
    writeln!(out, "<section class=\"rule\" id=\"{id}-r{index}\">")?;
    let (title, confidence) = (one_line(&rule.title, 200), rule.confidence.name());
    write!(out, "<h{level}><span class=\"severity {severity}\">{severity}</span> {} ", isolated(&title))?;
    writeln!(out, "{} <small>{confidence} confidence</small></h{level}>", code(&one_line(&rule.id, 200)))?;
    if first != index {
        return writeln!(out, "<p>What it is and what to do: <a href=\"#{id}-r{first}\">see above</a>.</p>");
    }
    explain(rule, out)
}

/// What, risk, fix and references of `rule`.
fn explain(rule: &RuleInfo, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<dl class=\"explained\">")?;
    for (name, text) in [("What", &rule.what), ("Risk", &rule.risk), ("Fix", &rule.fix)] {
        if !text.trim().is_empty() {
            writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", shown(&one_line(text, 4_000)))?;
        }
    }
    if !rule.references.is_empty() {
        write!(out, "<div><dt>References</dt><dd>")?;
        for (index, url) in rule.references.iter().take(REFERENCES).enumerate() {
            let separator = if index > 0 { "<br>" } else { "" };
            match web_address(url) {
                Some(url) => {
                    let url = shown(url);
                    write!(out, "{separator}<a rel=\"noreferrer noopener\" href=\"{url}\">{url}</a>")?;
                }
                None => write!(out, "{separator}{}", code(&one_line(url, 500)))?,
            }
        }
        writeln!(out, "</dd></div>")?;
    }
    writeln!(out, "</dl>")
}

/// Writes `items` as a list whose end is folded where it is long. `size` is how many findings an item has.
fn folded<T>(
    items: &[T],
    noun: &str,
    size: impl Fn(&T) -> usize,
    item: &mut dyn FnMut(&T, &mut dyn Write) -> io::Result<()>,
    out: &mut dyn Write,
) -> io::Result<()> {
    // One item is not worth a fold.
    let open = if items.len() <= OPEN + 1 { items.len() } else { OPEN };
    let (open, rest) = items.split_at(open);
    writeln!(out, "<ul>")?;
    open.iter().try_for_each(|one| item(one, out))?;
    writeln!(out, "</ul>")?;
    if rest.is_empty() {
        return Ok(());
    }
    let count = plural(rest.iter().map(size).sum::<usize>() as u64, &format!("more {noun}"));
    writeln!(out, "<details class=\"more\"><summary>{count}</summary>")?;
    for chunk in rest.chunks(CHUNK) {
        writeln!(out, "<ul class=\"chunk\">")?;
        chunk.iter().try_for_each(|one| item(one, out))?;
        writeln!(out, "</ul>")?;
    }
    writeln!(out, "</details>")
}

/// A secret with its places, or another finding in one line.
fn write_entry(image: &Image<'_>, entry: &Entry<'_>, places: &Places<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (id, number) = (image.id, entry.number);
    let Some(first) = entry.first() else { return Ok(()) };
    let Some(secret) = &first.secret else {
        write!(out, "<li class=\"p\" id=\"{id}-e{number}\"><b>{number}</b> ")?;
        places.write(first, out)?;
        return writeln!(out, "</li>");
    };
    write!(out, "<li class=\"e\" id=\"{id}-e{number}\"><b>{number}</b> {}", code(&one_line(&secret.masked, 200)))?;
    if image.has_private_key && !secret.fingerprint.is_empty() {
        write!(out, " <small>fingerprint {}</small>", code(&secret.fingerprint))?;
    }
    let mut place = |finding: &&layersift_model::Finding, out: &mut dyn Write| {
        write!(out, "<li class=\"p\">")?;
        places.write(finding, out)?;
        writeln!(out, "</li>")
    };
    folded(&entry.places, "place", |_| 1, &mut place, out)?;
    writeln!(out, "</li>")
}
