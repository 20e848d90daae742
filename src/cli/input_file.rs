//! The small files that flags name, with errors that name them.

use std::path::Path;

use anyhow::Context;
use layersift_format::{read_small, read_small_text};

/// The bytes of the file at `path`.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    read_small(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The text of the file at `path`.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    read_small_text(path).with_context(|| format!("cannot read {}", path.display()))
}
