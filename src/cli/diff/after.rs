//! The image after: which one it is while it is read twice, and the values of the image before in it.

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::ensure;

use super::{Deadline, DiffArgs, reading, target as target_args};
use crate::cli::context;
use layersift_format::{Listed, Opened};
use layersift_model::{ImageReport, Limits, Secret};
use layersift_report::compare::{self, Comparison};
use layersift_scan::values::{LeftOut, ValueSearch, Values};
use layersift_scan::{Options, RulesetError};
use layersift_source::registry::Reference;
use layersift_source::{Target, open};

/// Why a value is not searched for.
const IS_REPORT: &str = "the image after is a kept report, and not an image that can be read";
const IS_STREAM: &str = "standard input can be read only once: save it to a file and compare that";
const IS_UNKNOWN: &str = "their values are not known: a kept report has them only with --show-secrets, and a scan \
                          with a store has none";
const IS_SHORT: &str = "their values have fewer than 8 bytes, and such words may be anywhere";
const IS_UNREAD: &str = "not everything of the image could be read once more";
const IS_TOO_MANY: &str = "there are too many values for one search";

/// The image after.
pub(super) struct After {
    /// The target; for an image of a registry with the digest that its tag has now.
    pub(super) name: OsString,
    /// The target as it was given.
    given: OsString,
    /// Why it cannot be searched for values, if it cannot.
    unsearchable: Option<&'static str>,
}

impl After {
    /// Makes a report name the target as it was given.
    pub(super) fn rename(&self, report: &mut ImageReport) {
        if let Some(rest) = report.target.strip_prefix(&*self.name.to_string_lossy()) {
            report.target = format!("{}{rest}", self.given.to_string_lossy());
        }
    }
}

/// The image after that `args` name, or the report of it that `is_kept`.
pub(super) fn target(args: &DiffArgs, is_kept: bool, deadline: Deadline) -> anyhow::Result<After> {
    let given = args.after.clone();
    let after = |name: OsString, unsearchable| After { name, given: given.clone(), unsearchable };
    if is_kept {
        return Ok(after(given.clone(), Some(IS_REPORT)));
    }
    let target = Target::parse_os(&given)?;
    let is_stream = given == "-" || target.path.is_none() && target.reference.is_none();
    if is_stream || target.transport.is_none_or(|transport| transport.name != "docker") {
        return Ok(after(given.clone(), is_stream.then_some(IS_STREAM)));
    }
    let options = context::registry_options(&args.registry, &deadline.cancellation())?;
    let Opened::Source(source) = open(&target, &Limits::default(), &options)? else {
        return Ok(after(given.clone(), None));
    };
    let Some(Listed::Manifest { digest, .. }) = source.list()?.pop() else { return Ok(after(given.clone(), None)) };
    let reference: Reference = target.reference.as_deref().unwrap_or_default().parse()?;
    Ok(after(format!("docker://{}", Reference { digest, ..reference }).into(), None))
}

/// Searches the image after for the values of secrets that no finding of it has: a value may be there in a form that no
/// rule finds, or as a part of another secret.
pub(super) fn search<'s>(
    args: &DiffArgs,
    comparisons: Vec<Comparison<'s>>,
    after: &After,
    deadline: Deadline,
) -> anyhow::Result<Vec<Comparison<'s>>> {
    let mut values = Values::default();
    let mut unsearched: BTreeMap<String, &'static str> = BTreeMap::new();
    for secret in comparisons.iter().flat_map(Comparison::gone) {
        let secrets = secret.before.iter().filter_map(|finding| finding.secret.as_ref());
        let known = secrets.filter_map(|secret| secret.value.as_ref()).map(Secret::reveal);
        let mut known = known.filter(|value| !value.is_empty()).peekable();
        match after.unsearchable.or(known.peek().is_none().then_some(IS_UNKNOWN)) {
            Some(why) => drop(unsearched.insert(secret.fingerprint.into(), why)),
            None => known.for_each(|value| values.add(secret.fingerprint, value)),
        }
    }
    unsearched.extend(values.left_out().iter().map(|(fingerprint, why)| {
        let why = match why {
            LeftOut::Short => IS_SHORT,
            LeftOut::TooMany => IS_TOO_MANY,
        };
        (fingerprint.clone(), why)
    }));
    let (search, found) = match values.is_empty() {
        true => (None, Vec::new()),
        false => {
            let key = context::fingerprint_key(&args.fingerprint_key)?;
            let options = Options { threads: args.threads.threads, key, ..Options::default() };
            match ValueSearch::new(values, options, &deadline.cancellation()) {
                Err(RulesetError::Cancelled(_)) => {
                    let gone = comparisons.iter().flat_map(Comparison::gone);
                    unsearched.extend(gone.map(|secret| (secret.fingerprint.into(), IS_UNREAD)));
                    (None, Vec::new())
                }
                search => {
                    let search = search?;
                    let found =
                        reading(args, &target_args(args, &after.name), None, deadline).scan_by(search.analyzer())?;
                    (Some(search), found)
                }
            }
        }
    };
    let mut all = Vec::new();
    for comparison in comparisons {
        let mut unsearched = unsearched.clone();
        let mut traces = Vec::new();
        if let Some(search) = search.as_ref().filter(|_| comparison.gone().next().is_some()) {
            let reports = of_image(&found, comparison.after)?;
            if reports.iter().any(|report| report.gaps.len() > comparison.after.gaps.len()) {
                unsearched.extend(comparison.gone().map(|secret| (secret.fingerprint.to_string(), IS_UNREAD)));
            }
            let names = |id: &str| search.names(id).into_iter().collect();
            traces = reports.iter().flat_map(|report| compare::traces(report, names)).collect();
        }
        all.push(comparison.with_traces(&traces, &unsearched));
    }
    // The process ends soon; freeing the compiled rules would only take time.
    std::mem::forget(search);
    Ok(all)
}

/// The reports among `found` that are of the same image as `after`.
fn of_image<'f>(found: &'f [ImageReport], after: &ImageReport) -> anyhow::Result<Vec<&'f ImageReport>> {
    let is_after = |report: &&ImageReport| {
        (&report.manifest_digest, &report.config_digest) == (&after.manifest_digest, &after.config_digest)
    };
    let reports: Vec<&ImageReport> = found.iter().filter(is_after).collect();
    ensure!(
        !reports.is_empty(),
        "the image after is another one than a moment ago, so that what is gone cannot be said: name it by its digest"
    );
    Ok(reports)
}
