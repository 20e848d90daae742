//! Every text of an inventory that comes from an image, in one place. Structures are taken apart whole: whoever adds a
//! field has to say here whether an image can put a text into it.

use std::sync::Arc;

use crate::ai_mark::{AiMark, AiRecord};
use crate::gap::Gap;
use crate::image_report::ImageGap;
use crate::inventory::{Distribution, InstalledPackage, Inventory, PackageRecord};
use crate::path::ImagePath;

/// Gives the bytes that stand in the place of a text, if others than its own do.
type Change<'c> = &'c mut dyn FnMut(&[u8]) -> Option<Vec<u8>>;

impl Inventory {
    /// Calls `change` with every text that an image, or whoever wrote it, can choose. What the program says is not
    /// among them, nor are digests and what the user typed.
    pub fn change_texts(&mut self, change: Change<'_>) {
        let Inventory {
            target: _,
            reference,
            manifest_digest: _,
            config_digest: _,
            platform,
            distribution,
            read_at: _,
            version: _,
            layers: _,
            packages,
            ai,
            gaps,
        } = self;
        reference.iter_mut().chain(platform).for_each(|text| of_text(text, change));
        if let Some(Distribution { id, version, title }) = distribution {
            [id].into_iter().chain(version).chain(title).for_each(|text| of_text(text, change));
        }
        for InstalledPackage { record, path, layer: _, state: _, ended_by: _ } in packages {
            of_package(record, change);
            of_path(path, change);
        }
        for AiMark { record, path, layer: _, state: _, ended_by: _ } in ai {
            of_ai(record, change);
            of_path(path, change);
        }
        for ImageGap { gap: Gap { reason: _, path, bytes: _, detail, count: _ }, layer: _ } in gaps {
            path.iter_mut().chain([detail]).for_each(|text| of_text(text, change));
        }
    }
}

/// Layers that have the same file share its records: only one that is changed is copied.
fn of_package(record: &mut Arc<PackageRecord>, change: Change<'_>) {
    let mut changed = PackageRecord::clone(record);
    let PackageRecord { ecosystem: _, namespace, name, version, epoch, architecture, licence, source, inside } =
        &mut changed;
    let optional = [namespace, epoch, architecture, licence, source].into_iter().flatten();
    optional.chain([name, version]).chain(inside).for_each(|text| of_text(text, change));
    if changed != **record {
        *record = Arc::new(changed);
    }
}

fn of_ai(record: &mut Arc<AiRecord>, change: Change<'_>) {
    let mut changed = AiRecord::clone(record);
    let AiRecord { kind: _, name, detail } = &mut changed;
    name.iter_mut().chain([detail]).for_each(|text| of_text(text, change));
    if changed != **record {
        *record = Arc::new(changed);
    }
}

fn of_path(path: &mut Arc<ImagePath>, change: Change<'_>) {
    if let Some(changed) = change(path.as_bytes()) {
        *path = Arc::new(path.masked(&changed));
    }
}

fn of_text(text: &mut String, change: Change<'_>) {
    if let Some(changed) = change(text.as_bytes()) {
        *text = String::from_utf8_lossy(&changed).into_owned();
    }
}
