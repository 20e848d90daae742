//! What a service asks of images, on SQLite and on PostgreSQL: where a digest leads, how far the reading of its layers
//! is, the best report that there is, and all images in parts.

use crate::support::Fresh;
use crate::support::records::*;
use layersift_model::{Digest, ImageReport, LayerKey};
use layersift_store::{ImageId, ReportEntry, Store, TagSighting};

crate::on_both!(
    a_digest_leads_to_its_images,
    the_layers_of_all_images_count_once,
    the_report_under_the_key_comes_first_then_the_latest,
    a_damaged_report_gives_way_to_the_next,
    images_are_listed_in_parts,
);

/// Records that the digest of `root` leads to an image in a repository.
fn see(store: &Store, repository_name: &str, tag: Option<&str>, root: &str, image: ImageId) {
    let sighting = TagSighting {
        repository: repository(repository_name),
        tag: tag.map(String::from),
        digest: digest(root),
        image,
    };
    store.tags().see(&[sighting], 10).unwrap();
}

fn sorted(names: &[&str]) -> Vec<Digest> {
    let mut digests: Vec<Digest> = names.iter().map(|name| digest(name)).collect();
    digests.sort_unstable();
    digests
}

fn a_digest_leads_to_its_images(fresh: &Fresh) {
    let store = fresh.open();
    let led_to = |root: &str| store.images().led_to(&digest(root)).unwrap();
    let [amd64, arm64, index] = ["amd64", "arm64", "index"].map(|name| store.images().put(&image(name, &[name]), 1));
    let (amd64, arm64, index) = (amd64.unwrap(), arm64.unwrap(), index.unwrap());
    assert!(led_to("index").is_empty());
    see(&store, "app", Some("v1"), "index", amd64);
    see(&store, "app", None, "index", arm64);
    see(&store, "copy", Some("v1"), "index", amd64);
    assert_eq!(led_to("index"), sorted(&["amd64", "arm64"]), "from any repository, each once");
    assert!(!led_to("index").contains(&digest("index")), "not yet all");
    see(&store, "app", None, "index", index);
    fresh.execute("UPDATE tags SET gone_at = 11");
    assert_eq!(led_to("index"), sorted(&["amd64", "arm64", "index"]));
    see(&store, "app", Some("v2"), "amd64", amd64);
    assert_eq!(led_to("amd64"), sorted(&["amd64"]));
    assert!(led_to("other").is_empty());
}

fn the_layers_of_all_images_count_once(fresh: &Fresh) {
    let store = fresh.open();
    let progress = |root: &str, key: &LayerKey| store.images().layer_progress(&digest(root), key).unwrap();
    assert_eq!(progress("index", &key()), (0, 0));
    let amd64 = store.images().put(&image("amd64", &["base", "a", "b"]), 1).unwrap();
    let arm64 = store.images().put(&image("arm64", &["base", "c"]), 1).unwrap();
    see(&store, "app", Some("v1"), "index", amd64);
    see(&store, "copy", Some("v1"), "index", amd64);
    see(&store, "app", None, "index", arm64);
    assert_eq!(progress("index", &key()), (0, 4), "the key is not in the store yet");
    for (layer, key) in [("base", key()), ("a", key()), ("a", other_key()), ("elsewhere", key())] {
        store.layers().put_report(&layer_report(layer, &key, 5)).unwrap();
    }
    assert_eq!(progress("index", &key()), (2, 4));
    assert_eq!(progress("index", &other_key()), (1, 4));
    assert_eq!(progress("arm64", &key()), (1, 2), "without a tag");
}

/// A report of an image that says which it is.
fn labelled(name: &str, label: &str) -> ImageReport {
    ImageReport { target: label.into(), ..image_report(name, &["base"], &[]) }
}

/// The keys of reports that count.
const KEYS: [&str; 3] = ["sha256:key-1", "sha256:key-2", "sha256:key-3"];

