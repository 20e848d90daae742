//! Reports are read one after another, each within the memory for reports, and none for nobody: whoever has asked may
//! be gone, or have no time left.

use layersift_format::Cancellation;
use layersift_model::ImageReport;
use layersift_scan::{MemoryBudget, MemoryLease};
use layersift_store::{ReportEntry, Store, StoreError};

/// Bytes of memory for the reports that are read at a time, by whomever. A larger one is read alone.
const MEMORY: u64 = 64 << 20;

/// Bytes of memory that the reports of one index may take at once, where all of them are needed at once.
const MOST_AT_ONCE: u64 = 2 * MEMORY;

/// The memory for reports that are read.
pub(crate) fn report_memory() -> MemoryBudget {
    MemoryBudget::new(MEMORY)
}

/// Why reports were not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRead {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody waits for them any more.
    #[error("nobody waits for the answer")]
    Cancelled,
    /// They are those of an index, and more than fit in memory at once.
    #[error("the reports of its images are too large together: ask for each image by its own digest")]
    TooLarge,
}

/// How reports are read.
pub(crate) struct Reading<'r> {
    pub(crate) store: &'r Store,
    pub(crate) memory: &'r MemoryBudget,
    pub(crate) cancellation: &'r Cancellation,
}

impl Reading<'_> {
    /// Memory for `reports` that are kept all at once and take `bytes`.
    pub(super) fn memory_for(&self, reports: usize, bytes: u64) -> Result<Option<MemoryLease>, NotRead> {
        if reports > 1 && bytes > MOST_AT_ONCE {
            return Err(NotRead::TooLarge);
        }
        let memory = self.memory.lease_for_document(bytes);
        self.check()?;
        Ok(memory)
    }

    /// What `take` makes of the first of `entries` that can be read; `None` where none can be. The report has its
    /// memory for as long as `take` runs.
    pub(super) fn first<T>(
        &self,
        entries: &[ReportEntry],
        mut take: impl FnMut(&ReportEntry, ImageReport) -> Result<T, NotRead>,
    ) -> Result<Option<T>, NotRead> {
        for entry in entries {
            let _memory = self.memory_for(1, entry.memory())?;
            if let Some(report) = self.read(entry)? {
                return take(entry, report).map(Some);
            }
        }
        Ok(None)
    }

    /// Reads a report, for which there is memory.
    pub(super) fn read(&self, entry: &ReportEntry) -> Result<Option<ImageReport>, NotRead> {
        self.check()?;
        Ok(self.store.images().read(entry)?)
    }

    fn check(&self) -> Result<(), NotRead> {
        if self.cancellation.is_cancelled() { Err(NotRead::Cancelled) } else { Ok(()) }
    }
}

/// Cancels what works for a future when that future ends, also because nobody waits for it any more.
pub(crate) struct CancelOnDrop(pub(crate) Cancellation);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
