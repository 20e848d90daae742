//! The report of a second scanner, such as Trivy, joined with ours: a project of Harbor has one scanner, and keeps its
//! vulnerabilities that way.
//!
//! What the second scanner says stays as it is, but for what Harbor would lose the whole report for: NUL characters and
//! keys that are too long for its index. If there is nothing of it, the report says so, as of a gap.

use crate::harbor::document::{Report, Scanner, Vulnerability};
use crate::harbor::report::{MOST_PACKAGE, level, shortened};
use layersift_model::{Digest, Severity, parse};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::HashMap;

/// Bytes of the report of a second scanner.
pub const MOST_BYTES: usize = 32 << 20;

/// Bytes of an id or a version of a second scanner. With a package they are under the 2,704 of Harbor's index.
const MOST_NAME: usize = 450;

/// Findings of a second scanner that are read. Harbor takes no more of them.
const MOST_FINDINGS: usize = 65_535;

/// What there is of a second scanner.
#[derive(Clone, Debug, PartialEq)]
pub enum Second {
    /// Its report.
    Report(SecondReport),
    /// Nothing.
    Missing(Missing),
}

/// The report of a second scanner.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondReport {
    vulnerabilities: Vec<Vulnerability>,
}

/// Why there is nothing of a second scanner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// It could not be asked.
    Unreachable,
    /// It did not take the request.
    Refused,
    /// It took the request, and its scan ended in an error.
    Failed,
    /// It did not answer in time.
    TimedOut,
    /// It answered something else than a report.
    Unreadable,
}

impl Missing {
    /// All of them.
    pub const ALL: [Missing; 5] =
        [Missing::Unreachable, Missing::Refused, Missing::Failed, Missing::TimedOut, Missing::Unreadable];

    /// The reason as ids have it, after `GAP-second-scanner-`.
    pub fn name(self) -> &'static str {
        match self {
            Missing::Unreachable => "unreachable",
            Missing::Refused => "refused",
            Missing::Failed => "failed",
            Missing::TimedOut => "timed-out",
            Missing::Unreadable => "unreadable",
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Missing::Unreachable => "could not be asked",
            Missing::Refused => "did not take the request",
            Missing::Failed => "ended in an error",
            Missing::TimedOut => "did not answer in time",
            Missing::Unreadable => "answered something else than a report",
        }
    }
}

/// A report as a second scanner writes it. `{}` is none.
#[derive(Deserialize)]
struct Theirs {
    #[serde(rename = "scanner")]
    _scanner: Scanner,
    artifact: Option<TheirArtifact>,
    // There must be one, and Go writes an empty list as `null`.
    #[serde(deserialize_with = "vulnerabilities")]
    vulnerabilities: Vec<Vulnerability>,
}

#[derive(Deserialize)]
struct TheirArtifact {
    digest: Option<String>,
}

/// Our report with what a second scanner found, the worst first, and of equal ones ours: what is last is cut. Of two
/// findings with the same key the first stays, with the worse severity. `missing` is how bad it is if there is nothing
/// of the second scanner: whether images may be pulled then is for the project's policy to say.
pub fn merge(ours: Report, second: Second, missing: Severity) -> Report {
    match second {
        Second::Report(theirs) => joined(ours, theirs.vulnerabilities),
        Second::Missing(why) => without(ours, why, missing),
    }
}

/// The report of a second scanner about the image `digest`; `None` if it cannot be read, or is about another image.
pub fn read(bytes: &[u8], digest: &Digest) -> Option<SecondReport> {
    if bytes.len() > MOST_BYTES {
        return None;
    }
    let Theirs { artifact, mut vulnerabilities, .. } = parse::json(bytes).ok()?;
    let named = artifact.and_then(|artifact| artifact.digest).filter(|named| !named.is_empty());
    if named.is_some_and(|named| named != digest.to_string()) {
        return None;
    }
    vulnerabilities.iter_mut().for_each(fit);
    Some(SecondReport { vulnerabilities })
}

/// Vulnerabilities, if they are not too many: one takes more memory than its JSON.
fn vulnerabilities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vulnerability>, D::Error> {
    struct List;
    impl<'de> Visitor<'de> for List {
        type Value = Vec<Vulnerability>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a list of at most {MOST_FINDINGS} findings")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                if all.len() == MOST_FINDINGS {
                    return Err(A::Error::invalid_length(MOST_FINDINGS + 1, &self));
                }
                all.push(one);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(List)
}

/// Takes out of a finding what Harbor would lose the whole report for.
fn fit(one: &mut Vulnerability) {
    let Vulnerability { id, package, version, fix_version, severity, status, description, links, cwe_ids, .. } = one;
    let texts = [&mut *id, package, version, fix_version, severity, status, description];
    let scored = one.preferred_cvss.as_mut().map(|cvss| [&mut cvss.vector_v3, &mut cvss.vector_v2]);
    for text in texts.into_iter().chain(links).chain(cwe_ids).chain(scored.into_iter().flatten()) {
        if text.contains('\0') {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
    for (text, most) in [(&mut one.id, MOST_NAME), (&mut one.package, MOST_PACKAGE), (&mut one.version, MOST_NAME)] {
        if text.len() > most {
            *text = shortened(text, most);
        }
    }
    let attributes = one.vendor_attributes.iter_mut().flat_map(|all| all.values_mut());
    attributes.for_each(without_nul);
}

fn without_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{fffd}"),
        Value::Array(list) => list.iter_mut().for_each(without_nul),
        Value::Object(fields) => fields.values_mut().for_each(without_nul),
        _ => {}
    }
}

fn joined(mut ours: Report, theirs: Vec<Vulnerability>) -> Report {
    let mut places: HashMap<[String; 3], usize> = HashMap::new();
    let mut all: Vec<Vulnerability> = Vec::with_capacity(ours.vulnerabilities.len() + theirs.len());
    for one in std::mem::take(&mut ours.vulnerabilities).into_iter().chain(theirs) {
        let key = [one.id.clone(), one.package.clone(), one.version.clone()];
        let first = *places.entry(key).or_insert(all.len());
        match all.get_mut(first) {
            None => all.push(one),
            Some(first) if first.level() < one.level() => first.severity = one.severity,
            Some(_) => {}
        }
    }
    all.sort_by_key(|one| std::cmp::Reverse(one.level()));
    Report { vulnerabilities: all, ..ours }
}

fn without(mut ours: Report, why: Missing, severity: Severity) -> Report {
    let id = format!("GAP-second-scanner-{}", why.name());
    let description = format!(
        "The second scanner {}. What it would have found, such as vulnerable packages, is not in this list.",
        why.in_words()
    );
    let version = ours.artifact.digest.short().into();
    let gap = Vulnerability::of_gap(id, "image".into(), version, level(severity), description);
    ours.vulnerabilities.insert(0, gap);
    ours
}

#[cfg(test)]
mod tests;
