//! Writes a report to the file that `--output` names.
//!
//! A regular file is replaced at once, by [a draft](Draft): a full disk or a crash leaves the old file. Symbolic links
//! are followed. Devices, pipes and what the process was started with, such as `/dev/stdout`, are written to.

use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::blocking::within;
use super::draft::Draft;
use super::inputs;

/// The most symbolic links that lead to a file, as in Linux.
const MAX_LINKS: usize = 40;

/// Who may read a file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Those who may read other files of the user; of a file that is replaced, the same as before.
    AsUsual,
    /// The user alone, because the file has the values of secrets.
    Owner,
}

/// Writes what `write` writes to the file at `path`.
pub(crate) fn write(
    path: &Path,
    readers: Readers,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    inputs::check(path)?;
    try_write(path, readers, write).with_context(|| format!("cannot write {}", path.display()))
}

fn try_write(path: &Path, readers: Readers, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let path = followed(path)?;
    match fs::metadata(&path) {
        Ok(known) if known.is_file() && !is_of_a_process(&path) => replace(&path, Some(&known), readers, write),
        Ok(_) => write_to(&path, write),
        Err(error) if error.kind() == io::ErrorKind::NotFound => replace(&path, None, readers, write),
        Err(error) => Err(error),
    }
}

/// The path at the end of symbolic links, whether there is a file or not.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            // What a process has open is not reached by the text of such a link.
            Ok(_) if is_of_a_process(&path) => return Ok(path),
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Whether the path is that of an open file of a process, as what `/dev/stdout` points to, and what a shell passes for
/// `>(command)`. A shell may have positioned such a file, so that it is neither replaced nor truncated.
#[cfg(target_os = "linux")]
fn is_of_a_process(path: &Path) -> bool {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::statfs(directory).is_ok_and(|system| system.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

#[cfg(not(target_os = "linux"))]
fn is_of_a_process(path: &Path) -> bool {
    let standard = ["/dev/stdin", "/dev/stdout", "/dev/stderr"];
    path.starts_with("/dev/fd") || standard.iter().any(|name| path == Path::new(name))
}

/// Writes to what is there: a device, a pipe, or an open file.
fn write_to(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let owned = path.to_path_buf();
    // A pipe is opened once somebody reads from it.
    let mut file = within(path, move || OpenOptions::new().write(true).open(owned))??;
    match write(&mut file) {
        // The reader of the pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Writes a new file beside `path`, and gives it that name.
fn replace(
    path: &Path,
    known: Option<&Metadata>,
    readers: Readers,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mode = if readers == Readers::Owner { 0o600 } else { 0o666 };
    let mut draft = match Draft::new(path, mode) {
        Ok(draft) => draft,
        // The file may be written, and its directory may not.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && known.is_some() => {
            return overwrite(path, readers, write);
        }
        Err(error) => return Err(error),
    };
    if let (Some(known), Readers::AsUsual) = (known, readers) {
        draft.file().set_permissions(fs::Permissions::from_mode(known.mode() & 0o777))?;
    }
    write(draft.file())?;
    draft.finish()
}

fn overwrite(path: &Path, readers: Readers, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    if readers == Readers::Owner {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    write(&mut file)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, bytes: &[u8], readers: Readers) -> anyhow::Result<()> {
        write(path, readers, |out| out.write_all(bytes))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_through_links_and_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link, new) = (directory.path().join("a"), directory.path().join("l"), directory.path().join("n"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("a", &link).unwrap();
        put(&link, b"new", Readers::AsUsual).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(mode(&file), 0o640);
        put(&file, b"secret", Readers::Owner).unwrap();
        assert_eq!(mode(&file), 0o600);
        let dangling = directory.path().join("d");
        std::os::unix::fs::symlink("n", &dangling).unwrap();
        put(&dangling, b"new", Readers::AsUsual).unwrap();
        assert_eq!(fs::read(&new).unwrap(), b"new");
        let mut left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a", "d", "l", "n"]);
    }

    #[test]
    fn a_device_is_written_to_and_a_failure_leaves_the_old_file() {
        put(Path::new("/dev/null"), b"x", Readers::Owner).unwrap();
        assert!(put(Path::new("/dev/full"), b"x", Readers::AsUsual).is_err());
        let directory = tempfile::tempdir().unwrap();
        assert!(put(&directory.path().join("no/such"), b"x", Readers::AsUsual).is_err());
        assert!(put(directory.path(), b"x", Readers::AsUsual).is_err());
    }
}
