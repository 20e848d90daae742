//! Whether bytes can be a key: random enough, and not published.

/// Lengths of keys in bytes: AES and its like, two XTS keys in one, and MAC keys as long as a hash.
const LENGTHS: [usize; 5] = [16, 24, 32, 48, 64];

/// The first 16 bytes of keys that standards publish: in examples and test vectors, or for all to use.
const PUBLISHED: [[u8; 16]; 17] = [
    // FIPS 197, appendix A, and NIST SP 800-38A, appendix F.
    [0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c],
    [0x8e, 0x73, 0xb0, 0xf7, 0xda, 0x0e, 0x64, 0x52, 0xc8, 0x10, 0xf3, 0x2b, 0x80, 0x90, 0x79, 0xe5],
    [0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d, 0x77, 0x81],
    // The Galois/Counter Mode of Operation, appendix B.
    [0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08],
    // RFC 3602, section 4.
    [0x06, 0xa9, 0x21, 0x40, 0x36, 0xb8, 0xa1, 0x5b, 0x51, 0x2e, 0x03, 0xd5, 0x34, 0x12, 0x00, 0x06],
    [0xc2, 0x86, 0x69, 0x6d, 0x88, 0x7c, 0x9a, 0xa0, 0x61, 0x1b, 0xbb, 0x3e, 0x20, 0x25, 0xa4, 0x5a],
    // RFC 3686, section 6.
    [0xae, 0x68, 0x52, 0xf8, 0x12, 0x10, 0x67, 0xcc, 0x4b, 0xf7, 0xa5, 0x76, 0x55, 0x77, 0xf3, 0x9e],
    [0x7e, 0x24, 0x06, 0x78, 0x17, 0xfa, 0xe0, 0xd7, 0x43, 0xd6, 0xce, 0x1f, 0x32, 0x53, 0x91, 0x63],
    [0x77, 0x6b, 0xef, 0xf2, 0x85, 0x1d, 0xb0, 0x6f, 0x4c, 0x8a, 0x05, 0x42, 0xc8, 0x69, 0x6f, 0x6c],
    // RFC 8439, appendix A.5.
    [0x1c, 0x92, 0x40, 0xa5, 0xeb, 0x55, 0xd3, 0x8a, 0xf3, 0x33, 0x88, 0x86, 0x04, 0xf6, 0xb5, 0xf0],
    // IEEE 1619, appendix B, vectors 4 and 10.
    [0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45, 0x23, 0x53, 0x60, 0x28, 0x74, 0x71, 0x35, 0x26],
    // Cryptography in NaCl, the first key of its examples.
    [0x1b, 0x27, 0x55, 0x64, 0x73, 0xe9, 0x85, 0xd4, 0x62, 0xcd, 0x51, 0x19, 0x7a, 0x9a, 0x46, 0xc7],
    // NIST SP 800-67, appendix B.
    [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01],
    // Retry integrity of QUIC: RFC 9001, section 5.8, RFC 9369, section 3.3.3, and drafts.
    [0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a, 0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e],
    [0x8f, 0xb4, 0xb0, 0x1b, 0x56, 0xac, 0x48, 0xe2, 0x60, 0xfb, 0xcb, 0xce, 0xad, 0x7c, 0xcc, 0x92],
    [0x4d, 0x32, 0xec, 0xdb, 0x2a, 0x21, 0x33, 0xc8, 0x41, 0xe4, 0x04, 0x3d, 0xf2, 0x7d, 0x44, 0x30],
    [0xcc, 0xce, 0x18, 0x7e, 0xd0, 0x9a, 0x09, 0xd0, 0x57, 0x28, 0x15, 0x5a, 0x6c, 0xb9, 0x6b, 0xe1],
];

/// Whether `bytes` can be a key: of a key's length, and either text of enough different characters (a passphrase used
/// as a key, be it as poor as `0123456789abcdef`), or bytes that look random and are not a published example.
///
/// The limits leave out less than one random key in ten thousand.
pub(super) fn can_be_key(bytes: &[u8]) -> bool {
    if !LENGTHS.contains(&bytes.len()) {
        return false;
    }
    if is_text(bytes) { distinct(bytes) >= 7 } else { is_random(bytes) && !is_published(bytes) }
}

