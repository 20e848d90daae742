//! Packages before and after, by ecosystem and name.

use std::collections::{BTreeMap, BTreeSet};

use layersift_model::{Ecosystem, InstalledPackage, Inventory};

use super::Change;

/// The packages of two images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageChanges {
    /// Those that came, went, or have another version, by ecosystem and name.
    pub changed: Vec<PackageChange>,
    /// How many stayed as they were.
    pub stayed: usize,
    /// Whether both inventories are complete.
    pub is_complete: bool,
}

/// A package that came, went or has another version. Versions are those that a container sees, and those that only a
/// layer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageChange {
    /// What installed it.
    pub ecosystem: Ecosystem,
    /// Its name, with the namespace.
    pub name: String,
    /// Whether it came, went, or stayed with another version.
    pub change: Change,
    /// The versions before.
    pub before: BTreeSet<String>,
    /// The versions after.
    pub after: BTreeSet<String>,
    /// Versions of before that a layer of the image after still has, though no container sees them.
    pub hidden: BTreeSet<String>,
}

/// The versions of one package.
#[derive(Default)]
struct Versions {
    visible: BTreeSet<String>,
    hidden: BTreeSet<String>,
}

impl PackageChanges {
    pub(super) fn new(before: &Inventory, after: &Inventory) -> PackageChanges {
        let (old, new) = (by_name(before), by_name(after));
        let names: BTreeSet<&(Ecosystem, String)> = old.keys().chain(new.keys()).collect();
        let none = Versions::default();
        let mut changes = PackageChanges {
            is_complete: before.gaps.is_empty() && after.gaps.is_empty(),
            ..PackageChanges::default()
        };
        for key in names {
            let (old, new) = (old.get(key).unwrap_or(&none), new.get(key).unwrap_or(&none));
            if old.visible == new.visible {
                changes.stayed += usize::from(!new.visible.is_empty());
                continue;
            }
            changes.changed.push(PackageChange {
                ecosystem: key.0,
                name: key.1.clone(),
                change: Change::of(!old.visible.is_empty(), !new.visible.is_empty()),
                before: old.visible.clone(),
                after: new.visible.clone(),
                hidden: old.visible.intersection(&new.hidden).cloned().collect(),
            });
        }
        changes
    }

    /// How many changed in this way.
    pub fn count(&self, change: Change) -> usize {
        self.changed.iter().filter(|package| package.change == change).count()
    }
}

fn by_name(inventory: &Inventory) -> BTreeMap<(Ecosystem, String), Versions> {
    let mut packages: BTreeMap<(Ecosystem, String), Versions> = BTreeMap::new();
    for InstalledPackage { record, state, .. } in &inventory.packages {
        let namespace = record.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let versions = packages.entry((record.ecosystem, format!("{namespace}{}", record.name))).or_default();
        let is_visible = *state == layersift_model::State::Present;
        let of = if is_visible { &mut versions.visible } else { &mut versions.hidden };
        of.insert(record.version.clone());
    }
    packages
}
