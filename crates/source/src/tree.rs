//! Trees: named files of a directory or an archive, in which the image layouts are looked up.

use std::collections::{HashMap, hash_map};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use layersift_format::compression::CompressedBytes;
use layersift_format::tar::{Ambiguity, BLOCK, Entry, Event, Kind, Parser};
use layersift_format::{ArchiveError, Blob, DocumentError, Extents, Fetched, MappedFile, RegionReader, SourceError};
use layersift_model::{Gap, GapList, GapReason, ImagePath, Limits};
use rustix::fs::{CWD, Mode, OFlags};

/// Named files.
pub(crate) trait Tree: Send + Sync {
    /// Opens the file at `path`, links resolved.
    ///
    /// # Errors
    /// If it exists and cannot be read, or a link leads in a circle.
    fn open(&self, path: &str) -> Result<Fetched<'_>, SourceError>;

    /// What was not read of the tree itself.
    fn gaps(&self) -> Vec<Gap> {
        Vec::new()
    }

    /// As [`ImageSource::compressed_documents`](layersift_format::ImageSource::compressed_documents).
    fn compressed_documents(&self) -> Option<u64> {
        None
    }

    /// Reads a small file whole; `None` if it does not exist.
    ///
    /// # Errors
    /// As for [`Tree::open`], and for a file over `limit` bytes.
    fn document(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let failed = |error| SourceError::Document { document: path.into(), error };
        match self.open(path)? {
            Fetched::Missing => Ok(None),
            Fetched::Passed(_) => Err(failed(DocumentError::ReadAsLayer)),
            Fetched::Blob(blob) => match blob.read_document(limit) {
                Ok(Some(bytes)) => Ok(Some(bytes)),
                Ok(None) => Err(failed(DocumentError::TooLarge(limit))),
                Err(error) => Err(failed(error.into())),
            },
        }
    }
}

/// The files of a directory. A symbolic link to a blob may lead out of it, as in the layouts of Bazel: the digest says
/// what has to be at its end. No digest is known of a listing, which has to be in the directory.
pub(crate) struct DirectoryTree {
    root: PathBuf,
}

impl DirectoryTree {
    /// The files below `root`.
    pub(crate) fn new(root: &Path) -> DirectoryTree {
        DirectoryTree { root: root.into() }
    }

    /// The path of the file called `name`.
    fn path_of(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.root.join(name);
        if is_named_by_digest(name) {
            return Ok(path);
        }
        let followed = path.canonicalize()?;
        if followed.starts_with(self.root.canonicalize()?) {
            return Ok(followed);
        }
        Err(io::Error::other("it is a link out of the directory, which is not followed"))
    }
}

impl Tree for DirectoryTree {
    fn open(&self, path: &str) -> Result<Fetched<'_>, SourceError> {
        let name = ImagePath::normalize(path.as_bytes()).to_string();
        match self.path_of(&name).and_then(|path| open_regular(&path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Fetched::Missing),
            Err(error) => Err(SourceError::Read { path: self.root.join(name), error }),
            Ok(map) => Ok(Fetched::Blob(Blob::File(map))),
        }
    }
}

/// Whether the name of a file is the digest of what is in it: `blobs/sha256/HEX`, and `HEX` or `HEX.manifest.json` as
/// skopeo writes it.
fn is_named_by_digest(name: &str) -> bool {
    const SHORTEST: usize = 64;
    let last = name.rsplit('/').next().unwrap_or_default();
    let digits = last.strip_suffix(".manifest.json").unwrap_or(last);
    digits.len() >= SHORTEST && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Maps a file. A pipe or a device in an image directory would never end, and is not waited for.
fn open_regular(path: &Path) -> io::Result<MappedFile> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    MappedFile::of(&file)
}

/// A member of an archive.
#[derive(Clone, Debug)]
pub(crate) enum Member<D> {
    /// A file.
    Data(D),
    /// A link to another name.
    Link(String),
}

