//! Markdown for a comment on a pull request: the verdict and why, the worst findings in a table, details folded away.
//!
//! Text from an image only stands in HTML blocks, in which GitHub and GitLab read no Markdown (GitHub Flavored
//! Markdown, section 4.6), and in `<code>`, in which they look for no mentions, references or addresses. It has no line
//! breaks, so it cannot end the block.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use layersift_model::{Finding, FixPatch, ImageReport, RuleInfo, Severity, Verdict};

use crate::RenderOptions;
use crate::exchange;
use crate::terminal::{clean, plural};

/// Findings in the table of an image; more are counted.
const ROWS: usize = 50;

/// Rules that are explained, exceptions and gaps that are listed; more are counted.
const LISTED: usize = 20;

/// The most bytes of a comment: GitHub takes 65,536 characters.
const MOST: usize = 60_000;

/// What tells the comment from others, so that a pipeline can find and replace it.
const MARK: &str = "<!-- layersift -->";

/// Writes a comment with a section for each report.
pub(crate) fn render(reports: &[ImageReport], _: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut worst_first: Vec<&ImageReport> = reports.iter().collect();
    worst_first.sort_by_key(|report| Reverse(report.verdict()));
    let mut comment = Comment { text: format!("{MARK}\n"), left: MOST };
    let verdict = worst_first.first().map_or(Verdict::Incomplete, |report| report.verdict());
    comment.text += &format!("## Layersift: {}\n", verdict.name());
    let mut written = 0;
    for report in &worst_first {
        if !comment.image(report) {
            break;
        }
        written += 1;
    }
    if written < worst_first.len() {
        let more = plural((worst_first.len() - written) as u64, "more image");
        comment.text += &format!("\n… and {more}, left out because the comment would be too long.\n");
    }
    out.write_all(comment.text.as_bytes())
}

/// A comment, and how much may be added to it.
struct Comment {
    text: String,
    left: usize,
}

impl Comment {
    /// Adds `text` if there is room.
    fn add(&mut self, text: &str) -> bool {
        let has_room = text.len() <= self.left;
        if has_room {
            self.text += text;
            self.left -= text.len();
        }
        has_room
    }

    /// Adds `text`, such as the end of an element, whether there is room or not.
    fn close(&mut self, text: &str) {
        self.text += text;
        self.left = self.left.saturating_sub(text.len());
    }

    /// Adds the section of an image; nothing if there is no room for its verdict.
    fn image(&mut self, report: &ImageReport) -> bool {
        let image = code(&exchange::image_name(report));
        let platform = report.platform.as_ref().map(|platform| format!(" {}", words(&clean(platform, 60))));
        let verdict = report.verdict().name().to_uppercase();
        let why = words(&exchange::why(report));
        let base = report.base.as_ref().map(base).unwrap_or_default();
        let head = format!("\n<p><b>{verdict}</b> {image}{}<br>{why}{base}</p>\n", platform.unwrap_or_default());
        if !self.add(&head) {
            return false;
        }
        let mut findings: Vec<&Finding> = report.findings.iter().filter(|finding| finding.counts()).collect();
        findings.sort_by_key(|finding| Reverse(finding.severity));
        self.table(report, &findings);
        self.rules(&findings);
        self.patches(report);
        self.gaps(report);
        self.exempt(report);
        self.about(report);
        true
    }

    fn table(&mut self, report: &ImageReport, findings: &[&Finding]) {
        if findings.is_empty() {
            return;
        }
        self.add(&format!("\n<p>{}</p>\n", words(&counts(findings))));
        self.close("\n<table>\n<tr><th>Severity</th><th>Finding</th><th>Where</th><th>State</th></tr>\n");
        let rows = findings.iter().map(|finding| row(report, finding)).take(ROWS);
        let shown = self.listed(rows);
        self.close("</table>\n");
        if shown < findings.len() {
            let more = plural((findings.len() - shown) as u64, "more finding");
            self.close(&format!("\n<p>… and {more}</p>\n"));
        }
    }

    /// Adds lines while there is room, and says how many.
    fn listed(&mut self, lines: impl Iterator<Item = String>) -> usize {
        lines.take_while(|line| self.add(&format!("{line}\n"))).count()
    }

