//! Around every handler: who asks, how often, how long it took, and what a browser may do with the answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::http::metrics::label;
use crate::http::peer::Peer;
use crate::http::problem::Problem;
use crate::service::Service;
use crate::service::access::Client;
use crate::settings::Scope;

/// Finds out who asks.
pub(super) async fn authenticate(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else { return unknown() };
    let header = request.headers().get(AUTHORIZATION);
    let header = match header.map(HeaderValue::to_str) {
        Some(Ok(text)) => Some(text),
        // Not a text: no token has such characters.
        Some(Err(_)) => Some(""),
        None => None,
    };
    match service.access.client(header, &peer).await {
        Ok(client) => {
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        Err(problem) => {
            service.metrics.refused.get_or_create(&label("reason", "unauthenticated")).inc();
            problem.into_response()
        }
    }
}

/// Names whoever connected: the connection itself shows that they may ask.
pub(super) async fn name_client(State(kind): State<&'static str>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>() else { return unknown() };
    let name = match &peer.certificate {
        Some(certificate) => certificate.to_string(),
        None => kind.to_string(),
    };
    request.extensions_mut().insert(Client { name, scopes: [Scope::Admit].into(), is_cluster: true });
    next.run(request).await
}

/// Lets only clients in that have a scope.
pub(super) async fn need(
    State(scope): State<Scope>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    match client.check(scope) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Counts requests of a client.
pub(super) async fn limit(
    State(service): State<Arc<Service>>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    match service.rates.take(&client.name) {
        Ok(()) => next.run(request).await,
        Err(seconds) => {
            service.metrics.refused.get_or_create(&label("reason", "rate")).inc();
            Problem::too_many("too many requests", seconds).into_response()
        }
    }
}

/// Counts and logs an answer. A path may be a secret, so only its route is named.
pub(super) async fn observe(
    State((service, longest)): State<(Arc<Service>, Duration)>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let route =
        route.find("/admit/").or_else(|| route.find("/gatekeeper/")).map_or(route, |at| &route[at..]).to_string();
    let answer = tokio::time::timeout(longest, next.run(request)).await;
    let response = answer
        .unwrap_or_else(|_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long").into_response());
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    service.metrics.answered(&route, status, took);
    let took = took.as_micros();
    // 503 is an answer: what is wrong, if anything, is logged where it is found.
    if status >= 500 && status != 503 {
        tracing::warn!(%method, route, status, took, "request");
    } else {
        tracing::debug!(%method, route, status, took, "request");
    }
    response
}

/// Answers are not for caches, and are what they say they are.
pub(super) async fn safe_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn unknown() -> Response {
    Problem::new(StatusCode::UNAUTHORIZED, "the client is unknown").into_response()
}