/// Follows links from `path`, and returns the name and the data of the file at their end.
pub(crate) fn resolve<'m, D>(
    members: &'m HashMap<String, Member<D>>,
    path: &str,
) -> Result<Option<(&'m str, &'m D)>, SourceError> {
    const LINKS: usize = 16;
    let mut name = ImagePath::normalize(path.as_bytes()).to_string();
    for _ in 0..LINKS {
        match members.get_key_value(&name) {
            None => return Ok(None),
            Some((name, Member::Data(data))) => return Ok(Some((name, data))),
            Some((_, Member::Link(target))) => name.clone_from(target),
        }
    }
    Err(SourceError::LinkCycle(path.into()))
}

/// The name that a link entry at `path` leads to: symbolic links start at their directory, hard links at the root.
pub(crate) fn link_target(path: &ImagePath, kind: Kind, link: &[u8]) -> String {
    let absolute = kind == Kind::HardLink || link.starts_with(b"/");
    match path.parent() {
        Some(parent) if !absolute => parent.join(link).to_string(),
        _ => ImagePath::normalize(link).to_string(),
    }
}

/// What is left for the entries of an archive that contains an image, and for their names.
pub(crate) struct ArchiveNames {
    entries: usize,
    bytes: usize,
}

impl ArchiveNames {
    pub(crate) fn new(limits: &Limits) -> ArchiveNames {
        ArchiveNames { entries: limits.archive_entries, bytes: limits.archive_name_bytes }
    }

    /// Counts an entry. Returns whether an image may have as many, with names as long.
    pub(crate) fn add(&mut self, entry: &Entry) -> bool {
        let runs = entry.sparse.as_ref().map_or(0, |runs| runs.len() * size_of::<(u64, u64)>());
        let bytes = entry.path.len() + entry.link.len() + runs;
        let fits = self.entries > 0 && self.bytes >= bytes;
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        fits
    }
}

/// The members of an uncompressed archive in a mapped file.
pub(crate) struct ArchiveTree {
    map: MappedFile,
    members: HashMap<String, Member<Data>>,
    first: Option<String>,
    damage: Option<SourceError>,
    gaps: Vec<Gap>,
    /// Counts what is compared.
    extents: Extents,
}

/// Where the data of a member are.
#[derive(Clone, Debug)]
struct Data {
    at: usize,
    stored: usize,
    /// The entry of a sparse file.
    sparse: Option<Box<Entry>>,
}

/// The gap of an archive that readers of tar read differently at byte `at`.
pub(crate) fn ambiguous(ambiguity: Ambiguity, at: u64) -> Gap {
    Gap::new(GapReason::AmbiguousArchive, format!("at byte {at} of the archive: {ambiguity}"))
}

/// The gap of a second member called `name`, of which tools take one or the other.
pub(crate) fn repeated(name: &str) -> Gap {
    let detail = "the archive has two different files of this name; the first was read, and some tools read the other";
    Gap::new(GapReason::AmbiguousArchive, detail).at(name)
}

/// The gap of `bytes` bytes after the end of an archive; `None` if there are none.
pub(crate) fn after_end(bytes: u64) -> Option<Gap> {
    let detail = "there are bytes after the end of the archive, which tools ignore; they were not read";
    (bytes > 0).then(|| Gap::new(GapReason::TrailingData, detail).sized(bytes))
}

