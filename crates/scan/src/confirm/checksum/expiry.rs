//! Until when a pre-signed address holds, as its query says.
//!
//! Sources: Amazon S3, "Authenticating Requests: Using Query Parameters" (Signature Version 4 and 2); Google Cloud
//! Storage, "Signed URLs"; Azure Storage, "Create a service SAS".

use crate::confirm::time::{Moment, parse_basic, parse_extended};

/// A sentence on the expiry; `None` where the query names none.
pub(super) fn describe(address: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(address).replace("&amp;", "&").replace("%3A", ":").replace("%3a", ":");
    let value = |name: &str| {
        let parts = text.split(['?', '&']).filter_map(|part| part.split_once('='));
        parts.filter(|(known, _)| *known == name).map(|(_, value)| value.to_string()).next()
    };
    let seconds = |name: &str| value(name).and_then(|value| value.parse::<i64>().ok());
    let from_date = |prefix: &str| {
        let start = parse_basic(&value(&format!("{prefix}Date"))?)?;
        Some(Moment(start.0.checked_add(seconds(&format!("{prefix}Expires"))?)?))
    };
    let end = from_date("X-Amz-")
        .or_else(|| from_date("X-Goog-"))
        .or_else(|| parse_extended(&value("se")?))
        .or_else(|| seconds("Expires").map(Moment))?;
    Some(format!("holds until {end}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vendor_has_its_own_way_to_say_it() {
        for address in [
            "https://b.s3.amazonaws.com/k?X-Amz-Date=20260102T030405Z&X-Amz-Expires=3600&X-Amz-Signature=ab",
            "https://b.s3.amazonaws.com/k?AWSAccessKeyId=A&Expires=1767326645&Signature=x",
            "https://storage.googleapis.com/b/k?X-Goog-Date=20260102T030405Z&X-Goog-Expires=3600",
            "https://a.blob.core.windows.net/c?sv=2022-11-02&se=2026-01-02T04%3A04%3A05Z&sig=x",
        ] {
            assert_eq!(
                describe(address.as_bytes()).as_deref(),
                Some("holds until 2026-01-02 04:04:05 UTC"),
                "{address}"
            );
        }
        assert_eq!(describe(b"https://a/b?c=d"), None);
    }
}
