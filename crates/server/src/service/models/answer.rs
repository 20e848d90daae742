//! Answers of models that are checked as a whole before any of them goes on.

use axum::body::Body;
use axum::http::Response;
use layersift_prompts::{Decision, Gate, StreamCheck, Verdict};

use super::{ANSWERING, Answer, Asker, denied};
use crate::http::problem::Problem;
use crate::prompts::encoding::Decoder;
use crate::service::Service;
use crate::service::prompts::{PromptBody, PromptGate, Receiving, Shared};

/// What it is counted as.
pub(super) const KIND: &str = "proxy-answer";

/// Receives an answer, checks it and answers with it.
pub(super) async fn pass(
    Answer { head, body, decoder, asker }: Answer,
    gate: &PromptGate,
    service: &Service,
) -> Result<Response<Body>, Problem> {
    let receiving = Receiving { time: ANSWERING, may_grow: decoder.is_compressed(), ..Receiving::of(&head.headers) };
    let body = gate.receive(Body::new(body), receiving).await.map_err(|problem| problem.of_answer())?;
    if body.is_too_large {
        return Ok(denied(service, KIND, &Gate::too_large(gate.most_bytes()).of_answer()));
    }
    match check(gate, body, decoder, asker).await? {
        Ok((decision, body)) => {
            service.count_prompt(KIND, decision.name());
            Ok(super::head(&head, Body::from(body.into_bytes())))
        }
        Err(verdict) => Ok(denied(service, KIND, &verdict)),
    }
}

/// The answer that goes on, or its masked copy; or the verdict that denies it.
async fn check(
    gate: &PromptGate,
    mut body: PromptBody,
    decoder: Decoder,
    asker: Asker,
) -> Result<Result<(Decision, PromptBody), Verdict>, Problem> {
    gate.check_in_time(move |shared| {
        let Ok(bytes) = decoder.whole(std::mem::take(&mut body.bytes)) else {
            return Err(Gate::unreadable("the answer is compressed and cannot be decompressed").of_answer());
        };
        if bytes.is_empty() {
            return Ok((Decision::Allow, body.replaced(bytes)));
        }
        let verdict = verdict(shared, &bytes, &asker);
        match verdict.decision {
            Decision::Allow => Ok((Decision::Allow, body.replaced(bytes))),
            Decision::Mask => Ok((Decision::Mask, body.replaced(verdict.copy.unwrap_or_default()))),
            Decision::Deny => Err(verdict),
        }
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
        return Verdict { decision, reasons: check.reasons().to_vec(), copy: Some(copy), tokens: 0, is_answer: true };
    }
    shared.gate.check(bytes, None, client).of_answer()
}

/// Whether a text is one of server-sent events.
fn is_events(bytes: &[u8]) -> bool {
    [&b"data:"[..], b"event:", b"id:", b":", b"retry:"].iter().any(|field| bytes.trim_ascii_start().starts_with(field))
}
