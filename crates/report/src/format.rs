//! The formats of reports: one line for each.

use std::io::{self, Write};

use layersift_model::{ImageReport, Severity};

use crate::{json, text};

/// What a person or a program asks of a report's form.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions {
    /// Writes the values of secrets, where the reports have them.
    pub show_secrets: bool,
    /// In text, the least severity of findings that are listed; others are counted.
    pub show: Severity,
    /// In text, the columns of the terminal.
    pub width: usize,
}

impl Default for RenderOptions {
    fn default() -> RenderOptions {
        RenderOptions { show_secrets: false, show: Severity::Medium, width: 100 }
    }
}

/// Writes reports in one form.
pub type Render = fn(&[ImageReport], &RenderOptions, &mut dyn Write) -> io::Result<()>;

/// A form of a report.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is for, in a few words.
    pub about: &'static str,
    /// Writes reports that were judged by a policy.
    pub render: Render,
}

/// Every form that a report can be written in, the default first.
pub const FORMATS: &[Format] = &[
    Format { name: "text", about: "for a person", render: text::render },
    Format { name: "json", about: "for a program; docs/report.schema.json describes it", render: json::render },
];
