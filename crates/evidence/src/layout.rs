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

/// A bundle that is written.
pub(crate) struct NewBundle {
    path: PathBuf,
    /// The archive, and where its next header comes; `None` for a directory.
    archive: Option<(File, u64)>,
    /// The last file that was begun, and where its header is in the archive.
    last: Option<(String, u64)>,
}

impl NewBundle {
    /// A bundle at `path`, which must not exist: an archive if the name ends in `.tar`.
    pub(crate) fn create(path: &Path) -> Result<NewBundle, EvidenceError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => EvidenceError::Exists { path: path.into() },
            _ => EvidenceError::Write { path: path.into(), source },
        };
        let is_archive = path.extension().is_some_and(|extension| extension == "tar");
        let archive = if is_archive {
            Some((new_file(path).map_err(failed)?, 0))
        } else {
            let mut builder = DirBuilder::new();
            builder.mode(0o700).create(path).map_err(failed)?;
            builder.create(path.join(ARTIFACTS)).map_err(failed)?;
            None
        };
        Ok(NewBundle { path: path.into(), archive, last: None })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins the file `name`. The last file that was begun may be begun again: what it had is dropped.
    pub(crate) fn begin(&mut self, name: &str) -> Result<NewFile, EvidenceError> {
        let path = self.path.join(name);
        let failed = |source| EvidenceError::Write { path: path.clone(), source };
        let is_again = self.last.as_ref().is_some_and(|(last, _)| last == name);
        let own = match &mut self.archive {
            Some((archive, end)) => {
                let start = self.last.as_ref().filter(|_| is_again).map_or(*end, |(_, start)| *start);
                *end = start;
                self.last = Some((name.into(), start));
                archive.set_len(start).and_then(|()| archive.seek(SeekFrom::Start(start))).map_err(failed)?;
                archive.write_all(&[0; BLOCK as usize]).map_err(failed)?;
                None
            }
            None => {
                let file = match is_again {
                    true => OpenOptions::new().write(true).truncate(true).open(&path),
                    false => new_file(&path),
                };
                self.last = Some((name.into(), 0));
                Some(file.map_err(failed)?)
            }
        };
        Ok(NewFile { name: name.into(), own, size: 0 })
    }

    /// Adds bytes to a file.
    pub(crate) fn append(&mut self, file: &mut NewFile, bytes: &[u8]) -> Result<(), EvidenceError> {
        let path = self.path.join(&file.name);
        let output = match (&mut file.own, &mut self.archive) {
            (Some(own), _) => own,
            (None, Some((archive, _))) => archive,
            (None, None) => return Ok(()),
        };
        output.write_all(bytes).map_err(|source| EvidenceError::Write { path, source })?;
        file.size += bytes.len() as u64;
        Ok(())
    }

    /// Ends a file.
    pub(crate) fn end(&mut self, file: NewFile) -> Result<(), EvidenceError> {
        let path = self.path.join(&file.name);
        let failed = |source| EvidenceError::Write { path: path.clone(), source };
        if let Some(own) = &file.own {
            return own.sync_all().map_err(failed);
        }
        let Some((archive, end)) = &mut self.archive else { return Ok(()) };
        let padding = file.size.next_multiple_of(BLOCK) - file.size;
        archive.write_all(&vec![0; padding as usize]).map_err(failed)?;
        archive.seek(SeekFrom::Start(*end)).map_err(failed)?;
        archive.write_all(header(&file.name, file.size).as_bytes()).map_err(failed)?;
        *end += BLOCK + file.size + padding;
        Ok(())
    }

    /// Writes the file `name`.
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), EvidenceError> {
        let mut file = self.begin(name)?;
        self.append(&mut file, bytes)?;
        self.end(file)
    }

    /// Ends the bundle: all of it is on disk.
    pub(crate) fn finish(&mut self) -> Result<(), EvidenceError> {
        let path = self.path.clone();
        let failed = |source| EvidenceError::Write { path: path.clone(), source };
        match &mut self.archive {
            Some((archive, end)) => {
                archive.seek(SeekFrom::Start(*end)).map_err(failed)?;
                archive.write_all(&[0; 2 * BLOCK as usize]).map_err(failed)?;
                archive.sync_all().map_err(failed)
            }
            None => File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(failed),
        }
    }

    /// Removes what was written. Whatever was not written by this process is left.
    pub(crate) fn abandon(&self, names: &[String]) {
        // What cannot be removed has no seal, and so is no bundle.
        if self.archive.is_some() {
            let _ = fs::remove_file(&self.path);
            return;
        }
        for name in names {
            let _ = fs::remove_file(self.path.join(name));
        }
        let _ = fs::remove_dir(self.path.join(ARTIFACTS));
        let _ = fs::remove_dir(&self.path);
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// A file of a bundle while it is written.
pub(crate) struct NewFile {
    name: String,
    /// The file; `None` in an archive.
    own: Option<File>,
    size: u64,
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
