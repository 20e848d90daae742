//! The texts of a finding: functions of its rule, of the masked secret, and of its state.

use crate::admission::tidy;
use crate::harbor::document::{Level, Vulnerability, weakness_link};
use layersift_model::{Finding, GapReason, Location, State};
use serde_json::json;

/// What is written of an image without a report.
pub(super) const NO_REPORT: &str =
    "There is no report of this image: nothing of it was read. Secrets in it are not in this list.";

/// Bytes of each text of a rule.
const MOST_TEXT: usize = 1_500;

/// Bytes of a title, and of a masked secret.
const MOST_TITLE: usize = 200;

/// Bytes of a link.
const MOST_LINK: usize = 1_000;

/// Links of a finding.
const MOST_LINKS: usize = 8;

/// Where weaknesses are described.
const WEAKNESSES: &str = "https://cwe.mitre.org/data/definitions/";

/// What stays the same wherever a rule finds the same.
pub(super) struct OfRule {
    description: String,
    links: Vec<String>,
    weaknesses: Vec<u32>,
    attributes: serde_json::Value,
}

impl OfRule {
    pub(super) fn of(finding: &Finding) -> OfRule {
        let rule = &finding.rule;
        let mut weaknesses: Vec<u32> =
            rule.references.iter().filter_map(|link| weakness(link)).take(MOST_LINKS).collect();
        if weaknesses.is_empty() {
            weaknesses.push(usual_weakness(finding));
        }
        let mut links: Vec<String> = rule.references.iter().filter_map(|link| whole(link)).take(MOST_LINKS).collect();
        if links.is_empty() {
            links.extend(weaknesses.first().copied().map(weakness_link));
        }
        let attributes = json!({"layersift": {
            "rule": tidy(&rule.id, MOST_TITLE),
            "title": tidy(&rule.title, MOST_TITLE),
            "confidence": rule.confidence.name(),
        }});
        OfRule { description: description(finding), links, weaknesses, attributes }
    }

    pub(super) fn into_vulnerability(
        self,
        id: String,
        package: String,
        version: String,
        level: Level,
    ) -> Vulnerability {
        Vulnerability {
            id,
            package,
            version,
            fix_version: String::new(),
            severity: level.name().into(),
            status: String::new(),
            description: self.description,
            links: self.links,
            preferred_cvss: None,
            cwe_ids: self.weaknesses.iter().map(|number| format!("CWE-{number}")).collect(),
            vendor_attributes: self.attributes.as_object().cloned(),
        }
    }
}

fn description(finding: &Finding) -> String {
    let rule = &finding.rule;
    let mut text = tidy(&rule.title, MOST_TITLE);
    if let Some(secret) = &finding.secret {
        text.push_str(&format!(": {}", tidy(&secret.masked, MOST_TITLE)));
    }
    text.push('.');
    for part in [&rule.what[..], &rule.risk, &rule.fix, state(finding)] {
        if !part.trim().is_empty() {
            text.push(' ');
            text.push_str(&tidy(part, MOST_TEXT));
        }
    }
    text
}

/// What the state in the version means.
fn state(finding: &Finding) -> &'static str {
    match finding.state() {
        State::Present => "",
        State::Overwritten => "A later layer replaces the file; who can pull the image still gets it with its layer.",
        State::Deleted => "A later layer deletes the file; who can pull the image still gets it with its layer.",
    }
}

/// The weakness of what its rule names none for.
fn usual_weakness(finding: &Finding) -> u32 {
    match (&finding.secret, &finding.location) {
        // Use of hard-coded credentials.
        (Some(_), _) => 798,
        // Exposure of a resource to the wrong sphere.
        (None, Location::Config(_) | Location::Image) => 668,
        // Sensitive information in a file that others can get.
        (None, Location::File(_) | Location::Document(_)) => 538,
    }
}

fn weakness(link: &str) -> Option<u32> {
    let number = link.strip_prefix(WEAKNESSES)?.strip_suffix(".html")?;
    number.parse().ok().filter(|number| (1..100_000).contains(number))
}

/// A reference that is a link. Harbor splits links at `|`.
fn whole(link: &str) -> Option<String> {
    let is_link = link.starts_with("https://") || link.starts_with("http://");
    let is_clean = link.chars().all(|c| c.is_ascii_graphic() || c.is_alphanumeric());
    (is_link && is_clean && link.len() <= MOST_LINK).then(|| link.replace('|', "%7C"))
}

/// A gap in words.
pub(super) fn gap(reason: GapReason) -> String {
    let what = match reason {
        GapReason::MissingBlob => "a part that the manifest names is missing",
        GapReason::DigestMismatch => "a part does not have the digest or the size that the manifest names",
        GapReason::DiffIdMismatch => "the layers are not those that the configuration names",
        GapReason::DamagedCompression => "a compressed layer is damaged or cut off",
        GapReason::UnsupportedCompression => "a layer is compressed in a way that is not supported",
        GapReason::DamagedTar => "the archive of a layer is damaged or cut off",
        GapReason::TrailingData => "there are bytes after the end of an archive",
        GapReason::AmbiguousArchive => {
            "readers differ in what an archive or a document has, so a runtime may see other \
                                        files"
        }
        GapReason::ForeignLayer => "a layer is kept somewhere else",
        GapReason::NotATar => "a layer is not an archive of files, or it is encrypted",
        GapReason::LayerTooLarge => "a layer is larger than the limit",
        GapReason::TooManyEntries => "a layer has more files than the limit",
        GapReason::TooManyFindings => "a file has more findings of one rule than the limit",
        GapReason::DocumentTooLarge => "a document is larger than the limit",
        GapReason::DamagedDocument => "a document is damaged",
        GapReason::TooManyReferrers => "more refers to the image than the limit",
        GapReason::TooMuchEncoded => "a file has more encoded data than the limit",
        GapReason::Unreadable => "something could not be read",
        GapReason::DamagedArchive => "an archive in a file is damaged or cut off",
        GapReason::EncryptedMember => "a file in an archive is encrypted",
        GapReason::UnsupportedArchive => "an archive in a file has a form that is not supported",
        GapReason::ArchiveTooDeep => "archives contain each other deeper than the limit",
        GapReason::ArchiveTooLarge => "the archives in a file are larger than the limit",
        GapReason::DeadlineExceeded => "the time for the scan was over",
        GapReason::Cancelled => "the scan was ended",
        other => return in_words(other.name()),
    };
    in_words(what)
}

fn in_words(what: &str) -> String {
    format!("Not all of the image was read: {what}. Secrets in there are not in this list.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_whole() {
        assert_eq!(whole("https://a.example/x|y").as_deref(), Some("https://a.example/x%7Cy"));
        for wrong in
            ["CIS 4.11", "https://a b", "https://a\0", "javascript:x", &format!("https://{}", "a".repeat(1_000))]
        {
            assert_eq!(whole(wrong), None);
        }
        assert_eq!(weakness("https://cwe.mitre.org/data/definitions/321.html"), Some(321));
        assert_eq!(weakness("https://cwe.mitre.org/data/definitions/3,21.html"), None);
    }
}
