//! Traces: where else is this secret, finding, layer, path or package, on SQLite and on PostgreSQL.

use crate::support::Fresh;
use crate::support::records::*;
use layersift_model::{Digest, Finding, LayerKey, Repository, State, TraceReport, TracedImage, TracedPlace, TracedTag};
use layersift_store::{CoveredTags, Query, Store, TagGroup, TagRepositories, TagSighting};

crate::on_both!(
    a_secret_is_found_in_every_image_of_its_layer,
    an_image_may_differ_from_its_layer,
    an_image_that_was_not_read_says_nothing_of_its_layers,
    a_finding_in_the_configuration_is_traced,
    a_path_of_any_length_is_traced,
    a_package_is_traced_by_name_and_version,
    a_layer_is_traced_with_its_base_first,
    a_layer_is_from_the_smallest_base_that_has_it,
    an_index_and_moved_tags_are_named,
    a_tag_that_is_not_seen_is_not_gone,
    answers_are_bounded_and_say_how_many_there_are,
    a_key_is_traced_by_itself,
);

fn trace(store: &Store, query: Query) -> TraceReport {
    let trace = store.trace(&query, None, 100).unwrap();
    assert!(trace.is_exact && trace.total == trace.images.len() as u64 && trace.places_are_complete, "{trace:?}");
    trace
}

fn by_secret(store: &Store, name: &str) -> TraceReport {
    trace(store, Query::Secret(fingerprint(name)))
}

fn names(trace: &TraceReport) -> Vec<Digest> {
    trace.images.iter().map(|image| image.manifest_digest.clone()).collect()
}

/// The places in the image called `name`: each with its state and the layer that ended it.
fn states(trace: &TraceReport, name: &str) -> Vec<(Option<State>, Option<u64>)> {
    let image = trace.images.iter().find(|image| image.manifest_digest == digest(name)).unwrap();
    image.places.iter().map(|place| (place.state, place.ended_by)).collect()
}

const PRESENT: (Option<State>, Option<u64>) = (Some(State::Present), None);

fn a_secret_is_found_in_every_image_of_its_layer(fresh: &Fresh) {
    let store = fresh.open();
    let leak = secret("base", 0, "root/.env", "one");
    put(&store, "first", &["base", "a", "b"], std::slice::from_ref(&leak));
    put(&store, "second", &["base", "a"], std::slice::from_ref(&leak));
    put(&store, "other", &["else"], &[secret("else", 0, "root/.env", "two")]);
    // Known, and not assembled yet.
    store.images().put(&image("third", &["base", "c"]), 30).unwrap();
    let found = by_secret(&store, "one");
    assert_eq!(names(&found), [digest("second"), digest("third"), digest("first")]);
    assert_eq!(states(&found, "first"), [PRESENT]);
    assert_eq!(states(&found, "third"), [(None, None)]);
    let TracedPlace { finding, layer, .. } = &found.images[0].places[0];
    let (finding, layer) = (finding.as_ref().unwrap(), layer.as_ref().unwrap());
    assert_eq!((finding.path.as_deref(), finding.masked.as_deref()), (Some("root/.env"), Some("tok_****yz")));
    assert_eq!((layer.position, layer.created_by.as_deref()), (0, Some("RUN make base")));
    assert_eq!(found.images[1].first_seen, 30);
    assert_eq!(found.images[0].platform.as_deref(), Some("linux/amd64"));
    assert_eq!(names(&trace(&store, Query::Finding(leak.id))).len(), 3);
    assert_eq!(by_secret(&store, "nobody's").total, 0);
}

