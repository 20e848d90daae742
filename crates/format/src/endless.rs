//! Tells devices that can be read for ever from files that have an end.

use std::fs::{self, File, Metadata};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

const NO_END: &str = "it is a character device, which has no end";

/// Whether a file may have no end: a character device, such as a terminal or `/dev/zero`, but for `/dev/null`. Pipes
/// and disks have one.
pub fn is_endless(file: &Metadata) -> bool {
    let is_null = || fs::metadata("/dev/null").is_ok_and(|null| null.rdev() == file.rdev());
    file.file_type().is_char_device() && !is_null()
}

/// Opens the file at `path`, unless it is [endless](is_endless).
///
/// # Errors
/// If it cannot be opened, or is endless.
pub fn open_file_with_end(path: &Path) -> io::Result<File> {
    // Opening a device may do something, so it is not opened for the question.
    if is_endless(&fs::metadata(path)?) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, NO_END));
    }
    File::open(path)
}

/// Standard input, if it is not for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndlessInput {
    /// Somebody would have to type.
    Terminal,
    /// A device that can be read for ever.
    Device,
}

impl EndlessInput {
    /// What standard input is; `None` if it may have an end.
    pub fn of_standard_input() -> Option<EndlessInput> {
        let input = io::stdin();
        if input.is_terminal() {
            return Some(EndlessInput::Terminal);
        }
        // What cannot be asked is reported when it is read.
        let metadata = File::from(input.as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
        is_endless(&metadata).then_some(EndlessInput::Device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_without_an_end() {
        let endless = |path: &str| is_endless(&fs::metadata(path).unwrap());
        let paths = ["/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/null", "/", "/proc/self/exe"];
        assert_eq!(paths.map(endless), [true, true, true, true, false, false, false]);
        assert!(open_file_with_end(Path::new("/dev/zero")).is_err());
        assert!(open_file_with_end(Path::new("/dev/null")).is_ok());
    }
}
