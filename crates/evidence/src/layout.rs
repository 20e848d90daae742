//! A bundle on disk: a directory, or a tar archive. Files are 0600 and new; nothing is written over.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::EvidenceError;

const BLOCK: u64 = 512;

/// The directory of the artifacts.
pub(crate) const ARTIFACTS: &str = "artifacts";

/// A bundle that is written. Unless it is [finished](NewBundle::finish), what was written is removed when this ends,
/// however it ends.
pub(crate) struct NewBundle {
    path: PathBuf,
    output: Output,
    /// The file that was begun last.
    file: Option<NewFile>,
    /// The names of what was begun, in a directory.
    names: Vec<String>,
    is_finished: bool,
}

/// How far a bundle is written.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    names: usize,
    end: u64,
}

/// Where the files of a bundle go.
enum Output {
    Directory,
    /// An archive, and where its next header comes.
    Archive(File, u64),
    /// Nowhere: they are taken out to be compared.
    Nowhere,
}

/// A file of a bundle while it is written.
struct NewFile {
    name: String,
    /// The file in a directory.
    own: Option<File>,
    /// Where the header is in an archive.
    start: u64,
    size: u64,
    /// The zeros before the next byte, which become a hole.
    hole: u64,
}

impl NewBundle {
    /// A bundle at `path`, which must not exist: an archive if the name ends in `.tar`.
    pub(crate) fn create(path: &Path) -> Result<NewBundle, EvidenceError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => EvidenceError::Exists { path: path.into() },
            _ => EvidenceError::Write { path: path.into(), source },
        };
        let is_archive = path.extension().is_some_and(|extension| extension == "tar");
        let output = if is_archive {
            Output::Archive(new_file(path).map_err(failed)?, 0)
        } else {
            DirBuilder::new().mode(0o700).create(path).map_err(failed)?;
            Output::Directory
        };
        let bundle = NewBundle::new(path, output);
        if !is_archive {
            DirBuilder::new().mode(0o700).create(path.join(ARTIFACTS)).map_err(failed)?;
        }
        Ok(bundle)
    }

    /// A bundle that is not written.
    pub(crate) fn nowhere() -> NewBundle {
        NewBundle::new(Path::new(""), Output::Nowhere)
    }

    fn new(path: &Path, output: Output) -> NewBundle {
        NewBundle { path: path.into(), output, file: None, names: Vec::new(), is_finished: false }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins the file `name`. The last file that was begun may be begun again: what it had is dropped.
    pub(crate) fn begin(&mut self, name: &str) -> Result<(), EvidenceError> {
        let path = self.path.join(name);
        self.try_begin(name).map_err(|source| EvidenceError::Write { path, source })
    }

    fn try_begin(&mut self, name: &str) -> io::Result<()> {
        let again = self.file.take().filter(|last| last.name == name);
        let new = |own, start| NewFile { name: name.into(), own, start, size: 0, hole: 0 };
        self.file = Some(match (&mut self.output, again) {
            (Output::Nowhere, _) => new(None, 0),
            (Output::Archive(archive, end), again) => {
                let start = again.map_or(*end, |again| again.start);
                *end = start;
                archive.set_len(start)?;
                archive.seek(SeekFrom::Start(start))?;
                archive.write_all(&[0; BLOCK as usize])?;
                new(None, start)
            }
            // By its handle: the name may be that of another file by now.
            (Output::Directory, Some(NewFile { own: Some(mut own), .. })) => {
                own.set_len(0)?;
                own.rewind()?;
                new(Some(own), 0)
            }
            (Output::Directory, _) => {
                let own = new_file(&self.path.join(name))?;
                self.names.push(name.into());
                new(Some(own), 0)
            }
        });
        Ok(())
    }

    /// How far it is written.
    pub(crate) fn mark(&self) -> Mark {
        let end = if let Output::Archive(_, end) = &self.output { *end } else { 0 };
        Mark { names: self.names.len(), end }
    }

    /// Removes what was begun after `mark`.
    pub(crate) fn back_to(&mut self, mark: Mark) -> Result<(), EvidenceError> {
        self.file = None;
        let path = self.path.clone();
        let failed = |path: PathBuf| move |source| EvidenceError::Write { path, source };
        if let Output::Archive(archive, end) = &mut self.output {
            *end = mark.end;
            archive.set_len(mark.end).map_err(failed(path.clone()))?;
        }
        for name in self.names.split_off(mark.names) {
            let path = path.join(name);
            fs::remove_file(&path).map_err(failed(path))?;
        }
        Ok(())
    }

    /// Adds bytes to the file that was begun.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), EvidenceError> {
        self.try_append(bytes).map_err(|source| self.failed(source))
    }

    fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.size += bytes.len() as u64;
        let output = match (&mut file.own, &mut self.output) {
            (Some(own), _) => own,
            (None, Output::Archive(archive, _)) => archive,
            (None, Output::Directory | Output::Nowhere) => return Ok(()),
        };
        if bytes.iter().all(|&byte| byte == 0) {
            file.hole += bytes.len() as u64;
            return Ok(());
        }
        if file.hole > 0 {
            output.seek(SeekFrom::Current(i64::try_from(file.hole).map_err(io::Error::other)?))?;
            file.hole = 0;
        }
        output.write_all(bytes)
    }

    /// Ends the file that was begun.
    pub(crate) fn end(&mut self) -> Result<(), EvidenceError> {
        self.try_end().map_err(|source| self.failed(source))
    }

    fn try_end(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if let Some(own) = &file.own {
            return own.set_len(file.size);
        }
        let Output::Archive(archive, end) = &mut self.output else { return Ok(()) };
        let padded = file.start + BLOCK + file.size.next_multiple_of(BLOCK);
        archive.set_len(padded)?;
        archive.seek(SeekFrom::Start(file.start))?;
        archive.write_all(header(&file.name, file.size).as_bytes())?;
        *end = padded;
        Ok(())
    }

    /// Writes the file `name`.
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), EvidenceError> {
        self.begin(name)?;
        self.append(bytes)?;
        self.end()
    }

    /// Ends the bundle: all of it is on disk, and stays.
    pub(crate) fn finish(&mut self) -> Result<(), EvidenceError> {
        let path = self.path.clone();
        let failed = |source| EvidenceError::Write { path: path.clone(), source };
        match &mut self.output {
            Output::Archive(archive, end) => {
                archive.seek(SeekFrom::Start(*end)).map_err(failed)?;
                archive.write_all(&[0; 2 * BLOCK as usize]).map_err(failed)?;
                archive.sync_all().map_err(failed)?;
            }
            Output::Directory => {
                sync_directory(&self.path, &self.names).map_err(failed)?;
            }
            Output::Nowhere => {}
        }
        self.is_finished = true;
        Ok(())
    }

    /// The error of writing the file that was begun.
    fn failed(&self, source: io::Error) -> EvidenceError {
        let name = self.file.as_ref().map_or("", |file| &file.name);
        EvidenceError::Write { path: self.path.join(name), source }
    }
}

