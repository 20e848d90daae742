//! A list under a tag that several writers change at the same time, each by writing it anew.
//!
//! A write may undo what another writer wrote since the list was read. So there are few writes, each right after a read
//! and after a random time in which the list did not change, which gets longer the more others write. The list is
//! read all the time: before a write, while it is under way, and after it until it has shown the own entries and
//! nothing new for a while. Whatever it has ever shown is put back if it is missing, unless it was deleted.
//!
//! What another tool writes between the last read and the write that follows is lost if that tool does not look
//! again, because nobody has seen it: nothing but the registry could prevent that.

use std::collections::HashSet;
use std::time::Duration;

use layersift_model::Digest;

use super::{AttachError, ListedIn, Pace, Put, Registry};
use crate::oci::{Descriptor, Document};

/// What is listed, and how.
pub(super) trait List<R: Registry> {
    /// The entries of the document under the tag.
    fn entries(&self, document: Option<&Document>) -> Result<Vec<Descriptor>, AttachError<R::Error>>;

    /// Whether [`List::document`] sends requests.
    const SENDS: bool;

    /// The document with `entries` after those that it has, without those in `dropped`. What it refers to is written.
    fn document(
        &self,
        document: Option<&Document>,
        entries: &[Descriptor],
        dropped: &HashSet<Digest>,
    ) -> Result<Document, AttachError<R::Error>>;

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
    /// Their digests: a list may have many thousands.
    pub(super) seen_digests: HashSet<Digest>,
    /// Entries that are gone, and that a registry refuses to list.
    pub(super) dropped: HashSet<Digest>,
    /// How often others were seen to write while this writer wanted to.
    pub(super) contention: u32,
    /// The document that was read last, and its entries.
    pub(super) last: (Option<Document>, Vec<Descriptor>),
    pub(super) has_written: bool,
    /// How often in a row a list was refused, and nobody knows why.
    pub(super) refused: u32,
}

/// How often a writer lets others go first before its first write.
const MOST_LISTENING: u32 = 4;
/// How often the time before a write is doubled.
const MOST_DOUBLED: u32 = 3;
/// How often a list is written that is refused for no reason that can be seen.
const MOST_REFUSED: u32 = 3;
/// How often a document is made anew because the list changed meanwhile.
const MOST_PREPARED: usize = 3;

/// The document under the tag, and what it should have besides.
type Reading = (Option<Document>, Vec<Descriptor>);

