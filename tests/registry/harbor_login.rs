//! A Harbor that takes the login for a stranger's, always or for a moment: what is listed is what the login may see, or
//! it is an error.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use layersift_model::LoginState;
use layersift_source::catalog::{
    Catalog, CatalogError, Filter, Harbor, HarborOptions, ListedGroup, ListedRepositories,
};
use layersift_source::registry::{At, AuthenticationError, RegistryError, RegistryOptions};

use crate::support::full_harbor::{Account, FullHarbor, State, login};
use crate::support::harbor::error;
use crate::support::pull::{options, registry};
use crate::support::served::clean_layer;
use crate::support::server::Answer;

const PASSWORD: &str = "made-up";

/// Two private projects and a public one, with a robot of all, one of `team`, and a member of both.
fn state() -> State {
    let mut state = State::new()
        .project("team", false)
        .project("other", false)
        .project("public", true)
        .account("robot$all", Account::robot(PASSWORD, &[]).of_all())
        .account("robot$team", Account::robot(PASSWORD, &["team"]))
        .account("alice", Account::user(PASSWORD, &["team", "other"]));
    for name in ["team/app:1", "team/a/b:1", "other/app:1", "public/app:1"] {
        state.push(name, &[clean_layer()]);
    }
    state
}

/// What is listed, what goes wrong, and the catalog.
fn listed(harbor: &FullHarbor, options: RegistryOptions) -> (BTreeSet<String>, Vec<CatalogError>, Harbor) {
    let catalog = Harbor::new(registry(&harbor.host(), options), HarborOptions::default());
    let (mut found, mut errors) = (BTreeSet::new(), Vec::new());
    for entry in catalog.entries(&Filter::default()) {
        match entry {
            Ok(entry) => drop(found.insert(entry.repository)),
            Err(error) => errors.push(error),
        }
    }
    (found, errors, catalog)
}

