//! Admission rules: what happens to an image for a place, by what is known about it.
//!
//! ```toml
//! [admission]
//! fail-on = "high"            # findings of this severity and above deny
//! on-unknown = "wait"         # wait, deny, warn or allow, while an image is read
//! on-incomplete = "deny"      # deny, warn or allow what could not be read completely
//! on-unreadable = "deny"
//! require-digest = false      # deny an image that is named by a tag, which may move
//! max-report-age = "7d"       # how long a report of older rules counts while rescans run
//! attestations = "ignore"     # ignore, accept or until-scanned: whether attestations stand in for a scan
//! allowed-digests = []        # images that are let in without a look
//! base-images = []            # digests of images whose findings do not deny images that begin with their layers
//!
//! [[admission.rule]]                 # the first that matches decides; what it does not say is as above
//! namespaces = ["dev-*"]
//! images = ["registry.example.org/*"]
//! mode = "audit"              # enforce or audit
//! ```

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use layersift_model::{Digest, Severity};
use layersift_report::{FailOn, Policy};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize, Serializer};
use toml::Spanned;

use super::attestation::AttestationUse;
use super::decision::{Decision, Effect, Outcome, Reason};
use crate::span::Span;

/// The generation of the next policy.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Rules, in the order in which they are tried, and what holds where none matches.
#[derive(Clone, Debug, Default)]
pub struct AdmissionPolicy {
    rules: Vec<(Scope, Terms)>,
    otherwise: Terms,
    allowed: HashSet<Digest>,
    bases: Vec<Digest>,
    /// Tells policies apart: a decision under one is none under another.
    generation: u64,
    digest: String,
}

/// What holds for an image in a place.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Which rule they are of, from 1; 0 is what holds where no rule matches.
    pub number: usize,
    /// Whether a denial is only told.
    pub is_audit: bool,
    /// Which findings deny.
    pub findings: Policy,
    /// What happens to an image that could not be read completely.
    pub on_incomplete: Effect,
    /// What happens to an image that cannot be read.
    pub on_unreadable: Effect,
    /// What happens to an image of which nothing is known yet.
    pub on_unknown: Effect,
    /// Whether an image must be named by its digest.
    pub require_digest: bool,
    /// How long a report of older rules counts.
    pub max_report_age: Duration,
    /// Whether attestations stand in for a scan.
    pub attestations: AttestationUse,
}

/// Where a rule holds.
#[derive(Clone, Debug)]
struct Scope {
    namespaces: Option<GlobSet>,
    images: Option<GlobSet>,
}

/// Why a table is not a set of rules.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidTable {
    /// Where it is wrong: bytes from the beginning of the document.
    pub offset: usize,
    /// What is wrong.
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Enforce,
    Audit,
}

/// What a file may say of each place. `None` is as for all places.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Values {
    mode: Option<Mode>,
    #[serde(serialize_with = "fail_on_name")]
    fail_on: Option<FailOn>,
    on_incomplete: Option<Effect>,
    on_unreadable: Option<Effect>,
    on_unknown: Option<Effect>,
    require_digest: Option<bool>,
    max_report_age: Option<String>,
    // Policies that do not say it keep the digest that they had.
    #[serde(skip_serializing_if = "Option::is_none")]
    attestations: Option<AttestationUse>,
}

/// Admission rules as they are written, the table `[admission]` of the service's settings.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AdmissionTable {
    #[serde(flatten)]
    values: Values,
    #[serde(default)]
    allowed_digests: Vec<Spanned<String>>,
    #[serde(default)]
    base_images: Vec<Spanned<String>>,
    #[serde(default)]
    rule: Vec<Spanned<RuleTable>>,
    /// Flattened tables take any field: these are none of theirs.
    #[serde(flatten, skip_serializing)]
    unknown: BTreeMap<String, IgnoredAny>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
struct RuleTable {
    namespaces: Option<Vec<String>>,
    images: Option<Vec<String>>,
    #[serde(flatten)]
    values: Values,
    #[serde(flatten, skip_serializing)]
    unknown: BTreeMap<String, IgnoredAny>,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            number: 0,
            is_audit: false,
            findings: Policy::default(),
            on_incomplete: Effect::Deny,
            on_unreadable: Effect::Deny,
            // A denial that asks to come again.
            on_unknown: Effect::Wait,
            require_digest: false,
            max_report_age: Duration::from_secs(7 * 86_400),
            attestations: AttestationUse::Ignore,
        }
    }
}

