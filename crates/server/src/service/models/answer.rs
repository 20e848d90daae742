//! Answers of models that are checked as a whole before any of them goes on.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::CONTENT_LENGTH;
use axum::http::response::Parts;
use axum::http::{HeaderMap, Response};
use hyper::body::Incoming;
use layersift_prompts::{Decision, Gate, StreamCheck, Verdict};

use super::{ANSWERING, Asker, bad_gateway, denial, head};
use crate::http::problem::Problem;
use crate::prompts::encoding::Decoder;
use crate::prompts::forwarded::is_utf8;
use crate::prompts::plain;
use crate::service::Service;
use crate::service::prompts::{PromptBody, PromptGate, Receiving, Shared};

/// What becomes of an answer.
enum Outcome {
    /// It goes on, or its masked copy does.
    Pass(PromptBody),
    Deny(Vec<u8>),
}

/// Receives an answer, checks it and answers with it.
pub(super) async fn pass(
    parts: Parts,
    body: Incoming,
    asker: Asker,
    service: &Arc<Service>,
) -> Result<Response<Body>, Problem> {
    let Some(gate) = &service.prompts else { return Err(bad_gateway("prompts are not checked here")) };
    let most = gate.most_bytes();
    let decoder = Decoder::of(&parts.headers, most).filter(|_| is_utf8(&parts.headers));
    let Some(decoder) = decoder else {
        return Ok(denied(service, &Gate::unreadable("the answer is encoded in a way that is not known")));
    };
    let receiving = Receiving { length: length(&parts.headers), time: ANSWERING, may_grow: decoder.is_compressed() };
    let body = gate.receive(Body::new(body), receiving).await.map_err(|problem| problem.of_answer())?;
    if body.is_too_large {
        return Ok(denied(service, &Gate::too_large(most)));
    }
    let (decision, outcome) = check(gate, body, decoder, asker).await?;
    service.count_prompt("proxy-answer", decision.name());
    Ok(match outcome {
        Outcome::Pass(body) => head(&parts, Body::from(body.into_bytes())),
        Outcome::Deny(answer) => denial(answer),
    })
}

async fn check(
    gate: &PromptGate,
    mut body: PromptBody,
    decoder: Decoder,
    asker: Asker,
) -> Result<(Decision, Outcome), Problem> {
    gate.check_in_time(move |shared| {
        let Ok(bytes) = decoder.whole(std::mem::take(&mut body.bytes)) else {
            let verdict = Gate::unreadable("the answer is compressed and cannot be decompressed");
            return (Decision::Deny, Outcome::Deny(plain::answer(&verdict, true).1));
        };
        if bytes.is_empty() {
            return (Decision::Allow, Outcome::Pass(body.replaced(bytes)));
        }
        let mut verdict = verdict(shared, &bytes, &asker);
        let outcome = match verdict.decision {
            Decision::Allow => Outcome::Pass(body.replaced(bytes)),
            Decision::Mask => Outcome::Pass(body.replaced(verdict.copy.take().unwrap_or_default())),
            Decision::Deny => Outcome::Deny(plain::answer(&verdict, true).1),
        };
        (verdict.decision, outcome)
    })
    .await
}

fn verdict(shared: &Shared, bytes: &[u8], asker: &Asker) -> Verdict {
    let client = shared.client(&asker.name, &asker.names);
    // The SDKs read events whatever the media type says.
    if is_events(bytes) {
        let mut check = StreamCheck::default();
        let mut copy = check.push(bytes, &shared.gate, client);
        copy.extend(check.finish(&shared.gate, client));
        let decision = match () {
            () if check.is_cut() => Decision::Deny,
            () if copy == bytes => Decision::Allow,
            () => Decision::Mask,
        };
        return Verdict { decision, reasons: check.reasons().to_vec(), copy: Some(copy), tokens: 0 };
    }
    shared.gate.check(bytes, None, client)
}

/// Whether a text is one of server-sent events.
fn is_events(bytes: &[u8]) -> bool {
    [&b"data:"[..], b"event:", b"id:", b":", b"retry:"].iter().any(|field| bytes.trim_ascii_start().starts_with(field))
}

fn denied(service: &Service, verdict: &Verdict) -> Response<Body> {
    service.count_prompt("proxy-answer", verdict.decision.name());
    denial(plain::answer(verdict, true).1)
}

fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
