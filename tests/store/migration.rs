//! A store that version 1 of the schema filled, on SQLite and on PostgreSQL: it is brought up to date when it is
//! opened, its traces still answer, what version 1 did not store is unknown, its leases hold, and only what a killed
//! sweep had found is new.
//!
//! `testdata/stores/README.md` says how the store was made.

use crate::support::Fresh;
use crate::support::records::digest;
use layersift_model::{Digest, LayerKey, State};
use layersift_store::{Query, RunStatus, Scope};

crate::on_both!(
    traces_of_an_old_store_still_answer,
    an_old_store_has_no_whole_reports,
    an_old_store_is_filled_on,
    leases_of_an_old_store_hold,
    what_an_old_sweep_announced_is_not_new,
);

/// The key of the old store.
const KEY: &str = "sha256:b64d43f60900e750b8607264dc36708b08c4b0b5015150d10fd1a973ab4af93d";

/// The manifest of its image, which is `testdata/incident.tar`.
const MANIFEST: &str = "sha256:e6ea2b0968b101fea56e0f5e63f35430c84418767f3b57fc51d87b39ffea5847";

fn manifest() -> Digest {
    MANIFEST.parse().unwrap()
}

fn traces_of_an_old_store_still_answer(fresh: &Fresh) {
    fresh.fill_with_version_1();
    let store = fresh.open();
    let image = store.images().find(&manifest()).unwrap().unwrap();
    let places = store.images().findings(image.id, &LayerKey::new(KEY)).unwrap();
    assert!(places.is_complete && places.items.len() == 13, "{places:?}");
    assert!(places.items.iter().any(|place| place.state == Some(State::Deleted)), "{places:?}");
    for place in &places.items {
        let finding = place.finding.as_ref().unwrap();
        let found = store.trace(&Query::Finding(finding.finding_id.clone()), None, 10).unwrap();
        assert_eq!((found.total, &found.images[0].manifest_digest), (1, &manifest()));
        assert_eq!(found.images[0].tags[0].repository.registry, "registry.test");
        assert_eq!(finding.layer_key, LayerKey::new(KEY));
    }
    let runs = store.runs().list(None, 10).unwrap();
    assert_eq!((runs.items.len(), runs.items[0].status), (1, RunStatus::Done));
    let layers: Vec<Digest> = store.images().layers(image.id).unwrap().into_iter().map(|layer| layer.digest).collect();
    assert_eq!(store.layers().with_reports(&layers, &LayerKey::new(KEY)).unwrap().len(), 8);
}

fn an_old_store_has_no_whole_reports(fresh: &Fresh) {
    fresh.fill_with_version_1();
    let store = fresh.open();
    assert_eq!(store.images().report(&manifest(), &LayerKey::new(KEY)).unwrap(), None);
    assert!(store.images().reports(&[manifest(), digest("other")], &LayerKey::new(KEY)).unwrap().is_empty());
}

fn an_old_store_is_filled_on(fresh: &Fresh) {
    use crate::support::records::*;
    fresh.fill_with_version_1();
    let store = fresh.open();
    put(&store, "app", &["base"], &[secret("base", 0, "f", "one")]);
    store.queue().counts(&key()).unwrap();
    drop(store);
    let store = fresh.open();
    assert_eq!(store.trace(&Query::Secret(fingerprint("one")), None, 10).unwrap().total, 1);
    assert!(store.images().report(&digest("app"), &key()).unwrap().is_some());
}

fn leases_of_an_old_store_hold(fresh: &Fresh) {
    fresh.fill_with_version_1();
    fresh.execute("UPDATE jobs SET state = 'leased', attempts = 1, lease_owner = 'old', lease_until = 1120");
    let (store, key) = (fresh.open(), LayerKey::new(KEY));
    assert!(store.queue().claim("new", &key, 99, 30, 1_010).unwrap().is_empty());
    assert_eq!(store.queue().claim("new", &key, 99, 30, 1_130).unwrap().len(), 8);
}

fn what_an_old_sweep_announced_is_not_new(fresh: &Fresh) {
    fresh.fill_with_version_1();
    let found = fresh.count("sightings");
    assert!(found > 0);
    for (status, expected) in [("done", 0), ("running", usize::try_from(found).unwrap())] {
        let fresh = fresh.another();
        fresh.fill_with_version_1();
        fresh.execute(&format!("UPDATE runs SET status = '{status}'"));
        let store = fresh.open();
        let target = store.runs().list(None, 1).unwrap().items.remove(0).target;
        let next = store.runs().start(&target, &LayerKey::new(KEY), 2_000_000_000).unwrap();
        store.runs().adopt(next, 2_000_000_001).unwrap();
        assert_eq!(store.runs().news(next, Scope::Target, 1_000).unwrap().items.len(), expected, "{status}");
    }
}
