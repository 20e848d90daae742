//! Masks what rules find in names that no scan of a layer has seen: those of packages, repositories and tags.
//!
//! Names are searched in their order, many at once, so that what is found is the same in every run. They may take as
//! much work as the layers of their image permit; names beyond that are hidden, because anything may be in them.

use std::collections::{BTreeSet, HashSet};
use std::mem;

use layersift_format::Cancellation;
use layersift_model::{Digest, Gap, GapReason, HEAD, ImageGap, Inventory, InventoryLayer, Limits, Secret};

use super::KnownSecrets;
use crate::analyzer::Analyzer;
use crate::engine::EngineError;
use crate::layer::read::cancelled;
use crate::name_batch::NameBatch;

/// What stands in the place of a name that was not searched.
const HIDDEN: &str = "****";

/// Each byte of a layer permits one part of this many of the work that it permits for the layer: names are a small part
/// of what is read.
const SHARE: u64 = 24;

/// The work that is done even if the time for the scan is over: that of the names of ordinary images, a few hundredths
/// of a second. What was read until then could not be shown otherwise.
const ALWAYS: u64 = 32 << 20;

/// The work of searching the names in the inventories of one target; see `layer_work`.
#[derive(Debug)]
pub struct NameWork {
    limit: u64,
    per_byte: u64,
    spent: u64,
    /// The layers that permitted work. Images share layers.
    counted: HashSet<Digest>,
    cancellation: Cancellation,
}

impl NameWork {
    /// No work yet, and what `limits` permit. It stops on `cancellation`.
    pub fn new(limits: &Limits, cancellation: &Cancellation) -> NameWork {
        NameWork {
            limit: limits.layer_work,
            per_byte: limits.layer_work_per_byte / SHARE,
            spent: 0,
            counted: HashSet::new(),
            cancellation: cancellation.clone(),
        }
    }

    /// The work so far.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// Adds what the bytes of `layers` permit.
    fn permit(&mut self, layers: &[InventoryLayer]) {
        for layer in layers {
            if layer.digest.as_ref().is_some_and(|digest| self.counted.insert(digest.clone())) {
                self.limit = self.limit.saturating_add(layer.stored_bytes.saturating_mul(self.per_byte));
            }
        }
    }

    /// Why no more names are searched, with `left` names left.
    fn refusal(&self, left: usize) -> Option<Gap> {
        if self.spent > self.limit {
            let detail = format!(
                "names take more work to search for secrets than those of an image of this size may; {left} are hidden"
            );
            return Some(Gap::new(GapReason::TooManyEntries, detail));
        }
        let reason = self.cancellation.reason().filter(|_| self.spent > ALWAYS)?;
        let detail = format!("not all names were searched for secrets; {left} are hidden");
        Some(Gap { detail, ..cancelled(reason) })
    }
}

impl Analyzer {
    /// Masks `known` secrets, and those that rules of high confidence find, in everything that `inventory` says. What
    /// was not searched for them is hidden, and is a gap.
    pub fn mask_inventory(&self, inventory: &mut Inventory, known: Vec<Secret>, work: &mut NameWork) {
        work.permit(&inventory.layers);
        let names = names_of(inventory);
        let mut secrets = known;
        let (searched, gap) = self.search_names(&names, work, &mut secrets);
        let hidden: HashSet<&[u8]> = names.iter().skip(searched).map(Vec::as_slice).collect();
        let known = KnownSecrets::of(&secrets, &self.options.key);
        if known.is_some() || !hidden.is_empty() {
            inventory.change_texts(&mut |text| match hidden.contains(text) {
                true => Some(HIDDEN.into()),
                false => known.as_ref().and_then(|known| known.masked(text)),
            });
        }
        inventory.gaps.extend(gap.map(|gap| ImageGap { gap, layer: None }));
    }

