//! `/api/v1/scans`: images are handed in to be scanned, by reference to a registry that the service may pull from, and
//! watched until there is a report.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use layersift_model::{Digest, parse};
use layersift_source::registry::Reference;
use layersift_store::{RequestClass, RequestId, RequestState, Seconds, StoreError, StoredRequest, Submitted};
use serde::{Deserialize, Serialize};

use super::BODY;
use super::parameters::{NoParameters, NumberPath, Parameters, number, page_size};
use crate::admission::Unreadable;
use crate::http::json::Json;
use crate::http::problem::Problem;
use crate::service::Service;
use crate::service::access::Client;
use crate::service::decider::by_digest;

/// How often a request is looked at that is watched, and how long it may be watched.
const LOOK: Duration = Duration::from_millis(500);
const WATCHED: Duration = Duration::from_secs(3_600);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Submission {
    image: String,
    /// Whether it is scanned again although there is a report.
    #[serde(default)]
    again: bool,
}

/// A request as a client sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct ScanView {
    id: i64,
    image: String,
    digest: Digest,
    state: &'static str,
    class: &'static str,
    attempts: u64,
    requested_at: Seconds,
    ended_at: Option<Seconds>,
    failure: Option<String>,
    error: Option<String>,
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct ProgressView {
    state: &'static str,
    /// Requests before it.
    position: Option<u64>,
    layers_read: u64,
    layers: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    state: Option<String>,
    after: Option<u64>,
    limit: Option<u64>,
}

#[derive(Serialize)]
struct ListView {
    scans: Vec<ScanView>,
    /// What `after` is for the next page.
    next: Option<i64>,
}

impl From<StoredRequest> for ScanView {
    fn from(stored: StoredRequest) -> ScanView {
        ScanView {
            id: stored.id.number(),
            image: stored.reference,
            digest: stored.digest,
            state: stored.state.name(),
            class: stored.class.name(),
            attempts: stored.attempts,
            requested_at: stored.requested_at,
            ended_at: stored.ended_at,
            failure: stored.failure,
            error: stored.error,
        }
    }
}

