//! Names that only the listing of a store has: of images, containers, volumes and layers, what is said of them, and
//! files that could not be read. No scan of a layer sees them, and they go through one search for secrets before any
//! report is made. The user asks for an image by its real name; only what is said of it is masked.

use layersift_format::manifest::{Image, ImageError};
use layersift_format::{Cancellation, FileSet, SourceError};
use layersift_model::Gap;

use crate::analyzer::Analyzer;
use crate::masking::NameWork;

/// Masks the names of the `images` of a store.
pub(crate) fn mask_images(analyzer: &Analyzer, images: &mut [Image], cancellation: &Cancellation) {
    let mut work = NameWork::new(analyzer.limits(), cancellation);
    let mut texts: Vec<&mut String> = Vec::new();
    for Image { reference, notes, gaps, .. } in images.iter_mut() {
        texts.extend(reference.iter_mut().chain(notes));
        texts.extend(gaps.iter_mut().flat_map(of_gap));
    }
    if let Some(gap) = analyzer.mask_texts(texts, &mut work)
        && let Some(first) = images.first_mut()
    {
        first.gaps.push(gap);
    }
}

/// Masks the names of files that are in no image, and what is said of them.
pub(crate) fn mask_sets(analyzer: &Analyzer, sets: &mut [FileSet], cancellation: &Cancellation) {
    let mut work = NameWork::new(analyzer.limits(), cancellation);
    let mut texts: Vec<&mut String> = Vec::new();
    for FileSet { kind: _, name, layers, notes, gaps, standing: _ } in sets.iter_mut() {
        texts.push(name);
        texts.extend(layers.iter_mut().map(|(_, what)| what).chain(notes));
        texts.extend(gaps.iter_mut().flat_map(of_gap));
    }
    if let Some(gap) = analyzer.mask_texts(texts, &mut work)
        && let Some(last) = sets.last_mut()
    {
        last.gaps.push(gap);
    }
}

/// Masks the names of what a source could not read.
pub(crate) fn mask_gaps(analyzer: &Analyzer, gaps: &mut Vec<Gap>, work: &mut NameWork) {
    if gaps.is_empty() {
        return;
    }
    let gap = analyzer.mask_texts(gaps.iter_mut().flat_map(of_gap).collect(), work);
    gaps.extend(gap);
}

fn of_gap(gap: &mut Gap) -> impl Iterator<Item = &mut String> {
    let Gap { reason: _, path, bytes: _, detail, count: _ } = gap;
    path.iter_mut().chain([detail])
}

/// The error of a target, with the names that it lists masked.
pub(crate) fn masked_error(analyzer: &Analyzer, error: ImageError) -> ImageError {
    match error {
        ImageError::Source(SourceError::SeveralImages { known }) => {
            SourceError::SeveralImages { known: analyzer.mask_name(&known) }.into()
        }
        ImageError::Source(SourceError::NoSuchReference { wanted, known }) => {
            SourceError::NoSuchReference { wanted, known: analyzer.mask_name(&known) }.into()
        }
        error => error,
    }
}
