//! What of a file of rules cannot be honoured, one line for each kind.

/// The most ids that a line names.
const NAMED: usize = 5;

/// Notes, in the order of the first of each kind.
#[derive(Debug, Default)]
pub struct Notes(Vec<(String, Vec<String>)>);

impl Notes {
    /// Notes that `what` is the case of the rule `id`; twice is once.
    pub fn add(&mut self, what: impl Into<String>, id: &str) {
        let what = what.into();
        let id: String = id.chars().filter(|c| !c.is_control()).collect();
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, ids)) if ids.contains(&id) => {}
            Some((_, ids)) => ids.push(id),
            None => self.0.push((what, vec![id])),
        }
    }

    /// A line for each kind, with the ids concerned.
    pub fn lines(&self) -> Vec<String> {
        let line = |(what, ids): &(String, Vec<String>)| {
            let named = ids.iter().take(NAMED).map(|id| &id[..]).collect::<Vec<_>>().join(", ");
            match ids.len().saturating_sub(NAMED) {
                0 => format!("{what}: {named}"),
                more => format!("{what}: {named} and {more} more"),
            }
        };
        self.0.iter().map(line).collect()
    }
}
