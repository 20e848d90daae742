//! Reports that were kept, read from JSON.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;

use super::output;
use layersift_format::MappedFile;
use layersift_model::{ImageReport, ReportSet};

/// The most bytes of all reports of one call. In memory, a report may take three times as many.
const MOST_BYTES: u64 = 80 << 20;

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
        let cannot_read = || format!("cannot read {}", path.display());
        let file = open_file(path).with_context(cannot_read)?;
        // A file of the kernel has no size before it is read.
        if file.metadata().with_context(cannot_read)?.len() == 0 {
            let text = self.bounded(file).with_context(cannot_read)?;
            return self.parse(&path.display().to_string(), &text);
        }
        // The text does not take memory of the process.
        let text = MappedFile::of(&file).with_context(cannot_read)?;
        self.take(text.len() as u64).with_context(cannot_read)?;
        let reports = self.parse(&path.display().to_string(), &text);
        text.check_whole().with_context(cannot_read)?;
        reports
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
        let read = reader.take(self.bytes_left.saturating_add(1)).read_to_end(&mut bytes)?;
        self.take(read as u64)?;
        Ok(bytes)
    }

    fn take(&mut self, bytes: u64) -> io::Result<()> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(|| {
            let most = MOST_BYTES >> 20;
            io::Error::other(format!("all reports together have more than {most} MiB; read fewer at a time"))
        })?;
        Ok(())
    }
}
