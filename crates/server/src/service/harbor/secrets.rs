//! The secrets that a Harbor may show, from a file with one on each line, which is read again when it changes: a new
//! one is good beside the old one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layersift_model::Digest;

/// The header that Harbor calls `X-ScannerAdapter-API-Key`.
const API_KEY: &str = "x-scanneradapter-api-key";

/// Bytes of a secret at least: one that can be guessed opens reports to anyone.
const LEAST: usize = 16;

/// Bytes of the file at most.
const MOST_BYTES: usize = 64 << 10;

/// The secrets of a file.
pub(crate) struct Secrets {
    path: PathBuf,
    /// By their digests, so that what is compared says nothing about those that are good.
    known: RwLock<BTreeSet<Digest>>,
}

impl Secrets {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, has no secret, or one that is too short.
    pub(crate) fn open(path: &Path) -> Result<Secrets, String> {
        Ok(Secrets { path: path.into(), known: RwLock::new(read(path)?) })
    }

    /// Reads the file again. If it cannot be read, the secrets stay.
    ///
    /// # Errors
    /// As [`Secrets::open`].
    pub(crate) fn reload(&self) -> Result<(), String> {
        let known = read(&self.path)?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    pub(crate) fn has(&self, secret: &str) -> bool {
        let digest = Digest::of(secret.as_bytes());
        self.known.read().unwrap_or_else(PoisonError::into_inner).contains(&digest)
    }
}

fn read(path: &Path) -> Result<BTreeSet<Digest>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let secrets: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if text.len() > MOST_BYTES || secrets.is_empty() {
        return Err("expected a secret on each line, and at least one".into());
    }
    if secrets.iter().any(|secret| secret.len() < LEAST) {
        return Err(format!("a secret has at least {LEAST} characters"));
    }
    Ok(secrets.into_iter().map(|secret| Digest::of(secret.as_bytes())).collect())
}

/// The secret that the headers of a request show, in any of the ways that Harbor has: the password of Basic, a Bearer
/// token, or an API key.
pub(crate) fn shown(headers: &axum::http::HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(key) = text(API_KEY) {
        return Some(key.to_string());
    }
    let (scheme, value) = text("authorization")?.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.to_string());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let login = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    Some(login.split_once(':')?.1.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderMap, HeaderValue};

    fn with(name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        shown(&headers)
    }

    #[test]
    fn a_secret_is_shown_in_any_of_three_ways() {
        let basic = format!("Basic {}", STANDARD.encode("harbor:a:secret"));
        assert_eq!(with("authorization", &basic).as_deref(), Some("a:secret"));
        assert_eq!(with("authorization", "bearer a-secret").as_deref(), Some("a-secret"));
        assert_eq!(with("x-scanneradapter-api-key", "a-secret").as_deref(), Some("a-secret"));
        for wrong in ["", "a-secret", "Basic ", "Basic !!", "Digest a-secret"] {
            assert_eq!(with("authorization", wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_has_secrets_that_cannot_be_guessed_easily() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        for wrong in ["", "\n \n", "short\n", "a-long-secret-of-this-file\nshort\n"] {
            write(wrong);
            assert!(Secrets::open(file.path()).is_err(), "{wrong:?}");
        }
        write("a-long-secret-of-this-file\n\n  another-secret-of-this-file \n");
        let secrets = Secrets::open(file.path()).unwrap();
        assert!(secrets.has("a-long-secret-of-this-file") && secrets.has("another-secret-of-this-file"));
        assert!(!secrets.has("") && !secrets.has("a-long-secret-of-this-fil"));
        write("a-new-secret-of-this-file");
        secrets.reload().unwrap();
        assert!(secrets.has("a-new-secret-of-this-file") && !secrets.has("another-secret-of-this-file"));
        write("");
        secrets.reload().unwrap_err();
        assert!(secrets.has("a-new-secret-of-this-file"), "a file that is being replaced changes nothing");
    }
}
