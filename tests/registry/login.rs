//! Authentication: tokens, passwords and stored credentials, against Debian's `docker-registry` and a token server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::support::fault_proxy::{self, Fault};
use crate::support::pull::{Pulled, options, pull, registry, registry_error, source};
use crate::support::registry::{self as real, Registry, Setup};
use crate::support::server::{Answer, Server};
use crate::support::token_server::{IDENTITY, Manners, PASSWORD, TokenServer, USER};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use layersift_format::SourceError;
use layersift_model::Digest;
use layersift_source::registry::{At, AuthenticationError, Credentials, Login, RegistryError, RegistryOptions};

fn password(user: &str, password: &str) -> Login {
    Login::As(Credentials::Password { user: user.into(), password: password.into() })
}

fn identity(user: &str, token: &str) -> Login {
    Login::As(Credentials::IdentityToken { user: user.into(), token: token.into() })
}

/// A registry that believes a token service, with an image.
struct Subject {
    tokens: TokenServer,
    server: Registry,
    /// Tokens that the push took.
    before: usize,
}

impl Subject {
    fn new(manners: Manners) -> Subject {
        let tokens = TokenServer::start(manners);
        let server = Setup::default().token(&tokens.realm(), &tokens.certificate()).start();
        server.push("team/app:v1", &["--dest-tls-verify=false", &format!("--dest-creds={USER}:{PASSWORD}")]);
        let before = tokens.given();
        Subject { tokens, server, before }
    }

    fn pull(&self, login: Login) -> Result<Pulled, SourceError> {
        pull(&source(&format!("{}/team/app:v1", self.server.host()), RegistryOptions { login, ..options() }))
    }

    /// Tokens that were given since the push.
    fn given(&self) -> usize {
        self.tokens.given() - self.before
    }
}

#[test]
fn a_token_for_anyone_is_used_for_the_whole_image() {
    let subject = Subject::new(Manners::default());
    assert!(subject.pull(Login::Anonymous).unwrap().layers.len() > 1);
    assert_eq!(subject.given(), 1);
    let asked = subject.tokens.server.requests().pop().unwrap();
    assert!(asked.path.ends_with("?service=made-up-registry&scope=repository%3Ateam%2Fapp%3Apull"), "{}", asked.path);
    assert!(asked.header("authorization").is_none());
}

#[test]
fn a_token_for_a_user() {
    let subject = Subject::new(Manners { wants_login: true, ..Manners::default() });
    subject.pull(password(USER, PASSWORD)).unwrap();
    for (login, advice) in [(Login::Anonymous, "; log in"), (password(USER, "made-up-wrong"), "; log in again")] {
        let error = registry_error(subject.pull(login));
        assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
        let message = error.to_string();
        assert!(message.ends_with(advice) || message.contains("log in"), "{message}");
        assert!(!format!("{error} {error:?}").contains("made-up-wrong"), "{error:?}");
    }
}

#[test]
fn an_identity_token() {
    let subject = Subject::new(Manners { wants_login: true, ..Manners::default() });
    subject.pull(identity("", IDENTITY)).unwrap();
    let asked = subject.tokens.server.requests().pop().unwrap();
    assert_eq!(asked.method, "POST");
    assert!(!asked.path.contains(IDENTITY) && asked.header("authorization").is_none(), "{asked:?}");
    let error = registry_error(subject.pull(identity("", "made-up-wrong")));
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
}

#[test]
fn an_identity_token_where_it_is_only_a_password() {
    let subject = Subject::new(Manners { wants_login: true, no_oauth: true, ..Manners::default() });
    subject.pull(identity(USER, IDENTITY)).unwrap();
    let error = registry_error(subject.pull(identity("", IDENTITY)));
    assert_eq!(error.status(), Some(404), "{error}");
}

