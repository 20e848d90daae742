//! Encodings with a checksum that wallets use for keys.

use sha2::{Digest as _, Sha256};

/// Decodes Base58Check: a payload followed by the first four bytes of its double SHA-256.
///
/// Source: Bitcoin's `base58.cpp`; the alphabet leaves out 0, O, I and l.
pub(super) fn base58check(text: &[u8]) -> Option<Vec<u8>> {
    let bytes = base58(text, b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")?;
    let (payload, sum) = bytes.split_last_chunk::<4>()?;
    (Sha256::digest(Sha256::digest(payload))[..4] == sum[..]).then(|| payload.to_vec())
}

/// Decodes base 58, big-endian; each leading first digit is a zero byte.
fn base58(text: &[u8], alphabet: &[u8; 58]) -> Option<Vec<u8>> {
    const LONGEST: usize = 200;
    if text.len() > LONGEST {
        return None;
    }
    let mut bytes: Vec<u8> = Vec::new();
    for digit in text {
        let mut carry = alphabet.iter().position(|known| known == digit)?;
        for byte in &mut bytes {
            carry += usize::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        while carry > 0 {
            bytes.push(carry as u8);
            carry >>= 8;
        }
    }
    let zeros = text.iter().take_while(|digit| **digit == alphabet[0]).count();
    bytes.extend(std::iter::repeat_n(0, zeros));
    bytes.reverse();
    Some(bytes)
}

/// Whether `text` is valid Bech32: a human-readable part, `1`, data and a BCH code of six digits.
///
/// Source: BIP 173, "Bech32". The length limit of addresses does not hold for keys.
pub(super) fn bech32(text: &[u8]) -> bool {
    const DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATORS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let text = text.to_ascii_lowercase();
    let Some(split) = memchr::memrchr(b'1', &text).filter(|split| *split > 0 && text.len() >= split + 7) else {
        return false;
    };
    let (name, data) = (&text[..split], &text[split + 1..]);
    let Some(data) =
        data.iter().map(|digit| DIGITS.iter().position(|known| known == digit)).collect::<Option<Vec<_>>>()
    else {
        return false;
    };
    let high = name.iter().map(|byte| usize::from(byte >> 5));
    let low = name.iter().map(|byte| usize::from(byte & 31));
    let sum = high.chain([0]).chain(low).chain(data).fold(1u32, |sum, value| {
        let top = sum >> 25;
        let next = (sum & 0x01ff_ffff) << 5 ^ value as u32;
        GENERATORS.iter().enumerate().fold(
            next,
            |next, (bit, generator)| {
                if top >> bit & 1 == 1 { next ^ generator } else { next }
            },
        )
    });
    sum == 1
}

/// Whether `text` is a secret seed: a version byte, a key of 32 bytes and a CRC-16, in base 32.
///
/// Source: Stellar's SEP-23, "Strkeys"; the CRC is that of XMODEM, little-endian.
pub(super) fn strkey_seed(text: &[u8]) -> bool {
    const SEED: u8 = 18 << 3;
    let Some(bytes) = base32(text) else { return false };
    let Some((payload, sum)) = bytes.split_last_chunk::<2>() else { return false };
    payload.len() == 33 && payload[0] == SEED && crc16(payload).to_le_bytes() == *sum
}

fn base32(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut known) = (0u32, 0);
    for digit in text {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u32::from(value);
        known += 5;
        if known >= 8 {
            known -= 8;
            bytes.push((bits >> known) as u8);
        }
    }
    Some(bytes)
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(
            sum ^ u16::from(*byte) << 8,
            |sum: u16, _| {
                if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        // Bitcoin wiki, "Wallet import format"; BIP 173; SEP-23.
        assert_eq!(base58check(b"5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ").map(|key| key.len()), Some(33));
        assert_eq!(base58check(b"5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTK"), None);
        assert!(bech32(b"A12UEL5L") && bech32(b"abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"));
        assert!(!bech32(b"A12UEL5M") && !bech32(b"1qzzfhee") && !bech32(b""));
        assert!(strkey_seed(b"SBU2RRGLXH3E5CQHTD3ODLDF2BWDCYUSSBLLZ5GNW7JXHDIYKXZWHOKR"));
        assert!(!strkey_seed(b"SBU2RRGLXH3E5CQHTD3ODLDF2BWDCYUSSBLLZ5GNW7JXHDIYKXZWHOKS"));
    }
}
