//! The proxy: requests to models are checked and forwarded, and so are their answers.
//!
//! The token of the service is in a header of its own or in the path, and goes no further: a request that has it
//! elsewhere as well is refused. `Authorization` has the key
//! of the model's provider, which goes on unread.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use layersift_prompts::{Decision, Gate, Verdict};

use super::prompts::{gate, token_name};
use crate::http::problem::Problem;
use crate::prompts::encoding::Decoder;
use crate::prompts::forwarded::{self, TOKEN, form};
use crate::prompts::media::Media;
use crate::service::Service;
use crate::service::access::Client;
use crate::service::models::{Asker, Checked, denied};
use crate::service::prompts::{PromptBody, Receiving, Shared};

/// What a request is counted as.
const KIND: &str = "proxy";

/// Where a request leads.
#[derive(Clone)]
pub(super) struct Forwarding {
    upstream: String,
    /// The path and the query at the model's API.
    path: String,
    /// The key of the model's provider.
    key: Option<HeaderValue>,
}

/// Finds out where a request leads, and takes the token of the service as `Authorization`.
pub(super) async fn accept(mut request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query();
    let Some(target) = path.and_then(forwarded::target) else { return nothing().into_response() };
    let forwarding = Forwarding { upstream: target.upstream.into(), path: target.rest.into(), key: None };
    let in_path = target.token.map(|token| format!("Bearer {token}"));
    let in_path = in_path.and_then(|value| HeaderValue::from_str(&value).ok());
    let headers = request.headers_mut();
    let key = headers.remove(AUTHORIZATION);
    if let Some(token) = headers.remove(TOKEN).map(bearer).or(in_path) {
        headers.insert(AUTHORIZATION, token);
    }
    request.extensions_mut().insert(Forwarding { key, ..forwarding });
    next.run(request).await
}

/// The token as it stands in `Authorization`: its own header may have it alone.
fn bearer(value: HeaderValue) -> HeaderValue {
    match value.to_str() {
        Ok(text) if !text.contains(' ') => HeaderValue::from_str(&format!("Bearer {text}")).unwrap_or(value),
        _ => value,
    }
}

/// Problems as the SDKs of OpenAI and Anthropic show them.
pub(super) async fn for_sdks(response: Response) -> Response {
    let Some(problem) = response.extensions().get::<Problem>() else { return response };
    problem.for_sdks()
}

/// Any path below the name of a model's API.
pub(super) async fn forward(
    State(service): State<Arc<Service>>,
    Extension(client): Extension<Client>,
    Extension(Forwarding { upstream, path, key }): Extension<Forwarding>,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let gate = gate(&service)?;
    let model = service.models.get(&upstream).ok_or_else(nothing)?;
    let forwarded = forwarded::request_headers(&headers, key);
    if forwarded::has_own_token(&path, &forwarded) {
        return Err(own_token());
    }
    let most = gate.most_bytes();
    let unreadable = |why: &str| Ok(denied(&service, KIND, &Gate::unreadable(why)));
    let Some(decoder) = Decoder::of(&headers, most) else { return unreadable("its Content-Encoding is not gzip") };
    let receiving = Receiving { may_grow: decoder.is_compressed(), ..Receiving::of(&headers) };
    let body = gate.receive(body, receiving).await?;
    let media = Media::of(&headers);
    let asker = Asker { name: client.name.clone(), names: vec![token_name(&client)] };
    let checked = gate.check({
        let (asker, path) = (asker.clone(), path.clone());
        move |shared| check(shared, &asker, (&path, &media), body, decoder, most)
    });
    let (verdict, body) = checked.await?;
    if verdict.decision == Decision::Deny {
        return Ok(denied(&service, KIND, &verdict));
    }
    service.count_prompt(KIND, verdict.decision.name());
    model.ask(Checked { method, path, headers: forwarded, body: body.into_bytes() }, asker, &service).await
}

/// The verdict about a request, and the body that may go on.
fn check(
    shared: &Shared,
    asker: &Asker,
    (path, media): (&str, &Media),
    mut body: PromptBody,
    decoder: Decoder,
    most: usize,
) -> (Verdict, PromptBody) {
    if body.is_too_large {
        return (Gate::too_large(most), body);
    }
    let client = shared.client(&asker.name, &asker.names);
    let in_url = shared.gate.check_url(path, client);
    if in_url.decision != Decision::Allow {
        return (in_url, body);
    }
    let Ok(bytes) = decoder.whole(std::mem::take(&mut body.bytes)) else {
        return (Gate::unreadable("the body is compressed and cannot be decompressed"), body);
    };
    if bytes.is_empty() {
        return (in_url, body);
    }
    let mut verdict = media.check(&shared.gate, &bytes, form(path), client);
    let forwarded = verdict.copy.take().unwrap_or(bytes);
    (verdict, body.replaced(forwarded))
}

/// Says that a method is not forwarded.
pub(super) async fn not_forwarded() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this method is not forwarded")
}

fn own_token() -> Problem {
    Problem::invalid(
        "a token of Layersift would go on to the model's provider: have it only in `x-layersift-auth`, or once in the \
         path right behind the name of the upstream, and the provider's key in the header of the provider",
    )
}

fn nothing() -> Problem {
    Problem::not_found("there is no model at this path: expected /UPSTREAM/PATH, or /UPSTREAM/TOKEN/PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_may_have_the_token_alone() {
        for value in ["layersift_ab", "Bearer layersift_ab"] {
            assert_eq!(bearer(HeaderValue::from_static(value)), "Bearer layersift_ab");
        }
    }
}
