//! The service's answer, read by the fields that count here. Only an answer that clearly allows the digest allows it.

use std::time::Duration;

use layersift_model::{Digest, parse};
use serde::Deserialize;

use super::reason::{Judgement, clean, shortened};

/// Reasons that are named; the rest is counted.
const MOST_REASONS: usize = 5;

/// The most bytes of one field of a reason.
const MOST_BYTES: usize = 160;

/// The answer to a question about images.
#[derive(Debug, Deserialize)]
struct Answer {
    allowed: bool,
    decisions: Vec<Decision>,
}

#[derive(Debug, Deserialize)]
struct Decision {
    digest: Option<String>,
    #[serde(default)]
    outcome: String,
    unreadable: Option<String>,
    effect: Effect,
    #[serde(default)]
    reasons: Vec<Reason>,
    reasons_total: Option<u64>,
    retry_after: Option<u64>,
}

/// The worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Effect {
    Allow,
    Warn,
    Wait,
    Deny,
    /// An effect of a later version of the service.
    #[serde(other)]
    Other,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reason {
    rule: String,
    title: String,
    severity: Option<String>,
    layer: Option<u64>,
    instruction: Option<String>,
    place: Option<String>,
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is decided.
    Judged(Judgement),
    /// Nothing is known yet. Asking again after the time may help; if there is no time left, it is denied.
    Wait(Duration, Judgement),
}

/// What the answer `body` says of `digest`.
pub(super) fn judge(body: &[u8], digest: &Digest) -> Next {
    let denied = |why: &str| Next::Judged(Judgement::deny(why));
    let answer: Answer = match parse::json(body) {
        Ok(answer) => answer,
        Err(error) => return denied(&format!("the service's answer is not understood: {error}")),
    };
    let is_asked = |decision: &&Decision| decision.digest.as_deref() == Some(&digest.to_string());
    let worst = answer.decisions.iter().max_by_key(|decision| decision.effect);
    let (Some(_), Some(worst)) = (answer.decisions.iter().find(is_asked), worst) else {
        return denied("the service's answer has no decision for this digest");
    };
    let why = worst.words();
    match worst.effect {
        Effect::Allow | Effect::Warn if !answer.allowed => denied("the service denied the image without a reason"),
        Effect::Allow => Next::Judged(Judgement::allow(&why)),
        Effect::Warn => Next::Judged(Judgement::allow(&format!("with a warning: {why}"))),
        Effect::Wait => Next::Wait(Duration::from_secs(worst.retry_after.unwrap_or(1).max(1)), Judgement::deny(&why)),
        Effect::Deny => denied(&why),
        Effect::Other => denied("the service's answer has an unknown effect"),
    }
}

impl Decision {
    /// The outcome and the first reasons.
    fn words(&self) -> String {
        let outcome = match (&self.outcome[..], &self.unreadable) {
            ("pass", _) => "nothing fails".into(),
            ("fail", _) => "something fails".into(),
            ("incomplete", _) => "not everything could be read".into(),
            ("unknown", _) => "not known yet, the image is being scanned; try again".into(),
            ("unreadable", Some(why)) => format!("cannot be read ({})", field(why)),
            ("", _) => "no outcome".into(),
            (other, _) => field(other),
        };
        let named: Vec<String> = self.reasons.iter().take(MOST_REASONS).map(Reason::words).collect();
        let total = self.reasons_total.unwrap_or_default().max(self.reasons.len() as u64);
        let more = total.saturating_sub(named.len() as u64);
        let mut text = outcome;
        if !named.is_empty() {
            text = format!("{text}: {}", named.join("; "));
        }
        if more > 0 {
            text = format!("{text}; and {more} more");
        }
        text
    }
}

impl Reason {
    fn words(&self) -> String {
        let mut text = field(&self.title);
        if let Some(severity) = &self.severity {
            text = format!("{}: {text}", field(severity));
        }
        if !self.rule.is_empty() {
            text = format!("{text} [{}]", field(&self.rule));
        }
        if let Some(place) = &self.place {
            text = format!("{text} in {}", field(place));
        }
        if let Some(layer) = self.layer {
            text = format!("{text}, layer {layer}");
        }
        if let Some(instruction) = &self.instruction {
            text = format!("{text} ({})", field(instruction));
        }
        text
    }
}

fn field(text: &str) -> String {
    shortened(&clean(text), MOST_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judged(allowed: bool, effect: &str, outcome: &str, digest: &Digest) -> Next {
        let unreadable = (outcome == "unreadable").then_some("not-found");
        let decision = json!({"image": "a", "digest": digest, "outcome": outcome, "unreadable": unreadable,
            "effect": effect});
        let body = json!({"allowed": allowed, "decisions": [decision]}).to_string();
        judge(body.as_bytes(), &Digest::of(b"image"))
    }

    fn is_allowed(next: &Next) -> bool {
        matches!(next, Next::Judged(judgement) if judgement.is_allowed)
    }

    #[test]
    fn only_a_clear_answer_allows() {
        let digest = Digest::of(b"image");
        assert!(is_allowed(&judged(true, "allow", "pass", &digest)));
        assert!(is_allowed(&judged(true, "warn", "fail", &digest)));
        for (allowed, effect) in [(false, "allow"), (false, "warn"), (true, "deny"), (true, "wait"), (true, "shrug")] {
            assert!(!is_allowed(&judged(allowed, effect, "pass", &digest)), "{allowed} {effect}");
        }
        assert!(!is_allowed(&judged(true, "allow", "pass", &Digest::of(b"other"))));
        for body in ["", "{}", "[]", "null", "true", r#"{"allowed":true}"#, r#"{"allowed":true,"decisions":[]}"#] {
            assert!(!is_allowed(&judge(body.as_bytes(), &digest)), "{body}");
        }
    }

    #[test]
    fn one_denied_image_denies_all() {
        let digest = Digest::of(b"image");
        let decision = |digest: &Digest, effect: &str| json!({"digest": digest, "effect": effect, "outcome": "pass"});
        let decisions = [decision(&digest, "allow"), decision(&Digest::of(b"other"), "deny")];
        let body = json!({"allowed": true, "decisions": decisions}).to_string();
        assert!(!is_allowed(&judge(body.as_bytes(), &digest)));
    }

    #[test]
    fn reasons_name_rule_layer_and_instruction() {
        let digest = Digest::of(b"image");
        let reason = json!({"rule": "github.token", "title": "GitHub\n token", "severity": "critical", "layer": 2,
            "instruction": "COPY .env /app", "place": "app/.env", "platform": null});
        let decision = json!({"digest": digest, "effect": "deny", "outcome": "fail", "reasons": [reason],
            "reasons_total": 7});
        let body = json!({"allowed": false, "decisions": [decision]}).to_string();
        let Next::Judged(judgement) = judge(body.as_bytes(), &digest) else { panic!("it waits") };
        assert_eq!(
            judgement.text(),
            "layersift: denied: something fails: critical: GitHub token [github.token] in app/.env, layer 2 \
             (COPY .env /app); and 6 more"
        );
        let unreadable = judged(false, "deny", "unreadable", &digest);
        assert_eq!(unreadable, Next::Judged(Judgement::deny("cannot be read (not-found)")));
    }
}
