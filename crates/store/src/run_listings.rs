//! What runs listed, so that a sweep can say how that compares with the last one.

use layersift_model::ListingCounts;

use super::backend::Value;
use super::error::StoreError;
use super::ids::RunId;
use super::intern;
use super::runs::Runs;

/// What a run listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunListing {
    /// What images had to be like to be listed, in the caller's own words; empty for all.
    pub filter: String,
    /// The user who was logged in; `None` for nobody.
    pub user: Option<String>,
    /// What was listed.
    pub counts: ListingCounts,
    /// Whether the listing came to its end, with a login that was accepted.
    pub is_complete: bool,
}

impl Runs<'_> {
    /// Records what a run listed.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a filter or a user of more than 512 bytes, [`StoreError::Database`].
    pub fn put_listing(&self, run: RunId, listing: &RunListing) -> Result<(), StoreError> {
        let sql = "INSERT INTO run_listings (run_id, filter, login, projects, repositories, images, complete) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
        let RunListing { filter, user, counts, is_complete } = listing;
        let ListingCounts { projects, repositories, images } = *counts;
        self.store.write(|connection| {
            intern::check_key("the filter of a run", filter)?;
            intern::check_key("the user of a run", user.as_deref().unwrap_or_default())?;
            let mut values = vec![Value::from(run), filter.into(), user.as_deref().into(), projects.into()];
            values.extend([repositories.into(), images.into(), i64::from(*is_complete).into()]);
            connection.execute(sql, &values).map(drop)
        })
    }

    /// What the latest run over `target` with the same filter listed, of those whose listings were complete.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn last_listing(&self, target: &str, filter: &str) -> Result<Option<ListingCounts>, StoreError> {
        let sql = "SELECT l.projects, l.repositories, l.images FROM run_listings l JOIN runs r ON r.id = l.run_id \
                   WHERE r.target = $1 AND l.filter = $2 AND l.complete = 1 ORDER BY r.id DESC LIMIT 1";
        let row: Option<(Option<u64>, u64, u64)> =
            self.store.read(|connection| connection.query_one(sql, &[target.into(), filter.into()]))?;
        Ok(row.map(|(projects, repositories, images)| ListingCounts { projects, repositories, images }))
    }
}
