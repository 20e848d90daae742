//! A few connections to the store, shared by the threads of a process, and the transactions that run on them.
//!
//! A transaction runs again when another was in its way, and when the connection broke: a server that restarts is
//! waited for. Where the connection broke in the middle of a commit, the server is asked whether it was committed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::backend::{Connection, Mark, Mode, Opening};
use super::error::{DatabaseError, Fault, StoreError};
use super::location::Location;
use super::migrations;
use super::options::StoreOptions;

/// How many connections a process holds at most; further threads wait.
const CONNECTIONS: usize = 8;

/// How often a transaction is run again at least when another was in its way, and how long.
const ATTEMPTS: u32 = 10;
const CONFLICTS: Duration = Duration::from_secs(60);

/// How often it is run again while others use the memory that it needs.
const SHORTAGES: u32 = 8;

/// The longest pause before a transaction is run again, in milliseconds.
const LONGEST_PAUSE: u64 = 1_000;

/// How often it is looked whether a wait was cancelled.
const TICK: Duration = Duration::from_millis(50);

/// Connections to one store.
pub(super) struct Pool {
    location: Location,
    options: StoreOptions,
    state: Mutex<State>,
    returned: Condvar,
    /// SQLite has one writer at a time; waiting here is fairer and quicker than its polling.
    writer: Mutex<()>,
    /// Whether the server is out of reach, as far as is known.
    is_out: AtomicBool,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    open: usize,
}

/// What came of one attempt to run a transaction.
enum Outcome<T> {
    /// It was committed.
    Committed(T),
    /// The connection broke before the server said whether it was committed.
    Unknown(T, Mark),
}

impl Pool {
    /// Opens the store at `location`, and brings its schema up to date.
    pub(super) fn open(location: Location, options: StoreOptions) -> Result<Pool, StoreError> {
        let name = location.to_string();
        let pool = Pool {
            location,
            options,
            state: Mutex::default(),
            returned: Condvar::new(),
            writer: Mutex::new(()),
            is_out: AtomicBool::new(false),
        };
        let mut retries = Retries::new(&pool, Wait::ForAnswer);
        let connection = loop {
            match pool.connect_first() {
                Ok(connection) => break connection,
                Err(fault) if retries.again(&fault) => {}
                Err(fault) => {
                    return Err(match fault.at(&name) {
                        StoreError::Database { store, source } => StoreError::Open { store, source },
                        error => error,
                    });
                }
            }
        };
        pool.note_answer();
        let mut state = lock(&pool.state);
        state.idle.push(connection);
        state.open = 1;
        drop(state);
        Ok(pool)
    }

    fn connect_first(&self) -> Result<Connection, Fault> {
        let name = self.location.to_string();
        let missing = || Fault::Refused(StoreError::Missing { store: name.clone() });
        let opening = self.options.opening();
        if let (Opening::Existing, Location::File(path)) = (opening, &self.location)
            && path.try_exists().is_ok_and(|exists| !exists)
        {
            return Err(missing());
        }
        let mut connection = Connection::open(&self.location, opening)?;
        if opening == Opening::Existing && !migrations::is_store(&mut connection)? {
            return Err(missing());
        }
        migrations::apply(&mut connection, &name)?;
        Ok(connection)
    }

