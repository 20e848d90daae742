//! Moments as tokens carry them, written for a person.

use std::fmt;

/// Seconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub i64);

const DAY: i64 = 86_400;

impl fmt::Display for Moment {
    /// `2026-01-02 03:04:05 UTC`; the number itself where it is no moment of the years 1 to 9999.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        if !(-719_162..2_932_897).contains(&days) {
            return write!(f, "{} seconds after 1970", self.0);
        }
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The day counted from 1970-01-01. Source: as for [`civil`], days_from_civil.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
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
    Some(Moment(days(part(0..4)?, month, day) * DAY + seconds))
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
