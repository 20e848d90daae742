//! A directory read as a tar archive, so that a root file system is scanned like any layer.
//!
//! Entries come in the order of their names, so the same tree gives the same bytes. Other file systems mounted below
//! the directory are read like the rest, except directories of the kernel's own (`/proc`, `/sys`), which have no files.
//! A single file of those that is mounted elsewhere is read.

mod data;

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;

use self::data::{Data, OpenFile};
use layersift_format::tar::BLOCK;
use layersift_model::{Gap, GapReason, ImagePath};

/// The files that could not be read, shared with the source, which reports them after the archive was read.
pub(crate) type Unreadable = Arc<Mutex<Vec<Gap>>>;

/// Opens a file for reading.
type Open = fn(&Path) -> io::Result<Box<dyn OpenFile>>;

/// Reads as a tar archive of the files below a directory.
pub(crate) struct DirectoryTar {
    root: PathBuf,
    /// The device that the root is on.
    device: Option<u64>,
    open: Open,
    /// Files that could not be opened, and are left out, and what was not read of others.
    unreadable: Unreadable,
    /// Paths that are still to be written, the next one last.
    pending: Vec<PathBuf>,
    /// Names of files with several links, by device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
    /// Bytes of headers, and how many of them were read.
    ready: Vec<u8>,
    taken: usize,
    /// The file whose data is being read, and its path.
    file: Option<(PathBuf, Data)>,
    ended: bool,
}

impl DirectoryTar {
    /// The archive of all files below `root`; those that cannot be read are added to `unreadable`.
    pub(crate) fn new(root: &Path, unreadable: Unreadable) -> DirectoryTar {
        DirectoryTar::opening(root, unreadable, open)
    }

    fn opening(root: &Path, unreadable: Unreadable, open: Open) -> DirectoryTar {
        DirectoryTar {
            root: root.into(),
            device: fs::metadata(root).ok().map(|metadata| metadata.dev()),
            open,
            unreadable,
            pending: vec![root.into()],
            linked: HashMap::new(),
            ready: Vec::new(),
            taken: 0,
            file: None,
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
            self.note(&path, Gap::new(GapReason::Unreadable, error.to_string()));
        }
    }

