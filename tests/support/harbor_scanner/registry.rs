//! The registry of the stand-in: tokens, manifests, blobs, and pulls that are refused (`registry-credentials.json` and
//! `policy-412-and-allowlist.json` of the recordings).

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::policy::refusal;
use super::state::{Grant, State};
use super::{Setup, Shared};
use crate::support::harbor::{decoded, error, parameter};
use crate::support::server::{Answer, Request};

/// Who asks.
#[derive(Clone, Debug)]
pub enum Caller {
    Stranger,
    /// The robot of a task, and its project.
    Scanner(String, String),
    /// A user or a robot of the operator.
    Known(String),
    Token(Grant),
}

/// A ready token for the robot of a task, and one repository.
pub fn scanner_token(state: &mut State, setup: &Setup, robot: &str, repository: &str) -> String {
    let project = state.robots[robot].project.clone();
    let access = json!([{ "type": "repository", "name": repository, "actions": ["pull", "scanner-pull"] }]);
    give(state, setup, Some(robot), access, BTreeSet::from([repository.to_string()]), Some(project))
}

fn give(
    state: &mut State,
    setup: &Setup,
    subject: Option<&str>,
    access: Value,
    repositories: BTreeSet<String>,
    scanner_of: Option<String>,
) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({
        "iss": "harbor-token-issuer", "aud": "harbor-registry", "exp": now + setup.token_lifetime.as_secs(),
        "nbf": now, "iat": now, "jti": state.number().to_string(), "access": access,
    });
    if let Some(subject) = subject {
        claims["sub"] = subject.into();
    }
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!("{}.{}.c2lnbmF0dXJl", encode(&json!({ "alg": "RS256", "typ": "JWT" })), encode(&claims));
    let until = Instant::now() + setup.token_lifetime;
    state.tokens.insert(token.clone(), Grant { repositories, scanner_of, until });
    token
}

impl Shared {
    /// Who asks. A wrong login is a stranger's.
    pub fn caller(&self, request: &Request) -> Caller {
        let header = request.header("authorization").unwrap_or_default();
        if let Some(token) = header.strip_prefix("Bearer ") {
            let grant = self.state().tokens.get(token).cloned().filter(|grant| grant.until > Instant::now());
            return grant.map_or(Caller::Stranger, Caller::Token);
        }
        let login = header.strip_prefix("Basic ").and_then(|text| STANDARD.decode(text).ok());
        let login = login.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        let (name, secret) = login.split_once(':').unwrap_or_default();
        if let Some(robot) = self.state().robots.get(name).filter(|robot| robot.secret == secret) {
            return Caller::Scanner(name.into(), robot.project.clone());
        }
        let harbor = self.harbor.state();
        match harbor.accounts.get(name).filter(|account| account.password == secret && !account.is_expired) {
            Some(_) => Caller::Known(name.into()),
            None => Caller::Stranger,
        }
    }

    /// Whether a caller may pull from a repository.
    pub fn may_pull(&self, caller: &Caller, repository: &str) -> bool {
        let project = repository.split('/').next().unwrap_or_default();
        if let Caller::Token(grant) = caller {
            return grant.repositories.contains(repository) || grant.scanner_of.as_deref() == Some(project);
        }
        if self.state().settings.get(project).is_some_and(|settings| settings.is_public) {
            return true;
        }
        match caller {
            Caller::Scanner(_, own) => own == project,
            Caller::Known(name) => {
                let harbor = self.harbor.state();
                harbor.accounts[name].projects.as_ref().is_none_or(|projects| projects.contains(project))
            }
            Caller::Stranger | Caller::Token(_) => false,
        }
    }

    /// The token service.
    pub fn token(&self, request: &Request, query: &str) -> Answer {
        if request.method != "GET" {
            return Answer::new(405, "");
        }
        let caller = self.caller(request);
        if parameter(query, "service").as_deref() != Some("harbor-registry") {
            return Answer::new(400, "Unable to handle service: other");
        }
        let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
        let scopes: Vec<String> = scopes.map(|scope| decoded(&scope.replace('+', " "))).collect();
        let scopes: Vec<&str> = scopes.iter().flat_map(|scope| scope.split(' ')).collect();
        if scopes.is_empty() && matches!(caller, Caller::Stranger) {
            return Answer::new(401, "");
        }
        let (subject, scanner_of) = match &caller {
            Caller::Scanner(name, project) => (Some(name.clone()), Some(project.clone())),
            Caller::Known(name) => (Some(name.clone()), None),
            Caller::Stranger | Caller::Token(_) => (None, None),
        };
        let (mut access, mut repositories) = (Vec::new(), BTreeSet::new());
        for scope in scopes {
            let mut parts = scope.splitn(2, ':');
            let kind = parts.next().unwrap_or_default();
            let name = parts.next().and_then(|rest| rest.rsplit_once(':')).map_or("", |(name, _)| name);
            let may = kind == "repository" && self.may_pull(&caller, name);
            let is_own = scanner_of.as_deref() == name.split('/').next();
            let actions = match (may, is_own) {
                (false, _) => vec![],
                (true, true) => vec!["pull", "scanner-pull"],
                (true, false) => vec!["pull"],
            };
            repositories.extend(may.then(|| name.to_string()));
            access.push(json!({ "type": kind, "name": name, "actions": actions }));
        }
        // A token opens all of the project only if it was asked for something there.
        let scanner_of = scanner_of.filter(|own| repositories.iter().any(|name| name.split('/').next() == Some(own)));
        let mut state = self.state();
        let token = give(&mut state, &self.setup, subject.as_deref(), access.into(), repositories, scanner_of);
        let lifetime = self.setup.token_lifetime.as_secs();
        Answer::new(200, json!({ "token": token, "access_token": "", "expires_in": lifetime }).to_string())
    }

