//! The verifier's own configuration, `/etc/layersift/image-verifier.toml`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::input_file;
use anyhow::{Context, ensure};
use layersift_model::{Digest, parse};
use layersift_source::registry::ClientCertificate;
use layersift_source::service::{Service, ServiceAddress};
use serde::Deserialize;

use crate::cli::values;

/// Below containerd's `per_verifier_timeout`, which is 10 seconds by default.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(8);

/// The configuration if the environment names none.
const DEFAULT_PATH: &str = "/etc/layersift/image-verifier.toml";

/// Where containerd's configuration of registries is by convention.
const DEFAULT_CERTS: &str = "/etc/containerd/certs.d";

/// What happens when the service cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnUnavailable {
    #[default]
    Deny,
    Allow,
}

/// How the verifier asks, and what it allows without asking.
pub(super) struct Config {
    pub(super) address: ServiceAddress,
    pub(super) timeout: Duration,
    pub(super) on_unavailable: OnUnavailable,
    pub(super) containerd_certs: PathBuf,
    file: ConfigFile,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ConfigFile {
    service: String,
    token_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    timeout: Option<String>,
    #[serde(default)]
    allowed_digests: BTreeSet<String>,
    allowed_digests_file: Option<PathBuf>,
    containerd_certs: Option<PathBuf>,
    #[serde(default)]
    on_unavailable: OnUnavailable,
}

/// The file that the environment names, or the default one.
pub(super) fn path() -> PathBuf {
    let named = std::env::var_os("LAYERSIFT_VERIFIER_CONFIG").filter(|path| !path.is_empty());
    named.map_or_else(|| DEFAULT_PATH.into(), PathBuf::from)
}

impl Config {
    /// Reads the configuration. Files that it names are read when they are needed.
    pub(super) fn read(path: &Path) -> anyhow::Result<Config> {
        let text = read(path)?;
        let invalid = || format!("invalid configuration {}", path.display());
        let file: ConfigFile = parse::toml(&text).with_context(invalid)?;
        let address = file.service.parse().with_context(invalid)?;
        let timeout = file.timeout.as_deref().map(values::timeout).transpose().map_err(anyhow::Error::msg);
        let timeout = timeout.with_context(invalid)?.unwrap_or(DEFAULT_TIMEOUT);
        for digest in &file.allowed_digests {
            digest.parse::<Digest>().with_context(invalid)?;
        }
        ensure!(
            file.client_certificate.is_some() == file.client_key.is_some(),
            "{}: client-certificate and client-key need each other",
            invalid()
        );
        let containerd_certs = file.containerd_certs.clone().unwrap_or_else(|| DEFAULT_CERTS.into());
        Ok(Config { address, timeout, on_unavailable: file.on_unavailable, containerd_certs, file })
    }

    /// Whether `digest` is allowed without asking: images that must start before the service does.
    pub(super) fn allows(&self, digest: &Digest) -> anyhow::Result<bool> {
        if self.file.allowed_digests.contains(&digest.to_string()) {
            return Ok(true);
        }
        let Some(path) = &self.file.allowed_digests_file else { return Ok(false) };
        for line in read(path)?.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let allowed: Digest = line.parse().with_context(|| format!("invalid list {}", path.display()))?;
            if allowed == *digest {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How to ask the service.
    pub(super) fn service(&self) -> anyhow::Result<Service> {
        let token = self.file.token_file.as_deref().map(read).transpose()?.map(|token| token.trim().to_string());
        ensure!(token.as_deref() != Some(""), "the token file is empty");
        let certificate = self.file.client_certificate.clone().zip(self.file.client_key.clone());
        Ok(Service {
            address: self.address.clone(),
            ca: self.file.ca.clone(),
            client_certificate: certificate.map(|(certificate, key)| ClientCertificate { certificate, key }),
            token,
        })
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    input_file::read_text(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image-verifier.toml");
        std::fs::write(&path, text).unwrap();
        Config::read(&path)
    }

    #[test]
    fn defaults_deny() {
        let config = config("service = \"https://layersift.example\"").unwrap();
        assert_eq!((config.timeout, config.on_unavailable), (DEFAULT_TIMEOUT, OnUnavailable::Deny));
        assert!(!config.allows(&Digest::of(b"x")).unwrap());
    }

    #[test]
    fn mistakes_are_errors() {
        let good = "service = \"unix:///run/x.sock\"\n";
        assert!(config(good).is_ok());
        for line in [
            "timeout = \"0s\"",
            "timeout = 8",
            "allowed-digests = [\"pause:3.10\"]",
            "on-unavailable = \"ask\"",
            "client-key = \"/k\"",
            "allowed-digest = []",
        ] {
            assert!(config(&format!("{good}{line}\n")).is_err(), "{line}");
        }
        assert!(config("").is_err());
    }

    #[test]
    fn a_list_has_comments() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("allowed");
        std::fs::write(&list, format!("# pause\n\n {} # 3.10\n", Digest::of(b"pause"))).unwrap();
        let text = format!("service = \"unix:///x\"\nallowed-digests-file = {list:?}\n");
        let config = config(&text).unwrap();
        assert!(config.allows(&Digest::of(b"pause")).unwrap() && !config.allows(&Digest::of(b"x")).unwrap());
        std::fs::write(&list, "pause\n").unwrap();
        assert!(config.allows(&Digest::of(b"x")).is_err());
    }
}
