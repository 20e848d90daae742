//! Images for tests: layers and a configuration as a `docker save` archive or an OCI layout.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tar::Tar;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Named files: an archive or a directory that holds an image.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A layer as it is stored, and what the manifest and the configuration say of it.
#[derive(Clone, Debug)]
pub struct Layer {
    pub blob: Vec<u8>,
    pub media_type: String,
    pub diff_id: String,
}

impl Layer {
    /// An uncompressed layer.
    pub fn plain(tar: Vec<u8>) -> Layer {
        Layer { diff_id: digest(&tar), blob: tar, media_type: LAYER.into() }
    }

    /// The layer `tar`, stored as `blob`.
    pub fn stored(tar: &[u8], blob: Vec<u8>, suffix: &str) -> Layer {
        Layer { diff_id: digest(tar), blob, media_type: format!("{LAYER}{suffix}") }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

pub fn blob_path(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", sha256(bytes))
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

/// A configuration that fits `layers` and that no check at severity high or above finds anything in.
pub fn config(layers: &[Layer]) -> Value {
    let diff_ids: Vec<&str> = layers.iter().map(|layer| &layer.diff_id[..]).collect();
    json!({
        "architecture": "amd64", "os": "linux",
        "config": { "User": "app", "Healthcheck": { "Test": ["CMD", "true"] } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
}

pub fn manifest(config: &[u8], layers: &[Layer]) -> Value {
    let layers: Vec<Value> = layers.iter().map(|layer| descriptor(&layer.media_type, &layer.blob)).collect();
    json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config), "layers": layers })
}

pub fn index(manifests: &[Value]) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
}

/// The files of an OCI layout that holds one image.
pub fn oci(layers: &[Layer]) -> Files {
    let config = bytes(&config(layers));
    oci_with(&bytes(&manifest(&config, layers)), &config, layers)
}

/// The files of an OCI layout around a manifest, whatever that says.
pub fn oci_with(manifest: &[u8], config: &[u8], layers: &[Layer]) -> Files {
    let blobs = [manifest, config].into_iter().chain(layers.iter().map(|layer| &layer.blob[..]));
    let mut files: Files = blobs.map(|blob| (blob_path(blob), blob.to_vec())).collect();
    files.insert("index.json".into(), bytes(&index(&[descriptor(MANIFEST, manifest)])));
    files.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    files
}

/// The files of a `docker save` archive that holds one image.
pub fn docker_save(layers: &[Layer]) -> Files {
    let config = bytes(&config(layers));
    let paths: Vec<String> = layers.iter().map(|layer| blob_path(&layer.blob)).collect();
    let list = json!([{ "Config": blob_path(&config), "RepoTags": ["app:1.0"], "Layers": paths }]);
    let blobs = [&config[..]].into_iter().chain(layers.iter().map(|layer| &layer.blob[..]));
    let mut files: Files = blobs.map(|blob| (blob_path(blob), blob.to_vec())).collect();
    files.insert("manifest.json".into(), bytes(&list));
    files
}

/// `files` as a tar.
pub fn archive(files: &Files) -> Vec<u8> {
    files.iter().fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes)).finish()
}

/// Writes `files` below `directory`.
pub fn write_directory(directory: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

pub fn bytes(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).unwrap()
}
