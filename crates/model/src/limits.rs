//! The bounds that keep hostile input from costing unbounded memory or time. What a bound leaves out is a gap.

/// Upper bounds of one scan. `Limits::default()` is what the command line uses.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a manifest, index, configuration or package record. Registries commonly stop at 4 MiB.
    pub document_bytes: u64,
    /// Layers of one image. Runtimes stop at 127.
    pub layers: usize,
    /// Bytes that one layer may inflate to.
    pub layer_bytes: u64,
    /// Entries that one layer may hold.
    pub layer_entries: u64,
    /// Findings of one rule in one file.
    pub findings_per_file: usize,
    /// Findings in one layer.
    pub findings_per_layer: usize,
    /// Bytes of a path name or of a set of PAX records in a tar archive.
    pub tar_extension_bytes: u64,
    /// How deep indexes may name further indexes.
    pub index_depth: usize,
    /// Manifests that one target may hold.
    pub manifests: usize,
    /// Entries of an archive that holds an image (blobs, not files of layers).
    pub archive_entries: usize,
    /// How deep archives inside a layer's file are opened; a compressed stream counts as one.
    pub archive_depth: usize,
    /// Members of all archives inside one file.
    pub archive_members: u64,
    /// Bytes that all compressed streams inside one file may inflate to.
    pub archive_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            document_bytes: 8 << 20,
            layers: 1_000,
            layer_bytes: 64 << 30,
            layer_entries: 2_000_000,
            findings_per_file: 1_000,
            findings_per_layer: 100_000,
            tar_extension_bytes: 1 << 20,
            index_depth: 4,
            manifests: 1_000,
            archive_entries: 100_000,
            archive_depth: 8,
            archive_members: 1_000_000,
            archive_bytes: 4 << 30,
        }
    }
}
