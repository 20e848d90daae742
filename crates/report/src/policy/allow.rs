//! Exceptions: the `[[allow]]` entries of a policy file, each with conditions, a reason and a last day.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Deserializer};

use jiff::civil::Date;
use layersift_model::{Allowed, Digest, ExpiredException, FileLocation, Finding, ImageBase, LayerOrigin, Package};

/// An exception. It allows a finding if all of its conditions hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    #[serde(skip)]
    number: usize,
    fingerprint: Option<Filled>,
    rule: Option<Filled>,
    path: Option<PathGlob>,
    layer: Option<Digest>,
    package: Option<Filled>,
    base: Option<Filled>,
    reason: Filled,
    #[serde(deserialize_with = "date")]
    expires: Date,
}

/// The exceptions of a policy file, and the day that decides which have expired.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    entries: Vec<Allow>,
    today: Date,
}

impl Allow {
    /// The exception as reports show it with a finding that it allows.
    pub(super) fn as_allowed(&self) -> Allowed {
        Allowed { reason: self.reason.0.trim().into(), expires: self.expires }
    }

    /// The exception as reports show it once it has expired.
    pub(super) fn as_expired(&self) -> ExpiredException {
        ExpiredException { entry: self.number, reason: self.reason.0.trim().into(), expires: self.expires }
    }

    /// Whether it has a condition: an entry without one would allow everything.
    pub(super) fn names_something(&self) -> bool {
        let Allow { fingerprint, rule, path, layer, package, base, .. } = self;
        [fingerprint, rule, package, base].into_iter().any(Option::is_some) || path.is_some() || layer.is_some()
    }

    fn matches(&self, finding: &Finding, base: Option<&ImageBase>) -> bool {
        let file = finding.file();
        self.names_something()
            && holds(&self.fingerprint, |wanted| finding.fingerprint() == Some(&wanted.0))
            && holds(&self.rule, |wanted| finding.rule.is_named_by(&wanted.0))
            && holds(&self.path, |glob| file.is_some_and(|file| glob.0.is_match(file.full_path("/"))))
            && holds(&self.layer, |wanted| file.is_some_and(|file| names_layer(wanted, file)))
            && holds(&self.package, |wanted| {
                file.and_then(|file| file.package.as_ref()).is_some_and(|package| names_package(&wanted.0, package))
            })
            && holds(&self.base, |wanted| {
                let is_in_base = file.is_some() && finding.origin == Some(LayerOrigin::Base);
                is_in_base && base.is_some_and(|base| names_base(&wanted.0, base))
            })
    }
}

impl AllowList {
    /// The list of `entries`, in the order of the file, on the day `today`.
    pub(super) fn new(entries: Vec<Allow>, today: Date) -> AllowList {
        let number = |(index, entry)| Allow { number: index + 1, ..entry };
        AllowList { entries: entries.into_iter().enumerate().map(number).collect(), today }
    }

    /// Whether there are no exceptions.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an entry that has not expired asks what an image is based on.
    pub fn asks_for_base(&self) -> bool {
        self.entries.iter().any(|entry| entry.base.is_some() && !self.is_over(entry))
    }

    /// The first entry that allows `finding`, of an image that is based on `base`, and has not expired.
    pub fn find(&self, finding: &Finding, base: Option<&ImageBase>) -> Option<&Allow> {
        self.entries.iter().find(|entry| !self.is_over(entry) && entry.matches(finding, base))
    }

    /// The entries that have expired.
    pub fn expired(&self) -> impl Iterator<Item = &Allow> {
        self.entries.iter().filter(|entry| self.is_over(entry))
    }

    fn is_over(&self, entry: &Allow) -> bool {
        entry.expires < self.today
    }
}

/// A string that is not blank.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Filled(String);

impl TryFrom<String> for Filled {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.trim().is_empty() { Err("must not be blank") } else { Ok(Filled(text)) }
    }
}

/// A glob over paths, in which `*` and `?` do not match a `/`, and `**` does.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Filled")]
struct PathGlob(GlobSet);

impl TryFrom<Filled> for PathGlob {
    type Error = globset::Error;

    fn try_from(source: Filled) -> Result<Self, Self::Error> {
        // Paths of an image are written without a leading slash; a glob with one means the same.
        let source = source.0.strip_prefix('/').unwrap_or(&source.0);
        let mut set = GlobSetBuilder::new();
        set.add(GlobBuilder::new(source).literal_separator(true).build()?);
        set.build().map(PathGlob)
    }
}

fn holds<T>(wanted: &Option<T>, test: impl FnOnce(&T) -> bool) -> bool {
    wanted.as_ref().is_none_or(test)
}

fn names_layer(wanted: &Digest, file: &FileLocation) -> bool {
    [&file.layer.digest, &file.layer.diff_id].into_iter().flatten().any(|digest| digest == wanted)
}

fn names_package(wanted: &str, package: &Package) -> bool {
    wanted == package.name
        || wanted.strip_prefix(&*package.ecosystem).and_then(|rest| rest.strip_prefix(':')) == Some(&package.name)
}

/// Whether `base` is the image `wanted`, a digest or a name. What only the author of an image says is not enough.
fn names_base(wanted: &str, base: &ImageBase) -> bool {
    let name = |text: &str| text.strip_prefix("docker://").unwrap_or(text).to_string();
    base.is_proven
        && (base.digest.as_ref().is_some_and(|digest| digest.to_string() == wanted)
            || base.reference.as_deref().is_some_and(|reference| name(reference) == name(wanted)))
}

/// A date in TOML's own syntax, or a string of the same form.
fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Date, D::Error> {
    let text = match toml::Value::deserialize(deserializer)? {
        toml::Value::Datetime(value) => value.to_string(),
        toml::Value::String(text) => text,
        _ => String::new(),
    };
    let is_date = text.len() == "YYYY-MM-DD".len();
    let date = text.parse().ok().filter(|_| is_date);
    date.ok_or_else(|| serde::de::Error::custom("expected a date as YYYY-MM-DD"))
}
