//! The formats that reports are passed on in: valid by their schemas, the same for the same report, and safe whatever
//! an image calls its files.

#![allow(unreachable_pub)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod golden;
mod hostile;
mod sample;
mod sbom;
mod schemas;
mod skeleton;

use layersift_model::ImageReport;
use layersift_report::{RenderOptions, format};

/// `reports` in the format called `name`.
fn rendered(name: &str, reports: &[ImageReport], show_secrets: bool) -> String {
    let mut out = Vec::new();
    let options = RenderOptions { show_secrets, ..RenderOptions::default() };
    (format(name).unwrap().render)(reports, &options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}
