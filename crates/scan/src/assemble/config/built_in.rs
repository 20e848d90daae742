//! Checks that no expression can make: what is absent, counted or compared.

use super::fields::shown;
use super::{CheckError, Spots, Subject, ports};
use layersift_format::history;

/// A check as code: puts the places it finds into the list.
pub type BuiltIn = fn(&Subject<'_>, &mut Spots);

/// The checks by the name that `built_in` calls them.
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

/// No user means root, except on Windows, where it means a user without rights.
fn runs_as_root(subject: &Subject<'_>, spots: &mut Spots) {
    let config = subject.config;
    let user = config.config.user.split(':').next().unwrap_or_default().trim();
    let root = if config.os == "windows" {
        user.eq_ignore_ascii_case("ContainerAdministrator")
    } else {
        user.is_empty() || user == "root" || user.parse() == Ok(0u64)
    };
    if root {
        spots.add("User", user.is_empty().then(|| "no user is named".into()));
    }
}

/// An empty test means the base image's, which is none either in a finished configuration.
fn healthcheck_missing(subject: &Subject<'_>, spots: &mut Spots) {
    let test = subject.config.config.healthcheck.as_ref().and_then(|check| check.test.first());
    match test.map(String::as_str) {
        None => spots.add("Healthcheck", None),
        Some("NONE") => spots.add("Healthcheck", Some("turned off".into())),
        Some(_) => {}
    }
}

fn onbuild_present(subject: &Subject<'_>, spots: &mut Spots) {
    match subject.config.config.on_build.len() {
        0 => {}
        1 => spots.add("OnBuild", Some("1 trigger".into())),
        count => spots.add("OnBuild", Some(format!("{count} triggers"))),
    }
}

/// Images without any history are common and fit.
fn history_mismatch(subject: &Subject<'_>, spots: &mut Spots) {
    let (config, layers) = (subject.config, subject.layers);
    let digests = config.rootfs.diff_ids.len();
    if digests != layers {
        spots.add("rootfs.diff_ids", Some(format!("{digests} digests for {layers} layers")));
    }
    if !history::align(config, layers).fits {
        let instructions = config.history.iter().filter(|entry| !entry.empty_layer).count();
        spots.add("history", Some(format!("{instructions} instructions with a layer for {layers} layers")));
    }
}

/// Quotes scheme and host alone: the rest of a pre-signed address is a secret.
fn foreign_layer_urls(subject: &Subject<'_>, spots: &mut Spots) {
    for (i, url) in subject.foreign_urls.iter().enumerate() {
        spots.add(format!("layers.urls[{i}]"), origin(url));
    }
}

fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    Some(shown(&format!("{scheme}://{host}")))
}

fn port_malformed(subject: &Subject<'_>, spots: &mut Spots) {
    for key in subject.config.config.exposed_ports.keys() {
        if let Err(reason) = ports::parse(key) {
            spots.add(format!("ExposedPorts.{}", shown(key)), Some(reason.into()));
        }
    }
}

/// A name without a tag means `latest`; a single word may be a tag itself, as in an OCI layout's annotation.
fn latest_tag(subject: &Subject<'_>, spots: &mut Spots) {
    let Some(name) = subject.reference.filter(|name| !name.contains('@')) else { return };
    let last = name.rsplit('/').next().unwrap_or(name);
    let latest = match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => last == "latest" || name.contains('/'),
    };
    if latest {
        spots.add("reference", Some(shown(name)));
    }
}
