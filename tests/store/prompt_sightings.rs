//! What a service saw in prompts, on SQLite and on PostgreSQL: kept once, traced with images, bounded, and forgotten.

use crate::support::Fresh;
use crate::support::records::*;
use layersift_model::{PromptDirection, TraceReport};
use layersift_store::{PromptSighting, Query, Store};

crate::on_both!(
    the_first_and_the_last_time_are_kept,
    a_trace_of_an_image_leads_to_the_first_sighting,
    what_is_full_takes_known_secrets_only,
    what_was_not_seen_for_long_goes,
);

fn sighting(name: &str, direction: PromptDirection, client: &str, at: i64) -> PromptSighting {
    PromptSighting {
        fingerprint: fingerprint(name),
        direction,
        client: client.into(),
        model: "a-model".into(),
        rule: "cipher.byte-array-key".into(),
        first_seen: at,
        last_seen: at,
    }
}

fn by_secret(store: &Store, name: &str) -> TraceReport {
    store.trace(&Query::Secret(fingerprint(name)), None, 10).unwrap()
}

fn the_first_and_the_last_time_are_kept(fresh: &Fresh) {
    let store = fresh.open();
    let sightings = store.prompt_sightings();
    for at in [50, 70, 60, 40] {
        assert_eq!(sightings.note(&[sighting("one", PromptDirection::Answer, "c", at)], 10).unwrap(), 0);
    }
    sightings.note(&[sighting("one", PromptDirection::Prompt, "", 45)], 10).unwrap();
    let trace = by_secret(&store, "one");
    assert!(trace.total == 0 && !trace.is_empty());
    let times: Vec<_> = trace.prompts.iter().map(|one| (one.direction, one.first_seen, one.last_seen)).collect();
    assert_eq!(times, [(PromptDirection::Answer, 40, 70), (PromptDirection::Prompt, 45, 45)]);
    assert_eq!((&trace.prompts[0].client, &trace.prompts[1].client), (&Some("c".into()), &None));
    assert!(by_secret(&store, "two").is_empty());
}

fn a_trace_of_an_image_leads_to_the_first_sighting(fresh: &Fresh) {
    let store = fresh.open();
    let leaks = [secret("top", 1, "app/seal.node", "key"), secret("top", 1, "app/seal.node", "other")];
    put(&store, "image", &["base", "top"], &leaks);
    let sightings = [("key", "late", 90), ("key", "early", 30), ("unrelated", "c", 10)];
    let sightings = sightings.map(|(name, client, at)| sighting(name, PromptDirection::Answer, client, at));
    store.prompt_sightings().note(&sightings, 10).unwrap();
    let trace = store.trace(&Query::Path("app/seal.node".into()), None, 10).unwrap();
    assert_eq!(trace.prompts.len(), 2);
    let findings = trace.images[0].places.iter().map(|place| place.finding.as_ref().unwrap());
    let mut first = Vec::new();
    for finding in findings {
        let is_key = finding.fingerprint == Some(fingerprint("key"));
        assert_eq!(finding.first_prompt.is_some(), is_key);
        first.extend(finding.first_prompt.as_ref().map(|prompt| (prompt.client.clone().unwrap(), prompt.first_seen)));
    }
    assert_eq!(first, [("early".to_string(), 30)]);
}

fn what_is_full_takes_known_secrets_only(fresh: &Fresh) {
    let store = fresh.open();
    let some = |names: &[&str], at| -> Vec<PromptSighting> {
        names.iter().map(|name| sighting(name, PromptDirection::Prompt, "c", at)).collect()
    };
    assert_eq!(store.prompt_sightings().note(&some(&["a", "b"], 1), 3).unwrap(), 0);
    assert_eq!(store.prompt_sightings().note(&some(&["a", "c", "d", "e"], 2), 3).unwrap(), 2);
    assert_eq!(fresh.count("prompt_sightings"), 3);
    assert_eq!(by_secret(&store, "a").prompts[0].last_seen, 2);
    let long = PromptSighting { client: "x".repeat(1_000), ..sighting("f", PromptDirection::Prompt, "", 1) };
    assert!(store.prompt_sightings().note(&[long], 100).is_err());
}

fn what_was_not_seen_for_long_goes(fresh: &Fresh) {
    let store = fresh.open();
    let many: Vec<_> = (0..600).map(|at| sighting(&format!("{at}"), PromptDirection::Prompt, "c", at)).collect();
    store.prompt_sightings().note(&many, 1_000).unwrap();
    // Two clients share a secret.
    store.prompt_sightings().note(&[sighting("3", PromptDirection::Prompt, "d", 599)], 1_000).unwrap();
    assert_eq!(store.prompt_sightings().forget(599).unwrap(), 599);
    assert_eq!(fresh.count("prompt_sightings"), 2);
}
