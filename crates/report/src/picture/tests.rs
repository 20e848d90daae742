//! Tests of the picture: where lines begin and end, and that it stays small.

use std::sync::Arc;

use layersift_model::{Confidence, FileLocation, Finding, LayerRef, Location, ReportedSecret, RuleInfo, State};

use super::*;

fn layers(count: usize) -> Vec<LayerSummary> {
    let layer = |index| LayerSummary {
        index,
        created_by: Some(format!("RUN step {index}")),
        is_read: true,
        stored_bytes: 1 << 20,
        ..LayerSummary::default()
    };
    (0..count).map(layer).collect()
}

fn secret(number: usize, rule: &str, from: usize, ended_by: Option<(usize, State)>) -> Finding {
    let rule = RuleInfo {
        id: rule.into(),
        title: format!("Title of {rule}"),
        severity: Severity::High,
        confidence: Confidence::High,
        what: String::new(),
        risk: String::new(),
        fix: String::new(),
        references: Vec::new(),
    };
    let layer = |index| LayerRef { index, digest: None, diff_id: None, created_by: None };
    Finding {
        id: String::new(),
        severity: rule.severity,
        rule: Arc::new(rule),
        location: Location::File(Box::new(FileLocation {
            path: "app/key".into(),
            inside: Vec::new(),
            views: Vec::new(),
            offset: None,
            line: None,
            column: None,
            binary: None,
            layer: layer(from),
            state: ended_by.map_or(State::Present, |(_, state)| state),
            ended_by: ended_by.map(|(index, _)| layer(index)),
            package: None,
            as_shipped: false,
            attributes: None,
        })),
        secret: Some(ReportedSecret {
            masked: "key_****".into(),
            fingerprint: format!("{number:032x}"),
            length: 20,
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

fn drawn(report: &ImageReport) -> String {
    svg(report, &PictureOptions::default())
}

#[test]
fn a_line_goes_from_where_a_secret_comes_to_where_it_ends() {
    let findings = vec![
        secret(1, "a", 0, Some((2, State::Deleted))),
        secret(2, "a", 1, Some((2, State::Overwritten))),
        secret(3, "a", 1, None),
    ];
    let report = ImageReport { layers: layers(3), findings, ..ImageReport::default() };
    // The rows are those of layers 2, 1 and 0, from top to bottom.
    let middles = [2, 1, 0].map(|row| HEAD + 46 * row + 23);
    let picture = drawn(&report);
    let lines: Vec<&str> = picture.lines().filter(|line| line.starts_with("<line")).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].contains(&format!("y1=\"{}\"", middles[1])) && lines[0].contains("y2=\"30\""), "{}", lines[0]);
    let ends = [format!("y1=\"{}\"", middles[1]), format!("y2=\"{}\"", middles[2])];
    assert!(ends.iter().all(|end| lines[1].contains(end)), "overwritten, from layer 1 to 2: {}", lines[1]);
    let ends = [format!("y1=\"{}\"", middles[0]), format!("y2=\"{}\"", middles[2])];
    assert!(ends.iter().all(|end| lines[2].contains(end)), "deleted, from layer 0 to 2: {}", lines[2]);
    assert!(picture.contains("3: Title of a, key_**** (high): comes with layer 0, deleted in layer 2."));
    assert!(picture.contains("1 in the final image, 1 overwritten and 1 deleted by a later layer"));
}

#[test]
fn what_ends_in_its_own_layer_has_a_line() {
    let findings = vec![secret(1, "a", 0, Some((0, State::Deleted)))];
    let picture = drawn(&ImageReport { layers: layers(1), findings, ..ImageReport::default() });
    let line = picture.lines().find(|line| line.starts_with("<line")).unwrap();
    assert!(
        line.contains(&format!("y1=\"{}\"", HEAD + 34)) && line.contains(&format!("y2=\"{}\"", HEAD + 6)),
        "{line}"
    );
}

#[test]
fn many_secrets_share_lines() {
    let lanes = |rules: usize| {
        let secret = |number: usize| {
            let ended_by = (number.is_multiple_of(2)).then_some((number % 20 + 1, State::Deleted));
            secret(number, &format!("rule{}", number % rules), number % 20, ended_by)
        };
        let report =
            ImageReport { layers: layers(24), findings: (0..2_000).map(secret).collect(), ..ImageReport::default() };
        drawn(&report).matches("<g class=\"lane").count()
    };
    assert_eq!(lanes(1), 20, "one rule: by when they come and go");
    assert_eq!(lanes(7), 14, "seven rules: by rule and state");
    assert_eq!(lanes(29), 29, "by rule");
    assert_eq!(lanes(400), 30, "the last has the rest");
}

#[test]
fn quiet_layers_share_a_row() {
    let findings = vec![secret(1, "a", 50, None)];
    let picture = drawn(&ImageReport { layers: layers(100), findings, ..ImageReport::default() });
    assert!(picture.contains("0–49: nothing found in these layers") && picture.contains("RUN step 50"));
    assert_eq!(picture.matches("class=\"row\"").count(), 3);
    let findings = (0..5_000).map(|index| secret(index, "a", index, None)).collect();
    let picture = drawn(&ImageReport { layers: layers(5_000), findings, ..ImageReport::default() });
    assert!(picture.contains("100–4899: too many layers to draw"));
}

#[test]
fn the_base_is_told_apart() {
    let mut report = ImageReport { layers: layers(3), ..ImageReport::default() };
    assert!(!drawn(&report).contains("boundary"));
    for (layer, origin) in report.layers.iter_mut().zip([LayerOrigin::Base, LayerOrigin::Own, LayerOrigin::Own]) {
        layer.origin = Some(origin);
    }
    let picture = drawn(&report);
    assert!(picture.contains("boundary") && picture.contains("base, claimed") && picture.contains("own, claimed"));
}
