//! Envelopes of DSSE: a statement with its signature over the pre-authentication encoding.
//!
//! An envelope is read as cosign reads it in the form that it is in. In a bundle it has exactly one signature and no
//! key id, and no unknown fields. In a `.att` manifest it may have several, of which one has to verify.

use layersift_model::{ParseError, parse};
use serde::{Deserialize, Serialize};

use crate::encoding::{Base64, base64};
use crate::json::{self, JsonError};
use crate::keys::{PublicKey, SignError, Signer};
use crate::statement::{Statement, StatementError};

/// The media type of a statement, which is signed with it.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// More signatures than anybody makes. Each is a hash of the whole payload for every key, before anything is trusted.
const MOST_SIGNATURES: usize = 10;
/// The most bytes of a statement that are read. cosign reads bills of materials of more than 20 MB.
const MOST_PAYLOAD: usize = 32 << 20;

/// Why a text is not accepted as an envelope.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not strict JSON.
    #[error("the envelope is refused")]
    Json(#[source] JsonError),
    /// Fields that an envelope does not have, or of another kind.
    #[error("the envelope is not one of DSSE")]
    Shape(#[source] ParseError),
    /// A payload that is not a statement.
    #[error("the payload of the envelope has the type `{0}` instead of `{PAYLOAD_TYPE}`")]
    PayloadType(String),
    /// A payload or signature that is not base64.
    #[error("the {0} of the envelope is not base64")]
    Base64(&'static str),
    /// A statement that is larger than is read.
    #[error("the payload of the envelope has {0} bytes, more than the {MOST_PAYLOAD} that are read")]
    TooLarge(usize),
    /// No signature, or more than are read.
    #[error("the envelope has {0} signatures")]
    Signatures(usize),
    /// A signature in a bundle that names its key, which cosign refuses.
    #[error("the signature in the bundle has a key id")]
    KeyId,
}

/// Why a statement was not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The statement cannot be written.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The key does not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A signed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The bytes that the signatures are over. They end with the payload.
    signed: Vec<u8>,
    payload_length: usize,
    signatures: Vec<Vec<u8>>,
}

/// The bytes that a signature is over: the pre-authentication encoding of DSSE.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

impl Envelope {
    /// `statement`, signed.
    ///
    /// # Errors
    /// If it cannot be written or signed.
    pub fn sign(statement: &Statement, signer: &dyn Signer) -> Result<Envelope, SealError> {
        let payload = statement.to_bytes()?;
        let signed = pae(PAYLOAD_TYPE, &payload);
        let signatures = vec![signer.sign(&signed)?];
        Ok(Envelope { signed, payload_length: payload.len(), signatures })
    }

    /// The envelope in a layer of a `.att` manifest.
    ///
    /// # Errors
    /// If it is not one that both versions of cosign read.
    pub fn parse(text: &[u8]) -> Result<Envelope, EnvelopeError> {
        let text = json::check(text).map_err(EnvelopeError::Json)?;
        let form: LayerForm = parse::json(text).map_err(EnvelopeError::Shape)?;
        let signatures = form.signatures.iter().map(|signature| signature.sig.as_str());
        Envelope::of(&form.payload_type, &form.payload, signatures, Base64::Standard, Base64::EitherAlphabet)
    }

    /// The envelope of a bundle.
    pub(crate) fn from_bundle(form: &EnvelopeForm) -> Result<Envelope, EnvelopeError> {
        if form.signatures.len() != 1 {
            return Err(EnvelopeError::Signatures(form.signatures.len()));
        }
        if form.signatures.iter().any(|signature| signature.keyid.as_deref().is_some_and(|id| !id.is_empty())) {
            return Err(EnvelopeError::KeyId);
        }
        let signatures = form.signatures.iter().map(|signature| signature.sig.as_str());
        Envelope::of(&form.payload_type, &form.payload, signatures, Base64::Protobuf, Base64::Protobuf)
    }

    fn of<'s>(
        payload_type: &str,
        payload: &str,
        signatures: impl ExactSizeIterator<Item = &'s str>,
        payload_base64: Base64,
        signature_base64: Base64,
    ) -> Result<Envelope, EnvelopeError> {
        if payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType(payload_type.chars().take(160).collect()));
        }
        if signatures.len() == 0 || signatures.len() > MOST_SIGNATURES {
            return Err(EnvelopeError::Signatures(signatures.len()));
        }
        // Base64 has four characters for three bytes.
        let payload = match payload.len() / 4 * 3 {
            length if length > MOST_PAYLOAD + 2 => return Err(EnvelopeError::TooLarge(length)),
            _ => payload_base64.decode(payload).ok_or(EnvelopeError::Base64("payload"))?,
        };
        let signatures = signatures
            .map(|text| signature_base64.decode(text).ok_or(EnvelopeError::Base64("signature")))
            .collect::<Result<_, _>>()?;
        Ok(Envelope { signed: pae(PAYLOAD_TYPE, &payload), payload_length: payload.len(), signatures })
    }

    /// The envelope as JSON: the layer of a `.att` manifest, and a part of a bundle.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&self.form())
    }

    pub(crate) fn form(&self) -> EnvelopeForm {
        EnvelopeForm {
            payload: base64(self.payload()),
            payload_type: PAYLOAD_TYPE.into(),
            signatures: self.signatures.iter().map(|sig| SignatureForm { keyid: None, sig: base64(sig) }).collect(),
        }
    }

    /// The bytes of the statement. They mean nothing before a signature was verified.
    pub fn payload(&self) -> &[u8] {
        let start = self.signed.len().saturating_sub(self.payload_length);
        self.signed.get(start..).unwrap_or_default()
    }

    /// The bytes of the signatures, as the algorithm makes them.
    pub fn signatures(&self) -> &[Vec<u8>] {
        &self.signatures
    }

    /// Whether one of its signatures is by `key`.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.signatures.iter().any(|signature| key.verifies(&self.signed, signature))
    }

    /// The statement.
    ///
    /// # Errors
    /// If it is not one.
    pub fn statement(&self) -> Result<Statement, StatementError> {
        Statement::parse(self.payload())
    }
}

/// The envelope in a bundle. The order of the fields is that of the recordings.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvelopeForm {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<SignatureForm>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keyid: Option<String>,
    sig: String,
}

/// The envelope in a layer: DSSE lets others add fields.
#[derive(Deserialize)]
struct LayerForm {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<LayerSignature>,
}

#[derive(Deserialize)]
struct LayerSignature {
    sig: String,
}