impl Drop for NewBundle {
    /// Removes what was written. Whatever was not written by this process is left.
    fn drop(&mut self) {
        // What cannot be removed has no seal, and so is no bundle.
        match self.output {
            _ if self.is_finished => {}
            Output::Nowhere => {}
            Output::Archive(..) => drop(fs::remove_file(&self.path)),
            Output::Directory => {
                for name in &self.names {
                    let _ = fs::remove_file(self.path.join(name));
                }
                let _ = fs::remove_dir(self.path.join(ARTIFACTS));
                let _ = fs::remove_dir(&self.path);
            }
        }
    }
}

/// Waits until the files `names` in a directory are on disk, and the directory itself. One call for all of them: a
/// bundle may have thousands of files, and waiting for each takes far longer than writing it.
#[cfg(target_os = "linux")]
fn sync_directory(path: &Path, _names: &[String]) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_directory(path: &Path, names: &[String]) -> io::Result<()> {
    names.iter().try_for_each(|name| File::open(path.join(name))?.sync_all())?;
    File::open(path)?.sync_all()
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// The only header that a file of a bundle has.
fn header(name: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    let field = &mut header.as_old_mut().name;
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name.as_bytes()[..length]);
    header.set_size(size);
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    header
}

/// A bundle that is read.
pub(crate) struct Bundle {
    path: PathBuf,
    /// Its files: offset and size in the archive, or 0 and size.
    files: BTreeMap<String, (u64, u64)>,
    archive: bool,
    /// What it has that no bundle has.
    pub(crate) strange: Vec<String>,
}

