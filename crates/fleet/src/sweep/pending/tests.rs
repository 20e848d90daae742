//! Which layers of waiting images are queued, and which images are left out.

use std::sync::Arc;

use layersift_format::manifest::{Image, LayerSource};
use layersift_scan::{DocumentReport, MemoryBudget};
use layersift_source::catalog::Entry;
use layersift_source::registry::Reference;

use super::*;

/// A layer may take 10, and all layers 25.
fn limits() -> Limits {
    Limits { layer_work: 10, target_work: 25, ..Limits::default() }
}

/// An image with these layers, the largest first.
fn image(names: &[&str], known: &[(&str, u64)]) -> PendingImage {
    let reference: Reference = "registry.test/team/app:1".parse().unwrap();
    let entry = Entry {
        host: reference.host,
        project: None,
        repository: reference.repository,
        tags: Vec::new(),
        digest: None,
        pushed_at: None,
    };
    let layer = |(size, name): (u64, &&str)| LayerSource {
        digest: Some(Digest::of(name.as_bytes())),
        size: Some(size),
        ..LayerSource::default()
    };
    // The manifest names them in the other order.
    let mut layers: Vec<LayerSource> = (1..=names.len() as u64).rev().zip(names).map(layer).collect();
    layers.reverse();
    let pending = |name: &&str| {
        let ended = known.iter().find(|(known, _)| known == name);
        let state = ended.map_or(LayerState::Unread, |(_, extra)| LayerState::Ended(*extra));
        let digest = Digest::of(name.as_bytes());
        (digest.clone(), PendingLayer { digest, bytes: 1, priority: 1, state })
    };
    let image = Image { reference: Some(names.concat()), layers, ..Image::default() };
    let documents = DocumentReport::default();
    let planned = PlannedImage { image, documents, entry: Arc::new(entry), former: Vec::new() };
    PendingImage::new(planned, names.iter().map(pending).collect(), "registry.test/team/app".into())
}

fn entry(images: Vec<PendingImage>) -> PendingEntry {
    PendingEntry::new(images, 1, MemoryBudget::default().retain(0))
}

/// The layers to queue, the images to assemble, and those that are left out.
fn next(entry: &mut PendingEntry) -> (Vec<String>, Vec<String>, Vec<String>) {
    let Next { jobs, complete, left_out } = entry.next(&limits());
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let name = |job: Job| names.iter().find(|name| Digest::of(name.as_bytes()) == job.layer).unwrap().to_string();
    let of = |images: Vec<PlannedImage>| images.into_iter().map(|planned| planned.image.reference.unwrap()).collect();
    (jobs.into_iter().map(name).collect(), of(complete), of(left_out))
}

fn end(entry: &mut PendingEntry, names: &[&str], extra: u64) {
    entry.note(|layer| names.iter().any(|name| Digest::of(name.as_bytes()) == *layer).then_some(extra));
}

fn strings<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(String::from).into()
}

#[test]
fn ordinary_layers_are_queued_as_others_end() {
    let mut entry = entry(vec![image(&["a", "b", "c", "d", "e"], &[])]);
    assert_eq!(next(&mut entry), (strings(["a", "b", "c"]), vec![], vec![]));
    assert!(entry.is_held && entry.queued().count() == 3);
    assert_eq!(next(&mut entry), (vec![], vec![], vec![]), "none is queued twice");
    end(&mut entry, &["b"], 0);
    assert_eq!(next(&mut entry), (strings(["d"]), vec![], vec![]));
    end(&mut entry, &["a", "c"], 0);
    assert_eq!(next(&mut entry), (strings(["e"]), vec![], vec![]));
    assert!(!entry.is_held && entry.waiting() == 1);
    end(&mut entry, &["d", "e"], 0);
    assert_eq!(next(&mut entry), (vec![], strings(["abcde"]), vec![]));
    assert_eq!((entry.waiting(), entry.queued().count()), (0, 0));
}

#[test]
fn layers_after_those_that_took_too_much_are_not_read() {
    let mut entry = entry(vec![image(&["a", "b", "c", "d", "e"], &[])]);
    next(&mut entry);
    end(&mut entry, &["a", "b"], 9);
    assert_eq!(next(&mut entry), (vec![], vec![], vec![]), "the third may take the rest, or not");
    end(&mut entry, &["c"], 9);
    assert_eq!(next(&mut entry), (vec![], strings(["abcde"]), vec![]));
    assert_eq!(entry.waiting(), 0);
}

#[test]
fn known_layers_count_in_their_places() {
    let known = [("a", 9), ("b", 9), ("e", 9)];
    let mut entry = entry(vec![image(&["a", "b", "c", "d", "e", "f"], &known)]);
    assert_eq!(next(&mut entry).0, strings(["c"]));
    end(&mut entry, &["c"], 7);
    assert_eq!(next(&mut entry).0, strings(["d"]));
    end(&mut entry, &["d"], 0);
    // The fifth makes it 34, so the last is not read.
    assert_eq!(next(&mut entry), (vec![], strings(["abcdef"]), vec![]));
}

#[test]
fn images_after_those_that_took_too_much_are_left_out() {
    let images = || vec![image(&["a", "b", "c", "d"], &[]), image(&["a", "e"], &[]), image(&["f"], &[("f", 0)])];
    let mut entry = entry(images());
    assert_eq!(next(&mut entry).0, strings(["a", "b", "c"]));
    end(&mut entry, &["a", "b", "c"], 9);
    assert_eq!(next(&mut entry), (vec![], strings(["abcd", "f"]), strings(["ae"])), "what is known is assembled");
    assert_eq!(next(&mut entry), (vec![], vec![], vec![]));

    let mut entry = self::entry(images());
    next(&mut entry);
    end(&mut entry, &["a", "b"], 0);
    let read = (strings(["d", "e"]), strings(["f"]), vec![]);
    assert_eq!(next(&mut entry), read, "the next image is read as soon as there is room");
    end(&mut entry, &["c", "d", "e"], 0);
    assert_eq!(next(&mut entry).1, strings(["abcd", "ae"]));
}

#[test]
fn a_layer_of_several_images_counts_once() {
    let mut entry = entry(vec![image(&["a", "b"], &[]), image(&["a", "b", "c"], &[]), image(&["d"], &[])]);
    next(&mut entry);
    end(&mut entry, &["a", "b", "c"], 8);
    // They took 24 in all.
    assert_eq!(next(&mut entry), (strings(["d"]), strings(["ab", "abc"]), vec![]));
}
