//! What is read: standard input and files, both bounded.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use layersift_report::human;

/// All of `input`, at most `limit` bytes.
pub(super) fn read(input: impl Read, limit: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(limit.saturating_add(1)).read_to_end(&mut bytes).context("cannot read standard input")?;
    ensure!(bytes.len() as u64 <= limit, "the input is larger than {}", human(limit));
    Ok(bytes)
}

/// The bytes of the regular file at `path`, at most `limit`; `None` if there is no such file.
pub(super) fn read_file(path: &Path, limit: u64) -> anyhow::Result<Option<Vec<u8>>> {
    let cannot_read = || format!("cannot read {}", path.display());
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        // A directory, a device or a pipe.
        Ok(_) => return Ok(None),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(cannot_read),
    }
    let file = File::open(path).with_context(cannot_read)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).with_context(cannot_read)?;
    ensure!(bytes.len() as u64 <= limit, "{} is larger than {}", path.display(), human(limit));
    Ok(Some(bytes))
}

/// Whether there is no such file, as for words that only look like a path.
fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidInput | InvalidFilename)
}
