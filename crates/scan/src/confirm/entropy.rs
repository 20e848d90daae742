//! Measures of randomness.

/// Shannon entropy in bits per byte, from 0 to 8, of the distribution of byte values in `bytes`.
///
/// Source: C. E. Shannon, "A Mathematical Theory of Communication" (1948), section 6.
pub fn shannon(bytes: &[u8]) -> f64 {
    if bytes.is_empty() {
        return 0.0;
    }
    let mut counts = [0u32; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    let total = bytes.len() as f64;
    counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| {
            let share = f64::from(count) / total;
            -share * share.log2()
        })
        .sum()
}

/// The number of classes (lower case, upper case, digit, other) that occur in `bytes`.
pub fn classes(bytes: &[u8]) -> u8 {
    let has = |class: fn(&u8) -> bool| u8::from(bytes.iter().any(class));
    has(u8::is_ascii_lowercase)
        + has(u8::is_ascii_uppercase)
        + has(u8::is_ascii_digit)
        + has(|byte| !byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(shannon(b""), 0.0);
        assert_eq!(shannon(b"aaaa"), 0.0);
        assert_eq!(shannon(b"abcdabcd"), 2.0);
        assert_eq!(classes(b"abc"), 1);
        assert_eq!(classes(b"aB3-"), 4);
    }
}
