//! Attestations in place of a scan: what counts, what does not and why, and that what is stored has the last word.

use jiff::SignedDuration;
use layersift_attest::Envelope;
use layersift_attest::keys::{PrivateKey, Signer};
use layersift_attest::predicate::{NOT_PASSED, PASSED, ScanResult};
use layersift_model::{Digest, Verdict};
use serde_json::json;

use crate::attested::{Attested, decide, decide_all, now, passed, scanning_settings, settings, why_not};
use crate::images::{leak, review};
use crate::running::{Client, Site, eventually};
use crate::scanned::scan;
use crate::support::image::{INDEX, MANIFEST};
use crate::support::server::Answer;
use crate::support::{Fresh, finish, postgres};

/// A result with a change.
fn changed(change: impl FnOnce(&mut ScanResult)) -> ScanResult {
    let mut result = passed();
    change(&mut result);
    result
}

fn is_attested(decision: &serde_json::Value) -> bool {
    (&decision["outcome"], &decision["effect"]) == (&json!("pass"), &json!("allow"))
        && decision["basis"]["attestation"]["predicate_type"] == PASSED
}

#[test]
fn an_image_that_is_attested_is_let_in_without_a_scan() {
    for has_api in [true, false] {
        let mut attested = Attested::new(has_api);
        let image = attested.repository.named("v1");
        attested.attest(&image, &passed());
        let (site, server, key) = (Site::sqlite(), attested.repository.serve(), attested.key.public_key().clone());
        let keys = site.write("keys.pem", key.to_pem().as_bytes());
        let running = site.start(&settings(&keys, &server.host()));
        let by_tag = decide(&running, &site, &format!("{}/app:v1", server.host()));
        assert!(is_attested(&by_tag), "{by_tag}");
        assert_eq!(by_tag["digest"], image);
        let basis = &by_tag["basis"];
        assert_eq!(basis["ruleset"], passed().scanner.ruleset);
        assert_eq!(basis["attestation"]["key"], key.fingerprint());
        assert_eq!(basis["attestation"]["subjects"], json!([image]));
        // What is known is not asked for again.
        let asked = server.requests().len();
        let by_digest = format!("{}/app@{image}", server.host());
        assert!(is_attested(&decide(&running, &site, &by_digest)));
        assert_eq!(server.requests().len(), asked);
        assert!(site.fresh().rows("SELECT id FROM scan_requests").is_empty(), "nothing is scanned");
    }
}

