//! Who asks, and what they may do. A token is looked up in the store by its hash and kept for seconds: a token that was
//! revoked opens nothing after that. While the store is out of reach, tokens that were good minutes ago are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use layersift_model::Digest;
use layersift_store::{Seconds, Store, StoreError};
use moka::future::Cache;
use tokio::sync::Semaphore;

use crate::http::accepted::AcceptedTexts;
use crate::http::limits::Rates;
use crate::http::peer::Peer;
use crate::http::problem::Problem;
use crate::http::tokens::{GoodToken, bearer, hash};
use crate::settings::{ApiClients, Scope};

/// How long a token is kept, and how long one that was good stays so while the store is out of reach.
const FRESH: Duration = Duration::from_secs(5);
const STALE: Duration = Duration::from_secs(300);

/// How long the store is waited for about a token that was good.
const STALL: Duration = Duration::from_millis(500);

/// How long an address is refused that had too many wrong tokens, and tokens that are looked up at a time.
const REFUSED: Duration = Duration::from_secs(1);
const LOOKING: usize = 8;

/// Tokens that are kept.
const MOST: u64 = 10_000;

/// Wrong tokens of one address per second, and as many at once.
const WRONG: std::num::NonZeroU32 = std::num::NonZeroU32::MIN.saturating_add(19);

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// The name that it is counted and logged by.
    pub(crate) name: String,
    pub(crate) scopes: BTreeSet<Scope>,
    /// Whether it asks at the address for admission, or at the socket: what is kept for these, others cannot take.
    pub(crate) is_cluster: bool,
}

/// Finds out who asks.
pub(crate) struct Access {
    store: Arc<Store>,
    clients: ApiClients,
    fresh: Cache<String, Arc<GoodToken>>,
    stale: Cache<String, Arc<GoodToken>>,
    /// Tokens that are not good: apart, so that they do not take the places of those that are.
    bad: Cache<String, ()>,
    wrong: Rates,
    /// Hashes of texts of senders that were right minutes ago.
    right: Cache<String, ()>,
    /// Addresses with too many wrong tokens a moment ago.
    refused: Cache<String, ()>,
    /// Tokens that are looked up at a time.
    looking: Semaphore,
    clock: fn() -> Seconds,
}

impl Access {
    pub(crate) fn new(store: Arc<Store>, clients: ApiClients, clock: fn() -> Seconds) -> Access {
        Access {
            store,
            clients,
            fresh: Cache::builder().max_capacity(MOST).time_to_live(FRESH).build(),
            stale: Cache::builder().max_capacity(MOST).time_to_live(STALE).build(),
            bad: Cache::builder().max_capacity(MOST).time_to_live(FRESH).build(),
            wrong: Rates::new(WRONG),
            right: Cache::builder().max_capacity(MOST).time_to_live(STALE).build(),
            refused: Cache::builder().max_capacity(MOST).time_to_live(REFUSED).build(),
            looking: Semaphore::new(LOOKING),
            clock,
        }
    }

    /// The client of a request with this `Authorization` header.
    ///
    /// # Errors
    /// 401 for a client that is not known, 429 for an address with many of them, 503 while the store is out of reach.
    pub(crate) async fn client(&self, authorization: Option<&str>, peer: &Peer) -> Result<Client, Problem> {
        let unknown = |why: &str| Problem::new(axum::http::StatusCode::UNAUTHORIZED, why);
        let certificate = peer.certificate.as_deref();
        if self.clients.require_certificate && certificate.is_none() {
            return Err(unknown("a client certificate is required"));
        }
        let Some(authorization) = authorization else {
            return match certificate {
                Some(certificate) if !self.clients.scopes.is_empty() => {
                    Ok(Client { name: certificate.to_string(), scopes: self.clients.scopes.clone(), is_cluster: false })
                }
                _ => Err(unknown(
                    "a token is required: Authorization: Bearer TOKEN, or x-layersift-auth: Bearer TOKEN where \
                     Authorization has the key of a model's API",
                )),
            };
        };
        let Some(token) = bearer(authorization) else {
            return Err(unknown("invalid Authorization header: expected Bearer TOKEN"));
        };
        if self.refused.contains_key(&peer.origin()) && !self.stale.contains_key(&hash(token)) {
            return Err(Problem::too_many("too many invalid tokens from this address", 1));
        }
        match self.good(token).await {
            Ok(Some(token)) if (self.clock)() < token.expires_at => Ok(Client {
                name: format!("token {} {}", token.id, token.name),
                scopes: token.scopes.clone(),
                is_cluster: false,
            }),
            Ok(_) => {
                self.count_wrong(peer).await?;
                Err(unknown("the token is unknown, expired or revoked"))
            }
            Err(error) => {
                tracing::error!(%error, "the store failed");
                Err(Problem::unavailable("the token cannot be looked up; try again"))
            }
        }
    }

