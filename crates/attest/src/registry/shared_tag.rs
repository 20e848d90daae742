//! A list under a tag that several writers change at the same time, each by writing it anew.
//!
//! A write may undo what another writer wrote since the list was read. So the list is read again, after random pauses,
//! until it has shown the own entries and nothing new several times in a row, and is written again if one is missing.
//! Whatever it has shown before is put back, too, unless it was deleted. What another tool writes between a read and
//! the write that follows is still lost if that tool does not look again: nothing but the registry could prevent that.

use std::collections::HashSet;

use layersift_model::Digest;

use super::{AttachError, ListedIn, Pace, Put, Registry};
use crate::oci::{Descriptor, Document};

/// What is listed, and how.
pub(super) trait List<R: Registry> {
    /// The entries of the document under the tag.
    fn entries(&self, document: Option<&Document>) -> Result<Vec<Descriptor>, AttachError<R::Error>>;

    /// Writes the document with `entries` after those that it has, without those in `dropped`.
    fn write(
        &self,
        tag: &str,
        document: Option<&Document>,
        entries: &[Descriptor],
        dropped: &HashSet<Digest>,
    ) -> Result<Put, AttachError<R::Error>>;

    /// Whether what an entry names is still there.
    fn exists(&self, entry: &Descriptor) -> Result<bool, AttachError<R::Error>>;

    fn listed_in(&self) -> ListedIn;
}

/// The state of one writer.
pub(super) struct Writer<'r, R: Registry, L> {
    pub(super) registry: &'r R,
    pub(super) list: L,
    pub(super) tag: String,
    /// The entries of this writer.
    pub(super) own: Vec<Descriptor>,
    pub(super) pace: Pace,
    /// Entries of others that the list has shown, in that order.
    pub(super) seen: Vec<Descriptor>,
    /// Entries that are gone, and that a registry refuses to list.
    pub(super) dropped: HashSet<Digest>,
}

/// The document under the tag, and what it should have besides.
type Reading = (Option<Document>, Vec<Descriptor>);

impl<R: Registry, L: List<R>> Writer<'_, R, L> {
    /// Writes until the list keeps the own entries, and what others wrote meanwhile.
    pub(super) fn run(mut self) -> Result<ListedIn, AttachError<R::Error>> {
        let (mut kept, mut unchanged) = (0, 0);
        for _ in 0..self.pace.most_reads {
            let seen = self.seen.len();
            let is_complete = self.is_complete_or_written()?;
            kept = if is_complete { kept + 1 } else { 0 };
            unchanged = if is_complete && self.seen.len() == seen { unchanged + 1 } else { 0 };
            if unchanged > self.pace.quiet_reads {
                break;
            }
            self.registry.pause(self.pace.pause()).map_err(AttachError::Registry)?;
        }
        // Others may go on writing for as long as they like.
        if kept > self.pace.quiet_reads { Ok(self.list.listed_in()) } else { Err(AttachError::NotListed(self.tag)) }
    }

    /// Reads the list. If something is missing in it, writes it, and returns false.
    fn is_complete_or_written(&mut self) -> Result<bool, AttachError<R::Error>> {
        let (document, missing) = self.read()?;
        if missing.is_empty() {
            return Ok(true);
        }
        let others: Vec<_> = missing.iter().filter(|entry| !self.is_own(entry)).cloned().collect();
        if others.is_empty() {
            self.write(document.as_ref(), &missing)?;
            return Ok(false);
        }
        self.forget_deleted(&others)?;
        // That took time, and the less there is between a read and a write, the better.
        let (document, missing) = self.read()?;
        if !missing.is_empty() {
            self.write(document.as_ref(), &missing)?;
        }
        Ok(false)
    }

    fn read(&mut self) -> Result<Reading, AttachError<R::Error>> {
        let document = self.registry.manifest(&self.tag).map_err(AttachError::Registry)?;
        let entries = self.list.entries(document.as_ref())?;
        let listed: HashSet<&Digest> = entries.iter().map(|entry| &entry.digest).collect();
        let wanted = self.seen.iter().chain(&self.own);
        let missing = wanted.filter(|entry| !listed.contains(&entry.digest)).cloned().collect();
        for entry in &entries {
            let is_known = self.is_own(entry)
                || self.dropped.contains(&entry.digest)
                || self.seen.iter().any(|seen| seen.digest == entry.digest);
            if !is_known {
                self.seen.push(entry.clone());
            }
        }
        Ok((document, missing))
    }

    fn write(&mut self, document: Option<&Document>, entries: &[Descriptor]) -> Result<(), AttachError<R::Error>> {
        if self.list.write(&self.tag, document, entries, &self.dropped)? == Put::Stored {
            return Ok(());
        }
        // The registry may refuse the list because of an entry that it does not have any more.
        let before = self.dropped.len();
        for entry in self.list.entries(document)?.iter().chain(entries) {
            if !self.is_own(entry) && !self.list.exists(entry)? {
                self.dropped.insert(entry.digest.clone());
            }
        }
        self.seen.retain(|entry| !self.dropped.contains(&entry.digest));
        if self.dropped.len() == before {
            return Err(AttachError::Refused(format!("the tag {}", self.tag)));
        }
        Ok(())
    }

    fn is_own(&self, entry: &Descriptor) -> bool {
        self.own.iter().any(|own| own.digest == entry.digest)
    }

    /// An entry that was listed before and is no longer may have been deleted on purpose.
    fn forget_deleted(&mut self, missing: &[Descriptor]) -> Result<(), AttachError<R::Error>> {
        for entry in missing {
            if !self.list.exists(entry)? {
                self.seen.retain(|seen| seen.digest != entry.digest);
            }
        }
        Ok(())
    }
}
