//! Scans that a Harbor asked for: each is driven on by one process at a time, and ends once.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::support::Fresh;
use crate::support::records::{digest, key};
use layersift_store::{
    HarborPhase, HarborTaskState, NewHarborTask, RequestClass, RequestLimits, Retention, ScanRequest, Store,
};

crate::on_both!(
    a_task_waits_for_the_scan_of_its_image,
    a_task_ends_once_and_its_login_goes,
    a_lease_that_runs_out_is_given_to_another,
    many_processes_take_each_task_once,
    a_login_is_lent_while_it_is_good,
    whose_end_nobody_was_told_is_known,
    a_harbor_is_asked_again_with_growing_pauses,
    what_ended_is_removed,
);

fn task(name: &str, now: i64) -> NewHarborTask {
    NewHarborTask {
        id: format!("id-{name}"),
        reference: reference(name),
        source: format!("registry.test/{name}"),
        request: "{}".into(),
        sealed: name.as_bytes().to_vec(),
        sealed_until: now + 1_680,
        deadline: now + 1_800,
    }
}

fn reference(name: &str) -> String {
    format!("registry.test/{name}@{}", digest(name))
}

fn add(store: &Store, name: &str, now: i64) {
    assert!(store.harbor_tasks().add(&task(name, now), 1_000, now).unwrap());
}

fn a_task_waits_for_the_scan_of_its_image(fresh: &Fresh) {
    let store = fresh.open();
    let tasks = store.harbor_tasks();
    add(&store, "app", 100);
    let claimed = tasks.claim(100).unwrap().unwrap();
    assert_eq!((claimed.phase, claimed.sealed.as_deref()), (HarborPhase::New, Some(&b"app"[..])));
    assert!(tasks.claim(100).unwrap().is_none(), "it is claimed");
    let scan = ScanRequest {
        reference: reference("app"),
        digest: digest("app"),
        class: RequestClass::RegistryScanner,
        client: "harbor".into(),
    };
    store.scan_requests().submit(&scan, &key(), false, &RequestLimits::default(), 100).unwrap();
    assert!(tasks.wait(&claimed, HarborPhase::Scan, Some("second"), 0).unwrap());
    let running = store.scan_requests().claim(30, 101).unwrap().unwrap();
    assert!(tasks.claim(101).unwrap().is_none(), "its image is being scanned");
    store.scan_requests().finish(&running, &key(), 102).unwrap();
    let claimed = tasks.claim(102).unwrap().unwrap();
    assert_eq!(claimed.reference, reference("app"));
    tasks.wait(&claimed, HarborPhase::Second, Some("second"), 110).unwrap();
    assert!(tasks.claim(109).unwrap().is_none(), "its step is not due");
    assert_eq!(tasks.claim(110).unwrap().unwrap().progress.as_deref(), Some("second"));
}

fn a_task_ends_once_and_its_login_goes(fresh: &Fresh) {
    let store = fresh.open();
    let tasks = store.harbor_tasks();
    add(&store, "done", 1);
    add(&store, "failed", 2);
    let done = tasks.claim(3).unwrap().unwrap();
    assert!(tasks.finish(&done, b"a report", 4).unwrap());
    assert!(!tasks.finish(&done, b"another", 5).unwrap() && !tasks.fail(&done, "an error", 5).unwrap());
    let failed = tasks.claim(5).unwrap().unwrap();
    assert!(tasks.fail(&failed, &"x".repeat(10_000), 6).unwrap());
    let (done, failed) = (tasks.find("id-done").unwrap().unwrap(), tasks.find("id-failed").unwrap().unwrap());
    assert_eq!(
        (done.state, tasks.report("id-done").unwrap().as_deref()),
        (HarborTaskState::Done, Some(&b"a report"[..]))
    );
    assert_eq!(tasks.report("id-failed").unwrap(), None);
    assert_eq!((failed.state, failed.error.unwrap().len()), (HarborTaskState::Failed, 2_000));
    assert_eq!(tasks.find("id-other").unwrap(), None);
    for name in ["done", "failed"] {
        assert_eq!(tasks.login(&format!("registry.test/{name}"), 6).unwrap(), None);
    }
    assert!(fresh.rows("SELECT id FROM harbor_tasks WHERE sealed IS NOT NULL").is_empty());
    assert!(tasks.claim(10_000).unwrap().is_none());
}

fn a_lease_that_runs_out_is_given_to_another(fresh: &Fresh) {
    let store = fresh.open();
    let tasks = store.harbor_tasks();
    add(&store, "app", 100);
    let first = tasks.claim(100).unwrap().unwrap();
    assert!(tasks.claim(219).unwrap().is_none());
    let second = tasks.claim(220).unwrap().unwrap();
    assert!(!tasks.finish(&first, b"late", 221).unwrap(), "another has it");
    assert!(!tasks.wait(&first, HarborPhase::New, None, 0).unwrap());
    assert!(tasks.finish(&second, b"in time", 222).unwrap());
    assert_eq!(second.losses, 1, "the first claim was never given back");
    // A clock that was wrong holds nothing for ever.
    add(&store, "ahead", 300);
    tasks.claim(90_000).unwrap().unwrap();
    let ahead = tasks.claim(301).unwrap().unwrap();
    assert!(!ahead.is_out_of_time(301) && ahead.is_out_of_time(179), "it was added later than now");
    assert!(tasks.finish(&ahead, b"report", 302).unwrap());
    // A task that is out of time is due whatever it waits for.
    add(&store, "late", 400);
    let late = tasks.claim(400).unwrap().unwrap();
    tasks.wait(&late, HarborPhase::Second, None, 900).unwrap();
    assert!(tasks.claim(899).unwrap().is_none());
    assert_eq!(tasks.claim(2_200).unwrap().unwrap().id, "id-late");
}