fn an_image_may_differ_from_its_layer(fresh: &Fresh) {
    let store = fresh.open();
    let leak = secret("base", 0, "root/.env", "one");
    let deleted = ended(&leak, State::Deleted, 1);
    // The first image with the layer is one that deletes the file: that is not the layer's doing.
    put(&store, "deletes", &["base", "a"], std::slice::from_ref(&deleted));
    put(&store, "keeps", &["base", "b"], std::slice::from_ref(&leak));
    let mut as_shipped = leak.clone();
    as_shipped.severity = layersift_model::Severity::Low;
    put(&store, "ships", &["base", "c"], std::slice::from_ref(&as_shipped));
    put(&store, "lacks", &["base", "d"], &[]);
    put(&store, "more", &["base", "e"], &[leak.clone(), secret("base", 0, "link", "two")]);
    let found = by_secret(&store, "one");
    assert_eq!(found.total, 4);
    assert_eq!(states(&found, "deletes"), [(Some(State::Deleted), Some(1))]);
    assert_eq!(states(&found, "keeps"), [PRESENT]);
    let shipped = found.images.iter().find(|image| image.manifest_digest == digest("ships")).unwrap();
    let severity = shipped.places[0].finding.as_ref().unwrap().rule.severity;
    assert_eq!(severity, layersift_model::Severity::Low);
    assert!(!names(&found).contains(&digest("lacks")));
    assert_eq!(names(&by_secret(&store, "two")), [digest("more")]);
    // Assembled again: the last word counts, and nothing is there twice.
    put(&store, "deletes", &["base", "a"], std::slice::from_ref(&leak));
    put(&store, "lacks", &["base", "d"], std::slice::from_ref(&deleted));
    put(&store, "more", &["base", "e"], std::slice::from_ref(&leak));
    let found = by_secret(&store, "one");
    assert_eq!(found.total, 5);
    assert_eq!(states(&found, "deletes"), [PRESENT]);
    assert_eq!(states(&found, "lacks"), [(Some(State::Deleted), Some(1))]);
    assert_eq!(by_secret(&store, "two").total, 0);
    let id = store.images().find(&digest("lacks")).unwrap().unwrap().id;
    assert_eq!(store.images().findings(id, &key()).unwrap().items.len(), 1);
    // A layer that overwrites its own file does so in every image.
    let own = ended(&secret("x", 0, "f", "three"), State::Overwritten, 0);
    put(&store, "x", &["x"], std::slice::from_ref(&own));
    let id = put(&store, "y", &["x", "y"], &[own]);
    assert_eq!(states(&by_secret(&store, "three"), "y"), [(Some(State::Overwritten), Some(0))]);
    assert_eq!(store.images().findings(id, &key()).unwrap().items.len(), 1);
}

fn an_image_that_was_not_read_says_nothing_of_its_layers(fresh: &Fresh) {
    let store = fresh.open();
    let gap = unread(image_report("gap", &["base"], &[]), 0);
    store.images().put_report(&gap, &key(), None, 10).unwrap();
    put(&store, "whole", &["base"], &[secret("base", 0, "f", "one")]);
    put(&store, "next", &["base", "a"], &[secret("base", 0, "f", "one")]);
    assert_eq!(by_secret(&store, "one").total, 3, "what the layer has is in all its images");
}

fn a_finding_in_the_configuration_is_traced(fresh: &Fresh) {
    let store = fresh.open();
    let leak = in_config("Env[1]", "one");
    put(&store, "a", &["base"], std::slice::from_ref(&leak));
    put(&store, "b", &["base"], std::slice::from_ref(&leak));
    put(&store, "c", &["base"], &[]);
    let found = by_secret(&store, "one");
    assert_eq!(names(&found), [digest("a"), digest("b")]);
    let place = &found.images[0].places[0];
    assert_eq!((&place.layer, &place.base, place.state), (&None, &None, Some(State::Present)));
    assert_eq!(place.finding.as_ref().unwrap().config.as_deref(), Some("Env[1]"));
}

fn a_path_of_any_length_is_traced(fresh: &Fresh) {
    let store = fresh.open();
    let long = "d/".repeat(20_000) + "f";
    let findings = [secret("base", 0, &long, "one"), secret("base", 0, "app/.env", "two")];
    put(&store, "a", &["base"], &findings);
    assert_eq!(trace(&store, Query::Path(long)).total, 1);
    let found = trace(&store, Query::Path("/app/.env".into()));
    assert_eq!((found.total, found.images[0].places.len()), (1, 1));
    assert_eq!(trace(&store, Query::Path("app/.en".into())).total, 0);
}

fn a_package_is_traced_by_name_and_version(fresh: &Fresh) {
    let store = fresh.open();
    let leak = |version: &str| in_package(&secret("base", 0, "f", "one"), "left-pad", version);
    put(&store, "a", &["base"], &[leak("1")]);
    // In another image, the same file belongs to a newer version, or to nobody.
    put(&store, "b", &["base", "b"], &[leak("2")]);
    put(&store, "c", &["base", "c"], &[secret("base", 0, "f", "one")]);
    let by = |ecosystem: Option<&str>, version: Option<&str>| {
        let [ecosystem, version] = [ecosystem, version].map(|text| text.map(String::from));
        names(&trace(&store, Query::Package { ecosystem, name: "left-pad".into(), version }))
    };
    assert_eq!(by(None, None), [digest("a"), digest("b")]);
    assert_eq!(by(Some("npm"), Some("1")), [digest("a")]);
    assert_eq!(by(None, Some("2")), [digest("b")]);
    assert!(by(Some("deb"), None).is_empty());
    assert_eq!(by_secret(&store, "one").total, 3);
}

