//! The store through its public face, on SQLite and on PostgreSQL: reports, images, tags, findings, runs.

use crate::support::Fresh;
use crate::support::records::*;
use layersift_model::{
    Confidence, FileLocation, Finding, FingerprintKey, ImageReport, LayerRef, LayerSummary, Location, ReportedSecret,
    RuleInfo, Secret, Severity, State, Tool,
};
use layersift_store::{Assembled, Held, RunSums, Scope, Status, StoreError};

crate::on_both!(
    reports_are_kept_by_layer_and_ruleset,
    an_outdated_ruleset_is_forgotten,
    images_are_known_by_their_manifest,
    findings_come_back_as_they_were_put,
    a_report_is_stored_without_its_secrets,
    a_run_tells_what_is_new,
    runs_are_listed_newest_first,
);

fn reports_are_kept_by_layer_and_ruleset(fresh: &Fresh) {
    let store = fresh.open();
    let first = report("a", RULES, 10);
    store.put_report(&first).unwrap();
    store.put_report(&report("a", RULES, 20)).unwrap();
    assert_eq!(store.get_report(&digest("a"), RULES).unwrap(), Some(first), "the first report stays");
    assert_eq!(store.get_report(&digest("a"), "sha256:rules-2").unwrap(), None);
    assert_eq!(store.get_report(&digest("b"), RULES).unwrap(), None);
    let asked: Vec<_> = (0..3000).map(|n| digest(&n.to_string())).chain([digest("a")]).collect();
    assert_eq!(store.has_reports(&asked, RULES).unwrap(), [digest("a")].into());
    assert!(store.has_reports(&[], RULES).unwrap().is_empty());
    drop(store);
    assert!(fresh.open().get_report(&digest("a"), RULES).unwrap().is_some());
}

fn an_outdated_ruleset_is_forgotten(fresh: &Fresh) {
    let store = fresh.open();
    for (layer, ruleset, at) in [("a", RULES, 30), ("c", RULES, 20), ("c", "sha256:rules-2", 40)] {
        store.put_report(&report(layer, ruleset, at)).unwrap();
    }
    assert_eq!(
        store.last_read(&[digest("a"), digest("b"), digest("c")]).unwrap(),
        [(digest("a"), 30), (digest("c"), 40)].into()
    );
    assert_eq!(store.forget_ruleset("sha256:rules-2").unwrap(), 1);
    assert!(store.has_reports(&[digest("c")], "sha256:rules-2").unwrap().is_empty());
    assert_eq!(store.last_read(&[digest("c")]).unwrap(), [(digest("c"), 20)].into());
    store.forget_report(&digest("c"), RULES).unwrap();
    assert_eq!(store.has_reports(&[digest("a"), digest("c")], RULES).unwrap(), [digest("a")].into());
}

fn images_are_known_by_their_manifest(fresh: &Fresh) {
    let store = fresh.open();
    let mut early = image("app", &["base", "a"]);
    early.layers.iter_mut().for_each(|layer| layer.created_by = None);
    let id = store.put_image(&early, 10).unwrap();
    assert_eq!(store.image_layers(id).unwrap(), early.layers);
    let ids =
        store.put_images(&[image("app", &["base", "a"]), image("b", &["base"]), image("b", &["base"])], 20).unwrap();
    assert_eq!((ids[0], ids[1]), (id, ids[2]));
    assert_ne!(ids[1], id);
    assert_eq!(store.image_layers(id).unwrap(), image("app", &["base", "a"]).layers, "it got its instructions");
    let line = store.image(&digest("app")).unwrap().unwrap();
    assert_eq!((line.id, line.layers_count, line.first_seen), (id, 2, 10));
    assert_eq!(store.image(&digest("c")).unwrap(), None);
}

