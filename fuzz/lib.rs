//! Helpers of the fuzz targets.

use std::sync::{Arc, OnceLock};

use layersift_format::tar::{BLOCK, Event, Kind, Parser};
use layersift_model::Limits;
use layersift_prompts::{Client, Gate, StreamCheck};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};

/// Bounds that inputs of a few kilobytes run into.
pub fn tiny_limits() -> Limits {
    Limits {
        document_bytes: 4 << 10,
        layers: 8,
        target_layers: 16,
        target_packages: 64,
        layer_bytes: 1 << 20,
        layer_work: 4 << 20,
        layer_work_per_byte: 4 << 10,
        target_work: 8 << 20,
        layer_entries: 64,
        findings_per_file: 4,
        findings_per_layer: 16,
        layer_finding_bytes: 4 << 10,
        layer_record_bytes: 8 << 10,
        layer_package_bytes: 8 << 10,
        image_layer_bytes: 16 << 10,
        image_finding_bytes: 8 << 10,
        gap_bytes: 1 << 10,
        tar_extension_bytes: 2 << 10,
        index_depth: 2,
        manifests: 8,
        referrers: 8,
        referrer_depth: 2,
        referrer_bytes: 16 << 10,
        archive_entries: 32,
        archive_name_bytes: 2 << 10,
        target_document_bytes: 16 << 10,
        archive_depth: 3,
        archive_members: 64,
        archive_bytes: 1 << 20,
    }
}

/// Takes the first `N` bytes of the input as choices; missing ones are 0.
pub fn choices<const N: usize>(data: &[u8]) -> ([u8; N], &[u8]) {
    let (head, rest) = data.split_at(data.len().min(N));
    let mut choices = [0; N];
    choices[..head.len()].copy_from_slice(head);
    (choices, rest)
}

/// Puts the right checksum into every header of a tar archive, and of the archives in it down to `depth`, so that
/// changed headers are read and not refused. Stops at the first block that is not part of an archive.
pub fn repair_tar(archive: &mut [u8], depth: usize) {
    let mut parser = Parser::new(1 << 20);
    let mut at = 0;
    while let Some(block) = archive.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<BLOCK>()) {
        repair_header(block);
        let Ok(event) = parser.block(block) else { return };
        at += BLOCK;
        match event {
            None => {}
            Some(Event::End) => return,
            Some(Event::Entry(entry)) => {
                let Ok(padded) = usize::try_from(entry.padded()) else { return };
                let end = at.saturating_add(padded);
                if let Some(data) = archive.get_mut(at..end).filter(|_| depth > 0 && entry.kind == Kind::File) {
                    repair_tar(data, depth - 1);
                }
                at = end;
            }
        }
    }
}

/// The checksum is the sum of the header's bytes, with spaces in its own place (POSIX.1-2017, `pax`, "ustar Interchange
/// Format"). Only blocks that say they are a header are touched: data of extensions passes here as well.
fn repair_header(block: &mut [u8; BLOCK]) {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    const MAGIC: std::ops::Range<usize> = 257..262;
    if &block[MAGIC] == b"ustar" {
        block[CHECKSUM].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// A gate with the built-in rules, which remembers nothing.
pub fn gate() -> &'static Gate {
    static GATE: OnceLock<Gate> = OnceLock::new();
    GATE.get_or_init(|| {
        let options = Options { limits: Gate::limits(), threads: 1, ..Options::default() };
        let rules = Ruleset::built_in().expect("the built-in rules are valid");
        Gate::new(Arc::new(Analyzer::new(rules, options).expect("they can be compiled")), 0)
    })
}

/// What passes of a stream that arrives in blocks, and whether it was cut off.
pub fn pass(stream: &[u8], block: usize, client: Client<'_>) -> (Vec<u8>, bool) {
    let mut check = StreamCheck::default();
    let mut out: Vec<u8> = stream.chunks(block).flat_map(|bytes| check.push(bytes, gate(), client)).collect();
    out.extend(check.finish(gate(), client));
    (out, check.is_cut())
}
