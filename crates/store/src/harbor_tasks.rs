//! Scans that a Harbor asked for. Each is a task that any process drives on, a step at a time, until it has a report or
//! an error; whoever is polled answers from here.
//!
//! The login of a task is stored sealed, with a key that the store does not have, and is removed when the task ends.

use super::backend::{Connection, FromValue, Value, named, row};
use super::error::{Fault, StoreError};
use super::process::{self, Processes};
use super::{Seconds, Store, intern};

/// Seconds that a claim holds. A step is short; the process of a longer one may be dead.
const LEASE: Seconds = 120;

/// The longest that a task waits for its next step: a time further away was set by a clock that was wrong.
const LONGEST_WAIT: Seconds = 600;

/// Seconds by which clocks may differ: a task that was added later than that from now was added by a clock that was
/// wrong, and its deadline says nothing.
const AHEAD: Seconds = 120;

/// How many tasks are looked at for one that can be claimed.
const DUE: usize = 256;

/// How much of an error is stored, in characters.
const ERROR: usize = 2_000;

/// What an open task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarborPhase {
    /// To be looked at.
    New,
    /// The scan of its image.
    Scan,
    /// A second scanner.
    Second,
}

impl HarborPhase {
    const ALL: [HarborPhase; 3] = [HarborPhase::New, HarborPhase::Scan, HarborPhase::Second];

    fn name(self) -> &'static str {
        match self {
            HarborPhase::New => "new",
            HarborPhase::Scan => "scan",
            HarborPhase::Second => "second",
        }
    }
}

impl FromValue for HarborPhase {
    fn from_value(value: Value) -> Result<HarborPhase, Fault> {
        named(value, "phase of a task", HarborPhase::ALL, HarborPhase::name)
    }
}

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarborTaskState {
    /// It has not ended.
    Open,
    /// It has a report.
    Done,
    /// It has an error.
    Failed,
}

impl HarborTaskState {
    const ALL: [HarborTaskState; 3] = [HarborTaskState::Open, HarborTaskState::Done, HarborTaskState::Failed];

    fn name(self) -> &'static str {
        match self {
            HarborTaskState::Open => "open",
            HarborTaskState::Done => "done",
            HarborTaskState::Failed => "failed",
        }
    }
}

impl FromValue for HarborTaskState {
    fn from_value(value: Value) -> Result<HarborTaskState, Fault> {
        named(value, "state of a task", HarborTaskState::ALL, HarborTaskState::name)
    }
}

/// A task to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHarborTask {
    /// Its random id.
    pub id: String,
    /// What is pulled: `registry/repository@digest`.
    pub reference: String,
    /// Where layers are pulled from: `registry/repository`.
    pub source: String,
    /// What was asked for, in whatever form, without the login.
    pub request: String,
    /// The sealed login.
    pub sealed: Vec<u8>,
    /// Until when the login is good.
    pub sealed_until: Seconds,
    /// When the task has failed unless it ended before.
    pub deadline: Seconds,
}

row! {
    /// A task that was claimed for a step.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ClaimedHarborTask {
        /// Its id.
        pub id: String = "id",
        /// What is pulled.
        pub reference: String = "reference",
        /// What was asked for.
        pub request: String = "request",
        /// The sealed login.
        pub sealed: Option<Vec<u8>> = "sealed",
        /// What it waits for.
        pub phase: HarborPhase = "phase",
        /// How far it is, as [`HarborTasks::wait`] was told.
        pub progress: Option<String> = "progress",
        /// How many claims of it were never given back.
        pub losses: u64 = "losses",
        /// When it was added.
        pub created_at: Seconds = "created_at",
        /// When it has failed.
        pub deadline: Seconds = "deadline",
        claim: i64 = "claims",
    }
}

