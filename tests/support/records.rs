//! Made-up images, reports and findings.

// Each test uses some of them.
#![allow(dead_code)]

use layersift_model::{Confidence, Digest, Severity, State};
use layersift_store::{
    Assembled, FindingRecord, ImageLayer, ImageRecord, PackageRecord, ReportRecord, Repository, RuleRecord,
    SecretRecord,
};

/// The rules of most tests.
pub const RULES: &str = "sha256:rules-1";

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

/// What was found in `image`.
pub fn assembled(image: ImageRecord, findings: &[FindingRecord]) -> Assembled {
    Assembled { image, ruleset: RULES.into(), findings: findings.to_vec(), gaps: 0, unread: Vec::new() }
}

/// A secret called `secret` in a file of the layer at `position`, which is called `layer`.
pub fn secret(layer: &str, position: usize, path: &str, secret: &str) -> FindingRecord {
    FindingRecord {
        finding_id: digest(&format!("{layer} {path} {secret}")).hex()[..16].into(),
        rule: RuleRecord {
            id: "test.token".into(),
            title: "A token".into(),
            severity: Severity::High,
            confidence: Confidence::Medium,
        },
        path: Some(path.into()),
        inside: Vec::new(),
        config: None,
        position: Some(position),
        state: State::Present,
        ended_by: None,
        secret: Some(SecretRecord { fingerprint: fingerprint(secret), masked: "tok_****yz".into(), length: 24 }),
        package: None,
    }
}

/// The fingerprint of the secret called `secret`.
pub fn fingerprint(secret: &str) -> String {
    digest(&format!("secret {secret}")).hex()[..32].into()
}

/// A secret in the configuration.
pub fn in_config(field: &str, name: &str) -> FindingRecord {
    FindingRecord {
        finding_id: digest(&format!("{field} {name}")).hex()[..16].into(),
        path: None,
        config: Some(field.into()),
        position: None,
        ..secret("", 0, "", name)
    }
}

/// A package.
pub fn package(name: &str, version: &str) -> Option<PackageRecord> {
    Some(PackageRecord { ecosystem: "npm".into(), name: name.into(), version: Some(version.into()) })
}

/// A report of the layer called `layer`.
pub fn report(layer: &str, ruleset: &str, scanned_at: i64) -> ReportRecord {
    ReportRecord {
        layer: digest(layer),
        diff_id: Some(digest(&format!("diff {layer}"))),
        ruleset: ruleset.into(),
        report: format!("report of {layer} by {ruleset}").into_bytes(),
        bytes: 5000,
        blob_bytes: 1000,
        scanned_at,
    }
}

/// A repository.
pub fn repository(name: &str) -> Repository {
    Repository { registry: "registry.test".into(), project: "team".into(), repository: name.into() }
}
