//! The prompt gate for gateways that ask by webhook: kgateway and Portkey.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use layersift_prompts::{Client as Asked, Gate, Verdict};

use super::prompts::{gate, json, token_name};
use crate::http::problem::Problem;
use crate::prompts::kgateway::{self, Event};
use crate::prompts::portkey;
use crate::service::Service;
use crate::service::access::Client;
use crate::service::prompts::Receiving;

/// Where kgateway asks, which knows no other paths, and where Portkey does.
const PATHS: [&str; 3] = ["/request", "/response", "/portkey"];

/// The longest that Portkey may wait: after three seconds it takes the prompt for good.
const PORTKEY_WAITS: Duration = Duration::from_millis(2_500);

/// Whether a path is one of a webhook. Its token may be in a header of its own.
pub(super) fn is_one(path: &str) -> bool {
    PATHS.contains(&path)
}

/// `POST /request`.
pub(super) async fn request(
    state: State<Arc<Service>>,
    client: Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    kgateway(Event::Request, state, client, headers, body).await
}

/// `POST /response`.
pub(super) async fn response(
    state: State<Arc<Service>>,
    client: Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    kgateway(Event::Response, state, client, headers, body).await
}

async fn kgateway(
    event: Event,
    State(service): State<Arc<Service>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let check = move |gate: &Gate, body: &[u8], asked: Asked<'_>| kgateway::check(gate, event, body, asked);
    let (verdict, answer) = checked(&service, client, (&headers, body), kgateway::refused, check).await?;
    service.count_prompt("kgateway", verdict.decision.name());
    Ok(json(StatusCode::OK, answer))
}

/// `POST /portkey`.
pub(super) async fn portkey(
    State(service): State<Arc<Service>>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let refused = |verdict: &Verdict| portkey::refused(verdict.message());
    let checking = checked(&service, client, (&headers, body), refused, portkey::check);
    let late = |_| Problem::unavailable("Layersift is busy and could not check this; send it again");
    let (verdict, answer) = tokio::time::timeout(PORTKEY_WAITS, checking).await.map_err(late)??;
    service.count_prompt("portkey", verdict.decision.name());
    Ok(json(StatusCode::OK, answer))
}

/// Receives a body and checks it. The answer to one that is too large is what `refused` makes of the verdict.
async fn checked(
    service: &Service,
    client: Client,
    (headers, body): (&HeaderMap, Body),
    refused: impl FnOnce(&Verdict) -> Vec<u8> + Send + 'static,
    check: impl FnOnce(&Gate, &[u8], Asked<'_>) -> (Verdict, Vec<u8>) + Send + 'static,
) -> Result<(Verdict, Vec<u8>), Problem> {
    let gate = gate(service)?;
    let most = gate.most_bytes();
    let body = gate.receive(body, Receiving::of(headers)).await?;
    let checked = gate.check(move |shared| {
        if body.is_too_large {
            let verdict = Gate::too_large(most);
            let answer = refused(&verdict);
            return (verdict, answer);
        }
        check(&shared.gate, &body.bytes, shared.client(&client.name, &[token_name(&client)]))
    });
    checked.await
}

/// Portkey takes errors for a pass: they become verdicts.
pub(super) async fn for_portkey(response: Response) -> Response {
    match response.extensions().get::<Problem>() {
        Some(problem) => json(StatusCode::OK, portkey::refused(format!("Layersift: {}", problem.detail()))),
        None => response,
    }
}
