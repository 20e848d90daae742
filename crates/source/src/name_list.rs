//! Many names in little memory: a page of a listing may have a million, and several pages are read at a time.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

/// A list of names, which keeps no string for each.
#[derive(Clone, Debug, Default)]
pub(crate) struct NameList {
    /// All names, one after the other, and how long each is.
    text: String,
    lengths: Vec<u16>,
    /// How many were taken, and where the next begins.
    taken: usize,
    start: usize,
}

impl NameList {
    /// The number of names that were not taken.
    pub(crate) fn len(&self) -> usize {
        self.lengths.len() - self.taken
    }

    /// The first name that was not taken.
    pub(crate) fn first_left(&self) -> Option<&str> {
        let length = usize::from(*self.lengths.get(self.taken)?);
        self.text.get(self.start..self.start + length)
    }

    /// The last name.
    pub(crate) fn last_name(&self) -> Option<&str> {
        let length = usize::from(*self.lengths.last()?);
        self.text.get(self.text.len() - length..)
    }

    /// Reads the names of a list of `T`, of which one is kept at a time.
    pub(crate) fn read<'d, T: Deserialize<'d> + AsRef<str>, D: Deserializer<'d>>(
        list: D,
    ) -> Result<NameList, D::Error> {
        list.deserialize_seq(Names(PhantomData::<T>))
    }

    /// Adds a name. Of one that is longer than any valid one, only so much is kept that it stays invalid.
    fn push(&mut self, name: &str) {
        let most = name.len().min(usize::from(u16::MAX));
        let end = (0..=most).rev().find(|end| name.is_char_boundary(*end)).unwrap_or_default();
        let name = &name[..end];
        self.text.push_str(name);
        self.lengths.push(name.len() as u16);
    }
}

impl Iterator for NameList {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let name = self.first_left()?.to_owned();
        self.taken += 1;
        self.start += name.len();
        Some(name)
    }
}

impl<'d> Deserialize<'d> for NameList {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<NameList, D::Error> {
        NameList::read::<String, D>(deserializer)
    }
}

/// Reads what has a name, one after the other.
struct Names<T>(PhantomData<T>);

impl<'d, T: Deserialize<'d> + AsRef<str>> Visitor<'d> for Names<T> {
    type Value = NameList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<A: SeqAccess<'d>>(self, mut names: A) -> Result<NameList, A::Error> {
        let mut list = NameList::default();
        while let Some(named) = names.next_element::<T>()? {
            list.push(named.as_ref());
        }
        list.text.shrink_to_fit();
        list.lengths.shrink_to_fit();
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_in_their_order() {
        let mut list: NameList = serde_json::from_str(r#"["a", "", "caf\u00e9", "z"]"#).unwrap();
        assert_eq!((list.len(), list.first_left(), list.last_name()), (4, Some("a"), Some("z")));
        assert_eq!(list.next().as_deref(), Some("a"));
        assert_eq!((list.len(), list.first_left()), (3, Some("")));
        assert_eq!(list.collect::<Vec<_>>(), ["", "café", "z"]);
        let empty: NameList = serde_json::from_str("[]").unwrap();
        assert_eq!((empty.len(), empty.first_left(), empty.last_name()), (0, None, None));
        assert!(serde_json::from_str::<NameList>(r#"["a", 1]"#).is_err());
    }

    #[test]
    fn a_short_name_takes_a_few_bytes() {
        let names = format!("[{}\"x\"]", "\"x\",".repeat(99_999));
        let list: NameList = serde_json::from_str(&names).unwrap();
        assert_eq!(list.len(), 100_000);
        assert!(list.text.capacity() + 2 * list.lengths.capacity() < 400_000);
    }

    #[test]
    fn a_name_that_is_too_long_stays_so() {
        let mut list = NameList::default();
        list.push(&"é".repeat(40_000));
        list.push("a");
        assert_eq!(list.next().map(|name| name.len()), Some(65_534));
        assert_eq!(list.next().as_deref(), Some("a"));
    }
}