impl Bundle {
    /// Opens the bundle at `path`.
    pub(crate) fn open(path: &Path) -> Result<Bundle, EvidenceError> {
        let failed = |source| EvidenceError::Read { path: path.into(), source };
        let archive = !fs::metadata(path).map_err(failed)?.is_dir();
        if archive && !fs::metadata(path).map_err(failed)?.is_file() {
            let what = "it is neither a directory nor a regular file".into();
            return Err(EvidenceError::NotABundle { path: path.into(), what });
        }
        let mut bundle = Bundle { path: path.into(), files: BTreeMap::new(), archive, strange: Vec::new() };
        if archive { bundle.list_archive() } else { bundle.list_directory("") }.map_err(failed)?;
        Ok(bundle)
    }

    /// The names of its files.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.files.keys()
    }

    /// Whether it has the file `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// A reader of the file `name`.
    pub(crate) fn open_file(&self, name: &str) -> Result<impl Read + use<>, EvidenceError> {
        let failed = |source| EvidenceError::Read { path: self.path.join(name), source };
        let &(offset, size) = self.files.get(name).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let file = match self.archive {
            true => File::open(&self.path).and_then(|mut file| file.seek(SeekFrom::Start(offset)).map(|_| file)),
            false => File::open(self.path.join(name)),
        };
        Ok(file.map_err(failed)?.take(size))
    }

    /// The bytes of the file `name`, of which there may be `limit`.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, EvidenceError> {
        let failed = |source| EvidenceError::Read { path: self.path.join(name), source };
        if self.files.get(name).is_some_and(|(_, size)| *size > limit) {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let mut bytes = Vec::new();
        self.open_file(name)?.read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn list_directory(&mut self, below: &str) -> io::Result<()> {
        for entry in fs::read_dir(self.path.join(below))? {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type()?);
            let name = name.to_str().map(|name| if below.is_empty() { name.into() } else { format!("{below}/{name}") });
            match name {
                Some(name) if kind.is_file() => drop(self.files.insert(name, (0, entry.metadata()?.len()))),
                Some(name) if kind.is_dir() && name == ARTIFACTS => self.list_directory(ARTIFACTS)?,
                _ => self.strange.push(entry.file_name().to_string_lossy().into_owned()),
            }
        }
        Ok(())
    }

    /// Every byte of an archive is a file's, or what this program writes between files.
    fn list_archive(&mut self) -> io::Result<()> {
        let mut file = File::open(&self.path)?;
        let length = file.metadata()?.len();
        let mut at = 0;
        loop {
            let mut block = [0; BLOCK as usize];
            file.seek(SeekFrom::Start(at))?;
            if file.read_exact(&mut block).is_err() {
                self.strange.push("the end of the archive is missing".into());
                return Ok(());
            }
            if block.iter().all(|&byte| byte == 0) {
                let mut rest = Vec::new();
                file.take(2 * BLOCK).read_to_end(&mut rest)?;
                if rest != [0; BLOCK as usize] || at + 2 * BLOCK != length {
                    self.strange.push("bytes after the end of the archive".into());
                }
                return Ok(());
            }
            let read = tar::Header::from_byte_slice(&block);
            let name = read.path_bytes();
            let name = String::from_utf8_lossy(&name).into_owned();
            let size = read.size().unwrap_or(u64::MAX);
            let is_ours = header(&name, size).as_bytes()[..] == block && !self.files.contains_key(&name);
            let end = at.checked_add(BLOCK).and_then(|data| data.checked_add(size)).filter(|end| *end <= length);
            let (true, Some(end)) = (is_ours, end) else {
                self.strange.push(format!("the header at byte {at} of the archive was changed"));
                return Ok(());
            };
            let padding = end.next_multiple_of(BLOCK) - end;
            let mut zeros = Vec::new();
            file.seek(SeekFrom::Start(end))?;
            (&file).take(padding).read_to_end(&mut zeros)?;
            if zeros.len() as u64 != padding || zeros.iter().any(|&byte| byte != 0) {
                self.strange.push(format!("the padding of {name} was changed"));
            }
            self.files.insert(name, (at + BLOCK, size));
            at = end + padding;
        }
    }
}
