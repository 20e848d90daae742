//! What is answered where.
//!
//! ```text
//! admit        admission: Kubernetes, Gatekeeper and plain JSON
//! harbor       the scanner that a Harbor asks
//! scans        images are handed in to be scanned, and watched
//! images       stored images: reports, findings
//! trace        where else something is
//! prompts      the prompt gate
//! webhooks     the prompt gate for gateways with webhooks
//! proxy        requests to models, which are checked and forwarded
//! events       registries say what was pushed
//! operations   the queue and the tokens, health and metrics
//! openapi      what the API is
//! middleware   who asks, how often, and how it is counted
//! ```

mod admit;
mod events;
mod harbor;
mod images;
mod middleware;
mod openapi;
mod operations;
mod parameters;
mod prompts;
mod proxy;
mod scans;
mod trace;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::routing::{any, get, post};

use crate::http::problem::Problem;
use crate::service::Service;
use crate::service::models::ANSWERING;
use crate::settings::Scope;

/// The longest that a handler may take until its answer begins.
const LONGEST: Duration = Duration::from_secs(60);

/// The bytes of a body of the API.
const BODY: usize = 64 << 10;

/// Everything for clients with a token or a certificate.
pub(crate) fn api(service: &Arc<Service>) -> Router {
    let needs = |scope: Scope| from_fn_with_state(scope, middleware::need);
    let scans = Router::new()
        .route("/api/v1/scans", get(scans::list).post(scans::submit))
        .route("/api/v1/scans/{id}", get(scans::status))
        .route("/api/v1/scans/{id}/events", get(scans::events))
        .route_layer(needs(Scope::Scan));
    let read = Router::new()
        .route("/api/v1/images", get(images::list))
        .route("/api/v1/images/{digest}", get(images::image))
        .route("/api/v1/images/{digest}/report", get(images::report))
        .route("/api/v1/images/{digest}/findings", get(images::findings))
        .route("/api/v1/trace", get(trace::by_name).post(trace::by_secret))
        .route("/api/v1/queue", get(operations::queue))
        .route_layer(needs(Scope::Read));
    let admin = Router::new().route("/api/v1/tokens", get(operations::tokens)).route_layer(needs(Scope::Admin));
    let admit = Router::new()
        .route("/admit/v1", post(admit::kubernetes))
        .route("/admit/v1/images", post(admit::plain))
        .route("/gatekeeper/v1", post(admit::gatekeeper))
        .route_layer(needs(Scope::Admit));
    let prompts = Router::new()
        .route("/v1/prompts/check", post(prompts::check))
        .route("/beta/litellm_basic_guardrail_api", post(prompts::guardrail))
        .route("/envoy/{*path}", any(prompts::ext_authz))
        .route("/request", post(webhooks::request))
        .route("/response", post(webhooks::response))
        .route_layer(needs(Scope::Prompt));
    let authenticated = Router::new()
        .merge(scans)
        .merge(read)
        .merge(admin)
        .merge(admit)
        .merge(prompts)
        .route("/api/v1/openapi.json", get(openapi::document))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(Arc::clone(service), middleware::limit))
        .layer(from_fn_with_state(Arc::clone(service), middleware::authenticate))
        .layer(from_fn(prompts::accept_gateways));
    let portkey = Router::new()
        .route("/portkey", post(webhooks::portkey))
        .route_layer(needs(Scope::Prompt))
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(Arc::clone(service), middleware::limit))
        .layer(from_fn_with_state(Arc::clone(service), middleware::authenticate))
        .layer(from_fn(prompts::accept_gateways))
        .layer(map_response(webhooks::for_portkey));
    let others = portkey.merge(harbor::routes(service)).merge(events::routes()).merge(health_routes());
    finish(authenticated.merge(others), service)
}

/// Admission for a cluster: who connects has a certificate, or knows the path.
pub(crate) fn admission(service: &Arc<Service>, secret: Option<String>) -> Router {
    let routes = admission_routes();
    let routes = match &secret {
        Some(secret) => Router::new().nest(&format!("/{secret}"), routes),
        None => routes,
    };
    let routes = routes
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state(Arc::clone(service), middleware::limit))
        .layer(from_fn_with_state("cluster", middleware::name_client));
    finish(routes.merge(health_routes()), service)
}

/// Admission on this machine, for the user of the service.
pub(crate) fn socket(service: &Arc<Service>) -> Router {
    let routes = admission_routes()
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(from_fn_with_state("socket", middleware::name_client));
    finish(routes.merge(health_routes()), service)
}

/// Requests to models, for clients with a token or a certificate.
pub(crate) fn proxy(service: &Arc<Service>) -> Router {
    let methods = get(proxy::forward).post(proxy::forward).delete(proxy::forward).fallback(proxy::not_forwarded);
    let routes = Router::new()
        .route("/{upstream}/{*path}", methods)
        .route_layer(from_fn_with_state(Scope::Prompt, middleware::need))
        .layer(from_fn_with_state(Arc::clone(service), middleware::limit))
        .layer(from_fn_with_state(Arc::clone(service), middleware::authenticate))
        .layer(from_fn(proxy::accept));
    let routes = routes.fallback(not_found).merge(health_routes()).layer(map_response(proxy::for_sdks));
    finish_within(ANSWERING + LONGEST, routes, service)
}

/// Health, and by choice metrics.
pub(crate) fn health(service: &Arc<Service>) -> Router {
    let mut routes = health_routes();
    if service.settings.listen.metrics {
        routes = routes.route("/metrics", get(operations::metrics));
    }
    finish(routes.fallback(not_found).method_not_allowed_fallback(not_allowed), service)
}

fn admission_routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/admit/v1", post(admit::kubernetes))
        .route("/admit/v1/images", post(admit::plain))
        .route("/gatekeeper/v1", post(admit::gatekeeper))
}

fn health_routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/healthz", get(operations::healthy))
        .route("/readyz", get(operations::ready))
        .method_not_allowed_fallback(not_allowed)
}

fn finish(routes: Router<Arc<Service>>, service: &Arc<Service>) -> Router {
    finish_within(LONGEST, routes, service)
}

/// The same for handlers that may take longer until their answers begin.
fn finish_within(longest: Duration, routes: Router<Arc<Service>>, service: &Arc<Service>) -> Router {
    routes
        .layer(map_response(middleware::safe_headers))
        .layer(from_fn_with_state((Arc::clone(service), longest), middleware::observe))
        .with_state(Arc::clone(service))
}

async fn not_found() -> Problem {
    Problem::not_found("there is nothing at this path")
}

async fn not_allowed() -> Problem {
    Problem::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "this path does not have that method")
}
