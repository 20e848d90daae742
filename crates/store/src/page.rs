//! A part of a list, which says whether it is all of it.

/// The first items of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the order that the call names.
    pub items: Vec<T>,
    /// Whether there are no more.
    pub is_complete: bool,
}

impl<T> Page<T> {
    /// The list without items.
    pub fn empty() -> Page<T> {
        Page { items: Vec::new(), is_complete: true }
    }

    /// The same page of other items.
    pub fn map<U>(self, item: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(item).collect(), is_complete: self.is_complete }
    }

    /// The first `limit` of `items`, which has one more where the list goes on.
    pub(super) fn of(mut items: Vec<T>, limit: usize) -> Page<T> {
        let is_complete = items.len() <= limit;
        items.truncate(limit);
        Page { items, is_complete }
    }
}
