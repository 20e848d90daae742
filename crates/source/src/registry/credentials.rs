//! Stored credentials: what `docker login` and `podman login` left on this machine.
//!
//! Sources: containers-auth.json(5) and Docker's `config.json`. The files are searched in this order, and the first
//! that has credentials for the repository wins:
//!
//! 1. `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json`: named on purpose;
//! 2. `$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json` (`~/.config`): Podman's;
//! 3. `~/.docker/config.json`.
//!
//! In a file, the credential helper of the host comes first, then the longest of `host/a/b`, `host/a` and `host` that
//! is listed, then the file's `credsStore`. The crate `docker_credential` is not used: it reads only Docker's file, has
//! no entries for repositories, and waits for a helper without a limit.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine as _};
use layersift_model::{ParseError, parse};
use serde::Deserialize;

use super::error::RegistryError;
use super::helper;
use super::options::Credentials;
use super::reference::Host;
use crate::waiting;
use layersift_format::{Cancellation, read_small};

/// The key of Docker Hub's credentials.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why stored credentials cannot be read. No text of a file or a helper is kept, because it may be a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// A file cannot be read, or a helper cannot be run.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A file is not the JSON it should be.
    #[error("not a credentials file: invalid JSON at line {line}")]
    Json {
        /// The line, from 1.
        line: usize,
    },
    /// An entry of a file is not `user:password` in base64.
    #[error("{key}: `auth` is not `user:password` in base64")]
    Entry {
        /// The key of the entry: a host or a repository.
        key: String,
    },
    /// A name that no credential helper can have.
    #[error("invalid name of a credential helper")]
    HelperName,
    /// A helper that ends with an error.
    #[error("the credential helper failed")]
    HelperFailed,
    /// A helper that does not end.
    #[error("the credential helper did not answer in time")]
    HelperTimeout,
    /// A helper that prints something other than credentials.
    #[error("the credential helper printed no credentials")]
    HelperOutput,
    /// A password or token with characters that an HTTP header cannot have.
    #[error("invalid characters in the credentials")]
    InvalidHeader,
}

/// Credentials files, read once.
pub(super) struct CredentialFiles {
    files: Vec<(PathBuf, AuthFile)>,
    /// Answers of helpers, by helper and server. A helper is run once, because it may prompt the user.
    helper_answers: Mutex<HashMap<(String, String), Option<Credentials>>>,
}

/// One file. Other fields are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthFile {
    auths: HashMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: HashMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<String>,
    #[serde(rename = "registrytoken")]
    registry_token: Option<String>,
}

impl CredentialFiles {
    /// The files that the environment names. Missing files are skipped.
    ///
    /// # Errors
    /// For a file that cannot be read, or is not a credentials file.
    pub(super) fn of_environment() -> Result<CredentialFiles, RegistryError> {
        CredentialFiles::read(&paths(|name| std::env::var_os(name).filter(|value| !value.is_empty())))
    }

    fn read(paths: &[PathBuf]) -> Result<CredentialFiles, RegistryError> {
        let mut files = Vec::new();
        for path in paths {
            if let Some(file) = read(path)? {
                files.push((path.clone(), file));
            }
        }
        Ok(CredentialFiles { files, helper_answers: Mutex::default() })
    }

