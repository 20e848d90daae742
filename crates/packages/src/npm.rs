//! npm's `package.json`.

use std::fmt;

use layersift_model::{Ecosystem, PackageRecord, parse};
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::fields::text;
use crate::kind::{ReadError, Records};

#[derive(Deserialize)]
struct PackageJson {
    name: Option<Field>,
    version: Option<Field>,
    license: Option<Field>,
}

/// A value of which only the text is kept: nothing is made of what somebody put in its place.
enum Field {
    Text(String),
    /// An object, and the text of its `type`, which old licences have.
    Object(Option<String>),
    Other,
}

/// Reads a `package.json`. One without a name is no package; bundlers leave the version out of the packages that they
/// include.
pub(crate) fn read(bytes: &[u8], records: &mut Records) -> Result<(), ReadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // Test data of packages has files of this name that are not JSON, so that is no fault of the image.
    let Ok(found) = parse::json::<PackageJson>(bytes) else { return Ok(()) };
    let whole = |value: &str| Some(text(value.trim().as_bytes())).filter(|text| !text.is_empty());
    let plain = |field: Option<Field>| if let Some(Field::Text(value)) = field { whole(&value) } else { None };
    let Some(name) = plain(found.name) else { return Ok(()) };
    let version = plain(found.version).unwrap_or_default();
    let licence = match found.license {
        Some(Field::Object(old)) => old.and_then(|old| whole(&old)),
        other => plain(other),
    };
    let (namespace, name) = match name.strip_prefix('@').and_then(|scoped| scoped.split_once('/')) {
        Some((scope, name)) => (Some(scope.to_string()), name.to_string()),
        None => (None, name),
    };
    records.add(PackageRecord { namespace, licence, ..PackageRecord::new(Ecosystem::Npm, name, version) });
    Ok(())
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any value")
    }

    fn visit_str<E>(self, value: &str) -> Result<Field, E> {
        Ok(Field::Text(value.into()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Field, A::Error> {
        while all.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Field, A::Error> {
        let mut kind = None;
        while let Some(name) = all.next_key::<String>()? {
            if name == "type" {
                kind = if let Field::Text(value) = all.next_value()? { Some(value) } else { None };
            } else {
                all.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Field::Object(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Option<PackageRecord> {
        let mut records = Records::default();
        read(text.as_bytes(), &mut records).unwrap();
        records.into_packages().pop()
    }

    #[test]
    fn names_scopes_and_licences() {
        let plain = one(r#"{"name":"left-pad","version":"1.3.0","license":{"type":"WTFPL"}}"#).unwrap();
        assert_eq!((plain.namespace.as_deref(), &*plain.name, &*plain.version), (None, "left-pad", "1.3.0"));
        assert_eq!(plain.licence.as_deref(), Some("WTFPL"));
        let scoped = one(r#"{"name":"@types/node","version":"20.1.0","license":"MIT"}"#).unwrap();
        assert_eq!((scoped.namespace.as_deref(), &*scoped.name), (Some("types"), "node"));
    }

    #[test]
    fn a_file_without_a_name_is_no_package() {
        for text in [r#"{"type":"module"}"#, r#"{"name":""}"#, r#"{"name":1}"#, "[", ""] {
            assert_eq!(one(text), None, "{text}");
        }
        assert_eq!(one(r#"{"name":"bundled"}"#).unwrap().version, "");
    }
}