/// The repositories of a group that were not seen.
fn unseen(catalog: &Harbor, group: usize) -> Vec<String> {
    match &catalog.coverage().unwrap().listed[group].repositories {
        ListedRepositories::AllBut(unseen) => unseen.clone(),
        ListedRepositories::Only(_) => panic!("a Harbor has projects"),
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn expect_refusal(harbor: &FullHarbor, user: &str, password: &str) {
    let (found, errors, catalog) = listed(harbor, login(user, password));
    assert!(matches!(&errors[..], [CatalogError::Login { .. }]), "{errors:?}");
    assert!(errors[0].to_string().contains("does not accept the login"), "{}", errors[0]);
    let coverage = catalog.coverage().unwrap();
    assert!(found.is_empty() && !coverage.is_checked, "{found:?}");
}

#[test]
fn a_stranger_is_not_a_login() {
    let harbor = FullHarbor::start(state());
    expect_refusal(&harbor, "robot$all", "wrong");
    expect_refusal(&harbor, "nobody", PASSWORD);
    harbor.state().accounts.get_mut("robot$all").unwrap().is_expired = true;
    expect_refusal(&harbor, "robot$all", PASSWORD);
    let (found, errors, catalog) = listed(&harbor, options());
    assert_eq!((found, errors.len()), (names(&["public/app"]), 0), "whoever does not log in gets what is public");
    let coverage = catalog.coverage().unwrap();
    assert_eq!((coverage.user, coverage.login, coverage.is_checked), (None, LoginState::Anonymous, true));
}

#[test]
fn what_is_listed_rests_on_who_asked() {
    let harbor = FullHarbor::start(state());
    let (found, errors, catalog) = listed(&harbor, login("robot$team", PASSWORD));
    assert_eq!((found, errors.len()), (names(&["public/app", "team/a/b", "team/app"]), 0));
    let coverage = catalog.coverage().unwrap();
    let group = |project: &str| {
        let repositories = ListedRepositories::AllBut(Vec::new());
        ListedGroup { project: Some(project.into()), repositories }
    };
    assert_eq!(coverage.listed, [group("public"), group("team")]);
    assert_eq!((coverage.projects, coverage.repositories), (Some(2), 3));
    assert_eq!((coverage.user.as_deref(), coverage.login), (Some("robot$team"), LoginState::Accepted));
    let (found, ..) = listed(&harbor, login("alice", PASSWORD));
    assert_eq!(found.len(), 4);
}

/// Locks `alice` for as long as the Harbor does.
fn lock(state: &mut State) {
    let until = Instant::now() + state.lock;
    state.accounts.get_mut("alice").unwrap().locked_until = Some(until);
}

#[test]
fn a_user_who_is_locked_for_a_moment_is_waited_for() {
    let harbor = FullHarbor::start(State { lock: Duration::from_millis(100), ..state() });
    lock(&mut harbor.state());
    let (found, errors, _) = listed(&harbor, login("alice", PASSWORD));
    assert_eq!((found.len(), errors.len()), (4, 0), "{errors:?}");
}

#[test]
fn a_user_who_is_always_locked_is_refused() {
    let harbor = FullHarbor::changing(state(), |state, _| lock(state));
    expect_refusal(&harbor, "alice", PASSWORD);
}

/// Anyone's wrong password, just before one of the requests is answered: nothing is missing, wherever it comes.
#[test]
fn a_lock_at_any_moment_hides_nothing() {
    let requests = FullHarbor::start(state());
    listed(&requests, login("alice", PASSWORD));
    let count = requests.server.requests().len();
    assert!(count > 15, "{count}");
    for at in 0..count {
        let seen = std::sync::atomic::AtomicUsize::new(0);
        let state = State { lock: Duration::from_millis(60), ..state() };
        let harbor = FullHarbor::changing(state, move |state, _| {
            if seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == at {
                lock(state);
            }
        });
        let (found, errors, _) = listed(&harbor, login("alice", PASSWORD));
        assert_eq!((found.len(), errors.len()), (4, 0), "locked at request {at}: {errors:?}");
    }
}

/// A login that ends while images are listed, at any request: it is an error, or everything was listed before.
#[test]
fn a_robot_that_expires_at_any_moment_is_an_error() {
    for at in 0..24 {
        let seen = std::sync::atomic::AtomicUsize::new(0);
        let harbor = FullHarbor::changing(state(), move |state, _| {
            if seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == at {
                state.accounts.get_mut("robot$all").unwrap().is_expired = true;
            }
        });
        let (found, errors, catalog) = listed(&harbor, login("robot$all", PASSWORD));
        let is_checked = catalog.coverage().unwrap().is_checked;
        match errors.last() {
            Some(error) => assert!(error.is_of_login() && !is_checked, "at request {at}: {errors:?}"),
            None => assert!(is_checked && found.len() == 4, "at request {at}: {found:?}"),
        }
    }
}

#[test]
fn a_repository_that_refuses_is_named_and_the_others_follow() {
    let mut state = state();
    state.answers.insert("team/app".into(), error(401, "UNAUTHORIZED", "unauthorized"));
    state.answers.insert("other/app".into(), error(403, "FORBIDDEN", "forbidden"));
    let harbor = FullHarbor::start(state);
    let (found, errors, catalog) = listed(&harbor, login("robot$all", PASSWORD));
    assert_eq!(found, names(&["public/app", "team/a/b"]));
    let repositories: Vec<&str> = errors
        .iter()
        .map(|error| match error {
            CatalogError::Repository { repository, .. } => &repository[..],
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(repositories, ["other/app", "team/app"]);
    let coverage = catalog.coverage().unwrap();
    let unseen: Vec<Vec<String>> = (0..3).map(|at| unseen(&catalog, at)).collect();
    assert_eq!(unseen, [vec!["app".to_string()], Vec::new(), vec!["app".to_string()]]);
    assert!(coverage.is_checked);
}

#[test]
fn a_repository_that_is_suddenly_empty_is_not_believed() {
    let mut state = state();
    state.answers.insert("team/app".into(), Answer::new(200, "[]").with("X-Total-Count", "0"));
    let harbor = FullHarbor::start(state);
    let (_, errors, catalog) = listed(&harbor, login("robot$all", PASSWORD));
    assert!(matches!(&errors[..], [CatalogError::Emptied { count: 1, .. }]), "{errors:?}");
    assert_eq!(unseen(&catalog, 2), ["app"]);

    // One that was emptied since it was listed is said.
    let harbor = FullHarbor::changing(self::state(), |state, request| {
        if request.path.contains("team/repositories/app") {
            state.artifacts("team/app").clear();
        }
    });
    let (_, errors, catalog) = listed(&harbor, login("robot$all", PASSWORD));
    let coverage = catalog.coverage().unwrap();
    assert!(errors.is_empty() && unseen(&catalog, 2).is_empty(), "{errors:?}");
    assert!(coverage.notes[0].contains("team/app was emptied"), "{:?}", coverage.notes);
}

#[test]
fn a_project_that_is_suddenly_empty_is_not_believed() {
    let harbor = FullHarbor::changing(state(), |state, request| {
        // A cache in front of it answers for an older time.
        if request.path.contains("/projects/team/repositories?") {
            state.projects.get_mut("team").unwrap().repositories.clear();
        }
    });
    let (found, errors, catalog) = listed(&harbor, login("robot$all", PASSWORD));
    assert!(matches!(&errors[..], [CatalogError::Project { project, .. }] if project == "team"), "{errors:?}");
    assert_eq!((found.len(), catalog.coverage().unwrap().listed.len()), (2, 2));
}

#[test]
fn a_listing_that_ends_too_early_is_an_error() {
    let mut state = state();
    let digest = state.artifacts("team/app")[0].digest.clone();
    let one = format!(r#"[{{"digest":"{digest}","type":"IMAGE"}}]"#);
    state.answers.insert("team/app".into(), Answer::new(200, one).with("X-Total-Count", "3"));
    let (_, errors, catalog) = listed(&FullHarbor::start(state), login("robot$all", PASSWORD));
    assert!(matches!(&errors[..], [CatalogError::Repository { .. }]), "{errors:?}");
    assert!(errors[0].to_string().contains("ends after 1 of 3 items"), "{}", errors[0]);
    assert_eq!(unseen(&catalog, 2), ["app"]);
}

fn manifest(harbor: &FullHarbor, options: RegistryOptions, repository: &str) -> Result<(), RegistryError> {
    registry(&harbor.host(), options).manifest(repository, &At::Tag("1".into())).map(drop)
}

fn is_rejected(result: &Result<(), RegistryError>) -> bool {
    matches!(result, Err(RegistryError::Unauthorized { reason: AuthenticationError::RejectedByTokenServer, .. }))
}

/// The token server gives anyone a token, and with it what is public.
#[test]
fn a_pull_with_a_login_that_is_not_accepted_is_an_error() {
    let harbor = FullHarbor::start(state());
    for repository in ["team/app", "public/app"] {
        let refused = manifest(&harbor, login("alice", "wrong"), repository);
        assert!(is_rejected(&refused), "{repository}: {refused:?}");
        assert!(manifest(&harbor, login("robot$all", PASSWORD), repository).is_ok());
    }
    assert!(manifest(&harbor, options(), "public/app").is_ok());
    let denied = manifest(&harbor, login("robot$team", PASSWORD), "other/app");
    assert!(denied.is_err() && !is_rejected(&denied), "the login is right: {denied:?}");
}

#[test]
fn a_pull_waits_for_a_user_who_is_locked_for_a_moment() {
    let harbor = FullHarbor::start(State { lock: Duration::from_millis(100), ..state() });
    lock(&mut harbor.state());
    assert!(manifest(&harbor, login("alice", PASSWORD), "team/app").is_ok());
}

#[test]
fn one_token_opens_a_project() {
    let harbor = FullHarbor::start(state());
    let client = registry(&harbor.host(), login("robot$all", PASSWORD));
    for repository in ["team/app", "team/a/b", "team/app", "other/app"] {
        client.manifest(repository, &At::Tag("1".into())).unwrap();
    }
    assert_eq!(harbor.server.requests_of("/service/token").len(), 2, "one for each project");
    let first = &harbor.server.requests_of("/v2/team/a/b/")[..];
    assert!(matches!(first, [request] if request.header("authorization").is_some()), "{first:?}");
}

/// A cache that kept an older listing has to ask.
#[test]
fn listings_do_not_come_from_a_cache() {
    let harbor = FullHarbor::start(state());
    let client = registry(&harbor.host(), login("robot$all", PASSWORD));
    listed(&harbor, login("robot$all", PASSWORD));
    assert_eq!(client.tags("team/app").unwrap().count(), 1);
    client.manifest("team/app", &At::Tag("1".into())).unwrap();
    for request in harbor.server.requests().iter().filter(|request| !request.path.starts_with("/service/")) {
        let is_listing = !request.path.contains("/manifests/");
        assert_eq!(request.header("cache-control") == Some("no-cache"), is_listing, "{}", request.path);
    }
}

#[test]
fn a_registry_says_by_its_challenge_whether_it_accepts_a_login() {
    let harbor = FullHarbor::start(state());
    let check = |options| registry(&harbor.host(), options).check_login();
    assert_eq!(check(login("robot$all", PASSWORD)).unwrap(), LoginState::Accepted);
    assert_eq!(check(options()).unwrap(), LoginState::Anonymous);
    assert!(check(login("robot$all", "wrong")).unwrap_err().is_of_login());
    let open = crate::support::server::Server::answering(|_, _| Answer::new(200, "{}"));
    assert_eq!(registry(&open.host(), login("a", "b")).check_login().unwrap(), LoginState::Unchecked);
    let basic = crate::support::server::Server::answering(|request, _| match request.header("authorization") {
        Some(_) => Answer::new(200, "{}"),
        None => Answer::new(401, "").with("WWW-Authenticate", "Basic realm=x"),
    });
    assert_eq!(registry(&basic.host(), login("a", "b")).check_login().unwrap(), LoginState::Accepted);
}
