//! Keys: what Harbor tells findings apart by, in at most 2,000 bytes of an index that holds 2,704.

use super::names::Names;
use layersift_model::{Digest, Finding, ImageGap, ImageReport, LayerRef, Location, changes_display};

/// Bytes of a package.
pub(in crate::harbor) const MOST_PACKAGE: usize = 1_500;

/// Bytes of a rule's id in an id. Longer ones are hashed.
const MOST_RULE: usize = 80;

/// Bytes of a field's name in an id.
const MOST_FIELD: usize = 200;

/// What stands between a file and the members of an archive.
const MEMBER: &str = " \u{25b8} ";

/// The digest of what has none.
const UNKNOWN: &str = "unknown";

/// The key of a finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) package: String,
    pub(super) version: String,
}

impl Key {
    pub(super) fn of_finding(finding: &Finding, report: &ImageReport, names: &Names) -> Key {
        let package = printable(&names.masked(&place(finding)));
        let mut version = version(finding, report);
        if finding.severity != finding.rule.severity {
            version = format!("{version}-{}", finding.severity);
        }
        let rule = rule(&finding.rule.id);
        let id = match (finding.fingerprint(), &finding.location) {
            (Some(fingerprint), _) => format!("SECRET-{rule}-{}", eight_digits(fingerprint)),
            (None, Location::Config(_)) => format!("EXPOSURE-{rule}-{}", field(&package)),
            (None, _) => format!("FINDING-{rule}-{}", &Digest::of(package.as_bytes()).hex()[..8]),
        };
        Key { id, package: shortened(&package, MOST_PACKAGE), version }
    }

    pub(super) fn of_gap(gap: &ImageGap, report: &ImageReport, names: &Names) -> Key {
        let reason = gap.gap.reason.name();
        let path = gap.gap.path.as_ref().map(|path| shortened(&printable(&names.masked(path)), MOST_PACKAGE));
        let Some(index) = gap.layer else {
            let image = Key::of_image(reason, digest_of(report));
            return Key { package: path.unwrap_or(image.package), ..image };
        };
        let layer = report.layers.iter().find(|layer| layer.index == index);
        let digest =
            layer.and_then(|layer| layer.digest.as_ref().or(layer.diff_id.as_ref())).map_or(UNKNOWN, Digest::short);
        Key {
            id: format!("GAP-{reason}"),
            package: path.unwrap_or_else(|| "layer".into()),
            version: format!("L{index}-{digest}-unread"),
        }
    }

    /// The key of what is not known of an image as a whole.
    pub(super) fn of_image(reason: &str, digest: &str) -> Key {
        Key { id: format!("GAP-{reason}"), package: "image".into(), version: digest.into() }
    }
}

/// The place of a finding inside the image.
fn place(finding: &Finding) -> String {
    match &finding.location {
        Location::File(file) => file.full_path(MEMBER),
        Location::Config(field) => field.clone(),
        Location::Document(found) => {
            let json_path = found.document.json_path.as_ref().map(|path| format!(":{path}")).unwrap_or_default();
            let name = format!("{}{json_path}", found.document.kind);
            found.inside.iter().fold(name, |name, member| name + MEMBER + member)
        }
        Location::Image => "image".into(),
    }
}

/// What else tells a finding apart: the layer that it is in and whether it is still there, or the document.
fn version(finding: &Finding, report: &ImageReport) -> String {
    match &finding.location {
        Location::File(file) => {
            let LayerRef { index, digest, diff_id, .. } = &file.layer;
            let digest = digest.as_ref().or(diff_id.as_ref()).map_or(UNKNOWN, Digest::short);
            format!("L{index}-{digest}-{}", file.state.name())
        }
        Location::Document(found) => found.document.digest.as_ref().map_or(UNKNOWN, Digest::short).into(),
        Location::Config(_) | Location::Image => digest_of(report).into(),
    }
}

fn digest_of(report: &ImageReport) -> &str {
    report.config_digest.as_ref().or(report.manifest_digest.as_ref()).map_or(UNKNOWN, Digest::short)
}

