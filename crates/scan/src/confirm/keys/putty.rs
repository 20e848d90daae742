//! PuTTY's private key files, `.ppk`, versions 2 and 3. Source: the PuTTY manual, appendix C.
//!
//! The last line is a MAC over everything else. Without a passphrase, its key is known, so that a complete file that is
//! not encrypted can be verified.

use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::ec::{self, EcKey};
use super::fields::Fields;
use super::{Algorithm, Claim, Container, PrivateKey, Reject, der, distinct, openssh, pem};

const MAGIC: &[u8] = b"PuTTY-User-Key-File-";

/// The string before the passphrase in the input of the MAC key of version 2 files.
const MAC_SALT: &[u8] = b"putty-private-key-file-mac-key";

/// The greatest number of lines in a block of base64; an RSA key of 16,384 bits has 87.
const MAX_LINES: usize = 400;

/// Reads the private key whose file starts at `at` in `window`. The span ends after the MAC.
///
/// # Errors
/// The reason for the rejection, also for a wrong MAC if the key is not encrypted.
pub fn ppk_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let text = window.get(at..).ok_or(Reject::Truncated)?;
    if !text.starts_with(MAGIC) {
        return Err(Reject::NoLabel);
    }
    let mut lines = Lines { rest: text };
    let file = File::read(&mut lines)?;
    let key = file.key()?;
    Ok(PrivateKey { span: at..at + text.len() - lines.rest.len(), ..key })
}

struct File<'a> {
    version: u8,
    algorithm: &'a [u8],
    cipher: &'a [u8],
    comment: &'a [u8],
    public: Vec<u8>,
    private: Vec<u8>,
    mac: Vec<u8>,
}