    /// The registry's interface, below `/v2/`.
    pub fn registry(&self, request: &Request, path: &str) -> Answer {
        let caller = self.caller(request);
        if path.is_empty() {
            return match caller {
                Caller::Stranger => self.unauthorized(request, "unauthorized: unauthorized", None),
                _ => Answer::new(200, "{}"),
            };
        }
        if path.starts_with("_catalog") {
            let text = "unauthorized to list catalog: unauthorized to list catalog";
            return error(401, "UNAUTHORIZED", text).with("Www-Authenticate", "Basic realm=\"harbor\"");
        }
        let kinds = ["/manifests/", "/blobs/", "/tags/", "/referrers/"];
        let split = |kind: &&'static str| path.split_once(*kind).map(|(name, rest)| (name, *kind, rest));
        let Some((name, kind, rest)) = kinds.iter().find_map(split) else {
            return error(404, "NOT_FOUND", "not found");
        };
        if !self.may_pull(&caller, name) {
            let text = format!("unauthorized to access repository: {name}, action: pull");
            return self.unauthorized(request, &format!("{text}: {text}"), Some(name));
        }
        if !matches!(request.method.as_str(), "GET" | "HEAD") {
            return error(401, "UNAUTHORIZED", "unauthorized").with("Www-Authenticate", "Basic realm=\"harbor\"");
        }
        match kind {
            "/manifests/" => self.manifest(&caller, name, rest),
            "/blobs/" => self.blob(rest),
            "/tags/" => {
                let state = self.state();
                let artifacts = state.repositories.get(name).into_iter().flatten();
                let tags: BTreeSet<&String> = artifacts.flat_map(|(_, tags)| tags).collect();
                Answer::new(200, json!({ "name": name, "tags": tags }).to_string())
            }
            _ => {
                let index = "application/vnd.oci.image.index.v1+json";
                let body = json!({ "schemaVersion": 2, "mediaType": index, "manifests": [] });
                Answer::new(200, body.to_string()).with("Content-Type", index)
            }
        }
    }

    fn manifest(&self, caller: &Caller, repository: &str, reference: &str) -> Answer {
        let missing = || error(404, "NOT_FOUND", &format!("artifact {repository}:{reference} not found"));
        let Some(digest) = self.state().resolve(repository, reference) else { return missing() };
        let passes = matches!(caller, Caller::Token(Grant { scanner_of: Some(_), .. }));
        if let Some(text) = self.refused(repository, &digest).filter(|_| !passes) {
            let answer = error(412, "PROJECTPOLICYVIOLATION", &text);
            let body = [&answer.body[..], b"\n"].concat();
            return Answer { body, ..answer }.with("Content-Type", "application/json; charset=utf-8");
        }
        let state = self.state();
        let Some(image) = state.images.get(&digest) else { return missing() };
        Answer::new(200, image.manifest.to_vec())
            .with("Content-Type", &image.media_type)
            .with("Docker-Content-Digest", &digest)
    }

    /// Why a pull is refused to everyone but the scanner.
    pub fn refused(&self, repository: &str, digest: &str) -> Option<String> {
        let project = repository.split('/').next().unwrap_or_default();
        let settings = self.state().settings.get(project).cloned().unwrap_or_default();
        if !settings.prevent_vul {
            return None;
        }
        let image = self.state().images.get(digest).cloned()?;
        // Harbor asks whether the scanner takes the image for every pull, and remembers the answer for a while.
        let is_scannable = self.is_scannable(&image);
        refusal(&self.state(), &settings, digest, is_scannable)
    }

    fn blob(&self, digest: &str) -> Answer {
        let begun = Instant::now();
        while !self.is_open.load(std::sync::atomic::Ordering::Relaxed) && begun.elapsed() < self.setup.patience {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let found = self.state().blobs.get(digest).cloned();
        match found {
            Some(blob) => Answer::new(200, blob.to_vec()).with("Content-Type", "application/octet-stream"),
            None => error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
        }
    }

    /// Whoever showed a login is told to show another; whoever did not, where tokens are given.
    fn unauthorized(&self, request: &Request, text: &str, repository: Option<&str>) -> Answer {
        let is_logged_in = request.header("authorization").is_some();
        let scope = repository.map(|name| format!(",scope=\"repository:{name}:pull\"")).unwrap_or_default();
        let realm = format!("Bearer realm=\"{}/service/token\",service=\"harbor-registry\"{scope}", self.url());
        let challenge = if is_logged_in { "Basic realm=\"harbor\"" } else { &realm };
        error(401, "UNAUTHORIZED", text).with("Www-Authenticate", challenge)
    }
}
