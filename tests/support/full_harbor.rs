//! A stand-in for a whole Harbor, with accounts, tokens, listings and pulls, that answers as Harbor 2.16 was recorded:
//! `testdata/recordings/harbor/` has the recordings, and `tests/registry/recorded_harbor.rs` compares.
//!
//! A login that is not accepted is a stranger's: a wrong password, an expired robot, and a user who is locked for a
//! moment after anyone's wrong password.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use layersift_source::registry::{Credentials, Login, RegistryOptions};
use serde_json::{Value, json};

use super::harbor::{NO_USER, decoded, error, links, parameter};
use super::image::{self, Layer, MANIFEST};
use super::pull::options;
use super::server::{Answer, Request, Server};

/// Who may log in.
#[derive(Clone, Debug)]
pub struct Account {
    pub password: String,
    pub is_robot: bool,
    /// Projects whose images it may list and pull besides the public ones; `None` for all there are.
    pub projects: Option<BTreeSet<String>>,
    /// Projects that it sees in the list of projects only.
    pub may_list: bool,
    pub is_expired: bool,
    pub locked_until: Option<Instant>,
}

impl Account {
    /// A robot of these projects.
    pub fn robot(password: &str, projects: &[&str]) -> Account {
        let projects = Some(projects.iter().map(ToString::to_string).collect());
        Account {
            password: password.into(),
            is_robot: true,
            projects,
            may_list: true,
            is_expired: false,
            locked_until: None,
        }
    }

    /// A user who is a member of these projects.
    pub fn user(password: &str, projects: &[&str]) -> Account {
        Account { is_robot: false, ..Account::robot(password, projects) }
    }

    /// The same with every project.
    pub fn of_all(self) -> Account {
        Account { projects: None, ..self }
    }
}

/// An artifact as it was pushed.
#[derive(Clone, Debug)]
pub struct Artifact {
    pub digest: String,
    pub manifest: Vec<u8>,
    pub tags: BTreeSet<String>,
    /// Why it may not be pulled, in Harbor's words.
    pub blocked: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Project {
    pub is_public: bool,
    /// Repositories by their names without the project's. One that lost its artifacts stays listed.
    pub repositories: BTreeMap<String, Vec<Artifact>>,
}

/// What it has, and how it answers.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub projects: BTreeMap<String, Project>,
    pub accounts: BTreeMap<String, Account>,
    pub blobs: BTreeMap<String, Vec<u8>>,
    /// What each token that was given opens.
    pub tokens: HashMap<String, Grant>,
    /// How long a user is locked after a wrong password.
    pub lock: Duration,
    /// How long an answer takes.
    pub delay: Duration,
    /// Repositories, with their project, whose listing is answered so.
    pub answers: BTreeMap<String, Answer>,
    pub host: String,
}

#[derive(Clone, Debug)]
pub struct Grant {
    /// Projects whose repositories it opens.
    projects: BTreeSet<String>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Caller {
    Stranger,
    Known(String),
}

impl State {
    /// An empty Harbor that locks users as long as a real one.
    pub fn new() -> State {
        State { lock: Duration::from_millis(1_500), ..State::default() }
    }

    pub fn project(mut self, name: &str, is_public: bool) -> State {
        self.projects.entry(name.into()).or_default().is_public = is_public;
        self
    }

    pub fn account(mut self, name: &str, account: Account) -> State {
        self.accounts.insert(name.into(), account);
        self
    }

    /// Pushes the image of `layers` as `name`, such as `team/app:v1`; without a tag where the name has none. Returns
    /// the manifest's digest.
    pub fn push(&mut self, name: &str, layers: &[Layer]) -> String {
        let config = image::bytes(&image::config(layers));
        let manifest = image::bytes(&image::manifest(&config, layers));
        let blobs = layers.iter().map(|layer| layer.blob.clone()).chain([config]);
        self.blobs.extend(blobs.map(|blob| (image::digest(&blob), blob)));
        self.push_manifest(name, manifest)
    }