    /// The credentials for a repository of `host`, or for the host itself.
    ///
    /// # Errors
    /// For an entry that cannot be read, and for a helper that fails.
    pub(super) fn find(
        &self,
        host: &Host,
        repository: Option<&str>,
        cancellation: &Cancellation,
    ) -> Result<Option<Credentials>, RegistryError> {
        for (path, file) in &self.files {
            if let Some(helper) = file.helper(host)
                && let Some(found) = self.ask_helper(helper, host, cancellation)?
            {
                return Ok(Some(found));
            }
            if let Some((key, entry)) = file.entry(host, repository)
                && let Some(found) = entry.credentials(&key).map_err(|error| failed(path, error))?
            {
                return Ok(Some(found));
            }
            if let Some(store) = &file.store
                && let Some(found) = self.ask_helper(store, host, cancellation)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn ask_helper(
        &self,
        helper: &str,
        host: &Host,
        cancellation: &Cancellation,
    ) -> Result<Option<Credentials>, RegistryError> {
        let server = if is_hub(host) { HUB_KEY } else { host.name() };
        let key = (helper.to_string(), server.to_string());
        let cancelled =
            |reason| RegistryError::Cancelled { url: format!("docker-credential-{helper}"), after: None, reason };
        let mut answers = waiting::lock(&self.helper_answers, cancellation).map_err(cancelled)?;
        if let Some(known) = answers.get(&key) {
            return Ok(known.clone());
        }
        let found = helper::get(helper, server, cancellation)?;
        answers.insert(key, found.clone());
        Ok(found)
    }
}

impl AuthFile {
    fn helper(&self, host: &Host) -> Option<&str> {
        let of_hub = || self.helpers.get(HUB_KEY).filter(|_| is_hub(host));
        self.helpers.get(host.name()).or_else(of_hub).map(String::as_str)
    }

    /// The entry with the longest name that is the repository or a parent of it, and its key.
    fn entry(&self, host: &Host, repository: Option<&str>) -> Option<(String, &Entry)> {
        let whole = match repository {
            Some(repository) => format!("{}/{repository}", host.name()),
            None => host.name().to_string(),
        };
        let mut names =
            std::iter::successors(Some(whole.as_str()), |name| name.rsplit_once('/').map(|(above, _)| above));
        let exact = names.find_map(|name| Some((name.to_string(), self.auths.get(name)?)));
        exact.or_else(|| {
            // Docker once wrote the URL of an API as the key; its scheme and path are ignored.
            let mut urls: Vec<&String> = self.auths.keys().filter(|key| is_url_of(key, host)).collect();
            urls.sort();
            let key = urls.first()?;
            Some(((*key).clone(), self.auths.get(*key)?))
        })
    }
}

impl Entry {
    fn credentials(&self, key: &str) -> Result<Option<Credentials>, CredentialsError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let pair = match given(&self.auth) {
            Some(auth) => Some(decode(&auth).ok_or_else(|| CredentialsError::Entry { key: key.into() })?),
            None => given(&self.username).map(|user| (user, self.password.clone().unwrap_or_default())),
        };
        if let Some(token) = given(&self.registry_token) {
            return Ok(Some(Credentials::AccessToken(token)));
        }
        if let Some(token) = given(&self.identity_token) {
            let user = pair.map(|(user, _)| user).unwrap_or_default();
            return Ok(Some(Credentials::IdentityToken { user, token }));
        }
        Ok(pair.map(|(user, password)| Credentials::Password { user, password }))
    }
}

/// `user:password` in base64, as both Docker and Podman write it. Docker pads it with NUL bytes.
fn decode(auth: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.into(), password.trim_end_matches('\0').into()))
}

fn is_hub(host: &Host) -> bool {
    host.name() == "docker.io"
}

fn is_url_of(key: &str, host: &Host) -> bool {
    let url = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let name = url.unwrap_or(key).split('/').next().unwrap_or_default();
    // A key with a path and no scheme is a repository, and was compared before.
    (url.is_some() || !key.contains('/')) && name.parse::<Host>().is_ok_and(|named| named == *host)
}

fn read(path: &Path) -> Result<Option<AuthFile>, RegistryError> {
    let bytes = match read_small(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, error.into())),
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    // Only the line of serde's error is kept, because its text may quote the file.
    let invalid = |error: ParseError| failed(path, CredentialsError::Json { line: error.line() });
    parse::json(&bytes).map(Some).map_err(invalid)
}

fn paths(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let directory = |name: &str| variable(name).map(PathBuf::from);
    let home = directory("HOME");
    let below = |directory: Option<PathBuf>, path: &str| directory.map(|directory| directory.join(path));
    let config = directory("XDG_CONFIG_HOME").or_else(|| below(home.clone(), ".config"));
    let all = [
        directory("REGISTRY_AUTH_FILE"),
        below(directory("DOCKER_CONFIG"), "config.json"),
        below(directory("XDG_RUNTIME_DIR"), "containers/auth.json"),
        below(config, "containers/auth.json"),
        below(home, ".docker/config.json"),
    ];
    all.into_iter().flatten().collect()
}