    /// Masks what rules of high confidence find in `texts`, which come from a target and not from what was read of it.
    /// What was not searched is hidden, and is a gap.
    pub(crate) fn mask_texts(&self, mut texts: Vec<&mut String>, work: &mut NameWork) -> Option<Gap> {
        let mut known = HashSet::new();
        let long = texts.iter().filter(|text| text.len() >= HEAD && known.insert(text.as_bytes()));
        let names: Vec<Vec<u8>> = long.map(|text| text.as_bytes().to_vec()).collect();
        let mut secrets = Vec::new();
        let (searched, gap) = self.search_names(&names, work, &mut secrets);
        let hidden: HashSet<&[u8]> = names.iter().skip(searched).map(Vec::as_slice).collect();
        let known = KnownSecrets::of(&secrets, &self.options.key);
        for text in &mut texts {
            if hidden.contains(text.as_bytes()) {
                **text = HIDDEN.into();
            } else if let Some(known) = &known {
                known.mask(text);
            }
        }
        gap
    }

    /// `name` with what rules of high confidence find in it masked. An engine that fails may have found anything.
    pub fn mask_name(&self, name: &str) -> String {
        let mut work = NameWork::new(&self.options.limits, &Cancellation::never());
        let mut secrets = Vec::new();
        if let (_, Some(_)) = self.search_names(&[name.into()], &mut work, &mut secrets) {
            return HIDDEN.into();
        }
        let known = KnownSecrets::of(&secrets, &self.options.key);
        let masked = known.and_then(|known| known.masked(name.as_bytes()));
        masked.map_or_else(|| name.into(), |masked| String::from_utf8_lossy(&masked).into_owned())
    }

    /// Adds the secrets that rules of high confidence find in `names` to `found`: those of caches and objects look like
    /// secrets to other rules. Returns how many names were searched, and why not all.
    fn search_names(&self, names: &[Vec<u8>], work: &mut NameWork, found: &mut Vec<Secret>) -> (usize, Option<Gap>) {
        let failed = |error: &EngineError| {
            Some(Gap::new(GapReason::Unreadable, format!("names were not searched for secrets: {error}")))
        };
        let mut worker = match self.rules.worker() {
            Ok(worker) => worker,
            Err(error) => return (0, failed(&error)),
        };
        let (mut searched, mut batch) = (0, NameBatch::default());
        while let Some(rest) = names.get(searched..).filter(|rest| !rest.is_empty()) {
            if let Some(gap) = work.refusal(rest.len()) {
                return (searched, Some(gap));
            }
            batch.clear();
            for name in rest {
                batch.push(&[name]);
                if batch.is_full() {
                    break;
                }
            }
            let before = worker.work();
            let outcome = batch.search(&self.rules, &mut worker);
            work.spent = work.spent.saturating_add(worker.work() - before);
            match outcome {
                Ok(matches) => found.extend(matches.into_iter().map(|(_, one)| one.secret)),
                Err(error) => return (searched, failed(&error)),
            }
            searched += batch.len();
        }
        (searched, None)
    }
}

/// The texts of `inventory` that are long enough for a secret. What the image says of itself, and why something was not
/// read, comes before the names of its packages and files, which may take all the work.
fn names_of(inventory: &mut Inventory) -> Vec<Vec<u8>> {
    let (packages, ai) = (mem::take(&mut inventory.packages), mem::take(&mut inventory.ai));
    let first = texts_of(inventory);
    (inventory.packages, inventory.ai) = (packages, ai);
    let mut rest = texts_of(inventory);
    rest.retain(|text| !first.contains(text));
    first.into_iter().chain(rest).collect()
}

fn texts_of(inventory: &mut Inventory) -> BTreeSet<Vec<u8>> {
    let mut texts = BTreeSet::new();
    inventory.change_texts(&mut |text| {
        if text.len() >= HEAD && !texts.contains(text) {
            texts.insert(text.to_vec());
        }
        None
    });
    texts
}
