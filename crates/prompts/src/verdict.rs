//! The decision about a body, and the reasons for it. Nothing here holds a secret.

use std::fmt;

use layersift_model::Severity;

use crate::advice::advice;
use crate::conversation::{Kind, Role, Turn};
use crate::policy::Action;

/// The decision about a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may pass as it is.
    Allow,
    /// Its copy may pass.
    Mask,
    /// It may not pass.
    Deny,
}

impl Decision {
    /// The name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Decision::Allow => "allow",
            Decision::Mask => "mask",
            Decision::Deny => "deny",
        }
    }
}

/// The decision about a body, with reasons.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// Why, what weighs most first.
    pub reasons: Vec<Reason>,
    /// The body with masks in place of secrets; only if the decision is to mask.
    pub copy: Option<Vec<u8>>,
    /// The estimated size in tokens; 0 for a body that cannot be read.
    pub tokens: u64,
    /// Whether it is about the answer of a model.
    pub is_answer: bool,
}

/// Why a body is denied or changed, or what is worth knowing about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What happens because of it.
    pub action: Action,
    /// The id of the rule, or `prompt.unreadable`, `prompt.incomplete`, `prompt.unseen-answer`, `prompt.too-large` or
    /// `prompt.too-many-tokens`.
    pub rule: String,
    /// What it is, in a few words.
    pub title: String,
    /// How bad it is.
    pub severity: Severity,
    /// Where it is; `None` if it is about the body as a whole.
    pub place: Option<Place>,
    /// The masked form of the secret, its first and last characters at most.
    pub masked: Option<String>,
    /// The fingerprint of the secret under the key of the analyzer.
    pub fingerprint: Option<String>,
    /// Details.
    pub note: Option<String>,
}

/// Where something is in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who says it.
    pub role: Role,
    /// What it is in.
    pub kind: Kind,
    /// Whether it is new.
    pub turn: Turn,
    /// The JSON pointer of the value (RFC 6901), without names that hold a secret; empty for plain text.
    pub pointer: String,
    /// The names of the archive members that contain it, from a file inwards.
    pub inside: Vec<String>,
    /// The encodings that the secret is written in, the outermost first, such as `base64`.
    pub views: Vec<String>,
}

impl fmt::Display for Reason {
    /// One sentence part for people: what, which rule, the masked secret, and where.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.title, self.rule)?;
        if let Some(masked) = &self.masked {
            write!(f, " {masked}")?;
        }
        if let Some(place) = &self.place {
            let pointer = if place.pointer.is_empty() { String::new() } else { format!(" at {}", place.pointer) };
            write!(f, " in a {}{pointer}", place.kind.name())?;
        }
        if let Some(note) = self.note.as_ref().filter(|_| self.place.is_none()) {
            write!(f, ": {note}")?;
        }
        Ok(())
    }
}

impl Verdict {
    /// The same about the answer of a model.
    pub fn of_answer(self) -> Verdict {
        Verdict { is_answer: true, ..self }
    }

    /// A text for the person whose request was denied: the rules, the masked secrets, and what to do.
    pub fn message(&self) -> String {
        const SHOWN: usize = 3;
        if self.decision == Decision::Allow {
            return "Layersift allows this".into();
        }
        // Where nothing can be masked, what would be masked denies.
        let wanted = self.reasons.iter().map(|reason| reason.action).max().unwrap_or(Action::Report);
        let reasons: Vec<&Reason> = self.reasons.iter().filter(|reason| reason.action == wanted).collect();
        let shown: Vec<String> = reasons.iter().take(SHOWN).map(|reason| reason.to_string()).collect();
        let more = reasons.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let shown = shown.join("; ");
        match self.decision {
            Decision::Mask => format!("Layersift masked {shown}{more}"),
            Decision::Allow | Decision::Deny => {
                let advice = advice(&reasons, self.is_answer);
                format!("Layersift denied this: {shown}{more}. {advice}")
            }
        }
    }
}
