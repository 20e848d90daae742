//! A directory read as a tar archive, so that a root file system is scanned like any layer.
//!
//! Entries come in the order of their names, so the same tree gives the same bytes. Other file systems mounted below
//! the directory are read like the rest, except directories of the kernel's own (`/proc`, `/sys`), which have no files.
//! A single file of those that is mounted elsewhere is read.

mod changes;
mod compare;
mod data;
mod names;
mod pending;
mod pieces;
mod tree;
mod unreadable;

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use self::changes::Change;
use self::compare::Comparisons;
use self::data::{Data, OpenFile};
use self::pending::{Next, Pending};
pub(crate) use self::tree::{Content, Files, Part, Tree};
pub use self::unreadable::Unreadable;
use crate::root;
use layersift_format::Cancellation;
use layersift_format::tar::BLOCK;
use layersift_model::{Gap, GapReason, ImagePath};

/// The bytes of the names that are remembered for files with several links. Beyond them, such a file is read once for
/// each of its names.
const LINKED: usize = 16 << 20;
/// What an entry of the table takes beside the name.
const LINKED_ENTRY: usize = 64;

/// Opens a file for reading.
type Open = fn(&Path) -> io::Result<Box<dyn OpenFile>>;

/// Reads as a tar archive of the files below a directory.
pub struct DirectoryTar {
    open: Open,
    /// Files that could not be opened, and are left out, and what was not read of others.
    unreadable: Unreadable,
    /// What is still to be written.
    pending: Pending,
    /// Names of files with several links, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    /// The bytes that may still be kept of them.
    linked_left: usize,
    /// What was compared with the base of a tree.
    comparisons: Comparisons,
    /// How many files of bases were removed.
    removed: usize,
    /// Bytes of headers, and how many of them were read.
    ready: Vec<u8>,
    taken: usize,
    /// The file whose data is being read, and its name.
    file: Option<(Vec<u8>, Data)>,
    ended: bool,
    /// Ends the reading, also of what nothing is written of.
    cancellation: Cancellation,
}

impl DirectoryTar {
    /// The archive of all files below `root`; those that cannot be read are added to `unreadable`.
    pub fn new(root: &Path, unreadable: Unreadable) -> DirectoryTar {
        let tree = Tree { is_link_followed: true, ..Tree::new(root) };
        DirectoryTar::opening(vec![Part::Tree(tree)], unreadable, open)
    }

    /// The archive of several parts, one after the other.
    pub(crate) fn of(parts: Vec<Part>, unreadable: Unreadable) -> DirectoryTar {
        DirectoryTar::opening(parts, unreadable, open)
    }

    fn opening(parts: Vec<Part>, unreadable: Unreadable, open: Open) -> DirectoryTar {
        DirectoryTar {
            open,
            unreadable,
            pending: Pending::new(parts),
            linked: HashMap::new(),
            linked_left: LINKED,
            comparisons: Comparisons::default(),
            removed: 0,
            ready: Vec::new(),
            taken: 0,
            file: None,
            ended: false,
            cancellation: Cancellation::never(),
        }
    }

    /// The same, until `cancellation` is cancelled.
    pub(crate) fn until(self, cancellation: &Cancellation) -> DirectoryTar {
        DirectoryTar { cancellation: cancellation.clone(), ..self }
    }

    /// Makes the next entry's header ready, or the end of the archive. Nothing is ready where nothing is to be written.
    fn advance(&mut self) {
        match self.pending.next() {
            None => {
                self.ready = vec![0; 2 * BLOCK];
                self.ended = true;
            }
            Some(Next::Path(tree, path)) => {
                if !tree.skip.contains(&path)
                    && let Err(error) = self.entry(&tree, &path)
                {
                    self.lost(&tree, &path, &error);
                }
            }
            // The others count as there.
            Some(Next::InBase(tree, _)) if self.removed > tree.most_removed => {}
            Some(Next::InBase(tree, path)) => match changes::is_removed(&path) {
                Ok(true) => self.removed(&tree, &path),
                Ok(false) => {}
                Err(error) => self.lost(&tree, &path, &error),
            },
            Some(Next::Lost(tree, path, error)) => self.lost(&tree, &path, &error),
            Some(Next::Part(part)) => self.part(part),
        }
    }

