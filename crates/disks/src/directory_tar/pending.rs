//! What is still to be read: parts of an archive, and the directories that were begun. Of a directory its path is kept
//! once and some of its names, so memory does not grow with the number of files.

use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::names::Names;
use super::tree::{Files, Part, Tree};

/// The bytes of the names that are kept of all directories together.
const NAMES: usize = 32 << 20;
/// The least that is kept of one directory.
const FEWEST: usize = 64 << 10;

/// What is still to be read, the next one last.
pub(super) struct Pending {
    stack: Vec<Begun>,
}

enum Begun {
    Part(Part),
    Directory(Directory),
    /// Files, and the name of the last one that was read.
    Files(Arc<Files>, Option<String>),
}

/// A directory of a tree, of which names are still to be read.
struct Directory {
    tree: Arc<Tree>,
    path: PathBuf,
    names: Names,
    /// Whether the names are those of the directory that it is a changed copy of.
    is_base: bool,
}

/// What comes next.
pub(super) enum Next {
    /// A part whose content is known.
    Part(Part),
    /// The path of a file in a tree.
    Path(Arc<Tree>, PathBuf),
    /// The path of a file that is in the tree's base, and may not be in the tree.
    InBase(Arc<Tree>, PathBuf),
    /// The other files of the directory at a path are not known.
    Lost(Arc<Tree>, PathBuf, io::Error),
}

impl Pending {
    /// All of `parts`, in this order.
    pub(super) fn new(parts: Vec<Part>) -> Pending {
        Pending { stack: parts.into_iter().rev().map(Begun::Part).collect() }
    }

    /// Adds a part that comes next.
    pub(super) fn push_part(&mut self, part: Part) {
        self.stack.push(Begun::Part(part));
    }

    /// The names in a directory, to be pushed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn names(&self, directory: &Path) -> io::Result<Names> {
        Names::of(directory.into(), self.most())
    }

    /// Adds the files called `names` in the directory at `path`.
    pub(super) fn push_files(&mut self, tree: &Arc<Tree>, path: &Path, names: Names) {
        self.push(tree, path, names, false);
    }

    /// Adds the files called `names` in the directory that the one at `path` is a changed copy of.
    pub(super) fn push_base(&mut self, tree: &Arc<Tree>, path: &Path, names: Names) {
        self.push(tree, path, names, true);
    }

    fn push(&mut self, tree: &Arc<Tree>, path: &Path, names: Names, is_base: bool) {
        let directory = Directory { tree: Arc::clone(tree), path: path.into(), names, is_base };
        self.stack.push(Begun::Directory(directory));
    }

    /// What comes next; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Next> {
        loop {
            let mut directory = match self.stack.pop()? {
                Begun::Part(Part::Files(files)) => {
                    self.stack.push(Begun::Files(files, None));
                    continue;
                }
                Begun::Part(part) => return Some(Next::Part(part)),
                Begun::Files(files, last) => match file_after(&files, last.as_deref()) {
                    Some((name, part)) => {
                        self.stack.push(Begun::Files(files, Some(name)));
                        return Some(Next::Part(part));
                    }
                    None => continue,
                },
                Begun::Directory(directory) => directory,
            };
            match directory.names.next() {
                Ok(None) => {}
                Ok(Some(name)) => {
                    let (tree, path) = (Arc::clone(&directory.tree), directory.path.join(name));
                    let next = if directory.is_base { Next::InBase(tree, path) } else { Next::Path(tree, path) };
                    self.stack.push(Begun::Directory(directory));
                    return Some(next);
                }
                Err(error) => return Some(Next::Lost(directory.tree, directory.path, error)),
            }
        }
    }

    /// The bytes of names that may be kept of the next directory: half of what is left.
    fn most(&self) -> usize {
        let bytes = |begun: &Begun| match begun {
            Begun::Part(_) | Begun::Files(..) => 0,
            Begun::Directory(directory) => directory.names.bytes(),
        };
        let kept: usize = self.stack.iter().map(bytes).sum();
        (NAMES.saturating_sub(kept) / 2).max(FEWEST)
    }
}

/// The file after that called `last`, with its name among `files`.
fn file_after(files: &Files, last: Option<&str>) -> Option<(String, Part)> {
    let after = last.map_or(Bound::Unbounded, Bound::Excluded);
    let (name, content) = files.files.range::<str, _>((after, Bound::Unbounded)).next()?;
    let file = Part::File { name: format!("{}/{name}", files.directory), content: content.clone() };
    Some((name.clone(), file))
}