impl ArchiveTree {
    /// Reads the headers of the archive in `map`, and not the data. Members after a damaged header are lost.
    pub(crate) fn new(path: &Path, map: MappedFile, limits: &Limits) -> ArchiveTree {
        let (members, extents) = (HashMap::new(), Extents::default());
        let mut tree = ArchiveTree { map, members, first: None, damage: None, gaps: Vec::new(), extents };
        let mut gaps = GapList::new(limits.gap_bytes);
        let mut names = ArchiveNames::new(limits);
        let mut parser = Parser::new(limits.tar_extension_bytes);
        let mut at = 0usize;
        let mut is_image = true;
        while let Some(block) = tree.map.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
            let event = match parser.block(block) {
                Ok(event) => event,
                Err(error) => {
                    let error = ArchiveError::Tar(error);
                    tree.damage = Some(SourceError::Archive { path: path.into(), at: at as u64, error });
                    break;
                }
            };
            gaps.extend(parser.take_ambiguity().map(|ambiguity| ambiguous(ambiguity, at as u64)));
            at += BLOCK;
            match event {
                None => {}
                Some(Event::End) => {
                    gaps.extend(after_end(tree.after(at)));
                    break;
                }
                Some(Event::Entry(entry)) => {
                    is_image = names.add(&entry);
                    gaps.extend(tree.insert(&entry, at));
                    at = at.saturating_add(usize::try_from(entry.padded()).unwrap_or(usize::MAX));
                }
            }
            // No image has this many blobs: this is a root file system, whose files need not be listed.
            if !is_image {
                tree.members.clear();
                break;
            }
        }
        tree.gaps = gaps.into_gaps();
        if let Err(error) = tree.map.check_whole() {
            tree.damage = Some(SourceError::Read { path: path.into(), error });
        }
        tree
    }

    /// Adds a member, or returns a gap if there is another of its name.
    fn insert(&mut self, entry: &Entry, at: usize) -> Option<Gap> {
        let path = ImagePath::normalize(&entry.path);
        let name = path.to_string();
        if !path.is_root() && self.first.is_none() {
            self.first = Some(name.clone());
        }
        let member = match entry.kind {
            Kind::Directory | Kind::Special => return None,
            Kind::Symlink | Kind::HardLink => Member::Link(link_target(&path, entry.kind, &entry.link)),
            // If the archive is cut off, the data that remains can be read, and its digest does not match.
            Kind::File => {
                let stored = usize::try_from(entry.stored).unwrap_or(usize::MAX).min(self.map.len() - at);
                Member::Data(Data { at, stored, sparse: entry.sparse.is_some().then(|| Box::new(entry.clone())) })
            }
        };
        match self.members.entry(name) {
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(member);
                None
            }
            hash_map::Entry::Occupied(known) => {
                (!is_same(&self.map, &mut self.extents, known.get(), &member)).then(|| repeated(known.key()))
            }
        }
    }

    /// The number of bytes from byte `at` on, leading zeros apart. Holes are zeros, and are not looked at.
    fn after(&self, mut at: usize) -> u64 {
        const STEP: usize = 8 << 20;
        loop {
            at = self.map.next_data(at);
            let part = self.map.region().part(at..at.saturating_add(STEP));
            if part.is_empty() {
                return 0;
            }
            if let Some(zeros) = part.iter().position(|&byte| byte != 0) {
                return (self.map.len() - at - zeros) as u64;
            }
            part.release();
            at += part.len();
        }
    }

    /// The archive itself.
    pub(crate) fn into_map(self) -> MappedFile {
        self.map
    }

    /// The name of the first entry.
    pub(crate) fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }

    /// The error at which the reading of the headers stopped.
    pub(crate) fn take_damage(&mut self) -> Option<SourceError> {
        self.damage.take()
    }

    /// Whether there is a member called `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }
}

impl Tree for ArchiveTree {
    fn open(&self, path: &str) -> Result<Fetched<'_>, SourceError> {
        Ok(match resolve(&self.members, path)? {
            None => Fetched::Missing,
            Some((_, Data { at, stored, sparse })) => {
                let region = self.map.region().part(*at..at + stored);
                Fetched::Blob(match sparse {
                    Some(entry) => without_holes(entry, RegionReader::new(region)),
                    None => Blob::Mapped(region),
                })
            }
        })
    }

    fn gaps(&self) -> Vec<Gap> {
        let missing = self.map.check_whole().err();
        let missing = missing.map(|error| Gap::new(GapReason::Unreadable, error.to_string()));
        self.gaps.iter().cloned().chain(missing).collect()
    }
}

/// A sparse file in an archive, of which `stored` has the bytes: its holes permit no work.
pub(crate) fn without_holes<'a>(entry: &Entry, stored: impl Read + Send + 'a) -> Blob<'a> {
    let compressed = CompressedBytes::default();
    let contents = entry.contents(compressed.counting(stored)).with_few_holes();
    Blob::Decompressed(Box::new(contents), compressed)
}

