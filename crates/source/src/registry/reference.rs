//! References: `host[:port]/repository[:tag][@digest]`.
//!
//! Sources: distribution's `reference` package (grammar and Docker's normalisation); OCI distribution-spec v1.1,
//! "Pulling manifests". Docker Hub has three names: references have `docker.io`, requests go to `registry-1.docker.io`,
//! and credentials are stored under `https://index.docker.io/v1/`.

use std::fmt;
use std::str::FromStr;

use layersift_model::Digest;

/// The host of a reference that names none.
const HUB: &str = "docker.io";

/// The host that requests to Docker Hub go to.
const HUB_HOST: &str = "registry-1.docker.io";

/// An older name of Docker Hub.
const HUB_OLD: &str = "index.docker.io";

/// The most bytes of a repository's name with its host.
const MAX_NAME: usize = 255;

/// The most bytes of a tag.
const MAX_TAG: usize = 128;

/// The host of a registry: a name or an address, and a port if one was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

impl Host {
    /// The host and port to connect to, such as `registry-1.docker.io` or `[::1]:5000`.
    pub fn authority(&self) -> &str {
        if self.0 == HUB { HUB_HOST } else { &self.0 }
    }

    /// The name that credentials and certificates are stored under, such as `docker.io` or `registry.example:5000`.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Host, ReferenceError> {
        let invalid = || ReferenceError::Host(shown(text));
        let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => {
                address.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
                (None, rest.strip_prefix(':').or((!rest.is_empty()).then_some("-")))
            }
            None => match text.split_once(':') {
                Some((name, port)) => (Some(name), Some(port)),
                None => (Some(text), None),
            },
        };
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
        if name.is_some_and(|name| !name.split('.').all(is_label)) || port.is_some_and(|port| !is_port(port)) {
            return Err(invalid());
        }
        let lower = text.to_ascii_lowercase();
        Ok(Host(match &lower[..] {
            HUB_OLD | HUB_HOST => HUB.into(),
            // The capitals are the only sign that `HARBOR/app` begins with a host.
            lower if !is_host(lower) => text.into(),
            _ => lower,
        }))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The registry.
    pub host: Host,
    /// The repository, such as `library/alpine`.
    pub repository: String,
    /// The tag; `None` only if a digest was written and no tag.
    pub tag: Option<String>,
    /// The digest that was written. If there is a tag as well, the digest decides which manifest it is.
    pub digest: Option<Digest>,
}

/// Why a text is not a reference.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReferenceError {
    /// The registry's name.
    #[error("invalid registry `{0}`: expected a host name or address, and optionally `:PORT`")]
    Host(String),
    /// The repository's name.
    #[error(
        "invalid repository `{0}`: expected lower-case letters and digits, separated by `/`, `.`, `-` or `_`, at most \
         {MAX_NAME} characters with the host"
    )]
    Repository(String),
    /// The tag.
    #[error(
        "invalid tag `{0}`: expected at most {MAX_TAG} letters, digits, `_`, `.` or `-`, not beginning with `.` or `-`"
    )]
    Tag(String),
    /// The digest.
    #[error(transparent)]
    Digest(#[from] layersift_model::InvalidDigest),
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// Parses a reference, with or without `docker://` in front.
    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        let (text, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        let (host, rest) = split_host(text);
        let (repository, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (rest, None),
        };
        let host: Host = host.parse()?;
        let alone = host.name() == HUB && !repository.contains('/');
        let repository = if alone { format!("library/{repository}") } else { repository.to_string() };
        check_repository(&repository)?;
        if host.name().len() + 1 + repository.len() > MAX_NAME {
            return Err(ReferenceError::Repository(shown(&repository)));
        }
        // Docker refuses these as well: they look like an image ID.
        if rest.len() == 64 && text == rest && rest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ReferenceError::Repository(shown(rest)));
        }
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let tag = tag.or(digest.is_none().then_some("latest")).map(str::to_string);
        Ok(Reference { host, repository, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Checks the name of a repository.
///
/// # Errors
/// If it is invalid: the grammar is lower-case words, joined by `.`, `_`, `__` or any number of `-`, in a path.
pub fn check_repository(name: &str) -> Result<(), ReferenceError> {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_component = |component: &str| {
        let words = component.split(|c: char| !c.is_ascii() || is_word(c as u8)).filter(|joint| !joint.is_empty());
        let mut joints = words.map(|joint| matches!(joint, "." | "_" | "__") || joint.bytes().all(|byte| byte == b'-'));
        let ends = [component.bytes().next(), component.bytes().next_back()];
        component.is_ascii() && ends.iter().all(|end| end.is_some_and(is_word)) && joints.all(|joint| joint)
    };
    if name.len() <= MAX_NAME && name.split('/').all(is_component) {
        return Ok(());
    }
    Err(ReferenceError::Repository(shown(name)))
}

/// Checks a tag.
///
/// # Errors
/// If it is invalid.
pub fn check_tag(tag: &str) -> Result<(), ReferenceError> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = tag.bytes();
    let first = bytes.next().is_some_and(is_word);
    if first && tag.len() <= MAX_TAG && bytes.all(|byte| is_word(byte) || matches!(byte, b'.' | b'-')) {
        return Ok(());
    }
    Err(ReferenceError::Tag(shown(tag)))
}

/// The host of a reference, and the rest. The first component is a host if a repository cannot begin like it.
fn split_host(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (HUB, text),
    }
}

fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// An invalid name as it is shown in a message.
fn shown(text: &str) -> String {
    text.chars().take(160).map(|c| if c.is_control() { '.' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn parts(text: &str) -> Option<(String, String, Option<String>, bool)> {
        let reference: Reference = text.parse().ok()?;
        let authority = reference.host.authority().to_string();
        Some((authority, reference.repository, reference.tag, reference.digest.is_some()))
    }

    fn is(text: &str, authority: &str, repository: &str, tag: Option<&str>, digest: bool) {
        let expected = (authority.into(), repository.into(), tag.map(str::to_string), digest);
        assert_eq!(parts(text), Some(expected), "{text}");
    }

    #[test]
    fn dockers_normalisation() {
        is("alpine", HUB_HOST, "library/alpine", Some("latest"), false);
        is("docker://team/app:1.2", HUB_HOST, "team/app", Some("1.2"), false);
        is("docker.io/alpine", HUB_HOST, "library/alpine", Some("latest"), false);
        is("docker://index.docker.io/library/alpine", HUB_HOST, "library/alpine", Some("latest"), false);
        is("docker:5000/app", "docker:5000", "app", Some("latest"), false);
        is("localhost/app", "localhost", "app", Some("latest"), false);
        is("host.example:5000/a/b__c/d-e:T_1", "host.example:5000", "a/b__c/d-e", Some("T_1"), false);
        is("[::1]:5000/app", "[::1]:5000", "app", Some("latest"), false);
        is("UPPER/app", "UPPER", "app", Some("latest"), false);
        is("UPPER.example/app", "upper.example", "app", Some("latest"), false);
        is(&format!("h.example/app@{DIGEST}"), "h.example", "app", None, true);
        is(&format!("h.example/app:1@{DIGEST}"), "h.example", "app", Some("1"), true);
    }

    #[test]
    fn display_is_parsed_to_the_same_reference() {
        let digest = format!("h.example/app:1@{DIGEST}");
        for text in ["docker.io/library/alpine:latest", "h.example:1/a/b:c", "HARBOR/app:1", &digest] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn invalid_references() {
        let long = "a".repeat(256);
        let hex = "a".repeat(64);
        let wrong = [
            "",
            "/",
            "a//b",
            "a/",
            "-a",
            "a..b",
            "a___b",
            "a._b",
            "h.example/A",
            "h.example/a:",
            "h.example/a:.b",
            "h.example:/a",
            "h.example:99999/a",
            "h.example:+5/a",
            "a@sha256:12",
            "[::1/a",
            "[x]:5/a",
            "[::1]5/a",
            "h.example/a/../b",
            "h.example/a?b",
            "h.example/a%2fb",
            "ä.example/a",
            "user@h.example/a",
            &long,
            &hex,
        ];
        for text in wrong {
            assert!(parts(text).is_none(), "{text} is read as {:?}", parts(text));
        }
    }
}
