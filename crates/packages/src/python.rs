//! Installed Python distributions: `METADATA` of a `.dist-info`, `PKG-INFO` of an `.egg-info`, or an `.egg-info` file.
//!
//! Source: PyPA, "Core metadata specifications".

use layersift_model::{Ecosystem, PackageRecord};

use crate::fields::{field, lines};
use crate::kind::Records;

/// Reads the fields before the first empty line; the description follows it.
pub(crate) fn read(bytes: &[u8], records: &mut Records) {
    let (mut name, mut version, mut licence, mut expression) = (None, None, None, None);
    for line in lines(bytes).take_while(|line| !line.is_empty()) {
        for (slot, label) in [
            (&mut name, "Name"),
            (&mut version, "Version"),
            (&mut licence, "License"),
            (&mut expression, "License-Expression"),
        ] {
            if slot.is_none() {
                *slot = field(line, label);
            }
        }
    }
    let (Some(name), Some(version)) = (name, version) else { return };
    // Some put the whole text of the licence there.
    let licence = expression.or(licence).filter(|licence| licence.len() <= 100 && licence != "UNKNOWN");
    records.add(PackageRecord { licence, ..PackageRecord::new(Ecosystem::Pypi, name, version) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_before_the_description() {
        let mut records = Records::default();
        let text = b"Metadata-Version: 2.4\r\nName: PyYAML\r\nVersion: 6.0.3\r\nLicense: MIT\r\n\r\nName: other\r\n";
        read(text, &mut records);
        read(b"Name: a\n\nVersion: 1\n", &mut records);
        let found = records.into_packages();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (&*found[0].name, &*found[0].version, found[0].licence.as_deref()),
            ("PyYAML", "6.0.3", Some("MIT"))
        );
    }
}
