//! Bearer tokens: 256 random bits. The store has their SHA-256 only, and a token is looked up by it, so that what is
//! compared says nothing about tokens that are good.

use std::collections::BTreeSet;

use layersift_model::Digest;
use layersift_store::{ApiToken, Seconds};

use crate::settings::Scope;

/// What every token begins with, so that scanners of secrets know it.
const PREFIX: &str = "layersift_";

/// Random bytes of a token.
const BYTES: usize = 32;

/// Makes a token.
///
/// # Errors
/// Where the system has no random bytes.
pub fn mint() -> Result<String, getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", layersift_model::hex(&bytes)))
}

/// What the store has of a token.
pub fn hash(token: &str) -> String {
    Digest::of(token.as_bytes()).hex().to_string()
}

/// The scopes of a token, as the store has them.
pub fn scopes_text(scopes: &BTreeSet<Scope>) -> String {
    scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>().join(" ")
}

/// A token that was found in the store and is good.
#[derive(Clone, Debug)]
pub(crate) struct GoodToken {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) scopes: BTreeSet<Scope>,
    pub(crate) expires_at: Seconds,
}

impl GoodToken {
    /// The token, if it is neither revoked nor expired.
    pub(crate) fn of(stored: ApiToken, now: Seconds) -> Option<GoodToken> {
        let ApiToken { id, name, scopes, expires_at, revoked_at, .. } = stored;
        let scopes = scopes.split(' ').filter_map(Scope::named).collect();
        (revoked_at.is_none() && now < expires_at).then_some(GoodToken { id, name, scopes, expires_at })
    }
}

/// The token in the value of an `Authorization` header.
pub(crate) fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let is_token = token.len() <= 256 && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && is_token && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(expires_at: Seconds, revoked_at: Option<Seconds>) -> ApiToken {
        ApiToken { id: 1, name: "ci".into(), scopes: "read admit".into(), created_at: 0, expires_at, revoked_at }
    }

    #[test]
    fn tokens_are_long_and_differ() {
        let (one, two) = (mint().unwrap(), mint().unwrap());
        assert!(one != two && one.len() == PREFIX.len() + 2 * BYTES && hash(&one) != hash(&two));
        assert!(!hash(&one).contains(&one[PREFIX.len()..]));
    }

    #[test]
    fn a_token_is_good_until_it_expires_or_is_revoked() {
        assert_eq!(GoodToken::of(stored(10, None), 9).unwrap().scopes, BTreeSet::from([Scope::Read, Scope::Admit]));
        assert!(GoodToken::of(stored(10, None), 10).is_none());
        assert!(GoodToken::of(stored(10, Some(5)), 6).is_none());
    }

    #[test]
    fn a_header_has_one_token() {
        assert_eq!(bearer("Bearer layersift_ab"), Some("layersift_ab"));
        assert_eq!(bearer("bearer x"), Some("x"));
        for value in ["Basic x", "Bearer", "Bearer ", "Bearer a b", "Bearer \u{e9}", ""] {
            assert_eq!(bearer(value), None, "{value}");
        }
    }
}