/// Whether two members of one name have the same data, as far as its holes are counted by `extents`.
fn is_same(map: &MappedFile, extents: &mut Extents, first: &Member<Data>, second: &Member<Data>) -> bool {
    match (first, second) {
        (Member::Link(first), Member::Link(second)) => first == second,
        (Member::Data(first), Member::Data(second)) => {
            let bytes = |data: &Data| map.get(data.at..data.at + data.stored);
            let mut is_read = |data: &Data| extents.all(&map.region(), data.at..data.at + data.stored).is_ok();
            first.stored == second.stored && is_read(first) && is_read(second) && bytes(first) == bytes(second)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn archive(path: &Path, bytes: &[u8]) -> MappedFile {
        fs::write(path, bytes).unwrap();
        MappedFile::open(path).unwrap()
    }

    #[test]
    fn an_archive_that_is_truncated_while_it_is_read_has_a_gap() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.tar");
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1 << 20);
        tar.append_data(&mut header, "blobs/a", &vec![1; 1 << 20][..]).unwrap();
        let map = archive(&path, &tar.into_inner().unwrap());
        let length = |length| File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        let tree = ArchiveTree::new(&path, map, &Limits::default());
        assert!(tree.gaps().is_empty());
        length(4096);
        let Fetched::Blob(blob) = tree.open("blobs/a").unwrap() else { panic!("the member is there") };
        assert!(blob.read_document(2 << 20).is_err());
        assert_eq!(tree.gaps()[0].reason, GapReason::Unreadable);
        // Its headers are gone as well.
        let map = MappedFile::open(&path).unwrap();
        length(0);
        assert!(ArchiveTree::new(&path, map, &Limits::default()).take_damage().is_some());
    }

    #[test]
    fn zeros_after_the_end_are_nothing_however_many() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.tar");
        let mut file = fs::File::create_new(&path).unwrap();
        let header = tar::Header::new_gnu();
        let mut tar = tar::Builder::new(&mut file);
        tar.append_data(&mut header.clone(), "a", io::empty()).unwrap();
        tar.into_inner().unwrap();
        file.set_len(1 << 40).unwrap();
        let open = || ArchiveTree::new(&path, MappedFile::open(&path).unwrap(), &Limits::default());
        assert!(open().gaps().is_empty());
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", (1 << 39) + 7).unwrap();
        assert_eq!(open().gaps()[0].bytes, Some((1 << 39) - 7));
    }

    #[test]
    fn links_to_blobs_are_followed_and_links_to_listings_stay_inside() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (hex, other) = ("a".repeat(64), "b".repeat(64));
        fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        fs::write(outside.path().join("file"), "outside").unwrap();
        fs::write(directory.path().join("inside"), "inside").unwrap();
        let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, directory.path().join(name)).unwrap();
        let names =
            [format!("blobs/sha256/{hex}"), hex.clone(), format!("{hex}.manifest.json"), "index.json".to_string()];
        for name in &names {
            link(&outside.path().join("file"), name);
        }
        link(Path::new("inside"), "manifest.json");
        link(Path::new("/dev/zero"), &format!("blobs/sha256/{other}"));
        let tree = DirectoryTree::new(directory.path());
        for name in &names[..3] {
            assert_eq!(tree.document(name, 100).unwrap().unwrap(), b"outside", "{name}");
        }
        let refused = tree.document("index.json", 100).unwrap_err();
        assert!(format!("{refused:?}").contains("out of the directory"), "{refused:?}");
        assert_eq!(tree.document("manifest.json", 100).unwrap().unwrap(), b"inside");
        assert!(tree.document(&format!("blobs/sha256/{other}"), 100).is_err());
        rustix::fs::mkfifoat(CWD, directory.path().join("oci-layout"), Mode::RUSR | Mode::WUSR).unwrap();
        assert!(tree.open("oci-layout").is_err(), "nothing is waited for");
        assert!(matches!(tree.open("nowhere").unwrap(), Fetched::Missing));
    }
}
