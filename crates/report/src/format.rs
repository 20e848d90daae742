//! The formats of reports: one line for each.

use std::io::{self, Write};

use layersift_model::{ImageReport, Severity};

use crate::{html, json, text};

/// How a report is written. A format ignores what does not apply to it.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions {
    /// Writes the values of secrets, if the reports have them.
    pub show_secrets: bool,
    /// In text, the least severity of findings that are listed. Less severe ones are counted, unless they make the
    /// verdict fail.
    pub show: Severity,
    /// In text, the width of the terminal in columns. Digests and values of secrets may be longer.
    pub width: usize,
}

impl Default for RenderOptions {
    fn default() -> RenderOptions {
        RenderOptions { show_secrets: false, show: Severity::Medium, width: 100 }
    }
}

/// Writes reports in one format.
pub type Render = fn(&[ImageReport], &RenderOptions, &mut dyn Write) -> io::Result<()>;

/// A format that reports are written in.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for, in a few words.
    pub about: &'static str,
    /// Writes reports that were judged by a policy.
    pub render: Render,
}

/// Every format that a report can be written in, the default first.
pub const FORMATS: &[Format] = &[
    Format { name: "text", about: "for a person", render: text::render },
    Format { name: "json", about: "for a program; docs/report.schema.json describes it", render: json::render },
    Format { name: "html", about: "a page to hand on, in one file", render: html::render },
];

/// The format called `name`.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
