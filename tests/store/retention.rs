//! Retention, on SQLite and on PostgreSQL: what nobody asks for any more goes, and nothing else.

use crate::support::Fresh;
use crate::support::records::*;
use layersift_model::LayerKey;
use layersift_store::{
    AskedImage, ImageId, Job, Pruned, Query, RequestClass, RequestLimits, Retention, ScanRequest, Scope, Store,
    TagSighting,
};

crate::on_both!(
    requests_that_ended_go,
    tokens_that_open_nothing_go,
    reports_under_other_keys_go_where_there_is_a_new_one,
    reports_of_images_that_nobody_asks_for_go,
    layer_reports_under_other_keys_go,
    many_rows_go_in_batches,
);

/// Any time.
const NOW: i64 = 1_700_000_000;

/// Old enough for anything to go.
const OLD: i64 = NOW - 1_001;

/// Not old enough for reports.
const RECENT: i64 = NOW - 1_000;

fn prune(store: &Store) -> Pruned {
    store.prune(&Retention { reports: 1_000, requests: 100 }, &key(), NOW).unwrap()
}

/// Prunes, and then again: nothing is left to remove.
fn prune_twice(store: &Store) -> Pruned {
    let pruned = prune(store);
    assert_eq!(prune(store), Pruned::default());
    pruned
}

fn put_at(store: &Store, name: &str, key: &LayerKey, now: i64) -> ImageId {
    let report = image_report(name, &["base", name], &[secret(name, 1, "f", name)]);
    store.images().put_report(&report, key, None, now).unwrap()
}

fn see(store: &Store, tag: &str, root: &str, image: ImageId) {
    let sighting = TagSighting { repository: repository("app"), tag: Some(tag.into()), digest: digest(root), image };
    store.tags().see(&[sighting], OLD).unwrap();
}

fn ask(store: &Store, name: &str, now: i64) {
    let digest = digest(name);
    let asked = AskedImage { reference: format!("registry.test/{name}@{digest}"), digest, key: Some(key()) };
    store.service().note_asked(&[asked], now).unwrap();
}

/// Which images have reports under which keys: the last characters of the texts.
fn reports(store: &Store, names: &[&str]) -> Vec<String> {
    let has = |name: &&str, key: &LayerKey| store.images().report(&digest(name), key).unwrap().is_some();
    let both = [key(), other_key()];
    let all = names.iter().flat_map(|name| both.iter().map(move |key| (name, key)));
    all.filter(|(name, key)| has(name, key)).map(|(name, key)| format!("{name} {}", &key.as_str()[11..])).collect()
}

fn requests_that_ended_go(fresh: &Fresh) {
    let store = fresh.open();
    let queue = store.scan_requests();
    let submit = |name: &str, now| {
        let digest = digest(name);
        let reference = format!("registry.test/{name}@{digest}");
        let request = ScanRequest { reference, digest, class: RequestClass::Event, client: "x".into() };
        queue.submit(&request, &key(), false, &RequestLimits::default(), now).unwrap();
    };
    let finish = |name: &str, now| {
        submit(name, OLD);
        let claimed = queue.claim(30, now).unwrap().unwrap();
        assert!(queue.finish(&claimed, &key(), now).unwrap());
    };
    let fail = |name: &str, now| {
        submit(name, OLD);
        let claimed = queue.claim(30, now).unwrap().unwrap();
        assert!(queue.fail(&claimed, ("not-found", "404"), false, 60, now).unwrap());
    };
    finish("done-old", NOW - 101);
    finish("done-new", NOW - 100);
    fail("failed-old", NOW - 101);
    fail("failed-new", NOW - 100);
    fail("failed-at-no-known-time", NOW - 100);
    fresh.execute("UPDATE scan_requests SET ended_at = NULL WHERE reference LIKE '%no-known-time%'");
    submit("running", OLD);
    queue.claim(1_000_000, NOW).unwrap().unwrap();
    submit("queued", OLD);
    assert_eq!(prune_twice(&store), Pruned { requests: 3, ..Pruned::default() });
    let left = queue.list(None, None, 9).unwrap().items;
    let left: Vec<&str> = left.iter().map(|request| request.reference.split(['/', '@']).nth(1).unwrap()).collect();
    assert_eq!(left, ["done-new", "failed-new", "running", "queued"]);
}

fn tokens_that_open_nothing_go(fresh: &Fresh) {
    let store = fresh.open();
    let tokens = store.api_tokens();
    let add = |name: &str, expires| tokens.add(name, name, "read", OLD, expires).unwrap();
    add("expired-old", NOW - 101);
    add("expired-new", NOW - 100);
    add("good", NOW + 9_000);
    let revoked = [add("revoked-old", NOW + 9_000), add("revoked-new", NOW + 9_000)];
    assert!(tokens.revoke(revoked[0], NOW - 101).unwrap() && tokens.revoke(revoked[1], NOW - 100).unwrap());
    assert_eq!(prune_twice(&store), Pruned { api_tokens: 2, ..Pruned::default() });
    let left: Vec<String> = tokens.list().unwrap().into_iter().map(|token| token.name).collect();
    assert_eq!(left, ["revoked-new", "good", "expired-new"]);
}

