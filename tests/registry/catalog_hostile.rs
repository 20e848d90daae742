//! Harbors that never end, lead elsewhere, or answer what is no listing: the end is an error that names the registry.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::harbor::{NO_USER, error, parameter, registry, robot};
use crate::support::pull;
use crate::support::server::{Answer, Request, Server};
use layersift_model::Digest;
use layersift_source::catalog::{Catalog, CatalogError, Entry, Filter, Harbor, HarborOptions};
use layersift_source::registry::{Credentials, EndlessListing, Login, RegistryError, RegistryOptions};
use serde_json::{Value, json};

const OPTIONS: HarborOptions =
    HarborOptions { projects: Vec::new(), proxy_caches: true, page: 2, pages: 20, images: 30 };

fn collected(catalog: &Harbor) -> (Vec<Entry>, Vec<CatalogError>) {
    let (mut entries, mut errors) = (Vec::new(), Vec::new());
    for found in catalog.entries(&Filter::default()) {
        match found {
            Ok(entry) => entries.push(entry),
            Err(error) => errors.push(error),
        }
    }
    (entries, errors)
}

fn listed(server: &Server) -> (Vec<Entry>, Vec<CatalogError>) {
    collected(&Harbor::new(registry(server), OPTIONS))
}

/// The only error of a listing, which names the registry.
fn failing(server: &Server) -> (Vec<Entry>, CatalogError) {
    let (entries, mut errors) = listed(server);
    assert_eq!(errors.len(), 1, "{errors:?}");
    let error = errors.remove(0);
    assert!(error.to_string().starts_with(&server.host()), "{error}");
    (entries, error)
}

fn reason(error: &CatalogError) -> &RegistryError {
    error.of_registry().unwrap_or_else(|| panic!("no registry's: {error}"))
}

fn list(items: &[Value]) -> Answer {
    Answer::new(200, json!(items).to_string())
}

/// A listing of one page.
fn only(items: &[Value]) -> Answer {
    list(items).with("X-Total-Count", &items.len().to_string())
}

fn artifact(name: &str) -> Value {
    json!({ "digest": Digest::of(name.as_bytes()).to_string(), "type": "IMAGE" })
}

fn page(request: &Request) -> u32 {
    parameter(&request.path, "page").unwrap().parse().unwrap()
}

fn link(request: &Request) -> String {
    format!("<{}&page={}>; rel=\"next\"", request.path.replace("page=", "was="), page(request) + 1)
}