impl AdmissionTable {
    /// The policy that the table describes. `findings` decides which findings deny, where a rule does not say.
    ///
    /// # Errors
    /// For a value, a pattern, a digest or a field that is invalid.
    pub fn policy(&self, findings: &Policy) -> Result<AdmissionPolicy, InvalidTable> {
        let at = |offset: usize| move |reason: String| InvalidTable { offset, reason };
        refuse_unknown(&self.unknown).map_err(at(0))?;
        let base = Terms { findings: findings.clone(), ..Terms::default() };
        let otherwise = base.with(&self.values).map_err(at(0))?;
        let mut rules = Vec::with_capacity(self.rule.len());
        for (index, rule) in self.rule.iter().enumerate() {
            let failed = at(rule.span().start);
            let rule = rule.get_ref();
            refuse_unknown(&rule.unknown).map_err(failed)?;
            let scope = Scope {
                namespaces: rule.namespaces.as_deref().map(globs).transpose().map_err(failed)?,
                images: rule.images.as_deref().map(globs).transpose().map_err(failed)?,
            };
            let terms = otherwise.with(&rule.values).map_err(failed)?;
            rules.push((scope, Terms { number: index + 1, ..terms }));
        }
        let parse = |digest: &Spanned<String>| -> Result<Digest, InvalidTable> {
            digest.get_ref().parse().map_err(|error| at(digest.span().start)(format!("{error}")))
        };
        let allowed = self.allowed_digests.iter().map(parse).collect::<Result<_, _>>()?;
        let bases = self.base_images.iter().map(parse).collect::<Result<_, _>>()?;
        let digest = self.digest(findings).map_err(|error| at(0)(error.to_string()))?;
        let generation = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(AdmissionPolicy { rules, otherwise, allowed, bases, generation, digest })
    }

    /// The digest of these rules together with the policy file.
    fn digest(&self, findings: &Policy) -> serde_json::Result<String> {
        let file = findings.digest.as_ref().map(ToString::to_string);
        #[expect(clippy::disallowed_methods, reason = "only its digest is kept, which is not to change")]
        let text = serde_json::to_vec(&serde_json::json!({ "admission": self, "policy": file }))?;
        Ok(Digest::of(&text).to_string())
    }
}

impl AdmissionPolicy {
    /// What holds for an image in a namespace. An image in no namespace is matched by rules that name none. `names` are
    /// the names of the image, such as with and without its tag: a rule holds if it matches one of them.
    pub fn terms(&self, names: &[&str], namespace: Option<&str>) -> &Terms {
        let matches = |scope: &Scope| {
            let in_namespace = |globs: &GlobSet| namespace.is_some_and(|name| globs.is_match(name));
            let is_image = |globs: &GlobSet| names.iter().any(|name| globs.is_match(name));
            scope.namespaces.as_ref().is_none_or(in_namespace) && scope.images.as_ref().is_none_or(is_image)
        };
        self.rules.iter().find(|(scope, _)| matches(scope)).map_or(&self.otherwise, |(_, terms)| terms)
    }

    /// A number that no other policy of this process has.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What the policy is known by in the log of decisions: the SHA-256 of its rules and of the policy file's digest.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether what is denied is let in with a warning wherever it is: where a place is not known, it may be any.
    pub fn is_audit_everywhere(&self) -> bool {
        self.otherwise.is_audit && self.rules.iter().all(|(_, terms)| terms.is_audit)
    }

    /// Whether attestations stand in for a scan anywhere.
    pub fn takes_attestations(&self) -> bool {
        let takes = |terms: &Terms| terms.attestations != AttestationUse::Ignore;
        takes(&self.otherwise) || self.rules.iter().any(|(_, terms)| takes(terms))
    }

    /// Images whose findings do not deny images that begin with their layers.
    pub fn bases(&self) -> &[Digest] {
        &self.bases
    }

    /// Whether an image is let in without a look.
    pub fn is_allowed(&self, digest: &Digest) -> bool {
        self.allowed.contains(digest)
    }
}

impl Terms {
    fn with(&self, values: &Values) -> Result<Terms, String> {
        let mut terms = self.clone();
        if let Some(mode) = values.mode {
            terms.is_audit = mode == Mode::Audit;
        }
        if let Some(FailOn(limit)) = values.fail_on {
            terms.findings.fail_on = limit;
        }
        if values.on_incomplete == Some(Effect::Wait) || values.on_unreadable == Some(Effect::Wait) {
            return Err("only on-unknown may be `wait`: expected deny, warn or allow".into());
        }
        terms.on_incomplete = values.on_incomplete.unwrap_or(terms.on_incomplete);
        terms.on_unreadable = values.on_unreadable.unwrap_or(terms.on_unreadable);
        terms.on_unknown = values.on_unknown.unwrap_or(terms.on_unknown);
        terms.attestations = values.attestations.unwrap_or(terms.attestations);
        terms.require_digest = values.require_digest.unwrap_or(terms.require_digest);
        if let Some(age) = &values.max_report_age {
            terms.max_report_age = age.parse::<Span>()?.into();
        }
        Ok(terms)
    }

    /// Sets what becomes of a decision. `is_by_digest` tells whether the image was named by its digest.
    pub fn apply(&self, decision: &mut Decision, is_by_digest: bool) {
        decision.effect = match decision.outcome {
            Outcome::Pass => Effect::Allow,
            Outcome::Fail => Effect::Deny,
            Outcome::Incomplete => self.on_incomplete,
            Outcome::Unreadable(_) => self.on_unreadable,
            Outcome::Unknown => self.on_unknown,
        };
        if self.require_digest && !is_by_digest {
            decision.effect = Effect::Deny;
            let reason =
                Reason::of_words("require-digest", "the image must be named by its digest, as its tag may move");
            decision.reasons.insert(0, reason);
            decision.reasons_total += 1;
        }
    }
}

