//! A directory read as a tar archive, so that a root file system is scanned like any layer.
//!
//! Entries come in the order of their names, so the same tree gives the same bytes. Other file systems mounted below
//! the directory are read like the rest, except the kernel's own (`/proc`, `/sys`), which have no files.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use layersift_format::tar::BLOCK;
use layersift_model::{Gap, GapReason, ImagePath};

/// The files that could not be read, shared with the source, which reports them after the archive was read.
pub(crate) type Unreadable = Arc<Mutex<Vec<Gap>>>;

/// Reads as a tar archive of the files below a directory.
pub(crate) struct DirectoryTar {
    root: PathBuf,
    /// Files that could not be opened, and are left out.
    unreadable: Unreadable,
    /// Paths that are still to be written, the next one last.
    pending: Vec<PathBuf>,
    /// Names of files with several links, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
    /// Bytes of headers, and how many of them were read.
    ready: Vec<u8>,
    taken: usize,
    /// The file whose data is being read, how many bytes of it are left, and the padding after them.
    open: Option<(Option<File>, u64, u64)>,
    ended: bool,
}

impl DirectoryTar {
    /// The archive of all files below `root`; those that cannot be read are added to `unreadable`.
    pub(crate) fn new(root: &Path, unreadable: Unreadable) -> DirectoryTar {
        DirectoryTar {
            root: root.into(),
            unreadable,
            pending: vec![root.into()],
            linked: HashMap::new(),
            ready: Vec::new(),
            taken: 0,
            open: None,
            ended: false,
        }
    }

    /// Makes the next entry's header ready, or the end of the archive.
    fn advance(&mut self) {
        let Some(path) = self.pending.pop() else {
            self.ready = vec![0; 2 * BLOCK];
            self.ended = true;
            return;
        };
        if let Err(error) = self.entry(&path) {
            let name = ImagePath::normalize(self.name(&path)).to_string();
            let gap = Gap::new(GapReason::Unreadable, error.to_string()).at(name);
            self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
        }
    }

    fn entry(&mut self, path: &Path) -> io::Result<()> {
        // The root may be a link, as /proc/PID/root is.
        let metadata = if path == self.root { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
        if metadata.is_dir() {
            self.push_children(path)?;
        }
        let name = self.name(path).to_vec();
        if name.is_empty() {
            return Ok(());
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_mode(metadata.permissions().mode() & 0o7777);
        self.describe(path, &metadata, &name, &mut header)
    }

    fn name<'p>(&self, path: &'p Path) -> &'p [u8] {
        path.strip_prefix(&self.root).unwrap_or(path).as_os_str().as_bytes()
    }

    fn push_children(&mut self, path: &Path) -> io::Result<()> {
        const KERNEL: [&str; 2] = ["/proc", "/sys"];
        if KERNEL.iter().any(|kernel| path == Path::new(kernel)) {
            return Ok(());
        }
        let mut children: Vec<PathBuf> =
            fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        children.sort_unstable_by(|a, b| b.cmp(a));
        self.pending.extend(children);
        Ok(())
    }

    fn describe(&mut self, path: &Path, metadata: &Metadata, name: &[u8], header: &mut tar::Header) -> io::Result<()> {
        let mut link = Vec::new();
        let kind = if metadata.is_dir() {
            tar::EntryType::Directory
        } else if metadata.is_symlink() {
            link = fs::read_link(path)?.as_os_str().as_bytes().to_vec();
            tar::EntryType::Symlink
        } else if !metadata.is_file() {
            tar::EntryType::Fifo
        } else if let Some(first) = self.earlier_link(path, metadata) {
            link = self.name(&first).to_vec();
            tar::EntryType::Link
        } else {
            header.set_size(metadata.len());
            let size = metadata.len();
            self.open = Some((Some(File::open(path)?), size, size.next_multiple_of(BLOCK as u64) - size));
            tar::EntryType::Regular
        };
        header.set_entry_type(kind);
        self.long_field(tar::EntryType::GNULongName, name);
        self.long_field(tar::EntryType::GNULongLink, &link);
        let fields = header.as_old_mut();
        copy_short(&mut fields.name, name);
        copy_short(&mut fields.linkname, &link);
        header.set_cksum();
        self.ready.extend_from_slice(header.as_bytes());
        Ok(())
    }

    fn earlier_link(&mut self, path: &Path, metadata: &Metadata) -> Option<PathBuf> {
        if metadata.nlink() < 2 {
            return None;
        }
        let identity = (metadata.dev(), metadata.ino());
        let earlier = self.linked.get(&identity).cloned();
        if earlier.is_none() {
            self.linked.insert(identity, path.into());
        }
        earlier
    }

    /// A GNU extension entry for a name that does not fit its field.
    fn long_field(&mut self, kind: tar::EntryType, name: &[u8]) {
        if name.len() <= 100 {
            return;
        }
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(name.len() as u64);
        header.set_cksum();
        self.ready.extend_from_slice(header.as_bytes());
        self.ready.extend_from_slice(name);
        self.ready.resize(self.ready.len().next_multiple_of(BLOCK), 0);
    }

    /// Reads from the open file; zeros if it became shorter since its header was written.
    fn read_file(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((file, left, padding)) = &mut self.open else { return Ok(0) };
        if *left == 0 {
            self.ready.resize(self.ready.len() + *padding as usize, 0);
            self.open = None;
            return Ok(0);
        }
        let most = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let count = match file {
            Some(open) => open.read(&mut buffer[..most])?,
            None => {
                buffer[..most].fill(0);
                most
            }
        };
        if count == 0 {
            *file = None;
        }
        *left -= count as u64;
        Ok(count)
    }
}

impl Read for DirectoryTar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.taken < self.ready.len() {
                let count = buffer.len().min(self.ready.len() - self.taken);
                buffer[..count].copy_from_slice(&self.ready[self.taken..self.taken + count]);
                self.taken += count;
                return Ok(count);
            }
            self.ready.clear();
            self.taken = 0;
            if self.open.is_some() {
                let count = self.read_file(buffer)?;
                if count > 0 {
                    return Ok(count);
                }
            } else if self.ended {
                return Ok(0);
            } else {
                self.advance();
            }
        }
    }
}

fn copy_short(field: &mut [u8; 100], name: &[u8]) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
}
