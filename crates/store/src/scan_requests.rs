//! Images that somebody waits for: each is queued once, however many ask for it.
//!
//! The queue has classes, of which a lower one is served first, and serves each class in the order of the requests. It
//! is bounded, in all and for each client. A request is claimed for a time, its lease; after three attempts it has
//! failed, and is only taken up again when it is asked for after a while.

use layersift_model::{Digest, LayerKey};

use super::backend::{Columns, Connection, FromValue, Value, named, row};
use super::error::{Fault, StoreError};
use super::ids::RequestId;
use super::page::Page;
use super::process::{self, Processes};
use super::{Seconds, Store, intern};

/// Attempts after which a request has failed.
const ATTEMPTS: i64 = 3;

/// Seconds for which a request is not tried again whose scans were all killed, or ended with their processes: it may be
/// what kills them.
const LOST_DELAY: Seconds = 60;

/// How much of an error is stored, in characters.
const ERROR: usize = 2_000;

/// Who waits, in the order in which they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestClass {
    /// Something that is about to run.
    Admission,
    /// The scanner of a registry.
    RegistryScanner,
    /// A push that was announced.
    Event,
    /// A client of the interface, or a rescan.
    Background,
}

impl RequestClass {
    /// All classes, the most urgent first.
    pub const ALL: [RequestClass; 4] =
        [RequestClass::Admission, RequestClass::RegistryScanner, RequestClass::Event, RequestClass::Background];

    /// The class as it is written.
    pub fn name(self) -> &'static str {
        match self {
            RequestClass::Admission => "admission",
            RequestClass::RegistryScanner => "registry-scanner",
            RequestClass::Event => "event",
            RequestClass::Background => "background",
        }
    }

    fn number(self) -> i64 {
        self as i64
    }
}

impl FromValue for RequestClass {
    fn from_value(value: Value) -> Result<RequestClass, Fault> {
        let number = i64::from_value(value)?;
        let found = RequestClass::ALL.into_iter().find(|class| class.number() == number);
        found.ok_or_else(|| Fault::Damaged(format!("the unknown class {number} of a request")))
    }
}

/// The state of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestState {
    /// Waiting.
    Queued,
    /// Being scanned.
    Running,
    /// Scanned: there is a report.
    Done,
    /// It cannot be read.
    Failed,
}

impl RequestState {
    /// All states.
    pub const ALL: [RequestState; 4] =
        [RequestState::Queued, RequestState::Running, RequestState::Done, RequestState::Failed];

    /// The state as it is written.
    pub fn name(self) -> &'static str {
        match self {
            RequestState::Queued => "queued",
            RequestState::Running => "running",
            RequestState::Done => "done",
            RequestState::Failed => "failed",
        }
    }
}

impl FromValue for RequestState {
    fn from_value(value: Value) -> Result<RequestState, Fault> {
        named(value, "state of a request", RequestState::ALL, RequestState::name)
    }
}

/// An image to scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanRequest {
    /// What is pulled: `registry/repository@digest`, without credentials.
    pub reference: String,
    /// Its digest.
    pub digest: Digest,
    /// Who waits.
    pub class: RequestClass,
    /// The client that asked first.
    pub client: String,
}

/// How long the queue may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Requests that wait, in all.
    pub queued: u64,
    /// Requests of one client that wait.
    pub queued_per_client: u64,
    /// Seconds after which an image that could not be read is tried again.
    pub retry_failed: Seconds,
}

impl Default for RequestLimits {
    fn default() -> RequestLimits {
        RequestLimits { queued: 10_000, queued_per_client: 1_000, retry_failed: 60 }
    }
}

/// What became of a request that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It waits, or is being scanned: now, or already.
    Accepted(RequestState),
    /// It was scanned already under the present key. There may be no report any more, or none was stored.
    Done {
        /// When the scan ended.
        ended_at: Seconds,
    },
    /// It could not be read a short time ago: the kind of failure, and the error.
    Failed(String, String),
    /// Too many wait.
    Full,
}

