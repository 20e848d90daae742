//! What a client may send and get.

use layersift_model::{Confidence, RuleInfo, Severity};

use crate::conversation::{Kind, Turn};

/// What happens to a body because of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// It is only reported.
    Report,
    /// The secret is masked in a copy.
    Mask,
    /// The body is denied.
    Deny,
}

impl Action {
    /// The name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Action::Report => "report",
            Action::Mask => "mask",
            Action::Deny => "deny",
        }
    }
}

/// What a client may send and get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The lowest severity that denies what is new; `None` denies nothing for a finding.
    pub deny: Option<Severity>,
    /// The lowest severity that is masked where it does not deny; `None` masks only what denies, in the history.
    pub mask: Option<Severity>,
    /// The lowest confidence of a rule that counts. Findings of others are reported.
    pub confidence: Confidence,
    /// Ids of rules whose findings are only reported, or prefixes of ids that end in `.`.
    pub allowed_rules: Vec<String>,
    /// The largest size in tokens, as [`Conversation::tokens`](crate::Conversation::tokens) estimates it.
    pub max_tokens: Option<u64>,
    /// The largest size of a body in bytes.
    pub max_bytes: usize,
    /// What happens if something was not scanned: because of a limit, because it is damaged, or because it is written
    /// as token numbers.
    pub incomplete: Action,
}

impl Default for Policy {
    /// Denies from `high` on, masks from `medium` on.
    fn default() -> Policy {
        Policy {
            deny: Some(Severity::High),
            mask: Some(Severity::Medium),
            confidence: Confidence::Medium,
            allowed_rules: Vec::new(),
            max_tokens: None,
            max_bytes: 8 << 20,
            incomplete: Action::Deny,
        }
    }
}

impl Policy {
    /// What happens because of something that was not scanned, and so cannot be masked.
    pub(crate) fn unscanned(&self) -> Action {
        match self.incomplete {
            Action::Report => Action::Report,
            Action::Mask | Action::Deny => Action::Deny,
        }
    }

    /// The same in a part of this kind. A command that does not deny is left as it is in a call of a tool, which would
    /// do another thing with a mask in it.
    pub(crate) fn action_in(&self, kind: Kind, rule: &RuleInfo, severity: Severity, turn: Turn) -> Action {
        let is_call = kind == Kind::ToolCall && rule.id.starts_with("prompt.");
        match self.action(rule, severity, turn) {
            Action::Mask if is_call && self.deny.is_some_and(|deny| severity < deny) => Action::Report,
            action => action,
        }
    }

    /// What happens because of a finding of `rule` with this severity.
    pub fn action(&self, rule: &RuleInfo, severity: Severity, turn: Turn) -> Action {
        let is_allowed = self.allowed_rules.iter().any(|wanted| rule.is_named_by(wanted));
        if is_allowed || rule.confidence < self.confidence {
            return Action::Report;
        }
        let reaches = |least: Option<Severity>| least.is_some_and(|least| severity >= least);
        match (reaches(self.deny), reaches(self.mask), turn) {
            (true, _, Turn::Newest) => Action::Deny,
            // A chat would be blocked for ever by what was denied once.
            (true, _, Turn::History) | (false, true, _) => Action::Mask,
            (false, false, _) => Action::Report,
        }
    }
}