/// An image for each thing that may be wrong, and what the reason for not taking it has in it.
fn put_wrong_ones(attested: &mut Attested) -> Vec<(&'static str, &'static str)> {
    let other_key = PrivateKey::generate_p256().unwrap();
    let mut cases = vec![("nothing", "no attestation is attached")];
    attested.put_image("nothing");
    let mut one = |attested: &mut Attested, tag: &'static str, why: &'static str, result: ScanResult| {
        let image = attested.put_image(tag);
        attested.attest_as(&image, PASSED, &result);
        cases.push((tag, why));
    };
    let day = SignedDuration::from_hours(24);
    let other_rules = changed(|result| result.scanner.ruleset = "sha256:other".into());
    one(attested, "rules", "rule set sha256:other instead of", other_rules);
    let old = changed(|result| {
        result.scanned_at = now() - day * 8;
        result.attested_at = now() - day * 8;
    });
    one(attested, "old", "too long ago", old);
    // A new signature does not make a scan newer.
    one(attested, "signed-again", "too long ago", changed(|result| result.scanned_at = now() - day * 8));
    let ahead = changed(|result| result.attested_at = now() + SignedDuration::from_mins(7));
    one(attested, "ahead", "in the future", ahead);
    let scanned_ahead = changed(|result| {
        result.scanned_at = now() + SignedDuration::from_mins(7);
        result.attested_at = result.scanned_at;
    });
    one(attested, "scanned-ahead", "in the future", scanned_ahead);
    one(attested, "times", "contradict", changed(|result| result.attested_at = now() - day));
    one(attested, "fail", "verdict is fail", changed(|result| result.verdict = Verdict::Fail));
    one(attested, "incomplete", "verdict is incomplete", changed(|result| result.verdict = Verdict::Incomplete));
    one(attested, "gap", "verdict is pass", changed(|result| result.gaps = 1));
    one(attested, "high", "which fail here", changed(|result| result.findings.high = 1));
    one(attested, "allowed", "allowed elsewhere", changed(|result| result.allowed.critical = 1));
    one(
        attested,
        "baseline",
        "allowed elsewhere",
        changed(|result| {
            result.allowed.high = 1;
            result.policy.baseline = Some(Digest::of(b"baseline"));
        }),
    );
    let mut attached = |attested: &mut Attested,
                        tag: &'static str,
                        why: &'static str,
                        envelope: &dyn Fn(&Attested, &str) -> Envelope| {
        let image = attested.put_image(tag);
        let envelope = envelope(attested, &image);
        attested.attach(&image, envelope, PASSED);
        cases.push((tag, why));
    };
    attached(attested, "key", "not signed by a trusted key", &|attested, image| {
        let statement = attested.envelope(image, PASSED, &passed()).statement().unwrap();
        Envelope::sign(&statement, &other_key).unwrap()
    });
    attached(attested, "subject", "about another image", &|attested, _| {
        attested.envelope(&attested.repository.named("v1"), PASSED, &passed())
    });
    attached(attested, "failing-type", "scan-not-passed", &|attested, image| {
        attested.envelope(image, NOT_PASSED, &changed(|result| result.verdict = Verdict::Fail))
    });
    // What claims to pass under the type of failing images.
    attached(attested, "passing-as-failing", "scan-not-passed", &|attested, image| {
        attested.envelope(image, NOT_PASSED, &passed())
    });
    attached(attested, "vulnerabilities", "cosign.sigstore.dev/attestation/vuln/v1", &|attested, image| {
        attested.envelope(image, "https://cosign.sigstore.dev/attestation/vuln/v1", &json!({ "scanner": {} }))
    });
    attached(attested, "predicate", "not the outcome of a scan", &|attested, image| {
        attested.envelope(image, PASSED, &json!({ "verdict": "pass" }))
    });
    let mut altered = |attested: &mut Attested, tag: &'static str, why: &'static str, from: &str, to: &str| {
        let image = attested.put_image(tag);
        let envelope = attested.envelope(&image, PASSED, &passed());
        attested.attach_altered(&image, &envelope, |text| text.replacen(from, to, 1));
        cases.push((tag, why));
    };
    altered(attested, "payload-type", "could not be read", "vnd.in-toto+json", "vnd.in-toto+jsom");
    // The beginning of `{"_type"` and of `{"_typf"` in base64.
    altered(
        attested,
        "payload",
        "not signed by a trusted key",
        "eyJfdHlwZ",
        "eyJfdHlwZ".replace("lwZ", "lwa").as_str(),
    );
    cases
}

#[test]
fn what_is_wrong_with_an_attestation_is_the_reason_why_it_is_not_taken() {
    let mut attested = Attested::new(true);
    let cases = put_wrong_ones(&mut attested);
    let (site, server) = (Site::sqlite(), attested.repository.serve());
    let keys = site.write("keys.pem", attested.key.public_key().to_pem().as_bytes());
    let running = site.start(&settings(&keys, &server.host()));
    let images: Vec<String> = cases.iter().map(|(tag, _)| format!("{}/app:{tag}", server.host())).collect();
    let decisions = decide_all(&running, &site, &images);
    assert_eq!(decisions.len(), cases.len());
    for ((tag, why), decision) in cases.iter().zip(&decisions) {
        assert_eq!(
            (&decision["outcome"], &decision["effect"]),
            (&json!("unknown"), &json!("wait")),
            "{tag}: {decision}"
        );
        assert!(why_not(decision).contains(why), "{tag}: {}", why_not(decision));
        assert_eq!(decision["basis"], json!(null), "{tag}");
    }
    let waiting = site.fresh().rows("SELECT id FROM scan_requests WHERE state = 'queued'");
    assert_eq!(waiting.len(), cases.len(), "each is scanned as if it had none");
}