/// A request that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedRequest {
    /// What is pulled.
    pub reference: String,
    /// Which attempt this is, from 1.
    pub attempt: u64,
    /// Who waits.
    pub class: RequestClass,
    id: RequestId,
    claim: i64,
}

row! {
    /// A request as it is in the store.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct StoredRequest {
        /// Its number, which stays when the image is scanned again.
        pub id: RequestId = "id",
        /// What is pulled.
        pub reference: String = "reference",
        /// Its digest.
        pub digest: Digest = "digest",
        /// Who waits.
        pub class: RequestClass = "class",
        /// The client that asked first.
        pub client: String = "client",
        /// Its state.
        pub state: RequestState = "state",
        /// How often it was tried to scan the image, since it was queued.
        pub attempts: u64 = "attempts",
        /// The key that a request that is done was scanned under; `None` for those of earlier versions.
        pub key: Option<LayerKey> = "(SELECT k.digest FROM layer_keys k WHERE k.id = scan_requests.layer_key_id)",
        /// The kind of failure.
        pub failure: Option<String> = "failure",
        /// Why it could not be read.
        pub error: Option<String> = "error",
        /// When it was asked for first.
        pub requested_at: Seconds = "requested_at",
        /// When it ended.
        pub ended_at: Option<Seconds> = "ended_at",
        /// When it may be tried again.
        pub not_before: Seconds = "not_before",
    }
}

/// The requests of a store; see [`Store::scan_requests`].
pub struct ScanRequests<'s> {
    store: &'s Store,
}

impl<'s> ScanRequests<'s> {
    pub(super) fn new(store: &'s Store) -> ScanRequests<'s> {
        ScanRequests { store }
    }

    /// Queues an image to be scanned under `key`, the present one, unless it is queued already: a more urgent class
    /// then moves it up. An image that was scanned under this key is queued again only with `is_again`; one that failed
    /// only after a while.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a reference or a client of more than 512 bytes, [`StoreError::Database`].
    pub fn submit(
        &self,
        request: &ScanRequest,
        key: &LayerKey,
        is_again: bool,
        limits: &RequestLimits,
        now: Seconds,
    ) -> Result<Submitted, StoreError> {
        self.submit_later(request, key, is_again, limits, (0, now))
    }

    /// The same for an image that need not be scanned before a time: `not_before`, at most an hour after `now`. One
    /// that waits already is scanned at the earlier of the two times.
    ///
    /// # Errors
    /// As [`ScanRequests::submit`].
    pub fn submit_later(
        &self,
        request: &ScanRequest,
        key: &LayerKey,
        is_again: bool,
        limits: &RequestLimits,
        (not_before, now): (Seconds, Seconds),
    ) -> Result<Submitted, StoreError> {
        let answer = |stored: Option<StoredRequest>| {
            let stored = stored.filter(|stored| !is_moved_up(stored, request, not_before))?;
            known_answer(&stored, key, is_again, limits, now)
        };
        // Most are asked for again and again: that takes no turn among those that write.
        let known = self.store.read(|connection| find(connection, &request.reference))?;
        if let Some(answer) = answer(known) {
            return Ok(answer);
        }
        self.store.write(|connection| {
            intern::check_key("the reference", &request.reference)?;
            intern::check_key("the client", &request.client)?;
            let known = find(connection, &request.reference)?;
            if let Some(stored) = known.as_ref().filter(|stored| is_waiting(stored.state)) {
                // What failed a moment ago is not tried again earlier.
                let sql = "UPDATE scan_requests SET class = CASE WHEN class > $2 THEN $2 ELSE class END, \
                           not_before = CASE WHEN attempts = 0 AND not_before > $3 THEN $3 ELSE not_before END \
                           WHERE reference = $1";
                let values = [(&request.reference).into(), request.class.number().into(), not_before.into()];
                connection.execute(sql, &values)?;
                return Ok(Submitted::Accepted(stored.state));
            }
            if let Some(answer) = answer(known) {
                return Ok(answer);
            }
            if is_full(connection, &request.client, limits)? {
                return Ok(Submitted::Full);
            }
            let sql = "INSERT INTO scan_requests (reference, digest, class, client, state, requested_at, not_before) \
                       VALUES ($1, $2, $3, $4, 'queued', $5, $6) ON CONFLICT (reference) DO UPDATE SET \
                       state = 'queued', class = excluded.class, client = excluded.client, attempts = 0, \
                       not_before = excluded.not_before, failure = NULL, error = NULL, \
                       requested_at = excluded.requested_at, ended_at = NULL, layer_key_id = NULL \
                       WHERE scan_requests.state IN ('done', 'failed')";
            let ScanRequest { reference, digest, class, client } = request;
            let values =
                [reference.into(), digest.into(), class.number().into(), client.into(), now.into(), not_before.into()];
            connection.execute(sql, &values)?;
            Ok(Submitted::Accepted(RequestState::Queued))
        })
    }

    /// Claims the next request for `seconds`. Requests whose lease ran out, or whose process is dead, are queued again.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn claim(&self, seconds: Seconds, now: Seconds) -> Result<Option<ClaimedRequest>, StoreError> {
        self.store.write(|connection| {
            expire(connection, now)?;
            let sql = format!(
                "SELECT id FROM scan_requests WHERE state = 'queued' AND (not_before <= $1 OR not_before > $1 + $2) \
                 ORDER BY class, requested_at, id LIMIT 1 {}",
                connection.skip_locked()
            );
            let Some(id) = connection.value::<RequestId>(&sql, &[now.into(), LONGEST_DELAY.into()])? else {
                return Ok(None);
            };
            let sql = "UPDATE scan_requests SET state = 'running', attempts = attempts + 1, claims = claims + 1, \
                       lease_process = $2, lease_until = $3, lease_seconds = $4 WHERE id = $1 \
                       RETURNING claims, attempts, reference, class";
            let until = now.saturating_add(seconds);
            let values = [id.into(), process::own().into(), until.into(), seconds.into()];
            let row: Option<(i64, u64, String, RequestClass)> = connection.query_one(sql, &values)?;
            let (claim, attempt, reference, class) = row.ok_or_else(|| Fault::missing("a request"))?;
            Ok(Some(ClaimedRequest { reference, attempt, class, id, claim }))
        })
    }

