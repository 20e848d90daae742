//! Limits that keep hostile input from taking unbounded memory or time. Bytes beyond a limit are reported as a gap.

/// Limits of one scan. The command line uses `Limits::default()`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a manifest, index, configuration or package record. Registries commonly stop at 4 MiB.
    pub document_bytes: u64,
    /// Layers of one image. Runtimes stop at 127.
    pub layers: usize,
    /// Layers of all images of one target. A layer that several images name counts as often.
    pub target_layers: usize,
    /// Uncompressed bytes of one layer.
    pub layer_bytes: u64,
    /// Work of one layer: bytes that are decompressed, decoded or scanned, and more for what takes longer. It is
    /// counted as if every byte were read at full speed.
    pub layer_work: u64,
    /// Work that each byte of the layer's blob permits on top of that.
    pub layer_work_per_byte: u64,
    /// Work of all layers of one target beyond what their bytes permit. Layers that come after are not read.
    pub target_work: u64,
    /// Entries of one layer.
    pub layer_entries: u64,
    /// Findings of one rule in one file.
    pub findings_per_file: usize,
    /// Findings in one layer.
    pub findings_per_layer: usize,
    /// Bytes in memory of the findings of one layer. The gravest are kept.
    pub layer_finding_bytes: u64,
    /// Bytes in memory of what the report of one layer says of its entries: paths, links, whiteouts, package records.
    pub layer_record_bytes: u64,
    /// Bytes in memory of the packages and marks of AI that the files of one layer record. The first are kept.
    pub layer_package_bytes: u64,
    /// Bytes in memory of the reports of all layers of one target. The layers beyond keep their gravest findings.
    pub image_layer_bytes: u64,
    /// Bytes in memory of the findings of one image. The gravest are kept.
    pub image_finding_bytes: u64,
    /// Packages and marks of AI that the inventories of one target list.
    pub target_packages: usize,
    /// Bytes in memory of the gaps of one kind that are listed, in one layer or image. More are counted.
    pub gap_bytes: u64,
    /// Bytes of a path name or of a set of PAX records in a tar archive.
    pub tar_extension_bytes: u64,
    /// Nesting depth of image indexes.
    pub index_depth: usize,
    /// Manifests of one target.
    pub manifests: usize,
    /// Manifests of signatures, attestations and other artifacts that refer to the images of one target.
    pub referrers: usize,
    /// Nesting depth of referrers: the signature of a bill of materials has a depth of two.
    pub referrer_depth: usize,
    /// Bytes of the blobs of all referrers of one image.
    pub referrer_bytes: u64,
    /// Entries of an archive that contains an image (blobs, not files in layers).
    pub archive_entries: usize,
    /// Bytes of the names of all entries of an archive that contains an image, and of what they link to.
    pub archive_name_bytes: usize,
    /// Bytes of all manifests, indexes and configurations of one target.
    pub target_document_bytes: u64,
    /// Nesting depth of archives inside a file of a layer; a compressed stream counts as one.
    pub archive_depth: usize,
    /// Members of all archives inside one file.
    pub archive_members: u64,
    /// Decompressed bytes of all compressed streams inside one file.
    pub archive_bytes: u64,
}

impl Limits {
    /// The limits of one of two targets whose reports are in memory at the same time.
    #[must_use]
    pub fn of_one_of_two(self) -> Limits {
        Limits {
            image_finding_bytes: self.image_finding_bytes / 2,
            target_packages: self.target_packages / 2,
            target_layers: self.target_layers / 2,
            ..self
        }
    }

    /// These limits without those on which no report of a layer depends.
    #[must_use]
    pub fn of_layers(&self) -> Limits {
        Limits { image_finding_bytes: 0, target_packages: 0, target_layers: 0, ..self.clone() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            document_bytes: 8 << 20,
            layers: 1_000,
            target_layers: 30_000,
            layer_bytes: 64 << 30,
            layer_work: 128 << 20,
            layer_work_per_byte: 1536,
            target_work: 1 << 30,
            layer_entries: 2_000_000,
            findings_per_file: 1_000,
            findings_per_layer: 100_000,
            layer_finding_bytes: 16 << 20,
            layer_record_bytes: 80 << 20,
            layer_package_bytes: 40 << 20,
            image_layer_bytes: 56 << 20,
            image_finding_bytes: 48 << 20,
            target_packages: 500_000,
            gap_bytes: 256 << 10,
            tar_extension_bytes: 1 << 20,
            index_depth: 4,
            manifests: 1_000,
            referrers: 1_000,
            referrer_depth: 4,
            referrer_bytes: 4 << 30,
            archive_entries: 100_000,
            archive_name_bytes: 16 << 20,
            target_document_bytes: 64 << 20,
            archive_depth: 8,
            archive_members: 1_000_000,
            archive_bytes: 4 << 30,
        }
    }
}
