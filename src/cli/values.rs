//! Values of flags: durations, sizes and percentages.

use std::time::Duration;

use clap::builder::{RangedU64ValueParser, TypedValueParser};

/// The most threads, or layers at a time, that are of any use.
const MOST_THREADS: u64 = 512;

/// A number of threads, or of layers at a time.
pub(crate) fn threads() -> impl TypedValueParser<Value = usize> {
    RangedU64ValueParser::<usize>::new().range(0..=MOST_THREADS)
}

/// Parses a number and a unit: s, m, h or d.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration `{text}`: expected a number and s, m, h or d, such as 36h");
    let seconds = match text.chars().next_back().ok_or_else(invalid)? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(invalid()),
    };
    let number: u64 = text.get(..text.len() - 1).and_then(|number| number.parse().ok()).ok_or_else(invalid)?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(invalid)
}

/// Parses a duration that is not zero.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("expected more than 0".into()) } else { Ok(duration) }
}

/// Parses a number of bytes, or a number followed by K, M, G or T, which are powers of 1024. Not zero.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let invalid = || format!("invalid size `{text}`: expected a number of bytes, or a number and K, M, G or T");
    let shift = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        _ => 0,
    };
    let digits = if shift > 0 { text.get(..text.len() - 1) } else { Some(text) };
    let number: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or_else(invalid)?;
    number.checked_mul(1 << shift).filter(|size| *size > 0).ok_or_else(invalid)
}

/// Parses a part of a hundred, with or without its sign: `10%`.
pub(crate) fn percent(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|percent| *percent <= 100);
    number.ok_or_else(|| format!("invalid percentage `{text}`: expected a whole number up to 100, such as 10%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("36h"), Ok(Duration::from_secs(36 * 3600)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!((size("10"), size("2k"), size("500G")), (Ok(10), Ok(2048), Ok(500 << 30)));
        for wrong in ["", "h", "1w", "-1h", "1é", "99999999999999999999d"] {
            assert!(duration(wrong).is_err() && size(wrong).is_err(), "{wrong}");
        }
        assert!(timeout("0s").is_err() && timeout("1s").is_ok());
    }

    #[test]
    fn percentages() {
        assert_eq!((percent("10%"), percent("0"), percent("100%")), (Ok(10), Ok(0), Ok(100)));
        assert!(["", "%", "101%", "-1%", "1.5%"].iter().all(|wrong| percent(wrong).is_err()));
    }
}
