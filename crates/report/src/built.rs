//! Where something came into an image: the line of the Dockerfile, and whether it is of the base image.

use layersift_model::{BuildEvidence, BuildStep, Finding, ImageBase, ImageReport, LayerOrigin};

use crate::terminal::clean;

/// The line that brought a finding, and its origin; empty where neither is known. What only the author of the image
/// says is marked as claimed.
pub(crate) fn finding(report: &ImageReport, finding: &Finding) -> String {
    let is_base = finding.origin == Some(LayerOrigin::Base);
    let base = is_base.then(|| format!("from the base image{}", claimed(report.base.as_ref())));
    let parts: Vec<String> = finding.step.as_ref().map(step).into_iter().chain(base).collect();
    parts.join(", ")
}

/// `Dockerfile:19-20`.
fn step(step: &BuildStep) -> String {
    let BuildStep { file, line, end_line, evidence, .. } = step;
    let end = if end_line > line { format!("-{end_line}") } else { String::new() };
    let claimed = if *evidence == BuildEvidence::Option { "" } else { " (claimed)" };
    format!("{}:{line}{end}{claimed}", clean(file, 120))
}

/// What marks a layer of the base image in a list.
pub(crate) fn layer(report: &ImageReport, origin: Option<LayerOrigin>) -> String {
    match origin {
        Some(LayerOrigin::Base) => format!("base{}: ", claimed(report.base.as_ref())),
        _ => String::new(),
    }
}

/// The base image, in one line.
pub(crate) fn base(base: &ImageBase) -> String {
    let digest = base.digest.as_ref().map(ToString::to_string);
    let name =
        base.reference.as_deref().map(|name| clean(name, 200)).or(digest).unwrap_or_else(|| "another image".into());
    let layers = base.layers.map(|layers| match layers {
        1 => ", the first layer".into(),
        many => format!(", the first {many} layers"),
    });
    let claimed = if base.is_proven { String::new() } else { format!(", claimed by the {}", source(base.evidence)) };
    format!("Based on {name}{}{claimed}", layers.unwrap_or_default())
}

fn source(evidence: BuildEvidence) -> &'static str {
    match evidence {
        BuildEvidence::Option => "Dockerfile",
        BuildEvidence::Store => "store",
        BuildEvidence::Provenance => "provenance",
        BuildEvidence::Annotation => "annotations",
    }
}

fn claimed(base: Option<&ImageBase>) -> &'static str {
    if base.is_some_and(|base| base.is_proven) { "" } else { " (claimed)" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn based_on(evidence: BuildEvidence, is_proven: bool, layers: Option<usize>) -> ImageBase {
        ImageBase { reference: Some("r.example/base:1".into()), digest: None, layers, evidence, is_proven }
    }

    #[test]
    fn what_is_only_claimed_is_marked() {
        let proven = based_on(BuildEvidence::Store, true, Some(3));
        assert_eq!(base(&proven), "Based on r.example/base:1, the first 3 layers");
        let claimed = based_on(BuildEvidence::Annotation, false, None);
        assert_eq!(base(&claimed), "Based on r.example/base:1, claimed by the annotations");
        let report = |base| ImageReport { base: Some(base), ..ImageReport::default() };
        assert_eq!(layer(&report(proven), Some(LayerOrigin::Base)), "base: ");
        assert_eq!(layer(&report(claimed.clone()), Some(LayerOrigin::Base)), "base (claimed): ");
        assert_eq!(layer(&report(claimed), Some(LayerOrigin::Own)), "");
    }

    #[test]
    fn a_step_is_its_file_and_lines() {
        let step_of = |evidence, end_line| {
            step(&BuildStep { file: "Dockerfile".into(), line: 19, end_line, stage: None, base: None, evidence })
        };
        assert_eq!(step_of(BuildEvidence::Option, 19), "Dockerfile:19");
        assert_eq!(step_of(BuildEvidence::Provenance, 20), "Dockerfile:19-20 (claimed)");
    }
}
