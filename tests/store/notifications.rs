//! Messages about what was found: written once, with what they are about, and sent in order.

use crate::support::Fresh;
use crate::support::records::*;
use layersift_model::Repository;
use layersift_store::{
    NewNotification, NotTaken, NotificationId, Pruned, Retention, RunId, Store, StoredNotification, TagSighting,
};

crate::on_both!(
    a_thing_is_in_one_message_whoever_tells_it,
    what_did_not_fit_is_told_by_the_next,
    a_message_that_is_not_taken_is_in_the_way,
    a_message_that_is_refused_comes_after_the_others,
    what_was_sent_is_removed_after_a_while,
    an_image_is_known_by_where_it_was_seen,
);

const TARGET: &str = "service";

/// A run that found images with these secrets.
fn found(store: &Store, names: &[&str], now: i64) -> RunId {
    let run = store.runs().start(TARGET, &key(), now).unwrap();
    for name in names {
        let report = image_report(name, &[name], &[secret(name, 0, "f", name)]);
        store.images().put_report(&report, &key(), Some(run), now).unwrap();
    }
    run
}

fn new(delivery: &str) -> NewNotification {
    NewNotification { delivery: delivery.into(), message: format!("about {delivery}") }
}

/// One message with all things that are told.
fn announce(store: &Store, run: RunId, delivery: &str, last: Option<&str>) -> Vec<String> {
    let compose = |things: &[String]| {
        let mut things = things.to_vec();
        things.sort_unstable();
        vec![NewNotification { delivery: delivery.into(), message: things.join(" ") }]
    };
    let queued = store.notifications().announce(run, last, compose, 5).unwrap();
    let next = store.notifications().next(5).unwrap().filter(|next| next.delivery == delivery);
    assert_eq!(queued, usize::from(next.is_some()));
    let told = next.map(|next| {
        store.notifications().sent(next.id, 6).unwrap();
        next.message
    });
    told.iter().flat_map(|message| message.split(' ')).map(str::to_string).collect()
}

fn queue(store: &Store, deliveries: &[&str]) {
    for (number, delivery) in deliveries.iter().enumerate() {
        let run = found(store, &[delivery], number as i64);
        store.notifications().announce(run, None, |_| vec![new(delivery)], number as i64).unwrap();
    }
}

fn next(store: &Store, now: i64) -> Option<StoredNotification> {
    store.notifications().next(now).unwrap()
}

fn next_id(store: &Store, now: i64) -> NotificationId {
    next(store, now).unwrap().id
}

fn delivery(store: &Store, now: i64) -> Option<String> {
    next(store, now).map(|next| next.delivery)
}

fn a_thing_is_in_one_message_whoever_tells_it(fresh: &Fresh) {
    let store = fresh.open();
    let slow = found(&store, &["one", "two"], 100);
    // It counts as dead, and another run tells what it found.
    let quick = found(&store, &["three"], 1_000);
    store.runs().adopt(quick, 1_000).unwrap();
    let mut all = ["one", "two", "three"].map(fingerprint);
    all.sort_unstable();
    assert_eq!(announce(&store, quick, "quick", None), all);
    assert_eq!(announce(&store, slow, "slow", None), Vec::<String>::new(), "it was alive after all");
    assert_eq!(announce(&store, quick, "again", None), Vec::<String>::new());
    assert_eq!(fresh.count("notifications"), 1);
    let next = found(&store, &["one", "three"], 2_000);
    store.runs().adopt(next, 2_000).unwrap();
    assert_eq!(announce(&store, next, "next", None), Vec::<String>::new(), "nothing is new");
}

fn what_did_not_fit_is_told_by_the_next(fresh: &Fresh) {
    let store = fresh.open();
    let first = found(&store, &["one", "two"], 100);
    let mut all = ["one", "two"].map(fingerprint);
    all.sort_unstable();
    let [earlier, later] = all;
    assert_eq!(announce(&store, first, "first", Some(&earlier)), [earlier]);
    let second = found(&store, &[], 101);
    store.runs().adopt(second, 101).unwrap();
    assert_eq!(announce(&store, second, "second", None), [later]);
}

