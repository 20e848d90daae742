//! What a gate tells about the secrets that it sees: their fingerprints, who sent them and which model was asked.
//! Neither a secret nor a text is in it.

use crate::conversation::{Role, Turn};

/// Whose text a secret was seen in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// What goes to a model.
    Prompt,
    /// What came from a model.
    Answer,
    /// What came from a model earlier, as a client sends it again in the history of a chat.
    Quoted,
}

impl Direction {
    /// The direction of a part in a body, which may be an answer.
    pub(crate) fn of(role: Role, turn: Turn, is_answer: bool) -> Direction {
        match (is_answer, role, turn) {
            (true, _, _) => Direction::Answer,
            (false, Role::Assistant, Turn::History) => Direction::Quoted,
            (false, _, _) => Direction::Prompt,
        }
    }
}

/// A secret that was seen.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'s> {
    /// The fingerprint under the key of the analyzer.
    pub fingerprint: &'s str,
    /// The id of the rule that found it.
    pub rule: &'s str,
    /// Whose text it was in.
    pub direction: Direction,
    /// The name of the client; `None` if that looks like a secret.
    pub client: Option<&'s str>,
    /// The model that the body names, unless it names none or that looks like a secret.
    pub model: Option<&'s str>,
}

/// Is told which secrets a gate sees, while somebody waits for its answer.
pub trait Witness: Send + Sync {
    /// A secret was seen. The same one is told whenever it is sent again.
    fn saw(&self, sighting: &Sighting<'_>);
}
