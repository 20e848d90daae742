//! A few connections to the store, shared by the threads of a process, and the transactions that run on them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::backend::{Connection, Mode};
use super::error::{DatabaseError, Fault, StoreError};
use super::location::Location;
use super::migrations;

/// How many connections a process holds at most; further threads wait.
const CONNECTIONS: usize = 8;

/// How often a transaction is run again when another was in its way.
const ATTEMPTS: u32 = 10;

/// Connections to one store.
pub(super) struct Pool {
    location: Location,
    state: Mutex<State>,
    returned: Condvar,
    /// SQLite has one writer at a time; waiting here is fairer and quicker than its polling.
    writer: Mutex<()>,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    open: usize,
}

impl Pool {
    /// Opens the store at `location`, and brings its schema up to date.
    pub(super) fn open(location: Location) -> Result<Pool, StoreError> {
        let name = location.to_string();
        let failed = |fault: Fault| match fault.at(&name) {
            StoreError::Database { store, source } => StoreError::Open { store, source },
            error => error,
        };
        let mut connection = Connection::open(&location).map_err(failed)?;
        migrations::apply(&mut connection, &name).map_err(failed)?;
        let state = State { idle: vec![connection], open: 1 };
        Ok(Pool { location, state: Mutex::new(state), returned: Condvar::new(), writer: Mutex::new(()) })
    }

    /// The path or the URL, without a password.
    pub(super) fn location(&self) -> &Location {
        &self.location
    }

    /// Runs `work` in a transaction: all of it happens, or nothing. It may run more than once.
    pub(super) fn run<T>(
        &self,
        mode: Mode,
        mut work: impl FnMut(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let is_file = matches!(self.location, Location::File(_));
        let _turn = (is_file && mode == Mode::Write).then(|| lock(&self.writer));
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.attempt(mode, &mut work) {
                Err(Fault::Conflict(_)) if attempt < ATTEMPTS => {
                    std::thread::sleep(Duration::from_millis(2 << attempt.min(7)));
                }
                Err(Fault::Lost(_)) if attempt < 3 => self.forget_idle(),
                result => return result.map_err(|fault| fault.at(&self.location.to_string())),
            }
        }
    }

    fn attempt<T>(&self, mode: Mode, work: &mut impl FnMut(&mut Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut taken = self.take()?;
        let Some(connection) = &mut taken.connection else { return Err(Fault::Lost(DatabaseError::NoConnection)) };
        connection.begin(mode)?;
        let done = work(connection).and_then(|value| match connection.batch("COMMIT") {
            Ok(()) => Ok(value),
            // Whether it was committed is not known, so that it must not run again.
            Err(Fault::Lost(error)) => Err(Fault::Database(error)),
            Err(fault) => Err(fault),
        });
        taken.healthy = done.is_ok() || connection.batch("ROLLBACK").is_ok();
        done
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
        taken.connection = Some(Connection::open(&self.location)?);
        Ok(taken)
    }

    fn forget_idle(&self) {
        let mut state = lock(&self.state);
        state.open -= state.idle.len();
        state.idle.clear();
    }
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
