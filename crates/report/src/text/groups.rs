//! Groups of findings: those of one rule are a section, those of one secret a block, and those in files of one package
//! or directory a cluster.

use std::cmp::Reverse;
use std::collections::HashMap;

use layersift_model::{Finding, Package, RuleInfo, Severity};

/// What separates an archive from its member in a path.
pub(super) const MEMBER: &str = " ▸ ";

/// Files that are listed one by one where a section has no more of them.
pub(super) const FEW: usize = 3;

/// A cluster holds at least this part of the files of its section: there are at most so many clusters.
const CLUSTERS: usize = 4;

/// The findings of one rule that are equally severe.
pub(super) struct Section<'r> {
    pub(super) rule: &'r RuleInfo,
    pub(super) severity: Severity,
    /// Where its first finding is in the report.
    position: usize,
    /// Findings of secrets.
    pub(super) secrets: Vec<Secret<'r>>,
    /// Findings in files that are not secrets.
    pub(super) files: Vec<&'r Finding>,
    /// Findings in the configuration, and combinations.
    pub(super) others: Vec<&'r Finding>,
}

/// Findings of one rule with one fingerprint, in the order of the report; never empty.
pub(super) struct Secret<'r> {
    pub(super) places: Vec<&'r Finding>,
}

/// Files of one package or directory, ordered by path; never empty.
pub(super) struct Cluster<'r> {
    pub(super) place: Place<'r>,
    pub(super) findings: Vec<&'r Finding>,
}

/// What the files of a cluster have in common.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place<'r> {
    /// They belong to a package, and lie in a directory, which may be the root.
    Package(&'r Package, String),
    /// They lie in a directory or an archive.
    Directory(String),
    /// They are one file.
    File(String),
    /// Nothing.
    Elsewhere,
}

impl Place<'_> {
    /// Whether this is a directory that `other` lies in.
    pub(super) fn holds(&self, other: &Place<'_>) -> bool {
        let Place::Directory(outer) = self else { return false };
        let (Place::Package(_, inner) | Place::Directory(inner) | Place::File(inner)) = other else { return false };
        let below = inner.strip_prefix(&outer[..]).filter(|_| self != other);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest.starts_with(MEMBER))
    }
}

impl Section<'_> {
    /// All its findings.
    pub(super) fn findings(&self) -> impl Iterator<Item = &Finding> {
        let secrets = self.secrets.iter().flat_map(|secret| &secret.places);
        secrets.chain(&self.files).chain(&self.others).copied()
    }
}

impl Secret<'_> {
    /// The severity of the worst place: what a package ships counts less.
    fn severity(&self) -> Option<Severity> {
        self.places.iter().map(|finding| finding.severity).max()
    }

    pub(super) fn is_present(&self) -> bool {
        self.places.iter().any(|finding| finding.is_present())
    }
}

/// The sections of `findings`, worst first; of one severity, those with something that is present come first, then the
/// order of the report holds.
pub(super) fn sections<'r>(findings: impl Iterator<Item = &'r Finding>) -> Vec<Section<'r>> {
    let mut secrets: Vec<(usize, Secret<'r>)> = Vec::new();
    let mut by_fingerprint: HashMap<(&str, &str), usize> = HashMap::new();
    let mut by_rule = ByRule::default();
    for (position, finding) in findings.enumerate() {
        let Some(fingerprint) = finding.fingerprint() else {
            let section = by_rule.section(&finding.rule, finding.severity, position);
            if finding.file().is_some() { &mut section.files } else { &mut section.others }.push(finding);
            continue;
        };
        let index = *by_fingerprint.entry((&finding.rule.id, fingerprint)).or_insert(secrets.len());
        match secrets.get_mut(index) {
            Some((_, secret)) => secret.places.push(finding),
            None => secrets.push((position, Secret { places: vec![finding] })),
        }
    }
    for (position, secret) in secrets {
        if let (Some(first), Some(severity)) = (secret.places.first().copied(), secret.severity()) {
            by_rule.section(&first.rule, severity, position).secrets.push(secret);
        }
    }
    let mut sections: Vec<Section<'r>> = by_rule.sections.into_values().collect();
    for section in &mut sections {
        section.secrets.sort_by_key(|secret| !secret.is_present());
    }
    sections.sort_by_cached_key(|section| {
        let is_gone = !section.findings().any(Finding::is_present);
        (Reverse(section.severity), is_gone, section.position)
    });
    sections
}