/// Whether `bytes` are text as made-up keys are, and words and identifiers are not: without blanks, letters and digits
/// mixed, no alphabet in order, no repetition.
pub(super) fn is_mixed_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'_' | b'.' | b':' | b'%'))
        && bytes.iter().filter(|byte| byte.is_ascii_digit()).count() >= 2
        && bytes.iter().any(u8::is_ascii_alphabetic)
        && !is_run(bytes)
        && !is_periodic(bytes)
}

/// Whether the bytes can be printed on one line.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Random bytes are mostly different, seldom zero, and have their top bit set about half of the time.
fn is_random(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().filter(|&&byte| byte == 0).count();
    let high = bytes.iter().filter(|&&byte| byte >= 0x80).count();
    let least = bytes.len() / 16;
    zeros <= bytes.len() / 8
        && (least..=bytes.len() - least).contains(&high)
        && distinct(bytes) >= bytes.len() * 3 / 4
        && !is_run(bytes)
        && !is_periodic(bytes)
}

fn is_published(bytes: &[u8]) -> bool {
    PUBLISHED.iter().any(|key| bytes.starts_with(key))
}

/// Whether most bytes differ from the one before by the same step: `00 01 02`, `00 11 22`, `0123456789`.
fn is_run(bytes: &[u8]) -> bool {
    let mut steps = [0u32; 256];
    for pair in bytes.windows(2) {
        steps[usize::from(pair[1].wrapping_sub(pair[0]))] += 1;
    }
    steps.iter().any(|&count| count as usize * 2 >= bytes.len())
}

/// Whether the bytes repeat themselves after at most half of their length.
fn is_periodic(bytes: &[u8]) -> bool {
    (1..=bytes.len() / 2).any(|period| bytes[period..] == bytes[..bytes.len() - period])
}

fn distinct(bytes: &[u8]) -> usize {
    let mut seen = [false; 256];
    for &byte in bytes {
        seen[usize::from(byte)] = true;
    }
    seen.iter().filter(|&&seen| seen).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_key_looks_like_is_left_out() {
        let sequence: Vec<u8> = (0..32).collect();
        let steps: Vec<u8> = (0..16).map(|n| n * 0x11).collect();
        let numbers: Vec<u8> = [900u32, 1200, 77, 65000].iter().flat_map(|n| n.to_le_bytes()).collect();
        for bytes in [&[0u8; 32][..], &[0xa5; 16], &sequence, &steps, &numbers, b"ababcabababcab-a"] {
            assert!(!can_be_key(bytes), "{bytes:02x?}");
        }
        assert!(!can_be_key(b"a text of 15 b.\0"), "a string with its end");
        assert!(PUBLISHED.iter().all(|key| !can_be_key(key)));
        assert!(!can_be_key(b"seventeen bytes!!"), "no key has this length");
    }

    #[test]
    fn what_a_key_looks_like_passes() {
        assert!(can_be_key(b"S3cr3t-P4ssphr4se-of-32-bytes-ok"));
        assert!(can_be_key(b"9f86d081884c7d659a2feaa0c55ad015"));
        assert!(can_be_key(b"0123456789abcdef0123456789abcdef"), "poor, but what is passed as a key is the key");
        assert!(can_be_key(&hex("8f1c4be2a07d935634d8017ce5b92a6b")));
        assert!(is_mixed_text(b"9f86d081884c7d659a2feaa0c55ad015"));
        assert!(!is_mixed_text(b"ssl.client.ticket.secret"));
        assert!(!is_mixed_text(b"0123456789abcdef"));
    }

    /// The high bytes of a linear congruential generator: the limits must not cost keys.
    #[test]
    fn random_bytes_pass() {
        let mut state = 1u64;
        let mut lost = 0;
        for _ in 0..20_000 {
            let mut key = [0u8; 32];
            for byte in &mut key {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (state >> 56) as u8;
            }
            lost += [16, 24, 32].iter().filter(|&&len| !can_be_key(&key[..len])).count();
        }
        assert!(lost < 6, "{lost} of 60,000 lost");
    }

    fn hex(digits: &str) -> Vec<u8> {
        (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
    }
}
