//! Alpine's database of installed packages.
//!
//! Source: Alpine's "Apk spec", "Installed database v2": paragraphs of `X:value` lines.

use layersift_model::{Ecosystem, PackageRecord};

use crate::fields::{lines, text};
use crate::kind::Records;

#[derive(Default)]
struct Paragraph {
    name: String,
    version: String,
    architecture: Option<String>,
    licence: Option<String>,
    origin: Option<String>,
}

/// Reads the paragraphs of `lib/apk/db/installed`.
pub(crate) fn read(bytes: &[u8], records: &mut Records) {
    let mut paragraph = Paragraph::default();
    for line in lines(bytes) {
        match line.split_at_checked(2) {
            Some((b"P:", value)) => paragraph.name = text(value),
            Some((b"V:", value)) => paragraph.version = text(value),
            Some((b"A:", value)) => paragraph.architecture = Some(text(value)),
            Some((b"L:", value)) => paragraph.licence = Some(text(value)),
            Some((b"o:", value)) => paragraph.origin = Some(text(value)),
            _ if line.is_empty() => records.extend(std::mem::take(&mut paragraph).record()),
            _ => {}
        }
    }
    records.extend(paragraph.record());
}

impl Paragraph {
    fn record(self) -> Option<PackageRecord> {
        let is_whole = !self.name.is_empty() && !self.version.is_empty();
        let source = self.origin.filter(|origin| *origin != self.name && !origin.is_empty());
        let record = PackageRecord::new(Ecosystem::Apk, self.name, self.version);
        let (architecture, licence) = (self.architecture, self.licence);
        is_whole.then_some(PackageRecord { architecture, licence, source, ..record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_with_their_origins() {
        let mut records = Records::default();
        let text = "C:Q1x=\nP:musl-utils\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\nF:sbin\nR:x\n\nP:musl\nV:1.2.4-r2\n\
                    o:musl\n\nP:broken\n\n";
        read(text.as_bytes(), &mut records);
        let found = records.into_packages();
        assert_eq!(found.len(), 2);
        assert_eq!((&*found[0].name, &*found[0].version), ("musl-utils", "1.2.4-r2"));
        assert_eq!((found[0].source.as_deref(), found[0].licence.as_deref()), (Some("musl"), Some("MIT")));
        assert_eq!((found[1].source.as_deref(), found[1].architecture.as_deref()), (None, None));
    }
}
