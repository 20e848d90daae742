//! The rows of the picture, from top to bottom: the documents, the layers, the last first, and where the base begins.

use std::collections::BTreeSet;

use layersift_model::{ImageReport, LayerOrigin};

use super::lanes::Lane;

/// The heights of a layer, of several in one row, and of the line above the base, in pixels.
const LAYER: usize = 46;
const RUN: usize = 28;
const BOUNDARY: usize = 26;

/// Layers that are all drawn; of more, those without a finding may share a row.
const ALL: usize = 24;

/// The fewest layers that share a row.
const SHARING: usize = 3;

/// The most rows at each end of the picture.
const MOST: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The configuration, manifests and attestations.
    Documents,
    /// The layer with this index.
    Layer(usize),
    /// The layers from the first index to the last.
    Run(usize, usize),
    /// The top of the base image.
    Boundary,
}

/// A row and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) top: usize,
    pub(super) height: usize,
}

impl Row {
    pub(super) fn middle(self) -> usize {
        self.top + self.height / 2
    }

    /// Whether the row stands for the layer `index`.
    pub(super) fn holds(self, index: usize) -> bool {
        match self.kind {
            Kind::Layer(layer) => layer == index,
            Kind::Run(first, last) => (first..=last).contains(&index),
            Kind::Documents | Kind::Boundary => false,
        }
    }
}

/// The rows for `report`, the first `top` pixels from the top.
pub(super) fn rows(report: &ImageReport, lanes: &[Lane], top: usize) -> Vec<Row> {
    let mut kinds = layers(report, lanes);
    if kinds.len() > 2 * MOST {
        kinds = shortened(&kinds);
    }
    let is_base = |kind: &Kind| match kind {
        Kind::Layer(index) | Kind::Run(index, _) => {
            report.layers.get(*index).is_some_and(|layer| layer.origin == Some(LayerOrigin::Base))
        }
        Kind::Documents | Kind::Boundary => false,
    };
    let bases = kinds.iter().take_while(|kind| is_base(kind)).count();
    if bases > 0 && bases < kinds.len() {
        kinds.insert(bases, Kind::Boundary);
    }
    if report.findings.iter().any(|finding| finding.file().is_none()) {
        kinds.push(Kind::Documents);
    }
    let mut next = top;
    let place = |kind: Kind| {
        let height = match kind {
            Kind::Documents | Kind::Layer(_) => LAYER,
            Kind::Run(..) => RUN,
            Kind::Boundary => BOUNDARY,
        };
        next += height;
        Row { kind, top: next - height, height }
    };
    kinds.into_iter().rev().map(place).collect()
}

/// The layers from the base up. Where there are many, neighbours without anything to show share a row.
fn layers(report: &ImageReport, lanes: &[Lane]) -> Vec<Kind> {
    let count = report.layers.len();
    if count <= ALL {
        return (0..count).map(Kind::Layer).collect();
    }
    let files = report.findings.iter().filter_map(|finding| finding.file());
    let mut busy: BTreeSet<usize> = files.map(|file| file.layer.index).collect();
    let segments = lanes.iter().flat_map(|lane| lane.segments.keys());
    busy.extend(segments.flat_map(|segment| segment.from.into_iter().chain(segment.to)));
    busy.extend(report.gaps.iter().filter_map(|gap| gap.layer));
    busy.extend((0..count).filter(|index| report.layers.get(*index).is_some_and(|layer| !layer.is_read)));
    let origin = |index: usize| report.layers.get(index).and_then(|layer| layer.origin);
    let mut kinds = Vec::new();
    let mut index = 0;
    while index < count {
        let is_quiet = |other: &usize| !busy.contains(other) && origin(*other) == origin(index);
        let quiet = (index..count).take_while(is_quiet).count();
        match quiet {
            SHARING.. => kinds.push(Kind::Run(index, index + quiet - 1)),
            _ => kinds.push(Kind::Layer(index)),
        }
        index += if quiet >= SHARING { quiet } else { 1 };
    }
    kinds
}

/// The first and the last rows of `kinds`, and one for all between them.
fn shortened(kinds: &[Kind]) -> Vec<Kind> {
    let first = |kind: &Kind| match kind {
        Kind::Layer(index) | Kind::Run(index, _) => *index,
        Kind::Documents | Kind::Boundary => 0,
    };
    let below = kinds.get(..MOST).unwrap_or(kinds);
    let above = kinds.get(kinds.len().saturating_sub(MOST)..).unwrap_or_default();
    let start = kinds.get(MOST).map_or(0, first);
    let end = above.first().map_or(0, first).saturating_sub(1);
    below.iter().copied().chain([Kind::Run(start, end)]).chain(above.iter().copied()).collect()
}