#[test]
fn what_fits_counts_in_either_form_and_beside_others() {
    let mut attested = Attested::new(false);
    let other_type = json!({ "scanner": { "result": "many" } });
    let vulnerabilities = "https://cosign.sigstore.dev/attestation/vuln/v1";
    let layer_only = attested.put_image("layer-only");
    attested.attest_as_layer(&layer_only, &passed());
    let beside = attested.put_image("beside");
    attested.attest_as(&beside, vulnerabilities, &other_type);
    attested.attest(&beside, &changed(|result| result.scanned_at = now() - SignedDuration::from_hours(200)));
    attested.attest(&beside, &passed());
    attested.attest_as(&beside, "https://slsa.dev/provenance/v1", &other_type);
    let ahead = attested.put_image("a-little-ahead");
    attested.attest(&ahead, &changed(|result| result.attested_at = now() + SignedDuration::from_mins(4)));
    let low = attested.put_image("low");
    attested.attest(&low, &changed(|result| (result.findings.low, result.allowed.medium) = (3, 1)));
    // A bundle of anybody hides the other form, as for cosign.
    let hidden = attested.put_image("hidden");
    attested.attest_as_layer(&hidden, &passed());
    attested.attest_as(&hidden, vulnerabilities, &other_type);
    // A failure wins over what is not newer, in whichever form.
    let failed_later = attested.put_image("failed-later");
    attested.attest(&failed_later, &passed());
    attested.attest(
        &failed_later,
        &changed(|result| {
            (result.verdict, result.scanned_at) = (Verdict::Fail, now());
            result.attested_at = now();
        }),
    );
    let (site, server) = (Site::sqlite(), attested.repository.serve());
    let keys = site.write("keys.pem", attested.key.public_key().to_pem().as_bytes());
    let running = site.start(&settings(&keys, &server.host()));
    for tag in ["layer-only", "beside", "a-little-ahead", "low"] {
        let decision = decide(&running, &site, &format!("{}/app:{tag}", server.host()));
        assert!(is_attested(&decision), "{tag}: {decision}");
    }
    for (tag, why) in [("hidden", "predicate type"), ("failed-later", "does not pass")] {
        let decision = decide(&running, &site, &format!("{}/app:{tag}", server.host()));
        assert!(!is_attested(&decision) && why_not(&decision).contains(why), "{tag}: {decision}");
    }
}

#[test]
fn an_index_needs_an_attestation_of_its_own_or_of_each_platform() {
    let mut attested = Attested::new(true);
    let images = ["amd64", "arm64"].map(|name| attested.put_image(name));
    let both = [("amd64", &images[0][..]), ("arm64", &images[1][..])];
    let whole = attested.put_index("whole", &both);
    attested.attest(&images[0], &passed());
    let bare = attested.put_index("uncovered", &[both[1], both[0]]);
    let covered = attested.put_image("third");
    attested.attest(&covered, &passed());
    let each = attested.put_index("each", &[both[0], ("riscv64", &covered)]);
    attested.attest(&whole, &passed());
    // A platform that was attested to fail later than its index passed.
    let failing = attested.put_image("failing");
    let failed = attested.put_index("failed", &[both[0], ("s390x", &failing)]);
    attested.attest(&failed, &passed());
    attested.attest(
        &failing,
        &changed(|result| {
            (result.verdict, result.scanned_at) = (Verdict::Fail, now());
            result.attested_at = now();
        }),
    );
    let (site, server) = (Site::sqlite(), attested.repository.serve());
    let keys = site.write("keys.pem", attested.key.public_key().to_pem().as_bytes());
    let running = site.start(&settings(&keys, &server.host()));
    let ask = |digest: &str| decide(&running, &site, &format!("{}/app@{digest}", server.host()));
    let decision = ask(&whole);
    assert!(is_attested(&decision), "{decision}");
    assert_eq!(decision["platforms"], json!(["linux/amd64", "linux/arm64"]));
    assert_eq!(decision["basis"]["attestation"]["subjects"], json!([whole]));
    let decision = ask(&each);
    assert!(is_attested(&decision), "{decision}");
    assert_eq!(decision["basis"]["attestation"]["subjects"].as_array().unwrap().len(), 2);
    let decision = ask(&bare);
    assert!(!is_attested(&decision) && why_not(&decision).contains("no attestation is attached"), "{decision}");
    let decision = ask(&failed);
    assert!(!is_attested(&decision) && why_not(&decision).contains("does not pass"), "{decision}");
    // The attestation of an index says nothing about a platform that is asked for by itself.
    assert!(!is_attested(&ask(&images[1])) && is_attested(&ask(&images[0])));
}

