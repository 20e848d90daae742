//! The prompt gate for gateways that ask by webhook: kgateway and Portkey.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use layersift_prompts::Gate;

use super::prompts::{gate, json, length, token_name};
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
    let gate = gate(&service)?;
    let most = gate.most_bytes();
    let body = gate.receive(body, Receiving::request(length(&headers))).await?;
    let (verdict, answer) = gate
        .check(move |shared| {
            let names = [token_name(&client)];
            if body.is_too_large {
                let verdict = Gate::too_large(most);
                let answer = kgateway::refused(&verdict);
                return (verdict, answer);
            }
            kgateway::check(&shared.gate, event, &body.bytes, shared.client(&client.name, &names))
        })
        .await?;
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
    let gate = gate(&service)?;
    let most = gate.most_bytes();
    let checking = async {
        let body = gate.receive(body, Receiving::request(length(&headers))).await?;
        gate.check(move |shared| {
            let names = [token_name(&client)];
            if body.is_too_large {
                let verdict = Gate::too_large(most);
                let answer = portkey::refused(verdict.message());
                return (verdict, answer);
            }
            portkey::check(&shared.gate, &body.bytes, shared.client(&client.name, &names))
        })
        .await
    };
    let late = |_| Problem::unavailable("Layersift is busy and could not check this; send it again");
    let (verdict, answer) = tokio::time::timeout(PORTKEY_WAITS, checking).await.map_err(late)??;
    service.count_prompt("portkey", verdict.decision.name());
    Ok(json(StatusCode::OK, answer))
}

/// Portkey takes errors for a pass: they become verdicts.
pub(super) async fn for_portkey(response: Response) -> Response {
    match response.extensions().get::<Problem>() {
        Some(problem) => json(StatusCode::OK, portkey::refused(format!("Layersift: {}", problem.detail()))),
        None => response,
    }
}
