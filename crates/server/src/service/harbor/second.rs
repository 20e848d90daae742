//! A second scanner, such as `harbor-scanner-trivy`: asked as Harbor asks, so that a project keeps its vulnerabilities.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use layersift_format::Cancellation;
use layersift_model::parse;
use layersift_source::endpoint::{Endpoint, EndpointAnswer, EndpointError, EndpointRequest};
use serde_json::{Value, json};

use super::logins::TaskLogin;
use super::tasks::TaskRequest;
use crate::admission::{beginning, tidy};
use crate::harbor::merge::{self, Missing};
use crate::harbor::metadata::{self, Metadata};
use crate::harbor::scan_request::Wanted;
use crate::harbor::{METADATA, SBOM, SCAN_REQUEST, VULNERABILITIES};

/// How long one call may take, and one that brings a report.
const CALL: Duration = Duration::from_secs(5);
const REPORT: Duration = Duration::from_secs(20);

/// How long it is not asked after it could not be reached.
const OUT: Duration = Duration::from_secs(3);

/// Bytes of any other answer than a report.
const SMALL: u64 = 256 << 10;

/// Bytes of its id for a scan.
const MOST_ID: usize = 256;

/// Bytes of the text of an error, and of that from which secrets are removed first: one that was cut off before could
/// not be told any more.
const MOST_TEXT: usize = 500;
const MOST_MASKED: usize = 64 << 10;

/// Seconds until it is asked again, where it does not say so, and at most.
const PAUSE: i64 = 2;
const LONGEST_PAUSE: i64 = 30;

/// A second scanner.
pub(crate) struct SecondScanner {
    endpoint: Endpoint,
    /// The value of the `Authorization` header.
    authorization: Option<String>,
    /// What it said about itself last.
    metadata: RwLock<Option<Arc<Metadata>>>,
    /// Until when it is not asked, since it could not be reached.
    out_until: Mutex<Option<Instant>>,
    ending: Cancellation,
}

/// Removes secrets from what it says, which may repeat a request or quote an image.
pub(crate) type Mask<'m> = &'m dyn Fn(&str) -> String;

/// Why there is no report of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoReport {
    pub(crate) why: Missing,
    pub(crate) text: String,
}

/// What it answered to a poll.
#[derive(Debug)]
pub(crate) enum Polled {
    /// To be asked again after so many seconds.
    NotYet(i64),
    /// It does not know the scan, as after a restart.
    Unknown,
    Report(Vec<u8>),
}

impl NoReport {
    pub(crate) fn new(why: Missing, text: impl AsRef<str>) -> NoReport {
        NoReport { why, text: tidy(text.as_ref(), MOST_TEXT) }
    }

    /// The same with what the scanner says, without the secrets in it.
    fn said(why: Missing, text: &str, mask: Mask<'_>) -> NoReport {
        NoReport::new(why, mask(beginning(text, MOST_MASKED)))
    }

    /// Whether the scanner may be in reach again a moment later.
    pub(crate) fn is_temporary(&self) -> bool {
        self.why == Missing::Unreachable
    }
}

impl SecondScanner {
    pub(crate) fn new(endpoint: Endpoint, authorization: Option<String>, ending: Cancellation) -> SecondScanner {
        let (metadata, out_until) = (RwLock::default(), Mutex::default());
        SecondScanner { endpoint, authorization, metadata, out_until, ending }
    }

    /// What it said about itself last: its own answers wait for nobody.
    pub(crate) fn metadata(&self) -> Option<Arc<Metadata>> {
        self.metadata.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks what it is. If it does not say so, what it said before holds.
    pub(crate) fn ask_metadata(&self, mask: Mask<'_>) -> Result<(), NoReport> {
        let headers = vec![("Accept", METADATA.into())];
        let answer = self.send("/api/v1/metadata".into(), headers, None, SMALL, CALL)?;
        if answer.status != 200 {
            return Err(refused(&answer, mask));
        }
        let said = metadata::read(&answer.body)
            .map_err(|error| NoReport::said(Missing::Unreadable, &error.to_string(), mask))?;
        *self.metadata.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(said));
        Ok(())
    }

    /// Whether it makes bills of materials. It is asked if it has not said what it is.
    pub(crate) fn makes_sboms(&self) -> bool {
        if self.metadata().is_none() {
            // If it cannot be asked, it says nothing; neither does this, so that there is nothing to mask.
            let _ = self.ask_metadata(&|_| String::new());
        }
        self.metadata().is_some_and(|metadata| metadata.makes_sboms())
    }

