//! The crates that cargo-auditable records in an executable: JSON, compressed with zlib, in a section of its own.
//!
//! Source: rust-secure-code/cargo-auditable, `PARSING.md`.

use std::fmt;
use std::io::Read;

use layersift_model::{Ecosystem, PackageRecord, parse};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::executable::Sections;
use crate::fields::text;
use crate::kind::{ReadError, Records};
use crate::work::{INFLATED, PARSED};

/// The most bytes of the JSON. cargo-auditable's own reader has the same limit.
pub(crate) const MAX_JSON: u64 = 8 << 20;

#[derive(Deserialize)]
struct Recorded {
    packages: Listed,
}

/// The crates of the list, as far as there is room for records.
#[derive(Default)]
struct Listed(Records);

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
    let inflated = decoder.take(MAX_JSON).read_to_end(&mut json);
    records.work += packed.len() as u64 * INFLATED + json.len() as u64 * (INFLATED + PARSED);
    inflated.map_err(|_| damaged("its compression is damaged"))?;
    let found: Recorded = parse::json(&json).map_err(|_| damaged("it is not the JSON that it should be"))?;
    records.append(found.packages.0);
    Ok(())
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Listed, D::Error> {
        deserializer.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Listed;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a list of crates")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Listed, A::Error> {
        let mut listed = Listed::default();
        while let Some(Crate { name, version, kind }) = all.next_element()? {
            if kind.is_none_or(|kind| kind == "runtime") {
                let (name, version) = (text(name.as_bytes()), text(version.as_bytes()));
                listed.0.add(PackageRecord::new(Ecosystem::Cargo, name, version));
            }
        }
        Ok(listed)
    }
}
