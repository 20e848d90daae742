//! The queue: workers that claim, finish, fail and die, on SQLite and on PostgreSQL.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::support::Fresh;
use crate::support::records::*;
use layersift_store::{Job, JobCounts, Store, Task};

crate::on_both!(
    a_layer_is_queued_once,
    jobs_come_by_priority_then_age,
    a_result_ends_its_job,
    a_worker_that_was_too_slow_cannot_overwrite,
    a_layer_is_poisoned_after_three_attempts,
    a_job_given_back_is_no_attempt,
    many_workers_give_every_layer_one_result,
);

fn job(layer: &str, priority: i64, source: &str) -> Job {
    Job { layer: digest(layer), size: 1000, priority, source: source.into() }
}

fn claim(store: &Store, owner: &str, count: usize, now: i64) -> Vec<Task> {
    store.queue().claim(owner, &key(), count, 60, now).unwrap()
}

fn one(store: &Store, owner: &str, now: i64) -> Task {
    claim(store, owner, 1, now).pop().unwrap()
}

fn counts(store: &Store) -> [u64; 4] {
    let JobCounts { queued, leased, done, poisoned } = store.queue().counts(&key()).unwrap();
    [queued, leased, done, poisoned]
}

fn a_layer_is_queued_once(fresh: &Fresh) {
    let store = fresh.open();
    store.layers().put_report(&layer_report("known", &key(), 1)).unwrap();
    let jobs = [job("a", 0, "one"), job("a", 0, "two"), job("known", 0, "one"), job("b", 0, "one")];
    assert_eq!(store.queue().enqueue(&key(), &jobs, 10).unwrap(), 2);
    assert_eq!(store.queue().enqueue(&key(), &[job("a", 0, "two"), job("a", 0, "three")], 11).unwrap(), 0);
    assert_eq!(store.queue().enqueue(&other_key(), &[job("a", 0, "one")], 12).unwrap(), 1, "other rules, other job");
    assert_eq!(counts(&store), [2, 0, 0, 0]);
    let tasks = claim(&store, "w", 9, 20);
    let task = tasks.iter().find(|task| task.lease.layer == digest("a")).unwrap();
    let mut sources = task.sources.clone();
    sources.sort();
    assert_eq!((tasks.len(), sources), (2, ["one", "three", "two"].map(String::from).into()));
    assert_eq!(store.queue().enqueue(&key(), &[job("a", 0, "four")], 21).unwrap(), 0, "it is being read");
    assert!(store.queue().finish(&task.lease, &layer_report("a", &key(), 22)).unwrap());
    assert_eq!(store.queue().enqueue(&key(), &[job("a", 0, "one")], 23).unwrap(), 0, "it was read");
    for number in 0..20 {
        store.queue().enqueue(&key(), &[job("c", 0, &format!("source {number}"))], 30).unwrap();
    }
    assert_eq!(one(&store, "w", 31).sources.len(), 8);
}

fn jobs_come_by_priority_then_age(fresh: &Fresh) {
    let store = fresh.open();
    store.queue().enqueue(&key(), &[job("late", 0, "s")], 30).unwrap();
    store.queue().enqueue(&key(), &[job("early", 0, "s"), job("raised", 0, "s")], 10).unwrap();
    store.queue().enqueue(&key(), &[job("urgent", 5, "s")], 40).unwrap();
    store.queue().enqueue(&key(), &[job("raised", 9, "s"), job("urgent", 1, "s")], 50).unwrap();
    // Of several sizes that manifests claim, the largest counts.
    for size in [2000, 500] {
        store.queue().enqueue(&key(), &[Job { size, ..job("late", 0, "s") }], 50).unwrap();
    }
    let order: Vec<_> = claim(&store, "w", 3, 60).into_iter().map(|task| task.lease.layer).collect();
    assert_eq!(order, ["raised", "urgent", "early"].map(digest));
    assert!(store.queue().claim("w", &other_key(), 9, 60, 60).unwrap().is_empty());
    let last = one(&store, "w", 60);
    assert_eq!((last.lease.layer, last.size), (digest("late"), 2000));
    assert!(claim(&store, "w", 9, 60).is_empty());
}

