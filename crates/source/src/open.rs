//! Opening targets: finds out what a path is, and which transport reads it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::daemon;
use super::docker_archive::{self, DockerArchive};
use super::oci_layout::{self, OciLayout};
use super::registry::{Reference, Registry, RegistryError, RegistryOptions, RegistrySource};
use super::rootfs::RootFs;
use super::skopeo_dir::SkopeoDir;
use super::stream::{ImageStream, is_image_member};
use super::target::{Target, Transport};
use super::tree::{ArchiveTree, DirectoryTree};
use super::{ImageSource, SourceError};
use layersift_format::MappedFile;
use layersift_format::Opened;
use layersift_format::compression::Codec;
use layersift_model::Limits;

/// Opens `target`. `registry` says how a registry is talked to, where it is in one; its bounds are those of `limits`.
///
/// # Errors
/// When it cannot be read, or is no image.
pub fn open(target: &Target, limits: &Limits, registry: &RegistryOptions) -> Result<Opened, SourceError> {
    if target.transport == Transport::Registry {
        return in_registry(target, limits, registry);
    }
    if target.transport == Transport::Daemon {
        let archive = daemon::export(target.reference.as_deref().unwrap_or_default())?;
        let path = target.text.clone().into();
        // The reference is the daemon's affair: it gives out nothing else.
        let stream = ImageStream::new(Box::new(archive), target.transport, None, path, limits.clone());
        return Ok(Opened::Stream(Box::new(stream)));
    }
    let Some(path) = &target.path else {
        return Ok(stream(Box::new(io::stdin()), "standard input".into(), target, limits));
    };
    let metadata = fs::metadata(path).map_err(|error| SourceError::Read { path: path.clone(), error })?;
    if metadata.is_dir() {
        return directory(path, target, limits).map(Opened::Source);
    }
    if !metadata.is_file() {
        let file = fs::File::open(path).map_err(|error| SourceError::Read { path: path.clone(), error })?;
        return Ok(stream(Box::new(file), path.clone(), target, limits));
    }
    file(path, target, limits)
}

fn in_registry(target: &Target, limits: &Limits, options: &RegistryOptions) -> Result<Opened, SourceError> {
    let text = target.reference.as_deref().unwrap_or_default();
    let reference: Reference = text.parse().map_err(RegistryError::from)?;
    let (document_bytes, blob_bytes) = (limits.document_bytes, limits.layer_bytes);
    let options = RegistryOptions { document_bytes, blob_bytes, ..options.clone() };
    let registry = Registry::new(&reference.host, options)?;
    Ok(Opened::Source(Box::new(RegistrySource::new(registry, reference))))
}

fn stream(input: Box<dyn Read + Send>, path: PathBuf, target: &Target, limits: &Limits) -> Opened {
    let reference = target.reference.clone();
    Opened::Stream(Box::new(ImageStream::new(input, target.transport, reference, path, limits.clone())))
}

fn directory(path: &Path, target: &Target, limits: &Limits) -> Result<Box<dyn ImageSource>, SourceError> {
    let tree = DirectoryTree::new(path);
    let oci = || OciLayout::new(DirectoryTree::new(path), target.reference.clone(), limits.clone());
    match target.transport {
        Transport::Oci => Ok(Box::new(oci())),
        Transport::Dir => Ok(Box::new(SkopeoDir::new(tree))),
        Transport::RootFs => Ok(Box::new(RootFs::directory(path, false))),
        Transport::DockerArchive | Transport::OciArchive => {
            let what = "it is a directory, and the transport names an archive".into();
            Err(SourceError::NotAnImage { path: path.into(), what })
        }
        // They have no path, and are opened before one is looked at.
        Transport::Registry | Transport::Daemon => {
            Err(SourceError::NotAnImage { path: path.into(), what: "it is a directory".into() })
        }
        Transport::Detect if path.join(oci_layout::INDEX).is_file() && path.join("blobs").is_dir() => {
            Ok(Box::new(oci()))
        }
        Transport::Detect if path.join("manifest.json").is_file() && path.join("version").is_file() => {
            Ok(Box::new(SkopeoDir::new(tree)))
        }
        Transport::Detect => Ok(Box::new(RootFs::directory(path, true))),
    }
}

fn file(path: &Path, target: &Target, limits: &Limits) -> Result<Opened, SourceError> {
    let failed = |error| SourceError::Read { path: path.into(), error };
    let not_an_image = |what: &str| SourceError::NotAnImage { path: path.into(), what: what.into() };
    if matches!(target.transport, Transport::Oci | Transport::Dir) {
        return Err(not_an_image("it is a file, and the transport names a directory"));
    }
    if fs::metadata(path).map_err(failed)?.len() == 0 {
        return Err(not_an_image("the file is empty"));
    }
    let map = MappedFile::open(path).map_err(failed)?;
    match Codec::detect(&map) {
        Codec::Plain => {}
        Codec::Unsupported(name) => return Err(not_an_image(&format!("{name} compression is not read"))),
        Codec::Gzip | Codec::Zstd => {
            let file = fs::File::open(path).map_err(failed)?;
            return Ok(stream(Box::new(file), path.into(), target, limits));
        }
    }
    if target.transport == Transport::RootFs {
        return Ok(Opened::Source(Box::new(RootFs::archive(map, false))));
    }
    let mut tree = ArchiveTree::new(path, map, limits);
    let reference = target.reference.clone();
    Ok(Opened::Source(match target.transport {
        Transport::DockerArchive => Box::new(DockerArchive::new(tree, reference, limits.clone())),
        Transport::OciArchive => Box::new(OciLayout::new(tree, reference, limits.clone())),
        _ if tree.has(oci_layout::INDEX) => {
            Box::new(OciLayout::new(tree, reference, limits.clone()).with_docker_listing())
        }
        _ if tree.has(docker_archive::MANIFEST) => Box::new(DockerArchive::new(tree, reference, limits.clone())),
        _ => match (tree.first().map(str::to_string), tree.damage()) {
            (None, Some(_)) => return Err(not_an_image("the file is no tar archive")),
            (None, None) => return Err(not_an_image("the archive has no entries")),
            (Some(name), Some(damage)) if is_image_member(&name) => return Err(damage),
            (Some(name), None) if is_image_member(&name) => {
                return Err(not_an_image("it has blobs of an image, and neither manifest.json nor index.json"));
            }
            _ => Box::new(RootFs::archive(tree.into_map(), true)),
        },
    }))
}
