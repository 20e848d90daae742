//! The formats of reports: one line for each.

use std::io::{self, Write};

use layersift_model::{ImageReport, Severity};

use crate::{bodyfile, cyclonedx, gitlab, html, json, junit, markdown, sarif, text, timesketch};

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
    /// The media type of what it writes, as HTTP names it.
    pub media_type: &'static str,
    /// Whether it writes the values of secrets where [`RenderOptions::show_secrets`] asks for them. Formats that are
    /// made to be passed on never do.
    pub shows_secrets: bool,
    /// Writes reports that were judged by a policy.
    pub render: Render,
}

/// Every format that a report can be written in, the default first.
pub const FORMATS: &[Format] = &[
    Format {
        name: "text",
        about: "for a person",
        media_type: "text/plain; charset=utf-8",
        shows_secrets: true,
        render: text::render,
    },
    Format {
        name: "json",
        about: "for a program; docs/report.schema.json describes it",
        media_type: "application/json",
        shows_secrets: true,
        render: json::render,
    },
    Format {
        name: "html",
        about: "a page to hand on, in one file",
        media_type: "text/html; charset=utf-8",
        shows_secrets: false,
        render: html::render,
    },
    Format {
        name: "sarif",
        about: "SARIF 2.1.0, for code scanning",
        media_type: "application/sarif+json",
        shows_secrets: false,
        render: sarif::render,
    },
    Format {
        name: "cyclonedx",
        about: "CycloneDX 1.6: secrets and keys as components",
        media_type: "application/vnd.cyclonedx+json; version=1.6",
        shows_secrets: false,
        render: cyclonedx::render,
    },
    Format {
        name: "cyclonedx-1.7",
        about: "CycloneDX 1.7",
        media_type: "application/vnd.cyclonedx+json; version=1.7",
        shows_secrets: false,
        render: cyclonedx::render_1_7,
    },
    Format {
        name: "markdown",
        about: "a comment on a pull request",
        media_type: "text/markdown; charset=utf-8",
        shows_secrets: false,
        render: markdown::render,
    },
    Format {
        name: "junit",
        about: "JUnit XML, for test results",
        media_type: "application/xml",
        shows_secrets: false,
        render: junit::render,
    },
    Format {
        name: "gitlab",
        about: "GitLab's report of container scanning",
        media_type: "application/json",
        shows_secrets: false,
        render: gitlab::render,
    },
    Format {
        name: "timesketch",
        about: "JSON Lines for Timesketch: the history as events",
        media_type: "application/x-ndjson",
        shows_secrets: false,
        render: timesketch::render,
    },
    Format {
        name: "bodyfile",
        about: "for mactime",
        media_type: "text/plain; charset=utf-8",
        shows_secrets: false,
        render: bodyfile::render,
    },
];

/// The format called `name`.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}