    /// Pushes a manifest whose blobs are there.
    pub fn push_manifest(&mut self, name: &str, manifest: Vec<u8>) -> String {
        let (name, tag) = name.split_once(':').map_or((name, None), |(name, tag)| (name, Some(tag)));
        let (project, name) = name.split_once('/').unwrap();
        let digest = image::digest(&manifest);
        let artifacts = self.projects.get_mut(project).unwrap().repositories.entry(name.into()).or_default();
        for artifact in artifacts.iter_mut() {
            artifact.tags.retain(|known| Some(&known[..]) != tag);
        }
        if !artifacts.iter().any(|artifact| artifact.digest == digest) {
            artifacts.push(Artifact { digest: digest.clone(), manifest, tags: BTreeSet::new(), blocked: None });
        }
        let artifact = artifacts.iter_mut().find(|artifact| artifact.digest == digest).unwrap();
        artifact.tags.extend(tag.map(str::to_string));
        digest
    }

    pub fn artifacts(&mut self, name: &str) -> &mut Vec<Artifact> {
        let (project, name) = name.split_once('/').unwrap();
        self.projects.get_mut(project).unwrap().repositories.get_mut(name).unwrap()
    }

    fn caller(&mut self, request: &Request) -> Caller {
        let pair = request.header("authorization").and_then(|value| value.strip_prefix("Basic "));
        let pair = pair.and_then(|pair| String::from_utf8(STANDARD.decode(pair).unwrap()).ok());
        let Some((name, password)) = pair.as_deref().and_then(|pair| pair.split_once(':')) else {
            return Caller::Stranger;
        };
        let (lock, now) = (self.lock, Instant::now());
        let Some(account) = self.accounts.get_mut(name) else { return Caller::Stranger };
        // Harbor looks at the lock first, and a robot is never locked.
        if !account.is_robot && account.locked_until.is_some_and(|until| now < until) {
            return Caller::Stranger;
        }
        if account.password != password {
            account.locked_until = Some(now + lock);
            return Caller::Stranger;
        }
        if account.is_expired { Caller::Stranger } else { Caller::Known(name.into()) }
    }

    /// Whether a caller may list and pull what is in a project.
    fn may_see(&self, caller: &Caller, project: &str) -> bool {
        let Some(found) = self.projects.get(project) else { return false };
        found.is_public || self.is_member(caller, project)
    }

    fn is_member(&self, caller: &Caller, project: &str) -> bool {
        let Caller::Known(name) = caller else { return false };
        let account = self.accounts.get(name);
        account.is_some_and(|account| account.projects.as_ref().is_none_or(|projects| projects.contains(project)))
    }

    fn may_list(&self, caller: &Caller, project: &str) -> bool {
        let Caller::Known(name) = caller else { return self.may_see(caller, project) };
        let is_public = self.projects.get(project).is_some_and(|found| found.is_public);
        is_public || (self.may_see(caller, project) && self.accounts.get(name).is_some_and(|account| account.may_list))
    }

    fn answer(&mut self, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let (path, query) = (path.to_string(), query.to_string());
        if path == "/service/token" {
            return self.token(request, &query);
        }
        match path.strip_prefix("/api/v2.0") {
            Some(path) => {
                let caller = self.caller(request);
                self.api(&caller, request, path, &query)
            }
            None => self.registry(request, &path),
        }
    }

