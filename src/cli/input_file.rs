//! The small files that flags name, with errors that name them.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use layersift_format::{read_at_most, read_small, read_small_text};

use super::blocking::within;

/// The bytes of the file at `path`.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    read_by(path, read_small)
}

/// The text of the file at `path`.
pub(crate) fn read_text(path: &Path) -> anyhow::Result<String> {
    read_by(path, read_small_text)
}

/// The bytes of the file at `path`, of which there may be `most`.
pub(crate) fn read_up_to(path: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    read_by(path, move |path| read_at_most(path, most))
}

/// What `load` makes of the file at `path`. Its errors name the file.
pub(crate) fn load<T, E>(path: &Path, load: impl FnOnce(&Path) -> Result<T, E> + Send + 'static) -> anyhow::Result<T>
where
    T: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let owned = PathBuf::from(path);
    let loaded = within(path, move || load(&owned)).with_context(|| cannot_read(path))?;
    Ok(loaded?)
}

fn read_by<T: Send + 'static>(
    path: &Path,
    read: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let owned = PathBuf::from(path);
    within(path, move || read(&owned)).and_then(|read| read).with_context(|| cannot_read(path))
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}
