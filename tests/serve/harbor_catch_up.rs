//! A Harbor that had errors, or no answer, is asked to scan again.

use std::collections::BTreeMap;

use crate::harbor::{register, settings, start};
use crate::harbor_stub::made_up;
use crate::images::clean;
use crate::running::{Site, eventually};
use crate::support::full_harbor::Account;
use crate::support::harbor_scanner::{HarborScanner, Settings, Setup, Status};

/// Settings for a robot that may ask for scans.
fn with_robot(site: &Site, harbor: &HarborScanner) -> String {
    harbor.add_account("robot$layersift", Account::robot("made-up-robot", &["team"]), true);
    let login = site.write("robot", b"robot$layersift:made-up-robot\n");
    format!("url = '{}'\nlogin = '{}'", harbor.url(), login.display())
}

#[test]
fn after_a_crash_each_scan_ends_in_a_report() {
    let harbor = HarborScanner::start(Setup { pace: 0.05, workers: 54, ..Setup::default() });
    let digests: Vec<String> = (0..54)
        .map(|number| harbor.push(&format!("team/app-{number}"), "v1", &made_up(&format!("{number}"))))
        .collect();
    let site = Site::postgres();
    let more = with_robot(&site, &harbor);
    let running = start(&site, &harbor, &more);
    harbor.close();
    for number in 0..54 {
        assert_eq!(harbor.scan(&format!("team/app-{number}"), "v1").status, 202);
    }
    harbor.wait_for_calls("all requests", |calls| calls.iter().filter(|call| call.method == "POST").count() == 54);
    eventually("four scans that are running", || {
        (site.fresh().rows("SELECT id FROM scan_requests WHERE state = 'running'").len() == 4).then_some(())
    });
    assert_eq!(site.fresh().count("harbor_tasks"), 54);
    running.kill();
    // Polls in vain are the end for Harbor.
    eventually("errors", || harbor.statuses().contains_key("Error").then_some(()));
    harbor.open();
    let running = site.start(&settings(&site, &harbor, &more));
    register(&harbor, &running);
    let asked_before = harbor.asked().len();
    eventually("reports of all", || (harbor.statuses() == BTreeMap::from([("Success".to_string(), 54)])).then_some(()));
    let again = &harbor.asked()[asked_before.min(54)..];
    assert!(!again.is_empty() && again.iter().all(|(who, ..)| who == "robot$layersift"), "{again:?}");
    for digest in &digests {
        let times = again.iter().filter(|(.., asked)| asked == digest).count();
        assert!(times <= 1, "{digest} was asked for {times} times");
    }
    let left = site.fresh().rows("SELECT id FROM harbor_tasks WHERE state = 'open' OR sealed IS NOT NULL");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_was_pushed_while_the_scanner_was_away_is_scanned_afterwards() {
    let harbor = HarborScanner::start(Setup::default());
    let blocking = || Settings { prevent_vul: true, severity: "low".into(), auto_scan: true, ..Settings::default() };
    harbor.set_project("team", blocking());
    // The robot sees what is public, and may not ask for scans there.
    harbor.set_project("other", Settings { is_public: true, ..blocking() });
    harbor.set_project("manual", Settings { auto_scan: false, ..blocking() });
    let site = Site::sqlite();
    let more = with_robot(&site, &harbor);
    let running = start(&site, &harbor, &more);
    let before = harbor.push("team/before", "v1", &clean("before"));
    harbor.wait_all();
    assert_eq!(harbor.status(&before), Some(Status::Success));
    let stopped = harbor.push("team/stopped", "v1", &made_up("stopped"));
    harbor.stop("team/stopped", "v1");
    harbor.wait_all();
    running.kill();
    eventually("the end of what Harbor remembers", || harbor.metadata().is_err().then_some(()));
    let missed = harbor.push("team/missed", "v1", &clean("missed"));
    let of_others = harbor.push("other/missed", "v1", &made_up("of others"));
    let manual = harbor.push("manual/missed", "v1", &made_up("manual"));
    assert_eq!(harbor.status(&missed), None, "Harbor never scans it by itself");
    let running = site.start(&settings(&site, &harbor, &more));
    register(&harbor, &running);
    eventually("its report", || (harbor.status(&missed) == Some(Status::Success)).then_some(()));
    assert_eq!(harbor.refused("team/missed", &missed), None);
    assert_eq!((harbor.status(&of_others), harbor.status(&manual)), (None, None), "the robot is not theirs");
    assert_ne!(harbor.status(&stopped), Some(Status::Error));
    let asked = harbor.asked();
    let robots: Vec<&str> =
        asked.iter().filter(|(who, ..)| who == "robot$layersift").map(|(.., digest)| &digest[..]).collect();
    assert_eq!(robots, [missed.as_str()], "only what has no report");
}
