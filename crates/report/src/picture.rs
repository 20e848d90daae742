//! The image as a picture: its layers as a stack, and each secret as a line through the layers that it is in.
//!
//! The base is at the bottom and every layer lies on those before it, so time runs upwards. A secret begins with a mark
//! at the layer that brings it. Its line ends with a cross at the layer that deletes the file, with a square at the one
//! that overwrites it, or with an arrow at the top if a container sees it. The shape of a mark and the letter of a
//! severity say what colours say.
//!
//! The picture is SVG that goes into an HTML page: it needs neither a script nor the network, and its classes are those
//! of [`STYLE`]. A page has to write what it shows as text, too: to a screen reader it is an image with a description.

mod lanes;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use layersift_model::{BuildEvidence, BuildStep, ImageReport, LayerOrigin, LayerSummary, Severity, State};

use crate::grouped::{Section, sections};
use crate::markup::{one_line, plain};
use crate::terminal::{human, plural};

use self::lanes::{Lane, Segment, lanes};
use self::rows::{Kind, Row, rows};

/// The stylesheet of the picture, with the colours of both themes as custom properties of the root.
pub const STYLE: &str = concat!(include_str!("picture/palette.css"), include_str!("picture/style.css"));

/// Pixels: the height above the rows, the width of their first column, of a lane, and of the text after the lanes.
const HEAD: usize = 26;
const INDEX: usize = 40;
const LANE: usize = 26;
const TEXT: usize = 600;

/// Characters of an instruction and of the line below it.
const INSTRUCTION: usize = 80;
const DETAILS: usize = 100;

/// The width of the bar of the largest layer, in pixels.
const BAR: u64 = 160;

/// How a picture is drawn.
#[derive(Clone, Copy, Debug)]
pub struct PictureOptions<'o> {
    /// What the ids in the picture begin with, so that a page can have several.
    pub id: &'o str,
    /// The most lines. Where there are more secrets, those of one rule that come and go together share one.
    pub lanes: usize,
}

impl Default for PictureOptions<'_> {
    fn default() -> Self {
        PictureOptions { id: "picture", lanes: 30 }
    }
}

/// Draws `report` as an `svg` element.
pub fn svg(report: &ImageReport, options: &PictureOptions<'_>) -> String {
    Picture::new(report, &sections(report), options).svg()
}

/// A picture before it is written.
pub(crate) struct Picture<'r> {
    report: &'r ImageReport,
    options: PictureOptions<'r>,
    lanes: Vec<Lane>,
    rows: Vec<Row>,
}

impl<'r> Picture<'r> {
    pub(crate) fn new(report: &'r ImageReport, sections: &[Section<'_>], options: &PictureOptions<'r>) -> Picture<'r> {
        let lanes = lanes(sections, options.lanes.max(1));
        let rows = rows(report, &lanes, HEAD);
        Picture { report, options: *options, lanes, rows }
    }

    /// The lane of each secret, by its number.
    pub(crate) fn lane_of_entry(&self) -> BTreeMap<usize, usize> {
        let lanes = self.lanes.iter().enumerate();
        lanes.flat_map(|(lane, drawn)| drawn.entries.iter().map(move |number| (*number, lane))).collect()
    }

    /// How many lanes there are.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// The `svg` element.
    pub(crate) fn svg(&self) -> String {
        let width = self.text_x() + TEXT;
        let height = self.rows.last().map_or(HEAD, |row| row.top + row.height) + 1;
        let id = plain(self.options.id).to_string();
        let mut out = format!(
            "<svg class=\"picture\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\" width=\"{width}\" \
             height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
             <title id=\"{id}-title\">The layers of the image and the secrets in them</title>\n\
             <desc id=\"{id}-desc\">{}</desc>\n",
            plain(&self.description())
        );
        let findings = findings_by_layer(self.report);
        let largest = self.report.layers.iter().map(|layer| layer.stored_bytes).max().unwrap_or(0);
        for row in &self.rows {
            // Writing to a string does not fail.
            let _ = self.row(*row, &findings, largest, &mut out);
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            let _ = self.lane(lane, index, &mut out);
        }
        out + "</svg>\n"
    }

    /// What the picture shows, in words.
    fn description(&self) -> String {
        let count = |state: Option<State>| {
            let has = |lane: &&Lane| lane.segments.keys().map(|segment| segment.state).min() == state;
            self.lanes.iter().filter(has).map(|lane| lane.entries.len() as u64).sum::<u64>()
        };
        let secrets: u64 = self.lanes.iter().map(|lane| lane.entries.len() as u64).sum();
        format!(
            "{} as a stack, the base at the bottom. {} as vertical lines: {} in the final image, {} overwritten and {} \
             deleted by a later layer. The tables after the picture have the same contents.",
            plural(self.report.layers.len() as u64, "layer"),
            plural(secrets, "secret"),
            count(Some(State::Present)),
            count(Some(State::Overwritten)),
            count(Some(State::Deleted)),
        )
    }