    fn part(&mut self, part: Part) {
        match part {
            Part::Tree(tree) => {
                let path = tree.path.clone();
                let tree = Arc::new(tree);
                if let Err(error) = self.entry(&tree, &path) {
                    self.lost(&tree, &path, &error);
                }
            }
            Part::File { name, content } => {
                let data = Data::of_content(&content);
                let mut header = plain_header();
                header.set_size(data.size());
                self.file = Some((name.as_bytes().into(), data));
                self.header(&mut header, tar::EntryType::Regular, name.as_bytes(), &[]);
            }
            Part::Whiteout(name) => self.whiteout(name.as_bytes()),
            // They come one after the other.
            Part::Files(files) => self.pending.push_part(Part::Files(files)),
        }
    }

    /// Writes that the file at `path` of the base is not in the tree, unless that is said of too many.
    fn removed(&mut self, tree: &Tree, path: &Path) {
        self.removed += 1;
        let most = tree.most_removed;
        if self.removed > most {
            let detail = format!("more than {most} files of the layer below are not here; the others count as there");
            self.note(&tree.name(&tree.path), Gap::new(GapReason::TooManyEntries, detail));
        } else {
            self.whiteout(&tree.name(path));
        }
    }

    /// Writes the entry that removes the file called `name`.
    fn whiteout(&mut self, name: &[u8]) {
        self.header(&mut plain_header(), tar::EntryType::Regular, &whiteout(name), &[]);
    }

    /// Notes that the file at `path` was not read.
    fn lost(&self, tree: &Tree, path: &Path, error: &io::Error) {
        self.note(&tree.name(path), Gap::new(GapReason::Unreadable, error.to_string()));
    }

    /// Notes what was not read of the file called `name`.
    fn note(&self, name: &[u8], gap: Gap) {
        self.unreadable.add(gap.at(ImagePath::normalize(name).to_string()));
    }

    fn entry(&mut self, tree: &Arc<Tree>, path: &Path) -> io::Result<()> {
        let is_root = path == tree.path;
        let is_followed = is_root && tree.is_link_followed;
        let metadata = if is_followed { fs::metadata(path)? } else { fs::symlink_metadata(path)? };
        let name = tree.name(path);
        let mut is_opaque = false;
        let change = if is_root {
            Change::Changed
        } else {
            changes::of(tree, path, &metadata, &mut self.comparisons, &self.cancellation)
        };
        if metadata.is_dir() && !is_kernels(tree, path, &metadata) {
            self.push_children(tree, path)?;
            is_opaque = tree.is_overlay && changes::is_opaque(path);
        }
        match change {
            Change::Same => return Ok(()),
            Change::Removed => {
                self.whiteout(&name);
                return Ok(());
            }
            Change::Changed => {}
        }
        if !name.is_empty() {
            let mut header = plain_header();
            header.set_mode(metadata.permissions().mode() & 0o7777);
            if tree.has_attributes {
                header.set_uid(metadata.uid().into());
                header.set_gid(metadata.gid().into());
                header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
            }
            self.describe(path, &metadata, &name, &mut header)?;
        }
        if is_opaque {
            let inside = [name.as_slice(), b"/.wh..wh..opq"].concat();
            let inside = inside.strip_prefix(b"/").unwrap_or(&inside).to_vec();
            self.header(&mut plain_header(), tar::EntryType::Regular, &inside, &[]);
        }
        Ok(())
    }

