//! JSON, schema 1: the contract that other programs build on. Its form is that of `layersift-model`.

use std::io::{self, Write};

use layersift_model::{ImageReport, to_json};

use crate::RenderOptions;

/// Writes one object for one image, or a list of them in `reports` for several.
pub(crate) fn render(reports: &[ImageReport], options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", to_json(reports, options.show_secrets)?)
}