#[derive(Default)]
struct ByRule<'r> {
    sections: HashMap<(&'r str, Severity), Section<'r>>,
}

impl<'r> ByRule<'r> {
    /// The section of a rule and severity, which has a finding at `position`.
    fn section(&mut self, rule: &'r RuleInfo, severity: Severity, position: usize) -> &mut Section<'r> {
        let section = self.sections.entry((&rule.id, severity)).or_insert_with(|| {
            let (secrets, files, others) = Default::default();
            Section { rule, severity, position, secrets, files, others }
        });
        section.position = section.position.min(position);
        section
    }
}

/// A finding and the path it is ordered by: that of its file, with archive members.
struct Entry<'r> {
    path: String,
    finding: &'r Finding,
}

/// Groups findings in files: a cluster for every package and every directory that holds a quarter of them, largest
/// first, and the findings that are better listed one by one.
///
/// A package comes before the directories it lies in, and a directory before those above it, so that every finding is
/// in one cluster. Directories are the hierarchical heavy hitters of the paths (G. Cormode et al., "Finding
/// Hierarchical Heavy Hitters in Data Streams", VLDB 2003): the deepest that hold enough of what no deeper one holds.
/// Sorting the paths is the only part that takes more than linear time.
pub(super) fn clusters<'r>(findings: &[&'r Finding]) -> (Vec<Cluster<'r>>, Vec<&'r Finding>) {
    if findings.len() <= FEW {
        return (Vec::new(), findings.to_vec());
    }
    let enough = findings.len().div_ceil(CLUSTERS).max(FEW + 1);
    let path = |finding: &Finding| finding.file().map(|file| file.full_path(MEMBER)).unwrap_or_default();
    let mut entries: Vec<Entry<'r>> = findings.iter().map(|&finding| Entry { path: path(finding), finding }).collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let (mut clusters, entries) = packages(entries, enough);
    let (directories, entries) = directories(entries, enough);
    clusters.extend(directories);
    // The sort is stable: of one size, packages come first, and each kind is ordered by path.
    clusters.sort_by_key(|cluster| Reverse(cluster.findings.len()));
    let findings: Vec<&Finding> = entries.iter().map(|entry| entry.finding).collect();
    if findings.len() <= FEW {
        return (clusters, findings);
    }
    let common = common_directory(&entries);
    let place = if common.is_empty() { Place::Elsewhere } else { Place::Directory(common) };
    clusters.push(Cluster { place, findings });
    (clusters, Vec::new())
}

/// The packages with `enough` of the `entries`, which are sorted by path, and the entries that are left.
fn packages<'r>(entries: Vec<Entry<'r>>, enough: usize) -> (Vec<Cluster<'r>>, Vec<Entry<'r>>) {
    type Key<'r> = (&'r str, &'r str, Option<&'r str>);
    fn package(finding: &Finding) -> Option<(Key<'_>, &Package)> {
        let package = finding.file()?.package.as_ref()?;
        Some(((&*package.ecosystem, &*package.name, package.version.as_deref()), package))
    }
    let mut counts: HashMap<Key<'_>, usize> = HashMap::new();
    for (key, _) in entries.iter().filter_map(|entry| package(entry.finding)) {
        *counts.entry(key).or_default() += 1;
    }
    let mut found: Vec<(Key<'_>, &Package, Vec<Entry<'_>>)> = Vec::new();
    let mut rest = Vec::new();
    for entry in entries {
        match package(entry.finding).filter(|(key, _)| counts.get(key).is_some_and(|count| *count >= enough)) {
            // There are no more than a few of them.
            Some((key, package)) => match found.iter_mut().find(|(known, ..)| *known == key) {
                Some((.., members)) => members.push(entry),
                None => found.push((key, package, vec![entry])),
            },
            None => rest.push(entry),
        }
    }
    let cluster = |(_, package, members): (Key<'r>, &'r Package, Vec<Entry<'r>>)| Cluster {
        place: Place::Package(package, common_directory(&members)),
        findings: members.iter().map(|entry| entry.finding).collect(),
    };
    (found.into_iter().map(cluster).collect(), rest)
}

