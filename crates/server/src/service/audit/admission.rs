//! Entries about images that somebody wanted to run.

use layersift_audit::{Entry, Kind, Verdict};
use layersift_model::Digest;
use layersift_source::registry::Reference;

use super::entry;
use crate::admission::{AdmissionPolicy, Decision, Effect};

/// What was asked, besides the images.
pub(crate) struct Asked<'a> {
    /// The envelope that it was asked in: `kubernetes`, `gatekeeper` or `plain`.
    pub(crate) envelope: &'static str,
    /// The name of whoever asked.
    pub(crate) client: &'a str,
    /// The policy that it was decided by.
    pub(crate) policy: &'a AdmissionPolicy,
    /// Whether what is denied is let in with a warning.
    pub(crate) is_audit: bool,
    /// More about the question: the names of fields with their values, which may be empty.
    pub(crate) more: &'a [(&'static str, &'a str)],
}

impl Asked<'_> {
    /// An entry for each image with its namespace and the decision. A question without images has one that says so: it
    /// is let in as well.
    pub(crate) fn entries<'d>(&self, decided: impl Iterator<Item = (Option<&'d str>, &'d Decision)>) -> Vec<Entry> {
        let entries: Vec<Entry> = decided.map(|(namespace, decision)| self.about(namespace, decision)).collect();
        if entries.is_empty() { vec![self.without_image("pass", Effect::Allow, "no-images")] } else { entries }
    }

    /// The entry for a question that cannot be judged.
    pub(crate) fn refusal(&self) -> Entry {
        self.without_image("unreadable", Effect::Deny, "unreadable-question")
    }

    fn about(&self, namespace: Option<&str>, decision: &Decision) -> Entry {
        let reasons = decision.reasons.iter().map(|reason| reason.rule.clone());
        let mut entry = self.entry(decision.outcome.label(), decision.effect, reasons.collect());
        entry.what.insert("image".into(), image(&decision.image));
        let digest = decision.digest.as_ref().map(ToString::to_string);
        entry.what.extend(digest.map(|digest| ("digest".into(), digest)));
        entry.what.extend(namespace.map(|namespace| ("namespace".into(), namespace.into())));
        if let Some(attestation) = decision.basis.as_ref().and_then(|basis| basis.attestation.as_ref()) {
            entry.what.insert("attestation-key".into(), attestation.key.clone());
            entry.what.insert("attestation-type".into(), attestation.predicate_type.clone());
            entry.what.insert("attested-at".into(), attestation.attested_at.to_string());
        }
        entry.ruleset = decision.basis.as_ref().map(|basis| basis.ruleset.clone()).unwrap_or_default();
        entry
    }

    fn without_image(&self, outcome: &str, effect: Effect, reason: &str) -> Entry {
        self.entry(outcome, effect, vec![reason.into()])
    }

    fn entry(&self, outcome: &str, effect: Effect, mut reasons: Vec<String>) -> Entry {
        reasons.dedup();
        let mut what = vec![("envelope", self.envelope), ("mode", if self.is_audit { "audit" } else { "enforce" })];
        what.extend_from_slice(self.more);
        let effect = if self.is_audit { effect.min(Effect::Warn) } else { effect };
        let verdict = Verdict { outcome: outcome.into(), effect: effect.name().into(), reasons };
        let policy = self.policy.digest().to_string();
        Entry { policy, verdict, ..entry(Kind::Admission, self.client, &what) }
    }
}

/// The image as it was asked for. What is not a reference may be anything, such as a URL with a password: its digest
/// tells whether it was a text that somebody has.
fn image(text: &str) -> String {
    match text.parse::<Reference>() {
        Ok(_) => text.into(),
        Err(_) => format!("not a reference: {}", Digest::of(text.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Outcome;

    fn asked(policy: &AdmissionPolicy, is_audit: bool) -> Asked<'_> {
        Asked {
            envelope: "plain",
            client: "token 1 ci",
            policy,
            is_audit,
            more: &[("operation", "create"), ("uid", "")],
        }
    }

    #[test]
    fn an_entry_says_who_asked_what_and_what_was_answered() {
        let policy = AdmissionPolicy::default();
        let decision = Decision::without_report("app:1", Some(Digest::of(b"app")), Outcome::Fail, "made up");
        let [entry] = &asked(&policy, false).entries([(Some("shop"), &decision)].into_iter())[..] else { panic!() };
        assert_eq!(
            (&entry.who[..], &entry.verdict.outcome[..], &entry.verdict.effect[..]),
            ("token 1 ci", "fail", "deny")
        );
        let digest = Digest::of(b"app").to_string();
        let what = [
            ("digest", &digest[..]),
            ("envelope", "plain"),
            ("image", "app:1"),
            ("mode", "enforce"),
            ("namespace", "shop"),
            ("operation", "create"),
        ];
        assert_eq!(entry.what, what.map(|(name, value)| (name.to_string(), value.to_string())).into());
        let entries = asked(&policy, true).entries([(None, &decision)].into_iter());
        assert_eq!(entries[0].verdict.effect, "warn", "where it is only told, it is let in");
        let none = asked(&policy, false).entries([].into_iter());
        assert_eq!(
            (&none[0].verdict.effect[..], &none[0].verdict.reasons[..]),
            ("allow", &["no-images".to_string()][..])
        );
    }

    #[test]
    fn what_is_not_a_reference_is_not_quoted() {
        let text = "https://user:made-up-password@registry.example/app";
        assert!(!image(text).contains("password"));
        assert_eq!(image(text), format!("not a reference: {}", Digest::of(text.as_bytes())));
    }
}
