//! Images that somebody waits for: each is queued once, the most urgent first, and nothing is lost.

use crate::support::Fresh;
use crate::support::records::digest;
use layersift_store::{RequestClass, RequestLimits, RequestState, ScanRequest, Store, Submitted};

crate::on_both!(
    an_image_is_queued_once_however_many_ask,
    the_most_urgent_class_comes_first,
    the_queue_is_bounded_for_all_and_for_each,
    what_fails_is_not_tried_again_at_once,
    a_lease_that_runs_out_is_given_to_another,
    a_token_is_known_by_its_hash,
);

fn request(name: &str, class: RequestClass, client: &str) -> ScanRequest {
    let digest = digest(name);
    ScanRequest { reference: format!("registry.test/{name}@{digest}"), digest, class, client: client.into() }
}

fn submit(store: &Store, request: &ScanRequest, now: i64) -> Submitted {
    store.scan_requests().submit(request, false, &RequestLimits::default(), now).unwrap()
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
    assert!(store.scan_requests().finish(&claimed, 4).unwrap());
    assert!(!store.scan_requests().finish(&claimed, 4).unwrap(), "it has ended");
    assert_eq!(submit(&store, &app, 5), Submitted::Done);
    let again = store.scan_requests().submit(&app, true, &RequestLimits::default(), 6).unwrap();
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
        store.scan_requests().submit(&request(name, RequestClass::Event, client), false, &limits, 1).unwrap()
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
    assert!(!queue.finish(&first, 61).unwrap() && !queue.renew(&first, 30, 61).unwrap());
    assert!(queue.release(&second).unwrap());
    assert_eq!(queue.claim(30, 62).unwrap().unwrap().attempt, 2, "what was given back is no attempt");
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
