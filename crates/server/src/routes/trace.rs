//! `/api/v1/trace`: which images have a secret, a finding, a layer, a path or a package. A secret comes in a body, as
//! queries end up in logs.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use layersift_model::TraceReport;
use layersift_report::trace;
use layersift_store::Query;
use serde::Deserialize;

use super::parameters::{NoParameters, Parameters, page_size};
use super::scans::json;
use crate::http::problem::Problem;
use crate::service::Service;

/// Characters of the longest query.
const LONGEST: usize = 4_096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceParameters {
    q: String,
    limit: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretBody {
    secret: String,
    #[serde(default, deserialize_with = "whole")]
    limit: Option<u64>,
}

/// `GET /api/v1/trace?q=`: what `layersift trace` takes.
pub(super) async fn by_name(
    State(service): State<Arc<Service>>,
    Parameters(TraceParameters { q, limit }): Parameters<TraceParameters>,
) -> Result<Response, Problem> {
    if q.is_empty() || q.chars().count() > LONGEST || q.contains('\0') {
        return Err(Problem::invalid(format!("invalid `q`: expected 1 to {LONGEST} characters")));
    }
    let query = Query::parse(q.strip_prefix('/').unwrap_or(&q));
    answer(&service, q, vec![query], limit).await
}

/// `POST /api/v1/trace`: a secret. It is looked for by its fingerprints, and neither kept nor logged.
pub(super) async fn by_secret(
    State(service): State<Arc<Service>>,
    Parameters(NoParameters {}): Parameters<NoParameters>,
    body: Body,
) -> Result<Response, Problem> {
    let SecretBody { secret, limit } = json(body).await?;
    if secret.is_empty() {
        return Err(Problem::invalid("the secret is empty"));
    }
    let fingerprints = service.fingerprint_keys.iter().flat_map(|key| key.fingerprints(secret.as_bytes()));
    let queries = fingerprints.map(Query::Secret);
    answer(&service, "the secret".into(), queries.collect(), limit).await
}

async fn answer(
    service: &Arc<Service>,
    name: String,
    queries: Vec<Query>,
    limit: Option<u64>,
) -> Result<Response, Problem> {
    let limit = usize::try_from(page_size(limit)?).unwrap_or(usize::MAX);
    let found = service.with_store(move |service| {
        let mut found = TraceReport::empty();
        // One key after another: an image with a secret under two keys is told once for each.
        for query in &queries {
            let mut traced = service.store.trace(query, None, limit)?;
            withhold(query, &mut traced);
            found.add(traced, limit);
        }
        Ok(found)
    });
    let found = found.await?;
    let mut bytes = Vec::new();
    let failed = |_| Problem::unavailable("the answer cannot be written");
    trace::json(&name, &found, &mut bytes).map_err(failed)?;
    Ok(([(CONTENT_TYPE, "application/json")], bytes).into_response())
}

/// A number without a fraction, or none: `2.0` is an integer too, as JSON Schema has it.
fn whole<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<f64>::deserialize(deserializer)?;
    let is_whole = |number: &f64| *number >= 0.0 && number.fract() == 0.0;
    let invalid = || serde::de::Error::custom("invalid `limit`: expected a whole number");
    number.map(|number| Some(number).filter(is_whole).map(|number| number as u64).ok_or_else(invalid)).transpose()
}

/// Leaves only the fingerprint that was asked for: others may have been made with the public key.
fn withhold(query: &Query, traced: &mut TraceReport) {
    let places = traced.images.iter_mut().flat_map(|image| image.places.iter_mut());
    let is_asked = |fingerprint: &String| matches!(query, Query::Secret(asked) if asked == fingerprint);
    for finding in places.filter_map(|place| place.finding.as_mut()) {
        finding.fingerprint = finding.fingerprint.take().filter(is_asked);
        if let Some(prompt) = &mut finding.first_prompt {
            prompt.fingerprint = prompt.fingerprint.take().filter(is_asked);
        }
    }
    for prompt in &mut traced.prompts {
        prompt.fingerprint = prompt.fingerprint.take().filter(is_asked);
    }
}