    /// Extends a claim; `false` when it went to another process.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn renew(&self, claimed: &ClaimedRequest, seconds: Seconds, now: Seconds) -> Result<bool, StoreError> {
        let sql = "UPDATE scan_requests SET lease_until = $3, lease_seconds = $4 \
                   WHERE id = $1 AND claims = $2 AND state = 'running'";
        let values = [claimed.id.into(), claimed.claim.into(), now.saturating_add(seconds).into(), seconds.into()];
        self.store.write(|connection| Ok(connection.execute(sql, &values)? == 1))
    }

    /// Ends a request that was scanned under `key`; `false`, and nothing is recorded, when it went to another process.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a key of more than 512 bytes, [`StoreError::Database`].
    pub fn finish(&self, claimed: &ClaimedRequest, key: &LayerKey, now: Seconds) -> Result<bool, StoreError> {
        let done = "UPDATE scan_requests SET state = 'done', lease_process = NULL, lease_until = NULL, error = NULL, \
                    failure = NULL, ended_at = $3, layer_key_id = $4 \
                    WHERE id = $1 AND claims = $2 AND state = 'running'";
        let asked = "UPDATE asked_images SET layer_key_id = $2 WHERE reference = $1";
        self.store.write(|connection| {
            let key = intern::layer_key(connection, key)?;
            let values = [claimed.id.into(), claimed.claim.into(), now.into(), key.into()];
            if connection.execute(done, &values)? == 0 {
                return Ok(false);
            }
            connection.execute(asked, &[(&claimed.reference).into(), key.into()])?;
            Ok(true)
        })
    }

    /// Gives a request back, without an attempt having been made.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn release(&self, claimed: &ClaimedRequest) -> Result<bool, StoreError> {
        let sql = "UPDATE scan_requests SET state = 'queued', attempts = attempts - 1, lease_process = NULL, \
                   lease_until = NULL WHERE id = $1 AND claims = $2 AND state = 'running'";
        self.store.write(|connection| Ok(connection.execute(sql, &[claimed.id.into(), claimed.claim.into()])? == 1))
    }

    /// Records that an image could not be read: `failure` is the kind, `error` the text. What may succeed later is
    /// tried again after `delay` seconds, three times in all; anything else has failed, and is tried again when it is
    /// asked for after that time.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn fail(
        &self,
        claimed: &ClaimedRequest,
        (failure, error): (&str, &str),
        may_succeed: bool,
        delay: Seconds,
        now: Seconds,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE scan_requests SET \
                   state = CASE WHEN $3 = 1 AND attempts < $4 THEN 'queued' ELSE 'failed' END, \
                   lease_process = NULL, lease_until = NULL, failure = $5, error = $6, not_before = $7, \
                   ended_at = CASE WHEN $3 = 1 AND attempts < $4 THEN NULL ELSE CAST($8 AS BIGINT) END \
                   WHERE id = $1 AND claims = $2 AND state = 'running'";
        let error: String = error.chars().take(ERROR).collect();
        let later = now.saturating_add(delay.min(LONGEST_DELAY));
        let values = [
            claimed.id.into(),
            claimed.claim.into(),
            i64::from(may_succeed).into(),
            ATTEMPTS.into(),
            failure.into(),
            error.into(),
            later.into(),
            now.into(),
        ];
        self.store.write(|connection| Ok(connection.execute(sql, &values)? == 1))
    }

    /// The request for a reference.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn find(&self, reference: &str) -> Result<Option<StoredRequest>, StoreError> {
        self.store.read(|connection| find(connection, reference))
    }

    /// The request with this number.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn find_by_id(&self, id: RequestId) -> Result<Option<StoredRequest>, StoreError> {
        let found =
            self.store.read(|connection| connection.select("FROM scan_requests WHERE id = $1", &[id.into()]))?;
        Ok(found.into_iter().next())
    }

    /// The requests in the order of their numbers, those after `after` only where one is named, and those in one state
    /// only where that is named; at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn list(
        &self,
        state: Option<RequestState>,
        after: Option<RequestId>,
        limit: u64,
    ) -> Result<Page<StoredRequest>, StoreError> {
        // Not a parameter: the indexes of requests that wait or are being scanned have the state in their conditions.
        let condition = state.map(|state| format!("AND state = '{}'", state.name())).unwrap_or_default();
        let sql = format!("SELECT {} FROM scan_requests WHERE id > $1 {condition} ORDER BY id", StoredRequest::COLUMNS);
        let after = after.map_or(Value::Int(0), Value::from);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.store.read(|connection| connection.page(&sql, std::slice::from_ref(&after), limit))
    }

    /// How many requests that wait come before this one; none where it does not wait.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn position(&self, request: &StoredRequest) -> Result<u64, StoreError> {
        if request.state != RequestState::Queued {
            return Ok(0);
        }
        let sql = "SELECT count(*) FROM scan_requests WHERE state = 'queued' AND (class < $1 \
             OR (class = $1 AND (requested_at < $2 OR (requested_at = $2 AND id < $3))))";
        let values = [request.class.number().into(), request.requested_at.into(), request.id.into()];
        Ok(self.store.read(|connection| connection.value(sql, &values))?.unwrap_or_default())
    }

    /// How many requests wait, by class.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn queued(&self) -> Result<Vec<(RequestClass, u64)>, StoreError> {
        let sql = "SELECT class, count(*) FROM scan_requests WHERE state = 'queued' GROUP BY class ORDER BY class";
        self.store.read(|connection| connection.query(sql, &[]))
    }
}