    /// Adds the files in the directory at `path`, and those that the layer removes there, which come after them.
    fn push_children(&mut self, tree: &Arc<Tree>, path: &Path) -> io::Result<()> {
        let names = self.pending.names(path)?;
        match changes::base_of(tree, path).map(|base| self.pending.names(&base)) {
            None => {}
            Some(Ok(names)) => self.pending.push_base(tree, path, names),
            Some(Err(error)) => {
                let detail = format!("what the layer removes here is not known: {error}");
                self.note(&tree.name(path), Gap::new(GapReason::Unreadable, detail));
            }
        }
        self.pending.push_files(tree, path, names);
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
        } else if let Some(first) = self.earlier_link(name, metadata) {
            link = first;
            tar::EntryType::Link
        } else {
            let mut data = Data::new((self.open)(path)?)?;
            data.take_gap().into_iter().for_each(|gap| self.note(name, gap));
            if let Some((pieces, size)) = data.sparse() {
                self.sparse_header(header, name, pieces, size);
                self.file = Some((name.into(), data));
                return Ok(());
            }
            header.set_size(data.size());
            self.file = Some((name.into(), data));
            tar::EntryType::Regular
        };
        self.header(header, kind, name, &link);
        Ok(())
    }

    /// Makes a header ready.
    fn header(&mut self, header: &mut tar::Header, kind: tar::EntryType, name: &[u8], link: &[u8]) {
        header.set_entry_type(kind);
        self.long_field(tar::EntryType::GNULongName, name);
        self.long_field(tar::EntryType::GNULongLink, link);
        let fields = header.as_old_mut();
        copy_short(&mut fields.name, name);
        copy_short(&mut fields.linkname, link);
        header.set_cksum();
        self.ready.extend_from_slice(header.as_bytes());
    }

    /// Makes the headers of a sparse file ready, and the map before its data.
    fn sparse_header(&mut self, header: &mut tar::Header, name: &[u8], pieces: &[(u64, u64)], size: u64) {
        let map = pieces::map(pieces, size);
        self.extension(tar::EntryType::XHeader, &pieces::records(name, size));
        let stored: u64 = pieces.iter().map(|(_, length)| length).sum();
        header.set_size(map.len() as u64 + stored);
        // Its name is in the records.
        self.header(header, tar::EntryType::Regular, b"sparse", &[]);
        self.ready.extend_from_slice(&map);
    }

    fn earlier_link(&mut self, name: &[u8], metadata: &Metadata) -> Option<Vec<u8>> {
        if metadata.nlink() < 2 {
            return None;
        }
        let identity = (metadata.dev(), metadata.ino());
        let earlier = self.linked.get(&identity).cloned();
        let bytes = name.len() + LINKED_ENTRY;
        if earlier.is_none() && bytes <= self.linked_left {
            self.linked_left -= bytes;
            self.linked.insert(identity, name.into());
        }
        earlier
    }

    /// A GNU extension entry for a name that does not fit its field.
    fn long_field(&mut self, kind: tar::EntryType, name: &[u8]) {
        if name.len() > 100 {
            self.extension(kind, name);
        }
    }

    /// An entry that says more about the next one.
    fn extension(&mut self, kind: tar::EntryType, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.ready.extend_from_slice(header.as_bytes());
        self.ready.extend_from_slice(content);
        self.ready.resize(self.ready.len().next_multiple_of(BLOCK), 0);
    }

    /// Reads from the open file. After its last byte the padding is ready.
    fn read_file(&mut self, buffer: &mut [u8]) -> usize {
        let Some((name, mut data)) = self.file.take() else { return 0 };
        let count = data.read(buffer);
        data.take_gap().into_iter().for_each(|gap| self.note(&name, gap));
        if count > 0 {
            self.file = Some((name, data));
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
                self.cancellation.check()?;
                self.advance();
            }
        }
    }
}

fn copy_short(field: &mut [u8; 100], name: &[u8]) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
}

fn plain_header() -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header
}

