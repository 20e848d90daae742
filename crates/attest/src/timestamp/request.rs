//! Questions to time stamp authorities.

use ring::rand::{SecureRandom, SystemRandom};
use x509_cert::der::Encode;
use x509_cert::der::asn1::ObjectIdentifier;

use super::{Authorities, Stamp, TimestampError};
use crate::keys::Hash;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// `BOOLEAN TRUE`: the answer is to have the certificate of the signer.
const WITH_CERTIFICATE: [u8; 3] = [0x01, 0x01, 0xff];
/// The AlgorithmIdentifier of SHA-256.
const SHA256: [u8; 15] = [0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00];

/// A question to a time stamp authority, with a nonce that its answer has to repeat.
#[derive(Clone, Debug)]
pub struct Request {
    imprint: Vec<u8>,
    nonce: [u8; 8],
    policy: Option<ObjectIdentifier>,
}

impl Request {
    /// The question for a stamp over `message`.
    ///
    /// # Errors
    /// Without random bytes.
    pub fn new(message: &[u8]) -> Result<Request, TimestampError> {
        let mut nonce = [0; 8];
        SystemRandom::new().fill(&mut nonce).map_err(|_| TimestampError::Random)?;
        // A positive integer without leading zeros, whatever the rest is.
        let [first, ..] = &mut nonce;
        *first = *first & 0x7f | 0x40;
        Ok(Request { imprint: Hash::Sha256.of(message), nonce, policy: None })
    }

    /// The same question for a stamp under `policy`, an object identifier.
    ///
    /// # Errors
    /// If it is not one.
    pub fn under_policy(self, policy: &str) -> Result<Request, TimestampError> {
        let policy = policy.parse().map_err(|error| TimestampError::Response(Some(error_of(error))))?;
        Ok(Request { policy: Some(policy), ..self })
    }

    /// The TimeStampReq in DER, which is posted as `application/timestamp-query`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn to_der(&self) -> Result<Vec<u8>, TimestampError> {
        let imprint = tlv(SEQUENCE, &[&SHA256, &tlv(OCTET_STRING, &[&self.imprint])]);
        let policy = self.policy.map(|policy| policy.to_der()).transpose();
        let policy = policy.map_err(|error| TimestampError::Response(Some(error)))?.unwrap_or_default();
        let nonce = tlv(INTEGER, &[&self.nonce]);
        Ok(tlv(SEQUENCE, &[&tlv(INTEGER, &[&[1]]), &imprint, &policy, &nonce, &WITH_CERTIFICATE]))
    }

    /// Checks that `response` answers this question, over the same `message`.
    ///
    /// # Errors
    /// If it does not, or is not by one of `authorities`.
    pub fn verify(&self, authorities: &Authorities, response: &[u8], message: &[u8]) -> Result<Stamp, TimestampError> {
        let stamp = authorities.verify(response, message)?;
        if stamp.nonce.as_deref() != Some(&self.nonce) {
            return Err(TimestampError::Nonce);
        }
        if self.policy.is_some_and(|policy| policy.to_string() != stamp.policy) {
            return Err(TimestampError::Policy(stamp.policy));
        }
        Ok(stamp)
    }
}

fn error_of(_: x509_cert::der::oid::Error) -> x509_cert::der::Error {
    x509_cert::der::ErrorKind::OidMalformed.into()
}

/// A value in DER. All of them have fewer than 256 bytes.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
    let header = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
    [header, value].concat()
}
