//! JSON, schema 1: the contract that other programs build on. `layersift-model` defines its fields.

use std::io::{self, Write};

use layersift_model::{ImageReport, write_json};

use crate::RenderOptions;

/// Writes an object for a single image, or a list of objects in `reports` for several.
pub(crate) fn render(reports: &[ImageReport], options: &RenderOptions, out: &mut dyn Write) -> io::Result<()> {
    write_json(reports, options.show_secrets, out)?;
    writeln!(out)
}