/// A Harbor that knows the robot, and answers everything else with `answer`.
fn hostile(answer: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Server {
    Server::answering(move |request, before| match &request.path[..] {
        "/v2/" => Answer::new(200, "{}"),
        "/api/v2.0/users/current" => error(412, "PRECONDITION", NO_USER),
        _ => answer(request, before),
    })
}

/// A Harbor with one project and one repository, whose artifacts `answer` lists.
fn artifacts(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Server {
    hostile(move |request, _| match request.path.split_once('?').unwrap().0 {
        "/api/v2.0/projects" => only(&[json!({ "name": "team" })]),
        "/api/v2.0/projects/team/repositories" => only(&[json!({ "name": "team/app" })]),
        _ => answer(request),
    })
}

/// A page that has something new, and leads to another one.
fn more(request: &Request) -> Answer {
    let name = |half: &str| artifact(&format!("{}{half}", page(request)));
    list(&[name("a"), name("b")]).with("Link", &link(request))
}

#[test]
fn pages_without_end() {
    let server = artifacts(more);
    let options = HarborOptions { images: 1_000, ..OPTIONS };
    let (entries, errors) = collected(&Harbor::new(registry(&server), options));
    assert_eq!((entries.len(), errors.len()), (40, 1));
    assert!(matches!(reason(&errors[0]), RegistryError::Endless { reason: EndlessListing::Pages(20), .. }));
    assert_eq!(server.requests_of("artifacts").len(), 20);
}

#[test]
fn images_without_end() {
    let (entries, error) = failing(&artifacts(more));
    assert_eq!(entries.len(), 30);
    assert!(matches!(error, CatalogError::TooMany { most: 30, .. }) && error.is_whole(), "{error}");
}

#[test]
fn pages_that_repeat_or_are_empty() {
    for items in [vec![artifact("a"), artifact("b")], Vec::new()] {
        // Where nothing says that there is more, it is the end.
        let same = items.clone();
        let (entries, errors) = listed(&artifacts(move |_| list(&same)));
        assert_eq!((entries.len(), errors.len()), (items.len(), 0), "{errors:?}");
        let server = artifacts(move |request| list(&items).with("Link", &link(request)));
        let (_, error) = failing(&server);
        assert!(
            matches!(reason(&error), RegistryError::Endless { reason: EndlessListing::NothingNew(_), .. }),
            "{error}"
        );
        assert!(server.requests_of("artifacts").len() <= 4);
    }
}

#[test]
fn invalid_and_wrong_totals() {
    for total in ["-5", "many", "1e3", "99999999999999999999999", "1,2"] {
        let server = artifacts(move |_| list(&[artifact("a")]).with("X-Total-Count", total));
        let (_, error) = failing(&server);
        assert!(matches!(reason(&error), RegistryError::Protocol { .. }), "{total}: {error}");
    }
    let server = artifacts(|_| list(&[artifact("a")]).with("X-Total-Count", &u64::MAX.to_string()));
    let (entries, error) = failing(&server);
    assert_eq!(entries.len(), 1);
    assert!(matches!(reason(&error), RegistryError::Endless { .. }), "{error}");
}

#[test]
fn counts_that_shrink_without_end() {
    let server = artifacts(|request| {
        static LEFT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1_000_000);
        let left = LEFT.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        let name = |half: &str| artifact(&format!("{}{half}", page(request)));
        list(&[name("a"), name("b")]).with("X-Total-Count", &left.to_string())
    });
    let (_, error) = failing(&server);
    assert!(matches!(reason(&error), RegistryError::Endless { .. }), "{error}");
    assert_eq!(server.requests_of("artifacts").len(), OPTIONS.pages);
}

#[test]
fn pages_on_another_host_are_not_requested() {
    let other = Server::answering(|_, _| list(&[artifact("stolen")]));
    let host = other.host();
    for target in [format!("http://{host}/api"), format!("//{host}/"), "https://127.0.0.1/".into(), "http://[".into()] {
        let server = artifacts(move |_| list(&[artifact("a")]).with("Link", &format!("<{target}>; rel=\"next\"")));
        let (entries, error) = failing(&server);
        let is_refused = matches!(reason(&error), RegistryError::Refused { .. } | RegistryError::Protocol { .. });
        assert!(entries.len() == 1 && is_refused, "{error}");
    }
    assert!(other.requests().is_empty());
}

#[test]
fn a_link_that_cannot_be_parsed_is_an_error_after_the_images() {
    let server = artifacts(|_| list(&[artifact("a")]).with("X-Total-Count", "1").with("Link", "<what"));
    let (entries, error) = failing(&server);
    assert!(entries.len() == 1 && matches!(reason(&error), RegistryError::Protocol { .. }), "{error}");
}

#[test]
fn credentials_are_not_sent_to_another_host() {
    let other = Server::answering(|_, _| only(&[json!({ "name": "team" })]));
    let location = format!("http://{}/elsewhere", other.host());
    let server = hostile(move |request, _| match request.path.contains("repositories") {
        true => list(&[]),
        false => Answer::new(302, "").with("Location", &location),
    });
    let (entries, errors) = listed(&server);
    assert!(entries.is_empty() && errors.is_empty(), "{errors:?}");
    assert!(!other.requests().is_empty());
    assert!(other.requests().iter().all(|request| request.header("authorization").is_none()));
    assert!(server.requests().iter().all(|request| request.header("authorization").is_some()));
}

#[test]
fn paths_are_the_registrys_own() {
    let other = Server::answering(|_, _| only(&[]));
    let server = hostile(|_, _| only(&[]));
    let registry = registry(&server);
    for path in [format!("/{}/api", other.host()), format!("\\{}/api", other.host())] {
        assert!(matches!(registry.page(&path, &[]), Err(RegistryError::Refused { .. })), "{path}");
        assert!(matches!(registry.post(&path), Err(RegistryError::Refused { .. })), "{path}");
    }
    assert!(registry.page("api/v2.0/projects", &[("page", "1")]).is_ok());
    assert!(other.requests().is_empty());
}

#[test]
fn a_scan_is_not_asked_for_elsewhere() {
    let other = Server::answering(|_, _| Answer::new(202, ""));
    let location = format!("http://{}/elsewhere", other.host());
    let server = artifacts(move |request| match request.method.as_str() {
        "POST" => Answer::new(307, "").with("Location", &location),
        _ => list(&[artifact("a")]),
    });
    let catalog = Harbor::new(registry(&server), OPTIONS);
    let (entries, _) = collected(&catalog);
    assert!(matches!(catalog.request_scan(&entries[0]), Err(CatalogError::Scan { .. })));
    assert!(other.requests().is_empty());
}

#[test]
fn invalid_listings() {
    let deep = "[".repeat(100_000);
    let many = json!([artifact("a"), artifact("b"), artifact("c")]).to_string();
    let long = json!([{ "digest": "a".repeat(2_000) }]).to_string();
    let texts = [
        "",
        "{}",
        "7",
        "<html>",
        "[{}]",
        "[7]",
        "[null]",
        r#"[{"digest":7}]"#,
        r#"[{"digest":"x","tags":{}}]"#,
        r#"[{"digest":"x","tags":[{"name":null}]}]"#,
        r#"[{"digest":"x","push_time":5}]"#,
        r#"[{"digest":"x"}"#,
        r#"[{"digest":"x"}]]"#,
        &deep,
        &many,
        &long,
    ];
    for text in texts {
        let (body, shown) = (text.to_string(), text.chars().take(60).collect::<String>());
        let (entries, error) = failing(&artifacts(move |_| Answer::new(200, body.clone())));
        assert!(entries.is_empty() && matches!(reason(&error), RegistryError::Protocol { .. }), "{shown}: {error}");
        assert!(error.to_string().len() < 600, "{shown}");
    }
}

#[test]
fn a_login_page_is_told_by_its_content_type() {
    let (_, error) = failing(&artifacts(|_| Answer::new(200, "<html>").with("Content-Type", "text/html")));
    assert!(error.to_string().contains("expected a page of a listing, received `text/html`"), "{error}");
}

#[test]
fn answers_that_are_too_large() {
    let server = artifacts(|_| Answer::new(200, format!("[{}]", " ".repeat(70_000))));
    let options = RegistryOptions { document_bytes: 64 << 10, ..robot() };
    let catalog = Harbor::new(pull::registry(&server.host(), options), OPTIONS);
    let (_, errors) = collected(&catalog);
    assert!(matches!(reason(&errors[0]), RegistryError::TooLarge { .. }), "{errors:?}");
    assert!(errors[0].to_string().contains(&server.host()));
}

#[test]
fn invalid_names_cost_only_themselves() {
    let server = hostile(|request, _| match request.path.split_once('?').unwrap().0 {
        "/api/v2.0/projects" => match page(request) {
            1 => list(&[json!({ "name": "../v2" }), json!({ "name": "a/b" })]).with("X-Total-Count", "4"),
            _ => {
                list(&[json!({ "name": "Team?x=1#" }), json!({ "name": "team", "new": [] })]).with("X-Total-Count", "4")
            }
        },
        "/api/v2.0/projects/team/repositories" => match page(request) {
            1 => list(&[json!({ "name": "other/app" }), json!({ "name": "team/../app" })]).with("X-Total-Count", "4"),
            _ => list(&[json!({ "name": "team/%2e%2e" }), json!({ "name": "team/app" })]).with("X-Total-Count", "4"),
        },
        "/api/v2.0/projects/team/repositories/app/artifacts" => {
            only(&[json!({ "digest": "sha256:../x" }), json!({ "digest": Digest::of(b"a").to_string(), "new": {} })])
        }
        other => panic!("{other} is asked for"),
    });
    let (entries, errors) = listed(&server);
    assert_eq!(entries.len(), 1);
    assert_eq!(errors.len(), 7, "{errors:?}");
    for error in errors {
        let is_named = error.to_string().starts_with(&server.host());
        assert!(is_named && matches!(error, CatalogError::Entry { .. }), "{error}");
    }
}

#[test]
fn when_everything_fails_the_rest_is_left_out() {
    let server = hostile(|request, _| match request.path.contains("repositories") {
        false => list(&[
            json!({ "name": format!("p{}a", page(request)) }),
            json!({ "name": format!("p{}b", page(request)) }),
        ])
        .with("Link", &link(request)),
        true => error(418, "UNKNOWN", "made up"),
    });
    let catalog = Harbor::new(registry(&server), HarborOptions { pages: 1_000, ..OPTIONS });
    let (entries, errors) = collected(&catalog);
    assert!(entries.is_empty());
    assert_eq!(errors.len(), 50);
    assert!(matches!(errors.last(), Some(CatalogError::Failing { times: 50, .. })), "{errors:?}");
}

#[test]
fn many_closed_projects_are_not_the_end() {
    let server = hostile(|request, _| match request.path.split_once('?').unwrap().0 {
        "/api/v2.0/projects" => {
            let names =
                [2 * page(request) - 2, 2 * page(request) - 1].map(|number| json!({ "name": format!("p{number}") }));
            list(&names).with("X-Total-Count", "60")
        }
        "/api/v2.0/projects/p59/repositories" => only(&[json!({ "name": "p59/app" })]),
        "/api/v2.0/projects/p59/repositories/app/artifacts" => only(&[artifact("a")]),
        _ => error(403, "FORBIDDEN", "forbidden"),
    });
    let catalog = Harbor::new(registry(&server), HarborOptions { pages: 1_000, ..OPTIONS });
    let (entries, errors) = collected(&catalog);
    assert_eq!((entries.len(), errors.len()), (1, 59));
    assert!(errors.iter().all(|error| matches!(error, CatalogError::Project { .. })), "{errors:?}");
}

#[test]
fn a_login_that_ends_meanwhile_ends_the_listing() {
    let unauthorized = || error(401, "UNAUTHORIZED", "unauthorized");
    let has_ended = AtomicBool::new(false);
    let server = Server::answering(move |request, _| match request.path.split('?').next().unwrap() {
        path if path.ends_with("/artifacts") => {
            has_ended.store(true, Ordering::Relaxed);
            unauthorized()
        }
        "/api/v2.0/users/current" if has_ended.load(Ordering::Relaxed) => unauthorized(),
        "/api/v2.0/users/current" => error(412, "PRECONDITION", NO_USER),
        "/api/v2.0/projects" => only(&[json!({ "name": "team" })]),
        "/api/v2.0/projects/team/repositories" => only(&[json!({ "name": "team/app" })]),
        _ => Answer::new(200, "{}"),
    });
    let options = RegistryOptions { login_patience: Duration::from_millis(20), ..robot() };
    let (entries, errors) = collected(&Harbor::new(pull::registry(&server.host(), options), OPTIONS));
    assert!(entries.is_empty() && matches!(&errors[..], [CatalogError::Login { .. }]), "{errors:?}");
    assert!(matches!(reason(&errors[0]), RegistryError::Unauthorized { .. }), "{errors:?}");
}

#[test]
fn what_harbor_says_is_shown_without_the_secret() {
    let server = hostile(|request, _| {
        let said = request.header("authorization").unwrap_or_default().to_string();
        error(403, "FORBIDDEN", &format!("{} {} not for you", said, crate::support::harbor::ROBOT.1))
    });
    let (_, error) = failing(&server);
    let text = error.to_string();
    assert!(text.contains("not for you"), "{text}");
    assert!(!text.contains(crate::support::harbor::ROBOT.1) && !text.contains("cm9ib3Q"), "{text}");
}

#[test]
fn an_access_token_is_sent_as_one() {
    let server = artifacts(|_| only(&[]));
    let login = Login::As(Credentials::AccessToken("made-up-token".into()));
    let catalog = Harbor::new(pull::registry(&server.host(), RegistryOptions { login, ..pull::options() }), OPTIONS);
    let (entries, errors) = collected(&catalog);
    assert!(entries.is_empty() && errors.is_empty(), "{errors:?}");
    assert_eq!(server.requests_of("/projects").len(), 3);
    assert!(server.requests().iter().all(|request| request.header("authorization") == Some("Bearer made-up-token")));
}

#[test]
fn failures_that_pass_are_tried_again() {
    let server = hostile(|request, before| match (before, request.path.contains("repositories")) {
        (0, _) => Answer::new(503, ""),
        (1, _) => Answer::new(429, "").with("Retry-After", "0"),
        (_, true) => only(&[]),
        _ => only(&[json!({ "name": "team" })]),
    });
    let (entries, errors) = listed(&server);
    assert!(entries.is_empty() && errors.is_empty(), "{errors:?}");
    assert_eq!(server.requests_of("/projects").len(), 6);
}