fn many_processes_take_each_task_once(fresh: &Fresh) {
    let store = fresh.open();
    let names: BTreeSet<String> = (0..40).map(|number| format!("id-{number}")).collect();
    (0..40).for_each(|number| add(&store, &number.to_string(), 1));
    let taken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let own = fresh.open();
                while taken.lock().unwrap().len() < 40 {
                    if let Some(claimed) = own.harbor_tasks().claim(2).unwrap() {
                        taken.lock().unwrap().push(claimed.id.clone());
                        assert!(own.harbor_tasks().finish(&claimed, b"report", 3).unwrap());
                    }
                }
            });
        }
    });
    let taken = taken.into_inner().unwrap();
    assert_eq!((taken.len(), taken.into_iter().collect::<BTreeSet<_>>()), (40, names));
}

fn a_login_is_lent_while_it_is_good(fresh: &Fresh) {
    let store = fresh.open();
    let tasks = store.harbor_tasks();
    let source = "registry.test/app";
    assert_eq!(tasks.login(source, 1).unwrap(), None);
    for (id, now) in [("old", 10), ("new", 20)] {
        let sealed = id.as_bytes().to_vec();
        assert!(tasks.add(&NewHarborTask { id: id.into(), sealed, ..task("app", now) }, 2, now).unwrap());
    }
    let login = |now: i64| tasks.login(source, now).unwrap().map(|login| (login.task, login.sealed));
    assert_eq!(login(21), Some(("new".into(), b"new".to_vec())), "the newest is good for longest");
    assert_eq!(login(1_695).map(|(task, _)| task), Some("new".into()));
    assert_eq!(login(1_700), None);
    assert_eq!(tasks.login("registry.test/other", 21).unwrap(), None, "it is for one repository");
    assert!(!tasks.add(&task("more", 21), 2, 21).unwrap(), "too many are open");
    assert_eq!(tasks.find("id-more").unwrap(), None);
}

fn whose_end_nobody_was_told_is_known(fresh: &Fresh) {
    let store = fresh.open();
    let tasks = store.harbor_tasks();
    for (number, name) in ["told", "untold", "open"].into_iter().enumerate() {
        add(&store, name, number as i64);
    }
    for _ in 0..2 {
        let claimed = tasks.claim(10).unwrap().unwrap();
        tasks.finish(&claimed, b"report", 10).unwrap();
    }
    tasks.note_fetched("id-told", 11).unwrap();
    tasks.note_fetched("id-open", 11).unwrap();
    assert_eq!(tasks.find("id-open").unwrap().unwrap().fetched_at, None, "it has not ended");
    assert_eq!(tasks.unfetched(9, 10).unwrap(), []);
    let untold = ("id-untold".to_string(), reference("untold"), "{}".to_string());
    assert_eq!(tasks.unfetched(10, 10).unwrap(), [untold]);
    tasks.note_fetched("id-untold", 12).unwrap();
    assert_eq!(tasks.unfetched(100, 10).unwrap(), []);
    assert_eq!(tasks.open().unwrap(), 1);
}

fn a_harbor_is_asked_again_with_growing_pauses(fresh: &Fresh) {
    let store = fresh.open();
    let tasks = store.harbor_tasks();
    let may = |now: i64| tasks.may_ask_again("team/app", 3, 120, now).unwrap();
    assert_eq!(may(0), Some(true));
    tasks.note_asked_again("team/app", 1_000).unwrap();
    assert_eq!((may(1_119), may(1_120)), (Some(false), Some(true)));
    tasks.note_asked_again("team/app", 1_120).unwrap();
    assert_eq!((may(1_359), may(1_360)), (Some(false), Some(true)));
    tasks.note_asked_again("team/app", 1_360).unwrap();
    assert_eq!(may(1_000_000), None, "three times are enough");
    assert_eq!(tasks.may_ask_again("team/other", 3, 120, 1_000).unwrap(), Some(true));
    assert_eq!(tasks.last_missed().unwrap(), None);
    tasks.note_missed(7).unwrap();
    tasks.note_missed(9).unwrap();
    assert_eq!(tasks.last_missed().unwrap(), Some(9));
}

fn what_ended_is_removed(fresh: &Fresh) {
    let store = fresh.open();
    let tasks = store.harbor_tasks();
    add(&store, "ended", 100);
    add(&store, "open", 101);
    let claimed = tasks.claim(101).unwrap().unwrap();
    tasks.finish(&claimed, b"report", 102).unwrap();
    tasks.note_asked_again("team/app", 100).unwrap();
    let retention = Retention { reports: 90 * 86_400, requests: 7 * 86_400 };
    let pruned = |now: i64| store.prune(&retention, &key(), now).unwrap().harbor_tasks;
    assert_eq!((pruned(3_702), pruned(3_703)), (0, 1));
    assert!(tasks.find("id-ended").unwrap().is_none() && tasks.find("id-open").unwrap().is_some());
    assert_eq!(fresh.count("harbor_reports"), 0);
    assert_eq!(fresh.count("harbor_rescans"), 1);
    assert_eq!(pruned(8 * 86_400), 1, "what nobody drives on is out of time, and its login goes");
    assert_eq!(fresh.count("harbor_rescans"), 0);
}
