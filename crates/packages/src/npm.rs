//! npm's `package.json`.

use layersift_model::{Ecosystem, PackageRecord};
use serde::Deserialize;
use serde_json::Value;

use crate::kind::{ReadError, Records};

#[derive(Deserialize)]
struct PackageJson {
    name: Option<Value>,
    version: Option<Value>,
    license: Option<Value>,
}

/// Reads a `package.json`. One without a name is no package; bundlers leave the version out of the packages that they
/// include.
pub(crate) fn read(bytes: &[u8], records: &mut Records) -> Result<(), ReadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    // Test data of packages has files of this name that are not JSON, so that is no fault of the image.
    let Ok(found) = serde_json::from_slice::<PackageJson>(bytes) else { return Ok(()) };
    let text = |value: Option<Value>| match value {
        Some(Value::String(text)) if !text.trim().is_empty() => Some(text.trim().to_string()),
        _ => None,
    };
    let Some(name) = text(found.name) else { return Ok(()) };
    let version = text(found.version).unwrap_or_default();
    let licence = match found.license {
        Some(Value::Object(old)) => text(old.get("type").cloned()),
        other => text(other),
    };
    let (namespace, name) = match name.strip_prefix('@').and_then(|scoped| scoped.split_once('/')) {
        Some((scope, name)) => (Some(scope.to_string()), name.to_string()),
        None => (None, name),
    };
    records.add(PackageRecord { namespace, licence, ..PackageRecord::new(Ecosystem::Npm, name, version) });
    Ok(())
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
