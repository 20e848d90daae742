//! Statements of in-toto: what is said about which image. The bytes of a statement are what is signed.
//!
//! Version 1 is written; version 0.1, which cosign writes, is read, too.

use std::collections::BTreeMap;

use layersift_model::{Algorithm, Digest, ParseError, parse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::encoding::is_hex;
use crate::json::{self, JsonError};

/// The type of statements that are written.
const STATEMENT_V1: &str = "https://in-toto.io/Statement/v1";
/// The type of the statements that `cosign attest` writes.
const STATEMENT_V0_1: &str = "https://in-toto.io/Statement/v0.1";
/// As many subjects as cosign reads in a bundle.
const MOST_SUBJECTS: usize = 1024;

/// Why a text is not accepted as a statement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Not strict JSON.
    #[error("the statement is refused")]
    Json(#[source] JsonError),
    /// Fields that statements do not have, or of another kind.
    #[error("the statement is not one of in-toto")]
    Shape(#[source] ParseError),
    /// Another version of in-toto, or something else.
    #[error("the statement has the unknown type `{0}`")]
    Type(String),
    /// No subject, or more than are read.
    #[error("the statement has {0} subjects instead of 1 to {MOST_SUBJECTS}")]
    Subjects(usize),
    /// A digest with a prefix, in upper case, or not in hexadecimal digits.
    #[error("the statement has the invalid {algorithm} digest `{value}`")]
    Digest {
        /// What the digest is called.
        algorithm: String,
        /// The digest.
        value: String,
    },
    /// Predicates without a type.
    #[error("the statement has an empty predicate type")]
    PredicateType,
    /// A predicate that is absent, null, or not an object.
    #[error("the predicate is not an object")]
    Predicate,
    /// An image that is named by another digest than SHA-256, which cosign does not look for.
    #[error("{0}: only SHA-256 digests can be attested")]
    OnlySha256(Digest),
}

/// What a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// A name, which nobody checks.
    pub name: Option<String>,
    /// Digests in hexadecimal digits, by algorithm.
    pub digests: BTreeMap<String, String>,
}

/// A statement about images.
#[derive(Clone, Debug)]
pub struct Statement {
    subjects: Vec<Subject>,
    predicate_type: String,
    predicate: Box<RawValue>,
}

impl Statement {
    /// The statement that `predicate` holds for the image `digest`.
    ///
    /// # Errors
    /// For a digest that is not SHA-256, and a predicate that is not an object or has integers above 2^53.
    pub fn new<P: Serialize>(
        name: Option<&str>,
        digest: &Digest,
        predicate_type: &str,
        predicate: &P,
    ) -> Result<Statement, StatementError> {
        if digest.algorithm() != Algorithm::Sha256 {
            return Err(StatementError::OnlySha256(digest.clone()));
        }
        if predicate_type.is_empty() {
            return Err(StatementError::PredicateType);
        }
        let predicate =
            serde_json::value::to_raw_value(predicate).map_err(|error| StatementError::Shape(error.into()))?;
        json::check_written(predicate.get().as_bytes()).map_err(StatementError::Json)?;
        let digests = BTreeMap::from([("sha256".into(), digest.hex().into())]);
        let subject = Subject { name: name.map(String::from), digests };
        let predicate = object(Some(predicate))?;
        Ok(Statement { subjects: vec![subject], predicate_type: predicate_type.into(), predicate })
    }

    /// The statement in `payload`.
    ///
    /// # Errors
    /// If it is not one that every reader understands in the same way.
    pub fn parse(payload: &[u8]) -> Result<Statement, StatementError> {
        let text = json::check(payload).map_err(StatementError::Json)?;
        let form: Form = parse::json(text).map_err(StatementError::Shape)?;
        if form.kind != STATEMENT_V1 && form.kind != STATEMENT_V0_1 {
            return Err(StatementError::Type(form.kind));
        }
        if form.predicate_type.is_empty() {
            return Err(StatementError::PredicateType);
        }
        if form.subject.is_empty() || form.subject.len() > MOST_SUBJECTS {
            return Err(StatementError::Subjects(form.subject.len()));
        }
        let subjects = form.subject.into_iter().map(SubjectForm::checked).collect::<Result<_, _>>()?;
        Ok(Statement { subjects, predicate_type: form.predicate_type, predicate: object(form.predicate)? })
    }

    /// The bytes that are signed.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StatementError> {
        let subject = self.subjects.iter().map(SubjectForm::of).collect();
        let form = Form {
            kind: STATEMENT_V1.into(),
            subject,
            predicate_type: self.predicate_type.clone(),
            predicate: Some(self.predicate.clone()),
        };
        serde_json::to_vec(&form).map_err(|error| StatementError::Shape(error.into()))
    }

    /// What it is about.
    pub fn subjects(&self) -> &[Subject] {
        &self.subjects
    }

    /// Whether it is about the image `digest`.
    pub fn is_about(&self, digest: &Digest) -> bool {
        let name = digest.algorithm().name();
        digest.algorithm() == Algorithm::Sha256
            && self.subjects.iter().any(|subject| subject.digests.get(name).is_some_and(|hex| hex == digest.hex()))
    }

    /// The URI that says what the predicate means.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// The predicate as JSON.
    pub fn predicate(&self) -> &str {
        self.predicate.get()
    }

    /// The predicate as a `P`.
    ///
    /// # Errors
    /// If it has another form.
    pub fn predicate_as<P: DeserializeOwned>(&self) -> Result<P, ParseError> {
        parse::json(self.predicate.get())
    }
}

fn object(predicate: Option<Box<RawValue>>) -> Result<Box<RawValue>, StatementError> {
    predicate.filter(|predicate| predicate.get().starts_with('{')).ok_or(StatementError::Predicate)
}

/// A statement in JSON. The order of the fields is that of the recordings.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<SubjectForm>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Option<Box<RawValue>>,
}

/// A resource descriptor of in-toto, with all fields that it may have.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default)]
    digest: BTreeMap<String, String>,
    #[serde(default, rename = "uri", skip_serializing)]
    _uri: Option<String>,
    #[serde(default, rename = "content", skip_serializing)]
    _content: Option<String>,
    #[serde(default, rename = "downloadLocation", skip_serializing)]
    _download_location: Option<String>,
    #[serde(default, rename = "mediaType", skip_serializing)]
    _media_type: Option<String>,
    #[serde(default, rename = "annotations", skip_serializing)]
    _annotations: Option<BTreeMap<String, serde_json::Value>>,
}

impl SubjectForm {
    fn of(subject: &Subject) -> SubjectForm {
        SubjectForm { name: subject.name.clone(), digest: subject.digests.clone(), ..SubjectForm::default() }
    }

    fn checked(self) -> Result<Subject, StatementError> {
        for (algorithm, value) in &self.digest {
            let is_valid =
                if algorithm == "sha256" { format!("sha256:{value}").parse::<Digest>().is_ok() } else { is_hex(value) };
            if !is_valid {
                let value = value.chars().take(160).collect();
                return Err(StatementError::Digest { algorithm: algorithm.clone(), value });
            }
        }
        Ok(Subject { name: self.name, digests: self.digest })
    }
}
