//! The store through its public face, on SQLite and on PostgreSQL: layer reports, images, findings, runs.

use crate::support::Fresh;
use crate::support::records::*;
use layersift_model::{State, SweepSums, TracedPlace};
use layersift_store::{RunStatus, Scope, StoreError};

crate::on_both!(
    layer_reports_are_stored_by_layer_and_key,
    images_are_known_by_their_manifest,
    findings_come_back_as_they_were_put,
    a_run_tells_what_is_new,
    runs_are_listed_newest_first,
);

fn layer_reports_are_stored_by_layer_and_key(fresh: &Fresh) {
    let store = fresh.open();
    let layers = store.layers();
    let first = layer_report("a", &key(), 10);
    layers.put_report(&first).unwrap();
    layers.put_report(&layer_report("a", &key(), 20)).unwrap();
    layers.put_report(&layer_report("c", &key(), 20)).unwrap();
    layers.put_report(&layer_report("c", &other_key(), 40)).unwrap();
    assert_eq!(layers.report(&digest("a"), &key()).unwrap(), Some(first), "the first report stays");
    assert_eq!(layers.report(&digest("a"), &other_key()).unwrap(), None);
    assert_eq!(layers.report(&digest("b"), &key()).unwrap(), None);
    let asked: Vec<_> = (0..3000).map(|n| digest(&n.to_string())).chain([digest("a")]).collect();
    assert_eq!(layers.with_reports(&asked, &key()).unwrap(), [(digest("a"), 7)].into());
    assert!(layers.with_reports(&[], &key()).unwrap().is_empty());
    let read = layers.last_read(&[digest("a"), digest("b"), digest("c")]).unwrap();
    assert_eq!(read, [(digest("a"), 10), (digest("c"), 40)].into());
    layers.forget_report(&digest("c"), &key()).unwrap();
    assert_eq!(layers.with_reports(&[digest("a"), digest("c")], &key()).unwrap(), [(digest("a"), 7)].into());
    assert!(layers.report(&digest("c"), &other_key()).unwrap().is_some());
    drop(store);
    assert!(fresh.open().layers().report(&digest("a"), &key()).unwrap().is_some());
}

fn images_are_known_by_their_manifest(fresh: &Fresh) {
    let store = fresh.open();
    let images = store.images();
    let mut early = image("app", &["base", "a"]);
    early.layers.iter_mut().for_each(|layer| layer.created_by = None);
    let id = images.put(&early, 10).unwrap();
    assert_eq!(images.layers(id).unwrap(), early.layers);
    assert_eq!(images.put(&image("app", &["base", "a"]), 20).unwrap(), id);
    let other = images.put(&image("b", &["base"]), 20).unwrap();
    assert_ne!(other, id);
    assert_eq!(images.put(&image("b", &["base"]), 20).unwrap(), other);
    assert_eq!(images.layers(id).unwrap(), image("app", &["base", "a"]).layers, "it got its instructions");
    let found = images.find(&digest("app")).unwrap().unwrap();
    assert_eq!((found.id, found.layers_count, found.first_seen), (id, 2, 10));
    assert_eq!(images.find(&digest("c")).unwrap(), None);
}

fn findings_come_back_as_they_were_put(fresh: &Fresh) {
    let store = fresh.open();
    let mut odd = in_package(&secret("a", 1, "etc/\0odd/\u{202e}path", "two"), "left-pad", "1.0.0");
    let inside = vec!["lib.jar".to_string(), "a\0b".to_string()];
    file_mut(&mut odd).inside.clone_from(&inside);
    let gone = ended(&secret("base", 0, "root/.env", "one"), State::Deleted, 1);
    let findings = [gone, odd, in_config("Env[1]", "three")];
    let id = put(&store, "app", &["base", "a"], &findings);
    let page = store.images().findings(id, &key()).unwrap();
    assert!(page.is_complete && page.items.len() == 3, "{page:?}");
    let by_id = |id: &str| page.items.iter().find(|place| place.finding.as_ref().unwrap().finding_id == id).unwrap();
    let TracedPlace { finding, layer, state, ended_by, .. } = by_id(&findings[0].id);
    assert_eq!((*state, *ended_by), (Some(State::Deleted), Some(1)));
    assert_eq!((layer.as_ref().unwrap().position, &layer.as_ref().unwrap().digest), (0, &digest("base")));
    assert_eq!(finding.as_ref().unwrap().rule.id, findings[0].rule.id);
    let TracedPlace { finding, layer, state, ended_by, .. } = by_id(&findings[1].id);
    let finding = finding.as_ref().unwrap();
    assert_eq!((*state, *ended_by, layer.as_ref().unwrap().position), (Some(State::Present), None, 1));
    assert_eq!(layer.as_ref().unwrap().created_by.as_deref(), Some("RUN make a"));
    assert_eq!(finding.path.as_deref(), Some("etc/\u{2400}odd/\u{202e}path"), "PostgreSQL stores no NUL");
    assert_eq!((&finding.inside, &finding.package), (&inside, &Some(package("left-pad", "1.0.0"))));
    assert_eq!((finding.masked.as_deref(), finding.length), (Some("tok_****yz"), Some(24)));
    assert_eq!(finding.fingerprint.as_deref(), Some(fingerprint("two").as_str()));
    let config = by_id(&findings[2].id);
    assert_eq!(config.layer, None);
    assert_eq!(config.finding.as_ref().unwrap().config.as_deref(), Some("Env[1]"));
}