fn findings_come_back_as_they_were_put(fresh: &Fresh) {
    let store = fresh.open();
    let mut odd = secret("a", 1, "etc/\0odd/\u{202e}path", "two");
    odd.inside = vec!["lib.jar".into(), "a\0b".into()];
    odd.package = package("left-pad", "1.0.0");
    let mut gone = secret("base", 0, "root/.env", "one");
    (gone.state, gone.ended_by) = (State::Deleted, Some(1));
    let put = [gone, odd.clone(), in_config("Env[1]", "three")];
    let id = store.put_assembled(&assembled(image("app", &["base", "a"]), &put), None, 10).unwrap();
    let held = store.findings(id, RULES).unwrap();
    assert_eq!(held.len(), 3, "{held:?}");
    let by_id = |id: &str| held.iter().find(|held| held.finding.as_ref().unwrap().finding_id == id).unwrap();
    let Held { finding, layer, state, ended_by } = by_id(&put[0].finding_id);
    assert_eq!((*state, *ended_by), (Some(State::Deleted), Some(1)));
    assert_eq!((layer.as_ref().unwrap().position, &layer.as_ref().unwrap().digest), (0, &digest("base")));
    assert_eq!(finding.as_ref().unwrap().rule, put[0].rule);
    let Held { finding, layer, state, ended_by } = by_id(&odd.finding_id);
    let finding = finding.as_ref().unwrap();
    assert_eq!((*state, *ended_by, layer.as_ref().unwrap().position), (Some(State::Present), None, 1));
    assert_eq!(layer.as_ref().unwrap().created_by.as_deref(), Some("RUN make a"));
    assert_eq!(finding.path.as_deref(), Some("etc/\u{2400}odd/\u{202e}path"), "PostgreSQL stores no NUL");
    assert_eq!((&finding.inside, &finding.package), (&odd.inside, &odd.package));
    assert_eq!((finding.masked.as_deref(), finding.length), (Some("tok_****yz"), Some(24)));
    assert_eq!(finding.fingerprint.as_deref(), Some(fingerprint("two").as_str()));
    let config = by_id(&put[2].finding_id);
    assert_eq!(config.layer, None);
    assert_eq!(config.finding.as_ref().unwrap().config.as_deref(), Some("Env[1]"));
}

/// The report of an image with one layer, and a secret in it that the image deletes.
fn image_report(value: &str) -> ImageReport {
    let layer = |index: usize, name: &str| LayerSummary {
        index,
        digest: Some(digest(name)),
        diff_id: Some(digest(&format!("diff {name}"))),
        media_type: None,
        created_by: Some("RUN deploy --token ****".into()),
        entries: 1,
        files: 1,
        bytes: 10,
        stored_bytes: 10,
        is_read: name != "unread",
        whiteouts: Vec::new(),
    };
    let reference = |index, name| LayerRef { index, digest: Some(digest(name)), diff_id: None, created_by: None };
    let rule = RuleInfo {
        id: "test.token".into(),
        title: "A token".into(),
        severity: Severity::Critical,
        confidence: Confidence::High,
        what: String::new(),
        risk: String::new(),
        fix: String::new(),
        references: Vec::new(),
    };
    let secret = Secret::new(value.as_bytes());
    let finding = Finding {
        id: "0123456789abcdef".into(),
        rule: rule.into(),
        location: Location::File(Box::new(FileLocation {
            path: "root/.env".into(),
            inside: vec!["x.jar".into()],
            views: Vec::new(),
            offset: Some(0),
            line: None,
            column: None,
            binary: None,
            layer: reference(0, "base"),
            state: State::Deleted,
            ended_by: Some(reference(1, "a")),
            package: None,
            as_shipped: false,
        })),
        severity: Severity::Critical,
        secret: Some(ReportedSecret {
            masked: secret.masked(),
            fingerprint: secret.fingerprint(&FingerprintKey::default()),
            length: secret.len(),
            value: Some(secret),
        }),
        allowed: None,
        baseline: false,
        note: None,
        related: Vec::new(),
    };
    ImageReport {
        manifest_digest: Some(digest("app")),
        tool: Tool { ruleset: RULES.into(), ..Tool::default() },
        layers: vec![layer(0, "base"), layer(1, "a"), layer(2, "unread")],
        findings: vec![finding],
        ..ImageReport::default()
    }
}

