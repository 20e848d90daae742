//! Lists that are written while their values are made, so that a document never is in memory as a whole.

use serde::{Serialize, Serializer};

/// A list whose values are made one after the other, each time that it is written.
pub(crate) struct Each<'d, T>(Box<dyn Fn() -> Box<dyn Iterator<Item = T> + 'd> + 'd>);

impl<'d, T> Each<'d, T> {
    /// The list of what `values` iterates over.
    pub(crate) fn new<I: Iterator<Item = T> + 'd>(values: impl Fn() -> I + 'd) -> Each<'d, T> {
        Each(Box::new(move || Box::new(values())))
    }
}

impl<T: Serialize> Serialize for Each<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}
