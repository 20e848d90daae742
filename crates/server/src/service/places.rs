//! Places for questions to one registry: one that is slow, or dead, takes few of them, so that others go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use layersift_source::registry::Host;

/// Places for what each registry is asked.
pub(crate) struct Places {
    busy: Arc<Mutex<Busy>>,
    /// Questions of one registry that are asked or wait for that.
    of_one: usize,
}

/// What each registry is asked, and by how many.
type Busy = HashMap<Host, HashMap<String, usize>>;

/// A place among the questions to a registry, until it is dropped.
pub(crate) struct Place {
    busy: Arc<Mutex<Busy>>,
    host: Host,
    question: String,
}

impl Places {
    /// Places for `of_one` different questions to each registry.
    pub(crate) fn new(of_one: usize) -> Places {
        Places { busy: Arc::default(), of_one }
    }

    /// A place for one more question to a registry; the same question has always room.
    pub(crate) fn place(&self, host: &Host, question: &str) -> Option<Place> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let questions = busy.entry(host.clone()).or_default();
        if questions.len() >= self.of_one && !questions.contains_key(question) {
            return None;
        }
        *questions.entry(question.to_string()).or_default() += 1;
        Some(Place { busy: Arc::clone(&self.busy), host: host.clone(), question: question.to_string() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(questions) = busy.get_mut(&self.host) else { return };
        if let Some(count) = questions.get_mut(&self.question) {
            *count -= 1;
            if *count == 0 {
                questions.remove(&self.question);
            }
        }
        if questions.is_empty() {
            busy.remove(&self.host);
        }
    }
}
