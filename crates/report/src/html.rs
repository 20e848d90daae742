//! HTML: one page for people who did not run the program, which a browser opens from a mail attachment.
//!
//! The page needs no network, and its Content-Security-Policy allows nothing but the one stylesheet and the one script
//! in it, by their hashes. All text is written here, in Rust, and escaped by [`crate::markup`]; the script only hides
//! and shows what is there, and gets numbers alone ([decision 051](../../../docs/decisions/051-html-report.md)).
//! Secrets are always masked.

mod document;
mod filters;
mod findings;
mod gaps;
mod layers;
mod patches;
mod places;
mod repeat;
#[cfg(test)]
mod tests;
mod verdict;

use std::io::{self, Write};

use layersift_model::{Finding, ImageReport, Severity};

use crate::RenderOptions;
use crate::grouped::{Section, has_private_key, sections};
use crate::picture::{Picture, PictureOptions};

/// Writes one page for all `reports`.
pub(crate) fn render(reports: &[ImageReport], _: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    let ids: Vec<String> = (0..reports.len()).map(|index| format!("i{index}")).collect();
    // Parts of one image are below its name, which is the title of the page where there is no other.
    let level = if reports.len() == 1 { 2 } else { 3 };
    let images: Vec<Image<'_>> = reports.iter().zip(&ids).map(|(report, id)| Image::new(report, id, level)).collect();
    document::write(&images, out)
}

/// An image on the page.
struct Image<'r> {
    report: &'r ImageReport,
    /// What its ids begin with.
    id: &'r str,
    /// The level of the headings of its parts.
    level: u8,
    sections: Vec<Section<'r>>,
    picture: Picture<'r>,
    /// Whether its fingerprints, and the ids of findings, may be handed on.
    has_private_key: bool,
}

impl<'r> Image<'r> {
    fn new(report: &'r ImageReport, id: &'r str, level: u8) -> Image<'r> {
        let sections = sections(report);
        let picture = Picture::new(report, &sections, &PictureOptions { id, ..PictureOptions::default() });
        Image { report, id, level, sections, picture, has_private_key: has_private_key(report) }
    }

    /// What the image is called.
    fn name(&self) -> &'r str {
        self.report.reference.as_deref().unwrap_or(&self.report.target)
    }

    /// The severity that fails.
    fn fail_on(&self) -> Option<Severity> {
        self.report.judgement.as_ref().and_then(|judgement| judgement.policy.fail_on)
    }

    /// Whether `finding` makes the verdict fail.
    fn fails(&self, finding: &Finding) -> bool {
        finding.counts() && self.fail_on().is_some_and(|limit| finding.severity >= limit)
    }

    /// Its findings in the order of the page.
    fn findings(&self) -> impl Iterator<Item = &'r Finding> {
        self.sections.iter().flat_map(Section::findings)
    }

    /// Writes the heading of a part, which gets the id of the image followed by `part`.
    fn heading(&self, part: &str, title: &str, out: &mut dyn Write) -> io::Result<()> {
        let (level, id) = (self.level, self.id);
        writeln!(out, "<h{level} id=\"{id}-{part}\">{title}</h{level}>")
    }
}
