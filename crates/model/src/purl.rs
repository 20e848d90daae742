//! Package URLs.
//!
//! Source: package-url/purl-spec, `PURL-SPECIFICATION.rst` and the definitions of types. The qualifiers `distro` and
//! `upstream` are those that other inventories write and vulnerability scanners read.

use std::fmt::Write as _;

use crate::inventory::{Distribution, Ecosystem, PackageRecord};

impl PackageRecord {
    /// The package URL in an image of `distribution`.
    pub fn purl(&self, distribution: Option<&Distribution>) -> String {
        let name = canonical_name(self);
        let mut purl = format!("pkg:{}/", self.ecosystem.name());
        for part in namespace(self, distribution).split('/').filter(|part| !part.is_empty()) {
            purl.push_str(&encoded(part));
            purl.push('/');
        }
        let mut parts = name.split('/').filter(|part| !part.is_empty()).map(encoded);
        purl.push_str(&parts.next().unwrap_or_default());
        for part in parts {
            purl.push('/');
            purl.push_str(&part);
        }
        if !self.version.is_empty() {
            let _ = write!(purl, "@{}", encoded(&self.version));
        }
        let mut separator = '?';
        for (key, value) in qualifiers(self, distribution) {
            let _ = write!(purl, "{separator}{key}={}", encoded(&value));
            separator = '&';
        }
        purl
    }
}

fn namespace(record: &PackageRecord, distribution: Option<&Distribution>) -> String {
    let vendor = |default: &str| {
        distribution.map_or_else(|| default.to_string(), |distribution| distribution.id.to_ascii_lowercase())
    };
    match record.ecosystem {
        Ecosystem::Deb => vendor("debian"),
        Ecosystem::Apk => vendor("alpine"),
        Ecosystem::Rpm => vendor("redhat"),
        Ecosystem::Npm => record.namespace.as_ref().map(|scope| format!("@{scope}")).unwrap_or_default(),
        Ecosystem::Maven => record.namespace.clone().unwrap_or_default(),
        Ecosystem::Pypi | Ecosystem::Golang | Ecosystem::Cargo => String::new(),
    }
}

fn canonical_name(record: &PackageRecord) -> String {
    match record.ecosystem {
        Ecosystem::Pypi => record.name.to_lowercase().replace('_', "-"),
        Ecosystem::Deb | Ecosystem::Apk | Ecosystem::Golang => record.name.to_lowercase(),
        Ecosystem::Rpm | Ecosystem::Npm | Ecosystem::Maven | Ecosystem::Cargo => record.name.clone(),
    }
}

/// In the order of their keys, as the canonical form has them.
fn qualifiers(record: &PackageRecord, distribution: Option<&Distribution>) -> Vec<(&'static str, String)> {
    if !matches!(record.ecosystem, Ecosystem::Deb | Ecosystem::Apk | Ecosystem::Rpm) {
        return Vec::new();
    }
    let distro = distribution.map(|known| match &known.version {
        Some(version) => format!("{}-{version}", known.id),
        None => known.id.clone(),
    });
    let all = [
        ("arch", record.architecture.clone()),
        ("distro", distro),
        ("epoch", record.epoch.clone()),
        ("upstream", record.source.clone()),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?))).collect()
}

/// Percent-encodes all but letters, digits, `.`, `-`, `_`, `~` and `:`.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => encoded.push(byte.into()),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(id: &str, version: &str) -> Distribution {
        Distribution { id: id.into(), version: Some(version.into()), title: None }
    }

    #[test]
    fn each_type_as_its_definition_says() {
        let some = |text: &str| Some(text.to_string());
        let new = PackageRecord::new;
        let deb = PackageRecord { architecture: some("amd64"), ..new(Ecosystem::Deb, "libstdc++6", "1:12.2.0+x~1") };
        let rpm = PackageRecord {
            epoch: some("1"),
            architecture: some("x86_64"),
            source: some("curl-7.el9.src.rpm"),
            ..new(Ecosystem::Rpm, "curl", "7.76.1-26.el9")
        };
        let npm = PackageRecord { namespace: some("types"), ..new(Ecosystem::Npm, "node", "20.1.0") };
        let maven = PackageRecord { namespace: some("org.slf4j"), ..new(Ecosystem::Maven, "slf4j-api", "2.0.9") };
        let cases = [
            (
                deb,
                Some(distribution("debian", "12")),
                "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0%2Bx~1?arch=amd64&distro=debian-12",
            ),
            (new(Ecosystem::Apk, "musl", "1.2.4-r2"), None, "pkg:apk/alpine/musl@1.2.4-r2"),
            (
                rpm,
                Some(distribution("rocky", "9.4")),
                "pkg:rpm/rocky/curl@7.76.1-26.el9?arch=x86_64&distro=rocky-9.4&epoch=1&upstream=curl-7.el9.src.rpm",
            ),
            (npm, None, "pkg:npm/%40types/node@20.1.0"),
            (new(Ecosystem::Pypi, "Typing_Extensions", "4.16.0"), None, "pkg:pypi/typing-extensions@4.16.0"),
            (maven, None, "pkg:maven/org.slf4j/slf4j-api@2.0.9"),
            (
                new(Ecosystem::Golang, "github.com/Azure/go-ansiterm", "v0.0.0-2021+incompatible"),
                None,
                "pkg:golang/github.com/azure/go-ansiterm@v0.0.0-2021%2Bincompatible",
            ),
            (new(Ecosystem::Cargo, "serde", "1.0.1"), None, "pkg:cargo/serde@1.0.1"),
        ];
        for (record, distribution, expected) in cases {
            assert_eq!(record.purl(distribution.as_ref()), expected);
        }
    }
}