    /// The path or the URL, without a password.
    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    /// Runs `work` in a transaction: all of it happens, once, or nothing. `work` itself may run more than once.
    pub(super) fn run<T>(
        &self,
        mode: Mode,
        mut work: impl FnMut(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let is_file = matches!(self.location, Location::File(_));
        let _turn = (is_file && mode == Mode::Write).then(|| lock(&self.writer));
        let mut retries = Retries::new(self, Wait::ForServer);
        let mut unknown: Option<(T, Mark)> = None;
        loop {
            let outcome = match unknown.take() {
                None => self.attempt(mode, &mut work),
                Some((value, mark)) => match self.was_committed(&mark) {
                    Ok(true) => Ok(Outcome::Committed(value)),
                    Ok(false) => Err(Fault::Lost(DatabaseError::NoConnection)),
                    Err(fault) => {
                        unknown = Some((value, mark));
                        Err(fault)
                    }
                },
            };
            match outcome {
                Ok(Outcome::Committed(value)) => {
                    self.note_answer();
                    return Ok(value);
                }
                Ok(Outcome::Unknown(value, mark)) => {
                    self.forget_idle();
                    unknown = Some((value, mark));
                }
                Err(fault) if retries.again(&fault) => {}
                Err(fault) => return Err(fault.at(&self.location.to_string())),
            }
        }
    }

    fn attempt<T>(
        &self,
        mode: Mode,
        work: &mut impl FnMut(&mut Connection) -> Result<T, Fault>,
    ) -> Result<Outcome<T>, Fault> {
        let mut taken = self.take()?;
        let Some(connection) = &mut taken.connection else { return Err(Fault::Lost(DatabaseError::NoConnection)) };
        connection.begin(mode)?;
        let done = work(connection).and_then(|value| {
            let mark = connection.next_mark(mode);
            match (connection.commit(mark.as_ref()), mark) {
                (Ok(()), _) => Ok(Outcome::Committed(value)),
                (Err(Fault::Lost(_)), Some(mark)) => Ok(Outcome::Unknown(value, mark)),
                (Err(fault), _) => Err(fault),
            }
        });
        taken.healthy = match done {
            Ok(Outcome::Committed(_)) => true,
            Ok(Outcome::Unknown(..)) => false,
            Err(_) => connection.batch("ROLLBACK").is_ok(),
        };
        done
    }

    /// Whether the transaction with this mark was committed.
    fn was_committed(&self, mark: &Mark) -> Result<bool, Fault> {
        let mut taken = self.take()?;
        let Some(connection) = &mut taken.connection else { return Err(Fault::Lost(DatabaseError::NoConnection)) };
        let answer = connection.was_committed(mark);
        taken.healthy = answer.is_ok();
        answer
    }

    /// Runs `work` on a connection outside a transaction.
    pub(super) fn outside(&self, work: impl FnOnce(&mut Connection) -> Result<(), Fault>) -> Result<(), StoreError> {
        let run = || {
            let mut taken = self.take()?;
            let Some(connection) = &mut taken.connection else { return Err(Fault::Lost(DatabaseError::NoConnection)) };
            work(connection)?;
            taken.healthy = true;
            Ok(())
        };
        run().map_err(|fault: Fault| fault.at(&self.location.to_string()))
    }

    /// Reads something, without waiting for a server that is out of reach.
    pub(super) fn ping(&self) -> Result<(), StoreError> {
        let read = |connection: &mut Connection| {
            connection.value::<Option<i64>>("SELECT max(version) FROM schema_versions", &[]).map(drop)
        };
        self.outside(read).or_else(|_| {
            // The server may have closed the connections that were idle.
            self.forget_idle();
            self.outside(read)
        })
    }

    fn take(&self) -> Result<Taken<'_>, Fault> {
        let mut state = lock(&self.state);
        loop {
            if let Some(connection) = state.idle.pop() {
                return Ok(Taken { pool: self, connection: Some(connection), healthy: false });
            }
            if state.open < CONNECTIONS {
                break;
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.open += 1;
        drop(state);
        // Counted as open from here on, and given back when this goes out of scope.
        let mut taken = Taken { pool: self, connection: None, healthy: false };
        taken.connection = Some(Connection::open(&self.location, self.options.opening())?);
        Ok(taken)
    }

    /// Closes the connections that nobody uses: after one broke, the others are likely to be broken as well.
    fn forget_idle(&self) {
        let mut state = lock(&self.state);
        state.open -= state.idle.len();
        state.idle.clear();
    }

    fn note_outage(&self, fault: &Fault) {
        if !self.is_out.swap(true, Ordering::Relaxed) {
            let patience = self.options.patience.as_secs();
            tracing::warn!(store = %self.location, reason = %fault, patience, "store out of reach: waiting for it");
        }
    }

    fn note_answer(&self) {
        if self.is_out.load(Ordering::Relaxed) && self.is_out.swap(false, Ordering::Relaxed) {
            tracing::info!(store = %self.location, "store answers again");
        }
    }
}

/// How a call waits for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Also for one that does not answer: it did before.
    ForServer,
    /// Only for one that answers, and says that it starts or is busy: a wrong address is told at once.
    ForAnswer,
}

/// How often and how long one transaction was run again.
struct Retries<'p> {
    pool: &'p Pool,
    wait: Wait,
    conflicts: u32,
    shortages: u32,
    losses: u32,
    /// When it first failed, by each of the two causes.
    conflicts_since: Option<Instant>,
    losses_since: Option<Instant>,
}