fn a_message_that_is_not_taken_is_in_the_way(fresh: &Fresh) {
    let store = fresh.open();
    queue(&store, &["one", "two", "three"]);
    let messages = store.notifications();
    assert_eq!((messages.waiting().unwrap(), delivery(&store, 10)), (3, Some("one".into())));
    messages.not_taken(next_id(&store, 10), (NotTaken::Outage, "status 503"), 5, 10).unwrap();
    assert_eq!(delivery(&store, 14), None, "the others wait as well");
    let again = next(&store, 15).unwrap();
    assert_eq!((&again.delivery[..], again.attempts, again.refused), ("one", 1, false));
    let mut sent = Vec::new();
    while let Some(next) = next(&store, 15) {
        sent.push(next.delivery.clone());
        messages.sent(next.id, 15).unwrap();
        // Once more, by another process: it stays as it is.
        messages.not_taken(next.id, (NotTaken::Outage, "late"), 5, 15).unwrap();
        messages.give_up(next.id, 15).unwrap();
    }
    assert_eq!((sent, messages.waiting().unwrap()), (["one", "two", "three"].map(String::from).into(), 0));
    assert_eq!(fresh.rows("SELECT state, error FROM notifications"), ["sent|NULL"; 3]);
    // A clock that was wrong holds nothing up for ever.
    queue(&store, &["four"]);
    messages.not_taken(next_id(&store, 1_000_000), (NotTaken::Outage, "x"), 9_999_999, 1_000_000).unwrap();
    assert_eq!(delivery(&store, 20), Some("four".into()));
}

fn a_message_that_is_refused_comes_after_the_others(fresh: &Fresh) {
    let store = fresh.open();
    queue(&store, &["bad", "good", "better"]);
    let messages = store.notifications();
    messages.not_taken(next_id(&store, 10), (NotTaken::Refused, "status 400"), 5, 10).unwrap();
    assert_eq!(delivery(&store, 10), Some("good".into()));
    assert_eq!(delivery(&store, 100), Some("good".into()), "also when its time has come");
    messages.sent(next_id(&store, 10), 10).unwrap();
    messages.sent(next_id(&store, 10), 10).unwrap();
    assert_eq!((delivery(&store, 14), delivery(&store, 15)), (None, Some("bad".into())));
    messages.not_taken(next_id(&store, 15), (NotTaken::Outage, "status 503"), 5, 15).unwrap();
    assert!(next(&store, 20).unwrap().refused, "it stays behind");
    messages.give_up(next_id(&store, 20), 20).unwrap();
    assert_eq!(messages.waiting().unwrap(), 0);
}

fn what_was_sent_is_removed_after_a_while(fresh: &Fresh) {
    let store = fresh.open();
    queue(&store, &["old", "given-up", "new", "waiting"]);
    let messages = store.notifications();
    messages.sent(next_id(&store, 10), 10).unwrap();
    messages.give_up(next_id(&store, 10), 10).unwrap();
    messages.sent(next_id(&store, 10), 950).unwrap();
    let retention = Retention { reports: 1_000_000, requests: 100 };
    assert_eq!(store.prune(&retention, &key(), 1_000).unwrap(), Pruned { notifications: 2, ..Pruned::default() });
    assert_eq!(fresh.rows("SELECT delivery FROM notifications"), ["new", "waiting"]);
}

fn an_image_is_known_by_where_it_was_seen(fresh: &Fresh) {
    let store = fresh.open();
    let image = store.images().put(&image("app", &["base"]), 1).unwrap();
    assert_eq!(store.notifications().repository_of(&digest("app")).unwrap(), None);
    for (project, repository, now) in [("team", "app", 1), ("", "copies/app", 2)] {
        let repository =
            Repository { registry: "r.test".into(), project: project.into(), repository: repository.into() };
        let seen = TagSighting { repository, tag: None, digest: digest("app"), image };
        store.tags().see(&[seen], now).unwrap();
        let expected = if project.is_empty() { "r.test/copies/app" } else { "r.test/team/app" };
        assert_eq!(store.notifications().repository_of(&digest("app")).unwrap().as_deref(), Some(expected));
    }
}
