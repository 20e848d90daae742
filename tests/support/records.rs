//! Made-up images, reports and findings.

// Each test uses some of them.
#![allow(dead_code)]

use layersift_model::{
    Confidence, Digest, FileLocation, Finding, Gap, GapReason, ImageGap, ImageReport, LayerKey, LayerRef, LayerSummary,
    Location, Package, ReportedSecret, Repository, RuleInfo, Severity, State, Tool,
};
use layersift_store::{ImageId, ImageLayer, ImageRecord, LayerRecord, Store};

/// The layer key of most tests.
pub fn key() -> LayerKey {
    LayerKey::new("sha256:key-1")
}

/// Another layer key.
pub fn other_key() -> LayerKey {
    LayerKey::new("sha256:key-2")
}

/// The digest of a made-up blob.
pub fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

/// An image called `name` with layers called `layers`.
pub fn image(name: &str, layers: &[&str]) -> ImageRecord {
    let layer = |name: &&str| ImageLayer {
        digest: digest(name),
        diff_id: Some(digest(&format!("diff {name}"))),
        created_by: Some(format!("RUN make {name}")),
        blob_bytes: 1000,
    };
    ImageRecord {
        manifest_digest: digest(name),
        config_digest: Some(digest(&format!("config {name}"))),
        platform: Some("linux/amd64".into()),
        layers: layers.iter().map(layer).collect(),
    }
}

/// The report of an image called `name` with layers called `layers`, and `findings`.
pub fn image_report(name: &str, layers: &[&str], findings: &[Finding]) -> ImageReport {
    let layer = |(index, name): (usize, &&str)| LayerSummary {
        index,
        digest: Some(digest(name)),
        diff_id: Some(digest(&format!("diff {name}"))),
        created_by: Some(format!("RUN make {name}")),
        stored_bytes: 1000,
        is_read: true,
        ..LayerSummary::default()
    };
    ImageReport {
        target: name.into(),
        manifest_digest: Some(digest(name)),
        config_digest: Some(digest(&format!("config {name}"))),
        platform: Some("linux/amd64".into()),
        tool: Tool { ruleset: "sha256:rules".into(), ..Tool::default() },
        layers: layers.iter().enumerate().map(layer).collect(),
        findings: findings.to_vec(),
        ..ImageReport::default()
    }
}

/// The same report, of an image whose layer at `position` was not read.
pub fn unread(mut report: ImageReport, position: usize) -> ImageReport {
    report.layers[position].is_read = false;
    report.gaps.push(ImageGap { gap: Gap::new(GapReason::MissingBlob, "not found"), layer: Some(position) });
    report
}

/// Stores the report of an image called `name` with layers called `layers`, and `findings`.
pub fn put(store: &Store, name: &str, layers: &[&str], findings: &[Finding]) -> ImageId {
    store.images().put_report(&image_report(name, layers, findings), &key(), None, 10).unwrap()
}

/// A made-up rule.
pub fn rule() -> RuleInfo {
    RuleInfo {
        id: "test.token".into(),
        title: "A token".into(),
        severity: Severity::High,
        confidence: Confidence::Medium,
        what: "A token of a test.".into(),
        risk: "None.".into(),
        fix: "Make another one up.".into(),
        references: vec!["https://docs.test/token".into()],
    }
}

/// A secret called `secret` in a file of the layer at `position`, which is called `layer`.
pub fn secret(layer: &str, position: usize, path: &str, secret: &str) -> Finding {
    let layer_ref = LayerRef {
        index: position,
        digest: Some(digest(layer)),
        diff_id: Some(digest(&format!("diff {layer}"))),
        created_by: Some(format!("RUN make {layer}")),
    };
    Finding {
        id: digest(&format!("{layer} {path} {secret}")).hex()[..16].into(),
        location: Location::File(Box::new(FileLocation {
            path: path.into(),
            inside: Vec::new(),
            views: Vec::new(),
            offset: Some(7),
            line: Some(1),
            column: Some(8),
            binary: None,
            layer: layer_ref,
            state: State::Present,
            ended_by: None,
            package: None,
            as_shipped: false,
            attributes: None,
        })),
        ..in_config("", secret)
    }
}

/// A secret in the configuration.
pub fn in_config(field: &str, name: &str) -> Finding {
    Finding {
        id: digest(&format!("{field} {name}")).hex()[..16].into(),
        rule: rule().into(),
        severity: Severity::High,
        location: Location::Config(field.into()),
        secret: Some(ReportedSecret {
            masked: "tok_****yz".into(),
            fingerprint: fingerprint(name),
            length: 24,
            value: None,
        }),
        note: None,
        related: Vec::new(),
        allowed: None,
        baseline: false,
        origin: None,
        step: None,
    }
}

/// The file that a finding is in, to change it.
pub fn file_mut(finding: &mut Finding) -> &mut FileLocation {
    match &mut finding.location {
        Location::File(file) => file,
        location => panic!("not in a file: {location:?}"),
    }
}

/// The same finding, overwritten or deleted by the layer at `position`.
pub fn ended(finding: &Finding, state: State, position: usize) -> Finding {
    let mut finding = finding.clone();
    let file = file_mut(&mut finding);
    file.state = state;
    file.ended_by = Some(LayerRef { index: position, digest: None, diff_id: None, created_by: None });
    finding
}

/// The same finding, in a file of a package.
pub fn in_package(finding: &Finding, name: &str, version: &str) -> Finding {
    let mut finding = finding.clone();
    file_mut(&mut finding).package = Some(package(name, version));
    finding
}

/// A package.
pub fn package(name: &str, version: &str) -> Package {
    Package { ecosystem: "npm".into(), name: name.into(), version: Some(version.into()) }
}

/// The fingerprint of the secret called `secret`.
pub fn fingerprint(secret: &str) -> String {
    digest(&format!("secret {secret}")).hex()[..32].into()
}

/// A report of the layer called `layer`.
pub fn layer_report(layer: &str, key: &LayerKey, scanned_at: i64) -> LayerRecord {
    LayerRecord {
        layer: digest(layer),
        diff_id: Some(digest(&format!("diff {layer}"))),
        key: key.clone(),
        report: format!("report of {layer} by {key}").into_bytes(),
        bytes: 5000,
        blob_bytes: 1000,
        extra_work: 7,
        scanned_at,
    }
}

/// A repository.
pub fn repository(name: &str) -> Repository {
    Repository { registry: "registry.test".into(), project: "team".into(), repository: name.into() }
}
