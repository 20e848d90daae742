//! Targets: what a person may write for an image, in the grammar of skopeo's transports.

use std::path::PathBuf;

use super::registry::{Reference, ReferenceError};

/// How a target is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By what is found there.
    Detect,
    /// A `docker save` tar.
    DockerArchive,
    /// An OCI layout directory.
    Oci,
    /// An OCI layout in a tar.
    OciArchive,
    /// skopeo's directory transport.
    Dir,
    /// A root file system: a directory or a tar.
    RootFs,
    /// An image in a registry.
    Registry,
    /// An image of a Docker daemon.
    Daemon,
}

/// Every transport that a target may name, with what to write behind its colon.
pub const TRANSPORTS: &[(&str, Transport, &str)] = &[
    ("docker-archive", Transport::DockerArchive, "FILE[:REFERENCE]"),
    ("oci", Transport::Oci, "DIRECTORY[:REFERENCE]"),
    ("oci-archive", Transport::OciArchive, "FILE[:REFERENCE]"),
    ("dir", Transport::Dir, "DIRECTORY"),
    ("rootfs", Transport::RootFs, "DIRECTORY or FILE"),
    ("docker", Transport::Registry, "//[HOST/]REPOSITORY[:TAG][@DIGEST]"),
    ("docker-daemon", Transport::Daemon, "NAME[:TAG], NAME@DIGEST or ID"),
];

/// Transports of the same grammar that this version does not read.
const KNOWN_ELSEWHERE: [&str; 6] = ["containers-storage", "ostree", "sif", "tarball", "atomic", "docker-storage"];

/// A target as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How to read it.
    pub transport: Transport,
    /// Where; `None` for standard input, and for an image of a registry or a daemon.
    pub path: Option<PathBuf>,
    /// Which image of several; for an image of a registry or a daemon, which one.
    pub reference: Option<String>,
    /// The target as it was written.
    pub text: String,
}

/// Why a text is no target.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// Nothing behind the colon, or nothing at all.
    #[error(
        "`{0}` names no file; write a path, `-` for standard input, or TRANSPORT:PATH with one of {list}",
        list = names()
    )]
    Empty(String),
    /// A transport that other tools have.
    #[error(
        "`{0}:` is not read by this version; copy the image first, for example with \
         `skopeo copy {0}:… oci-archive:image.tar`, or pipe `docker save IMAGE` into `layersift scan -`"
    )]
    Unsupported(String),
    /// A registry, without what shows that it is one.
    #[error("`{0}`: write docker://REPOSITORY or docker://HOST/REPOSITORY, with `:TAG` or `@DIGEST` behind it")]
    NoSlashes(String),
    /// An image that no registry can have.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

fn names() -> String {
    TRANSPORTS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")
}

impl Target {
    /// Reads a target: a path, `-`, or a transport and what belongs to it.
    ///
    /// # Errors
    /// For an empty path, and for transports that this version does not read.
    pub fn parse(text: &str) -> Result<Target, TargetError> {
        let target = |transport, path, reference| Target { transport, path, reference, text: text.into() };
        if text == "-" {
            return Ok(target(Transport::Detect, None, None));
        }
        let Some((name, rest)) = text.split_once(':') else {
            return named(text, text).map(|path| target(Transport::Detect, Some(path), None));
        };
        if name == "docker" {
            let rest = rest.strip_prefix("//").ok_or_else(|| TargetError::NoSlashes(text.into()))?;
            let reference: Reference = rest.parse()?;
            return Ok(target(Transport::Registry, None, Some(reference.to_string())));
        }
        if name == "docker-daemon" {
            let is_named = !rest.is_empty();
            return is_named
                .then(|| target(Transport::Daemon, None, Some(rest.into())))
                .ok_or_else(|| TargetError::Empty(text.into()));
        }
        if let Some((_, transport, _)) = TRANSPORTS.iter().find(|(known, ..)| *known == name) {
            if rest == "-" {
                return Ok(target(*transport, None, None));
            }
            let takes_reference = !matches!(transport, Transport::Dir | Transport::RootFs);
            let (path, reference) = if takes_reference { split_reference(rest) } else { (rest, None) };
            return named(text, path).map(|path| target(*transport, Some(path), reference));
        }
        if KNOWN_ELSEWHERE.contains(&name) && !PathBuf::from(text).exists() {
            return Err(TargetError::Unsupported(name.into()));
        }
        named(text, text).map(|path| target(Transport::Detect, Some(path), None))
    }
}

impl Target {
    /// What messages call the target.
    pub fn name(&self) -> &str {
        if self.text == "-" { "standard input" } else { &self.text }
    }
}

fn named(text: &str, path: &str) -> Result<PathBuf, TargetError> {
    if path.is_empty() { Err(TargetError::Empty(text.into())) } else { Ok(PathBuf::from(path)) }
}

/// `path:reference`, unless a file with a colon in its name is meant.
fn split_reference(text: &str) -> (&str, Option<String>) {
    match text.split_once(':') {
        Some((path, reference)) if !reference.is_empty() && !PathBuf::from(text).exists() => {
            (path, Some(reference.into()))
        }
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar() {
        let parse = |text| Target::parse(text).map(|t| (t.transport, t.path, t.reference));
        assert_eq!(parse("a.tar"), Ok((Transport::Detect, Some("a.tar".into()), None)));
        assert_eq!(parse("-"), Ok((Transport::Detect, None, None)));
        assert_eq!(parse("oci:dir:v1"), Ok((Transport::Oci, Some("dir".into()), Some("v1".into()))));
        assert_eq!(
            parse("docker-archive:a.tar:app:1.2"),
            Ok((Transport::DockerArchive, Some("a.tar".into()), Some("app:1.2".into())))
        );
        assert_eq!(parse("docker-archive:-"), Ok((Transport::DockerArchive, None, None)));
        let alpine = Some("docker.io/library/alpine:latest".into());
        assert_eq!(parse("docker://alpine"), Ok((Transport::Registry, None, alpine)));
        assert_eq!(parse("docker-daemon:app:1"), Ok((Transport::Daemon, None, Some("app:1".into()))));
        assert_eq!(parse("strange:name.tar"), Ok((Transport::Detect, Some("strange:name.tar".into()), None)));
    }

    #[test]
    fn what_is_no_target_says_what_to_write() {
        assert!(Target::parse("docker-daemon:").is_err());
        assert!(Target::parse("oci:").unwrap_err().to_string().contains("docker-archive"));
        assert!(Target::parse("").is_err());
        assert!(Target::parse("ostree:x").unwrap_err().to_string().contains("skopeo copy ostree:"));
        assert!(Target::parse("docker:alpine").unwrap_err().to_string().contains("write docker://"));
        assert!(Target::parse("docker://UPPER").unwrap_err().to_string().contains("is no repository"));
    }
}
