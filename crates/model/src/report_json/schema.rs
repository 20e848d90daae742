//! The JSON Schema of reports, generated from the types that write them.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::objects::{ReportListObject, ReportObject};

/// A report of one image, or of several.
#[derive(JsonSchema)]
#[schemars(untagged, title = "Layersift report, schema 1")]
#[allow(dead_code, clippy::large_enum_variant)]
enum Document {
    One(ReportObject<'static>),
    Many(ReportListObject<'static>),
}

/// The JSON Schema (draft 2020-12) of everything that [`super::to_json`] writes. Programs that read reports must ignore
/// unknown fields.
pub fn report_schema() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Document>()
}
