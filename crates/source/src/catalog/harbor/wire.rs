//! The JSON of Harbor, as far as it is used, and its times. Other fields are ignored.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use jiff::Timestamp;

use crate::name_list::NameList;

/// A project.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Project {
    pub(super) name: String,
    /// The registry that it is a proxy cache of, if it is one.
    pub(super) registry_id: Option<i64>,
    /// How many repositories it has.
    pub(super) repo_count: Option<u64>,
    /// Its settings, as texts.
    #[serde(default)]
    pub(super) metadata: Option<ProjectMetadata>,
}

/// The settings of a project.
#[derive(Debug, serde::Deserialize)]
pub(super) struct ProjectMetadata {
    /// `true` if what is pushed is scanned.
    #[serde(default)]
    auto_scan: Option<String>,
}

impl Project {
    /// Whether what is pushed is scanned.
    pub(super) fn is_scanned_automatically(&self) -> bool {
        self.metadata.as_ref().and_then(|metadata| metadata.auto_scan.as_deref()) == Some("true")
    }
}

/// A repository.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Repository {
    /// The name, with the project's in front.
    pub(super) name: String,
    /// How many artifacts it has.
    pub(super) artifact_count: Option<u64>,
}

/// An artifact.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Artifact {
    pub(super) digest: String,
    pub(super) tags: Option<Tags>,
    pub(super) push_time: Option<String>,
}

/// The names of the tags of an artifact.
#[derive(Debug, Default)]
pub(super) struct Tags(pub(super) NameList);

impl<'d> Deserialize<'d> for Tags {
    fn deserialize<D: Deserializer<'d>>(deserializer: D) -> Result<Tags, D::Error> {
        NameList::read::<Tag, D>(deserializer).map(Tags)
    }
}

/// A tag of an artifact.
#[derive(serde::Deserialize)]
struct Tag {
    name: String,
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

/// An item of a listing.
pub(super) trait Item {
    /// The name by which an item is recognized if it is listed again.
    fn key(&self) -> &str;
}

impl Item for Project {
    fn key(&self) -> &str {
        &self.name
    }
}

impl Item for Repository {
    fn key(&self) -> &str {
        &self.name
    }
}

impl Item for Artifact {
    fn key(&self) -> &str {
        &self.digest
    }
}

/// The items of a page, at most `most`: an item may take more memory than its JSON.
pub(super) fn items<T: for<'d> Deserialize<'d>>(bytes: &[u8], most: usize) -> serde_json::Result<Vec<T>> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let items = Items { most, of: PhantomData }.deserialize(&mut reader)?;
    reader.end().map(|()| items)
}

struct Items<T> {
    most: usize,
    of: PhantomData<T>,
}

impl<'d, T: Deserialize<'d>> DeserializeSeed<'d> for Items<T> {
    type Value = Vec<T>;

    fn deserialize<D: Deserializer<'d>>(self, deserializer: D) -> Result<Vec<T>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'d, T: Deserialize<'d>> Visitor<'d> for Items<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} items", self.most)
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
        // Go writes `null` for an empty list.
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'d>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            if items.len() == self.most {
                return Err(A::Error::invalid_length(self.most + 1, &self));
            }
            items.push(item);
        }
        Ok(items)
    }
}

/// A time of RFC 3339, such as `2026-01-31T12:00:00.123Z`, in whole seconds since 1970; `None` if it is not one,
/// or later than 9999-12-30T22:00:00Z, which is the last that `jiff` has.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let time: Timestamp = text.parse().ok()?;
    // `as_second` rounds towards zero, and thus up before 1970.
    Some(time.as_second() - i64::from(time.subsec_nanosecond() < 0))
}

/// A time as Harbor's queries have it, in UTC: `2026-01-31T12:00:00`. Times before 1970 become 1970, and times after
/// the last of `jiff` become the last.
pub(super) fn written(seconds: i64) -> String {
    let latest = Timestamp::MAX.as_second();
    let time = Timestamp::from_second(seconds.clamp(0, latest)).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        // Seconds by `date -u -d TIME +%s`.
        for (text, expected) in [
            ("1970-01-01T00:00:00", 0),
            ("1972-02-29T00:00:00", 68_169_600),
            ("2000-02-29T23:59:59", 951_868_799),
            ("2026-01-01T00:00:00", 1_767_225_600),
            ("2100-03-01T00:00:01", 4_107_542_401),
            ("9999-12-30T22:00:00", 253_402_207_200),
        ] {
            assert_eq!(seconds(&format!("{text}Z")), Some(expected), "{text}");
            assert_eq!(written(expected), text);
        }
        assert_eq!(seconds("2026-01-01T01:30:00.999999+01:30"), Some(1_767_225_600));
        assert_eq!(seconds("2025-12-31t22:00:00-02:00"), Some(1_767_225_600));
        assert_eq!(seconds("0001-01-01T00:00:00.000Z"), Some(-62_135_596_800));
        assert_eq!(written(i64::MIN), "1970-01-01T00:00:00");
        assert_eq!(written(i64::MAX), "9999-12-30T22:00:00");
    }

    #[test]
    fn invalid_times() {
        for text in ["", "2026-01-01", "12:00:00", "2026-01-01T00:00:00", "2026-02-30T00:00:00Z", "yesterday"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn pages_are_bounded_lists() {
        assert_eq!(items::<u8>(b"[1,2]", 2).unwrap(), [1, 2]);
        assert!(items::<u8>(b"null", 2).unwrap().is_empty());
        for wrong in ["[1,2,3]", "{}", "[1", "[1]]", "", "1", "[\"1\"]", "[300]"] {
            assert!(items::<u8>(wrong.as_bytes(), 2).is_err(), "{wrong}");
        }
    }
}
