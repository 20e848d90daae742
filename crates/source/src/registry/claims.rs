//! What a token says about itself, where it can be read: the claims of a JSON web token.
//!
//! Sources: RFC 7519; distribution's "Token Authentication Implementation" (`sub` is empty for a client that did not
//! log in, `access` has what was granted of the requested scopes). Nothing is verified: only the registry can do that,
//! and a claim only decides whether the login is checked once more.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use layersift_model::parse;
use serde::Deserialize;

/// The claims that are used. Others are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    sub: Option<String>,
    access: Option<Vec<Access>>,
}

#[derive(Debug, Deserialize)]
struct Access {
    actions: Option<Vec<String>>,
}

impl Claims {
    /// The claims of a token; `None` if it is opaque.
    pub(super) fn of(token: &str) -> Option<Claims> {
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        let bytes = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
        parse::json(&bytes).ok()
    }

    /// Whether it names nobody: the server may have taken the caller for a stranger.
    pub(super) fn has_no_subject(&self) -> bool {
        self.sub.as_deref().is_none_or(str::is_empty)
    }

    /// Whether it says that nothing was granted. A token without the claim says nothing.
    pub(super) fn grants_nothing(&self) -> bool {
        let is_empty = |access: &Access| access.actions.as_ref().is_none_or(Vec::is_empty);
        self.access.as_ref().is_some_and(|access| access.iter().all(is_empty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(payload: &str) -> Option<Claims> {
        Claims::of(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload)))
    }

    #[test]
    fn what_harbor_gives_a_stranger_and_a_user() {
        let stranger = claims(r#"{"aud":"harbor-registry","access":[{"type":"repository","name":"a","actions":[]}]}"#);
        let stranger = stranger.unwrap();
        assert!(stranger.has_no_subject() && stranger.grants_nothing());
        let public = claims(r#"{"sub":"","access":[{"type":"repository","name":"a","actions":["pull"]}]}"#).unwrap();
        assert!(public.has_no_subject() && !public.grants_nothing());
        let user = claims(r#"{"sub":"admin","access":[{"name":"a","actions":["push","pull"]}]}"#).unwrap();
        assert!(!user.has_no_subject() && !user.grants_nothing());
        assert!(!claims(r#"{"sub":"admin"}"#).unwrap().grants_nothing());
    }

    #[test]
    fn opaque_tokens_have_no_claims() {
        for token in ["", "abc", "a.b", "a.%%%.c", "e30.bm90IGpzb24.c2ln"] {
            assert!(Claims::of(token).is_none(), "{token}");
        }
    }
}
