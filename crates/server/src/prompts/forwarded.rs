//! What is forwarded to a model, and what comes back: where a path leads, and which headers go on.
//!
//! ```text
//! /openai/v1/chat/completions              the token is in a header of its own
//! /openai/layersift_…/v1/chat/completions  the token is in the path
//! ```

use axum::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING,
};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use layersift_model::percent_decoded;
use layersift_prompts::Form;

/// The header with the token of the service.
pub(crate) const TOKEN: &str = "x-layersift-auth";

/// What tokens begin with, and the digits after that.
const TOKEN_PREFIX: &str = "layersift_";
const TOKEN_DIGITS: usize = 64;

/// Logins are read with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Headers about one connection (RFC 9110, section 7.6.1), besides those that `Connection` names.
const OF_THE_CONNECTION: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers of a request that do not go on: those about this server and the way to it, those that ask for a part of an
/// answer, of which nothing could be said, and those about the body as it was sent.
const OF_A_REQUEST: [&str; 17] = [
    TOKEN,
    "host",
    "expect",
    "cookie",
    "content-length",
    "content-encoding",
    "accept-encoding",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "forwarded",
    "via",
    "x-real-ip",
    "authorization",
];

/// Headers of an answer that do not go on: those about the body as it was sent, and those that lead past this server.
const OF_AN_ANSWER: [&str; 12] = [
    "content-length",
    "content-encoding",
    "content-md5",
    "content-range",
    "accept-ranges",
    "digest",
    "repr-digest",
    "etag",
    "set-cookie",
    "alt-svc",
    "strict-transport-security",
    "location",
];

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'p> {
    /// The name of the model's API.
    pub(crate) upstream: &'p str,
    /// The token of the service, if it is in the path.
    pub(crate) token: Option<&'p str>,
    /// The path and the query at the model's API.
    pub(crate) rest: &'p str,
}

/// Where the path of a request leads; `None` if it leads nowhere, or out of what is forwarded.
pub(crate) fn target(path: &PathAndQuery) -> Option<Target<'_>> {
    let (upstream, rest) = segment(path.as_str())?;
    let in_path = segment(rest).filter(|(token, _)| token.starts_with(TOKEN_PREFIX));
    let (token, rest) = in_path.map_or((None, rest), |(token, rest)| (Some(token), rest));
    let only_path = rest.split('?').next().unwrap_or_default();
    (!only_path.split('/').any(is_dots)).then_some(Target { upstream, token, rest })
}

/// The first segment of a path, and what follows it.
fn segment(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/')?;
    let end = path.find(['/', '?'])?;
    path.split_at_checked(end).filter(|(_, rest)| rest.starts_with('/'))
}

/// How often servers in a row may decode a path.
const MOST_DECODINGS: usize = 3;

/// Whether some server may take a segment as `.` or `..`.
fn is_dots(segment: &str) -> bool {
    let mut plain = segment.as_bytes().to_vec();
    for _ in 0..MOST_DECODINGS {
        plain = percent_decoded(&plain);
    }
    // Dots that only some decoders of UTF-8 read as such.
    let is_overlong = plain.windows(2).any(|two| two == [0xc0, 0xae]);
    let plain = String::from_utf8_lossy(&plain).replace(['\u{ff0e}', '\u{2024}'], ".").replace('\u{2025}', "..");
    let is_ignored = |character: char| character.is_control() || character.is_whitespace() || character == '\u{fffd}';
    plain.split(['/', '\\', ';']).map(|part| part.trim_matches(is_ignored)).any(|part| matches!(part, "." | ".."))
        || is_overlong
}

/// The form of a request's body, where the path says it.
pub(crate) fn form(rest: &str) -> Option<Form> {
    let path = rest.split('?').next().unwrap_or_default().trim_end_matches('/');
    let ends = [
        ("/chat/completions", Form::Chat),
        ("/completions", Form::Completions),
        ("/embeddings", Form::Embeddings),
        ("/responses", Form::Responses),
        ("/messages", Form::Messages),
        ("/messages/count_tokens", Form::Messages),
    ];
    ends.into_iter().find(|(end, _)| path.ends_with(end)).map(|(_, form)| form)
}