#[test]
fn a_platform_that_is_called_an_attestation_is_still_one() {
    let mut attested = Attested::new(true);
    let images = ["amd64", "arm64"].map(|name| attested.put_image(name));
    attested.attest(&images[0], &passed());
    let hiding = attested.put_hiding_index("hiding", &images);
    let (site, server) = (Site::sqlite(), attested.repository.serve());
    let keys = site.write("keys.pem", attested.key.public_key().to_pem().as_bytes());
    let running = site.start(&settings(&keys, &server.host()));
    let decision = decide(&running, &site, &format!("{}/app@{hiding}", server.host()));
    assert!(!is_attested(&decision), "{decision}");
}

#[test]
fn a_stored_failure_has_the_last_word() {
    let mut attested = Attested::new(true);
    let leaking = attested.put_image_of("leaking", &[leak()]);
    let clean = attested.put_image("clean");
    let index = attested.put_index("index", &[("amd64", &clean), ("arm64", &leaking)]);
    for digest in [&leaking, &clean, &index] {
        attested.attest(digest, &passed());
    }
    let (site, server) = (Site::sqlite(), attested.repository.serve());
    let keys = site.write("keys.pem", attested.key.public_key().to_pem().as_bytes());
    let image = |digest: &str| format!("{}/app@{digest}", server.host());
    // By other rules, so under another key of the store.
    let rules = site.path("rules");
    std::fs::create_dir(&rules).unwrap();
    let other = format!("rules = ['{}']\n", rules.display());
    std::fs::write(rules.join("own.toml"), OWN_RULE).unwrap();
    let running = site.start(&(other + &scanning_settings(&keys, &server.host(), "")));
    scan(&running.client(&site.token(&["scan", "read"])), &image(&leaking));
    running.stop();
    let running = site.start(&settings(&keys, &server.host()));
    let decision = decide(&running, &site, &image(&leaking));
    assert_eq!((&decision["outcome"], &decision["basis"]["is_outdated"]), (&json!("fail"), &json!(true)), "{decision}");
    let decision = decide(&running, &site, &image(&index));
    assert!(!is_attested(&decision), "{decision}");
    assert!(why_not(&decision).contains(&format!("a stored report of {leaking} fails")), "{decision}");
    assert!(is_attested(&decide(&running, &site, &image(&clean))));
}

