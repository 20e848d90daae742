//! Cancellation: tells work that is waiting to stop, because its caller gave up or a deadline has passed.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use layersift_model::GapReason;

/// Why an operation stopped before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelReason {
    /// [`Cancellation::cancel`] was called.
    #[error("cancelled")]
    Cancelled,
    /// The deadline has passed.
    #[error("deadline exceeded")]
    DeadlineExceeded,
}

impl CancelReason {
    /// The reason among an error and its sources, if the error comes from a cancellation at all.
    pub fn of(error: &(dyn Error + 'static)) -> Option<CancelReason> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(reason) = error.downcast_ref::<CancelReason>() {
                return Some(*reason);
            }
            // `io::Error::source` skips the error that it wraps.
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            next = wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| error.source());
        }
        None
    }
}

/// The reason of the gap that is left where something could not be read because of `error`.
pub fn unread_reason(error: &(dyn Error + 'static)) -> GapReason {
    match CancelReason::of(error) {
        Some(CancelReason::Cancelled) => GapReason::Cancelled,
        Some(CancelReason::DeadlineExceeded) => GapReason::DeadlineExceeded,
        None => GapReason::Unreadable,
    }
}

impl From<CancelReason> for io::Error {
    // Not `ErrorKind::Interrupted`: readers repeat a read that fails with it.
    fn from(reason: CancelReason) -> io::Error {
        io::Error::other(reason)
    }
}

/// A token that operations check before and while they wait. A clone is the same token. A child is cancelled with its
/// parent, and may have an earlier deadline.
///
/// ```
/// use std::time::Duration;
/// use layersift_format::{CancelReason, Cancellation};
///
/// let scan = Cancellation::with_deadline(Duration::from_secs(60));
/// let request = scan.child_with_deadline(Duration::from_secs(10));
/// scan.cancel();
/// assert!(request.wait(Duration::from_secs(5)), "it returns at once");
/// assert_eq!(request.check(), Err(CancelReason::Cancelled));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Option<Arc<Token>>);

#[derive(Debug)]
struct Token {
    is_cancelled: AtomicBool,
    deadline: Option<Instant>,
    /// Keeps the token that cancels this one alive, although nobody else may hold it.
    _parent: Option<Arc<Token>>,
    /// The tokens that are cancelled with this one. `is_cancelled` is set under this lock.
    children: Mutex<Vec<Weak<Token>>>,
    cancelled: Condvar,
}

impl Cancellation {
    /// A token that is never cancelled: [`Cancellation::cancel`] does nothing. This is the default.
    pub fn never() -> Cancellation {
        Cancellation(None)
    }

    /// A token without a deadline.
    pub fn new() -> Cancellation {
        Cancellation(Some(Arc::new(Token::new(None, None))))
    }

    /// A token that is cancelled after `time`, counted from now.
    pub fn with_deadline(time: Duration) -> Cancellation {
        Cancellation(Some(Arc::new(Token::new(Instant::now().checked_add(time), None))))
    }

    /// A token that is cancelled with this one, and can be cancelled by itself.
    pub fn child(&self) -> Cancellation {
        self.child_until(None)
    }

    /// The same, with a deadline of its own, `time` from now. Where the parent's is earlier, that one counts.
    pub fn child_with_deadline(&self, time: Duration) -> Cancellation {
        self.child_until(Instant::now().checked_add(time))
    }

    /// Cancels this token and its children, and wakes all who wait for them.
    pub fn cancel(&self) {
        if let Some(token) = &self.0 {
            token.cancel();
        }
    }

    /// Whether it was cancelled or its deadline has passed.
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Why it is cancelled; `None` as long as it is not.
    pub fn reason(&self) -> Option<CancelReason> {
        self.0.as_ref()?.reason()
    }

    /// Fails if it is cancelled, for use with `?`.
    ///
    /// # Errors
    /// The reason.
    pub fn check(&self) -> Result<(), CancelReason> {
        self.reason().map_or(Ok(()), Err)
    }

    /// Whether it can be cancelled at all: not if it is [`Cancellation::never`].
    pub fn can_cancel(&self) -> bool {
        self.0.is_some()
    }

    /// The time until the deadline; zero if it is cancelled, `None` if it has no deadline.
    pub fn remaining(&self) -> Option<Duration> {
        let token = self.0.as_ref()?;
        if token.reason().is_some() {
            return Some(Duration::ZERO);
        }
        token.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Sleeps for `time`, or until it is cancelled or its deadline passes. Returns whether it is cancelled.
    pub fn wait(&self, time: Duration) -> bool {
        match &self.0 {
            Some(token) => token.wait(time),
            None => {
                std::thread::sleep(time);
                false
            }
        }
    }

    fn child_until(&self, deadline: Option<Instant>) -> Cancellation {
        let Some(parent) = &self.0 else { return Cancellation(Some(Arc::new(Token::new(deadline, None)))) };
        let deadline = [deadline, parent.deadline].into_iter().flatten().min();
        let child = Arc::new(Token::new(deadline, Some(Arc::clone(parent))));
        let mut children = parent.lock();
        if parent.is_cancelled.load(Ordering::Acquire) {
            child.is_cancelled.store(true, Ordering::Release);
        }
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&child));
        drop(children);
        Cancellation(Some(child))
    }
}

