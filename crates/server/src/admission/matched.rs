//! The images that were asked about, each with what was decided about it. An image without a decision is denied, and a
//! decision that nobody asked for counts as well: whoever answers never lets in more than was decided.

use crate::admission::words::{describe, tidy};
use crate::admission::{Decision, Effect};
use layersift_model::Digest;
use std::collections::HashMap;

/// Bytes of a message: Kubernetes also keeps it in a condition of a ReplicaSet and in an event.
pub(crate) const MOST_MESSAGE: usize = 2_048;

/// Bytes that an image has in a message at least, before images are only counted.
const LEAST_SHARE: usize = 240;

/// An image with what was decided about it; `None` if nothing was.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    image: &'a str,
    pub(crate) decision: Option<&'a Decision>,
}

impl Entry<'_> {
    pub(crate) fn effect(&self) -> Effect {
        self.decision.map_or(Effect::Deny, |decision| decision.effect)
    }

    pub(crate) fn describe(&self, most: usize) -> String {
        match self.decision {
            Some(decision) => describe(decision, most),
            None => tidy(&format!("{}: nothing was decided about this image", tidy(self.image, most / 2)), most),
        }
    }
}

/// The images that were asked about, in their order, each with its worst decision, then decisions about other images. A
/// decision is about an image if it has the same text, and the digest if one was asked for.
pub(crate) fn entries<'a>(
    asked: impl Iterator<Item = (&'a str, Option<&'a Digest>)>,
    decisions: &'a [Decision],
) -> Vec<Entry<'a>> {
    let mut by_image: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, decision) in decisions.iter().enumerate() {
        by_image.entry(&decision.image).or_default().push(index);
    }
    let mut is_used = vec![false; decisions.len()];
    let mut entries = Vec::new();
    for (image, digest) in asked {
        let mut worst: Option<&Decision> = None;
        for &index in by_image.get(image).into_iter().flatten() {
            let decision = &decisions[index];
            if digest.is_some() && decision.digest.as_ref() != digest {
                continue;
            }
            is_used[index] = true;
            if worst.is_none_or(|known| decision.effect > known.effect) {
                worst = Some(decision);
            }
        }
        entries.push(Entry { image, decision: worst });
    }
    let others = decisions.iter().zip(is_used).filter(|(_, is_used)| !is_used);
    entries.extend(others.map(|(decision, _)| Entry { image: &decision.image, decision: Some(decision) }));
    entries
}

/// The worst effect; where there is nothing to judge, it is let in.
pub(crate) fn worst(entries: &[Entry<'_>]) -> Effect {
    entries.iter().map(Entry::effect).max().unwrap_or(Effect::Allow)
}

/// The entries of one effect in one line, each with its share of the bytes, then how many more there are.
pub(crate) fn message(entries: &[Entry<'_>], effect: Effect) -> String {
    let told: Vec<&Entry<'_>> = entries.iter().filter(|entry| entry.effect() == effect).collect();
    let mut text = String::from("layersift: ");
    // What "and 999 more images" takes.
    let room = MOST_MESSAGE - text.len() - 32;
    let shown = told.len().min(room / LEAST_SHARE);
    let mut left = room;
    for (index, entry) in told.iter().take(shown).enumerate() {
        let separator = if index > 0 { " | " } else { "" };
        // What an entry does not need is left to those after it.
        let share = (left / (shown - index)).saturating_sub(separator.len());
        let described = entry.describe(share);
        left = left.saturating_sub(separator.len() + described.len());
        text.push_str(separator);
        text.push_str(&described);
    }
    if told.len() > shown {
        text.push_str(&format!(" | and {} more images", told.len() - shown));
    }
    text
}
