//! A real Harbor's answers: the client is asked to list what was recorded, and the stand-in is compared with it.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use layersift_model::LoginState;
use layersift_source::catalog::{Catalog, CatalogError, Filter, Harbor, HarborOptions};
use layersift_source::registry::{Registry, RegistryOptions};
use serde_json::{Value, json};

use crate::support::full_harbor::{Account, FullHarbor, State, login};
use crate::support::pull::{options, registry};
use crate::support::server::{Answer, Request, Server, get};
use crate::support::{served, testdata};

/// Users and robots of the recordings.
const CALLERS: [&str; 7] = [
    "anonymous",
    "admin",
    "wrong_password",
    "system_robot_all_projects",
    "system_robot_two_projects_no_system_right",
    "project_robot",
    "project_robot_pull_only",
];

fn recording(name: &str) -> Value {
    let path = testdata("recordings/harbor").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn credentials(caller: &str) -> RegistryOptions {
    match caller {
        "anonymous" => options(),
        "wrong_password" => login("admin", "wrong"),
        caller => login(caller, "made-up"),
    }
}

/// The recorded answer as a server gives it.
fn answer_of(recorded: &Value) -> Answer {
    let headers = recorded["headers"].as_array().unwrap().iter().map(|pair| (&pair[0], &pair[1]));
    let is_own = |name: &&Value| !["Content-Length", "Date", "Transfer-Encoding"].contains(&name.as_str().unwrap());
    let answer =
        Answer::new(recorded["status"].as_u64().unwrap() as u16, recorded["body"].as_str().unwrap_or_default());
    headers
        .filter(|(name, _)| is_own(name))
        .fold(answer, |answer, (name, value)| answer.with(name.as_str().unwrap(), value.as_str().unwrap()))
}

/// What `caller` was answered by `who-sees-what.json`, whose listings have only the names of their items.
fn seen(by: &Value, path: &str) -> Option<Answer> {
    let plain = path.split('?').next().unwrap();
    let recorded = by.get(path).or_else(|| by.get(plain)).or_else(|| by.get(format!("{plain}?with_tag=true")))?;
    let body = match recorded["names"].as_array() {
        Some(names) => {
            let item = |name: &Value| match name.as_str().unwrap() {
                digest if digest.starts_with("sha256:") => {
                    json!({ "digest": format!("{digest:0<71}"), "type": "IMAGE" })
                }
                name => json!({ "name": name }),
            };
            Value::from(names.iter().map(item).collect::<Vec<_>>()).to_string()
        }
        None => recorded["body"].as_str().unwrap().to_string(),
    };
    let answer = Answer::new(recorded["status"].as_u64().unwrap() as u16, body);
    Some(match recorded["x-total-count"].as_str() {
        Some(total) => answer.with("X-Total-Count", total),
        None => answer,
    })
}

/// The recordings as a server for one caller. What was not recorded is answered with 500.
fn replay(caller: &'static str) -> Server {
    let (seen_by, api) = (recording("who-sees-what.json"), recording("registry-api.json"));
    Server::answering(move |request: &Request, _| {
        if request.path == "/v2/" {
            let name = match (request.header("authorization"), caller) {
                (None, _) => "v2_anonymous",
                (Some(_), "wrong_password") => "v2_wrong_basic",
                (Some(_), _) => "v2_admin_basic",
            };
            return answer_of(&api[name]["answer"]);
        }
        let path = request.path.strip_prefix("/api/v2.0").unwrap();
        seen(&seen_by[caller], path).unwrap_or_else(|| Answer::new(500, format!("{path} was not recorded")))
    })
}

#[test]
fn every_caller_lists_what_was_recorded() {
    let filter = Filter::new(&["proj/a/b/c", "pub/app"], &[]).unwrap();
    for caller in CALLERS {
        let server = replay(caller);
        let projects = vec!["proj".into(), "pub".into()];
        let options = HarborOptions { projects, ..HarborOptions::default() };
        let harbor = Harbor::new(registry(&server.host(), credentials(caller)), options);
        let (mut entries, mut errors) = (Vec::new(), Vec::new());
        for found in harbor.entries(&filter) {
            match found {
                Ok(entry) => entries.push(entry.repository),
                Err(error) => errors.push(error),
            }
        }
        let of = |repository: &str| entries.iter().filter(|name| *name == repository).count();
        let coverage = harbor.coverage().unwrap();
        match caller {
            "wrong_password" => {
                assert!(matches!(&errors[..], [CatalogError::Login { .. }]), "{errors:?}");
                assert!(entries.is_empty() && !coverage.is_checked && coverage.listed.is_empty());
            }
            "anonymous" | "project_robot_pull_only" => {
                assert!(
                    matches!(&errors[..], [CatalogError::Project { project, .. }] if project == "proj"),
                    "{errors:?}"
                );
                assert_eq!((of("pub/app"), of("proj/a/b/c")), (2, 0), "{caller}");
            }
            _ => {
                assert!(errors.is_empty(), "{caller}: {errors:?}");
                assert_eq!((of("pub/app"), of("proj/a/b/c")), (2, 2), "{caller}");
                assert_eq!((coverage.login, coverage.is_checked), (LoginState::Accepted, true), "{caller}");
            }
        }
        let unrecorded: Vec<_> = server.requests_of("/api/").into_iter().map(|request| request.path).collect();
        let by = &recording("who-sees-what.json")[caller];
        assert!(unrecorded.iter().all(|path| seen(by, &path["/api/v2.0".len()..]).is_some()), "{unrecorded:?}");
    }
}

/// A client of a server that answers everything with one recorded answer.
fn client_of(recorded: &Value) -> (Server, Registry) {
    let answer = answer_of(recorded);
    let server = Server::answering(move |_, _| answer.clone());
    let client = registry(&server.host(), options());
    (server, client)
}

#[test]
fn recorded_pages_say_what_follows() {
    let mut pages = 0;
    for (name, recorded) in recording("listings.json").as_object().unwrap() {
        let Some((path, query)) = recorded["request"]["path"].as_str().unwrap_or_default().split_once('?') else {
            continue;
        };
        let answer = &recorded["answer"];
        if answer["status"] != 200 || !answer["body"].as_str().is_some_and(|body| body.starts_with('[')) {
            continue;
        }
        let header = |wanted: &str| {
            let headers = answer["headers"].as_array().unwrap();
            headers.iter().find(|pair| pair[0] == wanted).map(|pair| pair[1].as_str().unwrap().to_string())
        };
        let (_server, client) = client_of(answer);
        let query: Vec<(&str, &str)> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let page = client.page(path.trim_start_matches('/'), &query).unwrap();
        assert_eq!(page.total, header("X-Total-Count"), "{name}");
        let has_next = header("Link").is_some_and(|link| link.contains("rel=\"next\""));
        assert_eq!(page.has_next.unwrap(), has_next, "{name}");
        pages += 1;
    }
    assert!(pages > 15, "{pages}");
}

/// A Harbor with what the recorded one had.
fn stand_in() -> FullHarbor {
    let mut state = State::new();
    for (name, is_public) in [
        ("block", false),
        ("empty", false),
        ("hooks", false),
        ("lab", false),
        ("library", true),
        ("proj", false),
        ("pub", true),
    ] {
        state = state.project(name, is_public);
    }
    let layers = [served::clean_layer()];
    for name in ["chart", "untag", "gone", "nomt", "docker/v2s2", "multi", "a/b/c"] {
        state.push(&format!("proj/{name}:1"), &layers);
    }
    state.push("pub/app:1", &layers);
    for name in ["proj/a/b/c:2", "pub/app:2"] {
        state.push(name, &[served::clean_layer(), served::clean_layer()]);
    }
    let all = Account::robot("made-up", &[]).of_all();
    let state = state
        .account("admin", Account::user("made-up", &[]).of_all())
        .account("system_robot_all_projects", all)
        .account("system_robot_two_projects_no_system_right", Account::robot("made-up", &["lab", "proj"]))
        .account("project_robot", Account::robot("made-up", &["proj"]))
        .account("project_robot_pull_only", Account { may_list: false, ..Account::robot("made-up", &["proj"]) });
    FullHarbor::start(state)
}

#[test]
fn the_stand_in_sees_who_asks_as_the_real_one_does() {
    let harbor = stand_in();
    harbor.state().lock = std::time::Duration::ZERO;
    let (seen, mut compared) = (recording("who-sees-what.json"), 0);
    for caller in CALLERS {
        for (path, recorded) in seen[caller].as_object().unwrap() {
            // What the client does not use; and `lab` grew while it was recorded.
            let is_other =
                ["/repositories?", "/search", "/statistics", "/artifacts/1"].iter().any(|part| path.contains(part));
            if is_other && !path.starts_with("/projects/proj/repositories?")
                || path.starts_with("/projects/lab/repositories")
            {
                continue;
            }
            let password = if caller == "wrong_password" { "admin:wrong".into() } else { format!("{caller}:made-up") };
            let basic = (caller != "anonymous").then(|| format!("Basic {}", STANDARD.encode(password)));
            let answer = get(&harbor.host(), &format!("/api/v2.0{path}"), basic.as_deref());
            let (status, total) = (answer.status, answer.header("x-total-count"));
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(status, recorded["status"].as_u64().unwrap() as u16, "{caller} {path}: {body}");
            match recorded["names"].as_array() {
                Some(names) if path.contains("/artifacts") => {
                    // `multi` and `a/b/c` have what was pushed to them, by other digests.
                    assert_eq!(body.as_array().unwrap().len(), names.len(), "{caller} {path}");
                }
                Some(names) => {
                    let names: BTreeSet<&str> = names.iter().filter_map(Value::as_str).collect();
                    let found: BTreeSet<&str> =
                        body.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
                    assert_eq!(found, names, "{caller} {path}");
                    assert_eq!(total, recorded["x-total-count"].as_str(), "{caller} {path}");
                }
                None if status != 200 => {
                    let expected: Value = serde_json::from_str(recorded["body"].as_str().unwrap()).unwrap();
                    assert_eq!(body, expected, "{caller} {path}");
                }
                None => {}
            }
            compared += 1;
        }
    }
    assert!(compared > 90, "{compared}");
}

#[test]
fn the_stand_in_gives_tokens_as_the_real_one_does() {
    let harbor = stand_in();
    harbor.state().lock = std::time::Duration::ZERO;
    let api = recording("registry-api.json");
    for name in [
        "v2_anonymous",
        "v2_admin_basic",
        "v2_wrong_basic",
        "manifest_anonymous_private",
        "catalog_anonymous",
        "token_admin",
        "token_anonymous_public",
        "token_anonymous_private",
        "token_wrong_password",
        "token_wrong_password_no_scope",
        "token_anonymous_no_scope",
        "token_unknown_service",
        "manifest_unknown_project",
        "tags_unknown_project",
        "tags_unknown_repo",
        "blob_unknown",
    ] {
        let recorded = &api[name];
        let password = match recorded["request"]["headers"]["Authorization"].as_str() {
            Some(text) if text.contains("WRONG") => Some("wrong"),
            Some(text) if text.contains("Basic") => Some("made-up"),
            _ => None,
        };
        let basic = password.map(|password| format!("Basic {}", STANDARD.encode(format!("admin:{password}"))));
        let answer = get(&harbor.host(), recorded["request"]["path"].as_str().unwrap(), basic.as_deref());
        assert_eq!(answer.status, recorded["answer"]["status"].as_u64().unwrap() as u16, "{name}");
        let header = |wanted: &str| {
            let headers = recorded["answer"]["headers"].as_array().unwrap();
            headers.iter().find(|pair| pair[0] == wanted).map(|pair| pair[1].as_str().unwrap().to_string())
        };
        let challenge = answer.header("www-authenticate").map(str::to_string);
        let expected = header("Www-Authenticate").map(|text| text.replace("127.0.0.1:18000", &harbor.host()));
        assert_eq!(challenge, expected, "{name}");
        let Some(claims) = api.get(format!("{name}_claims")) else { continue };
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let payload = body["token"].as_str().unwrap().split('.').nth(1).unwrap().to_string();
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
        let given: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(given.get("sub"), claims.get("sub"), "{name}");
        let is_empty = |claims: &Value| claims["access"][0]["actions"].as_array().unwrap().is_empty();
        assert_eq!(is_empty(&given), is_empty(claims), "{name}");
    }
}