impl<'p> Retries<'p> {
    fn new(pool: &'p Pool, wait: Wait) -> Retries<'p> {
        Retries { pool, wait, conflicts: 0, shortages: 0, losses: 0, conflicts_since: None, losses_since: None }
    }

    /// Whether to run the transaction again after `fault`; by then it has paused.
    fn again(&mut self, fault: &Fault) -> bool {
        match fault {
            Fault::Conflict(_) => self.after_conflict(),
            Fault::Memory(_) => self.after_shortage(),
            Fault::Lost(error) => self.after_loss(fault, error),
            _ => false,
        }
    }

    fn after_conflict(&mut self) -> bool {
        let since = *self.conflicts_since.get_or_insert_with(Instant::now);
        self.conflicts += 1;
        if self.conflicts >= ATTEMPTS && since.elapsed() >= CONFLICTS {
            return false;
        }
        pause(self.conflicts);
        true
    }

    fn after_shortage(&mut self) -> bool {
        let state = lock(&self.pool.state);
        let is_alone = state.open == state.idle.len();
        drop(state);
        self.shortages += 1;
        // Who had the memory the first time may have ended by now.
        if self.shortages >= SHORTAGES || (is_alone && self.shortages > 1) {
            return false;
        }
        pause(self.shortages);
        true
    }

    fn after_loss(&mut self, fault: &Fault, error: &DatabaseError) -> bool {
        self.pool.forget_idle();
        let since = *self.losses_since.get_or_insert_with(Instant::now);
        self.losses += 1;
        let is_answer = matches!(error, DatabaseError::Postgres { code: Some(_), .. });
        if self.wait == Wait::ForAnswer && !is_answer {
            return false;
        }
        // A connection that was idle may have been closed long ago, while the server is there.
        if self.losses == 1 && self.wait == Wait::ForServer {
            return true;
        }
        self.pool.note_outage(fault);
        let pause = Duration::from_millis((50_u64 << self.losses.min(8)).min(LONGEST_PAUSE));
        let until = Instant::now() + pause.mul_f64(0.5 + 0.5 * fastrand::f64());
        while Instant::now() < until {
            if self.pool.options.is_cancelled() {
                return false;
            }
            thread::sleep(TICK);
        }
        since.elapsed() < self.pool.options.patience
    }
}

/// Waits before the attempt after `failed` ones, for a random time, so that two do not meet again.
fn pause(failed: u32) {
    let longest = (4_u64 << failed.min(8)).min(LONGEST_PAUSE);
    thread::sleep(Duration::from_millis(fastrand::u64(1..=longest)));
}

/// A connection that is in use. It goes back to the pool when this is dropped, or is closed after a failure.
struct Taken<'p> {
    pool: &'p Pool,
    connection: Option<Connection>,
    healthy: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let kept = self.connection.take().filter(|connection| self.healthy && !connection.is_lost());
        let mut state = lock(&self.pool.state);
        match kept {
            Some(connection) => state.idle.push(connection),
            None => state.open -= 1,
        }
        self.pool.returned.notify_one();
    }
}

/// Locks `mutex`, even after a thread panicked while it held the lock: its state is consistent at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