#[test]
fn while_the_store_is_stopped_only_what_was_attested_before_is_let_in() {
    let mut attested = Attested::new(true);
    let (before, new) = (attested.repository.named("v1"), attested.put_image("new"));
    [&before, &new].into_iter().for_each(|digest| attested.attest(digest, &passed()));
    let (store, server) = (postgres::Server::start(), attested.repository.serve());
    let site = Site::with(Fresh::at(store.url()));
    let keys = site.write("keys.pem", attested.key.public_key().to_pem().as_bytes());
    let running = site.start(&settings(&keys, &server.host()));
    let client = running.client(&site.token(&["admit"]));
    let decide = |digest: &str| {
        let question = json!({ "images": [format!("{}/app@{digest}", server.host())] });
        client.post("/admit/v1/images", &question).expect(200).json()["decisions"][0].clone()
    };
    assert!(is_attested(&decide(&before)));
    store.stop("immediate");
    // Longer than anything is answered from memory without asking.
    eventually("an answer without the store", || {
        let decision = decide(&before);
        assert!(is_attested(&decision), "{decision}");
        let metrics = Client::new(&running.url("health")).get("/metrics").text();
        metrics.contains("decision_cache_total{found=\"before-outage\"}").then_some(())
    });
    // The store may have a report that fails.
    let unknown = decide(&new);
    assert_eq!((&unknown["outcome"], &unknown["effect"]), (&json!("unknown"), &json!("wait")), "{unknown}");
    store.start_again();
    eventually("an answer with the store", || is_attested(&decide(&new)).then_some(()));
}

/// A rule that finds nothing in the images of these tests.
const OWN_RULE: &str = r#"
[[signature]]
id = "own.made-up"
title = "Made-up token"
severity = "high"
confidence = "high"
pattern = '\bownmadeup_(?<secret>[0-9a-f]{32})\b'
keywords = ["ownmadeup_"]
what = "A token."
risk = "Some."
fix = "Revoke it."
references = ["https://own.example/tokens"]
[[signature.example]]
input = "ownmadeup_3f2a9c0d5b7e418692ad0c6f1e8b4d27"
[[signature.counterexample]]
input = "ownmadeup_x"
why = "too short"
"#;

#[test]
fn an_image_may_be_scanned_besides_and_then_its_report_decides() {
    let mut attested = Attested::new(true);
    let leaking = attested.put_image_of("leaking", &[leak()]);
    attested.attest(&leaking, &passed());
    let (site, server) = (Site::sqlite(), attested.repository.serve());
    let keys = site.write("keys.pem", attested.key.public_key().to_pem().as_bytes());
    let running = site.start(&scanning_settings(&keys, &server.host(), "attestations = 'until-scanned'"));
    let image = format!("{}/app@{leaking}", server.host());
    assert!(is_attested(&decide(&running, &site, &image)));
    let decision = eventually("the scan", || {
        let decision = decide(&running, &site, &image);
        (decision["outcome"] != "pass" && decision["outcome"] != "unknown").then_some(decision)
    });
    assert_eq!((&decision["outcome"], &decision["effect"]), (&json!("fail"), &json!("deny")), "{decision}");
}

#[test]
fn a_registry_that_fails_or_lists_too_much_changes_nothing_but_the_reason() {
    let mut attested = Attested::new(true);
    let huge = attested.put_image("huge");
    attested.attest(&huge, &passed());
    let other = |number: usize| {
        let digest = layersift_model::Digest::of(number.to_string().as_bytes());
        json!({ "mediaType": MANIFEST, "digest": digest, "size": 7, "artifactType": "application/x-made-up" })
    };
    (0..400).for_each(|number| attested.repository.list(&huge, other(number)));
    let failing = attested.put_image("failing");
    attested.attest(&failing, &passed());
    let wrong = attested.put_image("not-a-list");
    attested.attest(&wrong, &passed());
    let (of_failing, of_wrong) = (format!("referrers/{failing}"), format!("referrers/{wrong}"));
    let server = attested.repository.serve_with(move |request, _, answer| match &request.path {
        path if path.contains(&of_failing) => Answer::new(500, "made up"),
        path if path.contains(&of_wrong) => Answer::new(200, "[1, 2]").with("Content-Type", INDEX),
        _ => answer,
    });
    let site = Site::sqlite();
    let keys = site.write("keys.pem", attested.key.public_key().to_pem().as_bytes());
    let running = site.start(&settings(&keys, &server.host()));
    for (tag, why) in [("huge", "more than are read"), ("failing", "500"), ("not-a-list", "a list of referrers")] {
        let image = format!("{}/app:{tag}", server.host());
        let decision = eventually("the answer of the registry", || {
            let decision = decide(&running, &site, &image);
            (!why_not(&decision).contains("in time")).then_some(decision)
        });
        assert_eq!((&decision["outcome"], &decision["effect"]), (&json!("unknown"), &json!("wait")), "{tag}");
        assert!(why_not(&decision).contains(why), "{tag}: {decision}");
    }
    assert_eq!(site.fresh().rows("SELECT id FROM scan_requests").len(), 3);
    // That there is none is kept for some seconds as well.
    eventually("an answer from memory", || {
        let asked = server.requests().len();
        decide(&running, &site, &format!("{}/app@{huge}", server.host()));
        (server.requests().len() == asked).then_some(())
    });
}