/// `POST /api/v1/scans`.
pub(super) async fn submit(
    State(service): State<Arc<Service>>,
    Extension(client): Extension<Client>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
    body: Body,
) -> Result<Response, Problem> {
    let Submission { image, again } = json(body).await?;
    let reference: Reference = image.parse().map_err(|error| Problem::invalid(format!("{error}")))?;
    let decider = &service.decider;
    if !decider.admits(&reference) {
        let why = format!("{} is not among the registries that the service may pull from", reference.host);
        return Err(Problem::new(StatusCode::FORBIDDEN, why));
    }
    let busy = || Problem::too_many("the registry is being asked for other images; try again", 1);
    let digest = decider.resolve(&reference).await.ok_or_else(busy)?.map_err(unreadable)?;
    let class = RequestClass::Background;
    let submitted = decider.submit(&reference, &digest, class, &client.name, again).await;
    let submitted = submitted.map_err(|_| Problem::unavailable("the store cannot be reached; try again"))?;
    if submitted == Submitted::Full {
        return Err(Problem::too_many("too many images wait to be scanned; try again later", 10));
    }
    let name = by_digest(&reference, &digest);
    let stored = service.with_store(move |service| service.store.scan_requests().find(&name)).await?;
    let stored = stored.ok_or_else(|| Problem::unavailable("the request was removed meanwhile; try again"))?;
    let view = ScanView::from(stored);
    let status = if matches!(submitted, Submitted::Accepted(_)) { StatusCode::ACCEPTED } else { StatusCode::OK };
    let location = HeaderValue::try_from(format!("/api/v1/scans/{}", view.id)).ok();
    let mut response = (status, Json(view)).into_response();
    if let Some(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// `GET /api/v1/scans`.
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    Parameters(ListParameters { state, after, limit }): Parameters<ListParameters>,
) -> Result<Response, Problem> {
    let limit = page_size(limit)?;
    let state = state.map(|name| state_named(&name)).transpose()?;
    let after = number(after)?.map(RequestId::from_number);
    let found = service.with_store(move |service| service.store.scan_requests().list(state, after, limit)).await?;
    let scans: Vec<ScanView> = found.items.into_iter().map(ScanView::from).collect();
    let next = scans.last().filter(|_| !found.is_complete).map(|scan| scan.id);
    Ok(Json(ListView { scans, next }).into_response())
}

/// `GET /api/v1/scans/{id}`.
pub(super) async fn status(
    State(service): State<Arc<Service>>,
    NumberPath(id): NumberPath,
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Result<Response, Problem> {
    Ok(Json(ScanView::from(stored(&service, id).await?)).into_response())
}

/// `GET /api/v1/scans/{id}/events`: server-sent events, `progress` whenever something changes and at last `end`.
pub(super) async fn events(
    State(service): State<Arc<Service>>,
    NumberPath(id): NumberPath,
    Parameters(NoParameters {}): Parameters<NoParameters>,
) -> Result<Response, Problem> {
    stored(&service, id).await?;
    let place = Arc::clone(&service.streams).try_acquire_owned();
    let place = place.map_err(|_| Problem::too_many("too many scans are watched; ask for the scan instead", 10))?;
    let until = tokio::time::Instant::now() + WATCHED;
    let watch = Watch { service, id, last: None, until, is_over: false, _place: place };
    Ok(Sse::new(watch.events()).keep_alive(KeepAlive::default()).into_response())
}

struct Watch {
    service: Arc<Service>,
    id: i64,
    last: Option<ProgressView>,
    until: tokio::time::Instant,
    is_over: bool,
    _place: tokio::sync::OwnedSemaphorePermit,
}

impl Watch {
    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        futures_util::stream::unfold(self, |mut watch| async move {
            let event = watch.next().await?;
            Some((Ok(event), watch))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        while !self.is_over && tokio::time::Instant::now() < self.until && !self.service.ending.is_cancelled() {
            // While the store is out of reach, there is nothing new.
            if let Ok((request, progress)) = self.look().await {
                if matches!(request.state, RequestState::Done | RequestState::Failed) {
                    self.is_over = true;
                    return Event::default().event("end").json_data(ScanView::from(request)).ok();
                }
                if self.last.as_ref() != Some(&progress) {
                    self.last = Some(progress.clone());
                    return Event::default().event("progress").json_data(progress).ok();
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    async fn look(&self) -> Result<(StoredRequest, ProgressView), Problem> {
        let id = self.id;
        let looked = self.service.with_store(move |service| {
            let requests = service.store.scan_requests();
            let Some(request) = requests.find_by_id(RequestId::from_number(id))? else { return Ok(None) };
            let is_queued = request.state == RequestState::Queued;
            let position = if is_queued { Some(requests.position(&request)?) } else { None };
            let (layers_read, layers) = service.store.images().layer_progress(&request.digest, &service.key)?;
            let progress = ProgressView { state: request.state.name(), position, layers_read, layers };
            Ok::<_, StoreError>(Some((request, progress)))
        });
        looked.await?.ok_or_else(|| Problem::not_found("the scan was removed"))
    }
}

async fn stored(service: &Arc<Service>, id: i64) -> Result<StoredRequest, Problem> {
    let id = RequestId::from_number(id);
    let stored = service.with_store(move |service| service.store.scan_requests().find_by_id(id)).await?;
    stored.ok_or_else(|| Problem::not_found("there is no scan of that number"))
}

fn state_named(name: &str) -> Result<RequestState, Problem> {
    let found = RequestState::ALL.into_iter().find(|state| state.name() == name);
    found.ok_or_else(|| Problem::invalid(format!("invalid state `{name}`: expected queued, running, done or failed")))
}

/// Why a reference leads to no image, as a status.
fn unreadable((why, text): (Unreadable, String)) -> Problem {
    let status = match why {
        Unreadable::Refused => StatusCode::FORBIDDEN,
        Unreadable::NotFound => StatusCode::NOT_FOUND,
        // The service's login is not the client's.
        Unreadable::Unauthorized | Unreadable::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
        Unreadable::Failed => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem::new(status, format!("the image cannot be read: {text}"))
}

/// A body of the API: JSON, whatever its Content-Type says.
pub(super) async fn json<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let read = tokio::time::timeout(Duration::from_secs(10), axum::body::to_bytes(body, BODY));
    let slow = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    let large = |_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {BODY} bytes"));
    let bytes = read.await.map_err(slow)?.map_err(large)?;
    parse::json(&bytes).map_err(|error| Problem::invalid(format!("invalid body: {error}")))
}
