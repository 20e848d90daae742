//! `[harbor]`: a Harbor that has its images scanned.

use std::path::PathBuf;
use std::time::Duration;

use layersift_model::Severity;
use layersift_source::endpoint::Endpoint;
use layersift_source::registry::Host;
use serde::Deserialize;

use crate::harbor::report::MappingOptions;
use crate::span::Span;

/// A Harbor that has its images scanned by this service.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Harbor {
    /// A file with the secrets that Harbor may show, one on each line: a password, a Bearer token or an API key.
    pub secrets: PathBuf,
    /// A file with the key that seals the logins of scans in the store.
    pub credentials_key: PathBuf,
    /// How long a scan may take until it ends in an error.
    #[serde(default = "half_an_hour")]
    deadline: Span,
    /// The severity of what could not be read.
    #[serde(default = "high")]
    gap_severity: Severity,
    /// Whether findings that are only information are passed on.
    #[serde(default)]
    information: bool,
    /// The URL of a second scanner, whose findings are passed on with ours.
    #[serde(default, deserialize_with = "endpoint")]
    pub merge_adapter: Option<Endpoint>,
    /// A file with the value of the `Authorization` header for the second scanner.
    pub merge_login: Option<PathBuf>,
    /// A PEM file with the authorities that are trusted for the second scanner, instead of the system's.
    pub merge_ca: Option<PathBuf>,
    /// Whether a scan fails that has no report of the second scanner.
    #[serde(default)]
    pub merge_required: bool,
    /// Harbor's own host, with its scheme, where it is asked for scans that it missed.
    #[serde(default)]
    pub url: Option<String>,
    /// A file with the name and the secret of the robot for that, with a colon between them.
    pub login: Option<PathBuf>,
    /// How often Harbor is asked which images it has no report of.
    #[serde(default = "an_hour")]
    catch_up: Span,
}

fn half_an_hour() -> Span {
    Span::of_seconds(1_800)
}

fn an_hour() -> Span {
    Span::of_seconds(3_600)
}

fn high() -> Severity {
    Severity::High
}

fn endpoint<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Endpoint>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

impl Harbor {
    /// How many seconds a scan may take.
    pub(crate) fn deadline(&self) -> i64 {
        self.deadline.seconds()
    }

    /// How often Harbor is asked which images it has no report of.
    pub(crate) fn catch_up(&self) -> Duration {
        self.catch_up.into()
    }

    /// How findings are passed on.
    pub(crate) fn mapping(&self) -> MappingOptions {
        MappingOptions { gap_severity: self.gap_severity, with_info: self.information, ..MappingOptions::default() }
    }

    /// Harbor's host, and whether it is asked by plain HTTP.
    ///
    /// # Errors
    /// For a URL that is more or less than a scheme and a host.
    pub(crate) fn own_host(&self) -> Result<Option<(Host, bool)>, String> {
        let Some(url) = &self.url else { return Ok(None) };
        let schemes = [("https://", false), ("http://", true)];
        let found = schemes.into_iter().find_map(|(scheme, is_plain)| Some((url.strip_prefix(scheme)?, is_plain)));
        let host = found.and_then(|(rest, is_plain)| Some((rest.trim_end_matches('/').parse().ok()?, is_plain)));
        host.map(Some).ok_or_else(|| "`harbor.url` is not https:// or http:// with a host alone".into())
    }

    /// Whether the values go together.
    pub(super) fn check_together(&self) -> Result<(), String> {
        self.own_host()?;
        if self.url.is_some() != self.login.is_some() {
            return Err("`harbor.url` and `harbor.login` go together: set both, or neither".into());
        }
        let has_merge_options = self.merge_login.is_some() || self.merge_ca.is_some() || self.merge_required;
        if self.merge_adapter.is_none() && has_merge_options {
            return Err("`harbor.merge-login`, `merge-ca` and `merge-required` need `harbor.merge-adapter`".into());
        }
        Ok(())
    }
}
