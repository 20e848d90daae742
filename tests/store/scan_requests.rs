//! Images that somebody waits for: each is queued once, the most urgent first, and nothing is lost.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::Fresh;
use crate::support::records::{digest, key, other_key};
use layersift_model::LayerKey;
use layersift_store::{
    AskedImage, RequestClass, RequestId, RequestLimits, RequestState, ScanRequest, Store, Submitted,
};

crate::on_both!(
    an_image_is_queued_once_however_many_ask,
    the_most_urgent_class_comes_first,
    the_queue_is_bounded_for_all_and_for_each,
    what_fails_is_not_tried_again_at_once,
    a_lease_that_runs_out_is_given_to_another,
    an_image_is_done_under_one_key_only,
    requests_are_found_and_listed,
    what_can_wait_is_claimed_later_unless_it_is_urgent,
    requests_survive_a_process_that_is_killed,
    a_token_is_known_by_its_hash,
);

fn request(name: &str, class: RequestClass, client: &str) -> ScanRequest {
    let digest = digest(name);
    ScanRequest { reference: format!("registry.test/{name}@{digest}"), digest, class, client: client.into() }
}

fn submit(store: &Store, request: &ScanRequest, now: i64) -> Submitted {
    store.scan_requests().submit(request, &key(), false, &RequestLimits::default(), now).unwrap()
}

fn an_image_is_queued_once_however_many_ask(fresh: &Fresh) {
    let store = fresh.open();
    let app = request("app", RequestClass::Background, "sweeper");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(matches!(submit(&store, &app, 1), Submitted::Accepted(_))));
        }
    });
    assert_eq!(store.scan_requests().queued().unwrap(), [(RequestClass::Background, 1)]);
    let claimed = store.scan_requests().claim(30, 2).unwrap().unwrap();
    assert_eq!((&claimed.reference, claimed.attempt), (&app.reference, 1));
    assert_eq!(submit(&store, &app, 3), Submitted::Accepted(RequestState::Running));
    assert!(store.scan_requests().claim(30, 3).unwrap().is_none());
    assert!(store.scan_requests().finish(&claimed, &key(), 4).unwrap());
    assert!(!store.scan_requests().finish(&claimed, &key(), 4).unwrap(), "it has ended");
    assert_eq!(submit(&store, &app, 5), Submitted::Done { ended_at: 4 });
    let again = store.scan_requests().submit(&app, &key(), true, &RequestLimits::default(), 6).unwrap();
    assert_eq!(again, Submitted::Accepted(RequestState::Queued));
}

fn the_most_urgent_class_comes_first(fresh: &Fresh) {
    let store = fresh.open();
    for (name, class) in [
        ("a", RequestClass::Background),
        ("b", RequestClass::Admission),
        ("c", RequestClass::Event),
        ("d", RequestClass::Admission),
        ("a", RequestClass::RegistryScanner),
    ] {
        submit(&store, &request(name, class, "x"), 1);
    }
    let next = || store.scan_requests().claim(30, 2).unwrap().map(|claimed| claimed.reference);
    let order: Vec<String> = std::iter::from_fn(next).collect();
    let expected = ["b", "d", "a", "c"].map(|name| request(name, RequestClass::Event, "x").reference);
    assert_eq!(order, expected);
}

fn the_queue_is_bounded_for_all_and_for_each(fresh: &Fresh) {
    let store = fresh.open();
    let limits = RequestLimits { queued: 3, queued_per_client: 2, ..RequestLimits::default() };
    let submit = |name: &str, client: &str| {
        store.scan_requests().submit(&request(name, RequestClass::Event, client), &key(), false, &limits, 1).unwrap()
    };
    let queued = Submitted::Accepted(RequestState::Queued);
    assert_eq!([submit("a", "x"), submit("b", "x")], [queued.clone(), queued.clone()]);
    assert_eq!(submit("c", "x"), Submitted::Full);
    assert_eq!([submit("c", "y"), submit("d", "z")], [queued.clone(), Submitted::Full]);
    assert_eq!(submit("a", "z"), queued, "what waits already takes no further place");
}

fn what_fails_is_not_tried_again_at_once(fresh: &Fresh) {
    let store = fresh.open();
    let app = request("app", RequestClass::Admission, "x");
    let queue = store.scan_requests();
    submit(&store, &app, 1);
    for attempt in 1..=3 {
        let now = attempt * 100;
        let claimed = queue.claim(30, now).unwrap().unwrap();
        assert_eq!(claimed.attempt, attempt as u64);
        assert!(queue.fail(&claimed, ("failed", "out of reach"), true, 60, now).unwrap());
        let ended = queue.find(&app.reference).unwrap().unwrap().ended_at;
        assert_eq!(ended, (attempt == 3).then_some(now), "what is tried again has not ended");
        assert!(queue.claim(30, now + 59).unwrap().is_none(), "not before the delay is over");
    }
    assert_eq!(submit(&store, &app, 310), Submitted::Failed("failed".into(), "out of reach".into()));
    assert_eq!(submit(&store, &app, 361), Submitted::Accepted(RequestState::Queued));
    // A manifest that is not there is not asked for three times.
    let claimed = queue.claim(30, 362).unwrap().unwrap();
    queue.fail(&claimed, ("not-found", "404"), false, 60, 362).unwrap();
    assert_eq!(queue.find(&app.reference).unwrap().unwrap().state, RequestState::Failed);
    // A clock that was ten years ahead does not keep it away for ten years.
    assert!(matches!(submit(&store, &app, 200), Submitted::Accepted(_)));
}

