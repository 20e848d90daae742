//! The images of a Harbor: all of them, each once, whatever changes meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::harbor::{Artifact, Harbor, NEW_YEAR, State, parameter, registry};
use crate::support::pull;
use layersift_source::catalog::{Catalog, CatalogError, Entry, Filter, Harbor as Catalogued, HarborOptions, Skipped};
use layersift_source::registry::{At, RegistryError};

fn catalog(harbor: &Harbor) -> Catalogued {
    Catalogued::new(registry(&harbor.server), HarborOptions::default())
}

/// Entries and errors.
fn listed(catalog: &dyn Catalog, filter: &Filter) -> (Vec<Entry>, Vec<CatalogError>) {
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    for found in catalog.entries(filter) {
        assert!(!errors.last().is_some_and(CatalogError::is_whole), "nothing follows {errors:?}");
        match found {
            Ok(entry) => entries.push(entry),
            Err(error) => errors.push(error),
        }
    }
    (entries, errors)
}

fn all(catalog: &dyn Catalog) -> Vec<Entry> {
    let (entries, errors) = listed(catalog, &Filter::default());
    assert!(errors.is_empty(), "{errors:?}");
    entries
}

fn is_missing(error: &RegistryError) -> bool {
    matches!(error, RegistryError::NotFound { .. })
}

fn images(prefix: &str, count: i64) -> Vec<Artifact> {
    let name = |number| format!("{}-{number}", prefix.replace('/', "-"));
    (0..count).map(|number| Artifact::image(&name(number), number)).collect()
}

/// The digests of a state, by repository.
fn digests(state: &State) -> BTreeMap<String, BTreeSet<String>> {
    let repositories = state.projects.iter().flat_map(|(project, found)| {
        found.repositories.iter().map(move |(name, artifacts)| (format!("{project}/{name}"), artifacts))
    });
    let digests = |artifacts: &Vec<Artifact>| artifacts.iter().map(|artifact| artifact.digest.to_string()).collect();
    repositories.filter_map(|(name, artifacts)| Some((name, artifacts.as_ref().map(digests)?))).collect()
}

/// The same of entries, each of which must be there once.
fn digests_of(entries: &[Entry]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in entries {
        let digest = entry.digest.as_ref().unwrap().to_string();
        assert!(found.entry(entry.repository.clone()).or_default().insert(digest), "{entry:?} comes twice");
    }
    found
}

/// 5,000 images in 40 projects with three repositories each, of which the first has 1,040.
fn large() -> State {
    let mut all: BTreeMap<usize, Vec<Artifact>> = BTreeMap::new();
    for number in 0..5_000 {
        let repository = if number < 1_040 { 0 } else { 1 + number % 119 };
        let pushed = (number as i64 * 7_919) % 2_000_000;
        all.entry(repository).or_default().push(Artifact::image(&number.to_string(), pushed));
    }
    all.into_iter().fold(State::default(), |state, (number, artifacts)| {
        let name = ["app", "team/api", "a/b/c-d_e"][number % 3];
        state.with(&format!("p{:02}/{name}", number / 3), artifacts)
    })
}

#[test]
fn five_thousand_images_in_forty_projects() {
    let harbor = Harbor::start(large());
    let catalog = catalog(&harbor);
    let entries = all(&catalog);
    assert_eq!(entries.len(), 5_000);
    assert_eq!(digests_of(&entries), digests(&harbor.state()));
    for pair in entries.windows(2).filter(|pair| pair[0].repository == pair[1].repository) {
        assert!(pair[0].pushed_at >= pair[1].pushed_at, "newest first: {pair:?}");
    }
    let first = &harbor.state().artifacts("p00/app")[0].clone();
    let entry = entries.iter().find(|entry| entry.digest.as_ref() == Some(&first.digest)).unwrap();
    assert_eq!((entry.project.as_deref(), entry.repository.as_str()), (Some("p00"), "p00/app"));
    assert_eq!((entry.tags.clone(), entry.pushed_at), (vec!["t-0".to_string()], Some(NEW_YEAR)));
    let host = harbor.server.host();
    assert_eq!(entry.reference().to_string(), format!("{host}/p00/app:t-0@{}", first.digest));
    assert_eq!(catalog.hosts().iter().map(ToString::to_string).collect::<Vec<_>>(), [host]);
    // A page of projects, 40 of repositories, 119 repositories with one page and one with eleven; no challenge.
    let listings = harbor.server.requests_of("/projects").len();
    assert_eq!(listings, 1 + 40 + 119 + 11);
    // Who is logged in is asked for before and after the listing, and around the page of projects.
    assert_eq!(harbor.server.requests().len() - listings, 2 * 4);
    assert_eq!(catalog.skipped(), Skipped::default());
}

