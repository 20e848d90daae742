//! JUnit XML, which GitLab, Jenkins and most other build servers show as test results: a suite for each image.
//!
//! A finding that makes the verdict fail is a test case that fails. The findings of a rule that do not are one skipped
//! test case, so that thousands of source maps do not bury a key. Whether every byte was read is a test case, too: what
//! was not is an error of it.
//!
//! Source: the schema of Jenkins' xUnit plugin, `junit-10.xsd`; XML 1.0, section 2.2, for the characters.

use std::collections::BTreeMap;
use std::io::{self, Write};

use layersift_model::{Finding, ImageGap, ImageReport, RuleInfo};

use crate::RenderOptions;
use crate::exchange;
use crate::terminal::{clean, plural};

/// Gaps and places that a test case lists; more are counted.
const LISTED: usize = 50;

/// A test case, and how it ended.
struct TestCase {
    class: String,
    name: String,
    outcome: Outcome,
}

enum Outcome {
    Passed,
    /// With a message and a text.
    Failed(String, String),
    /// With a message and a text.
    Error(String, String),
    /// With a reason.
    Skipped(String),
}

/// Writes a suite for each report.
pub(crate) fn render(reports: &[ImageReport], _: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let suites: Vec<Vec<TestCase>> = reports.iter().map(cases).collect();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"layersift\"{}>", totals(suites.iter().flatten(), false))?;
    for (report, cases) in reports.iter().zip(&suites) {
        suite(report, cases, out)?;
    }
    writeln!(out, "</testsuites>")
}

fn suite(report: &ImageReport, cases: &[TestCase], out: &mut dyn Write) -> io::Result<()> {
    let name = escape(&format!("{} {}", exchange::image_name(report), exchange::platform(report)));
    let at = report.scanned_at.map(|at| at.strftime(" timestamp=\"%Y-%m-%dT%H:%M:%S\"").to_string());
    let seconds = report.milliseconds.unwrap_or(0) as f64 / 1000.0;
    let (totals, at) = (totals(cases.iter(), true), at.unwrap_or_default());
    writeln!(out, "  <testsuite name=\"{name}\"{totals} time=\"{seconds:.3}\"{at}>")?;
    writeln!(out, "    <properties>")?;
    for (name, value) in properties(report) {
        writeln!(out, "      <property name=\"{name}\" value=\"{}\"/>", escape(&value))?;
    }
    writeln!(out, "    </properties>")?;
    for case in cases {
        case.write(out)?;
    }
    writeln!(out, "  </testsuite>")
}

