//! What was confirmed in a file, until the file ends: the gravest matches, with their lines.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::mem::size_of;

use layersift_model::{Footprint, Severity};

use crate::confirm::{Confirmed, Verification};
use layersift_model::{Rank, Ranked};

/// The most matches of one file, and their bytes, before findings are made of them.
const MOST: usize = 20_000;
const MOST_BYTES: u64 = 4 << 20;

/// The maximum number of damaged secrets, such as tokens with a wrong checksum, that are reported in one file.
const MAX_DAMAGED: usize = 32;

/// Lines and columns, from 1, by the offsets of matches.
pub(super) type Positions = HashMap<usize, (u64, u64)>;

/// The matches of a file, which any thread adds in any order.
pub(super) struct FoundInFile {
    secrets: Ranked<Match>,
    /// The first few, which do not count toward the limits.
    damaged: Ranked<Match>,
}

/// A match, with its offset in the file.
struct Match {
    one: Confirmed,
    severity: Severity,
    position: Option<(u64, u64)>,
}

/// The matches of a file that ended.
pub(super) struct AllFound {
    /// The matches, the gravest first.
    pub(super) confirmed: Vec<Confirmed>,
    /// Where they are.
    pub(super) positions: Positions,
    /// How many were dropped.
    pub(super) dropped: u64,
}

impl Default for FoundInFile {
    fn default() -> FoundInFile {
        FoundInFile { secrets: Ranked::new(MOST, MOST_BYTES), damaged: Ranked::new(MAX_DAMAGED, MOST_BYTES) }
    }
}

impl FoundInFile {
    /// Adds a match of a rule with this `severity`. `one` has its offset in the file.
    pub(super) fn add(&mut self, one: Confirmed, severity: Severity, position: Option<(u64, u64)>) {
        let list = match one.verification {
            Verification::Damaged => &mut self.damaged,
            Verification::Secret | Verification::Published => &mut self.secrets,
        };
        list.add(Match { one, severity, position });
    }

    /// Ends the file.
    pub(super) fn conclude(self) -> AllFound {
        let (secrets, dropped) = self.secrets.into_parts();
        let (damaged, _) = self.damaged.into_parts();
        let mut all = AllFound { confirmed: Vec::new(), positions: HashMap::new(), dropped };
        for Match { one, position, .. } in secrets.into_iter().chain(damaged) {
            all.positions.extend(position.map(|position| (one.span.start, position)));
            all.confirmed.push(one);
        }
        all
    }
}

impl Footprint for Match {
    fn footprint(&self) -> u64 {
        let Confirmed { secret, note, views, .. } = &self.one;
        let text = secret.len() + note.as_ref().map_or(0, String::len) + views.len() * size_of::<&str>();
        (size_of::<Match>() + text) as u64
    }
}

impl Rank for Match {
    /// The gravest first, then in the order of the file.
    fn rank(&self, other: &Self) -> Ordering {
        let place = |one: &Confirmed| (one.span.start, one.rule, one.span.end);
        let worse = other.severity.cmp(&self.severity);
        worse
            .then_with(|| place(&self.one).cmp(&place(&other.one)))
            .then_with(|| self.one.secret.cmp(&other.one.secret))
            .then_with(|| self.one.views.cmp(&other.one.views))
    }
}