#[test]
fn many_who_ask_at_once_are_answered_by_one_reading() {
    let mut attested = Attested::new(true);
    let image = attested.put_image("app");
    attested.attest(&image, &passed());
    let (site, server) = (Site::sqlite(), attested.repository.serve());
    let keys = site.write("keys.pem", attested.key.public_key().to_pem().as_bytes());
    let running = site.start(&settings(&keys, &server.host()));
    let client = running.client(&site.token(&["admit"]));
    let question = json!({ "images": [format!("{}/app@{image}", server.host())] });
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(client.post("/admit/v1/images", &question).expect(200).json()["allowed"], true));
        }
    });
    assert_eq!(server.requests_of("/referrers/").len(), 1);
}

#[test]
fn a_key_can_follow_another_and_one_that_is_taken_out_counts_no_more() {
    let mut attested = Attested::new(true);
    let old = attested.put_image("old");
    attested.attest(&old, &passed());
    let pem_of = |attested: &Attested| attested.key.public_key().to_pem();
    let old_pem = pem_of(&attested);
    attested.key = PrivateKey::generate_ed25519().unwrap();
    let new = attested.put_image("new");
    attested.attest(&new, &passed());
    let (site, new_pem) = (Site::sqlite(), pem_of(&attested));
    let server = attested.repository.serve();
    let keys = site.write("keys.pem", old_pem.as_bytes());
    let running = site.start(&settings(&keys, &server.host()));
    let are_attested = || {
        let images = [&old, &new].map(|digest| format!("{}/app@{digest}", server.host()));
        let decisions = decide_all(&running, &site, &images);
        [is_attested(&decisions[0]), is_attested(&decisions[1])]
    };
    assert_eq!(are_attested(), [true, false]);
    site.write("keys.pem", (old_pem + &new_pem).as_bytes());
    eventually("both keys", || (are_attested() == [true, true]).then_some(()));
    site.write("keys.pem", new_pem.as_bytes());
    eventually("the new key alone", || (are_attested() == [false, true]).then_some(()));
    site.write("keys.pem", b"damaged");
    eventually("the message", || {
        let is_told =
            |message: &serde_json::Value| message["message"].as_str().is_some_and(|text| text.contains("stay in use"));
        running.log().iter().any(is_told).then_some(())
    });
    assert_eq!(are_attested(), [false, true], "a file that is being replaced changes nothing");
}

