//! What happens when something else does not work: the store is stopped, a process is killed, rules change.

use serde_json::{Value, json};

use crate::images::{Registry, clean, image, leak, question, root};
use crate::running::{Running, Site, eventually, pulling_from};
use crate::support::{Fresh, postgres};

/// What is answered about one image, without waiting.
fn decision(running: &Running, token: &str, image: &str) -> Value {
    let answer = running.client(token).post("/admit/v1/images", &json!({ "images": [image] })).expect(200);
    answer.json()["decisions"][0].clone()
}

/// Has images scanned, and returns their decisions.
fn wait_for(running: &Running, token: &str, images: &[String]) -> Vec<Value> {
    let answer = running.client(token).post("/admit/v1/images", &question(images)).expect(200).json();
    answer["decisions"].as_array().unwrap().clone()
}

#[test]
fn while_the_store_is_stopped_it_answers_from_memory_and_by_policy() {
    let (good, new) = (clean("good"), clean("new"));
    let registry = Registry::of(&[good.clone(), new.clone()]);
    let server = postgres::Server::start();
    let site = Site::with(Fresh::at(server.url()));
    let running = site.start_for(&registry.host(), "");
    let token = site.token(&["admit"]);
    let good = registry.by_digest(&good);
    assert_eq!(wait_for(&running, &token, std::slice::from_ref(&good))[0]["effect"], "allow");
    server.stop("immediate");
    // Longer than anything is answered from memory without asking.
    eventually("an answer without the store", || {
        assert_eq!(decision(&running, &token, &good)["effect"], "allow");
        let metrics = crate::running::Client::new(&running.url("health")).get("/metrics").text();
        metrics.contains("decision_cache_total{found=\"before-outage\"}").then_some(())
    });
    let unknown = decision(&running, &token, &registry.by_digest(&new));
    assert_eq!((&unknown["outcome"], &unknown["effect"]), (&json!("unknown"), &json!("wait")), "{unknown}");
    let health = crate::running::Client::new(&running.url("health"));
    assert_eq!(health.get("/readyz").expect(200).json()["store"], "out of reach", "it still answers");
    server.start_again();
    let scanned = eventually("a scan", || {
        let decision = wait_for(&running, &token, &[registry.by_digest(&new)]).remove(0);
        (decision["effect"] == "allow").then_some(decision)
    });
    assert_eq!(scanned["outcome"], "pass");
}

#[test]
fn whatever_was_queued_is_scanned_after_a_crash() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let images: Vec<_> = names.map(clean).into();
    let registry = Registry::of(&images);
    let site = Site::sqlite();
    let running = site.start_for(&registry.host(), "[scans]\nat-once = 2");
    let token = site.token(&["admit"]);
    registry.close();
    let asked: Vec<String> = images.iter().map(|image| registry.by_digest(image)).collect();
    for image in &asked {
        assert_eq!(decision(&running, &token, image)["outcome"], "unknown");
    }
    eventually("two scans", || {
        (site.fresh().rows("SELECT id FROM scan_requests WHERE state = 'running'").len() == 2).then_some(())
    });
    running.kill();
    registry.open();
    let running = site.start_for(&registry.host(), "");
    let decisions = wait_for(&running, &token, &asked);
    assert!(decisions.iter().all(|decision| decision["effect"] == "allow"), "{decisions:#?}");
}

#[test]
fn a_service_that_ends_gives_its_scans_back() {
    let app = clean("app");
    let registry = Registry::of(std::slice::from_ref(&app));
    let site = Site::sqlite();
    let running = site.start_for(&registry.host(), "");
    let token = site.token(&["admit"]);
    registry.close();
    assert_eq!(decision(&running, &token, &registry.by_digest(&app))["outcome"], "unknown");
    eventually("the scan", || {
        (site.fresh().rows("SELECT id FROM scan_requests WHERE state = 'running'").len() == 1).then_some(())
    });
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log:#?}");
    let left = site.fresh().rows("SELECT state, attempts FROM scan_requests");
    assert!(left.len() == 1 && left[0].contains("queued") && left[0].contains('0'), "{left:?}");
}

