//! Days of the calendar: when an exception ends, and which day it is today.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use layersift_model::calendar;

/// A day of the Gregorian calendar in UTC; the order is that of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

impl Date {
    /// The last day there is.
    pub const LAST: Date = Date { year: 9999, month: 12, day: 31 };

    /// The day that `text` names as `YYYY-MM-DD`; `None` where it names none.
    pub fn parse(text: &str) -> Option<Date> {
        // TOML's grammar of dates is RFC 3339's, and its reader knows how long a month is.
        Date::of_toml(&text.parse().ok()?)
    }

    /// Today by the clock of the system, in UTC. A clock before 1970 or after 9999 is broken: then it is the last day,
    /// so that no exception outlives the clock.
    pub fn today() -> Date {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(Date::LAST, Date::after_1970)
    }

    fn after_1970(time: Duration) -> Date {
        let days = time.as_secs() / calendar::DAY.unsigned_abs();
        let (year, month, day) = calendar::civil(i64::try_from(days).unwrap_or_default());
        match (u16::try_from(year), u8::try_from(month), u8::try_from(day)) {
            (Ok(year), Ok(month), Ok(day)) if year <= 9999 => Date { year, month, day },
            _ => Date::LAST,
        }
    }

    fn of_toml(value: &toml::value::Datetime) -> Option<Date> {
        let date = value.date.filter(|_| value.time.is_none() && value.offset.is_none())?;
        Some(Date { year: date.year, month: date.month, day: date.day })
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    /// A date of TOML, or a string.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let date = match toml::Value::deserialize(deserializer)? {
            toml::Value::Datetime(value) => Date::of_toml(&value),
            toml::Value::String(text) => Date::parse(&text),
            _ => None,
        };
        date.ok_or_else(|| serde::de::Error::custom("expected a day of the calendar as YYYY-MM-DD"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_by_the_calendar() {
        for (seconds, day) in [
            (86_399, "1970-01-01"),
            (1_767_225_600, "2026-01-01"),
            (253_402_214_400, "9999-12-31"),
            (253_402_300_800, "9999-12-31"),
            (u64::MAX, "9999-12-31"),
        ] {
            assert_eq!(Date::after_1970(Duration::from_secs(seconds)).to_string(), day, "{seconds}");
        }
        assert!(Date::today() > Date::parse("2024-01-01").unwrap());
    }

    #[test]
    fn what_is_no_day_is_no_date() {
        assert_eq!(Date::parse("2028-02-29").unwrap().to_string(), "2028-02-29");
        assert!(Date::parse("2027-12-31") < Date::parse("2028-01-01"));
        for text in ["", "2027", "2027-02-29", "2027-13-01", "2027-1-1", "27-01-01", "2027-01-01T00:00:00", "soon"] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
