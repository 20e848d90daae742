//! Notes on the parts of a rule file that do not apply here, one line for each kind.

/// The most ids in a line.
const MAX_NAMED: usize = 5;

/// Notes with the ids of the rules, in the order in which each kind was first added.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<(String, Vec<String>)>);

impl Notes {
    /// Adds the note `what` about the rule `id`, unless it was added before.
    pub(super) fn add(&mut self, what: impl Into<String>, id: &str) {
        let what = what.into();
        let id: String = id.chars().filter(|c| !c.is_control()).collect();
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, ids)) if ids.contains(&id) => {}
            Some((_, ids)) => ids.push(id),
            None => self.0.push((what, vec![id])),
        }
    }

    /// A line for each kind, with the ids of the rules.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |(what, ids): &(String, Vec<String>)| {
            let named = ids.iter().take(MAX_NAMED).map(|id| &id[..]).collect::<Vec<_>>().join(", ");
            match ids.len().saturating_sub(MAX_NAMED) {
                0 => format!("{what}: {named}"),
                more => format!("{what}: {named} and {more} more"),
            }
        };
        self.0.iter().map(line).collect()
    }
}
