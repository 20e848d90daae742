//! Lists that keep what ranks first when not everything fits.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use crate::finding::LayerFinding;
use crate::footprint::Footprint;
use crate::gap::{Gap, GapReason};
use crate::image_report::ImageGap;

/// What is kept by rank.
pub trait Rank: Footprint {
    /// `Less` if this is kept rather than `other`. Equal values are interchangeable.
    fn rank(&self, other: &Self) -> Ordering;

    /// How many this one stands for.
    fn count(&self) -> u64 {
        1
    }
}

/// The values that rank first, as many as fit into a number of values and of bytes. Which ones are kept does not depend
/// on the order in which they are added: they are a prefix of all values by rank.
#[derive(Clone, Debug)]
pub struct Ranked<T> {
    kept: BinaryHeap<Worst<T>>,
    most: usize,
    most_bytes: u64,
    bytes: u64,
    /// The first value by rank that was dropped. Whatever ranks after it is dropped, too.
    cutoff: Option<T>,
    dropped: u64,
}

impl<T: Rank> Ranked<T> {
    /// A list of at most `most` values with `most_bytes` in all.
    pub fn new(most: usize, most_bytes: u64) -> Ranked<T> {
        Ranked { kept: BinaryHeap::new(), most, most_bytes, bytes: 0, cutoff: None, dropped: 0 }
    }

    /// Adds `value`, if it is among the first that fit.
    pub fn add(&mut self, value: T) {
        if self.cutoff.as_ref().is_some_and(|cutoff| value.rank(cutoff) != Ordering::Less) {
            self.dropped += value.count();
            return;
        }
        self.bytes += value.footprint();
        self.kept.push(Worst(value));
        while self.kept.len() > self.most || self.bytes > self.most_bytes {
            let Some(Worst(worst)) = self.kept.pop() else { return };
            self.bytes -= worst.footprint();
            self.dropped += worst.count();
            self.cutoff = Some(worst);
        }
    }

    /// Counts values that were dropped elsewhere.
    pub fn add_dropped(&mut self, count: u64) {
        self.dropped += count;
    }

    /// The kept values, the first by rank first, and how many were dropped.
    pub fn into_parts(self) -> (Vec<T>, u64) {
        (self.kept.into_sorted_vec().into_iter().map(|Worst(value)| value).collect(), self.dropped)
    }
}

/// A value in a heap whose top is what ranks last.
#[derive(Clone, Debug)]
struct Worst<T>(T);

impl<T: Rank> Ord for Worst<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.rank(&other.0)
    }
}

impl<T: Rank> PartialOrd for Worst<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Rank> PartialEq for Worst<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Rank> Eq for Worst<T> {}

impl Rank for LayerFinding {
    /// The gravest and surest first, then in the order of the archive.
    fn rank(&self, other: &Self) -> Ordering {
        let grave = |finding: &LayerFinding| (finding.severity, finding.rule.confidence);
        let at = |finding: &LayerFinding| (finding.entry, finding.place.offset);
        let worse = grave(other).cmp(&grave(self));
        let place = || at(self).cmp(&at(other)).then_with(|| self.place.inside.cmp(&other.place.inside));
        worse
            .then_with(place)
            .then_with(|| self.rule.id.cmp(&other.rule.id))
            .then_with(|| self.place.path.cmp(&other.place.path))
            .then_with(|| self.secret.cmp(&other.secret))
    }
}

impl Rank for Gap {
    fn rank(&self, other: &Self) -> Ordering {
        self.cmp(other)
    }

    fn count(&self) -> u64 {
        self.count
    }
}

impl Rank for ImageGap {
    fn rank(&self, other: &Self) -> Ordering {
        (self.layer, &self.gap).cmp(&(other.layer, &other.gap))
    }

    fn count(&self) -> u64 {
        self.gap.count
    }
}

/// Gaps: of each kind as many as fit into a number of bytes, and the number of the others.
#[derive(Clone, Debug)]
pub struct GapList {
    by_reason: BTreeMap<GapReason, Ranked<Gap>>,
    bytes: u64,
}

impl GapList {
    /// A list of at most `bytes` for each kind.
    pub fn new(bytes: u64) -> GapList {
        GapList { by_reason: BTreeMap::new(), bytes }
    }

    /// Adds `gap`, or counts it.
    pub fn add(&mut self, gap: Gap) {
        let list = || Ranked::new(usize::MAX, self.bytes);
        self.by_reason.entry(gap.reason).or_insert_with(list).add(gap);
    }

    /// The gaps in order, with one more for each kind that has others.
    pub fn into_gaps(self) -> Vec<Gap> {
        let mut all = Vec::new();
        for (reason, gaps) in self.by_reason {
            let (kept, dropped) = gaps.into_parts();
            all.extend(kept);
            all.extend((dropped > 0).then(|| Gap::unlisted(reason, dropped)));
        }
        all
    }
}

impl Extend<Gap> for GapList {
    fn extend<I: IntoIterator<Item = Gap>>(&mut self, gaps: I) {
        gaps.into_iter().for_each(|gap| self.add(gap));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A rank, and a number of bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Value(u8, u8);

    impl Rank for Value {
        fn rank(&self, other: &Self) -> Ordering {
            self.cmp(other)
        }
    }

    impl Footprint for Value {
        fn footprint(&self) -> u64 {
            u64::from(self.1)
        }
    }

    proptest! {
        /// The model: sort everything, and take values as long as they fit.
        #[test]
        fn keeps_a_prefix_in_any_order(
            values in prop::collection::vec(any::<(u8, u8)>(), 0..60),
            most in 0_usize..40,
            bytes in 0_u64..2_000,
        ) {
            let mut values: Vec<Value> = values.into_iter().map(|(rank, bytes)| Value(rank, bytes)).collect();
            let mut list = Ranked::new(most, bytes);
            values.iter().for_each(|value| list.add(*value));
            let (kept, dropped) = list.into_parts();
            let count = values.len() as u64;
            values.sort_unstable();
            let mut used = 0;
            let expected: Vec<_> = values
                .into_iter()
                .take(most)
                .take_while(|value| {
                    used += u64::from(value.1);
                    used <= bytes
                })
                .collect();
            prop_assert_eq!(dropped, count - expected.len() as u64);
            // Of equal values any may be kept.
            prop_assert_eq!(kept, expected);
        }
    }

    #[test]
    fn gaps_that_are_not_listed_are_counted() {
        let mut list = GapList::new(1_000);
        for number in 0..500 {
            list.add(Gap::new(GapReason::UnsupportedArchive, "x").at(format!("{number:03}")));
        }
        list.add(Gap::unlisted(GapReason::UnsupportedArchive, 300));
        list.add(Gap::new(GapReason::DamagedTar, "other"));
        let gaps = list.into_gaps();
        assert_eq!(gaps.iter().map(|gap| gap.count).sum::<u64>(), 801);
        assert!(gaps.len() < 20, "{}", gaps.len());
        assert!(gaps.iter().any(|gap| gap.reason == GapReason::DamagedTar));
    }
}
