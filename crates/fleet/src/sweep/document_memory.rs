//! Memory for the documents of an entry while it is planned: several are planned at once, and reading a document takes
//! a multiple of its bytes. Entries whose documents take much wait for each other and for layers.

use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use layersift_format::json;
use layersift_format::{Blob, Fetched, ImageSource, Listed, Location, Referrers, SourceError};
use layersift_model::Digest;
use layersift_scan::{ExtraMemory, MemoryBudget, MemoryLease};

/// What an entry takes at least, once its documents take much: as much as those of one may have. Entries that take a
/// little at a time would all have begun when there is no more, and the oldest goes on beyond the budget.
const AT_ONCE: u64 = 64 << 20;

/// The memory of the documents of one entry.
pub(super) struct DocumentMemory<'m> {
    budget: &'m MemoryBudget,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The bytes of all documents, which are kept until the last one is read.
    bytes: u64,
    /// What reading the largest takes: they are read one after the other.
    largest: u64,
    lease: Option<(MemoryLease, Vec<ExtraMemory>)>,
    leased: u64,
}

impl<'m> DocumentMemory<'m> {
    pub(super) fn new(budget: &'m MemoryBudget) -> DocumentMemory<'m> {
        DocumentMemory { budget, state: Mutex::default() }
    }

    /// Takes memory for a document. Waits until there is enough.
    pub(super) fn charge(&self, document: &[u8]) {
        self.take(document.len() as u64, json::memory_of(document));
    }

    /// Takes `bytes` of memory for something else that is read meanwhile, if it is much.
    pub(super) fn while_read(&self, bytes: u64) -> Option<ExtraMemory> {
        MemoryBudget::is_charged(bytes).then(|| self.lease().grow(bytes))
    }

    /// The lease of all documents, for what is done with them. Who waits for another one would hold this one meanwhile.
    pub(super) fn lease(&self) -> MemoryLease {
        self.lock().lease.get_or_insert_with(|| (self.budget.lease(0), Vec::new())).0.clone()
    }

    /// Returns all memory: the documents are read again, or not at all.
    pub(super) fn clear(&self) {
        *self.lock() = State::default();
    }

    /// Takes memory for `bytes` more, of a document that takes `memory` so far.
    fn take(&self, bytes: u64, memory: u64) {
        let mut state = self.lock();
        state.bytes += bytes;
        state.largest = state.largest.max(memory);
        let wanted = state.bytes + state.largest;
        if !MemoryBudget::is_charged(wanted) || wanted <= state.leased {
            return;
        }
        let wanted = wanted.max(AT_ONCE);
        let more = wanted - state.leased;
        state.leased = wanted;
        let (lease, held) = state.lease.get_or_insert_with(|| (self.budget.lease(0), Vec::new()));
        held.push(lease.grow(more));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source whose documents take memory from a budget as they are read.
pub(super) struct ChargedSource<'s> {
    pub(super) source: &'s dyn ImageSource,
    pub(super) memory: &'s DocumentMemory<'s>,
    /// The most bytes of a document. What is longer is scanned as a file.
    pub(super) most: u64,
}

impl ImageSource for ChargedSource<'_> {
    fn concurrent_reads(&self) -> Option<usize> {
        self.source.concurrent_reads()
    }

    fn list(&self) -> Result<Vec<Listed>, SourceError> {
        self.source.list()
    }

    fn missing(&self, what: &str) -> String {
        self.source.missing(what)
    }

    fn locate(&self, digest: &Digest) -> Location {
        self.source.locate(digest)
    }

    fn locate_manifest(&self, digest: &Digest) -> Location {
        self.source.locate_manifest(digest)
    }

    fn referrers(&self, digest: &Digest) -> Referrers {
        let referrers = self.source.referrers(digest);
        // What is read of a list is kept while the others are read.
        let lists = || referrers.lists.iter().map(|list| &list.bytes);
        self.memory
            .take(lists().map(|bytes| bytes.len() as u64).sum(), lists().map(|bytes| json::memory_of(bytes)).sum());
        referrers
    }

    fn open(&self, location: &Location) -> Result<Fetched<'_>, SourceError> {
        Ok(match self.source.open(location)? {
            Fetched::Blob(blob) => {
                let (memory, left) = (self.memory, self.most);
                let reader = ChargedReader { input: blob.into_reader(), memory, left, document: 0 };
                Fetched::Blob(Blob::Stream(Box::new(reader)))
            }
            other => other,
        })
    }
}

/// A document that takes memory from a budget as it is read.
struct ChargedReader<'r> {
    input: Box<dyn Read + Send + 'r>,
    memory: &'r DocumentMemory<'r>,
    left: u64,
    /// What reading the document takes so far.
    document: u64,
}

impl Read for ChargedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let bytes = (count as u64).min(self.left);
        self.left -= bytes;
        if bytes > 0 {
            self.document += json::memory_of(&buffer[..count]);
            self.memory.take(bytes, self.document);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_take_memory_until_their_entry_is_planned() {
        let budget = MemoryBudget::new(1 << 30);
        let memory = DocumentMemory::new(&budget);
        memory.charge(br#"{"config":{}}"#);
        assert_eq!(budget.used(), 0);
        let labels = r#""a":"b","#.repeat(100_000);
        memory.charge(labels.as_bytes());
        assert_eq!(budget.used(), AT_ONCE);
        memory.charge(labels.as_bytes());
        assert_eq!(budget.used(), AT_ONCE);
        let labels = labels.repeat(3);
        memory.charge(labels.as_bytes());
        let more = budget.used();
        assert!(more > AT_ONCE);
        // They are read one after the other.
        memory.charge(labels.as_bytes());
        assert_eq!(budget.used(), more + labels.len() as u64);
        drop(memory);
        assert_eq!(budget.used(), 0);
    }
}
