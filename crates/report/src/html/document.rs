//! The page: its head with the policy of its content, the index of several images, and the parts of each image.

use std::cmp::Reverse;
use std::io::{self, Write};

use base64::Engine as _;
use layersift_model::{Finding, Verdict};
use sha2::{Digest as _, Sha256};

use super::{Image, filters, findings, gaps, layers, patches, repeat, verdict};
use crate::exchange::NO_FINGERPRINTS;
use crate::markup::{code, one_line, plain};
use crate::picture;
use crate::terminal::plural;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// Writes the page.
pub(super) fn write(images: &[Image<'_>], out: &mut dyn Write) -> io::Result<()> {
    head(images, out)?;
    writeln!(out, "<body>\n<a class=\"skip\" href=\"#main\">Skip to the report</a>")?;
    writeln!(out, "<header><p class=\"eyebrow\">Layersift report</p>")?;
    match images {
        [one] => writeln!(out, "<h1>{}</h1></header>", code(&one_line(one.name(), 500)))?,
        many => {
            writeln!(out, "<h1>{}</h1></header>", plural(many.len() as u64, "image"))?;
            index(many, out)?;
            filters::form(many, out)?;
        }
    }
    writeln!(out, "<main id=\"main\" tabindex=\"-1\">")?;
    images.iter().try_for_each(|one| image(one, images.len() == 1, out))?;
    writeln!(out, "</main>")?;
    footer(images, out)?;
    filters::data(images, out)?;
    writeln!(out, "<script>{SCRIPT}</script>\n</body>\n</html>")
}

fn head(images: &[Image<'_>], out: &mut dyn Write) -> io::Result<()> {
    let style = format!("{}{STYLE}", picture::STYLE);
    let title = match images {
        [one] => format!("{}: {}", one.report.verdict().name().to_uppercase(), one_line(one.name(), 120)),
        many => plural(many.len() as u64, "image"),
    };
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src '{}'; script-src '{}'; \
         base-uri 'none'; form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{} · Layersift</title>\n<style>{style}</style>\n</head>",
        hash(&style),
        hash(SCRIPT),
        plain(&title),
    )
}

/// The source expression that allows `text` in a Content-Security-Policy.
fn hash(text: &str) -> String {
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// The images, worst first.
fn index(images: &[Image<'_>], out: &mut dyn Write) -> io::Result<()> {
    let mut worst_first: Vec<&Image<'_>> = images.iter().collect();
    worst_first.sort_by_key(|image| Reverse(image.report.verdict()));
    let count = |verdict| images.iter().filter(|image| image.report.verdict() == verdict).count();
    let (fail, incomplete, pass) = (count(Verdict::Fail), count(Verdict::Incomplete), count(Verdict::Pass));
    writeln!(out, "<nav aria-label=\"Images\"><p>{fail} fail, {incomplete} incomplete, {pass} pass.</p>")?;
    writeln!(out, "<div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"Images\">")?;
    writeln!(out, "<table><thead><tr><th scope=\"col\">Verdict</th><th scope=\"col\">Image</th>")?;
    writeln!(out, "<th scope=\"col\">Platform</th><th scope=\"col\">Findings</th></tr></thead><tbody>")?;
    for image in worst_first {
        let (report, id) = (image.report, image.id);
        let verdict = report.verdict().name();
        let counts = verdict::counts(report.findings.iter().filter(|finding: &&Finding| finding.counts()));
        writeln!(
            out,
            "<tr><td><strong class=\"{verdict}\">{}</strong></td><td><a href=\"#{id}\">{}</a></td>\
             <td>{}</td><td>{}</td></tr>",
            verdict.to_uppercase(),
            code(&one_line(image.name(), 300)),
            report.platform.as_deref().map(|platform| code(&one_line(platform, 60)).to_string()).unwrap_or_default(),
            counts.unwrap_or_else(|| "none".into()),
        )?;
    }
    writeln!(out, "</tbody></table></div></nav>")
}

fn image(image: &Image<'_>, is_alone: bool, out: &mut dyn Write) -> io::Result<()> {
    let id = image.id;
    writeln!(out, "<section class=\"image\" id=\"{id}\">")?;
    if !is_alone {
        writeln!(out, "<h2>{}</h2>", code(&one_line(image.name(), 500)))?;
    }
    verdict::write(image, out)?;
    if is_alone {
        filters::form(std::slice::from_ref(image), out)?;
    }
    layers::write(image, out)?;
    findings::write(image, out)?;
    patches::write(image, out)?;
    gaps::write(image, out)?;
    repeat::write(image, out)?;
    writeln!(out, "</section>")
}

fn footer(images: &[Image<'_>], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<footer><p>Secrets are masked. ")?;
    if images.iter().all(|image| image.has_private_key) {
        writeln!(out, "Fingerprints are made with a key of the operator's own.")?;
    } else {
        writeln!(
            out,
            "Fingerprints of secrets, and ids of findings, which are made from them, are {NO_FINGERPRINTS}. \
             The JSON report has them.",
        )?;
    }
    writeln!(out, "</p><p>This page works without the network. Names and text from the image are set as code; ")?;
    writeln!(out, "characters that cannot be seen, or that reorder text, are written like <i class=\"u\">U+202E</i>.")?;
    writeln!(out, "</p></footer>")
}
