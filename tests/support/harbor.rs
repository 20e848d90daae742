//! A stand-in for Harbor: its listings, its robots and its scans, as its sources have them, and images that come and go
//! meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use layersift_model::Digest;
use layersift_source::registry::{Credentials, Login, Registry, RegistryOptions};
use serde_json::{Value, json};

use super::pull::options;
use super::server::{Answer, Request, Server};

/// The robot that may list, and its secret.
pub const ROBOT: (&str, &str) = ("robot$sweep", "made-up-secret");

/// What Harbor answers a robot that asks who it is.
pub const NO_USER: &str = "get current user not available for security context: robot";

/// 2026-01-01T00:00:00Z.
pub const NEW_YEAR: i64 = 1_767_225_600;

#[derive(Clone, Debug)]
pub struct Artifact {
    pub digest: Digest,
    pub kind: Option<&'static str>,
    pub tags: Vec<String>,
    /// Seconds after the beginning of 2026, less than 28 days.
    pub pushed: i64,
}

impl Artifact {
    /// An image whose digest and tag come from `name`.
    pub fn image(name: &str, pushed: i64) -> Artifact {
        let digest = Digest::of(name.as_bytes());
        Artifact { digest, kind: Some("IMAGE"), tags: vec![format!("t-{name}")], pushed }
    }

    fn json(&self, id: usize) -> Value {
        let tags: Vec<Value> =
            self.tags.iter().map(|tag| json!({ "id": 7, "name": tag, "immutable": false })).collect();
        let mut all = json!({
            "id": id, "digest": self.digest.to_string(), "media_type": "made up", "size": 12_345,
            "push_time": time(self.pushed) + ".123Z", "references": null, "extra_attrs": { "os": "linux" },
            "tags": if tags.is_empty() { Value::Null } else { tags.into() },
        });
        if let Some(kind) = self.kind {
            all["type"] = kind.into();
        }
        all
    }
}

#[derive(Clone, Debug, Default)]
pub struct Project {
    pub proxy_cache: bool,
    /// Repositories by their names without the project's. `None` is one that has been deleted since it was listed.
    pub repositories: BTreeMap<String, Option<Vec<Artifact>>>,
}

/// What a Harbor has, and how it answers.
#[derive(Clone, Debug)]
pub struct State {
    pub projects: BTreeMap<String, Project>,
    /// Items of a page at most.
    pub most: usize,
    /// Whether pages have `Link` and `X-Total-Count`.
    pub links: bool,
    pub totals: bool,
    /// Whether `q` is known.
    pub queries: bool,
    /// What a scan is answered with.
    pub scan: u16,
}

impl Default for State {
    fn default() -> State {
        State { projects: BTreeMap::new(), most: 100, links: true, totals: true, queries: true, scan: 202 }
    }
}

impl State {
    /// A repository, such as `team/a/b`, with these artifacts.
    pub fn with(mut self, name: &str, artifacts: Vec<Artifact>) -> State {
        self.put(name, artifacts);
        self
    }

    pub fn put(&mut self, name: &str, artifacts: Vec<Artifact>) {
        let (project, rest) = name.split_once('/').unwrap();
        self.projects.entry(project.into()).or_default().repositories.insert(rest.into(), Some(artifacts));
    }

    pub fn artifacts(&mut self, name: &str) -> &mut Vec<Artifact> {
        let (project, rest) = name.split_once('/').unwrap();
        self.projects.get_mut(project).unwrap().repositories.get_mut(rest).unwrap().as_mut().unwrap()
    }

