//! What it takes to repeat the scan: the command, the program and its rules, and the policy.

use std::io::{self, Write};

use layersift_model::{ImageReport, ReportKind, Severity};

use super::Image;
use super::verdict::fact;
use crate::markup::{code, isolated, one_line};
use crate::terminal::plural;

/// Layers whose digests are written.
const LAYERS: usize = 1_000;

/// Writes the command and everything that the result depends on.
pub(super) fn write(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    let report = image.report;
    image.heading("repeat", "To repeat the scan", out)?;
    writeln!(out, "<p>The same program, rules and image give the same findings.</p>")?;
    match command(report) {
        Some(command) => writeln!(out, "<pre>{}</pre>", code(&command))?,
        None => writeln!(out, "<p>The target has characters that a shell does not take; see its name above.</p>")?,
    }
    writeln!(out, "<dl class=\"facts\">")?;
    let tool = &report.tool;
    fact("layersift", Some(&tool.version), out)?;
    fact("Rule set", Some(&tool.ruleset), out)?;
    fact("Pattern engine", Some(&tool.engine), out)?;
    fact("Reader revision", tool.reader_revision.map(|revision| revision.to_string()).as_deref(), out)?;
    let key = match (&tool.fingerprint_key, image.has_private_key) {
        (Some(id), true) => format!("{id} (the operator's own)"),
        (Some(id), false) => format!("{id} (built-in, public)"),
        (None, _) => "not known".into(),
    };
    fact("Fingerprint key", Some(&key), out)?;
    fact("Manifest", report.manifest_digest.as_ref().map(ToString::to_string).as_deref(), out)?;
    fact("Configuration", report.config_digest.as_ref().map(ToString::to_string).as_deref(), out)?;
    policy(image, out)?;
    if let Some(milliseconds) = report.milliseconds {
        writeln!(out, "<div><dt>Duration</dt><dd>{:.2} s</dd></div>", milliseconds as f64 / 1000.0)?;
    }
    writeln!(out, "</dl>")?;
    layers(report, out)?;
    expired(report, out)
}

/// The digests of the layers.
fn layers(report: &ImageReport, out: &mut dyn Write) -> io::Result<()> {
    if report.layers.is_empty() {
        return Ok(());
    }
    writeln!(out, "<details><summary>Digests of {}</summary>", plural(report.layers.len() as u64, "layer"))?;
    writeln!(out, "<dl class=\"facts\">")?;
    for layer in report.layers.iter().take(LAYERS) {
        writeln!(out, "<div><dt>layer {}</dt><dd>", layer.index)?;
        for (name, digest) in [("digest", &layer.digest), ("diff_id", &layer.diff_id)] {
            let digest = digest.as_ref().map_or_else(|| "not known".into(), ToString::to_string);
            writeln!(out, "<div>{name} <code>{digest}</code></div>")?;
        }
        writeln!(out, "</dd></div>")?;
    }
    writeln!(out, "</dl>")?;
    if report.layers.len() > LAYERS {
        let more = plural((report.layers.len() - LAYERS) as u64, "more layer");
        writeln!(out, "<p>{more}: see the JSON report.</p>")?;
    }
    writeln!(out, "</details>")
}

fn policy(image: &Image<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Some(judgement) = &image.report.judgement else {
        return writeln!(out, "<div><dt>Policy</dt><dd>none was applied</dd></div>");
    };
    let policy = &judgement.policy;
    fact("Fails on", Some(policy.fail_on.map_or("none", Severity::name)), out)?;
    fact("Policy file", policy.digest.as_ref().map(ToString::to_string).as_deref(), out)?;
    fact("Baseline", policy.baseline.as_ref().map(ToString::to_string).as_deref(), out)
}

fn expired(report: &ImageReport, out: &mut dyn Write) -> io::Result<()> {
    let expired = report.judgement.as_ref().map(|judgement| &judgement.expired[..]).unwrap_or_default();
    if expired.is_empty() {
        return Ok(());
    }
    writeln!(out, "<p>Exceptions of the policy that have expired:</p>\n<ul>")?;
    for exception in expired {
        let reason = one_line(&exception.reason, 600);
        writeln!(out, "<li>entry {}, until {}: {}</li>", exception.entry, exception.expires, isolated(&reason))?;
    }
    writeln!(out, "</ul>")
}

/// The command that scans the target again; `None` for a target that cannot be typed. Options about rules, limits and
/// logins are not in a report.
fn command(report: &ImageReport) -> Option<String> {
    let platform = report.platform.as_deref().map(|platform| Some(format!(" --platform {}", quoted(platform)?)));
    let limit = report.judgement.as_ref().map(|judgement| judgement.policy.fail_on.map_or("none", Severity::name));
    let limit = limit.map(|limit| format!(" --fail-on {limit}")).unwrap_or_default();
    let platform = match platform {
        Some(platform) => platform?,
        None => String::new(),
    };
    // A part of the store of an engine is read with the whole of it.
    let (all, target) = match (report.kind, report.target.split_once('#')) {
        (ReportKind::Container | ReportKind::Volume | ReportKind::Orphan, Some((target, _))) => (" --all", target),
        _ => ("", report.target.as_str()),
    };
    Some(format!("layersift scan{all}{platform}{limit} {}", quoted(target)?))
}

/// `word` as a POSIX shell takes it; `None` if it is empty, begins with `-`, or has characters that cannot be typed.
fn quoted(word: &str) -> Option<String> {
    let is_typed = |c: char| c == ' ' || (c.is_alphanumeric() || c.is_ascii_punctuation());
    if word.is_empty() || word.starts_with('-') && word.len() > 1 || !word.chars().all(is_typed) {
        return None;
    }
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "-_./:@=+,%".contains(c);
    if word.chars().all(is_safe) { Some(word.into()) } else { Some(format!("'{}'", word.replace('\'', r"'\''"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted() {
        let command = |target: &str| {
            command(&ImageReport {
                target: target.into(),
                platform: Some("linux/amd64".into()),
                ..ImageReport::default()
            })
        };
        assert_eq!(command("app.tar").as_deref(), Some("layersift scan --platform linux/amd64 app.tar"));
        let hostile = command("a b'; rm -rf $(pwd) #").unwrap();
        assert_eq!(hostile, r"layersift scan --platform linux/amd64 'a b'\''; rm -rf $(pwd) #'");
        for target in ["", "--config=x", "a\nb", "a\u{202e}b", "a\0b", "a\u{200b}b"] {
            assert_eq!(command(target), None, "{target:?}");
        }
    }
}
