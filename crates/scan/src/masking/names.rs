//! Masks what rules find in names that no scan of a layer has seen: those of packages, repositories and tags.

use std::collections::HashSet;

use layersift_model::{Confidence, Gap, GapReason, ImageGap, Inventory, Secret};

use super::KnownSecrets;
use crate::analyzer::Analyzer;
use crate::confirm::{Confirmed, Matches, keep_best};
use crate::engine::EngineError;

/// Bytes of names that are scanned at once.
const BATCH: usize = 64 << 10;

impl Analyzer {
    /// Masks `known` secrets, and those that rules of high confidence find, in everything that `inventory` says. That
    /// the engine failed is a gap.
    pub fn mask_inventory(&self, inventory: &mut Inventory, known: Vec<Secret>) {
        let mut texts = HashSet::new();
        inventory.change_texts(&mut |text| {
            texts.insert(text.to_vec());
            None
        });
        let mut secrets = known;
        match self.secrets_in_names(texts.iter().map(Vec::as_slice)) {
            Ok(found) => secrets.extend(found),
            Err(error) => {
                let gap = Gap::new(GapReason::Unreadable, format!("names were not searched for secrets: {error}"));
                inventory.gaps.push(ImageGap { gap, layer: None });
            }
        }
        if let Some(known) = KnownSecrets::of(&secrets, &self.options.key) {
            inventory.change_texts(&mut |text| known.masked(text));
        }
    }

    /// `name` with what rules of high confidence find in it masked. An engine that fails may have found anything.
    pub fn mask_name(&self, name: &str) -> String {
        let Ok(secrets) = self.secrets_in_names([name.as_bytes()]) else { return "****".into() };
        let known = KnownSecrets::of(&secrets, &self.options.key);
        let masked = known.and_then(|known| known.masked(name.as_bytes()));
        masked.map_or_else(|| name.into(), |masked| String::from_utf8_lossy(&masked).into_owned())
    }

    /// The secrets that rules of high confidence find in `names`: those of caches and objects look like secrets to
    /// other rules.
    fn secrets_in_names<'n>(&self, names: impl IntoIterator<Item = &'n [u8]>) -> Result<Vec<Secret>, EngineError> {
        let mut found = Vec::new();
        let mut text = Vec::new();
        for name in names {
            text.extend_from_slice(name);
            text.push(b'\n');
            if text.len() >= BATCH {
                found.extend(self.sure_secrets(&text)?);
                text.clear();
            }
        }
        found.extend(self.sure_secrets(&text)?);
        Ok(found)
    }

    fn sure_secrets(&self, text: &[u8]) -> Result<Vec<Secret>, EngineError> {
        let mut matches = Matches::default();
        self.rules.worker()?.scan(text, &(0..text.len()), &mut matches)?;
        let mut found = matches.confirmed;
        found
            .retain(|one| self.rules.applies_at(one.rule, None) && self.rules.info(one).confidence == Confidence::High);
        keep_best(&self.rules.signatures, &mut found);
        let written = |one: Confirmed| one.secret.written_as(text.get(one.span).unwrap_or_default());
        Ok(found.into_iter().map(written).collect())
    }
}