/// The deepest directory that holds all `entries`, which are sorted by path: the one of the first and the last.
fn common_directory(entries: &[Entry<'_>]) -> String {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return String::new() };
    let shared = shared(&first.path, &last.path);
    let end = ends(&first.path).take_while(|end| *end <= shared && *end <= first.path.len()).last().unwrap_or(0);
    directory(&first.path, end)
}

/// The directories with `enough` of the `entries`, which are sorted by path, and the entries that are left.
fn directories<'r>(entries: Vec<Entry<'r>>, enough: usize) -> (Vec<Cluster<'r>>, Vec<Entry<'r>>) {
    let mut walk = Walk { enough, open: Vec::new(), last: None, pending: Vec::new(), clusters: Vec::new() };
    for entry in entries {
        walk.next(entry);
    }
    walk.close(0);
    (walk.clusters, walk.pending)
}

/// A walk over paths in their order, in which the entries of a directory are next to each other. When the last one has
/// passed, the directory is closed: it takes the entries that no directory inside it took if they are enough, and
/// leaves them to the one above otherwise.
struct Walk<'r> {
    enough: usize,
    /// The directories of the last entry, from the root inwards.
    open: Vec<Open>,
    /// The path of the last entry.
    last: Option<String>,
    /// Entries that no directory has taken yet.
    pending: Vec<Entry<'r>>,
    clusters: Vec<Cluster<'r>>,
}

/// A directory some of whose entries have passed.
struct Open {
    /// Where its path ends in the path of the last entry.
    end: usize,
    /// Where its entries begin in `pending`.
    start: usize,
}

impl<'r> Walk<'r> {
    fn next(&mut self, entry: Entry<'r>) {
        self.close(self.last.as_deref().map_or(0, |last| shared(last, &entry.path)));
        let known = self.open.last().map_or(0, |last| last.end);
        let start = self.pending.len();
        self.open.extend(ends(&entry.path).filter(|end| *end > known).map(|end| Open { end, start }));
        self.last = Some(entry.path.clone());
        self.pending.push(entry);
    }

    /// Closes the directories whose path is longer than `end`.
    fn close(&mut self, end: usize) {
        while let Some(Open { end, start }) = self.open.pop_if(|last| last.end > end) {
            if self.pending.len() - start < self.enough {
                continue;
            }
            let members = self.pending.split_off(start);
            let Some(last) = members.last() else { continue };
            let path = directory(&last.path, end);
            let place = if end > last.path.len() { Place::File(path) } else { Place::Directory(path) };
            self.clusters.push(Cluster { place, findings: members.iter().map(|entry| entry.finding).collect() });
        }
    }
}

/// Where the directories, the archives and the file of `path` end in it, the outermost first. That of the file is one
/// after the last byte: `a/b` is not inside `a/b`, but the same file.
fn ends(path: &str) -> impl Iterator<Item = usize> {
    let slashes = path.match_indices('/').map(|(at, _)| at + 1);
    let mut members = path.match_indices(MEMBER).map(|(at, separator)| at + separator.len()).peekable();
    let mut slashes = slashes.peekable();
    let merged = std::iter::from_fn(move || match (slashes.peek(), members.peek()) {
        (Some(slash), Some(member)) if member < slash => members.next(),
        (None, Some(_)) => members.next(),
        _ => slashes.next(),
    });
    merged.chain([path.len() + 1])
}

/// How many bytes `a` and `b` begin with in common, counting the end of both where they are the same.
fn shared(a: &str, b: &str) -> usize {
    if a == b { a.len() + 1 } else { a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count() }
}

/// The path that ends at `end` in `path`, without the separator.
fn directory(path: &str, end: usize) -> String {
    let path = path.get(..end).unwrap_or(path);
    path.strip_suffix(MEMBER).or_else(|| path.strip_suffix('/')).unwrap_or(path).into()
}
