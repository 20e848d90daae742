//! The floor of a scan: decompressing a layer, both digests and the walk, without scanning.

use std::ops::Range;

use layersift_format::tar::{BLOCK, Entry};
use layersift_format::{Blob, Cancellation};
use layersift_model::{Algorithm, ImagePath, Limits};
use layersift_scan::MemoryBudget;
use layersift_scan::confirm::{CONTEXT, REACH};
use layersift_scan::layer::buffer::{Bytes, Pool};
use layersift_scan::layer::read::{LayerFacts, LayerReader};
use layersift_scan::layer::walk::{Overlap, Rest, Visitor};
use layersift_scan::layer_work::LayerWork;

/// Reads a sound layer as a scan does.
pub fn read(blob: Blob<'_>) -> LayerFacts {
    let limits = Limits::default();
    let overlap = Overlap { before: CONTEXT, after: REACH };
    let pool = Pool::new((1 << 20) + CONTEXT + REACH + BLOCK);
    let cancellation = Cancellation::never();
    let reading = LayerReader {
        pool: &pool,
        overlap,
        limits: &limits,
        algorithm: Algorithm::Sha256,
        progress: &|_| {},
        cancellation: &cancellation,
        memory: &MemoryBudget::default().lease(0),
        work: &LayerWork::new(&limits),
        beside: None,
    };
    let facts = reading.layer(blob, &mut Nothing, &mut |_| {});
    assert!(facts.gaps.is_empty(), "{:?}", facts.gaps);
    facts
}

/// Visits every file and does nothing.
struct Nothing;

impl Visitor<'_> for Nothing {
    type File = ();

    fn entry(&mut self, _: &ImagePath, _: &Entry) -> Option<()> {
        Some(())
    }

    fn bytes(&mut self, (): &(), _: u64, _: &Bytes<'_>, _: Range<usize>) {}

    fn hole(&mut self, (): &(), _: u64) {}

    fn rest(&mut self, _: Rest) {}

    fn end(&mut self, (): ()) {}
}
