//! Chains: combinations of findings that are worse together, such as a private key in an image that also exposes the
//! port which the key protects.

use std::sync::Arc;

use layersift_model::{Finding, Location, RuleInfo, Severity};
use layersift_rules::ChainRule;

/// The chain rules of a rule set.
pub struct Chains {
    rules: Vec<(ChainRule, Arc<RuleInfo>)>,
}

impl Chains {
    /// Prepares `rules`.
    pub fn new(rules: Vec<ChainRule>) -> Chains {
        Chains { rules: rules.into_iter().map(|rule| (rule.info(), rule)).map(|(info, rule)| (rule, info)).collect() }
    }

    /// The chains among `findings`. `roles` returns the roles of a rule by its id.
    pub fn find(&self, findings: &[Finding], roles: impl Fn(&str) -> Vec<String>) -> Vec<Finding> {
        self.rules.iter().filter_map(|(rule, info)| chain(rule, info, findings, &roles)).collect()
    }
}

fn chain(
    rule: &ChainRule,
    info: &Arc<RuleInfo>,
    findings: &[Finding],
    roles: &impl Fn(&str) -> Vec<String>,
) -> Option<Finding> {
    let is_key = |finding: &&Finding| {
        finding.is_present()
            && finding.rule.severity > Severity::Info
            && rule.key.iter().any(|wanted| finding.rule.is_named_by(wanted))
    };
    let exposes = |finding: &&Finding| {
        matches!(finding.location, Location::Config(_))
            && roles(&finding.rule.id).iter().any(|role| rule.exposure.contains(role))
    };
    let keys: Vec<&Finding> = findings.iter().filter(is_key).collect();
    let exposures: Vec<&Finding> = findings.iter().filter(exposes).collect();
    let (key, exposure) = (keys.first()?, exposures.first()?);
    let note = format!("{} with {}", place(key), place(exposure));
    Some(Finding {
        id: String::new(),
        rule: Arc::clone(info),
        location: Location::Image,
        secret: None,
        severity: rule.severity,
        allowed: None,
        baseline: false,
        origin: None,
        step: None,
        note: Some(note),
        related: keys.iter().chain(&exposures).map(|finding| finding.id.clone()).collect(),
    })
}

fn place(finding: &Finding) -> String {
    match &finding.location {
        Location::File(file) => format!("{} ({})", file.path, finding.rule.id),
        Location::Config(field) => format!("{field} ({})", finding.rule.id),
        Location::Document(document) => format!("{} ({})", document.document.kind, finding.rule.id),
        Location::Image => finding.rule.id.clone(),
    }
}
