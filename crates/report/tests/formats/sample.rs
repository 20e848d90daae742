//! Reports of made-up images.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use layersift_model::{
    Allowed, BinaryPlace, BuildEvidence, BuildStep, Confidence, Digest, DocumentLocation, DocumentRef, FileAttributes,
    FileLocation, Finding, FingerprintKey, FixPatch, Gap, GapReason, ImageBase, ImageGap, ImageReport, LayerOrigin,
    LayerRef, LayerSummary, Location, Package, ReportedSecret, RuleInfo, Secret, Severity, State, Tool,
};
use layersift_report::Policy;

/// The value of every secret.
pub const VALUE: &[u8; 26] = b"tok_0123456789abcdefghij9z";

const INSTRUCTIONS: [&str; 4] =
    ["ADD rootfs.tar /", "COPY app /srv/app", "RUN npm ci && rm /root/.npmrc", "RUN make deploy"];

/// An id of a fingerprint key that is not the built-in one.
pub const OWN_KEY: &str = "fedcba9876543210";

fn rule(id: &str, title: &str, severity: Severity) -> RuleInfo {
    RuleInfo {
        id: id.into(),
        title: title.into(),
        severity,
        confidence: Confidence::High,
        what: format!("{title}, as its issuer writes it (PKCS#1)."),
        risk: "Whoever pulls the image can use it.".into(),
        fix: "Revoke it; then pass it as a build secret: RUN --mount=type=secret.".into(),
        references: vec![format!("https://docs.example.org/{id}?a=1&b=2"), "not a link".into()],
    }
}

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn layer_ref(index: usize) -> LayerRef {
    LayerRef {
        index,
        digest: Some(digest(&format!("layer {index}"))),
        diff_id: Some(digest(&format!("diff {index}"))),
        created_by: Some(INSTRUCTIONS[index].into()),
    }
}

fn step(line: u64) -> BuildStep {
    BuildStep {
        file: "deploy/Dockerfile".into(),
        line,
        end_line: line + 1,
        stage: Some("build".into()),
        base: Some("debian:13".into()),
        evidence: BuildEvidence::Provenance,
    }
}

fn file(path: &str, layer: usize) -> FileLocation {
    FileLocation {
        path: path.into(),
        inside: Vec::new(),
        views: Vec::new(),
        offset: Some(7),
        line: Some(1),
        column: Some(8),
        binary: None,
        layer: layer_ref(layer),
        state: State::Present,
        ended_by: None,
        package: None,
        as_shipped: false,
        attributes: Some(Arc::new(FileAttributes {
            entry: 4,
            size: 420,
            mode: 0o600,
            uid: Some(1000),
            gid: Some(100),
            modified_at: Some("2031-01-15T08:30:00Z".parse().unwrap()),
            layer: None,
        })),
    }
}

fn finding(id: &str, rule: &RuleInfo, location: Location) -> Finding {
    Finding {
        id: digest(id).hex()[..16].into(),
        rule: rule.clone().into(),
        severity: rule.severity,
        location,
        secret: None,
        note: None,
        related: Vec::new(),
        allowed: None,
        baseline: false,
        origin: None,
        step: None,
    }
}

fn in_file(id: &str, rule: &RuleInfo, file: FileLocation) -> Finding {
    finding(id, rule, Location::File(Box::new(file)))
}

fn secret(name: &str, masked: &str) -> Option<ReportedSecret> {
    let fingerprint = digest(&format!("fingerprint {name}")).hex()[..32].into();
    Some(ReportedSecret { masked: masked.into(), fingerprint, length: VALUE.len(), value: Some(Secret::new(*VALUE)) })
}

