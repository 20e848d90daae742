//! Keys that never leave a token: PKCS#11, named by a URI as RFC 7512 has it.
//!
//! `pkcs11:token=NAME;object=LABEL?module-path=/usr/lib/softhsm/libsofthsm2.so`, with the password as PIN. The module
//! is loaded when the program runs, so nothing is linked, and a static program cannot load it.

use anyhow::{Context, bail, ensure};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

use layersift_attest::keys::{Hash, PublicKey, SignError, Signer, ecdsa_der};

/// What a URI of a key begins with.
pub(super) const SCHEME: &str = "pkcs11:";
/// The tag of an OCTET STRING, in which tokens wrap points.
const OCTET_STRING: u8 = 4;

/// A key in a token.
pub(super) struct TokenKey {
    session: Session,
    key: ObjectHandle,
    kind: KeyType,
    public: PublicKey,
    // The module is unloaded after the session has ended.
    _module: Pkcs11,
}

/// The parts of a URI that are used.
#[derive(Debug, Default, PartialEq, Eq)]
struct KeyUri {
    token: Option<String>,
    object: Option<String>,
    module: Option<String>,
}

impl TokenKey {
    /// The key that `uri` names. `pin` gives the PIN, once the token is found.
    pub(super) fn open(uri: &str, pin: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<TokenKey> {
        let parts = KeyUri::parse(uri)?;
        let path = parts.module.context("the URI of the key needs ?module-path=FILE")?;
        let module = Pkcs11::new(&path).with_context(|| format!("cannot load {path}"))?;
        module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
        let mut wanted = Vec::new();
        for slot in module.get_slots_with_initialized_token()? {
            let info = module.get_token_info(slot)?;
            if parts.token.as_deref().is_none_or(|token| token == info.label().trim_end()) {
                wanted.push(slot);
            }
        }
        ensure!(wanted.len() == 1, "{} tokens match the URI of the key; name one with token=", wanted.len());
        let slot = wanted.remove(0);
        let session = module.open_ro_session(slot)?;
        session.login(UserType::User, Some(&AuthPin::new(pin()?.into()))).context("cannot log in to the token")?;
        let find = |class| find(&session, class, parts.object.as_deref());
        let (key, public) = (find(ObjectClass::PRIVATE_KEY)?, find(ObjectClass::PUBLIC_KEY)?);
        let (kind, public) = public_key(&session, public)?;
        Ok(TokenKey { session, key, kind, public, _module: module })
    }
}

impl Signer for TokenKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let sign = |mechanism: &Mechanism<'_>, data: &[u8]| {
            self.session.sign(mechanism, self.key, data).map_err(|error| SignError(error.into()))
        };
        if self.kind == KeyType::RSA {
            return sign(&Mechanism::Sha256RsaPkcs, message);
        }
        let numbers = sign(&Mechanism::Ecdsa, &Hash::Sha256.of(message))?;
        ecdsa_der(&numbers).ok_or_else(|| SignError("the token gives no signature of P-256".into()))
    }
}

/// The only object of a class, with this label.
fn find(session: &Session, class: ObjectClass, label: Option<&str>) -> anyhow::Result<ObjectHandle> {
    let mut template = vec![Attribute::Class(class)];
    template.extend(label.map(|label| Attribute::Label(label.as_bytes().to_vec())));
    let found = session.find_objects(&template)?;
    let [object] = found[..] else {
        bail!("the token has {} objects of the class {class} that match; name one with object=", found.len())
    };
    Ok(object)
}

fn public_key(session: &Session, object: ObjectHandle) -> anyhow::Result<(KeyType, PublicKey)> {
    let wanted = [AttributeType::EcPoint, AttributeType::Modulus, AttributeType::PublicExponent];
    let (mut point, mut modulus, mut exponent) = (None, None, None);
    for attribute in session.get_attributes(object, &wanted)? {
        match attribute {
            Attribute::EcPoint(bytes) => point = Some(bytes),
            Attribute::Modulus(bytes) => modulus = Some(bytes),
            Attribute::PublicExponent(bytes) => exponent = Some(bytes),
            _ => {}
        }
    }
    match (point, modulus, exponent) {
        (Some(point), _, _) => {
            let point = match point.as_slice() {
                [OCTET_STRING, length, rest @ ..] if usize::from(*length) == rest.len() => rest,
                whole => whole,
            };
            Ok((KeyType::EC, PublicKey::from_p256_point(point)?))
        }
        (None, Some(modulus), Some(exponent)) => Ok((KeyType::RSA, PublicKey::from_rsa(&modulus, &exponent)?)),
        _ => bail!("the key in the token is neither ECDSA on P-256 nor RSA"),
    }
}

impl KeyUri {
    fn parse(uri: &str) -> anyhow::Result<KeyUri> {
        let rest = uri.strip_prefix(SCHEME).context("the URI of a key begins with pkcs11:")?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parts = KeyUri::default();
        for attribute in path.split(';').chain(query.split('&')).filter(|attribute| !attribute.is_empty()) {
            let (name, value) = attribute.split_once('=').context("a part of the URI of the key has no value")?;
            let value =
                decoded(value).with_context(|| format!("the part `{name}` of the URI of the key is not encoded"))?;
            let value = Some(value);
            match name {
                "token" => parts.token = value,
                "object" => parts.object = value,
                "module-path" => parts.module = value,
                "type" => {}
                "pin-value" | "pin-source" => bail!("the PIN is no part of the URI: pass --password-file"),
                // A part that is not understood might name another key.
                _ => bail!("the part `{name}` of the URI of the key is not known"),
            }
        }
        Ok(parts)
    }
}

/// `text` without its percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_of_keys() {
        let parts = KeyUri::parse("pkcs11:token=my%20token;object=key;type=private?module-path=/lib/x.so").unwrap();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts, KeyUri { token: some("my token"), object: some("key"), module: some("/lib/x.so") });
        for wrong in ["pkcs11:token", "pkcs11:id=%01", "pkcs11:token=%4", "file:x", "pkcs11:pin-value=1"] {
            assert!(KeyUri::parse(wrong).is_err(), "{wrong}");
        }
    }
}
