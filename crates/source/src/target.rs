//! Targets: how users name an image, in the grammar of skopeo's transports.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use layersift_format::{Opened, SourceError};

use crate::open::Context;
use crate::registry::ReferenceError;
use crate::{daemon, docker_archive, engine_store, oci_layout, registry, rootfs, skopeo_dir};

/// Every transport. A new one is a line here, and a file with the [`Transport`] that the line names.
pub static TRANSPORTS: &[&Transport] = &[
    &docker_archive::TRANSPORT,
    &oci_layout::DIRECTORY_TRANSPORT,
    &oci_layout::ARCHIVE_TRANSPORT,
    &skopeo_dir::TRANSPORT,
    &rootfs::TRANSPORT,
    &engine_store::DOCKER,
    &engine_store::CONTAINERD,
    &engine_store::PODMAN,
    &registry::TRANSPORT,
    &daemon::TRANSPORT,
];

/// Transports of skopeo and others that are not supported.
const UNSUPPORTED: [&str; 6] = ["containers-storage", "ostree", "sif", "tarball", "atomic", "docker-storage"];

/// A way to read images, which a target names before its first colon.
pub struct Transport {
    /// The name before the colon.
    pub name: &'static str,
    /// The grammar of the rest, for messages.
    pub argument: &'static str,
    /// Parses what follows the colon.
    pub(crate) parse: fn(&str) -> Result<Argument, InvalidArgument>,
    /// Opens the target.
    pub(crate) open: fn(&Context<'_>) -> Result<Opened, SourceError>,
}

/// What follows the colon of a target.
#[derive(Debug, Default)]
pub(crate) struct Argument {
    /// The file or directory; `None` for standard input, or if the transport has none.
    pub(crate) path: Option<PathBuf>,
    /// The image in it.
    pub(crate) reference: Option<String>,
}

/// Why what follows the colon is invalid.
pub(crate) enum InvalidArgument {
    /// It is empty.
    Empty,
    /// `//` is missing.
    NoSlashes,
    /// It is not a reference.
    Reference(ReferenceError),
}

/// A parsed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How to read it; `None` if that is detected from what is at the path.
    pub transport: Option<&'static Transport>,
    /// The file or directory; `None` for standard input, and for an image of a registry or a daemon.
    pub path: Option<PathBuf>,
    /// The image, if the target has several, or is a registry or a daemon.
    pub reference: Option<String>,
    /// Whether everything in the store of an engine is read, and not one image.
    pub is_all: bool,
    /// The target as it was written.
    pub text: String,
}

/// Why a text is not a target.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// Nothing after the colon, or nothing at all.
    #[error(
        "invalid target `{0}`: expected a path, `-` for standard input, or TRANSPORT:PATH, where TRANSPORT is {list}",
        list = names()
    )]
    Empty(String),
    /// A transport that only other tools support.
    #[error(
        "unsupported transport `{0}`; copy the image first, for example with `skopeo copy {0}:… \
         oci-archive:image.tar`, or pipe `docker save IMAGE` into `layersift scan -`"
    )]
    Unsupported(String),
    /// An image of a registry without `//`.
    #[error("invalid target `{0}`: write docker://REPOSITORY or docker://HOST/REPOSITORY, then `:TAG` or `@DIGEST`")]
    NoSlashes(String),
    /// Not the store of an engine, or one image of it.
    #[error("--all reads the store of an engine; `{0}` is not docker-root:, containerd-root: or podman-root:DIRECTORY")]
    NotAStore(String),
    /// A name in a registry or a daemon that is not text.
    #[error("invalid target `{0}`: only a path may have other bytes than UTF-8")]
    NotText(String),
    /// A reference that no registry can have.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

impl Target {
    /// Parses a target: a path, `-`, or a transport, a colon and what the transport takes.
    ///
    /// # Errors
    /// For an empty path, an invalid reference, and transports that are not supported.
    pub fn parse(text: &str) -> Result<Target, TargetError> {
        let detected = |path: Option<&str>| Target {
            transport: None,
            path: path.map(PathBuf::from),
            reference: None,
            is_all: false,
            text: text.into(),
        };
        match text.split_once(':') {
            _ if text == "-" => Ok(detected(None)),
            _ if text.is_empty() => Err(TargetError::Empty(text.into())),
            Some((name, argument)) => match TRANSPORTS.iter().find(|transport| transport.name == name) {
                Some(transport) => Target::of_transport(transport, argument, text),
                None if UNSUPPORTED.contains(&name) && !PathBuf::from(text).exists() => {
                    Err(TargetError::Unsupported(name.into()))
                }
                None => Ok(detected(Some(text))),
            },
            None => Ok(detected(Some(text))),
        }
    }