fn a_result_ends_its_job(fresh: &Fresh) {
    let store = fresh.open();
    store.queue().enqueue(&key(), &[job("a", 0, "s"), job("b", 0, "s")], 10).unwrap();
    let task = one(&store, "w", 20);
    let other = layer_report(if task.lease.layer == digest("a") { "b" } else { "a" }, &key(), 20);
    assert!(store.queue().finish(&task.lease, &other).unwrap_err().to_string().contains("its job is for the layer"));
    let name = if task.lease.layer == digest("a") { "a" } else { "b" };
    assert!(store.queue().finish(&task.lease, &layer_report(name, &key(), 21)).unwrap());
    assert!(!store.queue().finish(&task.lease, &layer_report(name, &key(), 22)).unwrap(), "only once");
    assert_eq!(store.layers().report(&digest(name), &key()).unwrap().unwrap().scanned_at, 21);
    assert_eq!(counts(&store), [1, 0, 1, 0]);
    // Somebody else read the other one without the queue.
    let left = one(&store, "w", 30);
    store.layers().put_report(&other).unwrap();
    assert!(
        !store.queue().finish(&left.lease, &layer_report(if name == "a" { "b" } else { "a" }, &key(), 31)).unwrap()
    );
    assert!(store.queue().renew(&[left.lease], 60, 31).unwrap().is_empty());
    assert_eq!(counts(&store), [0, 0, 2, 0]);
}

fn a_worker_that_was_too_slow_cannot_overwrite(fresh: &Fresh) {
    let store = fresh.open();
    store.queue().enqueue(&key(), &[job("a", 0, "s")], 10).unwrap();
    let slow = one(&store, "w", 20);
    assert_eq!(
        store.queue().renew(std::slice::from_ref(&slow.lease), 60, 70).unwrap(),
        std::slice::from_ref(&slow.lease)
    );
    assert!(claim(&store, "x", 1, 81).is_empty(), "the lease was renewed");
    // Even under the same name: a worker that was started again is another one.
    let quick = one(&store, "w", 131);
    assert_eq!((slow.lease.attempt, quick.lease.attempt), (1, 2));
    assert!(store.queue().renew(std::slice::from_ref(&slow.lease), 60, 132).unwrap().is_empty());
    assert!(!store.queue().fail(&slow.lease, "too late", 0, 132).unwrap());
    assert!(!store.queue().release(&slow.lease, 0, 132).unwrap());
    assert!(!store.queue().finish(&slow.lease, &layer_report("a", &key(), 132)).unwrap());
    assert_eq!(store.layers().report(&digest("a"), &key()).unwrap(), None);
    assert!(store.queue().finish(&quick.lease, &layer_report("a", &key(), 133)).unwrap());
    assert_eq!(store.layers().report(&digest("a"), &key()).unwrap().unwrap().scanned_at, 133);
    // Late, and nobody has taken over: the work counts.
    store.queue().enqueue(&key(), &[job("b", 0, "s")], 200).unwrap();
    let late = one(&store, "w", 200);
    assert!(store.queue().finish(&late.lease, &layer_report("b", &key(), 999)).unwrap());
}