fn a_layer_is_traced_with_its_base_first(fresh: &Fresh) {
    let store = fresh.open();
    let images = [image("app", &["base", "a", "b"]), image("base", &["base"]), image("twice", &["x", "base", "base"])];
    for image in &images {
        store.images().put(image, 10).unwrap();
    }
    let found = trace(&store, Query::Layer(digest("base")));
    assert_eq!(names(&found), [digest("base"), digest("app"), digest("twice")]);
    let positions = |image: &TracedImage| -> Vec<_> {
        image.places.iter().map(|place| place.layer.as_ref().unwrap().position).collect()
    };
    assert_eq!(found.images.iter().map(positions).collect::<Vec<_>>(), [vec![0], vec![0], vec![1, 2]]);
    assert_eq!(names(&trace(&store, Query::Layer(digest("diff base")))), names(&found), "the diff_id will do as well");
    assert_eq!(trace(&store, Query::Layer(digest("nobody's"))).total, 0);
}

fn a_layer_is_from_the_smallest_base_that_has_it(fresh: &Fresh) {
    let store = fresh.open();
    store.images().put(&image("app", &["os", "runtime", "own"]), 10).unwrap();
    store.images().put(&image("app again", &["os", "runtime", "own"]), 10).unwrap();
    let base = |layer: &str| {
        let found = trace(&store, Query::Layer(digest(layer)));
        let image = found.images.iter().find(|image| image.manifest_digest == digest("app")).unwrap();
        image.places[0].base.clone().map(|base| (base.manifest_digest, base.layers_count))
    };
    assert_eq!(base("os"), None, "an image of the same layers is no base");
    store.images().put(&image("runtime", &["os", "runtime"]), 20).unwrap();
    assert_eq!(base("os"), Some((digest("runtime"), 2)));
    store.images().put(&image("os", &["os"]), 20).unwrap();
    store.images().put(&image("stranger", &["runtime"]), 20).unwrap();
    assert_eq!(base("os"), Some((digest("os"), 1)));
    assert_eq!(base("runtime"), Some((digest("runtime"), 2)));
    assert_eq!(base("own"), None);
}

fn an_index_and_moved_tags_are_named(fresh: &Fresh) {
    let store = fresh.open();
    let [amd, arm, next] = ["amd", "arm", "next"].map(|name| store.images().put(&image(name, &["base"]), 10).unwrap());
    let tag = |name: &str, index: &str, image| TagSighting {
        repository: repository("app"),
        tag: Some(name.into()),
        digest: digest(index),
        image,
    };
    let untagged = TagSighting { tag: None, ..tag("", "arm", arm) };
    let first = [tag("latest", "index", amd), tag("latest", "index", arm), tag("v1", "index", amd), untagged];
    store.tags().see(&first, 10).unwrap();
    store.tags().see(&[first[0].clone(), first[0].clone()], 5).unwrap();
    // What is seen once a run has begun was not deleted before, whatever the clock says.
    let run = store.runs().start("the registry", &key(), 1_000).unwrap();
    store.tags().see(&[tag("latest", "next", next), tag("v1", "index", amd)], 20).unwrap();
    let gone = |project: &str, unseen: &[String]| {
        let repositories = TagRepositories::AllBut(unseen);
        let group = TagGroup { registry: "registry.test", project, repositories };
        store.tags().mark_gone(&group, run, "robot$sweep", 21).unwrap()
    };
    assert_eq!((gone("other", &[]), gone("team", &["app".into()])), (0, 0));
    assert_eq!(gone("team", &[]), 3);
    let found = trace(&store, Query::Layer(digest("base")));
    let tags = |at: usize| -> Vec<_> {
        let times = |tag: &TracedTag| (tag.tag.clone(), tag.first_seen, tag.last_seen, tag.gone_at);
        found.images[at].tags.iter().map(times).collect()
    };
    let (latest, v1) = (Some("latest".to_string()), Some("v1".to_string()));
    assert_eq!(tags(0), [(v1, 10, 20, None), (latest.clone(), 10, 10, Some(21))]);
    assert_eq!(tags(1), [(latest.clone(), 10, 10, Some(21)), (None, 10, 10, Some(21))]);
    assert_eq!(tags(2), [(latest, 20, 20, None)]);
    assert_eq!(found.images[1].tags[0].unseen_by.as_deref(), Some("robot$sweep"));
    let tag = &found.images[0].tags[0];
    assert_eq!((&tag.repository, &tag.digest), (&repository("app"), &digest("index")));
    assert_eq!(found.images[0].tags_total, 2);
    let long = Repository { registry: "r".repeat(3000), ..repository("app") };
    let refused = store.tags().see(&[TagSighting { repository: long, ..first[0].clone() }], 10).unwrap_err();
    assert_eq!(refused.to_string(), "cannot store the registry: it has 3000 bytes, more than 512");
}