fn dated(store: &Store, names: &[&str], key: &LayerKey) -> Vec<(String, LayerKey, i64)> {
    let manifests: Vec<Digest> = names.iter().map(|name| digest(name)).collect();
    let entries = store.images().report_entries(&manifests, Some(key), Some(&KEYS.map(LayerKey::new))).unwrap();
    let first = |entries: Vec<ReportEntry>| {
        entries.into_iter().find_map(|entry| {
            let report = store.images().read(&entry).unwrap()?;
            // As much as it takes to read it, if not less than its JSON form.
            assert!(entry.memory() >= entry.bytes && entry.bytes > 0);
            Some((report.target, entry.key, entry.stored_at))
        })
    };
    entries.into_iter().filter_map(first).collect()
}

fn the_report_under_the_key_comes_first_then_the_latest(fresh: &Fresh) {
    let store = fresh.open();
    let images = store.images();
    let third = LayerKey::new("sha256:key-3");
    let put = |name: &str, label: &str, key: &LayerKey, now: i64| {
        images.put_report(&labelled(name, label), key, None, now).unwrap();
    };
    put("app", "app 1", &key(), 10);
    put("app", "app 2", &other_key(), 20);
    put("b", "b 1", &third, 30);
    put("b", "b 2", &other_key(), 20);
    images.put(&image("unread", &["base"]), 5).unwrap();
    let names = ["b", "unread", "app", "none", "b"];
    let expected = [("b 1".to_string(), third.clone(), 30), ("app 1".into(), key(), 10)];
    assert_eq!(dated(&store, &names, &key()), expected, "in this order, each once");
    let expected = [("b 2".to_string(), other_key(), 20), ("app 2".into(), other_key(), 20)];
    assert_eq!(dated(&store, &names, &other_key()), expected);
    let unknown = LayerKey::new("sha256:key-4");
    assert_eq!(dated(&store, &["app"], &unknown), [("app 2".to_string(), other_key(), 20)]);
    assert!(dated(&store, &[], &key()).is_empty());
}

fn a_damaged_report_gives_way_to_the_next(fresh: &Fresh) {
    let store = fresh.open();
    for (key, now) in [(key(), 30), (other_key(), 10), (LayerKey::new("sha256:key-3"), 20)] {
        store.images().put_report(&labelled("app", key.as_str()), &key, None, now).unwrap();
    }
    let damage = |key: &LayerKey| {
        let of_key = format!("(SELECT id FROM layer_keys WHERE digest = '{key}')");
        // The only text that may follow the bytes comes before them here.
        fresh.set_bytes(
            &format!(
                "UPDATE image_reports SET report = CASE WHEN layer_key_id = {of_key} \
            THEN substr(report, 1, 3) ELSE report END WHERE substr(report, 1, 1) <> "
            ),
            b"\0",
        );
    };
    damage(&key());
    let third = LayerKey::new("sha256:key-3");
    assert_eq!(dated(&store, &["app"], &key()), [(third.to_string(), third.clone(), 20)]);
    assert_eq!(fresh.count("image_reports"), 2, "forgotten");
    damage(&third);
    assert_eq!(dated(&store, &["app"], &key()), [(other_key().to_string(), other_key(), 10)]);
    damage(&other_key());
    assert!(dated(&store, &["app"], &key()).is_empty());
    assert_eq!(fresh.count("image_reports"), 0);
}

fn images_are_listed_in_parts(fresh: &Fresh) {
    let store = fresh.open();
    let empty = store.images().listed(None, 3).unwrap();
    assert!(empty.items.is_empty() && empty.is_complete);
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        store.images().put(&image(name, &["base"]), 7).unwrap();
    }
    let (mut after, mut listed) = (None, Vec::new());
    loop {
        let page = store.images().listed(after, 2).unwrap();
        assert!(page.items.len() <= 2);
        listed.extend(page.items.iter().map(|image| image.manifest_digest.clone()));
        // A caller that is asked for more has the number only.
        after = page.items.last().map(|image| ImageId::from_number(image.id.number()));
        if page.is_complete {
            break;
        }
    }
    assert_eq!(listed, names.map(digest));
    let all = store.images().listed(None, u64::MAX).unwrap();
    assert!(all.is_complete && all.items.len() == 5 && all.items[0].first_seen == 7);
}
