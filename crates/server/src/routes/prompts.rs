//! The prompt gate: our own question, and those of LiteLLM and Envoy. Nothing of a body is logged or counted, and what
//! is answered has secrets only in masked form.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use layersift_prompts::{Decision, Form, Gate, is_text};
use serde::Deserialize;

use super::parameters::{NoParameters, Parameters};
use super::webhooks;
use crate::http::problem::Problem;
use crate::prompts::envoy::{self, Shown};
use crate::prompts::forwarded::TOKEN;
use crate::prompts::media::Media;
use crate::prompts::{litellm, plain};
use crate::service::Service;
use crate::service::access::Client;
use crate::service::prompts::{PromptBody, PromptGate, Receiving};

/// Where LiteLLM asks: it appends this to the address that it was given.
const LITELLM: &str = "/beta/litellm_basic_guardrail_api";

/// LiteLLM's header for the token.
const API_KEY: &str = "x-api-key";

/// What the paths that Envoy asks begin with, before those of its clients.
const ENVOY: &str = "/envoy/";

/// Envoy's header that says whether it shows only the beginning of a body.
const PARTIAL: &str = "x-envoy-auth-partial-body";

/// The encodings of bodies that are decoded where Envoy shows the header. Without it the bytes tell.
const KNOWN_TO_ENVOY: [&[u8]; 4] = [b"identity", b"gzip", b"x-gzip", b"zstd"];

/// The header with the verdict, for Envoy's log.
const VERDICT: &str = "x-layersift-verdict";

/// The parameters of our own question.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckParameters {
    form: Option<String>,
}

/// Takes the headers in which gateways have the token as `Authorization`. What the client of a gateway has there is a
/// key of its provider, and goes no further.
pub(super) async fn accept_gateways(mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let (is_litellm, is_envoy) = (path == LITELLM, path.starts_with(ENVOY));
    let is_webhook = webhooks::is_one(path);
    let headers = request.headers_mut();
    let key = headers.remove(API_KEY).filter(|_| is_litellm && !headers.contains_key(AUTHORIZATION));
    if let Some(key) = key
        && let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", key.as_bytes()].concat())
    {
        headers.insert(AUTHORIZATION, value);
    }
    if is_envoy {
        headers.remove(AUTHORIZATION);
    }
    if (is_envoy || is_webhook)
        && let Some(token) = headers.remove(TOKEN)
    {
        headers.insert(AUTHORIZATION, token);
    }
    next.run(request).await
}

/// `POST /v1/prompts/check`.
pub(super) async fn check(
    State(service): State<Arc<Service>>,
    Extension(client): Extension<Client>,
    Parameters(parameters): Parameters<CheckParameters>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let gate = gate(&service)?;
    let form = parameters.form.map(|form| form.parse::<Form>()).transpose().map_err(|_| unknown_form())?;
    let form = form.or_else(|| is_plain_text(&headers).then_some(Form::Text));
    let media = Media::of(&headers);
    let body = gate.receive(body, Receiving::of(&headers)).await?;
    let most = gate.most_bytes();
    let (decision, status, answer) = gate
        .check(move |shared| {
            let names = [token_name(&client)];
            let asked = shared.client(&client.name, &names);
            let PromptBody { bytes, is_too_large, .. } = &body;
            let verdict = match is_too_large {
                true => Gate::too_large(most),
                false => media.check(&shared.gate, bytes, form, asked),
            };
            let (status, answer) = plain::answer(&verdict, is_text(bytes, form));
            (verdict.decision, status, answer)
        })
        .await?;
    service.count_prompt("plain", decision.name());
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
    Ok(json(status, answer))
}

/// `POST /beta/litellm_basic_guardrail_api`. Whatever was decided has status 200.
pub(super) async fn guardrail(
    State(service): State<Arc<Service>>,
    Extension(client): Extension<Client>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let gate = gate(&service)?;
    let most = gate.most_bytes();
    let received = gate.receive(body, Receiving::of(&headers)).await;
    let checked = match received {
        Err(problem) => Err(problem),
        Ok(body) => {
            let checked = gate.check(move |shared| {
                let PromptBody { bytes, is_too_large, .. } = &body;
                if *is_too_large {
                    return (Decision::Deny, litellm::refused(&Gate::too_large(most)));
                }
                let mut names = litellm::names(bytes);
                names.push(token_name(&client));
                let name = format!("{} {}", client.name, names.join(" "));
                let (verdict, answer) = litellm::check(&shared.gate, bytes, shared.client(&name, &names));
                (verdict.decision, answer)
            });
            checked.await
        }
    };
    let Ok((decision, answer)) = checked else {
        // Statuses of errors pass under some of LiteLLM's settings.
        service.count_prompt("litellm", "busy");
        return Ok(json(StatusCode::OK, litellm::busy()));
    };
    service.count_prompt("litellm", decision.name());
    Ok(json(StatusCode::OK, answer))
}

/// Any method of any path below `/envoy/`: what Envoy's `ext_authz` asks. 200 allows, 403 denies.
pub(super) async fn ext_authz(
    State(service): State<Arc<Service>>,
    Extension(client): Extension<Client>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let gate = gate(&service)?;
    let body = gate.receive(body, Receiving::of(&headers)).await?;
    let most = gate.most_bytes();
    // Whatever it says besides `false`, part of the body may be missing.
    let is_partial = headers.get(PARTIAL).is_some_and(|value| value != "false");
    let is_encoded = headers.get_all(CONTENT_ENCODING).iter().any(|value| !KNOWN_TO_ENVOY.contains(&value.as_bytes()));
    let media = Media::of(&headers);
    let verdict = gate
        .check(move |shared| {
            let names = [token_name(&client)];
            let asked = shared.client(&client.name, &names);
            let PromptBody { bytes, is_too_large, .. } = &body;
            let path = uri.path_and_query().map_or("", |path| path.as_str());
            let path = path.strip_prefix(ENVOY).unwrap_or(path);
            if *is_too_large {
                return Gate::too_large(most);
            }
            envoy::check(&shared.gate, &Shown { path, body: bytes, media, is_encoded, is_partial }, asked)
        })
        .await?;
    service.count_prompt("envoy", verdict.decision.name());
    let mut response = match verdict.decision {
        Decision::Allow => StatusCode::OK.into_response(),
        Decision::Mask | Decision::Deny => json(StatusCode::FORBIDDEN, plain::answer(&verdict, true).1),
    };
    response.headers_mut().insert(VERDICT, HeaderValue::from_static(verdict.decision.name()));
    Ok(response)
}

/// What was given is not quoted: it may be anything, such as the body.
fn unknown_form() -> Problem {
    let names: Vec<&str> = Form::ALL.into_iter().map(Form::name).collect();
    Problem::invalid(format!("the `form` is not known: expected one of {}", names.join(", ")))
}

pub(super) fn gate(service: &Service) -> Result<&PromptGate, Problem> {
    service.prompts.as_ref().ok_or_else(|| Problem::not_found("prompts are not checked here: there is no `[prompts]`"))
}

fn is_plain_text(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/plain"))
}

/// The name of a client in settings. That of a token is in its name for logs, after its number.
pub(super) fn token_name(client: &Client) -> String {
    let name = client.name.strip_prefix("token ").and_then(|rest| rest.split_once(' ')).map(|(_, name)| name);
    format!("token:{}", name.unwrap_or(&client.name))
}

pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
