//! `/events`: registries say what was pushed. They are let in by what they have in `Authorization`, which their
//! operator set, and not by a token.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use serde::Serialize;

use crate::admission::tidy;
use crate::events::{InvalidEvent, distribution, harbor};
use crate::http::body;
use crate::http::json::Json;
use crate::http::metrics::label;
use crate::http::peer::Peer;
use crate::http::problem::Problem;
use crate::service::Service;
use crate::service::access::Client;
use crate::service::events::{Sender, Taken, count};

/// How long a body may take. Harbor gives 3 s in all.
const BODY_TIME: Duration = Duration::from_secs(2);

/// Bytes of an error in the log.
const MOST_ERROR: usize = 300;

/// What became of the events of one body.
#[derive(Serialize)]
struct TakenView {
    queued: usize,
    known: usize,
    refused: usize,
    ignored: usize,
}

/// Everything below `/events`.
pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/events/harbor", post(of_harbor))
        .route("/events/distribution", post(of_distribution))
        .method_not_allowed_fallback(super::not_allowed)
}

/// `POST /events/harbor`.
async fn of_harbor(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    take(&service, Sender::Harbor, (&peer, &headers), body).await
}

/// `POST /events/distribution`.
async fn of_distribution(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    take(&service, Sender::Distribution, (&peer, &headers), body).await
}

async fn take(
    service: &Arc<Service>,
    sender: Sender,
    (peer, headers): (&Peer, &HeaderMap),
    body: Body,
) -> Result<Response, Problem> {
    let refused = |reason: &str| {
        service.metrics.refused.get_or_create(&label("reason", reason)).inc();
    };
    let admitted = service.admit_sender(sender, headers.get(AUTHORIZATION), peer).await;
    admitted.inspect_err(|_| refused("unauthenticated"))?;
    let client = Client { name: format!("{} events", sender.name()), scopes: [].into(), is_cluster: false };
    if let Err(seconds) = service.rates.take(&client.name) {
        refused("rate");
        return Err(Problem::too_many("too many requests", seconds));
    }
    let read = move |reader: &mut dyn std::io::Read| match sender {
        Sender::Harbor => harbor::read(reader),
        Sender::Distribution => distribution::read(reader),
    };
    let events = match body::parse(body, service.bodies(&client), BODY_TIME, read).await? {
        Ok(events) => events,
        Err(error) => return unreadable(service, sender, &error),
    };
    let Taken { queued, known, refused, ignored } = service.take_events(sender, events).await?;
    Ok(Json(TakenView { queued, known, refused, ignored }).into_response())
}

/// What is answered to a body that tells nothing. Distribution sends nothing else until a body is taken, so that one
/// that will never be read is taken.
fn unreadable(service: &Service, sender: Sender, error: &InvalidEvent) -> Result<Response, Problem> {
    if error.is_of_transport() {
        return Err(Problem::unavailable("the body did not arrive; try again"));
    }
    count(&service.metrics, sender, "invalid", 1);
    let text = tidy(&error.to_string(), MOST_ERROR);
    tracing::warn!(sender = sender.name(), error = text, "an event cannot be read");
    match sender {
        Sender::Harbor => Err(Problem::invalid(text)),
        Sender::Distribution => {
            let taken = TakenView { queued: 0, known: 0, refused: 0, ignored: 1 };
            Ok((StatusCode::OK, Json(taken)).into_response())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Event;

    #[test]
    fn only_what_was_not_received_is_sent_again() {
        struct Late;
        impl std::io::Read for Late {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::TimedOut.into())
            }
        }
        let kind = |result: Result<Vec<Event>, InvalidEvent>| result.unwrap_err().is_of_transport();
        assert!(kind(harbor::read(Late)));
        assert!(!kind(harbor::read(&b"{"[..])) && !kind(distribution::read(&b"[]"[..])));
    }
}