    /// Lines that a reader unfolds, with a count of those that are left out.
    fn details(&mut self, title: &str, lines: &[String]) {
        if lines.is_empty() || !self.add(&format!("\n<details><summary>{title}</summary>\n<ul>\n")) {
            return;
        }
        let shown = self.listed(lines.iter().take(LISTED).map(|line| format!("<li>{line}</li>")));
        if shown < lines.len() {
            self.close(&format!("<li>… and {} more</li>\n", lines.len() - shown));
        }
        self.close("</ul>\n</details>\n");
    }

    fn rules(&mut self, findings: &[&Finding]) {
        let mut rules: Vec<&RuleInfo> = Vec::new();
        for finding in findings.iter().take(ROWS) {
            if !rules.iter().any(|rule| rule.id == finding.rule.id) {
                rules.push(&finding.rule);
            }
        }
        let lines: Vec<String> = rules.into_iter().map(explained).collect();
        self.details("Risk and fix", &lines);
    }

    fn patches(&mut self, report: &ImageReport) {
        let diff = |patch: &FixPatch| {
            let lines = patch.diff.lines().map(|line| escape(&clean(line, 300)));
            // An empty line, which no diff has, would end the block.
            let lines: Vec<String> = lines.filter(|line| !line.trim().is_empty()).collect();
            format!("<pre><code>{}</code></pre>", lines.join("\n"))
        };
        let lines: Vec<String> = report.patches.iter().map(diff).collect();
        self.details("Proposed changes", &lines);
    }

    fn gaps(&mut self, report: &ImageReport) {
        let lines: Vec<String> = report.gaps.iter().map(|gap| code(&exchange::gap(gap))).collect();
        self.details(&format!("Not read: {}", plural(lines.len() as u64, "gap")), &lines);
    }

    fn exempt(&mut self, report: &ImageReport) {
        let line = |finding: &Finding| {
            let why = exchange::exempt(finding)?;
            Some(format!("{} in {}: {}", words(&title(finding)), code(&exchange::place_and_line(finding)), words(&why)))
        };
        let lines: Vec<String> = report.findings.iter().filter_map(line).collect();
        self.details(&format!("Allowed or known: {}", plural(lines.len() as u64, "finding")), &lines);
    }

    fn about(&mut self, report: &ImageReport) {
        let digest = report.manifest_digest.as_ref().map(ToString::to_string);
        let tool = &report.tool;
        let mut lines = Vec::new();
        for (name, value) in [("Manifest", digest.as_deref().unwrap_or_default()), ("Version", &tool.version)] {
            if !value.is_empty() {
                lines.push(format!("{name} {}", code(&exchange::name(value))));
            }
        }
        lines.extend((!tool.ruleset.is_empty()).then(|| format!("Rules {}", code(&exchange::name(&tool.ruleset)))));
        lines.extend(report.notes.iter().map(|note| code(&exchange::sentence(note))));
        if !exchange::has_own_key(report) {
            lines.push(format!("Fingerprints: {}", exchange::NO_FINGERPRINTS));
        }
        self.details("About this scan", &lines);
    }
}

/// The image that the image is based on, and whether that is more than a claim.
fn base(base: &layersift_model::ImageBase) -> String {
    let digest = base.digest.as_ref().map(ToString::to_string);
    let Some(name) = base.reference.as_deref().or(digest.as_deref()) else { return String::new() };
    let claim = if base.is_proven { "" } else { " (claimed by its author)" };
    format!("<br>based on {}{claim}", code(&exchange::name(name)))
}

/// The findings by severity, such as `2 critical, 1 high`.
fn counts(findings: &[&Finding]) -> String {
    let mut by_severity = BTreeMap::<Reverse<Severity>, u64>::new();
    for finding in findings {
        *by_severity.entry(Reverse(finding.severity)).or_default() += 1;
    }
    let counts = by_severity.iter().map(|(Reverse(severity), count)| format!("{count} {severity}"));
    counts.collect::<Vec<_>>().join(", ")
}

fn title(finding: &Finding) -> String {
    clean(&exchange::title(finding), 120)
}

