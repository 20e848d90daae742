//! The expiry of a pre-signed URL, as its query states it.
//!
//! Sources: Amazon S3, "Authenticating Requests: Using Query Parameters" (Signature Version 4 and 2); Google Cloud
//! Storage, "Signed URLs"; Azure Storage, "Create a service SAS".

use crate::confirm::time::{self, parse_basic, parse_extended};

/// A phrase about the expiry; `None` if the query does not state one.
pub(super) fn describe(url: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(url).replace("&amp;", "&").replace("%3A", ":").replace("%3a", ":");
    let value = |name: &str| {
        let parts = text.split(['?', '&']).filter_map(|part| part.split_once('='));
        parts.filter(|(known, _)| *known == name).map(|(_, value)| value.to_string()).next()
    };
    let seconds = |name: &str| value(name).and_then(|value| value.parse::<i64>().ok());
    let from_date = |prefix: &str| {
        let start = parse_basic(&value(&format!("{prefix}Date"))?)?;
        start.checked_add(seconds(&format!("{prefix}Expires"))?)
    };
    let end = from_date("X-Amz-")
        .or_else(|| from_date("X-Goog-"))
        .or_else(|| parse_extended(&value("se")?))
        .or_else(|| seconds("Expires"))?;
    Some(format!("holds until {}", time::describe(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiry_is_read_from_the_parameters_of_every_vendor() {
        for url in [
            "https://b.s3.amazonaws.com/k?X-Amz-Date=20260102T030405Z&X-Amz-Expires=3600&X-Amz-Signature=ab",
            "https://b.s3.amazonaws.com/k?AWSAccessKeyId=A&Expires=1767326645&Signature=x",
            "https://storage.googleapis.com/b/k?X-Goog-Date=20260102T030405Z&X-Goog-Expires=3600",
            "https://a.blob.core.windows.net/c?sv=2022-11-02&se=2026-01-02T04%3A04%3A05Z&sig=x",
        ] {
            assert_eq!(describe(url.as_bytes()).as_deref(), Some("holds until 2026-01-02 04:04:05 UTC"), "{url}");
        }
        assert_eq!(describe(b"https://a/b?c=d"), None);
    }
}
