//! dpkg's status file, and the files of distroless images that have one paragraph each.
//!
//! Source: deb-control(5), dpkg(1), "Package states".

use layersift_model::{Ecosystem, PackageRecord};

use crate::fields::{field, lines};
use crate::kind::Records;

#[derive(Default)]
struct Paragraph {
    name: Option<String>,
    version: Option<String>,
    status: Option<String>,
    architecture: Option<String>,
    source: Option<String>,
}

/// Reads the paragraphs of a status file.
pub(crate) fn read(bytes: &[u8], records: &mut Records) {
    let mut paragraph = Paragraph::default();
    for line in lines(bytes) {
        if line.trim_ascii().is_empty() {
            records.extend(std::mem::take(&mut paragraph).record());
        } else {
            paragraph.line(line);
        }
    }
    records.extend(paragraph.record());
}

impl Paragraph {
    fn line(&mut self, line: &[u8]) {
        // Most lines continue a description or list files.
        let slot = match line.first() {
            Some(b'P') => (&mut self.name, "Package"),
            Some(b'V') => (&mut self.version, "Version"),
            Some(b'A') => (&mut self.architecture, "Architecture"),
            Some(b'S') if line.starts_with(b"Status") => (&mut self.status, "Status"),
            Some(b'S') => (&mut self.source, "Source"),
            _ => return,
        };
        if let Some(value) = field(line, slot.1) {
            *slot.0 = Some(value);
        }
    }

    fn record(self) -> Option<PackageRecord> {
        // A package whose configuration files remain is not installed. Distroless images have no status.
        let is_installed = self.status.is_none_or(|status| {
            let state = status.split_ascii_whitespace().nth(2).unwrap_or_default();
            !matches!(state, "config-files" | "not-installed")
        });
        let (name, version) = (self.name?, self.version?);
        let source = self.source.and_then(|source| source_of(&source, &name, &version));
        let record = PackageRecord::new(Ecosystem::Deb, name, version);
        is_installed.then_some(PackageRecord { architecture: self.architecture, source, ..record })
    }
}

/// `name` or `name (version)`.
fn source_of(text: &str, package: &str, version: &str) -> Option<String> {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let other = rest.trim().trim_start_matches('(').trim_end_matches(')').trim();
    match (name, other) {
        (_, other) if !other.is_empty() && other != version => Some(format!("{name}@{other}")),
        (name, _) if name == package => None,
        (name, _) => Some(name.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(text: &str) -> Vec<PackageRecord> {
        let mut records = Records::default();
        read(text.as_bytes(), &mut records);
        records.into_packages()
    }

    #[test]
    fn installed_packages_with_their_sources() {
        let found = packages(
            "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc\nVersion: 2.36-9\n\
             Description: x\n Package: none\n\nPackage: gcc-12-base\nStatus: install ok half-configured\n\
             Source: gcc-12 (12.2.0-14)\nVersion: 12.2.0-14+b1\n\nPackage: tz\nVersion: 1\n",
        );
        let seen: Vec<_> = found.iter().map(|one| (&*one.name, &*one.version, one.source.as_deref())).collect();
        let expected = [
            ("libc6", "2.36-9", Some("glibc")),
            ("gcc-12-base", "12.2.0-14+b1", Some("gcc-12@12.2.0-14")),
            ("tz", "1", None),
        ];
        assert_eq!(seen, expected);
        assert_eq!(found[0].architecture.as_deref(), Some("amd64"));
    }

    #[test]
    fn removed_packages_are_not_installed() {
        for state in ["deinstall ok config-files", "purge ok not-installed"] {
            assert_eq!(packages(&format!("Package: a\nStatus: {state}\nVersion: 1\n")), []);
        }
        assert_eq!(packages("Package: a\nStatus: install ok installed\n"), []);
    }
}
