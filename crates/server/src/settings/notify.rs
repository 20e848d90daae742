//! `[notify]`: where new findings are told.

use std::fmt;
use std::path::PathBuf;

use layersift_source::webhook::WebhookUrl;
use serde::Deserialize;

/// Where new findings are told, and how.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Notify {
    url: Option<SecretText>,
    /// The form of a message.
    #[serde(default)]
    pub format: NotifyFormat,
    /// A file with the key that messages are signed with.
    pub secret: Option<PathBuf>,
    /// A PEM file with the only authorities that are trusted; the system's if there is none.
    pub ca: Option<PathBuf>,
    /// Which findings are told.
    #[serde(default)]
    pub findings: NotifyFindings,
}

/// The form of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyFormat {
    /// An object of Layersift's own.
    #[default]
    Json,
    /// A text, as Slack's incoming webhooks take it.
    Slack,
    /// The object in a CloudEvent.
    CloudEvents,
}

/// Which new findings are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotifyFindings {
    /// Those that the policy fails.
    #[default]
    Failing,
    /// Every one that the policy does not allow.
    All,
}

/// A text that is never written: the path of a webhook's URL may be all that it takes to post there.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
struct SecretText(String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

impl Notify {
    /// Where messages go, if anywhere.
    ///
    /// # Errors
    /// With a reason that does not have the URL.
    pub fn url(&self) -> Result<Option<WebhookUrl>, String> {
        let url = self.url.as_ref().map(|SecretText(url)| url.parse()).transpose();
        url.map_err(|error| format!("`notify.url`: {error}"))
    }

    /// Whether the values go together.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.url()?.is_none() && (self.secret.is_some() || self.ca.is_some()) {
            return Err("`[notify]` needs `url`, which is where messages go".into());
        }
        Ok(())
    }
}
