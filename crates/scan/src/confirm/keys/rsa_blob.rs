//! `PRIVATEKEYBLOB` of Windows' CryptoAPI, which is also what a strong name key (`.snk`) is. Source: Microsoft,
//! "RSA/Schannel Key BLOBs" (`BLOBHEADER`, `RSAPUBKEY` and the numbers, all least byte first).

use super::{Container, PrivateKey, Reject, der, number, tlv};

/// `bType` 7, `bVersion` 2, two reserved bytes.
const HEADER: &[u8] = &[7, 2, 0, 0];

/// Reads the key that starts at `at` in `window`. The span ends after the last number; anything may follow.
///
/// # Errors
/// The reason for the rejection, usually primes whose product is not the modulus.
pub fn rsa_blob_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let bytes = window.get(at..).ok_or(Reject::Truncated)?;
    let mut rest = bytes.strip_prefix(HEADER).ok_or(Reject::NoLabel)?;
    // CALG_RSA_SIGN and CALG_RSA_KEYX.
    if !matches!(take(&mut rest, 4)?, [0, 0x24 | 0xa4, 0, 0]) || take(&mut rest, 4)? != b"RSA2" {
        return Err(Reject::NoLabel);
    }
    let bits = take(&mut rest, 4)?.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
    if !(512..=16_384).contains(&bits) || !bits.is_multiple_of(16) {
        return Err(Reject::Inconsistent);
    }
    let mut next = |len| take(&mut rest, len).map(|number| number.iter().rev().copied().collect::<Vec<u8>>());
    let (e, n) = (next(4)?, next(bits / 8)?);
    let half = bits / 16;
    let (p, q, dp, dq, inverse) = (next(half)?, next(half)?, next(half)?, next(half)?, next(half)?);
    let d = next(bits / 8)?;
    if number::bits(&n) as usize != bits {
        return Err(Reject::Inconsistent);
    }
    let numbers = [vec![], n, e, d, p, q, dp, dq, inverse].map(|number| tlv::encode_number(&number)).concat();
    let key = der::rsa(&numbers, Container::RsaBlob)?;
    Ok(PrivateKey { span: at..at + bytes.len() - rest.len(), ..key })
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Reject> {
    let (taken, after) = rest.split_at_checked(len).ok_or(Reject::Truncated)?;
    *rest = after;
    Ok(taken)
}
