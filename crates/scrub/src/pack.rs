//! Writes a staged image to its place: an OCI layout, or an archive. Nothing is written over.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use layersift_model::Digest;

use crate::error::ScrubError;
use crate::rewrite::{self, Scrubbed};
use crate::staging::Staging;

/// Makes an OCI layout of the staged image, in the directory `path`, which must not exist. The image is called `name`
/// there.
///
/// # Errors
/// [`ScrubError::Exists`] or [`ScrubError::Write`].
pub fn write_oci_layout(
    staging: &Staging,
    scrubbed: &Scrubbed,
    path: &Path,
    name: Option<&str>,
) -> Result<(), ScrubError> {
    staging.write_file("index.json", &index(staging, scrubbed, name)?)?;
    DirBuilder::new().create(path).map_err(ScrubError::write(path))?;
    for name in ["blobs", "oci-layout", "index.json"] {
        let to = path.join(name);
        if let Err(source) = fs::rename(staging.path().join(name), &to) {
            // It is of no use, and was not there before.
            let _ = fs::remove_dir_all(path);
            return Err(ScrubError::Write { path: to, source });
        }
    }
    Ok(())
}

/// Makes an archive with the OCI layout of the staged image.
///
/// # Errors
/// [`ScrubError::Exists`] or [`ScrubError::Write`].
pub fn write_oci_archive(
    staging: &Staging,
    scrubbed: &Scrubbed,
    path: &Path,
    name: Option<&str>,
) -> Result<(), ScrubError> {
    let index = index(staging, scrubbed, name)?;
    write_archive(path, |archive| {
        let layout = fs::read(staging.path().join("oci-layout"))?;
        archive.add("oci-layout", &mut &layout[..], layout.len() as u64)?;
        archive.add("index.json", &mut &index[..], index.len() as u64)?;
        let manifests = scrubbed.manifests.iter().map(|(digest, _)| digest);
        for digest in manifests.chain(&scrubbed.blobs).chain([&scrubbed.digest]) {
            let name = format!("blobs/{}/{}", digest.algorithm().name(), digest.hex());
            archive.add_blob(staging, digest, &name)?;
        }
        Ok(())
    })
}

/// Makes an archive as `docker save` writes it. The image is called `name` there.
///
/// # Errors
/// If the image is for several platforms; [`ScrubError::Exists`] or [`ScrubError::Write`].
pub fn write_docker_archive(
    staging: &Staging,
    scrubbed: &Scrubbed,
    path: &Path,
    name: Option<&str>,
) -> Result<(), ScrubError> {
    let Some((config, layers)) = &scrubbed.single else {
        let why = "a Docker archive holds one platform; choose one with --platform, or write an OCI layout".into();
        return Err(ScrubError::Target { target: scrubbed.changes.source.clone(), why });
    };
    let config_name = format!("{}.json", config.hex());
    let layer_name = |layer: &Digest| format!("{}.tar", layer.hex());
    let tags: Vec<String> = name.map(with_tag).into_iter().collect();
    let names: Vec<String> = layers.iter().map(layer_name).collect();
    let listing = serde_json::json!([{ "Config": config_name, "RepoTags": tags, "Layers": names }]).to_string();
    write_archive(path, |archive| {
        let mut written: Vec<&Digest> = Vec::new();
        for layer in layers {
            if !written.contains(&layer) {
                archive.add_blob(staging, layer, &layer_name(layer))?;
                written.push(layer);
            }
        }
        archive.add_blob(staging, config, &config_name)?;
        archive.add("manifest.json", &mut listing.as_bytes(), listing.len() as u64)
    })
}

/// The name with a tag, as Docker wants it.
fn with_tag(name: &str) -> String {
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if has_tag { name.into() } else { format!("{name}:latest") }
}

fn index(staging: &Staging, scrubbed: &Scrubbed, name: Option<&str>) -> Result<Vec<u8>, ScrubError> {
    let path = staging.blob(&scrubbed.digest);
    let size = fs::metadata(&path).map_err(ScrubError::write(&path))?.len();
    Ok(rewrite::listing(&scrubbed.media_type, &scrubbed.digest, size, name))
}

/// Writes a new archive at `path`, and removes it again if that fails.
fn write_archive(
    path: &Path,
    write: impl FnOnce(&mut Archive<BufWriter<File>>) -> io::Result<()>,
) -> Result<(), ScrubError> {
    let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(ScrubError::write(path))?;
    let mut archive = Archive(tar::Builder::new(BufWriter::new(file)));
    let written = write(&mut archive).and_then(|()| archive.0.into_inner()?.flush());
    written.map_err(|source| {
        // It is of no use, and was not there before.
        let _ = fs::remove_file(path);
        ScrubError::Write { path: path.into(), source }
    })
}

struct Archive<W: Write>(tar::Builder<W>);

impl<W: Write> Archive<W> {
    fn add(&mut self, name: &str, data: &mut dyn io::Read, size: u64) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(size);
        header.set_mtime(0);
        header.set_cksum();
        self.0.append_data(&mut header, name, data)
    }

    fn add_blob(&mut self, staging: &Staging, digest: &Digest, name: &str) -> io::Result<()> {
        let file = File::open(staging.blob(digest))?;
        let size = file.metadata()?.len();
        self.add(name, &mut staging.reader(file), size)
    }
}