#[test]
fn a_token_that_expires_in_the_middle_of_a_blob() {
    let subject = Subject::new(Manners::default());
    let image = subject.pull(Login::Anonymous).unwrap();
    let (digest, bytes) = image.layers.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().clone();
    let challenge = format!(
        "Bearer realm=\"{}\",service=\"made-up-registry\",scope=\"repository:team/app:pull\",error=\"invalid_token\"",
        subject.tokens.realm()
    );
    let path = format!("/v2/team/app/blobs/{digest}");
    let proxy = fault_proxy::start(subject.server.port, move |request, before| match before {
        _ if request.path != path => Fault::None,
        1 => Fault::Cut(64),
        2 => Fault::Answer(Answer::new(401, "").with("WWW-Authenticate", &challenge)),
        _ => Fault::None,
    });
    let before = subject.tokens.given();
    let asked = registry(&proxy.host(), options());
    let mut read = Vec::new();
    std::io::copy(&mut asked.blob("team/app", &digest, Some(bytes.len() as u64)).unwrap(), &mut read).unwrap();
    assert_eq!(read, bytes);
    assert_eq!(subject.tokens.given() - before, 2);
    let requests = proxy.requests();
    assert_eq!(requests.last().unwrap().header("range"), Some("bytes=64-"));
    let used: Vec<_> = requests.iter().map(|request| request.header("authorization")).collect();
    assert_ne!(used[used.len() - 1], used[used.len() - 2], "the second token is another one");
}

#[test]
fn a_service_whose_tokens_have_expired_when_they_come() {
    let tokens = TokenServer::start(Manners { expired: usize::MAX, ..Manners::default() });
    let server = Setup::default().token(&tokens.realm(), &tokens.certificate()).start();
    let error = registry_error(pull(&source(&format!("{}/team/app:v1", server.host()), options())));
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
    assert_eq!(tokens.given(), 1);
}

#[test]
fn a_token_that_is_said_to_expire_is_not_used_again() {
    let service = Server::answering(|_, before| {
        Answer::new(200, format!(r#"{{"token": "made-up-{before}", "expires_in": 86400}}"#))
    });
    let realm = format!("http://{}/token", service.host());
    let challenge = format!("Bearer realm=\"{realm}\",service=\"made-up\"");
    let server = Server::answering(move |request, _| match request.header("authorization") {
        Some("Bearer made-up-0") if request.path.ends_with("/a") => Answer::new(200, "{}"),
        Some("Bearer made-up-1") => Answer::new(200, "{}"),
        _ => Answer::new(401, "").with("WWW-Authenticate", &challenge),
    });
    let asked = registry(&server.host(), options());
    // The first token does for `a`, is refused for `b`, and the second one is kept.
    for tag in ["a", "b", "b", "a"] {
        asked.manifest("app", &At::Tag(tag.into())).unwrap();
    }
    assert_eq!(service.requests().len(), 2);
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn the_catalog_has_a_scope_of_its_own() {
    let subject = Subject::new(Manners::default());
    let asked = registry(&subject.server.host(), options());
    let names: Result<Vec<String>, _> = asked.repositories().collect();
    assert_eq!(names.unwrap(), ["team/app"]);
    let tags: Result<Vec<String>, _> = asked.tags("team/app").unwrap().collect();
    assert_eq!(tags.unwrap(), ["v1"]);
    let requests = subject.tokens.server.requests();
    let scopes: Vec<&str> =
        requests.iter().rev().take(2).filter_map(|r| r.path.split_once("&scope=")).map(|s| s.1).collect();
    assert_eq!(scopes, ["repository%3Ateam%2Fapp%3Apull", "registry%3Acatalog%3A*"]);
}

#[test]
fn many_threads_share_one_token() {
    let subject = Subject::new(Manners::default());
    let asked = registry(&subject.server.host(), options());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let asked = asked.clone();
            scope.spawn(move || asked.manifest("team/app", &At::Tag("v1".into())).unwrap());
        }
    });
    assert_eq!(subject.given(), 1);
}

