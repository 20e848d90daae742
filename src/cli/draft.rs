//! A file that is written as a whole before it has its name: a full disk, a crash or a signal leaves what was there.
//!
//! On Linux the file has no name while it is written, so that nothing is left of it, whatever ends the process. Where
//! the file system has no files without names, or elsewhere, it has a hidden name beside its place.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The most hidden names that are tried, of which others may be those of processes that were killed.
const MOST_NAMES: usize = 100;

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    /// Where it will be.
    place: PathBuf,
    /// The name that it has until then, if it has one.
    hidden: Option<PathBuf>,
}

impl Draft {
    /// A new file, in the directory of `place`, which gets the permissions `mode` as far as the mask of the process
    /// allows.
    pub(crate) fn new(place: &Path, mode: u32) -> io::Result<Draft> {
        if place.file_name().is_none() {
            return Err(io::Error::other("it has no file name"));
        }
        let place = place.to_path_buf();
        if let Some(file) = unnamed::create(directory(&place), mode) {
            return Ok(Draft { file, place, hidden: None });
        }
        let create = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        let (file, hidden) = hidden(&place, create)?;
        Ok(Draft { file, place, hidden: Some(hidden) })
    }

    /// The file.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Puts the file in its place, over one that is there, once all of it is on the disk.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.hidden.is_none() && self.named()? {
            return Ok(());
        }
        let Some(hidden) = &self.hidden else { return Ok(()) };
        fs::rename(hidden, &self.place)?;
        self.hidden = None;
        Ok(())
    }

    /// Gives a file without a name that of its place, or a hidden one if there is a file already, because no call of
    /// the system puts a file without a name in the place of another one. Returns whether it is in its place.
    fn named(&mut self) -> io::Result<bool> {
        match unnamed::link(&self.file, &self.place) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome.map(|()| true),
        }
        self.hidden = Some(hidden(&self.place, |path| unnamed::link(&self.file, path))?.1);
        Ok(false)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // Whoever writes the file reports another error already.
            let _ = fs::remove_file(hidden);
        }
    }
}

fn directory(place: &Path) -> &Path {
    place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The first hidden name beside `place` with which `make` makes something.
fn hidden<T>(place: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, PathBuf)> {
    for number in 0..MOST_NAMES {
        let mut name = OsString::from(".");
        name.push(place.file_name().unwrap_or_default());
        name.push(format!(".{}-{number}", std::process::id()));
        let hidden = place.with_file_name(name);
        match make(&hidden) {
            Ok(made) => return Ok((made, hidden)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("its directory has too many files that were not finished"))
}

/// Files without names.
#[cfg(target_os = "linux")]
mod unnamed {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::path::{Path, PathBuf};

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

    /// A new file in `directory`; `None` if there cannot be one that gets a name later.
    pub(super) fn create(directory: &Path, mode: u32) -> Option<File> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = File::from(open(directory, flags, Mode::from_raw_mode(mode)).ok()?);
        path(&file).exists().then_some(file)
    }

    /// Gives the file a name that nothing has.
    pub(super) fn link(file: &File, name: &Path) -> io::Result<()> {
        // A link to an open file by its descriptor needs a privilege, or a recent kernel.
        Ok(linkat(CWD, path(file), CWD, name, AtFlags::SYMLINK_FOLLOW)?)
    }

    /// Where the system shows the open file.
    fn path(file: &File) -> PathBuf {
        format!("/proc/self/fd/{}", file.as_raw_fd()).into()
    }
}

#[cfg(not(target_os = "linux"))]
mod unnamed {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    pub(super) fn create(_directory: &Path, _mode: u32) -> Option<File> {
        None
    }

    pub(super) fn link(_file: &File, _name: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// A draft as it is where the file system has no files without names.
    fn named(place: &Path) -> Draft {
        let create = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
        let (file, hidden) = hidden(place, create).unwrap();
        Draft { file, place: place.into(), hidden: Some(hidden) }
    }

    fn check(begin: impl Fn(&Path) -> Draft) {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("report");
        for text in ["new", "newer"] {
            let mut draft = begin(&place);
            draft.file().write_all(text.as_bytes()).unwrap();
            draft.finish().unwrap();
            assert_eq!(fs::read_to_string(&place).unwrap(), text);
        }
        let mut dropped = begin(&place);
        dropped.file().write_all(b"half").unwrap();
        drop(dropped);
        assert_eq!(fs::read_to_string(&place).unwrap(), "newer");
        assert_eq!(names(directory.path()), ["report"]);
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        assert!(begin(&place).finish().is_err());
        assert_eq!(names(directory.path()), ["report"]);
    }

    #[test]
    fn a_draft_is_put_in_its_place_or_leaves_nothing() {
        check(|place| Draft::new(place, 0o600).unwrap());
        check(named);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_draft_has_no_name_where_the_file_system_has_such_files() {
        let directory = tempfile::tempdir().unwrap();
        let draft = Draft::new(&directory.path().join("report"), 0o600).unwrap();
        if unnamed::create(directory.path(), 0o600).is_some() {
            assert_eq!(names(directory.path()), Vec::<String>::new());
        }
        drop(draft);
    }
}
