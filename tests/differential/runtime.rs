//! What other programs make of an image: the tokens in the blobs that they copy and in the root file systems that they
//! unpack.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use memchr::memmem;
use serde_json::Value;

use super::draft::Token;
use super::image::{Image, Packaging};
use crate::support::tools::{missing, missing_for_podman, podman};
use crate::support::{finish, text};

/// More of one file or blob is not read.
const MOST_BYTES: u64 = 16 << 20;

/// A program that copies and unpacks images.
pub trait Runtime: Sync {
    fn name(&self) -> &'static str;

    /// What must be installed and is not.
    fn missing(&self) -> Option<String>;

    /// What it gets of the image at `path`, working in the empty directory `work`.
    fn obtain(&self, image: &Image, path: &Path, work: &Path) -> Obtained;
}

/// The tokens that a runtime got, by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Obtained {
    pub in_files: BTreeSet<usize>,
    pub in_blobs: BTreeSet<usize>,
    /// Whether it accepted the image.
    pub accepted: bool,
    /// What it said where it did not.
    pub complaint: String,
}

/// All runtimes there are.
pub fn all() -> [&'static dyn Runtime; 2] {
    [&SkopeoAndUmoci, &Podman]
}

/// Copies with `skopeo`, as a registry or a cluster does, and unpacks with `umoci`.
struct SkopeoAndUmoci;

impl Runtime for SkopeoAndUmoci {
    fn name(&self) -> &'static str {
        "skopeo and umoci"
    }

    fn missing(&self) -> Option<String> {
        missing("skopeo").or_else(|| missing("umoci"))
    }

    fn obtain(&self, image: &Image, path: &Path, work: &Path) -> Obtained {
        let mut obtained = Obtained::default();
        let copy = work.join("copy");
        let target = format!("oci:{}:x", text(&copy));
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", &source(image, path), &target]);
        if let Err(complaint) = run(&mut command) {
            return Obtained { complaint, ..obtained };
        }
        obtained.accepted = true;
        each_file(&copy.join("blobs"), &mut |bytes| note(&image.tokens, &decoded(bytes), &mut obtained.in_blobs));
        // Not `umoci unpack`, which also wants the user of the configuration to be in the image.
        let rootfs = work.join("rootfs");
        let mut command = Command::new("umoci");
        command.args(["raw", "unpack", "--rootless", "--image", &format!("{}:x", text(&copy)), text(&rootfs)]);
        match run(&mut command) {
            Ok(()) => {
                each_file(&rootfs, &mut |bytes| note(&image.tokens, bytes, &mut obtained.in_files));
            }
            Err(complaint) => obtained.complaint = complaint,
        }
        obtained
    }
}

/// Loads into a storage of its own, where what a later layer deletes is still there after the layer before.
struct Podman;

impl Runtime for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn missing(&self) -> Option<String> {
        missing_for_podman()
    }

    fn obtain(&self, image: &Image, path: &Path, work: &Path) -> Obtained {
        let mut obtained = Obtained::default();
        let mut command = podman(work);
        // The image of a directory is named after its path, and names have no capitals.
        let (folder, name) = (path.parent().unwrap(), path.file_name().unwrap());
        command.current_dir(folder).args(["load", "--quiet", "--input"]).arg(name);
        if let Err(complaint) = run(&mut command) {
            return Obtained { complaint, ..obtained };
        }
        obtained.accepted = true;
        let root = work.join("root");
        each_file(&root.join("vfs/dir"), &mut |bytes| note(&image.tokens, bytes, &mut obtained.in_files));
        each_file(&root.join("vfs-images"), &mut |bytes| note(&image.tokens, &decoded(bytes), &mut obtained.in_blobs));
        obtained
    }
}

/// How skopeo is told where the image is.
fn source(image: &Image, path: &Path) -> String {
    let reference = image.reference.as_ref().filter(|_| image.packaging != Packaging::SkopeoDirectory);
    let reference = reference.map(|reference| format!(":{reference}")).unwrap_or_default();
    format!("{}:{}{reference}", image.packaging.transport(), text(path))
}

fn run(command: &mut Command) -> Result<(), String> {
    let run = finish(command, None);
    if run.code == Some(0) { Ok(()) } else { Err(run.stderr.trim().to_string()) }
}

/// Calls `visit` with the contents of every regular file below `path`.
fn each_file(path: &Path, visit: &mut impl FnMut(&[u8])) {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return };
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            each_file(&entry.path(), visit);
        }
    } else if metadata.is_file() {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).unwrap();
        file.take(MOST_BYTES).read_to_end(&mut bytes).unwrap();
        visit(&bytes);
    }
}

/// A blob, what it is compressed from as far as that can be decoded, and the strings in it if it is JSON.
fn decoded(blob: &[u8]) -> Vec<u8> {
    let mut all = blob.to_vec();
    // What was decoded before an error stays.
    let _ = flate2::read::MultiGzDecoder::new(blob).take(MOST_BYTES).read_to_end(&mut all);
    if let Ok(decoder) = zstd::stream::read::Decoder::new(blob) {
        let _ = decoder.take(MOST_BYTES).read_to_end(&mut all);
    }
    if let Ok(document) = serde_json::from_slice::<Value>(blob) {
        strings(&document, &mut all);
    }
    all
}

fn strings(value: &Value, all: &mut Vec<u8>) {
    match value {
        Value::String(text) => all.extend([b"\n", text.as_bytes()].concat()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, all)),
        Value::Object(members) => members.values().for_each(|member| strings(member, all)),
        _ => {}
    }
}

fn note(tokens: &[Token], bytes: &[u8], found: &mut BTreeSet<usize>) {
    for (number, token) in tokens.iter().enumerate() {
        if memmem::find(bytes, token.text.as_bytes()).is_some() {
            found.insert(number);
        }
    }
}