/// A report like that of the incident's image: every kind of place, state and judgement, and gaps. Every field of a
/// report has a value.
pub fn incident() -> ImageReport {
    let token = rule("npm.access-token", "npm access token", Severity::Critical);
    let key = rule("private-key.pem", "Private key", Severity::High);
    let map = rule("source.source-map", "Source map", Severity::Low);
    let user = rule("config.root-user", "The container runs as root", Severity::Medium);
    let chain = rule("chain.token-and-registry", "A token and the registry it is for", Severity::Critical);
    let deleted = FileLocation { state: State::Deleted, ended_by: Some(layer_ref(2)), ..file("root/.npmrc", 1) };
    let archived = FileLocation {
        inside: vec!["lib/keys.jar".into(), "server.pem".into()],
        views: vec!["base64".into()],
        ..file("srv/app/bundle.zip", 1)
    };
    let packaged = FileLocation {
        package: Some(Package { ecosystem: "npm".into(), name: "next".into(), version: Some("15.0.1".into()) }),
        as_shipped: true,
        attributes: None,
        line: None,
        column: None,
        offset: None,
        ..file("srv/app/node_modules/next/a.js.map", 1)
    };
    let binary = BinaryPlace {
        format: "elf".into(),
        section: Some(".rodata".into()),
        symbol: Some("KEY".into()),
        node_addon: false,
    };
    let in_binary = FileLocation {
        binary: Some(binary),
        line: None,
        column: None,
        offset: Some(4_096),
        state: State::Overwritten,
        ended_by: Some(layer_ref(3)),
        ..file("usr/bin/agent", 0)
    };
    let document = DocumentLocation {
        document: DocumentRef {
            kind: "provenance".into(),
            digest: Some(digest("provenance")),
            referrer: None,
            media_type: Some("application/vnd.in-toto+json".into()),
            json_path: Some("predicate.invocation.parameters.args.TOKEN".into()),
        },
        inside: Vec::new(),
        views: Vec::new(),
        line: Some(3),
        column: Some(9),
    };
    let allowed = Allowed { reason: "A key of the test suite.".into(), expires: Date::constant(2027, 1, 31) };
    let findings = vec![
        Finding {
            secret: secret("agent", "RSA private key, 2048 bits"),
            origin: Some(LayerOrigin::Base),
            ..in_file("agent", &key, in_binary)
        },
        Finding {
            secret: secret("npm", "npm_****9z"),
            origin: Some(LayerOrigin::Own),
            step: Some(step(12)),
            note: Some("hard link to root/.npmrc.bak".into()),
            ..in_file("npm", &token, deleted)
        },
        Finding {
            secret: secret("archived", "EC private key, 256 bits"),
            allowed: Some(allowed),
            ..in_file("archived", &key, archived)
        },
        Finding { severity: Severity::Info, baseline: true, ..in_file("map", &map, packaged) },
        Finding { secret: secret("npm", "npm_****9z"), ..in_file("npm again", &token, file("srv/app/.npmrc", 3)) },
        Finding {
            secret: secret("argument", "tok_****9z"),
            ..finding("argument", &token, Location::Document(Box::new(document)))
        },
        Finding { step: Some(step(20)), ..finding("user", &user, Location::Config("User".into())) },
        Finding {
            related: vec![digest("npm").hex()[..16].into()],
            note: Some("npm access token and registry.example.org".into()),
            ..finding("chain", &chain, Location::Image)
        },
    ];
    let layer = |index: usize| LayerSummary {
        index,
        digest: layer_ref(index).digest,
        diff_id: layer_ref(index).diff_id,
        media_type: Some("application/vnd.oci.image.layer.v1.tar+gzip".into()),
        created_by: layer_ref(index).created_by,
        created_at: (index != 3).then(|| Timestamp::constant(1_767_322_445 + 60 * index as i64, 0)),
        is_read: index != 3,
        entries: 1_300,
        files: 1_200,
        bytes: 5 << 20,
        stored_bytes: 2 << 20,
        whiteouts: vec!["root/.npmrc".into()],
        bytes_after_end: 512,
        origin: Some(if index == 0 { LayerOrigin::Base } else { LayerOrigin::Own }),
        step: (index > 0).then(|| step(10 + index as u64)),
    };
    let gap = |layer, gap| ImageGap { gap, layer };
    let encrypted = Gap::new(GapReason::EncryptedMember, "encrypted").at("srv/backup.zip").sized(4_096);
    ImageReport {
        target: "incident.tar".into(),
        reference: Some("registry.example.org/team/app:1.0".into()),
        manifest_digest: Some(digest("manifest")),
        config_digest: Some(digest("config")),
        platform: Some("linux/amd64".into()),
        other_platforms: vec!["linux/arm64".into()],
        notes: vec!["layer 1 has 512 bytes after the end of its archive, which runtimes ignore".into()],
        base: Some(ImageBase {
            reference: Some("docker.io/library/debian:13".into()),
            digest: Some(digest("base")),
            layers: Some(1),
            evidence: BuildEvidence::Annotation,
            is_proven: false,
        }),
        tool: Tool {
            version: "0.1.0".into(),
            ruleset: digest("rules").to_string(),
            engine: "Vectorscan 5.4.12".into(),
            reader_revision: Some(3),
            fingerprint_key: Some(FingerprintKey::default().id()),
        },
        scanned_at: Some(Timestamp::constant(1_767_400_000, 250_000_000)),
        milliseconds: Some(1_250),
        layers: (0..4).map(layer).collect(),
        findings,
        gaps: vec![gap(Some(1), encrypted), gap(Some(3), Gap::new(GapReason::MissingBlob, "the image lacks the blob"))],
        patches: vec![FixPatch {
            findings: vec!["0000000000000001".into()],
            diff: "--- a/Dockerfile\n+++ b/Dockerfile\n@@ -11 +10,0 @@\n-ARG TOKEN=tok_****9z\n@@ -13 +12 @@\n\
                   -RUN make deploy\n+RUN --mount=type=secret,id=token,env=TOKEN make deploy\n"
                .into(),
        }],
        ..ImageReport::default()
    }
}

/// The incident, judged by a policy without exceptions. The marks that the sample has stay.
pub fn judged(mut report: ImageReport) -> ImageReport {
    let marks: Vec<_> = report.findings.iter().map(|finding| (finding.allowed.clone(), finding.baseline)).collect();
    Policy::failing_on(Some(Severity::High)).judge(&mut report);
    for (finding, (allowed, baseline)) in report.findings.iter_mut().zip(marks) {
        (finding.allowed, finding.baseline) = (allowed, baseline);
    }
    if let Some(judgement) = &mut report.judgement {
        judgement.policy.baseline = Some(digest("baseline"));
        judgement.policy.digest = Some(digest("policy"));
    }
    report
}

/// The report of a scan that used a key of its own.
pub fn with_own_key(mut report: ImageReport) -> ImageReport {
    report.tool.fingerprint_key = Some(OWN_KEY.into());
    report
}

/// An image of which everything was read, and nothing found.
pub fn clean() -> ImageReport {
    let mut report =
        ImageReport { findings: Vec::new(), gaps: Vec::new(), notes: Vec::new(), patches: Vec::new(), ..incident() };
    report.layers.iter_mut().for_each(|layer| layer.is_read = true);
    judged(report)
}
