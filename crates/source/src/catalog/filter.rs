//! Filters: which of the images of a catalog are wanted, by name, tag and age.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::{CatalogError, Entry};

/// Which images are wanted. The default admits all.
///
/// A pattern without `:` is one of repositories (`team/*`), one with `:` is one of `repository:tag` (`team/app:v*`).
/// `*` and `?` match `/` as well. What is included by no pattern is not wanted, unless there are none; what is excluded
/// by one is not wanted in any case. Of an image with several tags, those that are wanted are kept, and the image as
/// long as there is one; one without tags is judged by its repository.
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
    /// A filter of these patterns.
    ///
    /// # Errors
    /// For what is no pattern.
    pub fn new<T: AsRef<str>>(include: &[T], exclude: &[T]) -> Result<Filter, CatalogError> {
        let (include, exclude) = (Patterns::new(include)?, Patterns::new(exclude)?);
        Ok(Filter { include, exclude, pushed_since: None })
    }

    /// The same, without images that are known to have been pushed before `time`, in seconds since 1970. Those of which
    /// it is not known remain. It is the push of the bytes that counts: an old image with a new tag is an old image.
    pub fn pushed_since(mut self, time: Option<i64>) -> Filter {
        self.pushed_since = time;
        self
    }

    /// Since when images must have been pushed.
    pub fn since(&self) -> Option<i64> {
        self.pushed_since
    }

    /// Whether anything in a repository may be wanted.
    pub fn admits_repository(&self, repository: &str) -> bool {
        let included = self.includes(repository) || !self.include.tags.is_empty();
        included && !self.exclude.repositories.is_match(repository)
    }

    /// What of an entry is wanted.
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
    let wrong = |glob: &str, error: &globset::Error| CatalogError::Glob {
        glob: glob.chars().take(160).collect(),
        reason: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        if glob.trim().is_empty() {
            let reason = "it is empty; write `*` for everything".into();
            return Err(CatalogError::Glob { glob: (*glob).into(), reason });
        }
        set.add(GlobBuilder::new(glob).literal_separator(false).build().map_err(|error| wrong(glob, &error))?);
    }
    set.build().map_err(|error| wrong(&globs.join(" "), &error))
}
