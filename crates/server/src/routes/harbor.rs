//! `/harbor/api/v1`: the scanner that a Harbor asks, by version 1.2 of its interface for scanners.
//!
//! Harbor takes any status that it does not expect for an error, and shows the text of it only in the one form that it
//! reads.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};

use crate::harbor::metadata::Metadata;
use crate::harbor::{ERROR, METADATA, SBOM, SCAN_RESPONSE, VULNERABILITIES, error_body, scan_request};
use crate::http::metrics::label;
use crate::http::peer::Peer;
use crate::service::Service;
use crate::service::access::Client;
use crate::service::harbor::tasks::{NotTaken, Poll};
use crate::service::harbor::{Adapter, VERSION, secrets};
use crate::settings::Scope;

/// How long a body may take. Harbor gives a call 5 seconds.
const BODY_TIME: Duration = Duration::from_secs(4);

/// Bytes of a body.
const BODY: usize = 300 << 10;

/// What a Harbor may ask, once it has shown who it is.
pub(super) fn routes(service: &Arc<Service>) -> Router<Arc<Service>> {
    let routes = Router::new()
        .route("/harbor/api/v1/metadata", get(metadata))
        .route("/harbor/api/v1/scan", post(scan))
        .route("/harbor/api/v1/scan/{id}/report", get(report));
    routes.layer(axum::middleware::from_fn_with_state(Arc::clone(service), authenticate))
}

/// Lets a Harbor in that shows a secret of the file, without the store: its metadata must be answered whatever else
/// fails, since it lets images pass meanwhile that were never scanned. Tokens with the scope `harbor` are good, too.
async fn authenticate(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let Some(adapter) = &service.harbor else { return failed(StatusCode::NOT_FOUND, "there is no scanner for Harbor") };
    let peer = request.extensions().get::<Peer>().cloned();
    let (Some(secret), Some(peer)) = (secrets::shown(request.headers()), peer) else {
        return refused(&service, "a password, a token or an API key is required");
    };
    let client = if adapter.secrets.accepts(secret.as_bytes()) {
        Client { name: "harbor".into(), scopes: [Scope::Harbor].into(), is_cluster: false }
    } else {
        match service.access.client(Some(&format!("Bearer {secret}")), &peer).await {
            Ok(client) if client.scopes.contains(&Scope::Harbor) => client,
            _ => return refused(&service, "the password, the token or the API key is not known"),
        }
    };
    request.extensions_mut().insert(client);
    next.run(request).await
}

/// `GET /harbor/api/v1/metadata`.
async fn metadata(State(service): State<Arc<Service>>) -> Response {
    let second = service.harbor.as_ref().and_then(|adapter| adapter.second.as_ref()).and_then(|one| one.metadata());
    answer(StatusCode::OK, METADATA, Metadata::of(VERSION, second.as_deref()).to_json())
}

/// `POST /harbor/api/v1/scan`.
async fn scan(State(service): State<Arc<Service>>, Extension(client): Extension<Client>, body: Body) -> Response {
    let Some(adapter) = &service.harbor else { return missing() };
    let received = tokio::time::timeout(BODY_TIME, axum::body::to_bytes(body, BODY)).await;
    let Ok(Ok(body)) = received else {
        return failed(StatusCode::BAD_REQUEST, "the request did not arrive, or is too long");
    };
    let request = match scan_request::read(&body) {
        Ok(request) => request,
        Err(error) => {
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
            return answer(status, ERROR, error.body());
        }
    };
    match adapter.take(&service, &client.name, request).await {
        Ok(id) => answer(StatusCode::ACCEPTED, SCAN_RESPONSE, format!("{{\"id\":\"{id}\"}}").into_bytes()),
        Err(NotTaken::Unsupported(why)) => failed(StatusCode::UNPROCESSABLE_ENTITY, &why),
        Err(NotTaken::Failed(why)) => failed(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}

/// `GET /harbor/api/v1/scan/{id}/report`.
async fn report(State(service): State<Arc<Service>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let Some(adapter) = &service.harbor else { return missing() };
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_sbom = accept.contains("sbom.report");
    let media_type = if is_sbom { SBOM } else { VULNERABILITIES };
    match poll(adapter, &service, &id, is_sbom).await {
        Poll::Report(report) => answer(StatusCode::OK, media_type, report),
        Poll::Again(seconds) => {
            let mut response = StatusCode::FOUND.into_response();
            response.headers_mut().insert("Refresh-After", HeaderValue::from(u16::from(seconds)));
            response
        }
        Poll::Failed(why) => failed(StatusCode::INTERNAL_SERVER_ERROR, &why),
        Poll::Unknown => failed(StatusCode::NOT_FOUND, "there is no scan with this id"),
        Poll::OtherKind => failed(StatusCode::BAD_REQUEST, "the scan was for another kind of report"),
    }
}

async fn poll(adapter: &Adapter, service: &Arc<Service>, id: &str, is_sbom: bool) -> Poll {
    let is_id = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_id { adapter.poll(service, id, is_sbom).await } else { Poll::Unknown }
}

fn missing() -> Response {
    failed(StatusCode::NOT_FOUND, "there is no scanner for Harbor")
}

fn refused(service: &Service, why: &str) -> Response {
    service.metrics.refused.get_or_create(&label("reason", "unauthenticated")).inc();
    let mut response = failed(StatusCode::UNAUTHORIZED, why);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"layersift\""));
    response
}

fn failed(status: StatusCode, why: &str) -> Response {
    answer(status, ERROR, error_body(why))
}

fn answer(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static(media_type))], body).into_response()
}
