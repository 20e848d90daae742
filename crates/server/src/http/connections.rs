//! How many connections there may be at a time. A new one is never refused for those that wait: the one that was idle
//! longest gives way to it. Otherwise, a client that opens connections and sends nothing would lock others out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A request that takes longer than this may give way as well: whoever reads its answer that slowly is not waiting.
const LONGEST_REQUEST: Duration = Duration::from_secs(60);

/// The connections of a service.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// All connections. The number only grows, and a connection gets a new one whenever it becomes idle: the first is
    /// the one that was idle longest.
    by_number: BTreeMap<u64, Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    busy_since: Option<Instant>,
    give_way: Arc<Notify>,
}

/// A place among the connections, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    connections: Arc<Connections>,
    number: Mutex<u64>,
    give_way: Arc<Notify>,
}

impl Connections {
    pub(crate) fn new(most: usize) -> Arc<Connections> {
        Arc::new(Connections { most: most.max(1), open: Mutex::default() })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().by_number.len()
    }

    /// A place for a new connection; `None` where all others are answering requests.
    pub(crate) fn open(self: &Arc<Connections>) -> Option<Slot> {
        let mut open = self.lock();
        if open.by_number.len() >= self.most {
            let now = Instant::now();
            let may_give_way = |connection: &Connection| {
                connection.busy_since.is_none_or(|since| now.duration_since(since) > LONGEST_REQUEST)
            };
            let (&number, _) = open.by_number.iter().find(|(_, connection)| may_give_way(connection))?;
            let removed = open.by_number.remove(&number)?;
            removed.give_way.notify_one();
        }
        let give_way = Arc::new(Notify::new());
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, Connection { busy_since: None, give_way: Arc::clone(&give_way) });
        drop(open);
        Some(Slot { connections: Arc::clone(self), number: Mutex::new(number), give_way })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Returns when the connection has to be closed, for another one.
    pub(crate) async fn gave_way(&self) {
        self.give_way.notified().await;
    }

    /// Says that a request is being answered, until what it returns is dropped.
    pub(crate) fn begin(self: &Arc<Slot>) -> Busy {
        self.renumber(Some(Instant::now()));
        Busy(Arc::clone(self))
    }

    fn renumber(&self, busy_since: Option<Instant>) {
        let mut number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = self.connections.lock();
        // One that gave way is not counted any more.
        if let Some(connection) = open.by_number.remove(&number) {
            *number = open.next;
            open.next += 1;
            open.by_number.insert(*number, Connection { busy_since, ..connection });
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Slot>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.renumber(None);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let number = *self.number.lock().unwrap_or_else(PoisonError::into_inner);
        self.connections.lock().by_number.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gave_way(slot: &Slot) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_millis(1), slot.gave_way()).await.is_ok() })
    }

    #[test]
    fn the_one_that_was_idle_longest_gives_way() {
        let connections = Connections::new(3);
        let [first, second, third] = [(); 3].map(|()| Arc::new(connections.open().unwrap()));
        let busy = first.begin();
        drop(second.begin());
        // `third` was never used, `second` a moment ago, `first` is.
        let fourth = Arc::new(connections.open().unwrap());
        assert_eq!((gave_way(&first), gave_way(&second), gave_way(&third)), (false, false, true));
        drop(third.begin());
        drop(third);
        assert_eq!(connections.count(), 3);
        let _busy = [&second, &fourth].map(Slot::begin);
        assert!(connections.open().is_none(), "all are busy");
        drop((busy, first));
        assert!(connections.open().is_some());
    }
}
