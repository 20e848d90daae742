//! Reports that were kept, read from JSON.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;

use super::output;
use layersift_model::{ImageReport, ReportSet};

/// The most bytes of all reports of one call.
const MOST_BYTES: u64 = 1 << 30;

/// Opens a regular file. A pipe would be waited for, perhaps for ever: standard input is read instead.
fn open_file(path: &Path) -> io::Result<File> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    File::open(path)
}

/// Reads kept reports, of which all together have a limited size.
pub(crate) struct SavedReports {
    bytes_left: u64,
}

impl SavedReports {
    pub(crate) fn new() -> SavedReports {
        SavedReports { bytes_left: MOST_BYTES }
    }

    /// The reports in the file at `path`.
    pub(crate) fn file(&mut self, path: &Path) -> anyhow::Result<Vec<ImageReport>> {
        let text = open_file(path).and_then(|file| self.bounded(file));
        self.parse(&path.display().to_string(), &text.with_context(|| format!("cannot read {}", path.display()))?)
    }

    /// The reports on standard input.
    pub(crate) fn standard_input(&mut self) -> anyhow::Result<Vec<ImageReport>> {
        let text = self.bounded(io::stdin().lock()).context("standard input")?;
        self.parse("standard input", &text)
    }

    /// Parses reports, and says what those of older versions lack.
    fn parse(&self, name: &str, text: &[u8]) -> anyhow::Result<Vec<ImageReport>> {
        let set = ReportSet::from_json(text).with_context(|| name.to_string())?;
        if !set.missing.is_empty() {
            let missing: Vec<&str> = set.missing.iter().copied().collect();
            let missing = missing.join("; ");
            output::warn([format!("{name} was written by an older version and lacks: {missing}")]);
        }
        Ok(set.reports)
    }

    /// Reads at most as many bytes as are left.
    fn bounded(&mut self, reader: impl Read) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = reader.take(self.bytes_left.saturating_add(1)).read_to_end(&mut bytes)? as u64;
        self.bytes_left = self.bytes_left.checked_sub(read).ok_or_else(|| {
            io::Error::other(format!("all reports together have more than {MOST_BYTES} bytes; read fewer at a time"))
        })?;
        Ok(bytes)
    }
}
