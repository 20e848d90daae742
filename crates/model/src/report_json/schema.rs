//! The JSON Schema of reports, made of the types that they are written with.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::lines::{Many, ReportLine};

/// A report of one image, or of several.
#[derive(JsonSchema)]
#[schemars(untagged, title = "Layersift report, schema 1")]
#[allow(dead_code, clippy::large_enum_variant)]
enum Document {
    One(ReportLine),
    Many(Many),
}

/// The JSON Schema (draft 2020-12) of everything that [`super::to_json`] writes. Programs that read reports must allow
/// fields that it does not name.
pub fn report_schema() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Document>()
}
