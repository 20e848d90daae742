//! Plain JSON, for Kyverno's `http.Post` and for anything that can send and read JSON:
//!
//! ```json
//! {"images": ["registry.example.org/app:1", {"image": "app:2", "digest": "sha256:…"}], "namespace": "shop"}
//! ```
//!
//! is answered with HTTP status 200, whatever was decided:
//!
//! ```json
//! {"allowed": false, "message": "layersift: …", "decisions": [{"image": "app:2", "effect": "deny"}]}
//! ```

use crate::admission::bounded_json::{BoundedJson, OverBound};
use crate::admission::matched::{entries, message, worst};
use crate::admission::words::tidy;
use crate::admission::{Decision, Effect, Outcome, Reason};
use layersift_model::{Digest, ParseError, json_output, parse};
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::io::{BufReader, Read};
use std::time::Duration;

/// Objects and lists inside each other: three are needed.
const MOST_DEPTH: usize = 32;

/// Bytes of the message about a question that cannot be read.
const MOST_ERROR: usize = 512;

/// The bounds of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuestionLimits {
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Images of one question.
    pub images: usize,
    /// Bytes of an image reference, of a digest, of the namespace.
    pub text_bytes: usize,
}

impl Default for QuestionLimits {
    fn default() -> QuestionLimits {
        QuestionLimits { body_bytes: 2 << 20, images: 1_000, text_bytes: 1_024 }
    }
}

/// A question about images. A field of another name is an error: a question with a misspelt field would be about
/// nothing, which is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The images; none is a question too, and has nothing to deny.
    pub images: Vec<AskedImage>,
    /// The namespace or project that they are for, which policies may tell apart.
    #[serde(default)]
    pub namespace: Option<String>,
    /// How long the answer may take if something is not known yet, such as `8s`.
    #[serde(default, deserialize_with = "seconds")]
    pub wait: Option<Duration>,
}

/// An image that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedImage {
    /// The reference, which may be any text.
    pub image: String,
    /// The digest that the decision has to be for.
    pub digest: Option<Digest>,
    /// URLs of mirrors that the image may be pulled from instead: a hint.
    pub mirrors: Vec<String>,
}

/// Why a question cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// It cannot be received, or it has another form.
    #[error("the question cannot be read: {0}")]
    Json(#[from] ParseError),
    /// It goes over a bound of all bodies.
    #[error(transparent)]
    Bound(#[from] OverBound),
    /// It has too many images.
    #[error("the question has more than {0} images")]
    Images(usize),
    /// A text is too long.
    #[error("a text of the question is longer than {0} bytes")]
    Text(usize),
}

#[derive(Serialize)]
struct Written<'a> {
    allowed: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    decisions: &'a [Decision],
}

/// Reads a question.
pub fn read(body: impl Read, limits: &QuestionLimits) -> Result<Question, QuestionError> {
    let mut bounded = BoundedJson::new(body, limits.body_bytes, MOST_DEPTH, limits.text_bytes);
    let parsed: Result<Question, _> = parse::json_from(BufReader::new(&mut bounded));
    if let Some(over) = bounded.over_bound() {
        return Err(over.into());
    }
    let question = parsed?;
    if question.images.len() > limits.images {
        return Err(QuestionError::Images(limits.images));
    }
    let texts = question.images.iter().map(|asked| &asked.image).chain(&question.namespace);
    if texts.into_iter().any(|text| text.len() > limits.text_bytes) {
        return Err(QuestionError::Text(limits.text_bytes));
    }
    // Policies write an empty text where there is no namespace.
    Ok(Question { namespace: question.namespace.filter(|name| !name.is_empty()), ..question })
}

/// Answers a question. There must be a decision for each image, under the same text and with the digest that was asked
/// for; an image without one is denied, and a decision about another image counts as well.
pub fn answer(question: &Question, decisions: &[Decision]) -> Vec<u8> {
    let asked = question.images.iter().map(|asked| (&asked.image[..], asked.digest.as_ref()));
    let entries = entries(asked, decisions);
    let worst = worst(&entries);
    let message = if worst == Effect::Allow { String::new() } else { message(&entries, worst) };
    write(&Written { allowed: worst <= Effect::Warn, message, decisions })
}

/// Denies all images, because what was decided could not be logged. With HTTP status 200, as any answer.
pub fn not_entered(question: &Question, why: &str) -> Vec<u8> {
    let denied = |asked: &AskedImage| {
        let reasons = vec![Reason::of_words("audit-log", why)];
        let digest = asked.digest.clone();
        Decision { reasons, ..Decision::without_report(&asked.image, digest, Outcome::Unknown, why) }
    };
    let decisions: Vec<Decision> = question.images.iter().map(denied).collect();
    let message = format!("layersift: {}", tidy(why, MOST_ERROR));
    write(&Written { allowed: false, message, decisions: &decisions })
}

/// The body for a question that cannot be read, for HTTP status 400.
pub fn refuse(error: &dyn std::error::Error) -> Vec<u8> {
    let message = format!("layersift: {}", tidy(&error.to_string(), MOST_ERROR));
    write(&Written { allowed: false, message, decisions: &[] })
}

fn write(written: &Written<'_>) -> Vec<u8> {
    json_output::line(written).unwrap_or_else(|_| br#"{"allowed":false,"decisions":[]}"#.to_vec())
}

impl<'de> Deserialize<'de> for AskedImage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AskedImage, D::Error> {
        deserializer.deserialize_any(AskedVisitor)
    }
}

struct AskedVisitor;

impl<'de> Visitor<'de> for AskedVisitor {
    type Value = AskedImage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an image reference, or an object with `image` and `digest`")
    }

    fn visit_str<E>(self, image: &str) -> Result<AskedImage, E> {
        Ok(AskedImage { image: image.into(), digest: None, mirrors: Vec::new() })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AskedImage, A::Error> {
        let (mut image, mut digest, mut mirrors) = (None, None, Vec::new());
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Image if image.is_none() => image = Some(map.next_value()?),
                Field::Digest if digest.is_none() => digest = Some(map.next_value()?),
                Field::Mirrors => mirrors = map.next_value()?,
                // Whose certificates the client does not verify: this is not for it to say.
                Field::MirrorsSkipVerify => drop(map.next_value::<IgnoredAny>()?),
                Field::Image => return Err(A::Error::duplicate_field("image")),
                Field::Digest => return Err(A::Error::duplicate_field("digest")),
            }
        }
        Ok(AskedImage {
            image: image.ok_or_else(|| A::Error::missing_field("image"))?,
            digest: digest.flatten(),
            mirrors,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Field {
    Image,
    Digest,
    Mirrors,
    MirrorsSkipVerify,
}

/// A number of seconds, with its unit.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = text.strip_suffix('s').and_then(|number| number.parse().ok()).map(Duration::from_secs);
    let invalid = || D::Error::custom("invalid `wait`: expected seconds, such as 8s");
    number.ok_or_else(invalid).map(Some)
}

#[cfg(test)]
mod tests;
