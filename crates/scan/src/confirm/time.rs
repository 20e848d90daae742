//! Moments as tokens carry them, written for a person.

use std::fmt;

use layersift_model::calendar;
use layersift_model::calendar::DAY;

/// Seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub i64);

impl fmt::Display for Moment {
    /// `2026-01-02 03:04:05 UTC`; the number itself where it is no moment of the years 1 to 9999.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !(-719_162..2_932_897).contains(&self.0.div_euclid(DAY)) {
            return write!(f, "{} seconds after 1970", self.0);
        }
        write!(f, "{} {} UTC", calendar::date(self.0), calendar::time(self.0))
    }
}

/// `20260102T030405Z` (ISO 8601, basic format).
pub fn parse_basic(text: &str) -> Option<Moment> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let shape = text.len() == 16 && text.as_bytes()[8] == b'T' && text.ends_with('Z');
    (shape && digits.len() == 14).then(|| from_digits(&digits))?
}

/// `2026-01-02T03:04:05Z`, `2026-01-02T03:04Z` or `2026-01-02` (ISO 8601, extended format).
pub fn parse_extended(text: &str) -> Option<Moment> {
    let mut digits: String = text.split('.').next()?.chars().filter(char::is_ascii_digit).collect();
    let dashes = text.as_bytes().get(4) == Some(&b'-') && text.as_bytes().get(7) == Some(&b'-');
    if !dashes || !matches!(digits.len(), 8 | 12 | 14) {
        return None;
    }
    while digits.len() < 14 {
        digits.push('0');
    }
    from_digits(&digits)
}

fn from_digits(digits: &str) -> Option<Moment> {
    let part = |range: std::ops::Range<usize>| digits.get(range)?.parse::<i64>().ok();
    let (month, day) = (part(4..6)?, part(6..8)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = part(8..10)? * 3600 + part(10..12)? * 60 + part(12..14)?;
    Some(Moment(calendar::days(part(0..4)?, month, day) * DAY + seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_and_read() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_767_323_045, "2026-01-02 03:04:05 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(Moment(seconds).to_string(), text);
        }
        assert_eq!(parse_basic("20260102T030405Z"), Some(Moment(1_767_323_045)));
        assert_eq!(parse_extended("2026-01-02T03:04:05Z"), Some(Moment(1_767_323_045)));
        assert_eq!(parse_extended("2026-01-02"), Some(Moment(1_767_312_000)));
        assert_eq!(parse_extended("2026-13-02"), None);
        assert!(Moment(i64::MAX).to_string().ends_with("after 1970"));
    }
}