impl<'a> File<'a> {
    fn read(lines: &mut Lines<'a>) -> Result<File<'a>, Reject> {
        let (version, algorithm) = match lines.header()? {
            (b"PuTTY-User-Key-File-2", algorithm) => (2, algorithm),
            (b"PuTTY-User-Key-File-3", algorithm) => (3, algorithm),
            _ => return Err(Reject::NoLabel),
        };
        let cipher = lines.value(b"Encryption")?;
        let comment = lines.value(b"Comment")?;
        let public = lines.block(b"Public-Lines")?;
        if version == 3 && cipher != b"none" {
            for name in [&b"Key-Derivation"[..], b"Argon2-Memory", b"Argon2-Passes", b"Argon2-Parallelism"] {
                lines.value(name)?;
            }
            lines.value(b"Argon2-Salt")?;
        }
        let private = lines.block(b"Private-Lines")?;
        let mac = lines.mac(if version == 2 { 20 } else { 32 })?;
        Ok(File { version, algorithm, cipher, comment, public, private, mac })
    }

    fn key(&self) -> Result<PrivateKey, Reject> {
        if Fields::new(&self.public).string()? != self.algorithm {
            return Err(Reject::Inconsistent);
        }
        match self.cipher {
            b"none" if self.has_mac()? => self.plain(),
            b"none" => Err(Reject::Inconsistent),
            b"aes256-cbc" => self.encrypted(),
            _ => Err(Reject::NotAKey),
        }
    }

    fn has_mac(&self) -> Result<bool, Reject> {
        let parts = [self.algorithm, self.cipher, self.comment, &self.public, &self.private];
        if self.version == 2 {
            let key = Sha1::new().chain_update(MAC_SALT).finalize();
            return verify(Hmac::<Sha1>::new_from_slice(&key).map_err(|_| Reject::Malformed)?, parts, &self.mac);
        }
        verify(Hmac::<Sha256>::new_from_slice(&[]).map_err(|_| Reject::Malformed)?, parts, &self.mac)
    }

    fn plain(&self) -> Result<PrivateKey, Reject> {
        let container = Container::Putty;
        let mut public = Fields::new(&self.public);
        public.string()?;
        let mut private = Fields::new(&self.private);
        match self.algorithm {
            b"ssh-rsa" => {
                let (e, n) = (public.number()?, public.number()?);
                let (d, p, q) = (private.number()?, private.number()?, private.number()?);
                der::rsa_of([n, e, d, p, q, private.number()?], container)
            }
            b"ssh-dss" => {
                let (p, q, g) = (public.number()?, public.number()?, public.number()?);
                der::dsa(p, q, g, private.number()?, container)
            }
            b"ssh-ed25519" => der::ed25519(private.string()?, container),
            b"ssh-ed448" => der::ed448(private.string()?, container),
            b"ecdsa-sha2-nistp256" | b"ecdsa-sha2-nistp384" | b"ecdsa-sha2-nistp521" => {
                let parameters = ec::openssh_curve(public.string()?).ok_or(Reject::NotAKey)?;
                Ok(der::on_curve(EcKey::new(parameters, private.number()?, Claim::Labelled)?, container))
            }
            _ => Err(Reject::NotAKey),
        }
    }

    fn encrypted(&self) -> Result<PrivateKey, Reject> {
        if self.private.len() < 32 || !self.private.len().is_multiple_of(16) {
            return Err(Reject::Malformed);
        }
        if distinct(&self.private) < 16 {
            return Err(Reject::Placeholder);
        }
        let (algorithm, bits) = openssh::public_key(&self.public)?;
        if matches!(algorithm, Algorithm::Unknown(_)) {
            return Err(Reject::NotAKey);
        }
        let material = [&self.public[..], &self.private].concat();
        Ok(PrivateKey {
            algorithm,
            bits,
            container: Container::Putty,
            encrypted: true,
            span: 0..0,
            material,
            note: None,
        })
    }
}

/// Whether `mac`, fed with `parts` as strings, is `expected`.
fn verify<M: Mac>(mut mac: M, parts: [&[u8]; 5], expected: &[u8]) -> Result<bool, Reject> {
    for part in parts {
        let len = u32::try_from(part.len()).map_err(|_| Reject::Malformed)?;
        mac.update(&len.to_be_bytes());
        mac.update(part);
    }
    Ok(mac.verify_slice(expected).is_ok())
}

/// Reads lines. In a string literal or a variable, lines end with an escaped `\n`.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a [u8], Reject> {
        let end = memchr::memchr2(b'\n', b'\\', self.rest).ok_or(Reject::Truncated)?;
        let (line, rest) = self.rest.split_at_checked(end).ok_or(Reject::Truncated)?;
        self.rest = match rest {
            [b'\n', rest @ ..] | [b'\\', b'n', rest @ ..] | [b'\\', b'r', b'\\', b'n', rest @ ..] => rest,
            _ => return Err(Reject::Malformed),
        };
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    fn header(&mut self) -> Result<(&'a [u8], &'a [u8]), Reject> {
        let line = self.next()?;
        let colon = memchr::memmem::find(line, b": ").ok_or(Reject::NoLabel)?;
        Ok((line.get(..colon).unwrap_or_default(), line.get(colon + 2..).unwrap_or_default()))
    }

    fn value(&mut self, name: &[u8]) -> Result<&'a [u8], Reject> {
        let (found, value) = self.header()?;
        if found == name { Ok(value) } else { Err(Reject::NotAKey) }
    }

    /// The bytes of the base64 lines, after a line with their number.
    fn block(&mut self, name: &[u8]) -> Result<Vec<u8>, Reject> {
        let count = std::str::from_utf8(self.value(name)?).ok().and_then(|text| text.parse::<usize>().ok());
        let count = count.filter(|count| (1..=MAX_LINES).contains(count)).ok_or(Reject::Malformed)?;
        let mut base64 = Vec::new();
        for _ in 0..count {
            base64.extend_from_slice(self.next()?);
        }
        pem::base64(&base64)
    }

    /// The `len` bytes of the last line, which needs no line end.
    fn mac(&mut self, len: usize) -> Result<Vec<u8>, Reject> {
        let rest = self.rest.strip_prefix(b"Private-MAC: ").ok_or(Reject::NotAKey)?;
        let digits = rest.iter().take(2 * len).take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (text, rest) = rest.split_at_checked(digits).ok_or(Reject::Truncated)?;
        self.rest = rest;
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = |pair: &[u8]| match pair {
            &[high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.chunks(2).map(pair).collect();
        bytes.filter(|bytes| bytes.len() == len).ok_or(Reject::Malformed)
    }
}