fn reports_under_other_keys_go_where_there_is_a_new_one(fresh: &Fresh) {
    let store = fresh.open();
    let names = ["renewed", "behind", "recent", "present"];
    for name in names {
        let image = match name {
            "renewed" => {
                put_at(&store, name, &other_key(), OLD);
                put_at(&store, name, &key(), RECENT)
            }
            "behind" => put_at(&store, name, &other_key(), OLD),
            "recent" => {
                put_at(&store, name, &other_key(), RECENT);
                put_at(&store, name, &key(), RECENT)
            }
            _ => put_at(&store, name, &key(), OLD),
        };
        see(&store, name, name, image);
    }
    // Under a key that has no reports, none is superseded, and all images are still listed.
    let retention = Retention { reports: 1_000, requests: 100 };
    assert_eq!(store.prune(&retention, &LayerKey::new("sha256:key-3"), NOW).unwrap(), Pruned::default());
    assert_eq!(prune_twice(&store), Pruned { superseded_reports: 1, ..Pruned::default() });
    assert_eq!(reports(&store, &names), ["renewed 1", "behind 2", "recent 1", "recent 2", "present 1"]);
    assert_eq!(store.trace(&Query::Secret(fingerprint("renewed")), None, 9).unwrap().total, 1);
}

fn reports_of_images_that_nobody_asks_for_go(fresh: &Fresh) {
    let store = fresh.open();
    let names = ["gone", "bare", "asked-long-ago", "asked", "in-index", "moved", "new", "never-new"];
    for name in names {
        let image = put_at(&store, name, &key(), if name == "new" { RECENT } else { OLD });
        match name {
            "gone" | "asked" | "asked-long-ago" => see(&store, name, name, image),
            "in-index" => see(&store, name, "index", image),
            "moved" => ["moved", "moved-here"].iter().for_each(|tag| see(&store, tag, name, image)),
            _ => {}
        }
    }
    put_at(&store, "bare", &other_key(), OLD);
    ask(&store, "never-new", RECENT);
    ask(&store, "asked", RECENT);
    ask(&store, "index", RECENT);
    ask(&store, "asked-long-ago", OLD);
    fresh.execute("UPDATE tags SET gone_at = 5 WHERE tag <> 'moved-here'");
    let run = store.runs().start("registry.test", &key(), OLD).unwrap();
    let report = image_report("gone", &["base"], &[secret("base", 0, "f", "gone")]);
    store.images().put_report(&report, &key(), Some(run), OLD).unwrap();
    let (images, tags, findings) = (fresh.count("images"), fresh.count("tags"), fresh.count("findings"));

    let expected = Pruned { asked_images: 1, superseded_reports: 1, unused_reports: 3, ..Pruned::default() };
    assert_eq!(prune_twice(&store), expected);
    assert_eq!(reports(&store, &names), ["asked 1", "in-index 1", "moved 1", "new 1", "never-new 1"]);
    let left = (fresh.count("images"), fresh.count("tags"), fresh.count("findings"), fresh.count("asked_images"));
    assert_eq!(left, (images, tags, findings, 3));
    assert_eq!(store.runs().news(run, Scope::Store, 9).unwrap().items.len(), 1, "what is new stays known");
    assert_eq!(store.trace(&Query::Secret(fingerprint("bare")), None, 9).unwrap().total, 1);
    // An image that comes back is scanned again.
    put_at(&store, "gone", &key(), NOW);
    assert_eq!(prune(&store), Pruned::default());
    assert_eq!(reports(&store, &["gone"]), ["gone 1"]);
}

fn layer_reports_under_other_keys_go(fresh: &Fresh) {
    let store = fresh.open();
    let queue = store.queue();
    let job = |layer: &str| Job { layer: digest(layer), size: 1, priority: 0, source: "s".into() };
    let names = ["old", "recent", "unread"];
    for key in [key(), other_key()] {
        assert_eq!(queue.enqueue(&key, &names.map(job), OLD).unwrap(), 3);
        store.layers().put_report(&layer_report("old", &key, OLD)).unwrap();
        store.layers().put_report(&layer_report("recent", &key, RECENT)).unwrap();
    }
    assert_eq!(prune_twice(&store), Pruned { layer_reports: 1, ..Pruned::default() });
    let with_reports = |key: &LayerKey| store.layers().with_reports(&names.map(digest), key).unwrap();
    assert_eq!(with_reports(&key()), [(digest("old"), 7), (digest("recent"), 7)].into());
    assert_eq!(with_reports(&other_key()), [(digest("recent"), 7)].into());
    // A program with the other key can read the layer again.
    let counts = queue.counts(&other_key()).unwrap();
    assert_eq!((counts.queued, counts.done), (1, 1));
    assert_eq!(queue.enqueue(&other_key(), &names.map(job), NOW).unwrap(), 1);
    assert_eq!(queue.counts(&other_key()).unwrap().queued, 2);
    assert_eq!(queue.counts(&key()).unwrap().done, 2);
}

fn many_rows_go_in_batches(fresh: &Fresh) {
    let store = fresh.open();
    let asked = |number: i64| {
        let digest = digest(&number.to_string());
        AskedImage { reference: format!("registry.test/{number}@{digest}"), digest, key: None }
    };
    let images: Vec<AskedImage> = (0..1_100).map(asked).collect();
    store.service().note_asked(&images, OLD).unwrap();
    store.service().note_asked(&images[500..600], RECENT).unwrap();
    // Images with three reports each: a batch ends in the middle of one.
    let keys = [other_key(), LayerKey::new("sha256:key-3"), LayerKey::new("sha256:key-4")];
    for number in 0..100 {
        for key in &keys {
            put_at(&store, &format!("image {number}"), key, OLD);
        }
    }
    // Several processes may do this at once.
    let pruned: Vec<Pruned> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| prune(&store))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sum = |count: fn(&Pruned) -> u64| pruned.iter().map(count).sum::<u64>();
    assert_eq!((sum(|pruned| pruned.asked_images), sum(|pruned| pruned.unused_reports)), (1_000, 300));
    assert_eq!((fresh.count("asked_images"), fresh.count("image_reports")), (100, 0));
}
