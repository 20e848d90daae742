//! Answers of time stamp authorities, as far as they need no key to be read.

use cms::content_info::ContentInfo;
use cms::signed_data::{EncapsulatedContentInfo, SignerInfo, SignerInfos};
use jiff::Timestamp;
use x509_cert::Certificate;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use x509_cert::der::{self, Decode, Encode, ErrorKind, Reader, SliceReader, Tag, TagNumber, Tagged};
use x509_cert::spki::AlgorithmIdentifierRef;

use super::TimestampError;
use crate::keys::Hash;

const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
pub(super) const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
/// The statuses `granted` and `grantedWithMods`.
const GRANTED: [u8; 2] = [0, 1];

/// What an authority signs.
pub(super) struct Info {
    pub(super) policy: ObjectIdentifier,
    pub(super) hash: Hash,
    pub(super) imprint: Vec<u8>,
    pub(super) time: Timestamp,
    pub(super) nonce: Option<Vec<u8>>,
}

/// The signed data of a token. The crate's own type refuses those in which a certificate is twice, as cosign's are.
pub(super) struct SignedData {
    pub(super) content: EncapsulatedContentInfo,
    pub(super) certificates: Vec<Certificate>,
    pub(super) signers: Vec<SignerInfo>,
}

/// The signed data of a granted response.
pub(super) fn signed_data(response: &[u8]) -> Result<SignedData, TimestampError> {
    let (status, token) = parts(response).map_err(|error| TimestampError::Response(Some(error)))?;
    if !GRANTED.contains(&status) {
        return Err(TimestampError::NotGranted(status));
    }
    let token = token.ok_or(TimestampError::Response(None))?;
    if token.content_type != SIGNED_DATA {
        return Err(TimestampError::Response(None));
    }
    let parsed = token.content.to_der().and_then(|der| SignedData::parse(&der));
    parsed.map_err(|error| TimestampError::Response(Some(error)))
}

/// The status and the token of a TimeStampResp.
fn parts(response: &[u8]) -> der::Result<(u8, Option<ContentInfo>)> {
    let mut reader = SliceReader::new(response)?;
    let parts = reader.sequence(|reader| {
        let status = reader.sequence(|reader| {
            let status = u8::decode(reader)?;
            while !reader.is_finished() {
                AnyRef::decode(reader)?;
            }
            Ok(status)
        })?;
        let token = if reader.is_finished() { None } else { Some(ContentInfo::decode(reader)?) };
        Ok((status, token))
    })?;
    reader.finish(parts)
}

impl SignedData {
    fn parse(der: &[u8]) -> der::Result<SignedData> {
        let mut reader = SliceReader::new(der)?;
        let data = reader.sequence(|reader| {
            let _version = AnyRef::decode(reader)?;
            let _algorithms = AnyRef::decode(reader)?;
            let content = EncapsulatedContentInfo::decode(reader)?;
            let mut certificates = Vec::new();
            while let tag @ Tag::ContextSpecific { .. } = reader.peek_header()?.tag {
                let field = AnyRef::decode(reader)?;
                if tag.number() == TagNumber::N0 {
                    certificates = parse_certificates(field.value())?;
                }
            }
            let signers = SignerInfos::decode(reader)?.0.into_vec();
            Ok(SignedData { content, certificates, signers })
        })?;
        reader.finish(data)
    }
}

/// The X.509 certificates in a CertificateSet.
fn parse_certificates(set: &[u8]) -> der::Result<Vec<Certificate>> {
    let mut reader = SliceReader::new(set)?;
    let mut certificates = Vec::new();
    while !reader.is_finished() {
        let choice = AnyRef::decode(&mut reader)?;
        if choice.tag() == Tag::Sequence {
            certificates.push(Certificate::from_der(&choice.to_der()?)?);
        }
    }
    Ok(certificates)
}

impl Info {
    /// The TSTInfo in `content`.
    pub(super) fn parse(content: &[u8]) -> der::Result<Info> {
        let mut reader = SliceReader::new(content)?;
        let info = reader.sequence(|reader| {
            if u8::decode(reader)? != 1 {
                return Err(ErrorKind::Value { tag: Tag::Integer }.into());
            }
            let policy = ObjectIdentifier::decode(reader)?;
            let (hash, imprint) = reader.sequence(|reader| {
                let algorithm = AlgorithmIdentifierRef::decode(reader)?;
                let hash = hash_of(algorithm.oid).ok_or(ErrorKind::OidUnknown { oid: algorithm.oid })?;
                Ok((hash, OctetStringRef::decode(reader)?.as_bytes().to_vec()))
            })?;
            let _serial = AnyRef::decode(reader)?;
            let time = time(AnyRef::decode(reader)?).ok_or(ErrorKind::DateTime)?;
            let mut nonce = None;
            while !reader.is_finished() {
                let field = AnyRef::decode(reader)?;
                if field.tag() == Tag::Integer {
                    nonce = Some(field.value().to_vec());
                }
            }
            Ok(Info { policy, hash, imprint, time, nonce })
        })?;
        reader.finish(info)
    }
}

/// The hash with this name.
pub(super) fn hash_of(algorithm: ObjectIdentifier) -> Option<Hash> {
    match algorithm {
        SHA256 => Some(Hash::Sha256),
        SHA384 => Some(Hash::Sha384),
        SHA512 => Some(Hash::Sha512),
        _ => None,
    }
}

/// A GeneralizedTime, which may have fractions of a second here.
fn time(field: AnyRef<'_>) -> Option<Timestamp> {
    if field.tag() != Tag::GeneralizedTime {
        return None;
    }
    let text = std::str::from_utf8(field.value()).ok()?.strip_suffix('Z')?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if seconds.len() != 14 || !is_number(seconds) || !is_number(fraction) {
        return None;
    }
    let (date, clock) = seconds.split_at(8);
    format!("{date}T{clock}Z").parse().ok()
}