#[test]
fn pages_are_asked_for_as_they_are_needed() {
    let harbor = Harbor::start(large());
    let (catalog, filter) = (catalog(&harbor), Filter::default());
    let mut entries = catalog.entries(&filter);
    assert!(harbor.server.requests().is_empty());
    // A page of projects, the first of some projects' repositories and of some repositories' artifacts, and no more.
    let first = entries.next().unwrap().unwrap().repository;
    assert!(harbor.server.requests_of("/repositories?").len() <= 4 + 3);
    assert!(harbor.server.requests_of("/artifacts").len() <= 8);
    assert!(entries.by_ref().any(|entry| entry.unwrap().repository != first));
    assert!(harbor.server.requests_of("/artifacts").len() <= 8 + 10 + 1);
}

#[test]
fn servers_that_give_less_or_say_less() {
    let names = ["a/none", "a/few", "b/page", "b/x/pages"];
    let plain = || {
        let counts = [0, 7, 100, 250];
        names.iter().zip(counts).fold(State::default(), |state, (name, count)| state.with(name, images(name, count)))
    };
    let mut expected = digests(&plain());
    expected.retain(|_, digests| !digests.is_empty());
    let odd = [
        State { most: 30, ..plain() },
        State { most: 30, links: false, ..plain() },
        State { links: false, ..plain() },
        State { totals: false, ..plain() },
        State { most: 30, totals: false, links: false, ..plain() },
    ];
    for state in odd {
        let how = format!("{} {} {}", state.most, state.links, state.totals);
        let harbor = Harbor::start(state);
        assert_eq!(digests_of(&all(&catalog(&harbor))), expected, "{how}");
    }
}

#[test]
fn what_is_deleted_meanwhile_hides_nothing_else() {
    for deleted in [1, 99, 100, 101, 350] {
        let state = State::default().with("team/app", images("a", 800));
        let harbor = Harbor::changing(state, move |state, request, before| {
            // The newest, which were all on pages that were read.
            if before == 0 && parameter(&request.path, "page").as_deref() == Some("5") {
                let left = 800 - deleted;
                state.artifacts("team/app").truncate(left);
            }
        });
        let found = digests_of(&all(&catalog(&harbor)));
        let left = digests(&harbor.state());
        assert_eq!(left["team/app"].len(), 800 - deleted);
        assert!(left["team/app"].is_subset(&found["team/app"]), "{deleted} are deleted");
    }
}

#[test]
fn deletions_all_the_time() {
    let state = State::default().with("team/app", images("a", 2_000));
    let harbor = Harbor::changing(state, |state, request, _| {
        if request.path.contains("artifacts") {
            let artifacts = state.artifacts("team/app");
            artifacts.truncate(artifacts.len() - artifacts.len() / 20);
        }
    });
    let catalog = catalog(&harbor);
    let found = digests_of(&all(&catalog));
    assert!(digests(&harbor.state())["team/app"].is_subset(&found["team/app"]));
    assert!(catalog.skipped().repeated > 0);
}

#[test]
fn what_is_pushed_meanwhile_repeats_nothing() {
    let state = State::default().with("team/app", images("a", 450));
    let harbor = Harbor::changing(state, |state, request, before| {
        if before == 0 && parameter(&request.path, "page").as_deref() == Some("3") {
            state.artifacts("team/app").extend((0..30).map(|n| Artifact::image(&format!("new-{n}"), 1_000 + n)));
        }
    });
    let catalog = catalog(&harbor);
    let found = digests_of(&all(&catalog));
    assert_eq!(found["team/app"].len(), 450);
    assert_eq!(catalog.skipped().repeated, 30);
}