#[test]
fn credentials_go_to_no_service_that_is_not_trusted() {
    let stranger = Server::answering(|_, _| Answer::new(200, r#"{"token":"made-up"}"#));
    let realms = [
        format!("http://localhost:{}/token", stranger.port),
        "http://169.254.169.254/token".into(),
        "https://169.254.169.254/token".into(),
        "https://[fe80::1]/token".into(),
        "https://10.0.0.1/token".into(),
        format!("http://user:made-up@{}/token", stranger.host()),
        "ftp://127.0.0.1/token".into(),
        "/token".into(),
        String::new(),
    ];
    for realm in realms {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
        let server = Server::answering(move |_, _| Answer::new(401, "").with("WWW-Authenticate", &challenge));
        let login = password("someone", "made-up");
        let asked = registry(&server.host(), RegistryOptions { login, ..options() });
        let error = asked.manifest("app", &At::Tag("v1".into())).unwrap_err();
        let refused = matches!(error, RegistryError::Refused { .. } | RegistryError::Protocol { .. });
        assert!(refused && !error.to_string().contains("made-up"), "{realm}: {error}");
        assert_eq!(server.requests().len(), 1);
    }
    assert!(stranger.requests().is_empty());
}

#[test]
fn what_a_token_service_may_answer() {
    let with = |answer: Answer| {
        let service = Server::answering(move |_, _| answer.clone());
        let challenge = format!("Bearer realm=\"http://{}/token?kept=1\"", service.host());
        let server = Server::answering(move |request, _| match request.header("authorization") {
            Some("Bearer made-up") => Answer::new(200, "{}"),
            _ => Answer::new(401, "").with("WWW-Authenticate", &challenge),
        });
        let result = registry(&server.host(), options()).manifest("app", &At::Tag("v1".into()));
        (result, service.requests())
    };
    let (result, asked) = with(Answer::new(200, r#"{"access_token":"made-up","token":"","expires_in":null}"#));
    assert!(result.is_ok() && asked[0].path.starts_with("/token?kept=1&scope="), "{result:?}");
    for lifetime in [r#""300""#, "300.5", r#""300.0""#, "-1", r#""soon""#, "[1]", "true", "1e999"] {
        let (result, _) = with(Answer::new(200, format!(r#"{{"token":"made-up","expires_in":{lifetime}}}"#)));
        assert!(result.is_ok(), "{lifetime}: {result:?}");
    }
    for body in ["", "made-up", "{}", r#"{"token":"made-up\n"}"#, r#"{"token":["made-up"]}"#] {
        let error = with(Answer::new(200, body)).0.unwrap_err();
        assert!(!error.to_string().contains("made-up"), "{error}");
    }
    let (result, asked) = with(Answer::new(302, "").with("Location", "/elsewhere"));
    assert!(matches!(result, Err(RegistryError::Token { .. })), "{result:?}");
    assert_eq!(asked.len(), 1);
    let (result, asked) = with(Answer::new(503, ""));
    assert!(result.as_ref().is_err_and(|error| error.status() == Some(503)), "{result:?}");
    assert_eq!(asked.len(), 6);
}

#[test]
fn user_and_password() {
    let server = Setup::default().basic().start();
    let (user, secret) = real::USER;
    server.push("team/app:v1", &["--dest-tls-verify=false", &format!("--dest-creds={user}:{secret}")]);
    let name = format!("{}/team/app:v1", server.host());
    let with = |login: Login| pull(&source(&name, RegistryOptions { login, ..options() }));
    assert!(with(password(user, secret)).unwrap().layers.len() > 1);
    let error = registry_error(with(password(user, "made-up-wrong")));
    let rejected = AuthenticationError::CredentialsRejected;
    assert!(matches!(error, RegistryError::Unauthorized { reason, .. } if reason == rejected), "{error}");
    let error = registry_error(with(Login::Anonymous));
    let missing = AuthenticationError::NoCredentials;
    assert!(matches!(error, RegistryError::Unauthorized { reason, .. } if reason == missing), "{error}");
}

#[test]
fn credentials_that_were_not_used_are_not_blamed() {
    let manifest = |server: &Server, login: Login| {
        let asked = registry(&server.host(), RegistryOptions { login, ..options() });
        asked.manifest("app", &At::Tag("v1".into())).unwrap_err().to_string()
    };
    let user = || password("someone", "made-up");
    // Nobody is asked to log in, so that the credentials stay here.
    for status in [403, 404, 429] {
        let server = Server::answering(move |_, _| Answer::new(status, ""));
        for login in [user(), Login::Anonymous] {
            let message = manifest(&server, login);
            assert!(message.contains("no credentials were used: log in"), "{status}: {message}");
        }
        assert!(server.requests().iter().all(|request| request.header("authorization").is_none()));
    }
    for (status, advice) in [(403, "check that these credentials"), (404, "that these credentials"), (429, "; lower")] {
        let server = Server::answering(move |request, _| match request.header("authorization") {
            None => Answer::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
            Some(_) => Answer::new(status, ""),
        });
        let message = manifest(&server, user());
        assert!(message.contains(advice) && !message.contains("log in"), "{status}: {message}");
    }
    // A token for anyone is no use of credentials.
    let service = Server::answering(|_, _| Answer::new(200, r#"{"token":"made-up"}"#));
    let challenge = format!("Bearer realm=\"http://{}/token\"", service.host());
    let server = Server::answering(move |request, _| match request.header("authorization") {
        None => Answer::new(401, "").with("WWW-Authenticate", &challenge),
        Some(_) => Answer::new(403, ""),
    });
    let message = manifest(&server, Login::Anonymous);
    assert!(message.contains("no credentials were used"), "{message}");
    let message = manifest(&server, user());
    assert!(message.contains("these credentials"), "{message}");
}

/// Harbor's answers, as they were recorded.
fn unauthorized(challenge: &str, message: &str) -> Answer {
    let body = serde_json::json!({ "errors": [{ "code": "UNAUTHORIZED", "message": message }] });
    Answer::new(401, format!("{body}\n")).with("Www-Authenticate", challenge)
}

/// A Harbor whose token service gives everyone a token, and which answers a request with credentials with `answer`.
fn harbor(answer: Answer) -> (Server, Server) {
    let service =
        Server::answering(|_, _| Answer::new(200, r#"{"token":"made-up","access_token":"","expires_in":1800}"#));
    let bearer = format!("Bearer realm=\"http://{}/service/token\",service=\"harbor-registry\"", service.host());
    let server = Server::answering(move |request, _| match (request.header("authorization"), &request.path[..]) {
        (None, path) if path.starts_with("/v2/_catalog") => {
            unauthorized("Basic realm=\"harbor\"", "unauthorized to list catalog: unauthorized to list catalog")
        }
        (None, _) => unauthorized(&bearer, "authorize header needed to send HEAD to repository"),
        (Some(_), _) => answer.clone(),
    });
    (server, service)
}

#[test]
fn a_login_that_is_right_is_not_blamed() {
    // A project that does not exist: the challenge is empty.
    let missing = "project nothere not found: project nothere not found";
    let (server, _service) = harbor(unauthorized("", missing));
    for login in [password("admin", "made-up"), Login::Anonymous] {
        let asked = registry(&server.host(), RegistryOptions { login, ..options() });
        // The second request is sent with a token at once.
        for _ in 0..2 {
            let error = asked.manifest("nothere/x", &At::Tag("1".into())).unwrap_err();
            let message = error.to_string();
            assert!(message.contains(missing) && !message.contains("log in"), "{message}");
            let no_challenge = AuthenticationError::NoChallenge;
            assert!(matches!(error, RegistryError::Unauthorized { reason, .. } if reason == no_challenge), "{error:?}");
        }
        let message = asked.tags("nothere/x").unwrap().next().unwrap().unwrap_err().to_string();
        assert!(message.contains(missing) && !message.contains("log in"), "{message}");
    }
    // The same where the first answer is it.
    let server = Server::answering(move |_, _| unauthorized("", missing));
    let login = password("admin", "made-up");
    let asked = registry(&server.host(), RegistryOptions { login, ..options() });
    let message = asked.manifest("nothere/x", &At::Tag("1".into())).unwrap_err().to_string();
    assert!(message.contains(missing) && !message.contains("log in") && !message.contains("Basic"), "{message}");

    // A right that the account lacks: the same answer as to a wrong password.
    let denied = "unauthorized to list catalog: unauthorized to list catalog";
    let (server, _service) = harbor(unauthorized("Basic realm=\"harbor\"", denied));
    let login = password("robot$sweep", "made-up");
    let asked = registry(&server.host(), RegistryOptions { login, ..options() });
    let message = asked.repositories().next().unwrap().unwrap_err().to_string();
    assert!(message.contains(denied) && message.contains("catalog:read"), "{message}");
    assert!(!message.contains("log in"), "{message}");

    // A project that the account is not a member of.
    let denied = "unauthorized to access repository: proj/app, action: pull";
    for (error, said) in
        [("", "check that the login is right and has access"), (",error=\"insufficient_scope\"", "does not allow")]
    {
        let challenge = format!("Bearer realm=\"http://127.0.0.1:1/service/token\",service=\"harbor-registry\"{error}");
        let (server, _service) = harbor(unauthorized(&challenge, denied));
        let login = password("robot$sweep", "made-up");
        let asked = registry(&server.host(), RegistryOptions { login, ..options() });
        let message = asked.manifest("proj/app", &At::Tag("1".into())).unwrap_err().to_string();
        assert!(message.contains(denied) && message.contains(said) && !message.contains("log in again"), "{message}");
    }
}

#[test]
fn a_token_where_a_password_is_required() {
    let server = Server::answering(|_, _| Answer::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""));
    let asked = registry(&server.host(), RegistryOptions { login: identity("", "made-up"), ..options() });
    let error = asked.manifest("app", &At::Tag("v1".into())).unwrap_err();
    let expected = AuthenticationError::UnusableCredentials;
    assert!(matches!(error, RegistryError::Unauthorized { reason, .. } if reason == expected), "{error}");
}

#[test]
fn what_a_registry_says_back_is_not_our_password() {
    let server = Server::answering(|request, _| match request.header("authorization") {
        None => Answer::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
        Some(header) => {
            let pair = header.strip_prefix("Basic ").unwrap();
            let password =
                String::from_utf8(STANDARD.decode(pair).unwrap()).unwrap().split_once(':').unwrap().1.to_string();
            let message = format!("not with {password}, {pair} or {}!", "x".repeat(101));
            Answer::new(403, serde_json::json!({"errors": [{"code": "DENIED", "message": message}]}).to_string())
        }
    });
    let login = password("someone", "hunter2-made-up");
    let with = RegistryOptions { login, ..options() };
    assert!(!format!("{with:?}").contains("hunter2"));
    let error = registry(&server.host(), with).manifest("app", &At::Tag("v1".into())).unwrap_err();
    assert!(error.to_string().contains("DENIED: not with ****, **** or ****"), "{error}");
}

/// Runs the test `stored_credentials` below in a process of its own, whose environment leads to `files`.
fn stored(server: &Registry, environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for name in ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
        command.env_remove(name);
    }
    command.args(["--exact", "login::stored_credentials", "--ignored", "--nocapture"]);
    command.env("HOME", "/nonexistent").env("TEST_REFERENCE", format!("{}/team/app:v1", server.host()));
    command.envs(environment.iter().copied()).output().unwrap()
}

#[test]
#[ignore = "run by the tests that set an environment for it"]
fn stored_credentials() {
    let reference = std::env::var("TEST_REFERENCE").unwrap();
    match pull(&source(&reference, RegistryOptions { login: Login::Stored, ..options() })) {
        Ok(image) => println!("pulled {}", image.manifest),
        // In both forms, because neither may show a secret.
        Err(error) => panic!("{error}\n{error:?}"),
    }
}

#[test]
fn what_is_stored_is_found() {
    let server = Setup::default().basic().start();
    let (user, secret) = real::USER;
    server.push("team/app:v1", &["--dest-tls-verify=false", &format!("--dest-creds={user}:{secret}")]);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let put = |path: &str, text: String| {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    let (host, auth) = (server.host(), STANDARD.encode(format!("{user}:{secret}")));
    let wrong = STANDARD.encode("someone:made-up-wrong");
    let auths = format!(r#"{{"auths": {{"{host}": {{"auth": "{wrong}"}}, "{host}/team": {{"auth": "{auth}"}}}}}}"#);
    put("docker/config.json", auths.clone());
    put("home/.docker/config.json", auths.clone());
    put("run/containers/auth.json", auths.clone());
    put("own.json", auths);
    put("helped/config.json", format!(r#"{{"credHelpers": {{"{host}": "made-up"}}}}"#));
    put("kept/config.json", format!(r#"{{"auths": {{"{host}": {{}}}}, "credsStore": "made-up"}}"#));
    put("none/config.json", format!(r#"{{"auths": {{"{host}": {{"auth": "{wrong}"}}}}}}"#));
    put("broken/config.json", format!(r#"{{"auths": {{"{host}": {{"auth": "{secret}"}}}}}}"#));
    let check = "test \"$server\" = \"$TEST_HOST\" || { echo credentials not found in made-up; exit 1; }";
    let script =
        format!("#!/bin/sh\nread server\n{check}\necho '{{\"Username\":\"{user}\",\"Secret\":\"{secret}\"}}'\n");
    let helper = put("bin/docker-credential-made-up", script);
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();

    let path = format!("{root}/bin:{}", std::env::var("PATH").unwrap());
    let at = |name: &str| format!("{root}/{name}");
    let good = [
        vec![("DOCKER_CONFIG", at("docker"))],
        vec![("HOME", at("home"))],
        vec![("XDG_RUNTIME_DIR", at("run"))],
        vec![("REGISTRY_AUTH_FILE", at("own.json")), ("DOCKER_CONFIG", at("none"))],
        vec![("DOCKER_CONFIG", at("helped")), ("PATH", path.clone()), ("TEST_HOST", host.clone())],
        vec![("DOCKER_CONFIG", at("kept")), ("PATH", path.clone()), ("TEST_HOST", host.clone())],
    ];
    let run = |environment: &[(&str, String)]| {
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let output = stored(&server, &environment);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains(secret) && !text.contains(&auth) && !text.contains("made-up-wrong"), "{text}");
        (output.status.success() && text.contains("pulled sha256:"), text)
    };
    for environment in good {
        let (pulled, text) = run(&environment);
        assert!(pulled, "{environment:?}: {text}");
    }
    let bad = [
        (vec![], "log in"),
        (vec![("DOCKER_CONFIG", at("none"))], "rejected the credentials"),
        (vec![("DOCKER_CONFIG", at("broken"))], "is not `user:password` in base64"),
        (vec![("DOCKER_CONFIG", at("helped"))], "docker-credential-made-up"),
        (vec![("DOCKER_CONFIG", at("kept")), ("PATH", path), ("TEST_HOST", "other".into())], "none were used"),
    ];
    for (environment, said) in bad {
        let (pulled, text) = run(&environment);
        assert!(!pulled && text.contains(said), "{environment:?}: {text}");
    }
}

#[test]
fn an_access_token_goes_to_the_registry_itself() {
    let server = Server::answering(|request, _| match request.header("authorization") {
        Some("Bearer made-up") => Answer::new(200, "{}"),
        _ => Answer::new(401, "").with("WWW-Authenticate", "Bearer realm=\"https://auth.invalid/token\""),
    });
    let login = Login::As(Credentials::AccessToken("made-up".into()));
    let asked = registry(&server.host(), RegistryOptions { login, ..options() });
    asked.manifest("app", &At::Tag("v1".into())).unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_challenge_widens_the_scope_only_to_reading() {
    let service = Server::answering(|_, _| Answer::new(200, r#"{"token":"made-up"}"#));
    let scope = "repository:other/app:pull repository:other/app:push,pull registry:catalog:* repository:x:*";
    let challenge = format!("Bearer realm=\"http://{}/token\",scope=\"{scope}\"", service.host());
    let server = Server::answering(move |request, _| match request.header("authorization") {
        Some(_) => Answer::new(200, "{}"),
        None => Answer::new(401, "").with("WWW-Authenticate", &challenge),
    });
    registry(&server.host(), options()).manifest("app", &At::Tag("v1".into())).unwrap();
    let expected = "?scope=repository%3Aapp%3Apull&scope=repository%3Aother%2Fapp%3Apull&scope=registry%3Acatalog%3A*";
    assert!(service.requests()[0].path.ends_with(expected), "{}", service.requests()[0].path);
}

#[test]
fn a_digest_needs_the_same_login() {
    let subject = Subject::new(Manners { wants_login: true, ..Manners::default() });
    let image = subject.pull(password(USER, PASSWORD)).unwrap();
    let login = password(USER, PASSWORD);
    let asked = registry(&subject.server.host(), RegistryOptions { login, ..options() });
    assert_eq!(asked.small_blob("team/app", &Digest::of(&image.config)).unwrap(), image.config);
    let asked = registry(&subject.server.host(), options());
    let error = asked.small_blob("team/app", &Digest::of(&image.config)).unwrap_err();
    assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}");
}