fn row(report: &ImageReport, finding: &Finding) -> String {
    let mut what = words(&title(finding));
    if let Some(secret) = &finding.secret {
        what += &format!("<br>{}", code(&clean(&secret.masked, 60)));
    }
    if let Some(fingerprint) = exchange::fingerprint(report, finding) {
        what += &format!("<br>fingerprint {}", code(&clean(fingerprint, 64)));
    }
    let mut place = code(&crate::terminal::cut_path(&exchange::place_and_line(finding), 160));
    if let Some(step) = &finding.step {
        let line = format!("{}:{}", clean(&step.file, 100), step.line);
        place += &format!("<br>{}", code(&line));
    }
    let state = match finding.file() {
        Some(file) => {
            let origin = finding.origin.map(|origin| format!(", {}", origin.name())).unwrap_or_default();
            let ended = file.ended_by.as_ref().map(|by| format!(" by layer {}", by.index)).unwrap_or_default();
            format!("{}{ended}<br>layer {}{origin}", file.state.name(), file.layer.index)
        }
        None => finding.state().name().into(),
    };
    let severity = finding.severity.name();
    let severity = if exchange::fails(report, finding) { format!("<b>{severity}</b>") } else { severity.into() };
    format!("<tr><td>{severity}</td><td>{what}</td><td>{place}</td><td>{state}</td></tr>")
}

/// A rule on one line.
fn explained(rule: &RuleInfo) -> String {
    let parts = [("", &rule.what), ("<b>Risk</b> ", &rule.risk), ("<b>Fix</b> ", &rule.fix)];
    let texts = parts.iter().filter(|(_, text)| !text.trim().is_empty());
    let texts: String = texts.map(|(label, text)| format!("<br>{label}{}", words(&clean(text, 600)))).collect();
    let links: Vec<String> = rule.references.iter().take(3).filter_map(|uri| link(uri)).collect();
    let links = if links.is_empty() { String::new() } else { format!("<br>{}", links.join(" ")) };
    format!("<b>{}</b> {}{texts}{links}", words(&clean(&rule.title, 200)), code(&clean(&rule.id, 120)))
}

/// The help of a rule in Markdown without HTML, for viewers of other formats: what was found, risk, fix, references.
pub(crate) fn help(rule: &RuleInfo) -> String {
    let parts = [("What", &rule.what), ("Risk", &rule.risk), ("Fix", &rule.fix)];
    let parts = parts.iter().filter(|(_, text)| !text.trim().is_empty());
    let mut help: Vec<String> =
        parts.map(|(label, text)| format!("**{label}**: {}", literal(&clean(text, 1_000)))).collect();
    let links: Vec<String> =
        rule.references.iter().filter(|uri| is_link(uri)).map(|uri| format!("- <{uri}>")).collect();
    if !links.is_empty() {
        help.push(format!("**References**\n\n{}", links.join("\n")));
    }
    if help.is_empty() { literal(&clean(&rule.id, 200)) } else { help.join("\n\n") }
}

/// A paragraph of a rule as Markdown without HTML.
pub(crate) fn prose(text: &str) -> String {
    // Text that begins with a letter begins no list, heading or quote.
    format!("Fix: {}", literal(&clean(text, 1_000)))
}

/// `text`, which is not at the start of a line, as Markdown that shows it as it is.
fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // A colon before a word may begin an emoji or an address.
        if "\\`*_[]<>!|~&@#$".contains(c) || (c == ':' && chars.peek().is_some_and(|next| !next.is_whitespace())) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A link to a reference of a rule; `None` for what is not plainly a web address.
fn link(uri: &str) -> Option<String> {
    is_link(uri).then(|| format!("<a href=\"{0}\">{0}</a>", escape(uri)))
}

/// Whether `uri` is plainly a web address, which does not have to be encoded.
pub(crate) fn is_link(uri: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#@!$&()*+,;=%".contains(c);
    uri.starts_with("https://") && uri.len() < 500 && uri.chars().all(is_plain)
}

/// Text that is a name, a path or a mask: in `<code>`, in which nothing is looked for.
pub(crate) fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// Prose. A word that might mention, refer or link is written as code.
pub(crate) fn words(text: &str) -> String {
    text.split_whitespace()
        .map(|word| if is_plain(word) { escape(word) } else { code(word) })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether no host of repositories makes more of `word` than its letters: a mention, a reference to an issue, a merge
/// request, a label, a milestone or a commit, an emoji or an address.
fn is_plain(word: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || ",;:.()'\"-_+/*=<>…".contains(c);
    let is_commit = |part: &str| part.len() >= 7 && part.contains(|c: char| c.is_ascii_digit());
    word.chars().all(is_plain)
        && word.matches(':').count() < 2
        && !["://", "www.", "GH-"].iter().any(|sign| word.contains(sign))
        && !word.split(|c: char| !c.is_ascii_hexdigit()).any(is_commit)
}

/// `text` as HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}