/// The name of the entry that removes `name`.
fn whiteout(name: &[u8]) -> Vec<u8> {
    let at = name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&name[..at], b".wh.", &name[at..]].concat()
}

/// Opens a file of a root file system. A file of the kernel that waits for events fails instead.
fn open(path: &Path) -> io::Result<Box<dyn OpenFile>> {
    let file: File = root::open_file(path)?;
    Ok(Box::new(file))
}

/// Whether a directory is of a file system of the kernel, and the root is not on it.
fn is_kernels(tree: &Tree, path: &Path, metadata: &Metadata) -> bool {
    const KERNEL: [&str; 2] = ["/proc", "/sys"];
    KERNEL.iter().any(|kernel| path == Path::new(kernel))
        || (tree.device.is_some_and(|device| device != metadata.dev()) && is_on_kernel_file_system(path))
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
        DirectoryTar::opening(vec![Part::Tree(Tree::new(root))], unreadable.clone(), open)
            .read_to_end(&mut bytes)
            .unwrap();
        assert!(bytes.len().is_multiple_of(BLOCK));
        let mut archive = tar::Archive::new(&bytes[..]);
        let files = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        let files = files.collect();
        let gaps = unreadable.gaps();
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
    fn a_sparse_file_of_a_terabyte_is_as_long_as_its_data() {
        use std::os::unix::fs::FileExt;
        let directory = directory(&["a", "z"]);
        let name = format!("huge-{}", "x".repeat(120));
        let file = File::create_new(directory.path().join(&name)).unwrap();
        file.write_all_at(b"first", 0).unwrap();
        file.write_all_at(b"second", 512 << 30).unwrap();
        file.set_len(1 << 40).unwrap();
        fs::File::create_new(directory.path().join("y")).unwrap().set_len(1 << 40).unwrap();
        let unreadable = Unreadable::default();
        let mut bytes = Vec::new();
        let mut archive = DirectoryTar::new(directory.path(), unreadable.clone());
        archive.by_ref().take(1 << 20).read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() < 1 << 20 && unreadable.gaps().is_empty());
        let mut parser = layersift_format::tar::Parser::new(1 << 20);
        let (mut at, mut found) = (0, Vec::new());
        while at < bytes.len() {
            let block = bytes[at..].first_chunk::<BLOCK>().unwrap();
            at += BLOCK;
            if let Some(layersift_format::tar::Event::Entry(entry)) = parser.block(block).unwrap() {
                let runs: Vec<_> = entry.runs().into_iter().filter(|run| run.length > 0).collect();
                let text = |run: &layersift_format::tar::Run| {
                    let start = at + run.stored as usize;
                    bytes[start..start + run.length as usize].trim_ascii_end().to_vec()
                };
                let texts: Vec<String> = runs
                    .iter()
                    .map(|run| String::from_utf8(text(run)).unwrap().trim_end_matches('\0').to_string())
                    .collect();
                found.push((String::from_utf8(entry.path.clone()).unwrap(), entry.size, texts));
                at += entry.padded() as usize;
            }
        }
        let expected = [
            ("a".to_string(), 1, vec!["a".to_string()]),
            (name, 1 << 40, vec!["first".into(), "second".into()]),
            ("y".into(), 1 << 40, vec![]),
            ("z".into(), 1, vec!["z".into()]),
        ];
        assert_eq!(found, expected);
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
        let mut tree = Tree::new(directory(&[]).path());
        let metadata = fs::metadata("/proc/self").unwrap();
        assert!(is_kernels(&tree, Path::new("/proc/self"), &metadata));
        tree.device = Some(metadata.dev());
        assert!(!is_kernels(&tree, Path::new("/proc/self"), &metadata));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_that_waits_for_events_does_not_block() {
        let directory = directory(&[]);
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
        assert!(super::open(&pipe).is_err(), "without a writer it would wait for one");
    }
}