    /// Lets a sender in whose `Authorization` header is one of the accepted texts.
    ///
    /// # Errors
    /// 401 for any other text, 429 for an address with many of them.
    pub(crate) async fn check_text(&self, text: &[u8], accepted: &AcceptedTexts, peer: &Peer) -> Result<(), Problem> {
        let hash = Digest::of(text).hex().to_string();
        if self.refused.contains_key(&peer.origin()) && !self.right.contains_key(&hash) {
            return Err(Problem::too_many("too many wrong `Authorization` headers from this address", 1));
        }
        if accepted.accepts(text) {
            self.right.insert(hash, ()).await;
            return Ok(());
        }
        self.count_wrong(peer).await?;
        let why = "the `Authorization` header is not one that the service accepts here";
        Err(Problem::new(axum::http::StatusCode::UNAUTHORIZED, why))
    }

    /// Counts a token or a text that was wrong. An error is 429, for an address with many.
    async fn count_wrong(&self, peer: &Peer) -> Result<(), Problem> {
        let Err(seconds) = self.wrong.take(&peer.origin()) else { return Ok(()) };
        self.refused.insert(peer.origin(), ()).await;
        Err(Problem::too_many("too many invalid tokens from this address", seconds))
    }

    /// The token, if it is good. While the store is out of reach, one that was good minutes ago is.
    async fn good(&self, token: &str) -> Result<Option<Arc<GoodToken>>, StoreError> {
        let hash = hash(token);
        if let Some(known) = self.fresh.get(&hash).await {
            return Ok(Some(known));
        }
        if self.bad.contains_key(&hash) {
            return Ok(None);
        }
        let before = self.stale.get(&hash).await;
        let found = match &before {
            None => self.find(&hash).await,
            Some(_) => {
                let stalled = |_| Err(unavailable("it did not answer in time"));
                tokio::time::timeout(STALL, self.find(&hash)).await.unwrap_or_else(stalled)
            }
        };
        match (found, before) {
            (Ok(Some(token)), _) => {
                self.fresh.insert(hash.clone(), Arc::clone(&token)).await;
                self.stale.insert(hash, Arc::clone(&token)).await;
                Ok(Some(token))
            }
            (Ok(None), _) => {
                self.stale.invalidate(&hash).await;
                self.bad.insert(hash, ()).await;
                Ok(None)
            }
            (Err(_), Some(before)) => {
                // Until the store is asked again.
                self.fresh.insert(hash, Arc::clone(&before)).await;
                Ok(Some(before))
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn find(&self, hash: &str) -> Result<Option<Arc<GoodToken>>, StoreError> {
        let _turn = self.looking.acquire().await.map_err(|_| unavailable("the service is ending"))?;
        let (store, hash, now) = (Arc::clone(&self.store), hash.to_string(), (self.clock)());
        let found = tokio::task::spawn_blocking(move || store.api_tokens().find(&hash)).await;
        let found = found.map_err(|_| unavailable("the lookup of a token failed"))??;
        Ok(found.and_then(|stored| GoodToken::of(stored, now)).map(Arc::new))
    }
}

fn unavailable(reason: &str) -> StoreError {
    StoreError::Location { store: "the store".into(), reason: reason.into() }
}

impl Client {
    /// Whether it may do what `scope` is for.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn check(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let why = format!("the token does not have the scope `{}`", scope.name());
        Err(Problem::new(axum::http::StatusCode::FORBIDDEN, why))
    }
}
