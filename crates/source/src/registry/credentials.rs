//! Stored credentials: what `docker login` and `podman login` left on this machine.
//!
//! Sources: containers-auth.json(5) and Docker's `config.json`. The files are looked through in this order, and the
//! first that has something for the repository decides:
//!
//! 1. `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json`: named on purpose;
//! 2. `$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json` (`~/.config`): Podman's;
//! 3. `~/.docker/config.json`.
//!
//! In a file, the credential helper of the host comes first, then the longest of `host/a/b`, `host/a` and `host` that
//! is listed, then the store of the file. The crate `docker_credential` reads only Docker's file, knows no
//! repositories, waits for a helper for ever and shows what it prints, which may be a password; so this is our own.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, Engine as _};
use serde::Deserialize;

use super::error::RegistryError;
use super::helper;
use super::options::Credentials;
use super::reference::Host;

/// Bytes of a file of credentials.
const MOST_BYTES: u64 = 4 << 20;

/// What Docker keeps the hub's credentials under.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// Base64 as people write it: padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Files of credentials, read once.
pub struct CredentialFiles {
    files: Vec<(PathBuf, AuthFile)>,
    /// What helpers said, by helper and server: they may ask a person, or a cloud.
    helped: Mutex<HashMap<(String, String), Option<Credentials>>>,
}

/// One file. What is not named here is of no use.
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
    /// The files that the environment leads to. Files that are not there are none.
    ///
    /// # Errors
    /// For one that cannot be read, or is no file of credentials.
    pub fn of_environment() -> Result<CredentialFiles, RegistryError> {
        CredentialFiles::read(&paths(|name| std::env::var_os(name).filter(|value| !value.is_empty())))
    }

    /// The files at `paths`, the first of which decides.
    ///
    /// # Errors
    /// For one that cannot be read, or is no file of credentials.
    pub fn read(paths: &[PathBuf]) -> Result<CredentialFiles, RegistryError> {
        let mut files = Vec::new();
        for path in paths {
            if let Some(file) = read(path)? {
                files.push((path.clone(), file));
            }
        }
        Ok(CredentialFiles { files, helped: Mutex::default() })
    }

    /// What is stored for a repository of `host`, or for the host itself.
    ///
    /// # Errors
    /// For an entry that cannot be read, and for a helper that fails.
    pub fn find(&self, host: &Host, repository: Option<&str>) -> Result<Option<Credentials>, RegistryError> {
        for (path, file) in &self.files {
            if let Some(helper) = file.helper(host)
                && let Some(found) = self.help(helper, host)?
            {
                return Ok(Some(found));
            }
            if let Some((key, entry)) = file.entry(host, repository)
                && let Some(found) = entry.credentials().map_err(|reason| failed(path, format!("{key}: {reason}")))?
            {
                return Ok(Some(found));
            }
            if let Some(store) = &file.store
                && let Some(found) = self.help(store, host)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn help(&self, helper: &str, host: &Host) -> Result<Option<Credentials>, RegistryError> {
        let server = if is_hub(host) { HUB_KEY } else { host.name() };
        let key = (helper.to_string(), server.to_string());
        let mut helped = self.helped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = helped.get(&key) {
            return Ok(known.clone());
        }
        let found = helper::get(helper, server)?;
        helped.insert(key, found.clone());
        Ok(found)
    }
}

impl AuthFile {
    fn helper(&self, host: &Host) -> Option<&str> {
        let of_hub = || self.helpers.get(HUB_KEY).filter(|_| is_hub(host));
        self.helpers.get(host.name()).or_else(of_hub).map(String::as_str)
    }

    /// The entry of the longest name that the repository is, or is below.
    fn entry(&self, host: &Host, repository: Option<&str>) -> Option<(String, &Entry)> {
        let whole = match repository {
            Some(repository) => format!("{}/{repository}", host.name()),
            None => host.name().to_string(),
        };
        let mut names =
            std::iter::successors(Some(whole.as_str()), |name| name.rsplit_once('/').map(|(above, _)| above));
        let exact = names.find_map(|name| Some((name.to_string(), self.auths.get(name)?)));
        exact.or_else(|| {
            // Docker once wrote the address of an API; the scheme and the path say nothing.
            let mut old: Vec<&String> = self.auths.keys().filter(|key| is_address_of(key, host)).collect();
            old.sort();
            let key = old.first()?;
            Some(((*key).clone(), self.auths.get(*key)?))
        })
    }
}

impl Entry {
    fn credentials(&self) -> Result<Option<Credentials>, String> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let pair = match given(&self.auth) {
            Some(auth) => Some(decode(&auth)?),
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
fn decode(auth: &str) -> Result<(String, String), String> {
    let wrong = || "`auth` is not `user:password` in base64".to_string();
    let bytes = BASE64.decode(auth.trim()).map_err(|_| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let (user, password) = text.split_once(':').ok_or_else(wrong)?;
    Ok((user.into(), password.trim_end_matches('\0').into()))
}

fn is_hub(host: &Host) -> bool {
    host.name() == "docker.io"
}

fn is_address_of(key: &str, host: &Host) -> bool {
    let address = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let name = address.unwrap_or(key).split('/').next().unwrap_or_default();
    // Without a scheme and with a path it is a repository, which is not this one.
    (address.is_some() || !key.contains('/')) && name.parse::<Host>().is_ok_and(|named| named == *host)
}

fn read(path: &Path) -> Result<Option<AuthFile>, RegistryError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path, error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(|error| failed(path, error.to_string()))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    // What serde says may quote the file.
    let place = |error: serde_json::Error| format!("no file of credentials, at line {}", error.line());
    serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(path, place(error)))
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

fn failed(path: &Path, reason: String) -> RegistryError {
    RegistryError::Credentials { place: path.display().to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(json: &str) -> CredentialFiles {
        let file = serde_json::from_str(json).unwrap();
        CredentialFiles { files: vec![("auth.json".into(), file)], helped: Mutex::default() }
    }

    fn user(files: &CredentialFiles, host: &str, repository: &str) -> Option<String> {
        match files.find(&host.parse().unwrap(), Some(repository)).unwrap()? {
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
        assert_eq!(files.find(&"h.example".parse().unwrap(), None).unwrap(), Some(password));
    }

    #[test]
    fn the_hub_and_old_addresses() {
        let json =
            format!(r#"{{"auths": {{"{HUB_KEY}": {}, "https://h.example/v2/": {}}}}}"#, auth("hub"), auth("old"));
        assert_eq!(user(&files(&json), "docker.io", "library/alpine"), Some("hub".into()));
        assert_eq!(user(&files(&json), "h.example", "a"), Some("old".into()));
    }

    #[test]
    fn tokens_and_what_cannot_be_read() {
        let json = r#"{"auths": {"a.example": {"auth": "dTo=", "identitytoken": "made-up"},
            "b.example": {"registrytoken": "made-up"}, "c.example": {}, "d.example": {"auth": "bWFkZXVw"},
            "e.example": {"auth": "@@made-up@@"}}}"#;
        let files = files(json);
        assert_eq!(user(&files, "a.example", "x"), Some("u".into()));
        assert_eq!(user(&files, "b.example", "x"), Some("made-up".into()));
        assert_eq!(user(&files, "c.example", "x"), None);
        for host in ["d.example", "e.example"] {
            let error = files.find(&host.parse().unwrap(), None).unwrap_err().to_string();
            assert!(error.contains(host) && !error.contains("made"), "{error}");
        }
        assert!(!format!("{:?}", files.find(&"a.example".parse().unwrap(), None)).contains("made"));
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