    /// The interface of its own.
    fn api(&self, caller: &Caller, request: &Request, path: &str, query: &str) -> Answer {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let not_found = || error(404, "NOT_FOUND", &format!("path {} was not found", "/api/v2.0".to_string() + path));
        match parts.as_slice() {
            ["users", "current"] => match caller {
                Caller::Stranger => error(401, "UNAUTHORIZED", "unauthorized"),
                Caller::Known(name) if self.accounts[name].is_robot => error(412, "PRECONDITION", NO_USER),
                Caller::Known(name) => Answer::new(200, json!({ "username": name, "user_id": 7 }).to_string()),
            },
            ["projects"] => {
                let seen = self.projects.iter().filter(|(name, _)| self.may_see(caller, name));
                let one = |(name, project): (&String, &Project)| {
                    let public = project.is_public.to_string();
                    json!({ "name": name, "metadata": { "public": public }, "repo_count": project.repositories.len() })
                };
                page(request, query, seen.map(one).collect())
            }
            ["projects", project, rest @ ..] => {
                let is_known = matches!(
                    rest,
                    [] | ["repositories"]
                        | ["repositories", _]
                        | ["repositories", _, "artifacts"]
                        | ["repositories", _, "artifacts", _]
                );
                if !is_known {
                    return not_found();
                }
                if rest.is_empty() {
                    return self.project_itself(caller, project);
                }
                if !self.may_list(caller, project) {
                    return match caller {
                        Caller::Stranger => error(401, "UNAUTHORIZED", "unauthorized"),
                        Caller::Known(_) => error(403, "FORBIDDEN", "forbidden"),
                    };
                }
                self.repositories(request, project, &rest[1..], query).unwrap_or_else(not_found)
            }
            _ => not_found(),
        }
    }

    fn project_itself(&self, caller: &Caller, project: &str) -> Answer {
        let found = self.projects.get(project).filter(|_| self.may_see(caller, project));
        let is_robot = matches!(caller, Caller::Known(name) if self.accounts[name].is_robot);
        match (found, caller) {
            // No robot may read a private project itself.
            (Some(found), _) if found.is_public || !is_robot => {
                Answer::new(200, json!({ "name": project }).to_string())
            }
            (_, Caller::Stranger) => error(401, "UNAUTHORIZED", "unauthorized"),
            (None, Caller::Known(name)) if self.accounts[name].projects.is_none() && !is_robot => {
                error(404, "NOT_FOUND", &format!("project {project} not found"))
            }
            _ => error(403, "FORBIDDEN", "forbidden"),
        }
    }

    fn repositories(&self, request: &Request, project: &str, parts: &[&str], query: &str) -> Option<Answer> {
        let found = self.projects.get(project)?;
        let none = Vec::new();
        let named = |name: &str| {
            let name = decoded(&decoded(name));
            let altered = self.answers.get(&format!("{project}/{name}"));
            (found.repositories.get(&name), altered.cloned(), name)
        };
        Some(match parts {
            [] => {
                let one = |(name, artifacts): (&String, &Vec<Artifact>)| json!({ "name": format!("{project}/{name}"), "artifact_count": artifacts.len() });
                page(request, query, found.repositories.iter().map(one).collect())
            }
            [name] => match named(name) {
                (Some(artifacts), _, name) => {
                    let name = format!("{project}/{name}");
                    Answer::new(200, json!({ "name": name, "artifact_count": artifacts.len() }).to_string())
                }
                (None, _, name) => error(404, "NOT_FOUND", &format!("repository {project}/{name} not found")),
            },
            [name, "artifacts"] => match named(name) {
                (_, Some(altered), _) => altered,
                // An unknown repository is as good as an empty one.
                (artifacts, None, _) => {
                    page(request, query, artifacts.unwrap_or(&none).iter().rev().map(Artifact::json).collect())
                }
            },
            [name, "artifacts", digest] => match named(name) {
                (Some(artifacts), ..) if artifacts.iter().any(|artifact| artifact.digest == *digest) => {
                    Answer::new(200, json!({ "digest": digest }).to_string())
                }
                (.., name) => error(404, "NOT_FOUND", &format!("artifact {project}/{name}@{digest} not found")),
            },
            _ => return None,
        })
    }

