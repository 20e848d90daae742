//! Checkpoints as C2SP's tlog-checkpoint describes them (<https://c2sp.org/tlog-checkpoint>): signed notes of the
//! origin, the number of leaves and the root. And the record of what retention removed, which is such a checkpoint with
//! lines of its own after the root.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::note::{NoteError, SigningKey, VerifierKey};
use crate::tree::{Hash, Range};

/// The lines of the record of a removal.
const REMOVED: &str = "layersift-audit removed before this size at ";
const NODE: &str = "layersift-audit node ";

/// What a log was at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the log, and of its key.
    pub origin: String,
    /// The number of entries since the log was begun.
    pub size: u64,
    /// The root of their tree.
    pub root: Hash,
    /// Lines after the root.
    pub(crate) extensions: Vec<String>,
}

impl Checkpoint {
    /// The checkpoint of a tree.
    pub(crate) fn of(origin: &str, range: &Range) -> Checkpoint {
        Checkpoint { origin: origin.into(), size: range.size(), root: range.root(), extensions: Vec::new() }
    }

    /// The checkpoint in `note`, which `key` signed.
    ///
    /// # Errors
    /// If it is not one, of another origin, or not signed.
    pub fn open(note: &[u8], key: &VerifierKey) -> Result<Checkpoint, NoteError> {
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Form)?;
        let checkpoint = Checkpoint::parse(key.open(note)?).ok_or(NoteError::Form)?;
        if checkpoint.origin == key.name() { Ok(checkpoint) } else { Err(NoteError::NotSigned(key.name().into())) }
    }

    /// The checkpoint as a signed note.
    pub(crate) fn sign(&self, key: &SigningKey) -> String {
        key.sign(&self.text())
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, BASE64_STANDARD.encode(self.root));
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn parse(text: &str) -> Option<Checkpoint> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let root = BASE64_STANDARD.decode(root).ok()?.try_into().ok()?;
        let extensions: Vec<String> = lines.map(String::from).collect();
        let checkpoint = Checkpoint { origin: origin.into(), size: size.parse().ok()?, root, extensions };
        // A number with zeros before it, say, is not of the form.
        (!origin.is_empty() && checkpoint.text() == text).then_some(checkpoint)
    }
}

/// What retention removed: the entries before `range.size()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) range: Range,
    /// When, in milliseconds since 1970.
    pub(crate) at: u64,
}

impl Removal {
    pub(crate) fn sign(&self, origin: &str, key: &SigningKey) -> String {
        let mut checkpoint = Checkpoint::of(origin, &self.range);
        checkpoint.extensions.push(format!("{REMOVED}{}", self.at));
        let nodes = self.range.nodes().iter().map(|node| format!("{NODE}{}", BASE64_STANDARD.encode(node)));
        checkpoint.extensions.extend(nodes);
        checkpoint.sign(key)
    }

    pub(crate) fn open(note: &[u8], key: &VerifierKey) -> Result<Removal, NoteError> {
        let checkpoint = Checkpoint::open(note, key)?;
        Removal::of(&checkpoint).ok_or(NoteError::Form)
    }

    fn of(checkpoint: &Checkpoint) -> Option<Removal> {
        let (first, nodes) = checkpoint.extensions.split_first()?;
        let at = first.strip_prefix(REMOVED)?.parse().ok()?;
        let node = |line: &String| BASE64_STANDARD.decode(line.strip_prefix(NODE)?).ok()?.try_into().ok();
        let range = Range::new(checkpoint.size, nodes.iter().map(node).collect::<Option<_>>()?)?;
        (range.root() == checkpoint.root).then_some(Removal { range, at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::leaf_hash;

    #[test]
    fn checkpoints_and_removals_come_back() {
        let key = SigningKey::generate("audit.example.org/one").unwrap();
        let mut range = Range::default();
        for number in 0..100_u8 {
            let checkpoint = Checkpoint::of(key.verifier().name(), &range);
            let note = checkpoint.sign(&key);
            assert_eq!(Checkpoint::open(note.as_bytes(), key.verifier()).unwrap(), checkpoint);
            assert!(Removal::open(note.as_bytes(), key.verifier()).is_err());
            let removal = Removal { range: range.clone(), at: 17 };
            let note = removal.sign(key.verifier().name(), &key);
            assert_eq!(Removal::open(note.as_bytes(), key.verifier()).unwrap(), removal);
            range.push(leaf_hash(&[number]));
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let key = SigningKey::generate("one").unwrap();
        let root = BASE64_STANDARD.encode([7; 32]);
        for text in [
            format!("one\n007\n{root}\n"),
            format!("one\n+7\n{root}\n"),
            format!("one\n7\n{root}"),
            "one\n7\nAAAA\n".into(),
            format!("two\n7\n{root}\n"),
            format!("\n7\n{root}\n"),
        ] {
            assert!(Checkpoint::open(key.sign(&text).as_bytes(), key.verifier()).is_err(), "{text}");
        }
        Checkpoint::open(key.sign(&format!("one\n7\n{root}\n")).as_bytes(), key.verifier()).unwrap();
    }
}