fn a_run_tells_what_is_new(fresh: &Fresh) {
    let store = fresh.open();
    let (runs, images) = (store.runs(), store.images());
    let news = |run, scope| -> Vec<_> {
        let page = runs.news(run, scope, 10).unwrap();
        assert!(page.is_complete);
        page.items.into_iter().map(|news| (news.thing, news.image)).collect()
    };
    let known = |name: &str, image: &str| (fingerprint(name), digest(image));
    let first = runs.start("registry.test", &key(), 10).unwrap();
    let old = image_report("old", &["base"], &[secret("base", 0, "f", "one")]);
    let id = images.put_report(&old, &key(), Some(first), 11).unwrap();
    assert_eq!(news(first, Scope::Store), [known("one", "old")]);
    // The next night: the same image, and one more that has the same secret elsewhere, and another one.
    let second = runs.start("registry.test", &key(), 20).unwrap();
    runs.see_images(second, &[id]).unwrap();
    let leaks = [secret("base", 0, "f", "one"), secret("a", 1, "g", "one"), secret("a", 1, "g", "two")];
    images.put_report(&image_report("new", &["base", "a"], &leaks), &key(), Some(second), 21).unwrap();
    for scope in [Scope::Target, Scope::Store] {
        assert_eq!(news(second, scope), [known("two", "new")]);
    }
    let said = runs.news(second, Scope::Store, 10).unwrap().items;
    assert_eq!((said[0].masked.as_deref(), said[0].path.as_deref()), (Some("tok_****yz"), Some("g")));
    let none = runs.news(second, Scope::Store, 0).unwrap();
    assert!(none.items.is_empty() && !none.is_complete, "{none:?}");
    // Another registry has the old image: new there, and not new to the store.
    let third = runs.start("other.test", &key(), 30).unwrap();
    runs.see_images(third, &[id, id]).unwrap();
    assert_eq!(news(third, Scope::Target), [known("one", "old")]);
    assert!(news(third, Scope::Store).is_empty());
    assert_eq!(news(first, Scope::Store), [known("one", "old")], "the first run stays the first");
}

fn runs_are_listed_newest_first(fresh: &Fresh) {
    let store = fresh.open();
    let runs = store.runs();
    let ids: Vec<_> = ["a", "b", "a"].map(|target| runs.start(target, &key(), 10).unwrap()).into();
    let sums = SweepSums { images: 1, layers_read: 2, layers_known: 3, bytes_pulled: 4, bytes_saved: 5 };
    runs.update(ids[2], &sums, RunStatus::Done, 20).unwrap();
    runs.update(ids[1], &sums, RunStatus::Running, 20).unwrap();
    let latest = runs.list(None, 2).unwrap();
    assert!(!latest.is_complete);
    let latest = latest.items;
    assert_eq!(latest.iter().map(|run| run.id).collect::<Vec<_>>(), [ids[2], ids[1]]);
    assert_eq!((latest[0].sums, latest[0].status, latest[0].ended_at), (sums, RunStatus::Done, Some(20)));
    assert_eq!((latest[1].status, latest[1].ended_at, &latest[1].key), (RunStatus::Running, None, &key()));
    let of_a = runs.list(Some("a"), 2).unwrap();
    assert!(of_a.is_complete);
    assert_eq!(of_a.items.iter().map(|run| run.id).collect::<Vec<_>>(), [ids[2], ids[0]]);
    let other = fresh.open();
    let unknown = runs.start("c", &key(), 30).unwrap();
    assert_eq!(other.runs().list(Some("c"), 9).unwrap().items[0].id, unknown);
    assert!(matches!(runs.start(&"t".repeat(513), &key(), 1), Err(StoreError::Invalid { .. })));
}