#[test]
fn rules_say_where_attestations_count_and_every_envelope_has_the_same_answer() {
    let mut attested = Attested::new(true);
    let image = attested.put_image("app");
    attested.attest(&image, &changed(|result| result.findings.medium = 1));
    let (site, server) = (Site::sqlite(), attested.repository.serve());
    let keys = site.write("keys.pem", attested.key.public_key().to_pem().as_bytes());
    let (path, log) = ("made-up-and-unguessable-0123456789", site.path("audit"));
    let secret = site.write("path", path.as_bytes());
    let rules = "[[admission.rule]]\nnamespaces = ['shop']\nattestations = 'accept'\n\
                 [[admission.rule]]\nnamespaces = ['strict']\nattestations = 'accept'\nfail-on = 'medium'\n";
    let settings = format!(
        "[listen]\napi = '127.0.0.1:0'\nadmission = '127.0.0.1:0'\nhealth = '127.0.0.1:0'\nmetrics = true\n\
         [clients.admission]\nsecret-path = '{}'\n[audit]\ndirectory = '{}'\n[scans]\nat-once = 0\npulls = 0\n{}",
        secret.display(),
        log.display(),
        scanning_settings(&keys, &server.host(), rules)
    );
    let running = site.start(&settings);
    let reference = format!("{}/app@{image}", server.host());
    let cluster = Client::new(&running.url("admission"));
    let reviewed = |namespace: &str| {
        let body = review(&reference, namespace);
        cluster.post(&format!("/{path}/admit/v1?timeout=2s"), &body).expect(200).json()["response"].clone()
    };
    let response = reviewed("shop");
    assert_eq!(response["allowed"], true, "{response}");
    let annotation = response["auditAnnotations"]["image-0"].as_str().unwrap();
    let fingerprint = attested.key.public_key().fingerprint();
    assert!(annotation.contains(&format!("attested by key {fingerprint}")), "{annotation}");
    let body = json!({ "apiVersion": "externaldata.gatekeeper.sh/v1beta1", "kind": "ProviderRequest",
        "request": { "keys": [format!("[shop]{reference}"), format!("[other]{reference}")] } });
    let answer = cluster.post(&format!("/{path}/gatekeeper/v1"), &body).expect(200).json();
    let items = answer["response"]["items"].as_array().unwrap();
    assert!(items.len() == 1 && items[0]["key"].as_str().unwrap().starts_with("[shop]"), "{answer}");
    // Where no rule takes them there is no word of them; where something in the image fails there is.
    let message = |namespace: &str| reviewed(namespace)["status"]["message"].as_str().unwrap().to_string();
    let (elsewhere, strict) = (message("other"), message("strict"));
    assert!(!elsewhere.contains("attestation") && strict.contains("severity medium or above, which fail here"));
    let entries: Vec<_> = layersift_audit::last_entries(&log, usize::MAX).unwrap();
    let entry = entries.iter().map(|(_, entry)| entry).find(|entry| entry.verdict.effect == "allow").unwrap();
    assert_eq!((&entry.what["attestation-key"], &entry.what["attestation-type"][..]), (&fingerprint, PASSED));
    assert_eq!(entry.ruleset, passed().scanner.ruleset);
    let metrics = Client::new(&running.url("health")).get("/metrics").expect(200).text();
    assert!(metrics.contains("layersift_attestations_read_total{result=\"accepted\"} 1"), "{metrics}");
}

#[test]
fn settings_that_would_let_anything_in_are_refused() {
    let site = Site::sqlite();
    let key = PrivateKey::generate_p256().unwrap().public_key().to_pem();
    let (keys, damaged) = (site.write("keys.pem", key.as_bytes()), site.write("damaged.pem", b"damaged"));
    let check = |settings: &str| {
        let run = finish(site.command(settings).arg("--check"), None);
        (run.code, run.stderr)
    };
    let with_keys = |more: &str| format!("[attestations]\nkeys = ['{}']\n{more}", keys.display());
    assert_eq!(check(&with_keys("[admission]\nattestations = 'accept'")).0, Some(0));
    for (settings, expected) in [
        ("[admission]\nattestations = 'accept'".into(), "needs `attestations.keys`"),
        ("[[admission.rule]]\nattestations = 'until-scanned'".into(), "needs `attestations.keys`"),
        ("[admission]\nattestations = 'always'".into(), "unknown variant, expected"),
        (with_keys(&format!("predicate-types = ['{NOT_PASSED}']")), "cannot be checked"),
        (with_keys("predicate-types = []"), "no attestation counts"),
        (with_keys("policies = ['mine']"), "neither `own` nor a digest"),
        (format!("[attestations]\nkeys = ['{}']", damaged.display()), "damaged.pem: not a key in PEM"),
    ] {
        let (code, text) = check(&settings);
        assert!(code != Some(0) && text.contains(expected), "{settings}: {text}");
    }
}