fn a_lease_that_runs_out_is_given_to_another(fresh: &Fresh) {
    let store = fresh.open();
    let queue = store.scan_requests();
    submit(&store, &request("app", RequestClass::Admission, "x"), 1);
    let first = queue.claim(30, 10).unwrap().unwrap();
    assert!(queue.renew(&first, 30, 30).unwrap());
    assert!(queue.claim(30, 59).unwrap().is_none());
    let second = queue.claim(30, 60).unwrap().unwrap();
    assert_eq!(second.attempt, 2);
    assert!(!queue.finish(&first, &key(), 61).unwrap() && !queue.renew(&first, 30, 61).unwrap());
    assert!(queue.release(&second).unwrap());
    assert_eq!(queue.claim(30, 62).unwrap().unwrap().attempt, 2, "what was given back is no attempt");
    assert!(queue.claim(30, 33).unwrap().is_none(), "a clock that is a little late takes nothing");
    assert_eq!(queue.claim(30, 92).unwrap().unwrap().attempt, 3);
    assert!(queue.claim(30, 200).unwrap().is_none());
    let failed = queue.list(Some(RequestState::Failed), None, 9).unwrap().items;
    assert_eq!((failed.len(), failed[0].ended_at, failed[0].attempts), (1, Some(200), 3));
}

fn an_image_is_done_under_one_key_only(fresh: &Fresh) {
    let store = fresh.open();
    let queue = store.scan_requests();
    let app = request("app", RequestClass::Event, "x");
    let ScanRequest { reference, digest, .. } = app.clone();
    store.service().note_asked(&[AskedImage { reference, digest, key: None }], 1).unwrap();
    submit(&store, &app, 1);
    let claimed = queue.claim(30, 2).unwrap().unwrap();
    assert_eq!(queue.find(&app.reference).unwrap().unwrap().key, None);
    assert!(queue.finish(&claimed, &other_key(), 3).unwrap());
    let done = queue.find(&app.reference).unwrap().unwrap();
    assert_eq!((done.state, done.key.as_ref(), done.ended_at), (RequestState::Done, Some(&other_key()), Some(3)));
    let asked = "SELECT k.digest FROM asked_images a JOIN layer_keys k ON k.id = a.layer_key_id";
    assert_eq!(fresh.rows(asked), [other_key().to_string()]);
    let by = |key: &LayerKey| queue.submit(&app, key, false, &RequestLimits::default(), 4).unwrap();
    assert_eq!(by(&other_key()), Submitted::Done { ended_at: 3 });
    assert_eq!(by(&key()), Submitted::Accepted(RequestState::Queued), "the rules are new");
    let queued = queue.find(&app.reference).unwrap().unwrap();
    assert_eq!((queued.id, queued.key, queued.ended_at, queued.attempts), (done.id, None, None, 0));
    let claimed = queue.claim(30, 5).unwrap().unwrap();
    assert!(queue.finish(&claimed, &key(), 6).unwrap());
    assert_eq!(by(&key()), Submitted::Done { ended_at: 6 });
    assert_eq!(fresh.rows(asked), [key().to_string()]);
    // A claim that went to another process says nothing.
    assert!(!queue.finish(&claimed, &other_key(), 7).unwrap());
    assert_eq!(fresh.rows(asked), [key().to_string()]);
}

fn what_can_wait_is_claimed_later_unless_it_is_urgent(fresh: &Fresh) {
    let store = fresh.open();
    let later = |name: &str, not_before: i64| {
        let event = request(name, RequestClass::Event, "registry");
        let times = (not_before, 10);
        store.scan_requests().submit_later(&event, &key(), false, &RequestLimits::default(), times).unwrap()
    };
    let claim = |now: i64| store.scan_requests().claim(30, now).unwrap().map(|claimed| claimed.reference);
    let name = |name: &str| Some(request(name, RequestClass::Event, "").reference);
    for image in ["a", "b", "c", "d"] {
        assert_eq!(later(image, 20), Submitted::Accepted(RequestState::Queued));
    }
    assert_eq!(claim(19), None);
    // Somebody waits for one, and another one can wait no longer.
    submit(&store, &request("c", RequestClass::Admission, "cluster"), 11);
    assert_eq!((claim(11), claim(11)), (name("c"), None));
    later("b", 12);
    later("b", 30);
    assert_eq!((claim(12), claim(12)), (name("b"), None), "the earlier time holds");
    // A class that is less urgent does not move it back.
    submit(&store, &request("d", RequestClass::Background, "sweeper"), 13);
    assert_eq!(store.scan_requests().queued().unwrap(), [(RequestClass::Event, 2)]);
    assert_eq!((claim(13), claim(20), claim(20)), (name("d"), name("a"), None));
}

