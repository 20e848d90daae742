//! Who else can write to a file of SQLite. Whoever can decides what an image is said to have, so a store that anybody
//! can write to is refused. One that is shared with a group is not: the mode says that it was meant.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Fault, StoreError};

/// The endings of the files next to a database.
const NEXT_TO_IT: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Checks the store at `path` and the directory that it is in, and both again where it is a link. What is not there yet
/// is not checked.
///
/// Nothing is opened: closing any descriptor of a file drops all POSIX locks that the process has on it.
///
/// # Errors
/// [`StoreError::Untrusted`].
pub(super) fn check(path: &Path) -> Result<(), Fault> {
    let refused = |(place, reason): (PathBuf, String)| {
        let store = path.display().to_string();
        Fault::Refused(StoreError::Untrusted { store, place, reason })
    };
    check_place(path).map_err(refused)?;
    match path.canonicalize() {
        Ok(real) if real != path => check_place(&real).map_err(refused),
        _ => Ok(()),
    }
}

fn check_place(path: &Path) -> Result<(), (PathBuf, String)> {
    let user = User::current();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Some(attributes) = attributes(directory, true)? {
        user.check(directory, &attributes)?;
    }
    for ending in std::iter::once("").chain(NEXT_TO_IT) {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        let file = PathBuf::from(name);
        let Some(attributes) = attributes(&file, false)? else { continue };
        // A link in a directory of the user's own is the user's, and what it leads to is checked on its own.
        if attributes.kind != Kind::Link {
            user.check(&file, &attributes)?;
        }
    }
    Ok(())
}

/// What is at `path`; `None` where there is nothing. What cannot be looked at cannot be opened either.
fn attributes(path: &Path, is_followed: bool) -> Result<Option<Attributes>, (PathBuf, String)> {
    let found = if is_followed { path.metadata() } else { path.symlink_metadata() };
    match found {
        Ok(metadata) => Ok(Some(Attributes::of(&metadata))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err((path.into(), error.to_string())),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Link,
    Other,
}

/// What decides who can write to something.
#[derive(Clone, Debug)]
struct Attributes {
    kind: Kind,
    mode: u32,
    owner: u32,
    group: u32,
}

impl Attributes {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Attributes {
        use std::os::unix::fs::MetadataExt;
        let kind = match metadata.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        Attributes { kind, mode: metadata.mode(), owner: metadata.uid(), group: metadata.gid() }
    }
}

/// Who runs the program.
struct User {
    id: u32,
    groups: Vec<u32>,
}

impl User {
    fn current() -> User {
        let mut groups = vec![rustix::process::getegid().as_raw()];
        groups.extend(rustix::process::getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()));
        User { id: rustix::process::geteuid().as_raw(), groups }
    }

    /// Fails if somebody can write to it whom the user did not let do so.
    fn check(&self, path: &Path, found: &Attributes) -> Result<(), (PathBuf, String)> {
        const BY_GROUP: u32 = 0o020;
        const BY_ALL: u32 = 0o002;
        const STICKY: u32 = 0o1000;
        let refused = |reason: String| Err((path.to_path_buf(), reason));
        if found.kind == Kind::Other {
            return refused("it is not a regular file".into());
        }
        // In a directory with this bit everybody has files of their own, and nobody can replace those of others.
        let is_own_each = found.kind == Kind::Directory && found.mode & STICKY != 0;
        if found.mode & BY_ALL != 0 && !is_own_each {
            return refused("everybody can write to it; take that away with `chmod o-w`".into());
        }
        let is_shared = found.mode & BY_GROUP != 0 && self.groups.contains(&found.group);
        if ![0, self.id].contains(&found.owner) && !is_shared {
            if self.id == 0 {
                // Root has to work with what others have, such as a directory that is mounted into a container.
                tracing::warn!(path = %path.display(), owner = found.owner, "the store belongs to another user");
                return Ok(());
            }
            return refused(format!("it belongs to the user {}, who is neither this one nor root", found.owner));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(user: (u32, &[u32]), kind: Kind, (owner, group, mode): (u32, u32, u32)) -> Option<String> {
        let user = User { id: user.0, groups: user.1.to_vec() };
        user.check(Path::new("x"), &Attributes { kind, mode, owner, group }).err().map(|(_, reason)| reason)
    }

    #[test]
    fn what_is_private_or_shared_with_a_group_is_trusted() {
        let me: (u32, &[u32]) = (1000, &[1000, 2000]);
        for (kind, found) in [
            (Kind::File, (1000, 1000, 0o600)),
            (Kind::File, (0, 0, 0o644)),
            // A volume with the group of the pod.
            (Kind::Directory, (0, 2000, 0o2770)),
            (Kind::File, (1001, 2000, 0o660)),
            (Kind::Directory, (1001, 2000, 0o770)),
            // Such as /tmp.
            (Kind::Directory, (0, 0, 0o1777)),
        ] {
            assert_eq!(refusal(me, kind, found), None, "{kind:?} {found:?}");
        }
    }

    #[test]
    fn what_others_can_write_to_is_refused() {
        let me: (u32, &[u32]) = (1000, &[1000]);
        for (kind, found, reason) in [
            (Kind::File, (1000, 1000, 0o666), "everybody"),
            (Kind::File, (1000, 1000, 0o1666), "everybody"),
            (Kind::Directory, (0, 0, 0o777), "everybody"),
            (Kind::File, (1001, 1001, 0o644), "the user 1001"),
            (Kind::File, (1001, 2000, 0o660), "the user 1001"),
            (Kind::Directory, (1001, 1001, 0o755), "the user 1001"),
            (Kind::Other, (1000, 1000, 0o600), "not a regular file"),
        ] {
            let said = refusal(me, kind, found).unwrap_or_default();
            assert!(said.contains(reason), "{kind:?} {found:?}: {said}");
        }
        assert_eq!(refusal((0, &[0]), Kind::Directory, (1001, 1001, 0o755)), None);
        assert!(refusal((0, &[0]), Kind::Directory, (1001, 1001, 0o777)).is_some());
    }
}