#[test]
fn another_replica_scans_what_one_was_asked_for() {
    let app = clean("app");
    let registry = Registry::of(std::slice::from_ref(&app));
    let site = Site::postgres();
    let answering = site.start_for(&registry.host(), "[scans]\nat-once = 0\npulls = 0");
    let _scanning = site.start_for(&registry.host(), "");
    let token = site.token(&["admit"]);
    let decisions = wait_for(&answering, &token, &[registry.by_tag(&app)]);
    assert_eq!(decisions[0]["effect"], "allow", "{decisions:#?}");
}

/// A rule that finds nothing: reports are of other rules with it.
fn rule(site: &Site) -> String {
    let rule = "[[signature]]\nid = 'made.up'\ntitle = 'A word'\nseverity = 'high'\nconfidence = 'high'\n\
                pattern = 'never-in-an-image-[0-9]{12}'\nkeywords = ['never-in-an-image-']\nwhat = 'x'\nrisk = 'x'\n\
                fix = 'x'\n[[signature.example]]\ninput = 'never-in-an-image-012345678901'\n";
    let path = site.write("rule.toml", rule.as_bytes());
    format!("rules = ['{}']\n", path.display())
}

#[test]
fn reports_of_older_rules_count_for_a_while() {
    let (good, bad) = (clean("good"), image("bad", &[leak()]));
    let registry = Registry::of(&[good.clone(), bad.clone()]);
    let site = Site::sqlite();
    let (rules, pulling) = (rule(&site), pulling_from(&registry.host()));
    let images = [registry.by_digest(&good), registry.by_digest(&bad)];
    let before = site.start(&pulling);
    let token = site.token(&["admit"]);
    let decisions = wait_for(&before, &token, &images);
    assert_eq!((&decisions[0]["effect"], &decisions[1]["effect"]), (&json!("allow"), &json!("deny")));
    before.stop();
    // Nothing is scanned again here, so that the older reports are all there is.
    let still = "[scans]\nat-once = 0\n";
    let after = site.start(&format!("{rules}{still}{pulling}"));
    let outdated = decision(&after, &token, &images[0]);
    assert_eq!((&outdated["effect"], &outdated["basis"]["is_outdated"]), (&json!("allow"), &json!(true)), "{outdated}");
    after.stop();
    let short = "[admission]\nmax-report-age = '1s'\n";
    let strict = site.start(&format!("{rules}{still}{short}{pulling}"));
    let expired = eventually("the age", || {
        let decision = decision(&strict, &token, &images[0]);
        (decision["outcome"] == "unknown").then_some(decision)
    });
    assert_eq!(expired["effect"], "wait", "{expired}");
    let fail = decision(&strict, &token, &images[1]);
    assert_eq!((&fail["outcome"], &fail["effect"]), (&json!("fail"), &json!("deny")), "a stored fail stands: {fail}");
    strict.stop();
    let scanning = site.start(&format!("{rules}{pulling}"));
    eventually("the rescan of what is in use", || {
        let decision = decision(&scanning, &token, &images[0]);
        assert_eq!(decision["effect"], "allow");
        (decision["basis"]["is_outdated"] == false).then_some(())
    });
}

#[test]
fn an_upgrade_after_a_trial_of_the_same_rules_long_ago_denies_nothing() {
    let good = clean("good");
    let registry = Registry::of(std::slice::from_ref(&good));
    let site = Site::sqlite();
    let (rules, pulling) = (rule(&site), pulling_from(&registry.host()));
    let image = registry.by_digest(&good);
    let new = format!("{rules}[scans]\nat-once = 0\n{pulling}");
    site.start(&new).stop();
    let old = site.start(&pulling);
    let token = site.token(&["admit"]);
    assert_eq!(wait_for(&old, &token, std::slice::from_ref(&image))[0]["effect"], "allow");
    old.stop();
    // The trial was a month ago, and the report as well; the old rules were served until a moment ago.
    site.fresh().execute("UPDATE image_reports SET stored_at = stored_at - 2592000");
    let of_trial = "(SELECT layer_key_id FROM served_keys ORDER BY last_served LIMIT 1)";
    let sql = format!("UPDATE served_keys SET last_served = last_served - 2592000 WHERE layer_key_id = {of_trial}");
    site.fresh().execute(&sql);
    let upgraded = site.start(&new);
    let decision = decision(&upgraded, &token, &image);
    assert_eq!((&decision["effect"], &decision["basis"]["is_outdated"]), (&json!("allow"), &json!(true)), "{decision}");
}

