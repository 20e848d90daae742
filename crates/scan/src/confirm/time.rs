//! Points in time as tokens carry them, all in UTC and in seconds since 1970.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// `2026-01-02 03:04:05 UTC`; the number itself if it is outside of the years 1 to 9999.
pub(super) fn describe(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).map(|time| Offset::UTC.to_datetime(time));
    match time {
        Ok(time) if time.year() >= 1 => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        _ => format!("{seconds} seconds after 1970"),
    }
}

/// Parses `20260102T030405Z` (ISO 8601, basic format).
pub(super) fn parse_basic(text: &str) -> Option<i64> {
    utc_seconds(DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?)
}

/// Parses `2026-01-02T03:04:05Z`, `2026-01-02T03:04Z` or `2026-01-02` (ISO 8601, extended format).
pub(super) fn parse_extended(text: &str) -> Option<i64> {
    match text.parse::<Timestamp>() {
        Ok(time) => Some(time.as_second()),
        Err(_) => utc_seconds(text.parse().ok()?),
    }
}

fn utc_seconds(time: DateTime) -> Option<i64> {
    Some(Offset::UTC.to_timestamp(time).ok()?.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_described() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_767_323_045, "2026-01-02 03:04:05 UTC"),
            (-1, "1969-12-31 23:59:59 UTC"),
            (-62_135_596_800, "0001-01-01 00:00:00 UTC"),
        ] {
            assert_eq!(describe(seconds), text);
        }
        assert_eq!(describe(i64::MAX), format!("{} seconds after 1970", i64::MAX));
        assert_eq!(describe(-62_135_596_801), "-62135596801 seconds after 1970");
    }

    #[test]
    fn times_are_parsed() {
        assert_eq!(parse_basic("20260102T030405Z"), Some(1_767_323_045));
        assert_eq!(parse_extended("2026-01-02T03:04:05Z"), Some(1_767_323_045));
        assert_eq!(parse_extended("2026-01-02T03:04:05.678Z"), Some(1_767_323_045));
        assert_eq!(parse_extended("2026-01-02T03:04Z"), Some(1_767_323_040));
        assert_eq!(parse_extended("2026-01-02"), Some(1_767_312_000));
        for invalid in ["", "2026-13-02", "2026-02-30", "soon", "20260102T030405"] {
            assert_eq!(parse_basic(invalid), None, "{invalid}");
        }
        assert_eq!(parse_extended("2026-13-02"), None);
    }
}