impl Token {
    fn new(deadline: Option<Instant>, parent: Option<Arc<Token>>) -> Token {
        let (is_cancelled, children, cancelled) = (AtomicBool::new(false), Mutex::default(), Condvar::new());
        Token { is_cancelled, deadline, _parent: parent, children, cancelled }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Token>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self) {
        let mut children = self.lock();
        self.is_cancelled.store(true, Ordering::Release);
        let cancelled = std::mem::take(&mut *children);
        drop(children);
        self.cancelled.notify_all();
        cancelled.iter().filter_map(Weak::upgrade).for_each(|child| child.cancel());
    }

    fn reason(&self) -> Option<CancelReason> {
        if self.is_cancelled.load(Ordering::Acquire) {
            return Some(CancelReason::Cancelled);
        }
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline).then_some(CancelReason::DeadlineExceeded)
    }

    fn wait(&self, time: Duration) -> bool {
        let until = Instant::now().checked_add(time);
        let end = [until, self.deadline].into_iter().flatten().min();
        let mut children = self.lock();
        loop {
            let now = Instant::now();
            if self.reason().is_some() || end.is_some_and(|end| now >= end) {
                return self.reason().is_some();
            }
            children = match end {
                Some(end) => {
                    let waited = self.cancelled.wait_timeout(children, end - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.cancelled.wait(children).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any test may take: a wait that is not woken makes the test hang, and not pass.
    const LONG: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_token_that_is_never_cancelled() {
        let never = Cancellation::default();
        never.cancel();
        assert!(!never.can_cancel() && !never.is_cancelled());
        assert_eq!((never.remaining(), never.check()), (None, Ok(())));
        assert!(!never.wait(Duration::from_millis(1)));
        let child = never.child();
        child.cancel();
        assert!(child.is_cancelled());
    }

    #[test]
    fn a_clone_is_the_same_token() {
        let token = Cancellation::new();
        let clone = token.clone();
        assert!(!token.wait(Duration::from_millis(1)));
        clone.cancel();
        assert_eq!(token.reason(), Some(CancelReason::Cancelled));
        assert_eq!(token.remaining(), Some(Duration::ZERO));
        assert!(token.wait(LONG));
    }

    #[test]
    fn a_deadline_passes() {
        let token = Cancellation::with_deadline(Duration::from_millis(1));
        assert!(token.wait(LONG));
        assert_eq!(token.check(), Err(CancelReason::DeadlineExceeded));
        assert_eq!(token.remaining(), Some(Duration::ZERO));
        let far = Cancellation::with_deadline(Duration::MAX);
        assert_eq!((far.remaining(), far.is_cancelled()), (None, false));
    }

    #[test]
    fn waiting_threads_are_woken() {
        let token = Cancellation::new();
        let child = token.child_with_deadline(LONG).child();
        std::thread::scope(|scope| {
            let waiting = [token.clone(), child].map(|token| scope.spawn(move || token.wait(LONG)));
            token.cancel();
            assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
        });
    }

    #[test]
    fn children_end_with_their_parent_and_not_the_other_way_round() {
        let parent = Cancellation::with_deadline(LONG);
        let (child, sibling) = (parent.child(), parent.child_with_deadline(Duration::MAX));
        assert!(sibling.remaining().is_some_and(|left| left <= LONG));
        child.cancel();
        assert!(child.is_cancelled() && !parent.is_cancelled() && !sibling.is_cancelled());
        let short = parent.child_with_deadline(Duration::ZERO);
        assert_eq!((short.reason(), parent.reason()), (Some(CancelReason::DeadlineExceeded), None));
        parent.cancel();
        assert!(sibling.is_cancelled());
        assert_eq!(parent.child().reason(), Some(CancelReason::Cancelled), "a child that came too late");
    }

    #[test]
    fn the_reason_is_found_inside_other_errors() {
        let error = io::Error::other(io::Error::from(CancelReason::DeadlineExceeded));
        assert_eq!(CancelReason::of(&error), Some(CancelReason::DeadlineExceeded));
        assert_eq!(CancelReason::of(&io::Error::other("else")), None);
        assert_eq!(CancelReason::of(&io::Error::from(io::ErrorKind::TimedOut)), None);
    }
}
