//! Catalogs: they list the images of a sweep one after another, without holding them all.
//!
//! A catalog says where images are; the transports of [`crate`] read them. A new catalog is one file that implements
//! [`Catalog`].

mod ahead;
mod coverage;
mod error;
mod filter;
mod harbor;
mod list;
mod registry;

pub use coverage::{Coverage, ListedGroup, ListedRepositories};
pub use error::{CatalogError, EntryError, GlobError, ListError};
pub use filter::Filter;
pub use harbor::{Harbor, HarborOptions, ScanState, Skipped, Unscanned};
pub use list::ImageList;
pub use registry::WholeRegistry;

use crate::registry::{Host, Reference};
use layersift_model::Digest;

/// One image, or one index with all its images, that a catalog lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The registry.
    pub host: Host,
    /// Harbor's project; `None` for other registries.
    pub project: Option<String>,
    /// The full name of the repository without the host; in Harbor it begins with the project.
    pub repository: String,
    /// Its tags that the filter admits. May be empty if there is a digest.
    pub tags: Vec<String>,
    /// Its digest; `None` if only a tag is known, which the registry then resolves.
    pub digest: Option<Digest>,
    /// When its manifest was pushed, in seconds since 1970, if the catalog knows. A tag that is set later does not
    /// change it.
    pub pushed_at: Option<i64>,
}

impl Entry {
    /// The reference to pull: with the digest if it is known, and with the first tag.
    pub fn reference(&self) -> Reference {
        Reference {
            host: self.host.clone(),
            repository: self.repository.clone(),
            tag: self.tags.first().cloned(),
            digest: self.digest.clone(),
        }
    }
}

/// The entries of a catalog, requested as they are taken. An `Err` is about the project, repository or line that it
/// names, and other entries may follow; after an error whose [`CatalogError::is_whole`] is true, none do.
pub type Entries<'c> = Box<dyn Iterator<Item = Result<Entry, CatalogError>> + Send + 'c>;

/// A list of images.
pub trait Catalog: Send + Sync {
    /// The registries whose images it lists, each once, so that a caller can make one client for each.
    fn hosts(&self) -> Vec<Host>;

    /// The images that `filter` admits. Where possible, the others are not even requested.
    fn entries<'c>(&'c self, filter: &'c Filter) -> Entries<'c>;

    /// What the listing that was begun last rests on, as far as it has come. `None` for a catalog that is not the
    /// listing of a registry, which says nothing about what else there is.
    fn coverage(&self) -> Option<Coverage> {
        None
    }

    /// Whether the catalog still lists an entry that it listed before: its image may have been deleted meanwhile.
    /// `true` where that cannot be said.
    ///
    /// # Errors
    /// If the registry cannot be asked.
    fn still_lists(&self, entry: &Entry) -> Result<bool, CatalogError> {
        let _ = entry;
        Ok(true)
    }

    /// Asks the registry to scan an image that it does not serve before (412). `false` if this kind of registry has no
    /// scanner.
    ///
    /// # Errors
    /// If the registry refuses.
    fn request_scan(&self, entry: &Entry) -> Result<bool, CatalogError> {
        let _ = entry;
        Ok(false)
    }
}