fn fail_on_name<S: Serializer>(limit: &Option<FailOn>, serializer: S) -> Result<S::Ok, S::Error> {
    limit.map(|FailOn(limit)| limit.map_or("none", Severity::name)).serialize(serializer)
}

fn refuse_unknown(fields: &BTreeMap<String, IgnoredAny>) -> Result<(), String> {
    match fields.keys().next() {
        Some(field) => Err(format!("unknown field `{field}`")),
        None => Ok(()),
    }
}

fn globs(texts: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        let glob = GlobBuilder::new(text).literal_separator(false).build();
        set.add(glob.map_err(|error| format!("invalid pattern `{text}`: {}", error.kind()))?);
    }
    set.build().map_err(|error| error.kind().to_string())
}

#[cfg(test)]
mod tests {
    use super::super::decision::Unreadable;
    use super::*;

    fn parse(text: &str) -> Result<AdmissionPolicy, String> {
        let table: AdmissionTable = layersift_model::parse::toml(text).map_err(|error| error.to_string())?;
        table.policy(&Policy::default()).map_err(|error| format!("at {}: {error}", error.offset))
    }

    fn effect(terms: &Terms, outcome: Outcome) -> Effect {
        let mut decision = Decision::without_report("app", None, outcome, "made up");
        terms.apply(&mut decision, true);
        decision.effect
    }

    #[test]
    fn whatever_is_not_known_to_pass_is_denied_by_default() {
        let terms = Terms::default();
        for outcome in [
            Outcome::Incomplete,
            Outcome::Fail,
            Outcome::Unreadable(Unreadable::Unauthorized),
            Outcome::Unreadable(Unreadable::NotFound),
        ] {
            assert_eq!(effect(&terms, outcome), Effect::Deny, "{outcome:?}");
        }
        assert_eq!(effect(&terms, Outcome::Unknown), Effect::Wait, "a denial that asks to come again");
        assert_eq!(effect(&terms, Outcome::Pass), Effect::Allow);
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = parse(
            "on-unknown = 'wait'\nfail-on = 'critical'\n[[rule]]\nnamespaces = ['dev-*']\nmode = 'audit'\n\
             on-incomplete = 'warn'\n[[rule]]\nimages = ['registry.example/*']\nrequire-digest = true\n",
        )
        .unwrap();
        let dev = policy.terms(&["registry.example/app"], Some("dev-a"));
        assert!(dev.is_audit && !dev.require_digest);
        assert_eq!((effect(dev, Outcome::Incomplete), effect(dev, Outcome::Unknown)), (Effect::Warn, Effect::Wait));
        let own = policy.terms(&["app", "registry.example/team/app"], None);
        assert!(!own.is_audit && own.require_digest);
        let other = policy.terms(&["docker.io/library/app"], Some("prod"));
        assert!(!other.require_digest && other.findings.fail_on == Some(layersift_model::Severity::Critical));
    }

    #[test]
    fn a_tag_is_denied_where_a_digest_is_required() {
        let terms = Terms { require_digest: true, ..Terms::default() };
        let mut decision = Decision::without_report("app:1", None, Outcome::Pass, "made up");
        terms.apply(&mut decision, false);
        assert_eq!((decision.effect, &decision.reasons[0].rule[..]), (Effect::Deny, "require-digest"));
    }

    #[test]
    fn each_policy_has_a_digest_of_its_own() {
        let digest = |text: &str| parse(text).unwrap().digest().to_string();
        let plain = digest("");
        assert_eq!(plain, digest(""));
        let texts = ["fail-on = 'none'", "fail-on = 'low'", "mode = 'audit'", "[[rule]]\nmode = 'audit'"];
        let digests: HashSet<String> = texts.into_iter().map(digest).chain([plain.clone()]).collect();
        assert_eq!(digests.len(), 5, "{digests:?}");
        let findings = Policy { digest: Some(Digest::of(b"policy")), ..Policy::default() };
        assert_ne!(AdmissionTable::default().policy(&findings).unwrap().digest(), plain);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (text, expected) in [
            ("on-unreadable = 'wait'", "only on-unknown may be `wait`"),
            ("\n[[rule]]\nimages = ['[']", "at 1: invalid pattern `[`"),
            ("\n\nallowed-digests = ['sha256:x']", "at 21: invalid digest"),
            ("max-report-age = '7w'", "invalid duration `7w`"),
            ("on-unknown = 'maybe'", "unknown variant, expected one of"),
            ("require-digets = true", "at 0: unknown field `require-digets`"),
            ("[[rule]]\nmod = 'audit'", "at 0: unknown field `mod`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let digest = Digest::of(b"pause");
        assert!(parse(&format!("allowed-digests = ['{digest}']")).unwrap().is_allowed(&digest));
    }
}