    /// Where the text after the lanes begins.
    fn text_x(&self) -> usize {
        INDEX + self.lanes.len() * LANE + 14
    }

    fn row(
        &self,
        row: Row,
        findings: &BTreeMap<Option<usize>, u64>,
        largest: u64,
        out: &mut String,
    ) -> std::fmt::Result {
        let Row { kind, top, height } = row;
        let (x, width) = (self.text_x(), self.text_x() + TEXT);
        let count = |layer| findings.get(&layer).map(|count| plural(*count, "finding"));
        match kind {
            Kind::Boundary => {
                let y = top + height - 4;
                let name = base_name(self.report);
                writeln!(out, "<line class=\"boundary\" x1=\"0\" y1=\"{y}\" x2=\"{width}\" y2=\"{y}\"/>")?;
                writeln!(out, "<text class=\"small\" x=\"{x}\" y=\"{}\">↓ {}</text>", y - 6, plain(&name))
            }
            Kind::Run(first, last) => {
                let text = match findings.range(Some(first)..=Some(last)).next() {
                    None => "nothing found in these layers",
                    Some(_) => "too many layers to draw; the table has them",
                };
                writeln!(out, "<g class=\"row\"><rect x=\"0\" y=\"{top}\" width=\"{width}\" height=\"{height}\"/>")?;
                let (y, label) = (row.middle() + 4, format!("{first}–{last}"));
                writeln!(out, "<text class=\"small\" x=\"{x}\" y=\"{y}\">{label}: {text}</text></g>")
            }
            Kind::Documents => {
                self.begin_row(row, "-1", "", out)?;
                let details = count(None).unwrap_or_default();
                self.texts(row, "configuration and other documents", &details, "documents", out)
            }
            Kind::Layer(index) => {
                let Some(layer) = self.report.layers.get(index) else { return Ok(()) };
                self.begin_row(row, &index.to_string(), &index.to_string(), out)?;
                if let Some(bar) = (layer.stored_bytes * BAR).checked_div(largest) {
                    let y = top + height - 6;
                    writeln!(out, "<rect class=\"bar\" x=\"{x}\" y=\"{y}\" width=\"{bar}\" height=\"2\"/>")?;
                }
                let details = [count(Some(index)), Some(details(self.report, layer))];
                let details: Vec<String> = details.into_iter().flatten().collect();
                let made = layer.created_by.as_deref().unwrap_or("(instruction not known)");
                self.texts(row, made, &details.join(" · "), "code", out)
            }
        }
    }

    fn begin_row(&self, row: Row, layer: &str, label: &str, out: &mut String) -> std::fmt::Result {
        let Row { top, height, .. } = row;
        let width = self.text_x() + TEXT;
        writeln!(out, "<g class=\"row\" data-layer=\"{layer}\">")?;
        writeln!(out, "<rect x=\"0\" y=\"{top}\" width=\"{width}\" height=\"{height}\"/>")?;
        writeln!(out, "<text class=\"index\" x=\"10\" y=\"{}\">{label}</text>", row.middle() + 4)
    }

    /// The two lines of a row, which they end.
    fn texts(&self, row: Row, first: &str, second: &str, class: &str, out: &mut String) -> std::fmt::Result {
        let (x, y) = (self.text_x(), row.top);
        let first = one_line(first, INSTRUCTION);
        writeln!(out, "<text class=\"{class}\" x=\"{x}\" y=\"{}\">{}</text>", y + 17, plain(&first))?;
        let second = one_line(second, DETAILS);
        writeln!(out, "<text class=\"small\" x=\"{x}\" y=\"{}\">{}</text></g>", y + 33, plain(&second))
    }

