//! The JSON form of reports, schema 1: the contract that other programs build on. It changes only by addition.
//!
//! One image is an object; several are a list in `reports`. Rules stand once, in `rules`; a finding names its rule.
//! Fields that a reader does not know are ignored, fields that an older program did not write are left empty and named
//! in [`ReportSet::missing`]. `docs/report.schema.json` is generated from the types below.

mod convert;
mod lines;
#[cfg(feature = "schema")]
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::image_report::ImageReport;

use self::lines::{Many, ReportLine};

/// The version of the schema.
pub const SCHEMA: u32 = 1;

#[cfg(feature = "schema")]
pub use schema::report_schema;

/// The reports of one scan, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportSet {
    /// The reports.
    pub reports: Vec<ImageReport>,
    /// What the program that wrote them left out, in words for a person; nothing for reports of this version.
    pub missing: BTreeSet<&'static str>,
}

/// Why a text cannot be read as reports.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is not JSON, or lacks a field of the schema.
    #[error("invalid report: {0}; expected what `layersift scan --format json` writes")]
    Syntax(#[from] serde_json::Error),
    /// It is of a schema that this version does not know.
    #[error("unknown schema {0}; this version reads schema {SCHEMA}")]
    Schema(u32),
}

impl ReportSet {
    /// The reports in the JSON text `bytes`.
    ///
    /// # Errors
    /// [`ReportError`] for a text that is not a report of schema 1.
    pub fn from_json(bytes: &[u8]) -> Result<ReportSet, ReportError> {
        #[derive(Deserialize)]
        struct Shape {
            schema: u32,
            reports: Option<IgnoredAny>,
        }
        let Shape { schema, reports } = serde_json::from_slice(bytes)?;
        if schema != SCHEMA {
            return Err(ReportError::Schema(schema));
        }
        let (lines, expired) = if reports.is_some() {
            let Many { reports, expired, .. } = serde_json::from_slice(bytes)?;
            (reports, Some(expired))
        } else {
            (vec![serde_json::from_slice(bytes)?], None)
        };
        let mut set = ReportSet::default();
        for mut line in lines {
            if let Some(expired) = &expired {
                line.expired.clone_from(expired);
            }
            line.note_missing(&mut set.missing);
            set.reports.push(line.into());
        }
        Ok(set)
    }
}

/// `reports` as JSON, indented, without a newline at the end. Secrets are masked unless `show_secrets` is set.
///
/// # Errors
/// Never for the report of a scan; the error is that of the serializer.
pub fn to_json(reports: &[ImageReport], show_secrets: bool) -> serde_json::Result<String> {
    let line = |report| ReportLine::new(report, show_secrets);
    if let [one] = reports {
        return serde_json::to_string_pretty(&line(one));
    }
    let mut lines: Vec<ReportLine> = reports.iter().map(line).collect();
    // What is said of the policy is said once, and not with every image.
    let expired = lines.iter_mut().map(|line| std::mem::take(&mut line.expired)).next_back().unwrap_or_default();
    serde_json::to_string_pretty(&Many { schema: SCHEMA, reports: lines, expired })
}

impl Serialize for ImageReport {
    /// The report as an object of the schema, secrets masked.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ReportLine::new(self, false).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ImageReport {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ImageReport, D::Error> {
        let line = ReportLine::deserialize(deserializer)?;
        if line.schema != SCHEMA {
            return Err(D::Error::custom(ReportError::Schema(line.schema)));
        }
        Ok(line.into())
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ImageReport {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        ReportLine::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        ReportLine::json_schema(generator)
    }
}