/// Whether a body with these headers is UTF-8 as far as they say: nothing else is read as it is checked.
pub(crate) fn is_utf8(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let Some(first) = types.next() else { return true };
    let Ok(first) = first.to_str() else { return false };
    let mut charsets = first.split(';').skip(1).filter_map(|field| field.split_once('='));
    let is_other = charsets.any(|(name, value)| {
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        let is_charset = name.trim().to_ascii_lowercase().starts_with("charset");
        is_charset && !matches!(&value[..], "utf-8" | "utf8" | "us-ascii" | "ascii")
    });
    types.next().is_none() && !is_other
}

/// Whether an answer with these headers is a stream of events.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
}

/// The headers of a request that go on, with the key of the model's provider in `authorization`.
pub(crate) fn request_headers(headers: &HeaderMap, authorization: Option<HeaderValue>) -> HeaderMap {
    let mut out = forwarded(headers, &OF_A_REQUEST);
    let forwarding: Vec<HeaderName> =
        out.keys().filter(|name| name.as_str().starts_with("x-forwarded-")).cloned().collect();
    for name in forwarding {
        out.remove(name);
    }
    out.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(key) = authorization {
        out.insert(AUTHORIZATION, key);
    }
    out
}

/// Whether a token of the service is in what would go on. A client may have it there by mistake, such as in the place
/// of the key of its provider.
pub(crate) fn has_own_token(path: &str, headers: &HeaderMap) -> bool {
    let names_and_values = headers.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
    names_and_values.chain([path.as_bytes()]).any(has_token)
}

/// Whether a token is in a text, as it is or percent-encoded, or in a login of `Basic`.
fn has_token(text: &[u8]) -> bool {
    let login = text.rsplit(|byte| *byte == b' ').next().and_then(|login| BASE64.decode(login).ok());
    let mut plain = text.to_vec();
    let mut texts = login.into_iter().collect::<Vec<_>>();
    for _ in 0..=MOST_DECODINGS {
        let decoded = percent_decoded(&plain);
        texts.push(std::mem::replace(&mut plain, decoded));
    }
    texts.iter().any(|text| is_token_in(text))
}