    /// The token service. A login that is not accepted gets a token for nothing, if it asks for something.
    fn token(&mut self, request: &Request, query: &str) -> Answer {
        let caller = self.caller(request);
        if parameter(query, "service").as_deref() != Some("harbor-registry") {
            return Answer::new(400, "Unable to handle service: other");
        }
        let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
        let scopes: Vec<String> = scopes
            .flat_map(|scope| decoded(&scope.replace('+', " ")).split(' ').map(String::from).collect::<Vec<_>>())
            .collect();
        if scopes.is_empty() && caller == Caller::Stranger {
            return Answer::new(401, "");
        }
        let mut access = Vec::new();
        let mut projects = BTreeSet::new();
        for scope in &scopes {
            let Some(name) = scope.strip_prefix("repository:").and_then(|rest| rest.strip_suffix(":pull")) else {
                continue;
            };
            let project = name.split('/').next().unwrap();
            let may = self.may_see(&caller, project);
            projects.extend(may.then(|| project.to_string()));
            access.push(
                json!({ "type": "repository", "name": name, "actions": if may { vec!["pull"] } else { vec![] } }),
            );
        }
        let mut claims = json!({ "iss": "harbor-token-issuer", "aud": "harbor-registry", "access": access });
        if let Caller::Known(name) = &caller {
            claims["sub"] = name.as_str().into();
        }
        claims["jti"] = self.tokens.len().into();
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let token = format!("{}.{}.c2lnbmF0dXJl", encode(&json!({ "alg": "RS256" })), encode(&claims));
        self.tokens.insert(token.clone(), Grant { projects });
        Answer::new(200, json!({ "token": token, "access_token": "", "expires_in": 1800 }).to_string())
    }

    /// The registry, by the distribution-spec.
    fn registry(&mut self, request: &Request, path: &str) -> Answer {
        let path = path.strip_prefix("/v2/").unwrap();
        let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).map(String::from);
        let grant = bearer.as_ref().and_then(|token| self.tokens.get(token).cloned());
        let caller = self.caller(request);
        let is_basic = request.header("authorization").is_some_and(|value| value.starts_with("Basic "));
        if path.is_empty() {
            return match (&caller, &grant) {
                (Caller::Known(_), _) | (_, Some(_)) => Answer::new(200, "{}"),
                _ if is_basic => unauthorized("unauthorized: unauthorized", "Basic realm=\"harbor\""),
                _ => unauthorized("unauthorized: unauthorized", &self.challenge(None)),
            };
        }
        if path.starts_with("_catalog") {
            let text = "unauthorized to list catalog: unauthorized to list catalog";
            return match &caller {
                Caller::Known(name) if self.accounts[name].projects.is_none() => {
                    let names = self.projects.iter().flat_map(|(project, found)| {
                        found.repositories.keys().map(move |name| format!("{project}/{name}"))
                    });
                    Answer::new(200, json!({ "repositories": names.collect::<Vec<_>>() }).to_string())
                }
                _ => unauthorized(text, "Basic realm=\"harbor\""),
            };
        }
        let kinds = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
        let (name, kind, rest) =
            kinds.iter().find_map(|kind| path.split_once(kind).map(|(name, rest)| (name, *kind, rest))).unwrap();
        let (project, inside) = name.split_once('/').unwrap();
        let may = match &grant {
            Some(grant) => grant.projects.contains(project),
            None => caller != Caller::Stranger && self.may_see(&caller, project),
        };
        if !self.projects.contains_key(project) && (caller != Caller::Stranger || grant.is_some()) {
            return unauthorized(&format!("project {project} not found: project {project} not found"), "");
        }
        if !may {
            return unauthorized("authorize header needed", &self.challenge(Some(name)));
        }
        let artifacts = self.projects[project].repositories.get(inside);
        match kind {
            "/manifests/" => match artifacts.and_then(|all| all.iter().find(|artifact| artifact.is_at(rest))) {
                Some(Artifact { blocked: Some(text), .. }) => error(412, "PROJECTPOLICYVIOLATION", text),
                Some(artifact) => Answer::new(200, artifact.manifest.clone())
                    .with("Content-Type", MANIFEST)
                    .with("Docker-Content-Digest", &artifact.digest),
                None => error(404, "NOT_FOUND", &format!("artifact {name}:{rest} not found")),
            },
            "/blobs/" => match self.blobs.get(rest) {
                Some(blob) => Answer::new(200, blob.clone()).with("Content-Type", "application/octet-stream"),
                None => error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
            },
            // Also for what is not there (`registry-api.json`).
            "/referrers/" => {
                let none = image::bytes(&image::index(&[]));
                Answer::new(200, none).with("Content-Type", image::INDEX)
            }
            _ => match artifacts {
                Some(artifacts) => {
                    let tags: BTreeSet<&String> = artifacts.iter().flat_map(|artifact| &artifact.tags).collect();
                    Answer::new(200, json!({ "name": name, "tags": tags }).to_string())
                }
                None => error(404, "NOT_FOUND", &format!("repository {name} not found")),
            },
        }
    }

