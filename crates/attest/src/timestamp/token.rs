//! Who signed a time stamp, and whether that authority is trusted.

use cms::signed_data::{SignerIdentifier, SignerInfo};
use jiff::Timestamp;
use ring::digest;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use x509_cert::der::{self, Decode, Encode, Reader, SliceReader, Tag, Tagged};
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectKeyIdentifier};
use x509_cert::spki::AlgorithmIdentifierRef;

use super::TimestampError;
use super::response::{Info, TST_INFO, hash_of, signed_data};
use crate::keys::{Hash, PublicKey, sections};

const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const TIME_STAMPING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// The same in DER, without tag and length.
const TIME_STAMPING_BYTES: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x08];
const CERTIFICATE_LABEL: &str = "CERTIFICATE";

/// A time that a trusted authority signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The time, in whole seconds.
    pub time: Timestamp,
    /// The policy of the authority, an object identifier.
    pub policy: String,
    /// The nonce of the request, as a big-endian integer.
    pub nonce: Option<Vec<u8>>,
}

/// The time stamp authorities that are trusted.
#[derive(Clone, Debug)]
pub struct Authorities {
    roots: Vec<CertificateDer<'static>>,
    /// Certificates that a token may leave out.
    others: Vec<Certificate>,
}

impl Authorities {
    /// The authorities in a PEM file: roots, which are the certificates that name themselves as their issuer, and
    /// certificates below them, in any order.
    ///
    /// # Errors
    /// If it is not such a file, or has no root.
    pub fn from_pem(text: &str) -> Result<Authorities, TimestampError> {
        let sections = sections(text).ok_or(TimestampError::Certificates)?;
        let mut authorities = Authorities { roots: Vec::new(), others: Vec::new() };
        for section in sections {
            if section.label != CERTIFICATE_LABEL {
                return Err(TimestampError::Certificates);
            }
            let parsed = Certificate::from_der(&section.bytes).map_err(|_| TimestampError::Certificates)?;
            if parsed.tbs_certificate.issuer == parsed.tbs_certificate.subject {
                authorities.roots.push(section.bytes.into());
            }
            authorities.others.push(parsed);
        }
        if authorities.roots.is_empty() { Err(TimestampError::Certificates) } else { Ok(authorities) }
    }

    /// Checks that `response` has a stamp over `message` of one of the authorities.
    ///
    /// # Errors
    /// If it does not.
    pub fn verify(&self, response: &[u8], message: &[u8]) -> Result<Stamp, TimestampError> {
        let data = signed_data(response)?;
        let content = data.content.econtent.as_ref().filter(|any| any.tag() == Tag::OctetString);
        let content = content.ok_or(TimestampError::Response(None))?.value();
        if data.content.econtent_type != TST_INFO {
            return Err(TimestampError::Response(None));
        }
        let info = Info::parse(content).map_err(|error| TimestampError::Response(Some(error)))?;
        if info.imprint != info.hash.of(message) {
            return Err(TimestampError::Imprint);
        }
        let [signer] = data.signers.as_slice() else { return Err(TimestampError::Response(None)) };
        let certificates: Vec<_> = self.others.iter().chain(&data.certificates).cloned().collect();
        let certificate = certificates.iter().find(|certificate| is_of(&signer.sid, certificate));
        let certificate = certificate.ok_or(TimestampError::Signer)?;
        check_signature(signer, content, certificate)?;
        self.check_chain(certificate, &certificates, info.time)?;
        Ok(Stamp { time: info.time, policy: info.policy.to_string(), nonce: info.nonce })
    }

    fn check_chain(&self, leaf: &Certificate, all: &[Certificate], time: Timestamp) -> Result<(), TimestampError> {
        let untrusted = |reason: &dyn std::fmt::Display| TimestampError::Chain(reason.to_string());
        if !is_for_time_stamping_only(leaf) {
            return Err(untrusted(&"it is not for time stamping only"));
        }
        let seconds = u64::try_from(time.as_second()).map_err(|error| untrusted(&error))?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let encode = |certificate: &Certificate| certificate.to_der().map(CertificateDer::from);
        let leaf = encode(leaf).map_err(|error| untrusted(&error))?;
        let others = all.iter().map(encode).collect::<der::Result<Vec<_>>>().map_err(|error| untrusted(&error))?;
        let anchors = self.roots.iter().map(anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>();
        let anchors = anchors.map_err(|error| untrusted(&error))?;
        let usage = KeyUsage::required_if_present(TIME_STAMPING_BYTES);
        let leaf = EndEntityCert::try_from(&leaf).map_err(|error| untrusted(&error))?;
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &others, time, usage, None, None)
            .map(|_| ())
            .map_err(|error| untrusted(&error))
    }
}