row! {
    /// A task as whoever polls for it sees it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HarborTask {
        /// What was asked for.
        pub request: String = "request",
        /// Its state.
        pub state: HarborTaskState = "state",
        /// Why it failed.
        pub error: Option<String> = "error",
        /// When it was added.
        pub created_at: Seconds = "created_at",
        /// When it has failed unless it ended before.
        pub deadline: Seconds = "deadline",
        /// When its end was told.
        pub fetched_at: Option<Seconds> = "fetched_at",
    }
}

row! {
    /// The login of a task that has not ended.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SealedLogin {
        /// The id of the task.
        pub task: String = "id",
        /// The login.
        pub sealed: Vec<u8> = "sealed",
    }
}

row! {
    /// A task that has something to do.
    struct DueRow {
        id: String = "id",
        claims: i64 = "claims",
        process: Option<String> = "lease_process",
        until: Option<Seconds> = "lease_until",
    }
}

/// The tasks of a store; see [`Store::harbor_tasks`].
pub struct HarborTasks<'s> {
    store: &'s Store,
}

impl<'s> HarborTasks<'s> {
    pub(super) fn new(store: &'s Store) -> HarborTasks<'s> {
        HarborTasks { store }
    }

    /// Adds a task; `false`, and it is not added, if `most` tasks are open already.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an id, a reference or a source of more than 512 bytes, [`StoreError::Database`].
    pub fn add(&self, task: &NewHarborTask, most: u64, now: Seconds) -> Result<bool, StoreError> {
        let sql = "INSERT INTO harbor_tasks (id, reference, source, request, sealed, sealed_until, state, phase, \
                   deadline, created_at) VALUES ($1, $2, $3, $4, $5, $6, 'open', 'new', $7, $8)";
        let NewHarborTask { id, reference, source, request, sealed, sealed_until, deadline } = task;
        let sealed = Value::from(sealed.as_slice());
        let texts = [Value::from(id), reference.into(), source.into(), request.into()];
        let values = [&texts[..], &[sealed, (*sealed_until).into(), (*deadline).into(), now.into()]].concat();
        self.store.write(|connection| {
            intern::check_key("the id of a task", id)?;
            intern::check_key("the reference", reference)?;
            intern::check_key("the source", source)?;
            if open(connection)? >= most {
                return Ok(false);
            }
            connection.execute(sql, &values).map(|_| true)
        })
    }

    /// The task with this id.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn find(&self, id: &str) -> Result<Option<HarborTask>, StoreError> {
        let found = self.store.read(|connection| connection.select("FROM harbor_tasks WHERE id = $1", &[id.into()]))?;
        Ok(found.into_iter().next())
    }

