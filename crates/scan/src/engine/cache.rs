//! A disk cache of databases for rules that are not built in: compiling hundreds of rules takes seconds.
//!
//! The name of a file is a digest of its inputs: the expressions, the version of the library and the processor. A file
//! holds a SHA-256 checksum of its name and its content, followed by a database or by the indexes of the expressions
//! that the library rejects. If a file is damaged or the directory cannot be used, the rules are compiled again.
//!
//! Whoever can write a database decides what is found. So nothing is read or written in a directory of somebody else,
//! or in one that others may write to, nor is a file like that read.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use hyperscan::SerializedDatabase;
use hyperscan::prelude::*;
use rustix::fs::{CWD, Mode, OFlags};

use layersift_model::{Algorithm, Hasher};
use layersift_rules::Pattern;

/// The maximum number of files; the least recently used one is removed first.
const MAX_FILES: usize = 16;

/// The largest file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// The file extensions of databases, and of lists of rejected expressions.
const DATABASE: &str = "hsdb";
const REFUSED: &str = "refused";

/// A directory of databases.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache in `directory`, which is created when needed.
    pub fn new(directory: impl Into<PathBuf>) -> Cache {
        Cache { directory: directory.into() }
    }

    /// The database of `patterns`, if cached.
    pub(super) fn load(&self, patterns: &[Pattern]) -> Option<BlockDatabase> {
        self.read(&self.path(patterns, DATABASE))?.deserialize().ok()
    }

    /// Saves `database`, which was compiled from `patterns`, if possible.
    pub(super) fn keep(&self, patterns: &[Pattern], database: &BlockDatabase) {
        if let Ok(bytes) = database.serialize() {
            self.write(&self.path(patterns, DATABASE), &bytes);
        }
    }

    /// The indexes of the `patterns` that the library rejects, if cached.
    pub(super) fn refused(&self, patterns: &[Pattern]) -> Option<Vec<usize>> {
        let bytes = self.read(&self.path(patterns, REFUSED))?;
        std::str::from_utf8(&bytes).ok()?.lines().map(|line| line.parse().ok()).collect()
    }

    /// Saves the indexes of the `patterns` that the library rejects, if possible.
    pub(super) fn keep_refused(&self, patterns: &[Pattern], refused: &[usize]) {
        let lines: String = refused.iter().map(|place| format!("{place}\n")).collect();
        self.write(&self.path(patterns, REFUSED), lines.as_bytes());
    }

    /// The contents of the file at `path`, if it is trusted and its checksum is right.
    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        self.check_directory().ok()?;
        let mut file = open_trusted(path, OFlags::RDONLY).ok().filter(|(_, metadata)| metadata.is_file())?.0;
        let mut bytes = Vec::new();
        let length = (&mut file).take(MAX_BYTES + 1).read_to_end(&mut bytes).ok()?;
        let sum: Vec<u8> = bytes.drain(..length.min(sum_of(path, &[]).len())).collect();
        if length as u64 > MAX_BYTES || sum != sum_of(path, &bytes).as_bytes() {
            return None;
        }
        // Marks the file as recently used. If this fails, it is merely removed earlier.
        let _ = file.set_modified(SystemTime::now());
        Some(bytes)
    }

    /// Fails unless the directory is this user's alone.
    fn check_directory(&self) -> io::Result<()> {
        open_trusted(&self.directory, OFlags::RDONLY | OFlags::DIRECTORY).map(drop)
    }

    fn write(&self, path: &Path, bytes: &[u8]) {
        if self.try_write(path, bytes).is_ok() {
            self.prune();
        }
    }

    /// Writes to a temporary name and renames the file, so that readers never see a part of it.
    fn try_write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        self.check_directory()?;
        let draft = path.with_extension(format!("{}.tmp", std::process::id()));
        // What a process with the same number left.
        let _ = fs::remove_file(&draft);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
        let written = file.and_then(|mut file| {
            file.write_all(sum_of(path, bytes).as_bytes())?;
            file.write_all(bytes)
        });
        written.and_then(|()| fs::rename(&draft, path)).inspect_err(|_| {
            let _ = fs::remove_file(&draft);
        })
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .filter_map(|entry| entry.ok())
            .filter(|entry| entry.path().extension().is_some_and(|end| end == DATABASE || end == REFUSED))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(MAX_FILES);
        for (_, path) in &files[..surplus] {
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, patterns: &[Pattern], extension: &str) -> PathBuf {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(format!("{}\n{}\n", super::version(), processor()).as_bytes());
        for pattern in patterns {
            hasher.update(format!("{}\n", pattern.expression().len()).as_bytes());
            hasher.update(pattern.expression().as_bytes());
        }
        let name = hasher.finish().hex().to_string();
        self.directory.join(name).with_extension(extension)
    }
}