/// A rule's id in an id. No part of it between two `-` looks like the part that follows it.
fn rule(id: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    let is_eight_digits = |part: &str| part.len() == 8 && part.bytes().all(is_hex);
    let is_unlike = !id.split('-').any(is_eight_digits);
    if (1..=MOST_RULE).contains(&id.len()) && id.bytes().all(is_plain) && is_unlike {
        return id.into();
    }
    format!("~{}", &Digest::of(id.as_bytes()).hex()[..16])
}

/// A field's name in an id, without `-`.
fn field(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '-' | '%' | ' ' => text.push_str(&format!("%{:02X}", u32::from(c))),
            c => text.push(c),
        }
    }
    if text.len() <= MOST_FIELD {
        return text;
    }
    format!("{}%~{}", beginning(&text, MOST_FIELD - 34), &Digest::of(text.as_bytes()).hex()[..32])
}

fn eight_digits(fingerprint: &str) -> String {
    match fingerprint.get(..8) {
        Some(digits) if digits.bytes().all(is_hex) => digits.into(),
        _ => Digest::of(fingerprint.as_bytes()).hex()[..8].into(),
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// `text` with control characters as escapes, as [`layersift_model::ImagePath`] prints them. It is never empty.
fn printable(text: &str) -> String {
    if text.is_empty() {
        return "/".into();
    }
    let mut printed = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => printed.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if changes_display(c) => printed.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => printed.push(c),
        }
    }
    printed
}

/// `text` in at most `most` bytes: its beginning, its end and its hash.
pub(in crate::harbor) fn shortened(text: &str, most: usize) -> String {
    const AROUND: usize = "…".len() + "…#".len() + 32;
    if text.len() <= most {
        return text.into();
    }
    let half = most.saturating_sub(AROUND) / 2;
    let hash = Digest::of(text.as_bytes());
    format!("{}…{}…#{}", beginning(text, half), end(text, half), &hash.hex()[..32])
}

/// The whole characters in the first `most` bytes.
fn beginning(text: &str, most: usize) -> &str {
    let mut at = most.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    &text[..at]
}

/// The whole characters in the last `most` bytes.
fn end(text: &str, most: usize) -> &str {
    let mut at = text.len() - most.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    &text[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_id_cannot_be_taken_for_each_other() {
        assert_eq!(rule("acme.api-key"), "acme.api-key");
        for odd in ["", "a-deadbeef-b", "deadbeef", "A.b", "a b", "ä", &"a".repeat(81)] {
            let hashed = rule(odd);
            assert!(hashed.starts_with('~') && hashed.len() == 17, "{odd}: {hashed}");
        }
        assert_eq!(field("ExposedPorts.9229/tcp"), "ExposedPorts.9229/tcp");
        assert_eq!(field("Labels.my-key"), "Labels.my%2Dkey");
        assert!(field(&"-".repeat(1_000)).len() <= MOST_FIELD);
        assert_eq!((&eight_digits("339bec78f5fbe347")[..], eight_digits("ä").len()), ("339bec78", 8));
    }

    #[test]
    fn a_long_path_keeps_its_ends_and_its_hash() {
        let path = format!("app/{}/server.pem", "ä".repeat(5_000));
        let short = shortened(&path, MOST_PACKAGE);
        assert!(short.len() <= MOST_PACKAGE && short.len() > MOST_PACKAGE - 8);
        assert!(short.starts_with("app/ä") && short.contains("/server.pem…#"), "{short}");
        assert_ne!(short, shortened(&path.replacen('ä', "ö", 2_000), MOST_PACKAGE));
        for most in 0..60 {
            assert!(shortened("ä".repeat(100).as_str(), most).len() <= most.max(41));
        }
    }

    #[test]
    fn characters_that_hurt_are_escaped() {
        assert_eq!(printable("a\0b\n\u{202e}\\x"), "a\\x00b\\x0a\\u{202e}\\x");
        assert_eq!(printable(""), "/");
    }
}