/// The longest delay of a request in seconds: a time further away was set by a clock that was wrong.
const LONGEST_DELAY: Seconds = 3_600;

fn find(connection: &mut Connection, reference: &str) -> Result<Option<StoredRequest>, Fault> {
    let sql = format!("SELECT {} FROM scan_requests WHERE reference = $1", StoredRequest::COLUMNS);
    connection.query_one(&sql, &[reference.into()])
}

/// Whether a request that waits is to be scanned earlier than it would be, by its class or by its time.
fn is_moved_up(stored: &StoredRequest, request: &ScanRequest, not_before: Seconds) -> bool {
    let is_later = stored.attempts == 0 && stored.not_before > not_before;
    is_waiting(stored.state) && (stored.class > request.class || is_later)
}

/// What is answered about a request that is in the store, where nothing changes by it.
fn known_answer(
    stored: &StoredRequest,
    key: &LayerKey,
    is_again: bool,
    limits: &RequestLimits,
    now: Seconds,
) -> Option<Submitted> {
    match stored.state {
        state if is_waiting(state) => Some(Submitted::Accepted(state)),
        RequestState::Done if !is_again && stored.key.as_ref() == Some(key) => {
            Some(Submitted::Done { ended_at: stored.ended_at.unwrap_or(stored.requested_at) })
        }
        // A clock that was wrong may have set a time that is far away.
        RequestState::Failed if (now..=now.saturating_add(limits.retry_failed)).contains(&stored.not_before) => {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            Some(Submitted::Failed(text(&stored.failure), text(&stored.error)))
        }
        _ => None,
    }
}

