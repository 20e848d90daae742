//! Whiteouts: the entries by which a layer hides a path of the layers below.
//!
//! Source: OCI image-spec v1.1, `layer.md`, "Whiteouts".

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;

use layersift_model::ImagePath;

use crate::survey::Surveyed;

/// How the name of a whiteout begins.
const PREFIX: &[u8] = b".wh.";

/// The blocks of a whiteout for the file of `entry`.
pub(crate) fn blocks(entry: &Surveyed) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(entry.modified.unwrap_or(0)).unwrap_or(0));
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, OsStr::from_bytes(of(&entry.path).as_bytes()), io::empty())?;
    Ok(builder.get_ref().clone())
}

/// Whether `path` is that of a whiteout, of a path or of all that a directory has.
pub(crate) fn is_whiteout(path: &ImagePath) -> bool {
    path.name().starts_with(PREFIX)
}

/// The path that the whiteout `path` hides, if it is one.
pub(crate) fn hidden(path: &ImagePath) -> Option<ImagePath> {
    let name = path.name().strip_prefix(PREFIX)?;
    Some(path.parent().unwrap_or_default().join(name))
}

/// The path of the whiteout of `path`.
pub(crate) fn of(path: &ImagePath) -> ImagePath {
    let name = [PREFIX, path.name()].concat();
    path.parent().unwrap_or_default().join(&name)
}