/// The numbers of test cases, as attributes. The root has no number of those that were skipped.
fn totals<'c>(cases: impl Iterator<Item = &'c TestCase>, with_skipped: bool) -> String {
    let (mut tests, mut failures, mut errors, mut skipped) = (0, 0, 0, 0);
    for case in cases {
        tests += 1;
        match case.outcome {
            Outcome::Passed => {}
            Outcome::Failed(..) => failures += 1,
            Outcome::Error(..) => errors += 1,
            Outcome::Skipped(_) => skipped += 1,
        }
    }
    let skipped = if with_skipped { format!(" skipped=\"{skipped}\"") } else { String::new() };
    format!(" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"{skipped}")
}

fn properties(report: &ImageReport) -> Vec<(&'static str, String)> {
    let mut properties = vec![("verdict", report.verdict().name().to_string()), ("why", exchange::why(report))];
    properties.extend(report.manifest_digest.as_ref().map(|digest| ("manifest", digest.to_string())));
    properties.push(("ruleset", exchange::name(&report.tool.ruleset)));
    properties.extend(report.notes.iter().map(|note| ("note", exchange::sentence(note))));
    if !exchange::has_own_key(report) {
        properties.push(("fingerprints", exchange::NO_FINGERPRINTS.into()));
    }
    properties
}

fn cases(report: &ImageReport) -> Vec<TestCase> {
    let image = exchange::image_name(report);
    let mut cases = vec![completeness(report, &image)];
    let (failing, others): (Vec<&Finding>, Vec<&Finding>) =
        report.findings.iter().partition(|finding| exchange::fails(report, finding));
    let mut names = BTreeMap::<String, usize>::new();
    for finding in failing {
        let mut name = format!("{} in {}", exchange::title(finding), exchange::place_and_line(finding));
        let number = names.entry(name.clone()).or_default();
        *number += 1;
        if *number > 1 {
            name += &format!(" ({number})");
        }
        cases.push(failed(report, finding, &image, name));
    }
    let mut by_rule = BTreeMap::<&str, Vec<&Finding>>::new();
    for finding in others {
        by_rule.entry(&finding.rule.id).or_default().push(finding);
    }
    cases.extend(by_rule.into_values().filter_map(|findings| skipped(&findings, &image)));
    cases
}

fn completeness(report: &ImageReport, image: &str) -> TestCase {
    let outcome = if !report.gaps.is_empty() {
        let message = format!("not everything was read: {}", plural(report.gaps.len() as u64, "gap"));
        Outcome::Error(message, listed(&report.gaps.iter().map(gap).collect::<Vec<_>>()))
    } else if report.judgement.is_none() {
        Outcome::Error("no policy was applied".into(), String::new())
    } else {
        Outcome::Passed
    };
    TestCase { class: image.into(), name: "every byte was read".into(), outcome }
}

fn gap(gap: &ImageGap) -> String {
    exchange::gap(gap)
}

fn failed(report: &ImageReport, finding: &Finding, image: &str, name: String) -> TestCase {
    let rule = &finding.rule;
    let mut lines = vec![exchange::summary(finding)];
    if let Some(step) = &finding.step {
        lines.push(format!("Instruction: {}:{}", exchange::name(&step.file), step.line));
    }
    if let Some(fingerprint) = exchange::fingerprint(report, finding) {
        lines.push(format!("Fingerprint: {}", exchange::name(fingerprint)));
    }
    for (label, text) in [("Risk", &rule.risk), ("Fix", &rule.fix)] {
        if !text.trim().is_empty() {
            lines.push(format!("{label}: {}", exchange::sentence(text)));
        }
    }
    let secret = exchange::masked(finding).map(|masked| format!(": {masked}")).unwrap_or_default();
    let message = format!("{}{secret} in {}", finding.severity, exchange::place_and_line(finding));
    TestCase { class: class(image, rule), name, outcome: Outcome::Failed(message, lines.join("\n")) }
}

/// The findings of one rule that do not fail.
fn skipped(findings: &[&Finding], image: &str) -> Option<TestCase> {
    let first = findings.first()?;
    let why = |finding: &&Finding| {
        let exempt = exchange::exempt(finding).unwrap_or_else(|| finding.severity.to_string());
        format!("{}: {exempt}", exchange::place_and_line(finding))
    };
    let reasons: Vec<String> = findings.iter().map(why).collect();
    let count = match findings.len() {
        1 => "1 finding that does not fail".into(),
        count => format!("{} that do not fail", plural(count as u64, "finding")),
    };
    let reason = format!("{count}\n{}", listed(&reasons));
    Some(TestCase { class: class(image, &first.rule), name: exchange::title(first), outcome: Outcome::Skipped(reason) })
}

/// The class of a test case, by which build servers group: image and rule.
fn class(image: &str, rule: &RuleInfo) -> String {
    format!("{image} {}", clean(&rule.id, 120))
}

fn listed(lines: &[String]) -> String {
    let mut text = lines.iter().take(LISTED).map(|line| &line[..]).collect::<Vec<_>>().join("\n");
    if lines.len() > LISTED {
        text += &format!("\n… and {} more", lines.len() - LISTED);
    }
    text
}

impl TestCase {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (class, name) = (escape(&self.class), escape(&self.name));
        write!(out, "    <testcase classname=\"{class}\" name=\"{name}\" time=\"0\"")?;
        let (element, message, text) = match &self.outcome {
            Outcome::Passed => return writeln!(out, "/>"),
            Outcome::Failed(message, text) => ("failure", message, text),
            Outcome::Error(message, text) => ("error", message, text),
            // GitLab and Jenkins only show the message of a skipped test.
            Outcome::Skipped(reason) => {
                return writeln!(out, "><skipped message=\"{}\"/></testcase>", escape(reason));
            }
        };
        writeln!(out, "><{element} message=\"{}\">{}</{element}></testcase>", escape(message), escape(text))
    }
}

/// `text` as text and as the value of an attribute. A character that XML 1.0 cannot hold becomes U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' => out += "&#10;",
            '\t' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => out.push(c),
            _ => out.push('\u{fffd}'),
        }
    }
    out
}
