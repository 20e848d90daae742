//! What a directory changes compared with those below it: by the marks of overlay file systems, or by comparing it with
//! the directory that it is a copy of.
//!
//! Source: "Overlay Filesystem" of the kernel's documentation, "whiteouts and opaque directories".

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use layersift_format::Cancellation;

use super::compare::Comparisons;
use super::tree::Tree;
use crate::root;

/// What a path is in a layer.
pub(super) enum Change {
    /// The layer has it.
    Changed,
    /// It is as in the layer below.
    Same,
    /// The layer removes it.
    Removed,
}

/// What the file at `path` is in the layer `tree`. What cannot be compared is read, and says then why it cannot.
pub(super) fn of(
    tree: &Tree,
    path: &Path,
    metadata: &Metadata,
    comparisons: &mut Comparisons,
    cancellation: &Cancellation,
) -> Change {
    if tree.is_overlay && is_whiteout(path, metadata) {
        return Change::Removed;
    }
    let Some(counterpart) = counterpart(tree, path) else { return Change::Changed };
    let Some((counterpart, other)) = counterpart else { return Change::Changed };
    let is_same = metadata.file_type() == other.file_type()
        && metadata.mode() == other.mode()
        && (metadata.uid(), metadata.gid(), metadata.rdev()) == (other.uid(), other.gid(), other.rdev())
        && (metadata.is_dir()
            || comparisons
                .is_same((path, metadata), (&counterpart, &other), cancellation)
                .is_ok_and(|is_same| is_same));
    if is_same { Change::Same } else { Change::Changed }
}

/// The directory that the one at `path` is a changed copy of; `None` if there is none.
pub(super) fn base_of(tree: &Tree, path: &Path) -> Option<PathBuf> {
    let (counterpart, metadata) = counterpart(tree, path)??;
    metadata.is_dir().then_some(counterpart)
}

/// Whether a file of the base is missing at `path`.
///
/// # Errors
/// If it cannot be told.
pub(super) fn is_removed(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether a directory of an overlay hides what is below it.
pub(super) fn is_opaque(path: &Path) -> bool {
    attribute(path, "opaque").as_deref() == Some(b"y")
}

/// What is in the base of a tree in the place of `path`; `None` for a tree without a base.
#[allow(clippy::option_option)]
fn counterpart(tree: &Tree, path: &Path) -> Option<Option<(PathBuf, Metadata)>> {
    let base = tree.base.as_ref()?;
    let relative = path.strip_prefix(&tree.path).ok()?;
    let path = base.join(relative);
    // Below a link of the base, the kernel would leave it. What cannot be compared is read as if the base had nothing.
    let parent = relative.parent().unwrap_or(Path::new(""));
    let is_below = matches!(root::below(base, parent), Ok(Some(_)));
    Some(fs::symlink_metadata(&path).ok().filter(|_| is_below).map(|metadata| (path, metadata)))
}

fn is_whiteout(path: &Path, metadata: &Metadata) -> bool {
    (metadata.file_type().is_char_device() && metadata.rdev() == 0)
        || (metadata.is_file() && metadata.len() == 0 && attribute(path, "whiteout").is_some())
}

/// An extended attribute of overlay file systems, of root's or of a user's. Only root sees those of root.
#[cfg(target_os = "linux")]
fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    ["trusted.overlay.", "user.overlay."].iter().find_map(|prefix| {
        let mut value = [0; 8];
        let length = rustix::fs::lgetxattr(path, format!("{prefix}{name}"), &mut value).ok()?;
        Some(value.get(..length).unwrap_or_default().to_vec())
    })
}

#[cfg(not(target_os = "linux"))]
fn attribute(_: &Path, _: &str) -> Option<Vec<u8>> {
    None
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use layersift_model::{Gap, GapReason};

    use super::*;
    use crate::directory_tar::{DirectoryTar, Part, Unreadable};

    /// The names of an archive, with the content of files.
    fn entries(tree: Tree) -> Vec<String> {
        let (entries, gaps) = entries_and_gaps(tree);
        assert!(gaps.is_empty());
        entries
    }

    fn entries_and_gaps(tree: Tree) -> (Vec<String>, Vec<Gap>) {
        let unreadable = Unreadable::default();
        let mut bytes = Vec::new();
        DirectoryTar::of(vec![Part::Tree(tree)], unreadable.clone()).read_to_end(&mut bytes).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            format!("{}={content}", entry.path().unwrap().display())
        });
        (entries.collect(), unreadable.gaps())
    }

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, content) in files {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), content).unwrap();
        }
    }

    #[test]
    fn a_copy_has_what_was_added_changed_and_removed() {
        let disk = tempfile::tempdir().unwrap();
        let (base, copy) = (disk.path().join("base"), disk.path().join("copy"));
        write(&base, &[("etc/same", "a"), ("etc/changed", "b"), ("etc/gone", "c"), ("var/log/old", "d"), ("x/y", "e")]);
        write(&copy, &[("etc/same", "a"), ("etc/changed", "B"), ("etc/new", "f"), ("x", "file")]);
        symlink("same", base.join("etc/link")).unwrap();
        symlink("other", copy.join("etc/link")).unwrap();
        let found = entries(Tree::changes(&base, &copy, 1_000));
        assert_eq!(
            found,
            ["etc/changed=B", "etc/link=", "etc/new=f", "etc/.wh.gone=", "x=file", ".wh.var="],
            "content counts, and not the time, which anyone may set"
        );
        assert!(entries(Tree::changes(&copy, &copy, 1_000)).is_empty());
    }

    #[test]
    fn no_more_files_are_removed_than_may_be() {
        let disk = tempfile::tempdir().unwrap();
        let (base, copy) = (disk.path().join("base"), disk.path().join("copy"));
        write(&base, &[("a/1", ""), ("a/2", ""), ("b/3", ""), ("b/4", ""), ("c/5", ""), ("d", "")]);
        write(&copy, &[("a/x", ""), ("b/x", ""), ("c/5", "new")]);
        let changes = |most| entries_and_gaps(Tree::changes(&base, &copy, most));
        let (found, gaps) = changes(3);
        assert_eq!(found, ["a/x=", "a/.wh.1=", "a/.wh.2=", "b/x=", "b/.wh.3=", "c/5=new"]);
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!(gaps[0].reason, GapReason::TooManyEntries);
        let (found, gaps) = changes(5);
        assert_eq!((found.len(), gaps), (8, Vec::new()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn marks_of_overlays_are_whiteouts() {
        use rustix::fs::{XattrFlags, lsetxattr};
        let disk = tempfile::tempdir().unwrap();
        write(disk.path(), &[("etc/removed", ""), ("opt/new", "a"), ("opt/empty", "")]);
        let mark = |path: &str, name: &str, value: &[u8]| {
            ["trusted.overlay.", "user.overlay."].iter().any(|prefix| {
                lsetxattr(disk.path().join(path), format!("{prefix}{name}"), value, XattrFlags::empty()).is_ok()
            })
        };
        // A file system without extended attributes has no such marks.
        if mark("etc/removed", "whiteout", b"y") && mark("opt", "opaque", b"y") {
            let found = entries(Tree::overlay(disk.path()));
            assert_eq!(found, ["etc=", "etc/.wh.removed=", "opt=", "opt/.wh..wh..opq=", "opt/empty=", "opt/new=a"]);
        }
    }
}
