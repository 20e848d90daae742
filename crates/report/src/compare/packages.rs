//! Packages before and after, by ecosystem and name.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use layersift_model::{Ecosystem, InstalledPackage, Inventory};

use super::Change;

/// The packages of two images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageChanges<'r> {
    /// Those that came, went, or have another version, by ecosystem and name.
    pub changed: Vec<PackageChange<'r>>,
    /// How many stayed as they were.
    pub stayed: usize,
    /// Whether both inventories are complete.
    pub is_complete: bool,
}

/// A package that came, went or has another version. Versions are those that a container sees, and those that only a
/// layer has, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageChange<'r> {
    /// What installed it.
    pub ecosystem: Ecosystem,
    /// Its name, with the namespace.
    pub name: Cow<'r, str>,
    /// Whether it came, went, or stayed with another version.
    pub change: Change,
    /// The versions before.
    pub before: Vec<&'r str>,
    /// The versions after.
    pub after: Vec<&'r str>,
    /// Versions of before that a layer of the image after still has, though no container sees them.
    pub hidden: Vec<&'r str>,
}

/// The versions of one package, in order.
#[derive(Default)]
struct Versions<'r> {
    visible: Vec<&'r str>,
    hidden: Vec<&'r str>,
}

/// The ecosystem of a package, and its name with the namespace.
type Key<'r> = (Ecosystem, Cow<'r, str>);

impl<'r> PackageChanges<'r> {
    pub(super) fn new(before: &'r Inventory, after: &'r Inventory) -> PackageChanges<'r> {
        let (mut old, mut new) = (by_name(before), by_name(after));
        let names: BTreeSet<Key<'r>> = old.keys().chain(new.keys()).cloned().collect();
        let mut changes = PackageChanges {
            is_complete: before.gaps.is_empty() && after.gaps.is_empty(),
            ..PackageChanges::default()
        };
        for key in names {
            let (old, new) = (old.remove(&key).unwrap_or_default(), new.remove(&key).unwrap_or_default());
            if old.visible == new.visible {
                changes.stayed += usize::from(!new.visible.is_empty());
                continue;
            }
            changes.changed.push(PackageChange {
                ecosystem: key.0,
                name: key.1,
                change: Change::of(!old.visible.is_empty(), !new.visible.is_empty()),
                hidden: old.visible.iter().copied().filter(|one| new.hidden.binary_search(one).is_ok()).collect(),
                before: old.visible,
                after: new.visible,
            });
        }
        changes
    }

    /// How many changed in this way.
    pub fn count(&self, change: Change) -> usize {
        self.changed.iter().filter(|package| package.change == change).count()
    }
}

fn by_name(inventory: &Inventory) -> BTreeMap<Key<'_>, Versions<'_>> {
    let mut packages: BTreeMap<Key<'_>, Versions<'_>> = BTreeMap::new();
    for InstalledPackage { record, state, .. } in &inventory.packages {
        let name = match &record.namespace {
            Some(namespace) => Cow::Owned(format!("{namespace}/{}", record.name)),
            None => Cow::Borrowed(&*record.name),
        };
        let versions = packages.entry((record.ecosystem, name)).or_default();
        let is_visible = *state == layersift_model::State::Present;
        let of = if is_visible { &mut versions.visible } else { &mut versions.hidden };
        of.push(&record.version);
    }
    for versions in packages.values_mut().flat_map(|one| [&mut one.visible, &mut one.hidden]) {
        versions.sort_unstable();
        versions.dedup();
    }
    packages
}
