//! Leases: what a clock that is wrong costs, and what another process on the same host knows of their owners.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::support::Fresh;
use crate::support::records::*;
use layersift_store::{Job, Store, Task};

crate::on_both!(
    a_lease_given_by_a_clock_that_is_ahead_costs_one_lease,
    a_lease_given_by_a_clock_that_is_ahead_is_kept_by_its_owner,
    a_clock_that_is_ahead_takes_no_leases,
    a_delay_set_by_a_clock_that_is_ahead_is_over,
    the_lease_of_a_process_that_is_dead_has_run_out,
);

/// Ten years, in seconds.
const AHEAD: i64 = 10 * 365 * 24 * 3600;

/// Any time.
const NOW: i64 = 1_700_000_000;

fn store_with_a_job(fresh: &Fresh) -> Store {
    let store = fresh.open();
    let job = Job { layer: digest("a"), size: 1000, priority: 0, source: "s".into() };
    store.queue().enqueue(&key(), &[job], NOW).unwrap();
    store
}

fn claim(store: &Store, owner: &str, now: i64) -> Option<Task> {
    store.queue().claim(owner, &key(), 1, 60, now).unwrap().pop()
}

fn a_lease_given_by_a_clock_that_is_ahead_costs_one_lease(fresh: &Fresh) {
    let store = store_with_a_job(fresh);
    assert!(claim(&store, "ahead", NOW + AHEAD).is_some());
    // Its owner says nothing any more.
    assert!(claim(&store, "other", NOW + 1).is_none());
    assert!(claim(&store, "other", NOW + 59).is_none());
    assert_eq!(claim(&store, "other", NOW + 62).unwrap().lease.attempt, 2);
}

fn a_lease_given_by_a_clock_that_is_ahead_is_kept_by_its_owner(fresh: &Fresh) {
    let store = store_with_a_job(fresh);
    let task = claim(&store, "ahead", NOW + AHEAD).unwrap();
    let queue = store.queue();
    // A minute later the clock is right again.
    for second in (1..600).step_by(20) {
        assert!(claim(&store, "other", NOW + second).is_none());
        assert_eq!(queue.renew(std::slice::from_ref(&task.lease), 60, NOW + second).unwrap().len(), 1);
    }
    assert!(queue.finish(&task.lease, &layer_report("a", &key(), NOW + 600)).unwrap());
}

fn a_clock_that_is_ahead_takes_no_leases(fresh: &Fresh) {
    let store = store_with_a_job(fresh);
    let task = claim(&store, "right", NOW).unwrap();
    let queue = store.queue();
    // Two workers whose clocks differ look at the queue all the time, and one renews.
    for second in 1..120 {
        assert!(claim(&store, "ahead", NOW + AHEAD + second).is_none());
        assert!(claim(&store, "right", NOW + second).is_none());
        if second % 15 == 0 {
            assert_eq!(queue.renew(std::slice::from_ref(&task.lease), 60, NOW + second).unwrap().len(), 1);
        }
    }
    assert!(queue.finish(&task.lease, &layer_report("a", &key(), NOW + 120)).unwrap());
}

fn a_delay_set_by_a_clock_that_is_ahead_is_over(fresh: &Fresh) {
    let store = store_with_a_job(fresh);
    let queue = store.queue();
    let task = claim(&store, "w", NOW).unwrap();
    assert!(queue.fail(&task.lease, "damaged", 5, NOW + AHEAD).unwrap());
    let task = claim(&store, "w", NOW + 1).unwrap();
    assert!(queue.release(&task.lease, 5, NOW + AHEAD).unwrap());
    let task = claim(&store, "w", NOW + 2).unwrap();
    assert!(queue.fail(&task.lease, "damaged", 5, NOW + 2).unwrap());
    assert!(claim(&store, "w", NOW + 3).is_none(), "a delay of a clock that is right is waited for");
    assert!(claim(&store, "w", NOW + 7).is_some());
}

/// Not a test of its own: claims a job for the one below, and waits to be killed.
#[test]
#[ignore = "run by the_lease_of_a_process_that_is_dead_has_run_out"]
fn claim_and_wait() {
    let Ok(text) = std::env::var("LAYERSIFT_TEST_STORE") else { return };
    let store = Store::open(&text).unwrap();
    let claimed = store.queue().claim("child", &key(), 1, 100_000, NOW).unwrap();
    println!("claimed {}", claimed.len());
    std::thread::sleep(crate::support::DEADLINE);
}

fn start_claiming(fresh: &Fresh) -> Child {
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "leases::claim_and_wait", "--ignored", "--nocapture"]);
    let test = test.env("LAYERSIFT_TEST_STORE", &fresh.text).stdout(Stdio::piped());
    let mut child = test.spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!({ said }.any(|line| line.contains("claimed 1")), "the child has claimed nothing");
    child
}

fn the_lease_of_a_process_that_is_dead_has_run_out(fresh: &Fresh) {
    let store = store_with_a_job(fresh);
    let mut child = start_claiming(fresh);
    for second in 1..4 {
        assert!(claim(&store, "other", NOW + second).is_none(), "the child is alive");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let task = claim(&store, "other", NOW + 4).unwrap();
    assert_eq!(task.lease.attempt, 2);
    assert!(claim(&store, "other", NOW + 5).is_none(), "this process is alive");

    // Of a process of another boot, or in another container, nothing is known.
    store.queue().release(&task.lease, 0, NOW + 6).unwrap();
    let mut child = start_claiming(fresh);
    child.kill().unwrap();
    child.wait().unwrap();
    fresh.execute("UPDATE jobs SET lease_process = 'elsewhere/' || lease_process");
    assert!(claim(&store, "other", NOW + 7).is_none());
    assert!(claim(&store, "other", NOW + 100_001).is_some());
}