#[test]
fn a_repository_that_cannot_be_listed_costs_only_itself() {
    let mut state = State::default();
    for name in ["a/one", "a/two", "b/three", "b/x/four"] {
        state.put(name, images(name, 3));
    }
    state.projects.get_mut("a").unwrap().repositories.insert("two".into(), None);
    let harbor = Harbor::changing(state, |state, request, _| {
        if request.path.contains("/b/repositories?") {
            state.projects.get_mut("b").unwrap().repositories.insert("three".into(), None);
        }
    });
    let catalog = catalog(&harbor);
    let (entries, errors) = listed(&catalog, &Filter::default());
    assert_eq!(digests_of(&entries).into_keys().collect::<Vec<_>>(), ["a/one", "b/x/four"]);
    let repositories: Vec<&str> = errors
        .iter()
        .map(|error| match error {
            CatalogError::Repository { repository, error, .. } if is_missing(error) => repository.as_str(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(repositories, ["a/two", "b/three"]);
    assert!(errors[0].to_string().starts_with(&harbor.server.host()), "{}", errors[0]);
}

#[test]
fn a_project_that_is_closed_costs_only_itself() {
    let state = State::default().with("a/one", images("a", 1)).with("b/two", images("b", 1));
    let harbor = Harbor::changing(state, |state, request, _| {
        if request.path.contains("/a/repositories?") {
            state.projects.remove("a");
        }
    });
    let (entries, errors) = listed(&catalog(&harbor), &Filter::default());
    assert_eq!(digests_of(&entries).into_keys().collect::<Vec<_>>(), ["b/two"]);
    let [CatalogError::Project { project, error, .. }] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(project == "a" && matches!(**error, RegistryError::Forbidden { .. }), "{error}");
}

#[test]
fn artifacts_of_every_type_are_listed() {
    let mut artifacts = images("a", 7);
    let kinds = [Some("IMAGE"), Some("CHART"), None, Some(""), Some("SIGNATURE.COSIGN"), Some("CNAB"), Some("UNKNOWN")];
    artifacts.iter_mut().zip(kinds).for_each(|(artifact, kind)| artifact.kind = kind);
    let harbor = Harbor::start(State::default().with("team/app", artifacts));
    let catalog = catalog(&harbor);
    assert_eq!(all(&catalog).len(), 7);
    assert_eq!(catalog.skipped(), Skipped::default());
}

#[test]
fn images_without_tags_are_images_and_tags_that_are_none_are_not() {
    let mut artifacts = images("a", 2);
    artifacts[0].tags.clear();
    artifacts[1].tags = vec!["../../etc".into(), "good".into()];
    let harbor = Harbor::start(State::default().with("team/app", artifacts));
    let tags: Vec<Vec<String>> = all(&catalog(&harbor)).into_iter().map(|entry| entry.tags).collect();
    assert_eq!(tags, [vec!["good".to_string()], vec![]]);
}

#[test]
fn newly_pushed_ones() {
    for queries in [true, false] {
        let state = State::default().with("team/app", images("a", 250)).with("team/old", images("b", 100));
        let harbor = Harbor::start(State { queries, ..state });
        let catalog = catalog(&harbor);
        let filter = Filter::default().pushed_since(Some(NEW_YEAR + 240));
        let (entries, errors) = listed(&catalog, &filter);
        assert!(errors.is_empty(), "{errors:?}");
        let pushed: Vec<i64> = entries.iter().map(|entry| entry.pushed_at.unwrap() - NEW_YEAR).collect();
        assert_eq!(pushed, (240..250).rev().collect::<Vec<_>>());
        // A server that does not know the query gives more, and it is looked at here.
        assert_eq!(catalog.skipped().unwanted, if queries { 0 } else { 340 });
    }
}

#[test]
fn what_is_excluded_is_not_requested() {
    let state = State::default().with("team/app", images("a", 2)).with("team/tmp/app", images("b", 2));
    let harbor = Harbor::start(state.with("other/app", images("c", 2)));
    let filter = Filter::new(&["team/*"], &["*/tmp/*", "*:t-a-0"]).unwrap();
    let (entries, errors) = listed(&catalog(&harbor), &filter);
    assert!(errors.is_empty());
    assert_eq!(entries.iter().map(|entry| entry.tags.join(",")).collect::<Vec<_>>(), ["t-a-1"]);
    assert_eq!(harbor.server.requests_of("/artifacts").len(), 1);
}

#[test]
fn projects_by_name_and_caches() {
    let mut state = State::default().with("cache/library/tool", images("a", 1)).with("team/app", images("b", 1));
    state.projects.get_mut("cache").unwrap().proxy_cache = true;
    let harbor = Harbor::start(state);
    let with = |options: HarborOptions| Catalogued::new(registry(&harbor.server), options);
    let repositories = |catalog: &Catalogued| digests_of(&all(catalog)).into_keys().collect::<Vec<_>>();
    assert_eq!(repositories(&with(HarborOptions::default())), ["cache/library/tool", "team/app"]);
    let without = with(HarborOptions { proxy_caches: false, ..HarborOptions::default() });
    assert_eq!(repositories(&without), ["team/app"]);
    assert_eq!(without.skipped().proxy_caches, 1);
    let before = harbor.server.requests_of("/projects?").len();
    let named = with(HarborOptions { projects: vec!["cache".into()], ..HarborOptions::default() });
    assert_eq!(repositories(&named), ["cache/library/tool"]);
    assert_eq!(harbor.server.requests_of("/projects?").len(), before);
}

#[test]
fn anonymous_requests_list_nothing() {
    let harbor = Harbor::start(large());
    let stranger = pull::registry(&harbor.server.host(), pull::options());
    let (entries, errors) = listed(&Catalogued::new(stranger, HarborOptions::default()), &Filter::default());
    assert!(entries.is_empty());
    let [CatalogError::Whole { error, .. }] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(matches!(**error, RegistryError::Unauthorized { .. }), "{error}");
    assert!(errors[0].to_string().contains(&harbor.server.host()), "{}", errors[0]);
}

#[test]
fn a_blocked_image_is_scanned_by_request() {
    let harbor = Harbor::start(State::default().with("team/a/b", images("a", 1)));
    let (asked, catalog) = (registry(&harbor.server), catalog(&harbor));
    let [entry] = all(&catalog).try_into().unwrap();
    let at = At::Digest(entry.digest.clone().unwrap());
    let blocked = asked.manifest(&entry.repository, &at).unwrap_err();
    assert!(matches!(blocked, RegistryError::Blocked { .. }), "{blocked}");
    assert!(catalog.request_scan(&entry).unwrap());
    let requests = harbor.server.requests();
    let scan = requests.iter().find(|request| request.method == "POST").unwrap();
    let digest = entry.digest.as_ref().unwrap();
    assert_eq!(scan.path, format!("/api/v2.0/projects/team/repositories/a%252Fb/artifacts/{digest}/scan"));
    assert!(scan.body.is_empty());
}

#[test]
fn scans_that_run_already_and_scans_that_are_not_done() {
    for (status, does) in [(202, true), (409, true), (400, false), (403, false)] {
        let harbor = Harbor::start(State { scan: status, ..State::default().with("team/app", images("a", 1)) });
        let catalog = catalog(&harbor);
        let [entry] = all(&catalog).try_into().unwrap();
        match catalog.request_scan(&entry) {
            Ok(asked) => assert!(asked && does, "{status}"),
            Err(CatalogError::Scan { repository, .. }) => assert!(repository == "team/app" && !does, "{status}"),
            Err(other) => panic!("{status}: {other}"),
        }
        let elsewhere = Entry { host: "other.example".parse().unwrap(), ..entry.clone() };
        assert!(!catalog.request_scan(&elsewhere).unwrap());
        assert!(!catalog.request_scan(&Entry { project: Some("te".into()), ..entry.clone() }).unwrap());
        let gone = Entry { digest: Some(layersift_model::Digest::of(b"gone")), ..entry };
        assert!(matches!(catalog.request_scan(&gone), Err(CatalogError::Scan { .. })));
    }
}
