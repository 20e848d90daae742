//! The JSON form of reports, schema 1: the contract that other programs build on. It changes only by addition.
//!
//! One image is an object; several are a list in `reports`. Each rule is listed once, in `rules`; findings refer to
//! it by id. Unknown fields are ignored; fields that an older version did not write are left empty and listed in
//! [`ReportSet::missing`]. `docs/report.schema.json` is generated from the types below.

mod convert;
mod objects;
#[cfg(feature = "schema")]
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io::Write;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::image_report::ImageReport;
use crate::json_output;
use crate::parse::{self, ParseError};

use self::objects::{ReportListObject, ReportObject};

/// The version of the schema.
pub const SCHEMA: u32 = 1;

#[cfg(feature = "schema")]
pub use schema::report_schema;

/// The reports of one scan, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportSet {
    /// The reports.
    pub reports: Vec<ImageReport>,
    /// Fields that an older version of the program did not write, described for people; empty for this version.
    pub missing: BTreeSet<&'static str>,
}

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The text is not JSON, or lacks a field of the schema.
    #[error("invalid report: {0}; expected what `layersift scan --format json` writes")]
    Syntax(#[from] ParseError),
    /// The report has a schema that this version does not know.
    #[error("unknown schema {0}; this version reads schema {SCHEMA}")]
    Schema(u32),
}

impl ReportSet {
    /// Reads one or several reports from JSON.
    ///
    /// # Errors
    /// [`ReportError`] for a text that is not a report of schema 1.
    pub fn from_json(bytes: &[u8]) -> Result<ReportSet, ReportError> {
        #[derive(Deserialize)]
        struct Shape {
            schema: u32,
            reports: Option<IgnoredAny>,
        }
        let Shape { schema, reports } = parse::json(bytes)?;
        if schema != SCHEMA {
            return Err(ReportError::Schema(schema));
        }
        let (objects, expired) = if reports.is_some() {
            let ReportListObject { reports, expired, .. } = parse::json(bytes)?;
            (reports, Some(expired))
        } else {
            (vec![parse::json(bytes)?], None)
        };
        let mut set = ReportSet::default();
        for mut object in objects {
            if let Some(expired) = &expired {
                object.expired.clone_from(expired);
            }
            object.note_missing(&mut set.missing);
            set.reports.push(object.into());
        }
        Ok(set)
    }
}

/// `reports` as indented JSON without a final newline. Secrets are masked unless `show_secrets` is set.
///
/// # Errors
/// The error of the serializer, which does not occur for the report of a scan.
pub fn to_json(reports: &[ImageReport], show_secrets: bool) -> serde_json::Result<String> {
    let mut bytes = Vec::new();
    write_json(reports, show_secrets, &mut bytes)?;
    String::from_utf8(bytes).map_err(serde::ser::Error::custom)
}

/// Writes `reports` to `out`, in the form of [`to_json`]. A report may be large: no more of it than is written is made.
///
/// # Errors
/// Those of `out`.
pub fn write_json(reports: &[ImageReport], show_secrets: bool, out: &mut dyn Write) -> serde_json::Result<()> {
    let object = |report| ReportObject::new(report, show_secrets);
    if let [one] = reports {
        return json_output::write_pretty(out, &object(one));
    }
    let mut objects: Vec<ReportObject<'_>> = reports.iter().map(object).collect();
    // One policy judges all images: its expired exceptions are written once.
    let expired = objects.iter_mut().map(|object| std::mem::take(&mut object.expired)).next_back().unwrap_or_default();
    json_output::write_pretty(out, &ReportListObject { schema: SCHEMA, reports: objects, expired })
}

impl Serialize for ImageReport {
    /// Writes the report as an object of the schema, with secrets masked.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ReportObject::new(self, false).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ImageReport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ImageReport, D::Error> {
        let object = ReportObject::deserialize(deserializer)?;
        if object.schema != SCHEMA {
            return Err(D::Error::custom(ReportError::Schema(object.schema)));
        }
        Ok(object.into())
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ImageReport {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        ReportObject::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        ReportObject::json_schema(generator)
    }
}
