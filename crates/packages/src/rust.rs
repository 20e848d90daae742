//! The crates that cargo-auditable records in an executable: JSON, compressed with zlib, in a section of its own.
//!
//! Source: rust-secure-code/cargo-auditable, `PARSING.md`.

use std::io::Read;

use layersift_model::{Ecosystem, PackageRecord, parse};
use serde::Deserialize;

use crate::executable::Sections;
use crate::fields::text;
use crate::kind::{ReadError, Records};

/// The most bytes of the JSON. cargo-auditable's own reader has the same limit.
const MAX_JSON: u64 = 8 << 20;

#[derive(Deserialize)]
struct Recorded {
    packages: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    #[serde(default)]
    kind: Option<String>,
}

/// Reads the crates that are in the program. Those that only took part in its build are not.
pub(crate) fn read(sections: &Sections<'_>, records: &mut Records) -> Result<(), ReadError> {
    let damaged = |what| ReadError::Damaged("list of crates in the executable", what);
    let Some(section) = sections.crates else { return Ok(()) };
    let packed = section.map_err(|_| damaged("its section is damaged"))?;
    let mut json = Vec::new();
    let decoder = flate2::read::ZlibDecoder::new(packed);
    decoder.take(MAX_JSON).read_to_end(&mut json).map_err(|_| damaged("its compression is damaged"))?;
    let found: Recorded = parse::json(&json).map_err(|_| damaged("it is not the JSON that it should be"))?;
    for found in found.packages.into_iter().filter(|found| found.kind.as_deref().is_none_or(|kind| kind == "runtime")) {
        records.add(PackageRecord::new(Ecosystem::Cargo, text(found.name.as_bytes()), text(found.version.as_bytes())));
    }
    Ok(())
}