impl<R: Registry, L: List<R>> Writer<'_, R, L> {
    /// Writes until the list keeps the own entries, and what others wrote meanwhile.
    pub(super) fn run(mut self) -> Result<ListedIn, AttachError<R::Error>> {
        let (_, mut missing) = self.read()?;
        if !missing.is_empty() {
            self.listen()?;
        }
        let (mut kept, mut unchanged) = (0, 0);
        for _ in 0..self.pace.most_reads {
            (_, missing) = self.read()?;
            let is_complete = missing.is_empty();
            if !is_complete {
                self.add(missing)?;
            }
            kept = if is_complete { kept + 1 } else { 0 };
            if kept > self.pace.quiet_reads && unchanged >= self.pace.quiet_reads {
                break;
            }
            let is_changed = self.watch(self.pace.pause())?;
            unchanged = if is_complete && !is_changed { unchanged + 1 } else { 0 };
        }
        // Others may go on writing for as long as they like.
        if kept > self.pace.quiet_reads { Ok(self.list.listed_in()) } else { Err(AttachError::NotListed(self.tag)) }
    }

    /// Waits until nobody else has written for a random time, but not for ever.
    fn listen(&mut self) -> Result<(), AttachError<R::Error>> {
        for _ in 0..MOST_LISTENING {
            if !self.watch(self.before_write())? {
                break;
            }
            self.contention += 1;
        }
        Ok(())
    }

    /// A random time that others have to write before the next write.
    fn before_write(&self) -> Duration {
        self.pace.least + self.pace.pause().saturating_sub(self.pace.least) * (1 << self.contention.min(MOST_DOUBLED))
    }

    /// Reads the list for about this time; returns whether it has changed.
    fn watch(&mut self, duration: Duration) -> Result<bool, AttachError<R::Error>> {
        let before = self.last.0.clone();
        let mut left = duration;
        while !left.is_zero() {
            let pause = left.min(self.pace.poll);
            self.registry.pause(pause).map_err(AttachError::Registry)?;
            left -= pause;
            self.read()?;
        }
        Ok(self.last.0 != before)
    }

    /// Writes the list with what is missing in it. Where the writer has written before, another one does the same, and
    /// perhaps puts back what is missing.
    fn add(&mut self, missing: Vec<Descriptor>) -> Result<(), AttachError<R::Error>> {
        if self.has_written {
            self.contention += 1;
            self.watch(self.before_write())?;
        }
        let others: Vec<_> = missing.into_iter().filter(|entry| !self.is_own(entry)).collect();
        self.forget_deleted(&others)?;
        let (mut document, mut missing) = self.read()?;
        for _ in 0..MOST_PREPARED {
            if missing.is_empty() {
                return Ok(());
            }
            let new = self.list.document(document.as_ref(), &missing, &self.dropped)?;
            if L::SENDS {
                // That took time, and the less there is between a read and a write, the better.
                let (again, still_missing) = self.read()?;
                if again != document {
                    (document, missing) = (again, still_missing);
                    continue;
                }
            }
            return self.put(document.as_ref(), &missing, &new);
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Reading, AttachError<R::Error>> {
        let document = self.registry.manifest(&self.tag).map_err(AttachError::Registry)?;
        if document != self.last.0 {
            let entries = self.see(document.as_ref())?;
            self.last = (document.clone(), entries);
        }
        let listed: HashSet<&Digest> = self.last.1.iter().map(|entry| &entry.digest).collect();
        let wanted = self.seen.iter().chain(&self.own);
        let missing = wanted.filter(|entry| !listed.contains(&entry.digest)).cloned().collect();
        Ok((document, missing))
    }

    /// Keeps in mind what the list has shown.
    fn see(&mut self, document: Option<&Document>) -> Result<Vec<Descriptor>, AttachError<R::Error>> {
        let entries = self.list.entries(document)?;
        for entry in &entries {
            let is_known = self.is_own(entry) || self.dropped.contains(&entry.digest);
            if !is_known && self.seen_digests.insert(entry.digest.clone()) {
                self.seen.push(entry.clone());
            }
        }
        Ok(entries)
    }

    /// Writes `new`, which is `document` with `entries`.
    fn put(
        &mut self,
        document: Option<&Document>,
        entries: &[Descriptor],
        new: &Document,
    ) -> Result<(), AttachError<R::Error>> {
        let (put, shown) = self.registry.put_watched(&self.tag, new).map_err(AttachError::Registry)?;
        for shown in &shown {
            self.see(Some(shown))?;
        }
        if put == Put::Stored {
            (self.has_written, self.refused) = (true, 0);
            return Ok(());
        }
        // The registry may refuse the list because of an entry that it does not have any more.
        let before = self.dropped.len();
        for entry in self.list.entries(document)?.iter().chain(entries) {
            if !self.is_own(entry) && !self.list.exists(entry)? {
                self.dropped.insert(entry.digest.clone());
            }
        }
        self.forget(&self.dropped.clone());
        self.refused = if self.dropped.len() == before { self.refused + 1 } else { 0 };
        if self.refused >= MOST_REFUSED {
            return Err(AttachError::Refused(format!("the tag {}", self.tag)));
        }
        Ok(())
    }

    fn is_own(&self, entry: &Descriptor) -> bool {
        self.own.iter().any(|own| own.digest == entry.digest)
    }

    /// An entry that was listed before and is no longer may have been deleted on purpose.
    fn forget_deleted(&mut self, missing: &[Descriptor]) -> Result<(), AttachError<R::Error>> {
        let mut deleted = HashSet::new();
        for entry in missing {
            if !self.list.exists(entry)? {
                deleted.insert(entry.digest.clone());
            }
        }
        self.forget(&deleted);
        Ok(())
    }

    fn forget(&mut self, digests: &HashSet<Digest>) {
        self.seen.retain(|seen| !digests.contains(&seen.digest));
        self.seen_digests.retain(|digest| !digests.contains(digest));
    }
}
