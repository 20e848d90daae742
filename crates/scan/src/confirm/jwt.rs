//! JSON Web Tokens: three base64url parts; the first two are JSON objects.
//!
//! Source: RFC 7519, section 3, and RFC 7515, section 3.1 (compact serialization).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::time;

/// What a token says about itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Claims {
    /// `alg` of the header.
    pub algorithm: String,
    /// `iss` of the payload.
    pub issuer: Option<String>,
    /// `exp` of the payload, in seconds since 1970.
    pub expires: Option<i64>,
}

/// Decodes a token; `None` if it is not a JSON Web Token, or is not signed.
pub fn decode(token: &[u8]) -> Option<Claims> {
    let mut parts = token.split(|&byte| byte == b'.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || signature.is_empty() {
        return None;
    }
    let header = object(header)?;
    let payload = object(payload)?;
    let algorithm = header.get("alg")?.as_str()?;
    if algorithm.eq_ignore_ascii_case("none") {
        return None;
    }
    Some(Claims {
        algorithm: algorithm.to_string(),
        issuer: payload.get("iss").and_then(Value::as_str).map(str::to_string),
        expires: payload.get("exp").and_then(Value::as_i64),
    })
}

impl Claims {
    /// The claims as a phrase for the note of a finding.
    pub fn describe(&self) -> String {
        let mut text = format!("signed with {}", plain(&self.algorithm));
        if let Some(issuer) = &self.issuer {
            text.push_str(&format!(", issued by {}", plain(issuer)));
        }
        match self.expires {
            Some(expires) => text.push_str(&format!(", expires {}", time::describe(expires))),
            None => text.push_str(", never expires"),
        }
        text
    }
}

fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn object(part: &[u8]) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    match serde_json::from_slice(&bytes).ok()? {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str, signature: &str) -> String {
        format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn claims_are_read() {
        let claims = decode(token(r#"{"alg":"HS256"}"#, r#"{"iss":"me","exp":7}"#, "c2ln").as_bytes()).unwrap();
        assert_eq!(claims, Claims { algorithm: "HS256".into(), issuer: Some("me".into()), expires: Some(7) });
        assert_eq!(claims.describe(), "signed with HS256, issued by me, expires 1970-01-01 00:00:07 UTC");
    }

    #[test]
    fn unsigned_tokens_and_other_values_are_rejected() {
        for (header, payload, signature) in [
            (r#"{"alg":"none"}"#, "{}", "x"),
            (r#"{"alg":"HS256"}"#, "{}", ""),
            (r#"{"typ":"JWT"}"#, "{}", "x"),
            (r#"{"alg":"HS256"}"#, "[]", "x"),
        ] {
            assert_eq!(decode(token(header, payload, signature).as_bytes()), None);
        }
        assert_eq!(decode(b"a.b.c"), None);
    }
}