fn is_token_in(text: &[u8]) -> bool {
    text.windows(TOKEN_PREFIX.len() + TOKEN_DIGITS).any(|window| {
        window.strip_prefix(TOKEN_PREFIX.as_bytes()).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// The headers of an answer that go on.
pub(crate) fn answer_headers(headers: &HeaderMap) -> HeaderMap {
    forwarded(headers, &OF_AN_ANSWER)
}

fn forwarded(headers: &HeaderMap, without: &[&str]) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let mut out = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let text = name.as_str();
        if !OF_THE_CONNECTION.contains(&text) && !without.contains(&text) && !named.iter().any(|one| one == text) {
            out.append(name.clone(), value.clone());
        }
    }
    debug_assert!(
        [HOST, CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING].iter().all(|name| !out.contains_key(name))
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(path: &str) -> Option<(String, Option<String>, String)> {
        let path: PathAndQuery = path.parse().unwrap();
        let Target { upstream, token, rest } = target(&path)?;
        Some((upstream.into(), token.map(String::from), rest.into()))
    }

    #[test]
    fn paths_lead_to_upstreams() {
        let some = |upstream: &str, token: Option<&str>, rest: &str| {
            Some((upstream.to_string(), token.map(String::from), rest.to_string()))
        };
        assert_eq!(led("/openai/v1/models?a=/../b"), some("openai", None, "/v1/models?a=/../b"));
        assert_eq!(led("/a/layersift_00/v1/messages"), some("a", Some("layersift_00"), "/v1/messages"));
        assert_eq!(led("/a/layersift_00"), some("a", None, "/layersift_00"));
        for path in [
            "/openai",
            "/openai?x",
            "/",
            "/a/../b",
            "/a/v1/%2E%2e/x",
            "/a/v1/..%2fx",
            "/a/.",
            "/a/..;x/y",
            "/a/%252e%252E/x",
            "/a/..%00/x",
            "/a/..%09/x",
            "/a/%c0%ae%c0%ae/x",
        ] {
            assert_eq!(led(path), None, "{path}");
        }
        assert!(led("/a/v1/models/org%2Fname").is_some());
    }

    #[test]
    fn paths_say_the_form() {
        assert_eq!(form("/v1/chat/completions?x=1"), Some(Form::Chat));
        assert_eq!(form("/v1/completions"), Some(Form::Completions));
        assert_eq!(form("/v1/messages/"), Some(Form::Messages));
        assert_eq!(form("/v1/files"), None);
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn headers_of_the_connection_and_of_this_server_do_not_go_on() {
        let sent = headers(&[
            ("host", "layersift.example"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("x-layersift-auth", "Bearer T"),
            ("authorization", "Bearer T"),
            ("accept-encoding", "gzip"),
            ("x-forwarded-for", "10.0.0.1"),
            ("cookie", "a=b"),
            ("range", "bytes=0-3"),
            ("anthropic-version", "2026-10-21"),
            ("x-api-key", "KEY"),
            ("x-twice", "1"),
            ("x-twice", "2"),
        ]);
        let expected = headers(&[
            ("anthropic-version", "2026-10-21"),
            ("x-api-key", "KEY"),
            ("x-twice", "1"),
            ("x-twice", "2"),
            ("accept-encoding", "identity"),
            ("authorization", "Bearer KEY"),
        ]);
        assert_eq!(request_headers(&sent, Some(HeaderValue::from_static("Bearer KEY"))), expected);
        let answered = headers(&[("content-encoding", "gzip"), ("alt-svc", "h3=\":443\""), ("request-id", "r")]);
        assert_eq!(answer_headers(&answered), headers(&[("request-id", "r")]));
    }

    #[test]
    fn tokens_of_the_service_are_found_in_what_goes_on() {
        let token = format!("{TOKEN_PREFIX}{}", "0123456789abcdef".repeat(4));
        let basic = format!("Basic {}", BASE64.encode(format!("me:{token}")));
        let with = |name: &str, value: &str| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
        };
        let bearer = format!("Bearer {token}");
        for (name, value) in
            [("authorization", &bearer), ("authorization", &basic), ("x-any", &token), (&token, &basic)]
        {
            assert!(has_own_token("/v1/models", &with(name, value)), "{name}: {value}");
        }
        let encoded = token.replacen('l', "%256c", 1);
        for path in [format!("/{token}/v1"), format!("/v1/models?key={token}&a=b"), format!("/v1?key={encoded}")] {
            assert!(has_own_token(&path, &HeaderMap::new()), "{path}");
        }
        let short = &token[..token.len() - 1];
        for value in ["Bearer sk-a-key", "layersift_app", short, "Basic bGF5ZXJzaWZ0XzAw"] {
            assert!(!has_own_token("/v1/models?user=layersift_app", &with("authorization", value)), "{value}");
        }
    }

    #[test]
    fn only_utf_8_is_read() {
        assert!(is_utf8(&headers(&[("content-type", "application/json; charset=\"UTF-8\"")])));
        assert!(is_utf8(&headers(&[])));
        assert!(!is_utf8(&headers(&[("content-type", "application/json;charset=utf-7")])));
        assert!(!is_utf8(&headers(&[("content-type", "text/plain"), ("content-type", "text/plain")])));
        assert!(is_stream(&headers(&[("content-type", "Text/Event-Stream; charset=utf-8")])));
    }
}