    fn challenge(&self, repository: Option<&str>) -> String {
        let scope = repository.map(|name| format!(",scope=\"repository:{name}:pull\"")).unwrap_or_default();
        format!("Bearer realm=\"http://{}/service/token\",service=\"harbor-registry\"{scope}", self.host)
    }
}

impl Artifact {
    fn json(&self) -> Value {
        let tags: Vec<Value> = self.tags.iter().map(|tag| json!({ "name": tag })).collect();
        json!({
            "digest": self.digest, "type": "IMAGE", "push_time": "2026-01-01T00:00:00.000Z",
            "tags": if tags.is_empty() { Value::Null } else { tags.into() },
        })
    }

    fn is_at(&self, reference: &str) -> bool {
        self.digest == reference || self.tags.contains(reference)
    }
}

fn unauthorized(message: &str, challenge: &str) -> Answer {
    error(401, "UNAUTHORIZED", message).with("Www-Authenticate", challenge)
}

fn page(request: &Request, query: &str, all: Vec<Value>) -> Answer {
    let number =
        |name: &str, otherwise| parameter(query, name).map_or(otherwise, |text| text.parse::<usize>().unwrap());
    let (page, size) = (number("page", 1), number("page_size", 10));
    if size > 100 {
        let text = "validation failure list:\npage_size in query should be less than or equal to 100";
        return error(422, "UNPROCESSABLE_ENTITY", text);
    }
    let items: Vec<&Value> = all.iter().skip((page - 1) * size).take(size).collect();
    let answer = Answer::new(200, json!(items).to_string()).with("X-Total-Count", &all.len().to_string());
    match links(&request.path, page, page * size < all.len()) {
        links if links.is_empty() => answer,
        links => answer.with("Link", &links),
    }
}

/// A Harbor that is running.
pub struct FullHarbor {
    pub server: Server,
    state: Arc<Mutex<State>>,
}

impl FullHarbor {
    pub fn start(state: State) -> FullHarbor {
        FullHarbor::changing(state, |_, _| {})
    }

    /// A Harbor that `change` is called for before each answer.
    pub fn changing(state: State, change: impl Fn(&mut State, &Request) + Send + Sync + 'static) -> FullHarbor {
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let server = Server::answering(move |request, _| {
            let delay = shared.lock().unwrap().delay;
            if !delay.is_zero() {
                std::thread::sleep(delay);
            }
            let mut state = shared.lock().unwrap();
            state.host = request.header("host").unwrap().to_string();
            change(&mut state, request);
            state.answer(request)
        });
        FullHarbor { server, state }
    }

    pub fn host(&self) -> String {
        self.server.host()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// The options of a login, which is given up after 200 milliseconds.
pub fn login(user: &str, password: &str) -> RegistryOptions {
    let credentials = Credentials::Password { user: user.into(), password: password.into() };
    RegistryOptions { login: Login::As(credentials), login_patience: Duration::from_millis(200), ..options() }
}