    /// Parses a target as [`Target::parse`] does. A path may be of any bytes.
    ///
    /// # Errors
    /// As for [`Target::parse`]; and if what is not a path is not UTF-8.
    pub fn parse_os(text: &OsStr) -> Result<Target, TargetError> {
        if let Some(text) = text.to_str() {
            return Target::parse(text);
        }
        let shown = text.to_string_lossy();
        let parts = text.as_bytes().iter().position(|&byte| byte == b':').map(|at| text.as_bytes().split_at(at));
        let named = parts.and_then(|(name, rest)| {
            let transport = TRANSPORTS.iter().find(|transport| transport.name.as_bytes() == name)?;
            Some((*transport, rest.get(1..).unwrap_or_default()))
        });
        let path = |bytes: &[u8]| Some(PathBuf::from(OsStr::from_bytes(bytes)));
        let target = |transport: Option<&'static Transport>, path| Target {
            transport,
            path,
            reference: None,
            is_all: false,
            text: shown.to_string(),
        };
        match named {
            None => Ok(target(None, path(text.as_bytes()))),
            // A transport of paths takes any name of a file.
            Some((transport, rest)) => match (transport.parse)("path") {
                Ok(Argument { path: Some(_), .. }) => Ok(target(Some(transport), path(rest))),
                _ => Err(TargetError::NotText(shown.to_string())),
            },
        }
    }

    /// The same target with everything that is in the store of an engine.
    ///
    /// # Errors
    /// For a target that is not such a store, or names an image of it.
    pub fn with_all(self) -> Result<Target, TargetError> {
        let stores = [&engine_store::DOCKER, &engine_store::CONTAINERD, &engine_store::PODMAN];
        let is_store = self.transport.is_some_and(|transport| stores.contains(&transport));
        if is_store && self.reference.is_none() {
            Ok(Target { is_all: true, ..self })
        } else {
            Err(TargetError::NotAStore(self.text))
        }
    }

    /// The target's name in messages.
    pub fn name(&self) -> &str {
        if self.text == "-" { "standard input" } else { &self.text }
    }

    fn of_transport(transport: &'static Transport, argument: &str, text: &str) -> Result<Target, TargetError> {
        let Argument { path, reference } = (transport.parse)(argument).map_err(|error| match error {
            InvalidArgument::Empty => TargetError::Empty(text.into()),
            InvalidArgument::NoSlashes => TargetError::NoSlashes(text.into()),
            InvalidArgument::Reference(error) => error.into(),
        })?;
        Ok(Target { transport: Some(transport), path, reference, is_all: false, text: text.into() })
    }
}

impl PartialEq for Transport {
    fn eq(&self, other: &Transport) -> bool {
        self.name == other.name
    }
}

impl Eq for Transport {}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport({})", self.name)
    }
}

/// Parses `PATH`, or `-` for standard input.
pub(crate) fn parse_path(argument: &str) -> Result<Argument, InvalidArgument> {
    match argument {
        "" => Err(InvalidArgument::Empty),
        "-" => Ok(Argument::default()),
        path => Ok(Argument { path: Some(path.into()), reference: None }),
    }
}

/// Parses `PATH[:REFERENCE]`, or `-` for standard input. A file with a colon in its name is not split.
pub(crate) fn parse_path_and_reference(argument: &str) -> Result<Argument, InvalidArgument> {
    match argument.split_once(':') {
        Some((path, reference)) if !reference.is_empty() && !PathBuf::from(argument).exists() => {
            let Argument { path, .. } = parse_path(path)?;
            Ok(Argument { path, reference: Some(reference.into()) })
        }
        _ => parse_path(argument),
    }
}

fn names() -> String {
    TRANSPORTS.iter().map(|transport| transport.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = (Option<&'static str>, Option<PathBuf>, Option<String>);

    fn parse(text: &str) -> Result<Parts, TargetError> {
        let target = Target::parse(text)?;
        Ok((target.transport.map(|transport| transport.name), target.path, target.reference))
    }

    #[test]
    fn a_path_may_have_any_bytes() {
        let path = |bytes: &[u8]| Some(PathBuf::from(OsStr::from_bytes(bytes)));
        let parse = |bytes: &[u8]| Target::parse_os(OsStr::from_bytes(bytes));
        let bare = parse(b"a\xff.tar").unwrap();
        assert_eq!((bare.transport, bare.path), (None, path(b"a\xff.tar")));
        let named = parse(b"oci-archive:d:a\xff.tar").unwrap();
        assert_eq!(named.transport.map(|transport| transport.name), Some("oci-archive"));
        assert_eq!(named.path, path(b"d:a\xff.tar"));
        assert!(matches!(parse(b"docker://a\xff"), Err(TargetError::NotText(_))));
    }

    #[test]
    fn the_grammar() {
        assert_eq!(parse("a.tar"), Ok((None, Some("a.tar".into()), None)));
        assert_eq!(parse("-"), Ok((None, None, None)));
        assert_eq!(parse("oci:dir:v1"), Ok((Some("oci"), Some("dir".into()), Some("v1".into()))));
        assert_eq!(
            parse("docker-archive:a.tar:app:1.2"),
            Ok((Some("docker-archive"), Some("a.tar".into()), Some("app:1.2".into())))
        );
        assert_eq!(parse("docker-archive:-"), Ok((Some("docker-archive"), None, None)));
        let alpine = Some("docker.io/library/alpine:latest".into());
        assert_eq!(parse("docker://alpine"), Ok((Some("docker"), None, alpine)));
        assert_eq!(parse("docker-daemon:app:1"), Ok((Some("docker-daemon"), None, Some("app:1".into()))));
        assert_eq!(parse("strange:name.tar"), Ok((None, Some("strange:name.tar".into()), None)));
    }

    #[test]
    fn an_invalid_target_says_what_to_write() {
        assert!(Target::parse("docker-daemon:").is_err());
        assert!(Target::parse("oci::v1").is_err());
        assert!(Target::parse("oci:").unwrap_err().to_string().contains("docker-archive"));
        assert!(Target::parse("").is_err());
        assert!(Target::parse("ostree:x").unwrap_err().to_string().contains("skopeo copy ostree:"));
        assert!(Target::parse("docker:alpine").unwrap_err().to_string().contains("write docker://"));
        assert!(Target::parse("docker://UPPER").unwrap_err().to_string().contains("invalid repository"));
    }

    #[test]
    fn names_of_transports_are_unique() {
        for (index, transport) in TRANSPORTS.iter().enumerate() {
            assert!(TRANSPORTS[..index].iter().all(|other| other.name != transport.name), "{transport:?}");
            assert!(!UNSUPPORTED.contains(&transport.name), "{transport:?}");
        }
    }
}