/// Whether `signer` names this certificate.
fn is_of(signer: &SignerIdentifier, certificate: &Certificate) -> bool {
    let tbs = &certificate.tbs_certificate;
    match signer {
        SignerIdentifier::IssuerAndSerialNumber(name) => {
            name.issuer == tbs.issuer && name.serial_number == tbs.serial_number
        }
        SignerIdentifier::SubjectKeyIdentifier(id) => {
            tbs.get::<SubjectKeyIdentifier>().is_ok_and(|found| found.is_some_and(|(_, found)| found == *id))
        }
    }
}

/// RFC 3161, section 2.3: the extension is critical and names nothing else.
fn is_for_time_stamping_only(certificate: &Certificate) -> bool {
    let extensions = certificate.tbs_certificate.extensions.iter().flatten();
    let mut usages = extensions.filter(|extension| extension.extn_id == EXTENDED_KEY_USAGE);
    usages.next().is_some_and(|extension| {
        let usage = ExtendedKeyUsage::from_der(extension.extn_value.as_bytes());
        extension.critical && usage.is_ok_and(|usage| usage.0 == [TIME_STAMPING])
    })
}

fn check_signature(signer: &SignerInfo, content: &[u8], certificate: &Certificate) -> Result<(), TimestampError> {
    let hash = hash_of(signer.digest_alg.oid).ok_or(TimestampError::Signature)?;
    let der = certificate.to_der().map_err(|_| TimestampError::Signer)?;
    let fits = attributes_fit(signer, &hash.of(content), &der);
    if fits != Ok(true) {
        return Err(TimestampError::Attributes);
    }
    let signed = signer.signed_attrs.as_ref().and_then(|attributes| attributes.to_der().ok());
    let signed = signed.ok_or(TimestampError::Attributes)?;
    let key = certificate.tbs_certificate.subject_public_key_info.to_der().map_err(|_| TimestampError::Signer)?;
    let key = PublicKey::from_der(&key).map_err(|_| TimestampError::Signature)?;
    let hash = match signer.signature_algorithm.oid {
        RSA | ED25519 => hash,
        RSA_SHA256 | ECDSA_SHA256 => Hash::Sha256,
        RSA_SHA384 | ECDSA_SHA384 => Hash::Sha384,
        RSA_SHA512 | ECDSA_SHA512 => Hash::Sha512,
        _ => return Err(TimestampError::Signature),
    };
    let verifies = key.verifies_hashed(hash, &signed, signer.signature.as_bytes());
    if verifies { Ok(()) } else { Err(TimestampError::Signature) }
}

/// Whether the signed attributes have the type and the digest of the content, and name the certificate.
fn attributes_fit(signer: &SignerInfo, content_hash: &[u8], certificate: &[u8]) -> der::Result<bool> {
    let value = |name: ObjectIdentifier| {
        let mut found = signer.signed_attrs.iter().flat_map(|all| all.iter()).filter(|one| one.oid == name);
        match (found.next(), found.next()) {
            (Some(attribute), None) if attribute.values.len() == 1 => attribute.values.get(0),
            _ => None,
        }
    };
    let (Some(kind), Some(digest)) = (value(CONTENT_TYPE), value(MESSAGE_DIGEST)) else { return Ok(false) };
    let names_certificate = match (value(SIGNING_CERTIFICATE_V2), value(SIGNING_CERTIFICATE)) {
        (Some(id), _) => names_v2(&id.to_der()?, certificate)?,
        (None, Some(id)) => names_v1(&id.to_der()?, certificate)?,
        (None, None) => false,
    };
    Ok(kind.decode_as::<ObjectIdentifier>()? == TST_INFO
        && digest.decode_as::<OctetStringRef<'_>>()?.as_bytes() == content_hash
        && names_certificate)
}

/// Whether the first certificate of a SigningCertificateV2 is this one.
fn names_v2(id: &[u8], certificate: &[u8]) -> der::Result<bool> {
    first_id(id, |reader| {
        let is_sha256 = reader.peek_header()?.tag == Tag::OctetString;
        let hash = if is_sha256 { Some(Hash::Sha256) } else { hash_of(AlgorithmIdentifierRef::decode(reader)?.oid) };
        let named = OctetStringRef::decode(reader)?.as_bytes().to_vec();
        Ok(hash.is_some_and(|hash| hash.of(certificate) == named))
    })
}

/// Whether the first certificate of a SigningCertificate, whose hash is SHA-1, is this one.
fn names_v1(id: &[u8], certificate: &[u8]) -> der::Result<bool> {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, certificate);
    first_id(id, |reader| Ok(OctetStringRef::decode(reader)?.as_bytes() == hash.as_ref()))
}

/// Reads the first of the certificate ids in a signing certificate attribute.
fn first_id(id: &[u8], read: impl Fn(&mut SliceReader<'_>) -> der::Result<bool>) -> der::Result<bool> {
    let outer = AnyRef::from_der(id)?;
    let ids = AnyRef::decode(&mut SliceReader::new(outer.value())?)?;
    let first = AnyRef::decode(&mut SliceReader::new(ids.value())?)?;
    read(&mut SliceReader::new(first.value())?)
}
