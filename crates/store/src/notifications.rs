//! Messages about what the service found. What a run announces and the messages about it are written in one
//! transaction: whatever dies at whatever moment, a thing is told in one message.
//!
//! They are sent in the order in which they were written. One that the receiver does not take is in the way of the
//! others, so that a receiver which was down is told everything in order. One that the receiver refuses for what is in
//! it comes after the others.

use layersift_model::Digest;

use super::backend::{Connection, FromValue, Value, named, row};
use super::error::{Fault, StoreError};
use super::ids::{NotificationId, RunId};
use super::{Seconds, Store, runs};

/// How much of an error is stored, in characters.
const ERROR: usize = 500;

/// The longest delay of a message in seconds: a time further away was set by a clock that was wrong.
const LONGEST_DELAY: Seconds = 3_600;

/// The state of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationState {
    /// To be sent.
    Waiting,
    /// The receiver has it.
    Sent,
    /// The receiver did not take it for too long.
    GivenUp,
}

impl NotificationState {
    const ALL: [NotificationState; 3] =
        [NotificationState::Waiting, NotificationState::Sent, NotificationState::GivenUp];

    /// The state as it is written.
    pub fn name(self) -> &'static str {
        match self {
            NotificationState::Waiting => "waiting",
            NotificationState::Sent => "sent",
            NotificationState::GivenUp => "given-up",
        }
    }
}

impl FromValue for NotificationState {
    fn from_value(value: Value) -> Result<NotificationState, Fault> {
        named(value, "state of a message", NotificationState::ALL, NotificationState::name)
    }
}

/// A message to queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNotification {
    /// What the receiver knows it by.
    pub delivery: String,
    /// What it says, without secrets.
    pub message: String,
}

row! {
    /// A message in the store.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct StoredNotification {
        /// Its number.
        pub id: NotificationId = "id",
        /// What the receiver knows it by.
        pub delivery: String = "delivery",
        /// What it says.
        pub message: String = "message",
        /// Its state.
        pub state: NotificationState = "state",
        /// Whether the receiver refused what is in it.
        pub refused: bool = "refused",
        /// How often it was sent.
        pub attempts: u64 = "attempts",
        /// When it may be sent again.
        pub not_before: Seconds = "not_before",
        /// When it was queued.
        pub created_at: Seconds = "created_at",
    }
}

/// How a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The receiver takes nothing now: the others wait as well.
    Outage,
    /// It refuses what is in this message: the others go first.
    Refused,
}

/// The messages of a store; see [`Store::notifications`].
pub struct Notifications<'s> {
    store: &'s Store,
}

impl<'s> Notifications<'s> {
    pub(super) fn new(store: &'s Store) -> Notifications<'s> {
        Notifications { store }
    }

    /// Says that the news of a run were announced, as [`super::Runs::announce`] does, and queues the messages that
    /// `compose` makes of those things which nobody announced before. It may be called more than once. How many
    /// messages there are.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn announce(
        &self,
        run: RunId,
        last: Option<&str>,
        compose: impl Fn(&[String]) -> Vec<NewNotification>,
        now: Seconds,
    ) -> Result<usize, StoreError> {
        self.store.write(|connection| {
            let things = runs::announce(connection, run, last)?;
            let messages = if things.is_empty() { Vec::new() } else { compose(&things) };
            insert(connection, &messages, now)?;
            Ok(messages.len())
        })
    }

    /// The next message that may be sent now.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn next(&self, now: Seconds) -> Result<Option<StoredNotification>, StoreError> {
        // A message that waits for its time is in the way of those after it, if it was not refused.
        let rest = "FROM notifications WHERE state = 'waiting' \
                    AND (refused = 0 OR not_before <= $1 OR not_before > $1 + $2) ORDER BY refused, id LIMIT 1";
        let values = [now.into(), LONGEST_DELAY.into()];
        let found: Vec<StoredNotification> = self.store.read(|connection| connection.select(rest, &values))?;
        let is_due =
            |next: &StoredNotification| next.not_before <= now || next.not_before > now.saturating_add(LONGEST_DELAY);
        Ok(found.into_iter().next().filter(is_due))
    }

    /// Records that the receiver has a message.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn sent(&self, id: NotificationId, now: Seconds) -> Result<(), StoreError> {
        let sql = "UPDATE notifications SET state = 'sent', attempts = attempts + 1, error = NULL, ended_at = $2 \
                   WHERE id = $1 AND state = 'waiting'";
        self.store.write(|connection| connection.execute(sql, &[id.into(), now.into()]).map(drop))
    }

    /// Records that a message was not taken, and why; it is sent again after `delay` seconds.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn not_taken(
        &self,
        id: NotificationId,
        (how, error): (NotTaken, &str),
        delay: Seconds,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE notifications SET attempts = attempts + 1, not_before = $2, error = $3, \
                   refused = CASE WHEN $4 = 1 THEN 1 ELSE refused END WHERE id = $1 AND state = 'waiting'";
        let later = now.saturating_add(delay.clamp(0, LONGEST_DELAY));
        let error: String = error.chars().take(ERROR).collect();
        let values = [id.into(), later.into(), error.into(), i64::from(how == NotTaken::Refused).into()];
        self.store.write(|connection| connection.execute(sql, &values).map(drop))
    }

    /// Gives a message up.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn give_up(&self, id: NotificationId, now: Seconds) -> Result<(), StoreError> {
        let sql = "UPDATE notifications SET state = 'given-up', ended_at = $2 WHERE id = $1 AND state = 'waiting'";
        self.store.write(|connection| connection.execute(sql, &[id.into(), now.into()]).map(drop))
    }

    /// A repository that the image with this manifest was seen in, with its registry, for a message about it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn repository_of(&self, manifest: &Digest) -> Result<Option<String>, StoreError> {
        let sql = "SELECT r.registry, r.project, r.repository FROM images i JOIN tags t ON t.image_id = i.id \
                   JOIN repositories r ON r.id = t.repository_id WHERE i.manifest_digest = $1 \
                   ORDER BY t.last_seen DESC, t.id LIMIT 1";
        let found: Option<(String, String, String)> =
            self.store.read(|connection| connection.query_one(sql, &[manifest.into()]))?;
        Ok(found.map(|(registry, project, repository)| match &project[..] {
            "" => format!("{registry}/{repository}"),
            project => format!("{registry}/{project}/{repository}"),
        }))
    }

    /// How many messages wait.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn waiting(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM notifications WHERE state = 'waiting'";
        Ok(self.store.read(|connection| connection.value(sql, &[]))?.unwrap_or_default())
    }
}

fn insert(connection: &mut Connection, messages: &[NewNotification], now: Seconds) -> Result<(), Fault> {
    let before = "INSERT INTO notifications (delivery, message, state, created_at)";
    let row = |new: &NewNotification| {
        let state = NotificationState::Waiting.name();
        [Value::from(&new.delivery), Value::from(&new.message), state.into(), now.into()]
    };
    let values: Vec<Value> = messages.iter().flat_map(row).collect();
    connection.insert(before, 4, &values, "ON CONFLICT DO NOTHING").map(drop)
}