    /// The report of the task with this id.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn report(&self, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT report FROM harbor_reports WHERE task = $1";
        self.store.read(|connection| connection.value(sql, &[id.into()]))
    }

    /// Notes that the report or the error of a task was told.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn note_fetched(&self, id: &str, now: Seconds) -> Result<(), StoreError> {
        let sql = "UPDATE harbor_tasks SET fetched_at = $2 WHERE id = $1 AND fetched_at IS NULL AND state <> 'open'";
        self.store.write(|connection| connection.execute(sql, &[id.into(), now.into()]).map(drop))
    }

    /// Claims an open task that has something to do: one that is new, whose scan ended, whose next step is due or whose
    /// time is up.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn claim(&self, now: Seconds) -> Result<Option<ClaimedHarborTask>, StoreError> {
        // Mostly there is nothing, and that is found without a turn among those that write.
        let due = self.store.read(|connection| due(connection, now))?;
        if due.is_empty() {
            return Ok(None);
        }
        // Only what nobody has claimed since.
        let sql = "UPDATE harbor_tasks SET losses = losses + CASE WHEN lease_until IS NULL THEN 0 ELSE 1 END, \
                   claims = claims + 1, lease_process = $3, lease_until = $4 \
                   WHERE id = $1 AND claims = $2 AND state = 'open'";
        self.store.write(|connection| {
            for (id, claims) in &due {
                let until = now.saturating_add(LEASE);
                let values = [id.into(), (*claims).into(), process::own().into(), until.into()];
                if connection.execute(sql, &values)? == 1 {
                    let claimed = connection.select("FROM harbor_tasks WHERE id = $1", &[id.into()])?;
                    return Ok(claimed.into_iter().next());
                }
            }
            Ok(None)
        })
    }

    /// Gives a task back, to wait for `phase`, and for its next step at least until `not_before`, with how far it is;
    /// `false` when it was claimed by another process meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a progress of more than 512 bytes, [`StoreError::Database`].
    pub fn wait(
        &self,
        claimed: &ClaimedHarborTask,
        phase: HarborPhase,
        progress: Option<&str>,
        not_before: Seconds,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE harbor_tasks SET phase = $3, progress = $4, not_before = $5, lease_process = NULL, \
                   lease_until = NULL WHERE id = $1 AND claims = $2 AND state = 'open'";
        let (id, claim) = (Value::from(&claimed.id), claimed.claim.into());
        let values = [id, claim, phase.name().into(), progress.into(), not_before.into()];
        self.store.write(|connection| {
            intern::check_key("the progress of a task", progress.unwrap_or_default())?;
            Ok(connection.execute(sql, &values)? == 1)
        })
    }

    /// Ends a task with its report, and removes its login; `false`, and nothing is recorded, when it was claimed by
    /// another process meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn finish(&self, claimed: &ClaimedHarborTask, report: &[u8], now: Seconds) -> Result<bool, StoreError> {
        let insert = "INSERT INTO harbor_reports (task, report) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        self.store.write(|connection| {
            if !end(connection, claimed, HarborTaskState::Done, Value::Null, now)? {
                return Ok(false);
            }
            connection.execute(insert, &[(&claimed.id).into(), report.into()]).map(|_| true)
        })
    }

    /// Ends a task with an error, and removes its login; as [`HarborTasks::finish`].
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn fail(&self, claimed: &ClaimedHarborTask, error: &str, now: Seconds) -> Result<bool, StoreError> {
        let error: String = error.chars().take(ERROR).collect();
        self.store.write(|connection| end(connection, claimed, HarborTaskState::Failed, (&error).into(), now))
    }

    /// The login of the newest open task that pulls from `source`, if it is still good.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn login(&self, source: &str, now: Seconds) -> Result<Option<SealedLogin>, StoreError> {
        let rest = "FROM harbor_tasks WHERE source = $1 AND sealed IS NOT NULL AND sealed_until > $2 \
                    AND state = 'open' ORDER BY created_at DESC, id LIMIT 1";
        let found = self.store.read(|connection| connection.select(rest, &[source.into(), now.into()]))?;
        Ok(found.into_iter().next())
    }

    /// How many tasks are open.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn open(&self) -> Result<u64, StoreError> {
        self.store.read(open)
    }

    /// Notes that a Harbor was told of an error that was not that of an image.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn note_missed(&self, now: Seconds) -> Result<(), StoreError> {
        self.note_asked_again("", now)
    }

    /// When a Harbor was last told of an error that was not that of an image.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn last_missed(&self) -> Result<Option<Seconds>, StoreError> {
        let sql = "SELECT asked_at FROM harbor_rescans WHERE reference = ''";
        self.store.read(|connection| connection.value(sql, &[]))
    }

    /// Ids, references and requests of tasks that ended at `before` or earlier and whose ends nobody was told, the
    /// oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn unfetched(&self, before: Seconds, limit: u64) -> Result<Vec<(String, String, String)>, StoreError> {
        let sql = "SELECT id, reference, request FROM harbor_tasks WHERE state <> 'open' AND fetched_at IS NULL \
                   AND ended_at <= $1 ORDER BY ended_at, id LIMIT $2";
        self.store.read(|connection| connection.query(sql, &[before.into(), limit.into()]))
    }

    /// Whether a Harbor may be asked to scan an image again: not within `pause` seconds since it was asked, which is
    /// twice as long after each time; `None` if it was asked `most` times already.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn may_ask_again(
        &self,
        image: &str,
        most: u64,
        pause: Seconds,
        now: Seconds,
    ) -> Result<Option<bool>, StoreError> {
        let sql = "SELECT attempts, asked_at FROM harbor_rescans WHERE reference = $1";
        let known: Option<(u64, Seconds)> = self.store.read(|connection| connection.query_one(sql, &[image.into()]))?;
        let Some((attempts, asked_at)) = known else { return Ok(Some(true)) };
        let pause = pause.saturating_mul(1 << attempts.saturating_sub(1).min(16));
        Ok((attempts < most).then(|| !(0..pause).contains(&now.saturating_sub(asked_at))))
    }

    /// Records that a Harbor was asked to scan an image again.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an image of more than 512 bytes, [`StoreError::Database`].
    pub fn note_asked_again(&self, image: &str, now: Seconds) -> Result<(), StoreError> {
        let sql = "INSERT INTO harbor_rescans (reference, attempts, asked_at) VALUES ($1, 1, $2) \
                   ON CONFLICT (reference) DO UPDATE SET attempts = harbor_rescans.attempts + 1, \
                   asked_at = excluded.asked_at";
        self.store.write(|connection| {
            intern::check_key("the image", image)?;
            connection.execute(sql, &[image.into(), now.into()]).map(drop)
        })
    }
}

