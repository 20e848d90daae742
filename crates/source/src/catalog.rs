//! Catalogs: what lists the images that a sweep looks at, one after another, without holding them all.
//!
//! A catalog says where images are; the transports of [`crate`] get them. A new catalog is one file that
//! implements [`Catalog`].

mod error;
mod filter;
mod harbor;
mod list;
mod registry;

pub use error::CatalogError;
pub use filter::Filter;
pub use harbor::{Harbor, HarborOptions, Skipped};
pub use list::ImageList;
pub use registry::WholeRegistry;

use crate::registry::{Host, Reference};
use layersift_model::Digest;

/// One image, or one index with all its images, that a catalog lists.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The registry.
    pub host: Host,
    /// Harbor's project; elsewhere there is none.
    pub project: Option<String>,
    /// The whole name of the repository without the host; in Harbor it begins with the project.
    pub repository: String,
    /// Its tags, of those that the filter admits. May be empty where there is a digest.
    pub tags: Vec<String>,
    /// Which one it is; `None` where only a tag is known, which the registry then resolves.
    pub digest: Option<Digest>,
    /// When these bytes came into the registry, in seconds since 1970, where the catalog knows. A tag that is set later
    /// does not change it.
    pub pushed_at: Option<i64>,
}

impl Entry {
    /// What to ask the registry for: the digest where it is known, and the first tag as a name.
    pub fn reference(&self) -> Reference {
        Reference {
            host: self.host.clone(),
            repository: self.repository.clone(),
            tag: self.tags.first().cloned(),
            digest: self.digest.clone(),
        }
    }
}

/// The entries of a catalog, got as they are taken. An `Err` stands for what it names (a project, a repository, a
/// line), and the rest still comes; after one of which [`CatalogError::is_whole`] is true, nothing does.
pub type Entries<'c> = Box<dyn Iterator<Item = Result<Entry, CatalogError>> + Send + 'c>;

/// What lists images.
pub trait Catalog: Send + Sync {
    /// The registries whose images it lists, each once: for each, a caller makes one client.
    fn hosts(&self) -> Vec<Host>;

    /// The images that `filter` admits. What it does not admit is, where possible, not even asked for.
    fn entries<'c>(&'c self, filter: &'c Filter) -> Entries<'c>;

    /// Asks the registry to have an image scanned, because it does not give the image out before (412). `false` where
    /// this catalog knows of no such thing.
    ///
    /// # Errors
    /// When the registry does not take the request.
    fn request_scan(&self, entry: &Entry) -> Result<bool, CatalogError> {
        let _ = entry;
        Ok(false)
    }
}