fn requests_are_found_and_listed(fresh: &Fresh) {
    let store = fresh.open();
    let queue = store.scan_requests();
    let classes = [RequestClass::Event, RequestClass::Background, RequestClass::Admission, RequestClass::Event];
    for (name, class) in ["a", "b", "c", "d"].into_iter().zip(classes) {
        submit(&store, &request(name, class, "x"), 1);
    }
    let all = queue.list(None, None, 4).unwrap();
    assert!(all.is_complete);
    let places: Vec<u64> = all.items.iter().map(|request| queue.position(request).unwrap()).collect();
    assert_eq!(places, [1, 3, 0, 2], "by class, then in the order of the requests");
    for stored in &all.items {
        let id = RequestId::from_number(stored.id.number());
        assert_eq!(queue.find_by_id(id).unwrap().as_ref(), Some(stored));
        assert_eq!(queue.find(&stored.reference).unwrap().as_ref(), Some(stored));
    }
    let first = &all.items[0];
    assert_eq!((first.class, &first.client[..], first.attempts), (RequestClass::Event, "x", 0));
    assert_eq!(queue.find_by_id(RequestId::from_number(99)).unwrap(), None);

    let page = queue.list(None, None, 3).unwrap();
    assert!(!page.is_complete && page.items == all.items[..3]);
    let rest = queue.list(None, page.items.last().map(|request| request.id), 3).unwrap();
    assert!(rest.is_complete && rest.items == all.items[3..]);

    let claimed = queue.claim(30, 2).unwrap().unwrap();
    assert_eq!(claimed.reference, all.items[2].reference);
    let running = queue.list(Some(RequestState::Running), None, 9).unwrap().items;
    assert_eq!((running.len(), running[0].id, running[0].attempts), (1, all.items[2].id, 1));
    assert_eq!(queue.position(&running[0]).unwrap(), 0, "it does not wait");
    let queued = queue.list(Some(RequestState::Queued), Some(all.items[0].id), 9).unwrap().items;
    assert_eq!(queued.iter().map(|request| request.id).collect::<Vec<_>>(), [all.items[1].id, all.items[3].id]);
    assert!(queue.list(Some(RequestState::Done), None, 9).unwrap().items.is_empty());
}

/// Not a test of its own: queues 54 requests for the one below, claims four, and waits to be killed.
#[test]
#[ignore = "run by requests_survive_a_process_that_is_killed"]
fn submit_and_wait() {
    let Ok(text) = std::env::var("LAYERSIFT_TEST_STORE") else { return };
    let store = Store::open(&text).unwrap();
    for number in 0..54 {
        submit(&store, &request(&format!("{number}"), RequestClass::Event, "x"), 1);
    }
    let claimed = (0..4).filter_map(|_| store.scan_requests().claim(100_000, 2).unwrap()).count();
    println!("claimed {claimed}");
    std::thread::sleep(crate::support::DEADLINE);
}

fn requests_survive_a_process_that_is_killed(fresh: &Fresh) {
    let store = fresh.open();
    let queue = store.scan_requests();
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "scan_requests::submit_and_wait", "--ignored", "--nocapture"]);
    let mut child = test.env("LAYERSIFT_TEST_STORE", &fresh.text).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("claimed 4")));
    assert_eq!(queue.queued().unwrap(), [(RequestClass::Event, 50)]);
    child.kill().unwrap();
    child.wait().unwrap();
    let claimed: Vec<_> = std::iter::from_fn(|| queue.claim(30, 3).unwrap()).collect();
    let names: BTreeSet<&str> = claimed.iter().map(|claimed| &*claimed.reference).collect();
    assert_eq!((claimed.len(), names.len()), (54, 54), "each once");
    let again = claimed.iter().filter(|claimed| claimed.attempt == 2).count();
    assert_eq!(again, 4, "an image that kills whatever scans it is not tried for ever");
}

fn a_token_is_known_by_its_hash(fresh: &Fresh) {
    let store = fresh.open();
    let tokens = store.api_tokens();
    let id = tokens.add("cluster-a", "hash-1", "admit read", 10, 100).unwrap();
    assert_eq!(tokens.find("hash-1").unwrap().unwrap().scopes, "admit read");
    assert_eq!(tokens.find("hash-2").unwrap(), None);
    assert!(tokens.revoke(id, 20).unwrap() && !tokens.revoke(id, 21).unwrap());
    assert_eq!(tokens.list().unwrap()[0].revoked_at, Some(20));
}