    /// Notes what was not read of the file at `path`.
    fn note(&self, path: &Path, gap: Gap) {
        let gap = gap.at(ImagePath::normalize(self.name(path)).to_string());
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).push(gap);
    }

    fn entry(&mut self, path: &Path) -> io::Result<()> {
        // The root may be a link, as /proc/PID/root is.
        let metadata = if path == self.root { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
        if metadata.is_dir() && !self.is_kernels(path, &metadata) {
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

    /// Whether a directory is of a file system of the kernel, and the root is not on it.
    fn is_kernels(&self, path: &Path, metadata: &Metadata) -> bool {
        const KERNEL: [&str; 2] = ["/proc", "/sys"];
        KERNEL.iter().any(|kernel| path == Path::new(kernel))
            || (self.device.is_some_and(|device| device != metadata.dev()) && is_on_kernel_file_system(path))
    }

    fn push_children(&mut self, path: &Path) -> io::Result<()> {
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
            let mut data = Data::new((self.open)(path)?)?;
            header.set_size(data.size());
            data.take_gap().into_iter().for_each(|gap| self.note(path, gap));
            self.file = Some((path.into(), data));
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

    /// Reads from the open file. After its last byte the padding is ready.
    fn read_file(&mut self, buffer: &mut [u8]) -> usize {
        let Some((path, mut data)) = self.file.take() else { return 0 };
        let count = data.read(buffer);
        data.take_gap().into_iter().for_each(|gap| self.note(&path, gap));
        if count > 0 {
            self.file = Some((path, data));
        } else {
            let size = data.size();
            let padding = size.next_multiple_of(BLOCK as u64) - size;
            self.ready.resize(self.ready.len() + padding as usize, 0);
        }
        count
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
            if self.file.is_some() {
                let count = self.read_file(buffer);
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

/// Opens a file of a root file system. A file of the kernel that waits for events fails instead.
fn open(path: &Path) -> io::Result<Box<dyn OpenFile>> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    Ok(Box::new(File::options().read(true).custom_flags(flags).open(path)?))
}

/// Whether a path is on procfs or sysfs. An error is none of its own: the directory is read, and fails there.
#[cfg(target_os = "linux")]
fn is_on_kernel_file_system(path: &Path) -> bool {
    /// `SYSFS_MAGIC` of statfs(2).
    const SYSFS: rustix::fs::FsWord = 0x6265_6572;
    let is_kernels = |kind| kind == rustix::fs::PROC_SUPER_MAGIC || kind == SYSFS;
    rustix::fs::statfs(path).is_ok_and(|system| is_kernels(system.f_type))
}

#[cfg(not(target_os = "linux"))]
fn is_on_kernel_file_system(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::data::tests::{BROKEN, fake};
    use super::*;

    /// The files of an archive, and the gaps.
    fn read(root: &Path, open: Open) -> (Vec<(String, Vec<u8>)>, Vec<Gap>) {
        let unreadable = Unreadable::default();
        let mut bytes = Vec::new();
        DirectoryTar::opening(root, unreadable.clone(), open).read_to_end(&mut bytes).unwrap();
        assert!(bytes.len().is_multiple_of(BLOCK));
        let mut archive = tar::Archive::new(&bytes[..]);
        let files = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        let files = files.collect();
        let gaps = unreadable.lock().unwrap().clone();
        (files, gaps)
    }

    /// A directory with these files. Tests give them their content.
    fn directory(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| fs::write(directory.path().join(name), name).unwrap());
        directory
    }

    #[test]
    fn what_is_not_read_of_a_file_is_a_gap_and_the_others_are_read() {
        fn open(path: &Path) -> io::Result<Box<dyn OpenFile>> {
            Ok(match path.file_name().and_then(|name| name.to_str()) {
                Some("b-broken") => fake([700, 700], &[Ok(b"first"), Err(BROKEN), Ok(b"never")]),
                Some("c-grown") => fake([3, 5], &[Ok(b"abcde")]),
                Some("d-shrunk") => fake([600, 3], &[Ok(b"abc")]),
                Some("e-unsized") => fake([0, 0], &[Ok(b"content")]),
                Some("f-unsized-broken") => fake([0, 0], &[Err(BROKEN)]),
                _ => return super::open(path),
            })
        }
        let names = ["a", "b-broken", "c-grown", "d-shrunk", "e-unsized", "f-unsized-broken", "g"];
        let (files, gaps) = read(directory(&names).path(), open);
        let padded = |text: &str, size: usize| {
            let mut bytes = text.as_bytes().to_vec();
            bytes.resize(size, 0);
            bytes
        };
        let contents = [
            padded("a", 1),
            padded("first", 700),
            b"abc".into(),
            padded("abc", 600),
            b"content".into(),
            b"".into(),
            b"g".into(),
        ];
        let expected: Vec<(String, Vec<u8>)> = names.iter().map(ToString::to_string).zip(contents).collect();
        assert_eq!(files, expected);
        let found: Vec<_> = gaps.iter().map(|gap| (gap.path.as_deref().unwrap(), gap.reason, gap.bytes)).collect();
        let unread = GapReason::Unreadable;
        assert_eq!(
            found,
            [
                ("b-broken", unread, Some(695)),
                ("c-grown", unread, Some(2)),
                ("d-shrunk", unread, Some(597)),
                ("f-unsized-broken", unread, None),
            ]
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn files_of_the_kernel_that_the_target_is_on_are_read() {
        let (files, _) = read(Path::new("/proc/sys/kernel/random"), super::open);
        let id = files.iter().find(|(name, _)| name == "boot_id").map(|(_, content)| content.len());
        assert_eq!(id, Some(37), "a UUID and a line feed, although the size of the file is 0");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn directories_of_the_kernel_below_the_target_are_not_read() {
        let (files, gaps) = read(Path::new("/proc"), super::open);
        assert!(files.is_empty() && gaps.is_empty());
        let mut tar = DirectoryTar::new(directory(&[]).path(), Unreadable::default());
        let metadata = fs::metadata("/proc/self").unwrap();
        assert!(tar.is_kernels(Path::new("/proc/self"), &metadata));
        tar.device = Some(metadata.dev());
        assert!(!tar.is_kernels(Path::new("/proc/self"), &metadata));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_that_waits_for_events_does_not_block() {
        let directory = directory(&[]);
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        assert!(super::open(&pipe).is_ok(), "without a writer it would wait for one");
    }
}
