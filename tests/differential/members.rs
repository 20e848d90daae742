//! The files of a packed image: in an archive or a directory, in an order, some more than once.

use std::path::Path;

use super::draft::Draft;
use super::entry::{BLOCK, Entry};
use super::entry_mutations;
use crate::support::tar::{gzip, zstd};

/// A file, or a link to one.
#[derive(Clone)]
pub struct Member {
    pub name: String,
    pub bytes: Vec<u8>,
    /// What a link leads to, and the type of the link in a tar.
    pub link: Option<(u8, String)>,
}

impl Member {
    pub fn new(name: &str, bytes: Vec<u8>) -> Member {
        Member { name: name.to_string(), bytes, link: None }
    }

    /// Writes it below `folder`, and never elsewhere.
    pub fn write(&self, folder: &Path) {
        let path = folder.join(&self.name);
        assert!(path.starts_with(folder) && !self.name.contains(".."), "{}", self.name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Of two members of one name, a directory has the second.
        if path.symlink_metadata().is_ok() {
            std::fs::remove_file(&path).unwrap();
        }
        match &self.link {
            None => std::fs::write(path, &self.bytes).unwrap(),
            Some((_, target)) => {
                let up = "../".repeat(self.name.matches('/').count());
                std::os::unix::fs::symlink(format!("{up}{target}"), path).unwrap();
            }
        }
    }

    fn entry(&self) -> Entry {
        match &self.link {
            None => Entry::file(&self.name, self.bytes.clone()),
            Some((kind, target)) => Entry::link(*kind, &self.name, target),
        }
    }
}

/// The members of a directory. What a file system cannot have is left out.
pub fn directory(draft: &mut Draft, mut members: Vec<Member>, mutations: usize) -> Vec<Member> {
    for _ in 0..mutations {
        let at = draft.below(members.len());
        match draft.below(5) {
            0 => {}
            1 => {
                draft.note(format!("directory without {}", kind_of(&members[at])));
                members.remove(at);
            }
            2 => {
                draft.note(format!("directory: {} is a link", kind_of(&members[at])));
                linked(&mut members, at, b'2', "elsewhere");
            }
            3 => {
                draft.note(format!("directory: {} in upper case", kind_of(&members[at])));
                let other = Member::new(&members[at].name.to_uppercase(), b"{}".to_vec());
                members.push(other);
            }
            _ => {
                draft.note(format!("directory: {} has a byte more", kind_of(&members[at])));
                members[at].bytes.push(b'\n');
            }
        }
    }
    members
}

/// The members as a tar.
pub fn archive(draft: &mut Draft, mut members: Vec<Member>, mutations: usize) -> Vec<u8> {
    let mut entries_mutated = Vec::new();
    for _ in 0..mutations {
        let at = draft.below(members.len());
        if draft.chance(35) {
            entries_mutated.push(members[at].name.clone());
        } else {
            mutate(draft, &mut members, at);
        }
    }
    let mut bytes = Vec::new();
    for member in &members {
        let mut entry = member.entry();
        if let Some(at) = entries_mutated.iter().position(|name| *name == member.name) {
            entries_mutated.remove(at);
            draft.note(format!("archive: header of {}", kind_of(member)));
            entry_mutations::mutate_header(draft, &mut entry, &member.name);
        }
        bytes.extend(entry.bytes());
    }
    if mutations == 0 {
        return [bytes, vec![0; 2 * BLOCK]].concat();
    }
    let end = end(draft);
    wrapped(draft, [bytes, end].concat())
}

fn mutate(draft: &mut Draft, members: &mut Vec<Member>, at: usize) {
    let kind = kind_of(&members[at]);
    let empty = || if kind == "a blob" { b"nothing\n".to_vec() } else { b"{}".to_vec() };
    let note = match draft.below(13) {
        0 => return,
        1 => {
            members.reverse();
            "members in the other order".to_string()
        }
        2 => {
            let decoy = Member::new(&members[at].name, empty());
            members.insert(at, decoy);
            format!("{kind} twice, the right one last")
        }
        3 => {
            let decoy = Member::new(&members[at].name, empty());
            members.insert(at + 1, decoy);
            format!("{kind} twice, the right one first")
        }
        4 => {
            members.iter_mut().for_each(|member| member.name = format!("./{}", member.name));
            "names begin with ./".to_string()
        }
        5 => {
            members[at].name = format!("/{}", members[at].name);
            format!("{kind} has an absolute name")
        }
        6 => {
            members[at].name = format!("x/../{}", members[at].name);
            format!("{kind} has dots in its name")
        }
        7 => {
            linked(members, at, b'2', "elsewhere");
            format!("{kind} is a symbolic link")
        }
        8 => {
            linked(members, at, b'1', "elsewhere");
            format!("{kind} is a hard link")
        }
        9 => {
            members.remove(at);
            format!("{kind} is missing")
        }
        10 => {
            members[at].name = members[at].name.to_uppercase();
            format!("{kind} in upper case")
        }
        11 => {
            members[at].name = members[at].name.replace('/', "//");
            format!("{kind} has two slashes in its name")
        }
        _ => {
            let mut other = members[at].clone();
            other.name = format!("./{}", other.name);
            other.bytes = empty();
            members.insert(at, other);
            format!("{kind} twice, the other one begins with ./")
        }
    };
    draft.note(format!("archive: {note}"));
}

/// Moves the bytes of a member to a new one, and makes it a link.
fn linked(members: &mut Vec<Member>, at: usize, kind: u8, target: &str) {
    let target = format!("{target}{at}");
    let moved = Member::new(&target, std::mem::take(&mut members[at].bytes));
    members[at].link = Some((kind, target));
    members.insert(at, moved);
}

fn end(draft: &mut Draft) -> Vec<u8> {
    let ends = [
        ("in two blocks", vec![0; 2 * BLOCK]),
        ("without an end", Vec::new()),
        ("in one block", vec![0; BLOCK]),
        ("in text", [&[0; 2 * BLOCK][..], b"text"].concat()),
        ("in half a block", vec![0; BLOCK / 2]),
    ];
    if draft.chance(25) { draft.mutate("archive ends", &ends).clone() } else { ends[0].1.clone() }
}

fn wrapped(draft: &mut Draft, archive: Vec<u8>) -> Vec<u8> {
    if !draft.chance(20) {
        return archive;
    }
    let packed = gzip(&archive);
    let half = archive.len() / 2 / BLOCK * BLOCK;
    let forms = [
        ("not", archive.clone()),
        ("gzip", packed.clone()),
        ("Zstandard", zstd(&archive)),
        ("two members of gzip", [gzip(&archive[..half]), gzip(&archive[half..])].concat()),
        ("gzip with NUL after", [packed, vec![0; 10]].concat()),
        ("gzip twice", gzip(&gzip(&archive))),
    ];
    draft.mutate("archive compressed", &forms).clone()
}

/// What a file of an image is, whatever its name.
fn kind_of(member: &Member) -> &'static str {
    let documents = ["oci-layout", "index.json", "manifest.json", "version"];
    documents.into_iter().find(|name| *name == member.name).unwrap_or("a blob")
}
