//! What registries say about pushes: the bodies of Harbor's webhooks and of Distribution's notifications, as images.
//! Nothing here does any input or output.
//!
//! ```text
//! harbor        Harbor's webhooks, in both of their formats
//! distribution  the notifications of Docker's registry
//! ```

pub mod distribution;
pub mod harbor;

use std::io::{BufReader, Read};

use layersift_model::{Digest, ParseError, parse};
use layersift_source::registry::{Host, Reference};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::admission::{BoundedJson, OverBound};

/// Objects and lists inside each other. Reports of scans, which Harbor sends along, have more than pushes.
const MOST_DEPTH: usize = 32;

/// The most bytes of a body, and of each text in it.
const MOST_BYTES: u64 = 4 << 20;
const MOST_TEXT: usize = 1_024;

/// The most things that one body tells of.
pub const MOST_EVENTS: usize = 1_000;

/// The most bytes of the reference that is queued.
const MOST_REFERENCE: usize = 512;

/// Why a body tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEvent {
    /// It cannot be received, or it has another form.
    #[error("the event cannot be read: {0}")]
    Json(#[from] ParseError),
    /// It goes over a bound.
    #[error(transparent)]
    Bound(#[from] OverBound),
    /// It tells of too many things.
    #[error("the body tells of more than {MOST_EVENTS} things")]
    Count,
}

impl InvalidEvent {
    /// Whether it was not received: the same body may be read the next time.
    pub fn is_of_transport(&self) -> bool {
        matches!(self, InvalidEvent::Json(error) if error.is_io())
    }
}

/// What one thing of a body is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something was pushed.
    Push(Push),
    /// Something that a scanner made of another image was pushed by it.
    OfScanner,
    /// Nothing was pushed that has to be read.
    Other,
    /// A push, of something that no reference names.
    Unnamed(String),
}

/// Something that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Where it is, by its digest and without a tag.
    pub reference: Reference,
    /// Its digest.
    pub digest: Digest,
    /// Whether it has no tag. Images of an index have none, and the index comes after them.
    pub is_untagged: bool,
    /// Whether its tag says that it is a signature, an attestation or a bill of materials of another image.
    pub is_accessory: bool,
}

impl Push {
    /// What was pushed to `repository` at `host`. An error has the words for a log.
    fn new(host: &str, repository: &str, tag: Option<&str>, digest: &str) -> Result<Push, String> {
        let digest: Digest = digest.parse().map_err(|error| format!("{error}"))?;
        let host: Host = host.parse().map_err(|error| format!("{error}"))?;
        let reference = Reference { host, repository: repository.into(), tag: None, digest: Some(digest.clone()) };
        let text = reference.to_string();
        // A host of one word is read as a part of the repository's name: something else would be pulled.
        if text.len() > MOST_REFERENCE || text.parse().as_ref() != Ok(&reference) {
            return Err("the names are not those of an image in a registry".into());
        }
        let (is_untagged, is_accessory) = (tag.is_none(), tag.is_some_and(is_accessory_tag));
        Ok(Push { reference, digest, is_untagged, is_accessory })
    }
}

/// Whether a tag is one that cosign gives: `sha256-<64 hexadecimal digits>.sig`, `.att` or `.sbom`, or without an end
/// where a registry has no list of referrers.
fn is_accessory_tag(tag: &str) -> bool {
    let Some(rest) = tag.strip_prefix("sha256-") else { return false };
    let (hex, end) = rest.split_at_checked(64).unwrap_or((rest, ""));
    let is_hex = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex && matches!(end, "" | ".sig" | ".att" | ".sbom")
}

/// Reads a body of JSON within the bounds.
fn read<T: DeserializeOwned>(body: impl Read) -> Result<T, InvalidEvent> {
    let mut bounded = BoundedJson::new(body, MOST_BYTES, MOST_DEPTH, MOST_TEXT);
    let parsed = parse::json_from(BufReader::new(&mut bounded));
    match bounded.over_bound() {
        Some(over) => Err(over.into()),
        None => Ok(parsed?),
    }
}

/// What is absent where it is null, as Go writes an empty list.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:4ddb05738d33538ff2152ed4a63a70eaef1e8122d8aa93eef9b93bd58fe4c59f";

    #[test]
    fn a_push_is_queued_by_its_digest() {
        let push = Push::new("Harbor.Example:8443", "team/app", Some("1.0"), DIGEST).unwrap();
        assert_eq!(push.reference.to_string(), format!("harbor.example:8443/team/app@{DIGEST}"));
        assert!(!push.is_untagged && !push.is_accessory);
        assert!(Push::new("[::1]:5000", "app", None, DIGEST).unwrap().is_untagged);
    }

    #[test]
    fn what_no_reference_names_is_not_pulled() {
        for (host, repository, digest) in [
            ("harbor", "team/app", DIGEST),
            ("harbor.example/x", "app", DIGEST),
            ("harbor.example", "Team", DIGEST),
            ("harbor.example", "app:1", DIGEST),
            ("harbor.example", "app@x", DIGEST),
            ("harbor.example", "../app", DIGEST),
            ("harbor.example", "app", "sha256:abc"),
            ("", "app", DIGEST),
            ("user@harbor.example", "app", DIGEST),
            ("harbor.example", &"a/".repeat(300), DIGEST),
        ] {
            assert!(Push::new(host, repository, None, digest).is_err(), "{host} {repository} {digest}");
        }
    }

    #[test]
    fn cosign_names_what_it_pushes() {
        let hex = &DIGEST[7..];
        for end in ["", ".sig", ".att", ".sbom"] {
            assert!(is_accessory_tag(&format!("sha256-{hex}{end}")), "{end}");
        }
        for tag in ["1.0", "sha256-abc.sig", &format!("sha256-{hex}.exe"), &format!("sha256-{}é", &hex[..63])] {
            assert!(!is_accessory_tag(tag), "{tag}");
        }
    }
}