    fn answer(&self, request: &Request) -> Answer {
        let robot = format!("Basic {}", STANDARD.encode(format!("{}:{}", ROBOT.0, ROBOT.1)));
        if request.header("authorization") != Some(&robot) {
            let answer = error(401, "UNAUTHORIZED", "unauthorized");
            // Only the registry's own interface says how to log in.
            let is_registrys = request.path.starts_with("/v2/");
            return if is_registrys { answer.with("WWW-Authenticate", "Basic realm=\"harbor\"") } else { answer };
        }
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        match path {
            "/v2/" => return Answer::new(200, "{}"),
            "/api/v2.0/users/current" => return error(412, "PRECONDITION", NO_USER),
            _ => {}
        }
        let Some(path) = path.strip_prefix("/api/v2.0/projects") else {
            return error(
                412,
                "PROJECTPOLICYVIOLATION",
                "current image without vulnerability scanning cannot be pulled",
            );
        };
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let repository = |project: &str, name: &str| {
            assert!(!name.contains("%2F"), "a slash that is encoded once is decoded by whatever stands in front");
            self.projects.get(project)?.repositories.get(&decoded(&decoded(name)))?.as_ref()
        };
        let missing = || error(404, "NOT_FOUND", "not found");
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", []) => {
                let one = |(name, project): (&String, &Project)| match project.proxy_cache {
                    true => json!({ "name": name, "project_id": 1, "registry_id": 3 }),
                    false => json!({ "name": name, "project_id": 1, "metadata": { "public": "false" } }),
                };
                self.page(request, query, self.projects.iter().map(one).collect())
            }
            ("GET", [project, "repositories"]) => match self.projects.get(*project) {
                None => error(403, "FORBIDDEN", "forbidden"),
                Some(found) => {
                    let one = |(name, artifacts): (&String, &Option<Vec<Artifact>>)| {
                        let count = artifacts.as_ref().map_or(1, Vec::len);
                        json!({ "name": format!("{project}/{name}"), "artifact_count": count })
                    };
                    self.page(request, query, found.repositories.iter().map(one).collect())
                }
            },
            ("GET", [project, "repositories", name]) => match repository(project, name) {
                None => missing(),
                Some(artifacts) => {
                    Answer::new(200, json!({ "name": name, "artifact_count": artifacts.len() }).to_string())
                }
            },
            ("GET", [project, "repositories", name, "artifacts"]) => match repository(project, name) {
                None => missing(),
                Some(artifacts) => self.page(request, query, self.listed(artifacts, query)),
            },
            ("POST", [project, "repositories", name, "artifacts", digest, "scan"]) => {
                let found = repository(project, name)
                    .is_some_and(|all| all.iter().any(|artifact| artifact.digest.to_string() == *digest));
                match self.scan {
                    _ if !found => missing(),
                    202 => Answer::new(202, ""),
                    status => error(status, "CONFLICT", "made up"),
                }
            }
            _ => missing(),
        }
    }

    fn listed(&self, artifacts: &[Artifact], query: &str) -> Vec<Value> {
        assert!(parameter(query, "sort").unwrap().starts_with("-push_time"), "newest first");
        let with_tag = parameter(query, "with_tag").as_deref() == Some("true");
        let since = parameter(query, "q").filter(|_| self.queries).map(|q| {
            let since = q.strip_prefix("push_time=[").and_then(|rest| rest.strip_suffix("~]"));
            since.unwrap_or_else(|| panic!("no query that Harbor knows: {q}")).to_string()
        });
        let is_wanted = |artifact: &&Artifact| since.as_ref().is_none_or(|since| time(artifact.pushed) >= *since);
        let mut artifacts: Vec<&Artifact> = artifacts.iter().filter(is_wanted).collect();
        artifacts.sort_by_key(|artifact| -artifact.pushed);
        let json = |(id, artifact): (usize, &Artifact)| {
            let mut value = artifact.json(id);
            if !with_tag {
                value["tags"] = Value::Null;
            }
            value
        };
        artifacts.into_iter().enumerate().map(json).collect()
    }

    fn page(&self, request: &Request, query: &str, all: Vec<Value>) -> Answer {
        let number = |name: &str| parameter(query, name).unwrap().parse::<usize>().unwrap();
        let (page, size) = (number("page"), number("page_size"));
        if size > 100 || page == 0 {
            return error(422, "UNPROCESSABLE_ENTITY", "page_size in query should be less than or equal to 100");
        }
        let size = size.min(self.most);
        let items: Vec<&Value> = all.iter().skip((page - 1) * size).take(size).collect();
        let mut answer = Answer::new(200, json!(items).to_string());
        if self.totals {
            answer = answer.with("X-Total-Count", &all.len().to_string());
        }
        if self.links {
            answer = answer.with("Link", &links(&request.path, page, page * size < all.len()));
        }
        answer
    }
}

/// A Harbor that is running.
pub struct Harbor {
    pub server: Server,
    state: Arc<Mutex<State>>,
}

impl Harbor {
    pub fn start(state: State) -> Harbor {
        Harbor::changing(state, |_, _, _| {})
    }

    /// A Harbor that `change` is called for before each answer, told how many requests came before for the same path.
    pub fn changing(state: State, change: impl Fn(&mut State, &Request, usize) + Send + Sync + 'static) -> Harbor {
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let server = Server::answering(move |request, before| {
            let mut state = shared.lock().unwrap();
            change(&mut state, request, before);
            state.answer(request)
        });
        Harbor { server, state }
    }

    pub fn state(&self) -> State {
        self.state.lock().unwrap().clone()
    }
}

/// The robot's options.
pub fn robot() -> RegistryOptions {
    let credentials = Credentials::Password { user: ROBOT.0.into(), password: ROBOT.1.into() };
    RegistryOptions { login: Login::As(credentials), ..options() }
}

/// A registry that the robot asks.
pub fn registry(server: &Server) -> Registry {
    super::pull::registry(&server.host(), robot())
}

/// A parameter of a query, decoded.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    let query = query.split_once('?').map_or(query, |(_, query)| query);
    let values = query.split('&').filter_map(|pair| pair.split_once('='));
    values.into_iter().find(|(known, _)| *known == name).map(|(_, value)| decoded(&value.replace('+', " ")))
}

/// An error as Harbor writes it.
pub fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::new(status, json!({ "errors": [{ "code": code, "message": message }] }).to_string())
}

/// As Harbor writes them: relative, and with its query not escaped.
pub fn links(path: &str, page: usize, more: bool) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let to = |page: usize, rel: &str| {
        let others: Vec<String> = decoded(query)
            .split('&')
            .filter(|pair| !pair.starts_with("page="))
            .map(str::to_string)
            .chain([format!("page={page}")])
            .collect();
        format!("<{path}?{}>; rel=\"{rel}\"", others.join("&"))
    };
    let links = [(page > 1).then(|| to(page - 1, "prev")), more.then(|| to(page + 1, "next"))];
    links.into_iter().flatten().collect::<Vec<_>>().join(" , ")
}

fn time(pushed: i64) -> String {
    let (days, rest) = (pushed / 86_400, pushed % 86_400);
    assert!((0..28).contains(&days));
    format!("2026-01-{:02}T{:02}:{:02}:{:02}", days + 1, rest / 3_600, rest / 60 % 60, rest % 60)
}

pub fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}