    /// Hands in a scan, with the login that Harbor has sent for it: the id.
    pub(crate) fn begin(&self, request: &TaskRequest, login: &TaskLogin, mask: Mask<'_>) -> Result<String, NoReport> {
        let body = json!({
            "registry": {"url": login.url, "authorization": login.authorization},
            "artifact": request.artifact,
            "enabled_capabilities": [capability(&request.wanted)],
        });
        let headers = vec![("Content-Type", SCAN_REQUEST.into())];
        let answer = self.send("/api/v1/scan".into(), headers, Some(body.to_string().into_bytes()), SMALL, CALL)?;
        if answer.status != 202 {
            return Err(refused(&answer, mask));
        }
        let answer: Value = parse::json(&answer.body).unwrap_or_default();
        let is_plain = |id: &&str| {
            let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !id.is_empty() && id.len() <= MOST_ID && id.bytes().all(is_safe) && !id.starts_with('.')
        };
        let id = answer["id"].as_str().filter(is_plain);
        id.map(String::from).ok_or_else(|| NoReport::new(Missing::Unreadable, "its answer has no id of the scan"))
    }

    /// Asks for the report of a scan.
    pub(crate) fn poll(&self, id: &str, wanted: &Wanted, mask: Mask<'_>) -> Result<Polled, NoReport> {
        let (accept, query) = match wanted {
            Wanted::Vulnerabilities => (VULNERABILITIES, String::new()),
            Wanted::Sbom(media_types) => {
                let media_type = media_types.first().map(|media_type| encoded(media_type));
                (SBOM, media_type.map(|one| format!("?sbom_media_type={one}")).unwrap_or_default())
            }
        };
        let path = format!("/api/v1/scan/{id}/report{query}");
        let answer = self.send(path, vec![("Accept", accept.into())], None, merge::MOST_BYTES as u64, REPORT)?;
        match answer.status {
            200 => Ok(Polled::Report(answer.body)),
            302 => {
                let seconds = answer.headers.get("Refresh-After").and_then(|value| value.to_str().ok()?.parse().ok());
                Ok(Polled::NotYet(seconds.unwrap_or(PAUSE).clamp(1, LONGEST_PAUSE)))
            }
            404 => Ok(Polled::Unknown),
            _ => {
                let none = refused(&answer, mask);
                let why = if none.is_temporary() { none.why } else { Missing::Failed };
                Err(NoReport { why, ..none })
            }
        }
    }

    fn send(
        &self,
        path: String,
        mut headers: Vec<(&'static str, String)>,
        body: Option<Vec<u8>>,
        most_bytes: u64,
        time: Duration,
    ) -> Result<EndpointAnswer, NoReport> {
        if self.out_until().is_some_and(|until| Instant::now() < until) {
            return Err(NoReport::new(Missing::Unreachable, "it could not be reached a moment ago"));
        }
        headers.extend(self.authorization.clone().map(|value| ("Authorization", value)));
        let request = EndpointRequest { path, headers, body, most_bytes };
        let sent = self.endpoint.send(request, &self.ending.child_with_deadline(time));
        sent.map_err(|error| {
            if matches!(error, EndpointError::TooLong { .. }) {
                return NoReport::new(Missing::Unreadable, error.to_string());
            }
            // One that hangs would keep every step.
            *self.out_until() = Some(Instant::now() + OUT);
            NoReport::new(Missing::Unreachable, error.to_string())
        })
    }

    fn out_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.out_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn capability(wanted: &Wanted) -> Value {
    match wanted {
        Wanted::Vulnerabilities => json!({"type": "vulnerability", "produces_mime_types": [VULNERABILITIES]}),
        Wanted::Sbom(media_types) => json!({
            "type": "sbom",
            "produces_mime_types": [SBOM],
            "parameters": {"sbom_media_types": media_types},
        }),
    }
}

/// What another status than the expected one says.
fn refused(answer: &EndpointAnswer, mask: Mask<'_>) -> NoReport {
    let body: Value = parse::json(&answer.body).unwrap_or_default();
    let why = if matches!(answer.status, 429 | 502..=504) { Missing::Unreachable } else { Missing::Refused };
    match body["error"]["message"].as_str() {
        Some(message) => NoReport::said(why, &format!("{message} (status {})", answer.status), mask),
        None => NoReport::new(why, format!("status {}", answer.status)),
    }
}

/// A media type as a query has it.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_removed_before_the_text_is_cut() {
        let token = ["glpat-", "Zk7Qm2Xr9Tb4Wn6Ve001"].concat();
        let mask = |text: &str| text.replace(&token, "****");
        let text = format!("{}{token}", "x".repeat(MOST_TEXT - 10));
        let expected = format!("{}****", "x".repeat(MOST_TEXT - 10));
        assert_eq!(NoReport::said(Missing::Failed, &text, &mask).text, expected);
        let body = json!({"error": {"message": format!("cannot pull with {token}")}}).to_string().into_bytes();
        let answer = EndpointAnswer { status: 500, headers: Default::default(), body };
        assert_eq!(refused(&answer, &mask).text, "cannot pull with **** (status 500)");
    }
}
