//! Parameters of paths and queries. What is not known is an error: a parameter that is misspelt would change nothing.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::http::problem::Problem;
use layersift_model::Digest;

/// Items of a page.
const USUAL_PAGE: u64 = 100;
const LARGEST_PAGE: u64 = 1_000;

/// The parameters of a query, with errors of ours.
pub(super) struct Parameters<T>(pub(super) T);

impl<S: Sync + Send, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Parameters<T>, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(query)| Parameters(query)).map_err(|error| Problem::invalid(error.body_text()))
    }
}

/// The parameters of a query that has none.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParameters {}

/// A digest in a path.
pub(super) struct DigestPath(pub(super) Digest);

impl<S: Sync + Send> FromRequestParts<S> for DigestPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<DigestPath, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|error| Problem::invalid(error.body_text()))?;
        text.parse().map(DigestPath).map_err(|error| Problem::invalid(format!("{error}")))
    }
}

/// The number of a request in a path.
pub(super) struct NumberPath(pub(super) i64);

impl<S: Sync + Send> FromRequestParts<S> for NumberPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<NumberPath, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = path.map_err(|error| Problem::invalid(error.body_text()))?;
        // One number has one path.
        let number = text.parse().ok().filter(|number: &i64| *number > 0 && number.to_string() == text);
        number.map(NumberPath).ok_or_else(|| Problem::invalid(format!("invalid number `{text}`")))
    }
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageParameters {
    /// The last item of the page before.
    pub(super) after: Option<u64>,
    /// The most items.
    pub(super) limit: Option<u64>,
}

/// The size of a page.
pub(super) fn page_size(limit: Option<u64>) -> Result<u64, Problem> {
    match limit.unwrap_or(USUAL_PAGE) {
        size @ 1..=LARGEST_PAGE => Ok(size),
        size => Err(Problem::invalid(format!("invalid limit {size}: expected 1 to {LARGEST_PAGE}"))),
    }
}

/// The number of an item, as the store has it.
pub(super) fn number(after: Option<u64>) -> Result<Option<i64>, Problem> {
    let invalid = |_| Problem::invalid("invalid `after`: expected the `next` of a page");
    after.map(i64::try_from).transpose().map_err(invalid)
}
