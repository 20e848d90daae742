//! Checks that a regular expression cannot express: absence, counts and comparisons.

use super::{CheckError, FieldMatches, MAX_SHOWN, Subject, fields, ports};
use layersift_format::history;
use layersift_model::quoted;

/// A check in code, which adds its matches to the list.
pub type BuiltIn = fn(&Subject<'_>, &mut FieldMatches);

/// The checks, by their names in `built_in`.
pub const BUILT_IN: &[(&str, BuiltIn)] = &[
    ("runs-as-root", runs_as_root),
    ("healthcheck-missing", healthcheck_missing),
    ("onbuild-present", onbuild_present),
    ("history-mismatch", history_mismatch),
    ("foreign-layer-urls", foreign_layer_urls),
    ("port-malformed", port_malformed),
    ("latest-tag", latest_tag),
];

pub(super) fn by_name(rule: &str, name: &str) -> Result<BuiltIn, CheckError> {
    let found = BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, check)| *check);
    found.ok_or_else(|| {
        let known: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
        CheckError::BuiltIn { rule: rule.into(), name: name.into(), known: known.join(", ") }
    })
}

/// An empty user means root, except on Windows, where it means an unprivileged user.
fn runs_as_root(subject: &Subject<'_>, matches: &mut FieldMatches) {
    let config = subject.config;
    let user = config.config.user.split(':').next().unwrap_or_default().trim();
    let root = if config.os == "windows" {
        user.eq_ignore_ascii_case("ContainerAdministrator")
    } else {
        user.is_empty() || user == "root" || user.parse() == Ok(0u64)
    };
    if root {
        matches.add("User", user.is_empty().then(|| "no user is named".into()));
    }
}

/// An empty test inherits that of the base image, which a finished configuration would contain.
fn healthcheck_missing(subject: &Subject<'_>, matches: &mut FieldMatches) {
    let test = subject.config.config.healthcheck.as_ref().and_then(|check| check.test.first());
    match test.map(String::as_str) {
        None => matches.add("Healthcheck", None),
        Some("NONE") => matches.add("Healthcheck", Some("turned off".into())),
        Some(_) => {}
    }
}

fn onbuild_present(subject: &Subject<'_>, matches: &mut FieldMatches) {
    match subject.config.config.on_build.len() {
        0 => {}
        1 => matches.add("OnBuild", Some("1 trigger".into())),
        count => matches.add("OnBuild", Some(format!("{count} triggers"))),
    }
}

/// Images without any history are common, and not reported.
fn history_mismatch(subject: &Subject<'_>, matches: &mut FieldMatches) {
    let (config, layers) = (subject.config, subject.layers);
    let digests = config.rootfs.diff_ids.len();
    if digests != layers {
        matches.add("rootfs.diff_ids", Some(format!("{digests} digests for {layers} layers")));
    }
    if !history::align(config, layers).fits {
        let instructions = config.history.iter().filter(|entry| !entry.empty_layer).count();
        matches.add("history", Some(format!("{instructions} instructions with a layer for {layers} layers")));
    }
}

/// Quotes only scheme and host: the rest of a pre-signed URL is a secret.
fn foreign_layer_urls(subject: &Subject<'_>, matches: &mut FieldMatches) {
    for (i, url) in subject.foreign_urls.iter().enumerate() {
        matches.add(format!("layers.urls[{i}]"), origin(url));
    }
}

fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    Some(quoted(&format!("{scheme}://{host}"), MAX_SHOWN).into())
}

fn port_malformed(subject: &Subject<'_>, matches: &mut FieldMatches) {
    for key in subject.config.config.exposed_ports.keys() {
        if let Err(reason) = ports::parse(key) {
            matches.add(fields::port(key), Some(reason.into()));
        }
    }
}

/// A name without a tag means `latest`; a single word may be a tag itself, as in an OCI layout's annotation.
fn latest_tag(subject: &Subject<'_>, matches: &mut FieldMatches) {
    let Some(name) = subject.reference.filter(|name| !name.contains('@')) else { return };
    let last = name.rsplit('/').next().unwrap_or(name);
    let latest = match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => last == "latest" || name.contains('/'),
    };
    if latest {
        matches.add("reference", Some(quoted(name, MAX_SHOWN).into()));
    }
}
