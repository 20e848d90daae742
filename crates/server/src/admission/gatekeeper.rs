//! Gatekeeper's external data: the keys of a ProviderRequest are images, and a ProviderResponse says what was decided
//! about each.
//!
//! Gatekeeper keeps each item of an answer for 3 minutes, **errors too**, and hands it on without asking again; items
//! that are missing, and a `systemError`, are not kept. So:
//!
//! - What is not known yet has no item. As an error, "queued" would stick for 3 minutes after the layers are read. The
//!   template in `deploy/gatekeeper` denies each key without a response, so a missing item never lets anything in.
//! - What is denied has an `error`, not a value: templates that others write deny on `errors`, while a value denies
//!   only where the template looks into it. A denial is then up to 3 minutes old, as is whatever is let in.
//! - What is let in has an object as its `value`, with `"allowed": true`.
//! - A `systemError` denies all keys of the call, so it is for an outage only.
//!
//! Nothing but the keys is sent: no namespace, no user. A key may begin with `[namespace]`, as the template writes it.

use crate::admission::bounded_json::{BoundedJson, OverBound};
use crate::admission::words::{describe, tidy};
use crate::admission::{Decision, Effect, Outcome};
use layersift_model::{ParseError, json_output, parse};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io::{BufReader, Read};

const API_VERSION: &str = "externaldata.gatekeeper.sh/v1beta1";

/// Objects and lists inside each other: three are needed.
const MOST_DEPTH: usize = 32;

/// Bytes of the text about a key: it becomes a part of the message of a denial.
const MOST_TEXT: usize = 512;

/// Bytes of a namespace's name, which is a DNS label.
const MOST_NAMESPACE: usize = 63;

/// The bounds of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Keys of one request: the images of one object that are not in Gatekeeper's cache.
    pub keys: usize,
    /// Bytes of a key.
    pub key_bytes: usize,
}

impl Default for KeyLimits {
    fn default() -> KeyLimits {
        KeyLimits { body_bytes: 2 << 20, keys: 1_000, key_bytes: 1_024 + MOST_NAMESPACE + 2 }
    }
}

/// A key that a policy asks about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// As it was sent, and as it is answered.
    pub text: String,
    /// The namespace before the image, if the policy wrote one there.
    pub namespace: Option<String>,
    /// The image, which may be any text.
    pub image: String,
}

/// Why a request cannot be answered item by item.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be received, or it is not a ProviderRequest.
    #[error("the request cannot be read: {0}")]
    Json(#[from] ParseError),
    /// It goes over a bound of all bodies.
    #[error(transparent)]
    Bound(#[from] OverBound),
    /// It is of another kind or version.
    #[error("the request is not a ProviderRequest of externaldata.gatekeeper.sh/v1beta1")]
    NotARequest,
    /// It has too many keys.
    #[error("the request has more than {0} keys")]
    Keys(usize),
    /// A key is too long.
    #[error("key {index} is longer than {limit} bytes")]
    Key {
        /// Its index in the request.
        index: usize,
        /// The limit.
        limit: usize,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProviderRequest {
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    keys: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProviderResponse<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    /// Mutations demand `true`. They would write a value into the image, which is not what a value here is.
    idempotent: bool,
    items: Vec<Item<'a>>,
    system_error: String,
}

#[derive(Serialize)]
struct Item<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value<'a>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

#[derive(Serialize)]
struct Value<'a> {
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    platforms: &'a [String],
    #[serde(skip_serializing_if = "String::is_empty")]
    warning: String,
}

/// Reads the keys of a ProviderRequest, each once.
pub fn read(body: impl Read, limits: &KeyLimits) -> Result<Vec<Key>, KeyError> {
    let mut bounded = BoundedJson::new(body, limits.body_bytes, MOST_DEPTH, limits.key_bytes);
    let parsed: Result<ProviderRequest, _> = parse::json_from(BufReader::new(&mut bounded));
    if let Some(over) = bounded.over_bound() {
        return Err(over.into());
    }
    let request = parsed?;
    if request.api_version != API_VERSION || request.kind != "ProviderRequest" {
        return Err(KeyError::NotARequest);
    }
    let keys = request.request.keys;
    if keys.len() > limits.keys {
        return Err(KeyError::Keys(limits.keys));
    }
    if let Some(index) = keys.iter().position(|key| key.len() > limits.key_bytes) {
        return Err(KeyError::Key { index, limit: limits.key_bytes });
    }
    let mut seen = HashSet::new();
    Ok(keys.into_iter().filter(|key| seen.insert(key.clone())).map(Key::new).collect())
}

impl Key {
    /// `[::1]:5000/app` has an address in brackets, and no namespace.
    fn new(text: String) -> Key {
        let is_label = |name: &str| {
            let is_inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
            (1..=MOST_NAMESPACE).contains(&name.len()) && name.bytes().all(is_inner)
        };
        let split = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match split.filter(|(namespace, _)| is_label(namespace)) {
            Some((namespace, image)) => {
                Key { namespace: Some(namespace.into()), image: image.into(), text: text.clone() }
            }
            None => Key { namespace: None, image: text.clone(), text },
        }
    }
}

/// Answers a request, with HTTP status 200. `decide` has the decision about a key, or nothing, which leaves it without
/// an item.
pub fn answer<'d>(keys: &[Key], decide: impl Fn(&Key) -> Option<&'d Decision>) -> Vec<u8> {
    let items =
        keys.iter().filter_map(|key| item(key, decide(key).filter(|found| found.image == key.image)?)).collect();
    write(items, String::new())
}

/// Answers that nothing can be decided: the store is down, or the request cannot be read. Denies all keys, and is not
/// kept in Gatekeeper's cache. With HTTP status 200, as Gatekeeper only looks at the body.
pub fn outage(why: &str) -> Vec<u8> {
    // An empty text is no error.
    let text = if why.is_empty() { "the service is out of order" } else { why };
    write(Vec::new(), tidy(text, MOST_TEXT))
}

fn item<'a>(key: &'a Key, decision: &'a Decision) -> Option<Item<'a>> {
    let told = || describe(decision, MOST_TEXT);
    match decision.effect {
        Effect::Wait => None,
        Effect::Deny if decision.outcome == Outcome::Unknown => None,
        Effect::Deny => Some(Item { key: &key.text, value: None, error: told() }),
        Effect::Allow | Effect::Warn => {
            let value = Value {
                allowed: true,
                digest: decision.digest.as_ref().map(ToString::to_string),
                platforms: &decision.platforms,
                warning: if decision.effect == Effect::Warn { told() } else { String::new() },
            };
            Some(Item { key: &key.text, value: Some(value), error: String::new() })
        }
    }
}

fn write(items: Vec<Item<'_>>, system_error: String) -> Vec<u8> {
    let response = Response { idempotent: false, items, system_error };
    let written = ProviderResponse { api_version: API_VERSION, kind: "ProviderResponse", response };
    // An empty body, which cannot come about, is an outage to Gatekeeper.
    json_output::line(&written).unwrap_or_default()
}

#[cfg(test)]
mod tests;