fn a_tag_that_is_not_seen_is_not_gone(fresh: &Fresh) {
    let store = fresh.open();
    let image = put(&store, "a", &["base"], &[]);
    let tag = |name: &str, digest: Digest| TagSighting {
        repository: repository("app"),
        tag: Some(name.into()),
        digest,
        image,
    };
    store.tags().see(&[tag("v1", digest("a")), tag("v2", digest("a")), tag("v3", digest("a"))], 10).unwrap();
    let run = store.runs().start("the registry", &key(), 20).unwrap();
    // One is listed by its tag, one with its digest, and one with another digest.
    let tags = store.tags();
    let mark = |projects: &[String], user: &str, now: i64| {
        tags.mark_unseen("registry.test", CoveredTags::OfProjects(projects), run, user, now).unwrap()
    };
    tags.still_listed(&repository("app"), &["v1".into()], None, 21).unwrap();
    tags.still_listed(&repository("app"), &["v2".into()], Some(&digest("a")), 21).unwrap();
    tags.still_listed(&repository("app"), &["v3".into()], Some(&digest("b")), 21).unwrap();
    assert_eq!(mark(&["other".into()], "alice", 22), 0);
    assert_eq!(mark(&["other".into(), "team".into()], "alice", 22), 1);
    assert_eq!(mark(&[], "bob", 23), 0, "it is known already");
    let listed = TagGroup { registry: "registry.test", project: "team", repositories: TagRepositories::Only(&[]) };
    assert_eq!(tags.mark_gone(&listed, run, "bob", 23).unwrap(), 0, "what was not listed is not gone");
    let unseen = || {
        let found = trace(&store, Query::Layer(digest("base")));
        let absent = |tag: &TracedTag| (tag.tag.clone().unwrap(), tag.unseen_since, tag.unseen_by.clone(), tag.gone_at);
        let mut tags: Vec<_> = found.images[0].tags.iter().map(absent).collect();
        tags.sort();
        tags.pop().unwrap()
    };
    assert_eq!(unseen(), ("v3".into(), Some(22), Some("alice".into()), None));
    tags.see(&[tag("v3", digest("a"))], 30).unwrap();
    assert_eq!(unseen(), ("v3".into(), None, None, None));
}

fn answers_are_bounded_and_say_how_many_there_are(fresh: &Fresh) {
    let store = fresh.open();
    let leak = secret("base", 0, "f", "one");
    for number in 0..30 {
        let own = format!("own {number}");
        put(&store, &format!("image {number}"), &["base", &own], std::slice::from_ref(&leak));
    }
    for query in [Query::Secret(fingerprint("one")), Query::Layer(digest("base"))] {
        let found = store.trace(&query, None, 7).unwrap();
        assert_eq!((found.total, found.images.len(), found.is_exact), (30, 7, true));
        assert_eq!(found.images[6].manifest_digest, digest("image 6"));
    }
    for number in 30..520 {
        put(&store, &format!("image {number}"), &["base"], std::slice::from_ref(&leak));
    }
    let found = store.trace(&Query::Secret(fingerprint("one")), None, 1000).unwrap();
    assert_eq!((found.total, found.images.len(), found.is_exact), (520, 520, true));
    assert!(found.images.iter().all(|image| image.places.len() == 1), "all images are named");
    let many: Vec<Finding> = (0..70).map(|n| secret("m", 0, &format!("f{n}"), "two")).collect();
    put(&store, "many", &["m"], &many);
    let found = by_secret(&store, "two");
    assert_eq!((found.images[0].places.len(), found.images[0].places_total), (50, 70));
}

fn a_key_is_traced_by_itself(fresh: &Fresh) {
    let store = fresh.open();
    put(&store, "a", &["base"], &[secret("base", 0, "f", "one")]);
    let newer = image_report("a", &["base"], &[secret("base", 0, "f", "one"), secret("base", 0, "g", "two")]);
    store.images().put_report(&newer, &other_key(), None, 20).unwrap();
    let count = |name: &str, key: Option<&LayerKey>| {
        let found = store.trace(&Query::Secret(fingerprint(name)), key, 10).unwrap();
        found.images.iter().map(|image| image.places.len()).sum::<usize>()
    };
    assert_eq!(count("one", None), 1, "a finding under two keys is one finding");
    assert_eq!((count("two", Some(&key())), count("two", Some(&other_key()))), (0, 1));
    assert_eq!(count("one", Some(&LayerKey::new("sha256:key-3"))), 0);
}
