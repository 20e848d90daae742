//! The queue and the tokens, and for whoever watches the service its health and its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use layersift_store::{ApiToken, JobCounts, RequestClass, Seconds, StoreError};
use serde::Serialize;

use super::parameters::{NoParameters, Parameters};
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::service::Service;

/// How long the store has to answer, before it counts as out of reach.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

#[derive(Serialize)]
struct QueueView {
    /// Images that wait, by class.
    requests: BTreeMap<&'static str, u64>,
    /// Layers by state.
    layers: LayersView,
}

#[derive(Serialize)]
struct LayersView {
    queued: u64,
    leased: u64,
    poisoned: u64,
}

#[derive(Serialize)]
struct TokenView {
    id: i64,
    name: String,
    scopes: Vec<String>,
    created_at: Seconds,
    expires_at: Seconds,
    revoked_at: Option<Seconds>,
}

impl From<ApiToken> for TokenView {
    fn from(token: ApiToken) -> TokenView {
        let ApiToken { id, name, scopes, created_at, expires_at, revoked_at } = token;
        let scopes = scopes.split_whitespace().map(str::to_string).collect();
        TokenView { id, name, scopes, created_at, expires_at, revoked_at }
    }
}

#[derive(Serialize)]
struct TokensView {
    tokens: Vec<TokenView>,
}

#[derive(Serialize)]
struct ReadyView {
    ready: bool,
    /// `ok`, or `out of reach`: admission is then answered from memory and by policy.
    store: &'static str,
}

/// `GET /api/v1/queue`.
pub(super) async fn queue(
    State(service): State<Arc<Service>>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Result<Response, Problem> {
    let (queued, layers) = service
        .with_store(|service| {
            let queued = service.store.scan_requests().queued()?;
            Ok::<_, StoreError>((queued, service.store.queue().counts(&service.key)?))
        })
        .await?;
    let mut requests: BTreeMap<&'static str, u64> =
        RequestClass::ALL.into_iter().map(|class| (class.name(), 0)).collect();
    requests.extend(queued.into_iter().map(|(class, count)| (class.name(), count)));
    let JobCounts { queued, leased, poisoned, .. } = layers;
    Ok(Json(QueueView { requests, layers: LayersView { queued, leased, poisoned } }).into_response())
}

/// `GET /api/v1/tokens`: no token can be read from it.
pub(super) async fn tokens(
    State(service): State<Arc<Service>>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Result<Response, Problem> {
    let tokens = service.with_store(|service| service.store.api_tokens().list()).await?;
    Ok(Json(TokensView { tokens: tokens.into_iter().map(TokenView::from).collect() }).into_response())
}

/// `GET /healthz`: the process answers. A restart would mend nothing else.
pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether to send requests here. Also while the store is out of reach: a replica that was taken out of
/// service then would answer nothing at all.
pub(super) async fn ready(State(service): State<Arc<Service>>) -> Response {
    let ready = !service.ending.is_cancelled();
    let ping = tokio::time::timeout(PATIENCE, service.with_store(|service| service.store.service().ping()));
    let store = if matches!(ping.await, Ok(Ok(()))) { "ok" } else { "out of reach" };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ReadyView { ready, store })).into_response()
}

/// `GET /metrics`.
pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Result<Response, Problem> {
    service.count_connections();
    let text = service.metrics.text().map_err(|_| Problem::unavailable("the metrics cannot be written"))?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}