fn a_report_is_stored_without_its_secrets(fresh: &Fresh) {
    let store = fresh.open();
    let value = "tok_0123456789abcdefghij";
    let report = image_report(value);
    let record = Assembled::of(&report).unwrap();
    assert!(!format!("{record:?}").contains("0123456789abcdefghij"));
    assert_eq!(record.unread, [2]);
    let id = store.put_assembled(&record, None, 10).unwrap();
    let held = store.findings(id, RULES).unwrap();
    let finding = held[0].finding.as_ref().unwrap();
    assert_eq!((finding.masked.as_deref(), finding.length), (Some("tok_****ij"), Some(24)));
    assert_eq!(finding.fingerprint.as_deref(), report.findings[0].fingerprint());
    assert_eq!((finding.path.as_deref(), finding.inside.as_slice()), (Some("root/.env"), &["x.jar".to_string()][..]));
    assert_eq!((held[0].state, held[0].ended_by), (Some(State::Deleted), Some(1)));
    let summary = store.summary(&digest("app"), RULES).unwrap().unwrap();
    assert_eq!((summary.critical, summary.unread, summary.assembled_at), (1, 1, 10));
    drop(store);
    if let Ok(bytes) = std::fs::read(&fresh.text) {
        let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(has(b"tok_****ij") && !has(b"0123456789abcdefghij"));
    }
    let nameless = ImageReport { manifest_digest: None, target: "app.tar".into(), ..report };
    let error = Assembled::of(&nameless).unwrap_err().to_string();
    assert_eq!(error, "cannot store the report of app.tar: it names no manifest digest");
}

fn a_run_tells_what_is_new(fresh: &Fresh) {
    let store = fresh.open();
    let news = |run, scope| -> Vec<_> {
        store.news(run, scope, 10).unwrap().into_iter().map(|news| (news.thing, news.image)).collect()
    };
    let known = |name: &str, image: &str| (fingerprint(name), digest(image));
    let first = store.start_run("registry.test", RULES, 10).unwrap();
    let old = assembled(image("old", &["base"]), &[secret("base", 0, "f", "one")]);
    let id = store.put_assembled(&old, Some(first), 11).unwrap();
    assert_eq!(news(first, Scope::Store), [known("one", "old")]);
    // The next night: the same image, and one more that has the same secret elsewhere, and another one.
    let second = store.start_run("registry.test", RULES, 20).unwrap();
    store.see_images(second, &[id]).unwrap();
    let leaks = [secret("base", 0, "f", "one"), secret("a", 1, "g", "one"), secret("a", 1, "g", "two")];
    store.put_assembled(&assembled(image("new", &["base", "a"]), &leaks), Some(second), 21).unwrap();
    for scope in [Scope::Target, Scope::Store] {
        assert_eq!(news(second, scope), [known("two", "new")]);
    }
    let said = store.news(second, Scope::Store, 10).unwrap();
    assert_eq!((said[0].masked.as_deref(), said[0].path.as_deref()), (Some("tok_****yz"), Some("g")));
    // Another registry has the old image: new there, and not new to the store.
    let third = store.start_run("other.test", RULES, 30).unwrap();
    store.see_images(third, &[id, id]).unwrap();
    assert_eq!(news(third, Scope::Target), [known("one", "old")]);
    assert!(news(third, Scope::Store).is_empty());
    assert_eq!(news(first, Scope::Store), [known("one", "old")], "the first run stays the first");
}

fn runs_are_listed_newest_first(fresh: &Fresh) {
    let store = fresh.open();
    let ids: Vec<_> = ["a", "b", "a"].map(|target| store.start_run(target, RULES, 10).unwrap()).into();
    let sums = RunSums { images: 1, layers_read: 2, layers_known: 3, bytes_pulled: 4, bytes_saved: 5 };
    store.update_run(ids[2], &sums, Status::Done, 20).unwrap();
    store.update_run(ids[1], &sums, Status::Running, 20).unwrap();
    let runs = store.runs(None, 2).unwrap();
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [ids[2], ids[1]]);
    assert_eq!((runs[0].sums, runs[0].status, runs[0].ended_at), (sums, Status::Done, Some(20)));
    assert_eq!((runs[1].status, runs[1].ended_at, runs[1].ruleset.as_str()), (Status::Running, None, RULES));
    assert_eq!(store.runs(Some("a"), 9).unwrap().iter().map(|run| run.id).collect::<Vec<_>>(), [ids[2], ids[0]]);
    let other = fresh.open();
    let unknown = store.start_run("c", RULES, 30).unwrap();
    assert_eq!(other.runs(Some("c"), 9).unwrap()[0].id, unknown);
    assert!(matches!(store.start_run(&"t".repeat(513), RULES, 1), Err(StoreError::Invalid { .. })));
}
