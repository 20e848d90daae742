//! The gaps of an image, of which as many are listed as there is memory for; the others are counted.

use std::collections::BTreeMap;

use layersift_model::{Gap, GapReason, ImageGap, Ranked};

/// Collects gaps. Of each kind, it keeps as many as fit into the same number of bytes.
pub(crate) struct ListedGaps {
    bytes: u64,
    by_reason: BTreeMap<GapReason, Ranked<ImageGap>>,
}

impl ListedGaps {
    /// An empty list with `bytes` for the gaps of a kind.
    pub(crate) fn new(bytes: u64) -> ListedGaps {
        ListedGaps { bytes, by_reason: BTreeMap::new() }
    }

    /// Adds a gap.
    pub(crate) fn add(&mut self, gap: ImageGap) {
        self.by_reason.entry(gap.gap.reason).or_insert_with(|| Ranked::new(usize::MAX, self.bytes)).add(gap);
    }

    /// The gaps that are kept, and one for each kind that others were left out of.
    pub(crate) fn into_gaps(self) -> Vec<ImageGap> {
        let mut all = Vec::new();
        for (reason, gaps) in self.by_reason {
            let (kept, dropped) = gaps.into_parts();
            all.extend(kept);
            all.extend((dropped > 0).then(|| ImageGap { gap: Gap::unlisted(reason, dropped), layer: None }));
        }
        all
    }
}

impl Extend<ImageGap> for ListedGaps {
    fn extend<I: IntoIterator<Item = ImageGap>>(&mut self, gaps: I) {
        gaps.into_iter().for_each(|gap| self.add(gap));
    }
}
