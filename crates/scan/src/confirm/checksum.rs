//! Checksums and structures inside tokens, as their issuers document them.
//!
//! A checksum tells a real token from bytes that only look like one. Signature files refer to these functions by name.

mod alphabet;
mod expiry;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

use crate::confirm::jwt;

/// A check of a secret: `None` if it fails, otherwise an optional note for the report.
pub type Check = fn(&[u8]) -> Option<Option<String>>;

/// All checks, by name.
pub const CHECKS: &[(&str, Check)] = &[
    ("github-crc32", |secret| plain(base62_crc32(secret))),
    ("npm-crc32", |secret| plain(base62_crc32(secret))),
    ("gitlab-routable", |secret| plain(gitlab_routable(secret))),
    ("grafana-crc32", |secret| plain(grafana(secret))),
    ("pypi-macaroon", |secret| plain(pypi_macaroon(secret))),
    ("jwt", |secret| jwt::decode(secret).map(|claims| Some(claims.describe()))),
    ("aws-account", aws_account_note),
    ("base58check", |secret| plain(alphabet::base58check(secret).is_some())),
    ("bech32", |secret| plain(alphabet::bech32(secret))),
    ("stellar-strkey", |secret| plain(alphabet::strkey_seed(secret))),
    ("polar-crc32", |secret| plain(polar(secret))),
    ("synapse-crc32", |secret| plain(synapse(secret))),
    ("slack-workspace", |secret| Some(slack_workspace(secret))),
    ("signed-address", |secret| Some(expiry::describe(secret))),
];

/// Checks of formats with a unique prefix. A token that fails one of these is reported as damaged, because it may be
/// cut off or mistyped rather than made up.
const DISTINCT: [&str; 5] = ["github-crc32", "npm-crc32", "gitlab-routable", "grafana-crc32", "pypi-macaroon"];

/// The note on a token of a distinct format whose checksum is wrong.
pub const WRONG: &str = "not a valid token: its checksum is wrong, so it is made up, cut off or mistyped";

/// Whether tokens that fail the check called `name` are recognised by their prefix.
pub fn is_distinct(name: &str) -> bool {
    DISTINCT.contains(&name)
}

/// The check called `name`.
pub fn by_name(name: &str) -> Option<Check> {
    CHECKS.iter().find(|(known, _)| *known == name).map(|(_, check)| *check)
}

fn plain(holds: bool) -> Option<Option<String>> {
    holds.then_some(None)
}

/// GitHub's tokens, and npm's after them: the last six base62 digits are the CRC-32 of the thirty characters before.
///
/// Source: "Behind GitHub's new authentication token formats" (GitHub blog, 2021).
fn base62_crc32(secret: &[u8]) -> bool {
    let Some(tail) = secret.last_chunk::<36>() else { return false };
    let (body, sum) = tail.split_at(30);
    base62(sum) == Some(u64::from(crc32fast::hash(body)))
}

/// Polar's tokens end in the CRC-32 of the 37 characters before, without the prefix, in six base62 digits.
///
/// Source: `server/polar/kit/crypto.py` of polarsource/polar.
fn polar(secret: &[u8]) -> bool {
    let Some(tail) = secret.last_chunk::<43>() else { return false };
    let (body, sum) = tail.split_at(37);
    base62(sum) == Some(u64::from(crc32fast::hash(body)))
}

/// Synapse's access tokens end in `_` and the CRC-32 of everything before it, in six base62 digits.
///
/// Source: `synapse/handlers/auth.py` of element-hq/synapse.
fn synapse(secret: &[u8]) -> bool {
    let Some((body, sum)) = secret.split_last_chunk::<6>() else { return false };
    body.strip_suffix(b"_").is_some_and(|body| base62(sum) == Some(u64::from(crc32fast::hash(body))))
}

/// The second part of Slack's tokens, if it is a number, is the id of the workspace.
///
/// Source: Slack API documentation, "Token types".
fn slack_workspace(secret: &[u8]) -> Option<String> {
    let number = secret.split(|&byte| byte == b'-').nth(1)?;
    let is_number = number.len() >= 9 && number.iter().all(u8::is_ascii_digit);
    // The last digits are enough for the owner of the workspace.
    let end = &number[number.len().saturating_sub(5)..];
    is_number.then(|| format!("of the workspace whose number ends in {}", String::from_utf8_lossy(end)))
}

fn base62(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            b'a'..=b'z' => byte - b'a' + 36,
            _ => return None,
        };
        value.checked_mul(62)?.checked_add(u64::from(digit))
    })
}

