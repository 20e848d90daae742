//! The keywords at which Hyperscan begins patterns of the built-in rules. Text that is full of them takes sixty times
//! longer than other text though nothing is found, so they are counted where that may matter: in layers of far more
//! bytes than their blobs have. To look for them in all layers would take a tenth of a scan.

use std::sync::{Arc, OnceLock};

use hyperscan::BlockDatabase;
use hyperscan::prelude::*;

use super::built_in::{BUILT_IN, SETS};
use super::error::EngineError;

/// The databases of keywords, by the number of their set of rules. Most scans need none.
static LOADED: [OnceLock<Option<Arc<BlockDatabase>>>; SETS] = [const { OnceLock::new() }; SETS];

/// The keywords that begin patterns of a set of built-in rules.
#[derive(Clone, Copy)]
pub(super) struct Beginnings {
    /// The number of the set.
    pub(super) set: usize,
}

impl Beginnings {
    /// The memory of a thread that counts.
    ///
    /// # Errors
    /// If memory runs out, or no database can be loaded.
    pub(super) fn scratch(self) -> Result<Scratch, EngineError> {
        self.database()?.alloc_scratch().map_err(failed)
    }

    /// How many patterns are begun in `bytes`.
    ///
    /// # Errors
    /// If Hyperscan itself fails.
    pub(super) fn count(self, bytes: &[u8], scratch: &Scratch) -> Result<u64, EngineError> {
        // Hyperscan has 32-bit block lengths. A keyword on the border of two blocks does not matter.
        const BLOCK: usize = 1 << 30;
        let (database, begun) = (self.database()?, BUILT_IN[self.set].begun);
        let mut count = 0;
        for block in bytes.chunks(BLOCK) {
            let note = |id: u32, _: u64, _: u64, _: u32| {
                count += begun.get(id as usize).copied().map_or(0, u64::from);
                Matching::Continue
            };
            database.scan(block, scratch, note).map_err(failed)?;
        }
        Ok(count)
    }

    fn database(self) -> Result<&'static BlockDatabase, EngineError> {
        let set = &BUILT_IN[self.set];
        let loaded = LOADED[self.set].get_or_init(|| set.load(set.beginnings));
        loaded.as_deref().ok_or_else(|| EngineError::Scan("the keywords of the built-in rules cannot be loaded".into()))
    }
}

fn failed(error: hyperscan::Error) -> EngineError {
    EngineError::Scan(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_in_any_case_are_counted_for_each_pattern_that_they_begin() {
        for set in 0..SETS {
            let beginnings = Beginnings { set };
            let scratch = beginnings.scratch().unwrap();
            let count = |bytes: &[u8]| beginnings.count(bytes, &scratch).unwrap();
            assert_eq!(count(b"x x x"), 0);
            assert_eq!(count(b"a Token here, a token there"), 2 * count(b"TOKEN"));
        }
        let images = Beginnings { set: 0 };
        assert!(images.count(b"key", &images.scratch().unwrap()).unwrap() >= 2);
    }

    #[test]
    fn text_that_is_all_keywords_begins_three_patterns_a_byte_at_most() {
        let beginnings = Beginnings { set: 0 };
        let scratch = beginnings.scratch().unwrap();
        for signature in layersift_rules::Ruleset::built_in().unwrap().signatures {
            for keyword in signature.keywords.iter().filter(|keyword| keyword.len() >= 3) {
                let text = keyword.repeat(100);
                let begun = beginnings.count(text.as_bytes(), &scratch).unwrap();
                // See `UNCOUNTED_PER_BYTE` of `layer_work`.
                assert!(begun as usize <= 3 * text.len(), "{keyword} begins {begun} patterns in {} bytes", text.len());
            }
        }
    }
}