fn open(connection: &mut Connection) -> Result<u64, Fault> {
    let sql = "SELECT count(*) FROM harbor_tasks WHERE state = 'open'";
    Ok(connection.value(sql, &[])?.unwrap_or_default())
}

fn end(
    connection: &mut Connection,
    claimed: &ClaimedHarborTask,
    state: HarborTaskState,
    error: Value,
    now: Seconds,
) -> Result<bool, Fault> {
    let sql = "UPDATE harbor_tasks SET state = $3, error = $4, ended_at = $5, sealed = NULL, sealed_until = NULL, \
               lease_process = NULL, lease_until = NULL WHERE id = $1 AND claims = $2 AND state = 'open'";
    let values = [(&claimed.id).into(), claimed.claim.into(), state.name().into(), error, now.into()];
    Ok(connection.execute(sql, &values)? == 1)
}

/// The open tasks that have something to do and that no living process has claimed, and how often each was claimed.
fn due(connection: &mut Connection, now: Seconds) -> Result<Vec<(String, i64)>, Fault> {
    let rest = "FROM harbor_tasks t WHERE state = 'open' AND (deadline <= $1 OR created_at > $1 + $4 \
                OR ((not_before <= $1 OR not_before > $1 + $2) AND (phase <> 'scan' \
                  OR NOT EXISTS (SELECT 1 FROM scan_requests r WHERE r.reference = t.reference \
                    AND r.state IN ('queued', 'running'))))) ORDER BY created_at, id LIMIT $3";
    let rows: Vec<DueRow> = connection.select(rest, &[now.into(), LONGEST_WAIT.into(), DUE.into(), AHEAD.into()])?;
    let mut processes = Processes::default();
    let free = |row: DueRow| row.is_free(&mut processes, now).then_some((row.id, row.claims));
    Ok(rows.into_iter().filter_map(free).collect())
}

impl HarborTask {
    /// Whether its time is up.
    pub fn is_out_of_time(&self, now: Seconds) -> bool {
        now >= self.deadline || self.created_at > now.saturating_add(AHEAD)
    }
}

impl ClaimedHarborTask {
    /// Whether its time is up.
    pub fn is_out_of_time(&self, now: Seconds) -> bool {
        now >= self.deadline || self.created_at > now.saturating_add(AHEAD)
    }
}

impl DueRow {
    fn is_free(&self, processes: &mut Processes, now: Seconds) -> bool {
        let has_ended = self.until.is_none_or(|until| until <= now || until > now.saturating_add(2 * LEASE));
        has_ended || self.process.as_ref().is_some_and(|process| processes.is_dead(process))
    }
}