/// The processor features that the library compiles databases for.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let features = [
        is_x86_feature_detected!("avx2"),
        is_x86_feature_detected!("avx512bw"),
        is_x86_feature_detected!("avx512vbmi"),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let features = [false; 3];
    format!("{} {features:?}", std::env::consts::ARCH)
}

/// The checksum of the file at `path`. It has the name: a file under the name of another is damaged.
fn sum_of(path: &Path, bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
    hasher.update(b"\n");
    hasher.update(bytes);
    hasher.finish().hex().to_string()
}

/// Opens what is at `path`, waits for nothing, and follows no link.
///
/// # Errors
/// If it is not there, or its owner is neither this user nor root, or others may write to it.
fn open_trusted(path: &Path, flags: OFlags) -> io::Result<(File, Metadata)> {
    const WRITE_BY_OTHERS: u32 = 0o022;
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    let is_owned = [0, rustix::process::geteuid().as_raw()].contains(&metadata.uid());
    if !is_owned || metadata.mode() & WRITE_BY_OTHERS != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "somebody else can write to it"));
    }
    Ok((file, metadata))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::engine::SignatureDatabase;

    fn patterns() -> Vec<Pattern> {
        vec![Pattern::new("own.key", "own_[0-9a-f]{16}").unwrap()]
    }

    fn only_file(directory: &Path) -> PathBuf {
        let files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    #[test]
    fn what_was_kept_is_loaded_and_what_is_damaged_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("below"));
        assert!(cache.load(&patterns()).is_none());
        SignatureDatabase::compile(&patterns(), 1, Some(&cache)).unwrap();
        assert!(cache.load(&patterns()).is_some());
        assert_eq!(cache.refused(&patterns()), None);
        cache.keep_refused(&patterns(), &[0]);
        assert_eq!(cache.refused(&patterns()), Some(vec![0]));
        fs::remove_file(cache.path(&patterns(), REFUSED)).unwrap();
        let other = vec![Pattern::new("own.key", "own_[0-9a-f]{17}").unwrap()];
        assert!(cache.load(&other).is_none());

        let file = only_file(&cache.directory);
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions()) & 0o777, 0o600);
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, &bytes).unwrap();
        assert!(cache.load(&patterns()).is_none());
        fs::write(&file, b"short").unwrap();
        assert!(cache.load(&patterns()).is_none());
        SignatureDatabase::compile(&patterns(), 1, Some(&cache)).unwrap();
        assert!(cache.load(&patterns()).is_some());
    }

    #[test]
    fn what_others_can_write_is_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("c"));
        let keep = || SignatureDatabase::compile(&patterns(), 1, Some(&cache)).map(drop).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let is_loaded = || cache.load(&patterns()).is_some();
        keep();
        let file = only_file(&cache.directory);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(is_loaded());
        for (path, good) in [(&file, 0o600), (&cache.directory, 0o700)] {
            for bad in [good | 0o020, good | 0o002] {
                mode(path, bad);
                assert!(!is_loaded(), "{path:?} {bad:o}");
            }
            mode(path, good);
        }
        assert!(is_loaded());
        // The database of other rules under this name.
        let other = vec![Pattern::new("own.key", "other_[0-9a-f]{16}").unwrap()];
        SignatureDatabase::compile(&other, 1, Some(&cache)).unwrap();
        fs::rename(cache.path(&other, DATABASE), &file).unwrap();
        assert!(!is_loaded());
        // A link to a good file, and a pipe.
        fs::remove_file(&file).unwrap();
        keep();
        fs::rename(&file, directory.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &file).unwrap();
        assert!(!is_loaded());
        fs::remove_file(&file).unwrap();
        rustix::fs::mkfifoat(CWD, &file, Mode::RUSR | Mode::WUSR).unwrap();
        assert!(!is_loaded());
        keep();
        assert!(is_loaded(), "a file takes the place of what is not trusted");
        // Nothing is written where others can change it.
        fs::remove_file(&file).unwrap();
        mode(&cache.directory, 0o770);
        keep();
        assert_eq!(fs::read_dir(&cache.directory).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(SignatureDatabase::compile(&patterns(), 1, Some(&Cache::new(file))).is_ok());
    }

    #[test]
    fn only_so_many_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path());
        for number in 0..MAX_FILES + 3 {
            let pattern = Pattern::new("own.key", &format!("own{number}_[0-9]{{4}}")).unwrap();
            SignatureDatabase::compile(&[pattern], 1, Some(&cache)).unwrap();
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), MAX_FILES);
    }
}
