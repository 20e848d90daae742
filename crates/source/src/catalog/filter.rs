//! Filters: which images of a catalog are listed, by repository, tag and age.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::{CatalogError, Entry, GlobError};

/// Which images are listed. The default admits all.
///
/// A pattern without `:` matches repositories (`team/*`), one with `:` matches `repository:tag` (`team/app:v*`). `*`
/// and `?` match `/` as well. If there are patterns to include, an image must match one of them; an image that matches
/// one to exclude is never listed. Of an image with several tags, the tags that are admitted are kept, and the image is
/// listed if there is one; an image without tags is judged by its repository.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    include: Patterns,
    exclude: Patterns,
    pushed_since: Option<i64>,
}

#[derive(Clone, Debug, Default)]
struct Patterns {
    repositories: GlobSet,
    tags: GlobSet,
}

impl Filter {
    /// A filter with these patterns.
    ///
    /// # Errors
    /// For an invalid pattern.
    pub fn new<T: AsRef<str>>(include: &[T], exclude: &[T]) -> Result<Filter, CatalogError> {
        let (include, exclude) = (Patterns::new(include)?, Patterns::new(exclude)?);
        Ok(Filter { include, exclude, pushed_since: None })
    }

    /// The same, without images that are known to have been pushed before `time`, in seconds since 1970. Images whose
    /// time is not known remain. A new tag does not make an old image new.
    pub fn pushed_since(mut self, time: Option<i64>) -> Filter {
        self.pushed_since = time;
        self
    }

    /// The time since which images must have been pushed, in seconds since 1970.
    pub fn since(&self) -> Option<i64> {
        self.pushed_since
    }

    /// Whether an image of a repository may be admitted.
    pub fn admits_repository(&self, repository: &str) -> bool {
        let included = self.includes(repository) || !self.include.tags.is_empty();
        included && !self.exclude.repositories.is_match(repository)
    }

    /// The entry with its admitted tags; `None` if it is not admitted.
    pub fn apply(&self, mut entry: Entry) -> Option<Entry> {
        let is_old = self.pushed_since.is_some_and(|since| entry.pushed_at.is_some_and(|at| at < since));
        if is_old || self.exclude.repositories.is_match(&entry.repository) {
            return None;
        }
        let included = self.includes(&entry.repository);
        if entry.tags.is_empty() {
            return included.then_some(entry);
        }
        let repository = entry.repository.clone();
        entry.tags.retain(|tag| {
            let name = format!("{repository}:{tag}");
            (included || self.include.tags.is_match(&name)) && !self.exclude.tags.is_match(&name)
        });
        (!entry.tags.is_empty()).then_some(entry)
    }

    fn includes(&self, repository: &str) -> bool {
        self.include.is_empty() || self.include.repositories.is_match(repository)
    }
}

impl Patterns {
    fn new<T: AsRef<str>>(globs: &[T]) -> Result<Patterns, CatalogError> {
        let (tags, repositories): (Vec<&str>, Vec<&str>) =
            globs.iter().map(AsRef::as_ref).partition(|glob| glob.contains(':'));
        Ok(Patterns { repositories: set(&repositories)?, tags: set(&tags)? })
    }

    fn is_empty(&self) -> bool {
        self.repositories.is_empty() && self.tags.is_empty()
    }
}

fn set(globs: &[&str]) -> Result<GlobSet, CatalogError> {
    let invalid = |glob: &str, error: GlobError| CatalogError::Glob { glob: glob.chars().take(160).collect(), error };
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        if glob.trim().is_empty() {
            return Err(invalid(glob, GlobError::Empty));
        }
        let glob = GlobBuilder::new(glob)
            .literal_separator(false)
            .build()
            .map_err(|error| invalid(glob, GlobError::Syntax(error)))?;
        set.add(glob);
    }
    set.build().map_err(|error| invalid(&globs.join(" "), GlobError::Syntax(error)))
}
