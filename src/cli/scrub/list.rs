//! The list of what changed: as text, and in a file.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;

use layersift_attest::keys::Signer;
use layersift_model::Digest;
use layersift_scrub::{Changes, HeldKind, Replaced};

/// The list for people.
pub(super) fn text(changes: &Changes) -> String {
    let mut text = format!("{} → {}\n", changes.source, changes.output);
    let digest = |digest: Option<&Digest>| digest.map_or_else(|| "none".into(), Digest::to_string);
    // Writing to a string cannot fail.
    let mut line = |what: &str, old: Option<&Digest>, new: Option<&Digest>| {
        let _ = writeln!(text, "  {what:<9} {} → {}", digest(old), digest(new));
    };
    line("image", changes.root.old.as_ref(), changes.root.new.as_ref());
    for Replaced { old, new } in changes.manifests.iter().filter(|changed| **changed != changes.root) {
        line("manifest", old.as_ref(), new.as_ref());
    }
    for Replaced { old, new } in &changes.configs {
        line("config", old.as_ref(), new.as_ref());
    }
    for layer in &changes.layers {
        line("layer", Some(&layer.old), Some(&layer.new));
    }
    for place in &changes.places {
        let blob = place.blob.as_ref().map_or(String::new(), |blob| format!(" in {}", blob.short()));
        let note = place.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
        let _ = writeln!(text, "  {}: {}{blob}{note}", place.action, place.path);
    }
    for held in &changes.held {
        let kind = match held.kind {
            HeldKind::Manifest => "document",
            HeldKind::Blob => "blob",
        };
        let _ =
            writeln!(text, "  not in the result: {kind} {}, which holds the value or leads to it", held.digest.short());
    }
    for unread in &changes.unread {
        let _ = writeln!(text, "  not read: {unread}");
    }
    for dropped in &changes.dropped {
        let _ = writeln!(text, "  dropped: {} {}, because {}", dropped.kind, dropped.digest.short(), dropped.why);
    }
    text
}

/// The list for programs.
pub(super) fn json(changes: &Changes) -> anyhow::Result<Vec<u8>> {
    let mut json = serde_json::to_vec_pretty(changes)?;
    json.push(b'\n');
    Ok(json)
}

/// Where the signature of the list at `path` is.
pub(super) fn signature_path(path: &Path) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".sig");
    path.into()
}

/// Writes the list to a new file, and its signature beside it.
pub(super) fn write(changes: &Changes, path: &Path, key: Option<&dyn Signer>) -> anyhow::Result<()> {
    let json = json(changes)?;
    let signature = key.map(|key| key.sign(&json)).transpose()?;
    write_new(path, &json)?;
    signature.map_or(Ok(()), |signature| write_new(&signature_path(path), &signature))
}

/// Removes the list of an image that was not written after all. Whoever calls it reports another error already.
pub(super) fn remove(path: Option<&Path>) {
    for path in path.iter().flat_map(|path| [path.to_path_buf(), signature_path(path)]) {
        let _ = std::fs::remove_file(path);
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let failed = || format!("cannot write {}", path.display());
    file.and_then(|mut file| file.write_all(bytes)).with_context(failed)
}