fn is_waiting(state: RequestState) -> bool {
    matches!(state, RequestState::Queued | RequestState::Running)
}

fn is_full(connection: &mut Connection, client: &str, limits: &RequestLimits) -> Result<bool, Fault> {
    // PostgreSQL sums to a type of its own.
    let sql = "SELECT count(*), CAST(COALESCE(sum(CASE WHEN client = $1 THEN 1 ELSE 0 END), 0) AS BIGINT) \
               FROM scan_requests WHERE state = 'queued'";
    let counts: Option<(u64, u64)> = connection.query_one(sql, &[client.into()])?;
    Ok(counts.is_some_and(|(all, own)| all >= limits.queued || own >= limits.queued_per_client))
}

/// Queues requests again whose lease ran out, or whose process on this host is dead.
fn expire(connection: &mut Connection, now: Seconds) -> Result<(), Fault> {
    const LOST: &str = "UPDATE scan_requests SET state = CASE WHEN attempts >= $1 THEN 'failed' ELSE 'queued' END, \
                        failure = 'failed', lease_process = NULL, lease_until = NULL, \
                        not_before = CASE WHEN attempts >= $1 THEN CAST($2 AS BIGINT) + $3 ELSE 0 END, \
                        ended_at = CASE WHEN attempts >= $1 THEN CAST($2 AS BIGINT) END";
    let sql = format!(
        "{LOST}, error = 'its lease ran out' \
         WHERE state = 'running' AND (lease_until <= $2 OR lease_until > $2 + 2 * lease_seconds)"
    );
    connection.execute(&sql, &[ATTEMPTS.into(), now.into(), LOST_DELAY.into()])?;
    let running: Vec<(RequestId, Option<String>)> =
        connection.query("SELECT id, lease_process FROM scan_requests WHERE state = 'running' ORDER BY id", &[])?;
    let mut processes = Processes::default();
    for (id, owner) in running {
        if let Some(owner) = owner.filter(|owner| processes.is_dead(owner)) {
            let sql = format!(
                "{LOST}, error = 'the process that scanned it was killed' \
                 WHERE id = $4 AND state = 'running' AND lease_process = $5"
            );
            let values = [ATTEMPTS.into(), now.into(), LOST_DELAY.into(), id.into(), owner.into()];
            connection.execute(&sql, &values)?;
        }
    }
    Ok(())
}