/// GitLab's routable tokens end in the CRC-32 of everything before it, as seven digits in base 36.
///
/// Source: GitLab handbook, design document "Routable tokens".
fn gitlab_routable(secret: &[u8]) -> bool {
    let Some((body, sum)) = secret.split_last_chunk::<7>() else { return false };
    let value = sum.iter().try_fold(0u64, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return None,
        };
        Some(value * 36 + u64::from(digit))
    });
    value == Some(u64::from(crc32fast::hash(body)))
}

/// Grafana's service account tokens end in `_` and the CRC-32 of everything before it, as eight hexadecimal digits with
/// the lowest byte first.
fn grafana(secret: &[u8]) -> bool {
    let Some((body, sum)) = secret.split_last_chunk::<9>() else { return false };
    let Some(digits) = sum.strip_prefix(b"_") else { return false };
    digits == format!("{:08x}", crc32fast::hash(body).swap_bytes()).as_bytes()
}

/// PyPI's tokens are macaroons (version 2, binary) whose first packet is their location.
///
/// Source: PyPI help, "What are API tokens", and the libmacaroons v2 binary format.
fn pypi_macaroon(secret: &[u8]) -> bool {
    let Some(body) = secret.strip_prefix(b"pypi-") else { return false };
    let trimmed = body.trim_ascii_end();
    let unpadded = trimmed.strip_suffix(b"==").or_else(|| trimmed.strip_suffix(b"=")).unwrap_or(trimmed);
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(unpadded).or_else(|_| URL_SAFE.decode(trimmed)) else { return false };
    let location = |host: &[u8]| {
        let packet = [&[2, 1, host.len() as u8], host].concat();
        bytes.starts_with(&packet)
    };
    (location(b"pypi.org") || location(b"test.pypi.org")) && bytes.len() > 60
}

/// The account in an AWS id. Ids from before 2019, whose first encoded bit is not set, contain no account and pass.
fn aws_account_note(id: &[u8]) -> Option<Option<String>> {
    let bits = aws_bits(id)?;
    if bits >> 47 == 0 {
        return Some(None);
    }
    let account = (bits & 0x7fff_ffff_ff80) >> 7;
    (account <= 999_999_999_999).then(|| Some(format!("of account {account:012}")))
}

/// The first 48 bits of the base32 digits after the four-letter prefix; the account is in bits 1 to 40.
fn aws_bits(id: &[u8]) -> Option<u64> {
    let digits = id.get(4..)?;
    if digits.len() < 12 {
        return None;
    }
    let value = digits.iter().enumerate().try_fold(0u64, |value, (place, byte)| {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return None,
        };
        // Ten digits are 50 bits; the others only have to be valid digits.
        Some(if place < 10 { value << 5 | u64::from(digit) } else { value })
    })?;
    Some(value >> 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(name: &str, secret: &str) -> bool {
        by_name(name).unwrap()(secret.as_bytes()).is_some()
    }

    #[test]
    fn base62_crc32_of_github_and_npm() {
        let body = "abcdefghijABCDEFGHIJ0123456789";
        let mut sum = crc32fast::hash(body.as_bytes());
        let mut digits = Vec::new();
        for _ in 0..6 {
            digits.push(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[(sum % 62) as usize]);
            sum /= 62;
        }
        digits.reverse();
        let token = format!("ghp_{body}{}", String::from_utf8(digits).unwrap());
        assert!(holds("github-crc32", &token));
        assert!(!holds("github-crc32", &token.replace('a', "b")));
        assert!(!holds("github-crc32", "ghp_short"));
    }

    #[test]
    fn published_examples() {
        assert!(holds("grafana-crc32", "glsa_iNValIdinValiDinvalidinvalidinva_5b582697"));
        assert!(!holds("grafana-crc32", "glsa_iNValIdinValiDinvalidinvalidinva_5b582698"));
        assert!(holds("gitlab-routable", "glpat-bzox79Of-KE9FD2LjoXXF4CvyxA.01.0r0l8l6ir"));
        assert!(!holds("gitlab-routable", "glpat-bzox79Of-KE9FD2LjoXXF4CvyxA.01.0r0l8l6is"));
    }

    #[test]
    fn accounts_in_aws_ids() {
        // The id of the example in public descriptions of the encoding.
        let note = |id: &str| aws_account_note(id.as_bytes());
        assert_eq!(note("ASIAQNZGKIQY56JQ7WML"), Some(Some("of account 029608264753".into())));
        assert_eq!(note("AKIAIOSFODNN7EXAMPLF"), Some(None));
        assert_eq!(note("AKIA1"), None);
        assert_eq!(note("AKIA0000000000000000"), None);
    }
}