fn failed(path: &Path, error: CredentialsError) -> RegistryError {
    RegistryError::Credentials { place: path.display().to_string(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(json: &str) -> CredentialFiles {
        let file = serde_json::from_str(json).unwrap();
        CredentialFiles { files: vec![("auth.json".into(), file)], helper_answers: Mutex::default() }
    }

    fn found(
        files: &CredentialFiles,
        host: &str,
        repository: Option<&str>,
    ) -> Result<Option<Credentials>, RegistryError> {
        files.find(&host.parse().unwrap(), repository, &Cancellation::never())
    }

    fn user(files: &CredentialFiles, host: &str, repository: &str) -> Option<String> {
        match found(files, host, Some(repository)).unwrap()? {
            Credentials::Password { user, .. } | Credentials::IdentityToken { user, .. } => Some(user),
            Credentials::AccessToken(token) => Some(token),
        }
    }

    fn auth(user: &str) -> String {
        format!(r#"{{"auth": "{}"}}"#, BASE64.encode(format!("{user}:made:up")))
    }

    #[test]
    fn the_longest_name_decides() {
        let json = format!(
            r#"{{"auths": {{"h.example": {}, "h.example/a": {}, "h.example/a/b": {}, "other.example:5000": {}}}}}"#,
            auth("host"),
            auth("a"),
            auth("b"),
            auth("port")
        );
        let files = files(&json);
        assert_eq!(user(&files, "h.example", "a/b"), Some("b".into()));
        assert_eq!(user(&files, "h.example", "a/b/c"), Some("b".into()));
        assert_eq!(user(&files, "h.example", "a/bc"), Some("a".into()));
        assert_eq!(user(&files, "h.example", "ab"), Some("host".into()));
        assert_eq!(user(&files, "other.example:5000", "a"), Some("port".into()));
        assert_eq!(user(&files, "other.example", "a"), None);
        assert_eq!(user(&files, "h.example:443", "a"), None);
        let password = Credentials::Password { user: "host".into(), password: "made:up".into() };
        assert_eq!(found(&files, "h.example", None).unwrap(), Some(password));
    }

    #[test]
    fn the_hub_and_old_addresses() {
        let json =
            format!(r#"{{"auths": {{"{HUB_KEY}": {}, "https://h.example/v2/": {}}}}}"#, auth("hub"), auth("old"));
        assert_eq!(user(&files(&json), "docker.io", "library/alpine"), Some("hub".into()));
        assert_eq!(user(&files(&json), "h.example", "a"), Some("old".into()));
    }

    #[test]
    fn tokens_and_invalid_entries() {
        let json = r#"{"auths": {"a.example": {"auth": "dTo=", "identitytoken": "made-up"},
            "b.example": {"registrytoken": "made-up"}, "c.example": {}, "d.example": {"auth": "bWFkZXVw"},
            "e.example": {"auth": "@@made-up@@"}}}"#;
        let files = files(json);
        assert_eq!(user(&files, "a.example", "x"), Some("u".into()));
        assert_eq!(user(&files, "b.example", "x"), Some("made-up".into()));
        assert_eq!(user(&files, "c.example", "x"), None);
        for host in ["d.example", "e.example"] {
            let error = found(&files, host, None).unwrap_err().to_string();
            assert!(error.contains(host) && !error.contains("made"), "{error}");
        }
        assert!(!format!("{:?}", found(&files, "a.example", None)).contains("made"));
    }

    #[test]
    fn the_files_in_their_order() {
        let all = paths(|name| Some(OsString::from(format!("/{name}"))));
        let expected = [
            "/REGISTRY_AUTH_FILE",
            "/DOCKER_CONFIG/config.json",
            "/XDG_RUNTIME_DIR/containers/auth.json",
            "/XDG_CONFIG_HOME/containers/auth.json",
            "/HOME/.docker/config.json",
        ];
        assert_eq!(all, expected.map(PathBuf::from));
        let home = paths(|name| (name == "HOME").then(|| "/h".into()));
        assert_eq!(home, ["/h/.config/containers/auth.json", "/h/.docker/config.json"].map(PathBuf::from));
    }
}
