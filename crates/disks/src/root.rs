//! The directory of an engine on a disk: opens and lists what is below it. Nothing is written, symbolic links are not
//! followed, devices and pipes are not opened, and access times stay as they are where the system permits it.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use layersift_format::MappedFile;
use rustix::fs::{CWD, Dir, Mode, OFlags};

/// A directory below which an engine keeps its files.
#[derive(Clone, Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    pub(crate) fn new(path: &Path) -> Root {
        Root(path.into())
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of what is at `relative`, with what it is; `None` if there is nothing.
    ///
    /// # Errors
    /// Those of [`below`].
    pub(crate) fn find(&self, relative: impl AsRef<Path>) -> io::Result<Option<(PathBuf, Metadata)>> {
        below(&self.0, relative.as_ref())
    }

    /// The path of the directory at `relative`; `None` if there is none.
    ///
    /// # Errors
    /// Those of [`below`].
    pub(crate) fn directory(&self, relative: impl AsRef<Path>) -> io::Result<Option<PathBuf>> {
        let found = self.find(relative)?;
        Ok(found.and_then(|(path, metadata)| metadata.is_dir().then_some(path)))
    }

    /// The path of the regular file at `relative`; `None` if there is none.
    ///
    /// # Errors
    /// Those of [`below`].
    pub(crate) fn file(&self, relative: impl AsRef<Path>) -> io::Result<Option<PathBuf>> {
        let found = self.find(relative)?;
        Ok(found.and_then(|(path, metadata)| metadata.is_file().then_some(path)))
    }

    /// The names in the directory at `relative`, in order; none if it is not there.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn names(&self, relative: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let Some(path) = self.directory(relative)? else { return Ok(Vec::new()) };
        // A name that is not UTF-8 is none that an engine gave.
        Ok(children(&path)?.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    /// The content of the file at `relative`; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read, or has more than `limit` bytes.
    pub(crate) fn read(&self, relative: impl AsRef<Path>, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(path) = self.file(relative)? else { return Ok(None) };
        let mut bytes = Vec::new();
        open_file(&path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("the file is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// The text in a small file, without the spaces around it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn text(&self, relative: impl AsRef<Path>) -> io::Result<Option<String>> {
        const TEXT: u64 = 4 << 10;
        let bytes = self.read(relative, TEXT)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_string()))
    }

    /// The file at `relative`, mapped; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be opened or mapped.
    pub(crate) fn map(&self, relative: impl AsRef<Path>) -> io::Result<Option<MappedFile>> {
        let Some(path) = self.file(relative)? else { return Ok(None) };
        MappedFile::of(&open_file(&path)?).map(Some)
    }
}

/// The path of what is at `relative` below `root`, with what it is. `None` if there is nothing, or if `relative` leads
/// out of `root`.
///
/// # Errors
/// If it cannot be told what is there, or a symbolic link is in the way: it would lead to the disk of this machine.
pub(crate) fn below(root: &Path, relative: &Path) -> io::Result<Option<(PathBuf, Metadata)>> {
    let mut path = root.to_path_buf();
    let Some(mut metadata) = nothing_if_absent(fs::metadata(root))? else { return Ok(None) };
    for component in relative.components() {
        match component {
            Component::CurDir => continue,
            Component::Normal(name) if metadata.is_dir() => path.push(name),
            _ => return Ok(None),
        }
        let Some(next) = nothing_if_absent(fs::symlink_metadata(&path))? else { return Ok(None) };
        if next.is_symlink() {
            return Err(io::Error::other("it is a symbolic link, which is not followed"));
        }
        metadata = next;
    }
    Ok(Some((path, metadata)))
}

/// Whether `id` names one file of a directory: not a path, and not another name of the directory.
pub(crate) fn is_name(id: &str) -> bool {
    let mut components = Path::new(id).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == id)
}

/// `None` where the system says that nothing is there. Any other error may hide something.
fn nothing_if_absent<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a regular file for reading, and waits for nothing.
///
/// # Errors
/// If it cannot be opened, is a symbolic link, or is not a regular file.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let not_regular = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    // Asked before, because a device acts when it is opened, and after, because the file may be another one by then.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(not_regular());
    }
    let file = open(path, OFlags::NONBLOCK | OFlags::NOFOLLOW)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

/// The names in a directory, in order. `path` may be a symbolic link to it.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn children(path: &Path) -> io::Result<Vec<OsString>> {
    let mut names = names(path)?.collect::<io::Result<Vec<OsString>>>()?;
    names.sort_unstable();
    Ok(names)
}

/// The names in a directory, as the file system has them. `path` may be a symbolic link to it.
///
/// # Errors
/// If it cannot be opened. Each name may be an error.
pub(crate) fn names(path: &Path) -> io::Result<impl Iterator<Item = io::Result<OsString>>> {
    let directory = Dir::new(open(path, OFlags::DIRECTORY)?)?;
    Ok(directory.filter_map(|entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error.into())),
        };
        let name = entry.file_name().to_bytes();
        let is_child = name != b"." && name != b"..";
        is_child.then(|| Ok(OsString::from_vec(name.to_vec())))
    }))
}

/// Opens without a change of the access time; only the owner of a file and root may ask for that.
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    match rustix::fs::openat(CWD, path, flags | OFlags::NOATIME, Mode::empty()) {
        Ok(file) => return Ok(File::from(file)),
        Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
}