    fn lane(&self, lane: &Lane, index: usize, out: &mut String) -> std::fmt::Result {
        let x = INDEX + index * LANE + LANE / 2;
        let severity = lane.severity.name();
        let entry = lane.entries.first().copied().unwrap_or_default();
        writeln!(out, "<g class=\"lane {severity}\" data-entry=\"{entry}\"><title>{}</title>", plain(&lane.title))?;
        writeln!(out, "<text class=\"letter\" x=\"{x}\" y=\"16\">{}</text>", letter(lane.severity))?;
        let top = HEAD + 4;
        let mut starts: BTreeMap<usize, usize> = BTreeMap::new();
        let spans = lane.segments.iter().filter_map(|(segment, count)| Some((self.span(*segment)?, count)));
        let mut ends: BTreeSet<(Option<usize>, State)> = BTreeSet::new();
        for ((from, to, state), count) in spans {
            writeln!(out, "<line x1=\"{x}\" y1=\"{from}\" x2=\"{x}\" y2=\"{}\"/>", to.unwrap_or(top))?;
            *starts.entry(from).or_default() += count;
            ends.insert((to, state));
        }
        for (to, state) in ends {
            match (to, state) {
                (None, _) => writeln!(out, "<path class=\"end\" d=\"M{} {}l5 -8l5 8z\"/>", x - 5, top + 4)?,
                (Some(to), State::Deleted) => {
                    writeln!(out, "<path class=\"end\" d=\"M{} {}l10 10m0 -10l-10 10\"/>", x - 5, to - 5)?;
                }
                (Some(to), _) => {
                    let (x, y) = (x - 5, to - 5);
                    writeln!(out, "<rect class=\"end\" x=\"{x}\" y=\"{y}\" width=\"10\" height=\"10\"/>")?;
                }
            }
        }
        for (from, count) in starts {
            let (left, y) = (x - 11, from - 9);
            writeln!(out, "<rect class=\"start\" x=\"{left}\" y=\"{y}\" width=\"22\" height=\"18\" rx=\"9\"/>")?;
            writeln!(out, "<text class=\"label\" x=\"{x}\" y=\"{}\">{}</text>", from + 4, label(lane, count))?;
        }
        writeln!(out, "</g>")
    }

    /// Where `segment` begins and ends in the picture. What ends in its own row is drawn in it.
    fn span(&self, segment: Segment) -> Option<(usize, Option<usize>, State)> {
        let row = |index: usize| self.rows.iter().find(|row| row.holds(index)).copied();
        let Some(from) = segment.from else {
            let documents = self.rows.iter().find(|row| row.kind == Kind::Documents)?;
            return Some((documents.middle(), None, segment.state));
        };
        let from = row(from)?;
        let to = segment.to.and_then(row);
        let end = to.map(|to| if to.top == from.top { from.top + 6 } else { to.middle() });
        let start =
            if end.is_some_and(|end| end == from.top + 6) { from.top + from.height - 12 } else { from.middle() };
        Some((start, end, segment.state))
    }
}

/// What a mark says: the number of the secret, or how many there are.
fn label(lane: &Lane, count: usize) -> String {
    match (&lane.entries[..], count) {
        ([number], _) => number.to_string(),
        (_, 1000..) => format!("×{}k", count / 1000),
        _ => format!("×{count}"),
    }
}

/// The first letter of a severity, which stands above its lanes.
pub(crate) fn letter(severity: Severity) -> char {
    severity.name().chars().next().map_or(' ', |c| c.to_ascii_uppercase())
}

/// The findings of each layer, and those in none.
pub(crate) fn findings_by_layer(report: &ImageReport) -> BTreeMap<Option<usize>, u64> {
    let mut counts = BTreeMap::new();
    for finding in &report.findings {
        *counts.entry(finding.file().map(|file| file.layer.index)).or_default() += 1;
    }
    counts
}

/// What is known about a layer besides its instruction.
fn details(report: &ImageReport, layer: &LayerSummary) -> String {
    let stored = (layer.stored_bytes > 0).then(|| format!("{} stored", human(layer.stored_bytes)));
    let unread = (!layer.is_read).then(|| "not read".to_string());
    let parts = [unread, stored, origin(report, layer), step(layer)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// Whether a layer is of the base image, and who says so.
pub(crate) fn origin(report: &ImageReport, layer: &LayerSummary) -> Option<String> {
    let origin = layer.origin?;
    let name = match origin {
        LayerOrigin::Base => "base",
        LayerOrigin::Own => "own",
    };
    let is_proven = report.base.as_ref().is_some_and(|base| base.is_proven);
    Some(format!("{name}, {}", if is_proven { "proven" } else { "claimed" }))
}

/// The lines of the Dockerfile that made a layer.
pub(crate) fn step(layer: &LayerSummary) -> Option<String> {
    layer.step.as_ref().map(step_name)
}

/// The place of an instruction in its Dockerfile, and whether that is a claim of the author of the image.
pub(crate) fn step_name(step: &BuildStep) -> String {
    let end = if step.end_line > step.line { format!("-{}", step.end_line) } else { String::new() };
    let stage = step.stage.as_ref().map(|stage| format!(", stage {}", one_line(stage, 60))).unwrap_or_default();
    let claimed = match step.evidence {
        BuildEvidence::Provenance | BuildEvidence::Annotation => ", claimed",
        BuildEvidence::Option | BuildEvidence::Store => "",
    };
    format!("{}:{}{end}{stage}{claimed}", one_line(&step.file, 120), step.line)
}

/// The base image, and whether its layers were compared.
fn base_name(report: &ImageReport) -> String {
    let Some(base) = &report.base else { return "base image".into() };
    let name = base.reference.as_deref().map(|name| one_line(name, 60)).unwrap_or_default();
    let proven = if base.is_proven { "proven" } else { "claimed" };
    format!("base image {name} ({proven} by {})", base.evidence.name())
}