fn a_layer_is_poisoned_after_three_attempts(fresh: &Fresh) {
    let store = fresh.open();
    store.queue().enqueue(&key(), &[job("a", 0, "s")], 10).unwrap();
    assert!(store.queue().fail(&one(&store, "w", 20).lease, "damaged", 10, 20).unwrap());
    assert!(claim(&store, "w", 1, 29).is_empty(), "it is tried again later");
    let died = one(&store, "x", 30);
    assert_eq!(died.lease.attempt, 2);
    let last = one(&store, "w", 90);
    assert_eq!(last.lease.attempt, 3);
    let poisoned = || store.queue().poisoned(&[digest("a"), digest("b")], &key()).unwrap();
    assert!(poisoned().is_empty());
    assert!(store.queue().fail(&last.lease, &format!("damaged {}", "x".repeat(9000)), 0, 90).unwrap());
    let errors = poisoned();
    assert_eq!(errors.len(), 1);
    assert!(errors[&digest("a")].starts_with("damaged xxx") && errors[&digest("a")].len() == 2000);
    assert!(claim(&store, "w", 1, 9999).is_empty());
    assert_eq!(store.queue().enqueue(&key(), &[job("a", 0, "s")], 9999).unwrap(), 0, "it stays poisoned");
    assert_eq!(store.queue().retry(&key(), &[digest("a"), digest("b")]).unwrap(), 1);
    // Three workers die without a word.
    for (number, now) in [(1, 10_000), (2, 10_060), (3, 10_120)] {
        assert_eq!(one(&store, "w", now).lease.attempt, number);
    }
    assert!(claim(&store, "w", 1, 10_180).is_empty());
    assert_eq!(poisoned()[&digest("a")], "the lease of w ran out");
    assert_eq!(counts(&store), [0, 0, 0, 1]);
}

fn a_job_given_back_is_no_attempt(fresh: &Fresh) {
    let store = fresh.open();
    store.queue().enqueue(&key(), &[job("a", 0, "s")], 10).unwrap();
    for now in 20..30 {
        let task = one(&store, "w", now);
        assert_eq!(task.lease.attempt, 1);
        assert!(store.queue().release(&task.lease, 1, now).unwrap());
        assert!(!store.queue().release(&task.lease, 1, now).unwrap());
        assert!(claim(&store, "w", 1, now).is_empty());
    }
}

fn many_workers_give_every_layer_one_result(fresh: &Fresh) {
    const LAYERS: usize = 200;
    let stores = [fresh.open(), fresh.open()];
    let names: Vec<String> = (0..LAYERS).map(|number| format!("layer {number}")).collect();
    let jobs: Vec<Job> = names.iter().map(|name| job(name, 0, "s")).collect();
    let by_digest: HashMap<_, _> = names.iter().map(|name| (digest(name), name.as_str())).collect();
    let results = Mutex::new(HashMap::new());
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (store, jobs, by_digest, results) = (&stores[worker % 2], &jobs, &by_digest, &results);
            scope.spawn(move || {
                // All of them find the same layers in the same registry.
                store.queue().enqueue(&key(), &jobs[worker..], 0).unwrap();
                store.queue().enqueue(&key(), jobs, 0).unwrap();
                let owner = format!("worker {worker}");
                // Each round is a minute and a half later: what was not finished by then is taken over.
                for round in 0.. {
                    let now = round * 90;
                    let tasks = store.queue().claim(&owner, &key(), 5, 60, now).unwrap();
                    if tasks.is_empty() && store.queue().counts(&key()).unwrap().leased == 0 {
                        break;
                    }
                    for (at, task) in tasks.iter().enumerate() {
                        // Some are dropped the first time, as if the worker had died.
                        if at == 4 && task.lease.attempt == 1 {
                            continue;
                        }
                        let mut report = layer_report(by_digest[&task.lease.layer], &key(), now);
                        report.report = format!("{owner} in round {round}").into_bytes();
                        if store.queue().finish(&task.lease, &report).unwrap() {
                            let before = results.lock().unwrap().insert(task.lease.layer.clone(), report.report);
                            assert_eq!(before, None, "two results for {}", task.lease.layer);
                        }
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let layers: Vec<_> = names.iter().map(|name| digest(name)).collect();
    let poisoned = stores[0].queue().poisoned(&layers, &key()).unwrap();
    assert_eq!(results.len() + poisoned.len(), LAYERS);
    for (layer, result) in &results {
        assert_eq!(&stores[0].layers().report(layer, &key()).unwrap().unwrap().report, result);
    }
    let [queued, leased, done, poisoned_jobs] = counts(&stores[0]);
    assert_eq!([queued, leased, done, poisoned_jobs], [0, 0, results.len() as u64, poisoned.len() as u64]);
}