#[test]
fn a_policy_that_was_replaced_decides_nothing_more() {
    let bad = image("bad", &[leak()]);
    let registry = Registry::of(std::slice::from_ref(&bad));
    let site = Site::sqlite();
    let policy = site.write("policy.toml", b"fail-on = \"none\"\n");
    let settings = format!("policy = '{}'\n{}", policy.display(), pulling_from(&registry.host()));
    let running = site.start(&settings);
    let token = site.token(&["admit"]);
    let image = registry.by_digest(&bad);
    registry.close();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait_for(&running, &token, std::slice::from_ref(&image)));
        eventually("the scan", || {
            (site.fresh().rows("SELECT id FROM scan_requests WHERE state = 'running'").len() == 1).then_some(())
        });
        site.write("policy.toml", b"fail-on = \"high\"\n");
        let is_read = |message: &Value| message["message"] == "policy read again";
        eventually("the new policy", || running.log().iter().any(is_read).then_some(()));
        registry.open();
        assert_eq!(waiting.join().unwrap()[0]["effect"], "deny", "by the policy of now");
    });
    assert_eq!(decision(&running, &token, &image)["effect"], "deny");
}

#[test]
fn while_it_lingers_tags_are_still_resolved() {
    let good = clean("good");
    let registry = Registry::of(std::slice::from_ref(&good));
    let site = Site::sqlite();
    let running =
        site.start(&format!("[listen]\napi = '127.0.0.1:0'\nlinger = '20s'\n{}", pulling_from(&registry.host())));
    let token = site.token(&["admit"]);
    let digest = registry.by_digest(&good);
    assert_eq!(wait_for(&running, &token, &[digest])[0]["effect"], "allow");
    running.signal("TERM");
    let api = crate::running::Client::new(&running.url("api"));
    eventually("the end", || (api.get("/readyz").status == 503).then_some(()));
    assert_eq!(decision(&running, &token, &registry.by_tag(&good))["effect"], "allow");
}

#[test]
fn a_digest_that_the_operator_names_is_let_in_without_a_look() {
    let bad = image("bad", &[leak()]);
    let registry = Registry::of(std::slice::from_ref(&bad));
    let site = Site::sqlite();
    let running = site.start_for(&registry.host(), &format!("[admission]\nallowed-digests = ['{}']\n", root(&bad)));
    let token = site.token(&["admit"]);
    assert_eq!(decision(&running, &token, &registry.by_digest(&bad))["effect"], "allow");
    assert_eq!(site.fresh().count("scan_requests"), 0);
}

#[test]
fn what_cannot_be_read_in_time_is_not_let_in_as_unknown() {
    let bad = image("bad", &[leak()]);
    let registry = Registry::of(std::slice::from_ref(&bad));
    let site = Site::sqlite();
    let settings = "[admission]\non-unknown = 'allow'\n";
    let running = site.start_for(&registry.host(), settings);
    let token = site.token(&["admit"]);
    let image = registry.by_digest(&bad);
    eventually("the scan", || (decision(&running, &token, &image)["effect"] == "deny").then_some(()));
    running.stop();
    // From now on, no look at reports comes to an end.
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    site.fresh().execute("ALTER TABLE image_reports RENAME TO stored_reports");
    site.fresh().execute(&format!("CREATE VIEW image_reports AS SELECT * FROM stored_reports WHERE ({endless}) > 0"));
    let running = site.start_for(&registry.host(), settings);
    let late = decision(&running, &token, &image);
    assert_eq!((&late["outcome"], &late["effect"]), (&json!("unknown"), &json!("wait")), "{late}");
    assert_eq!(late["reasons"][0]["title"], "what the store knows could not be read in time", "{late}");
    running.kill();
}
