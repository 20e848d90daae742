//! What a listing rests on: who asked, what was listed to its end, and what was not seen.

use crate::registry::LoginState;

/// What a catalog has listed so far. It is only known to be all that the login may see once [`Coverage::is_checked`] is
/// set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The user whose login was used; `None` if nobody was logged in.
    pub user: Option<String>,
    /// What the registry says about the login.
    pub login: LoginState,
    /// Whether the listing came to its end, with a login that was accepted before and after it, or none.
    pub is_checked: bool,
    /// The number of projects that were listed, where the registry has projects.
    pub projects: Option<u64>,
    /// The number of repositories that were listed.
    pub repositories: u64,
    /// The groups of repositories that were listed to their end.
    pub listed: Vec<ListedGroup>,
    /// What a person should know about the listing.
    pub notes: Vec<String>,
}

/// A project whose repositories were all listed, or the repositories that a registry without projects listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// The project; `None` for a registry without projects.
    pub project: Option<String>,
    /// In which repositories an image that was not listed is gone.
    pub repositories: ListedRepositories,
}

/// The repositories of a group whose images are all known, by their names without the project's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedRepositories {
    /// All that there are, and whatever was there before, except these.
    AllBut(Vec<String>),
    /// These. What else there is, a registry may not show to everyone.
    Only(Vec<String>),
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage {
            user: None,
            login: LoginState::Anonymous,
            is_checked: false,
            projects: None,
            repositories: 0,
            listed: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// Notes that are kept; the rest is counted in the last one.
const MOST_NOTES: usize = 100;

impl Coverage {
    /// Counts a project that is listed.
    pub(super) fn add_project(&mut self) {
        self.projects = Some(self.projects.unwrap_or_default() + 1);
    }

    /// Adds a note, unless there are very many.
    pub(super) fn note(&mut self, text: String) {
        match self.notes.len() {
            0..MOST_NOTES => self.notes.push(text),
            MOST_NOTES => self.notes.push("there are more notes on the listing".into()),
            _ => {}
        }
    }
}
