//! Waiting for calls that block, such as socket reads, without waiting longer than a [`Cancellation`] allows.
//!
//! A blocking call cannot be interrupted. Where the operation can be cancelled at all, the call runs on a thread of its
//! own, and it is the caller who stops waiting: the thread ends when its call does, at the latest when the socket's own
//! timeout passes. Without a cancellation the call runs on the caller's thread.

use std::io::{self, Read};
use std::panic;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use layersift_format::{CancelReason, Cancellation};

/// How often a cancellation is checked while a call blocks. What the call returns is never delayed by it.
const POLL: Duration = Duration::from_millis(10);

/// Bytes that are read at a time on another thread.
const CHUNK_BYTES: usize = 64 << 10;

/// Runs `work`, which may block, and returns early when `cancellation` is cancelled.
///
/// # Errors
/// When it is cancelled before `work` is done. `work` then still runs to its end, and its result is dropped.
pub(crate) fn run<T: Send + 'static>(
    cancellation: &Cancellation,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CancelReason> {
    cancellation.check()?;
    if !cancellation.can_cancel() {
        return Ok(work());
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = thread::spawn(move || drop(sender.send(work())));
    match receive(&receiver, cancellation)? {
        Some(result) => Ok(result),
        None => match thread.join() {
            Err(panicked) => panic::resume_unwind(panicked),
            // It ended without a result, which only a panic can make it do.
            Ok(()) => Err(CancelReason::Cancelled),
        },
    }
}

/// Locks `mutex`, whose holder may be waiting for the network.
///
/// # Errors
/// When it is cancelled before.
pub(crate) fn lock<'m, T>(mutex: &'m Mutex<T>, cancellation: &Cancellation) -> Result<MutexGuard<'m, T>, CancelReason> {
    if !cancellation.can_cancel() {
        return Ok(mutex.lock().unwrap_or_else(PoisonError::into_inner));
    }
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => cancellation.check()?,
        }
        cancellation.wait(POLL);
    }
}

/// A reader whose reads fail with a [`CancelReason`] as soon as they are cancelled.
pub(crate) enum CancellableReader {
    /// It cannot be cancelled, and is read on the caller's thread.
    Direct(Box<dyn Read + Send>),
    /// It is read on a thread of its own, at most a few chunks ahead.
    OnThread {
        /// Chunks as they were read. The last one is empty, or an error.
        chunks: Receiver<io::Result<Vec<u8>>>,
        /// The chunk that was received last, and how much of it was read.
        current: io::Cursor<Vec<u8>>,
        /// Whether the empty chunk was received.
        is_at_end: bool,
        /// What ends a read early.
        cancellation: Cancellation,
    },
}

impl CancellableReader {
    /// Reads from `inner` until `cancellation` is cancelled.
    pub(crate) fn new(inner: Box<dyn Read + Send>, cancellation: &Cancellation) -> CancellableReader {
        if !cancellation.can_cancel() {
            return CancellableReader::Direct(inner);
        }
        let (sender, chunks) = mpsc::sync_channel(1);
        thread::spawn(move || read_chunks(inner, &sender));
        CancellableReader::OnThread {
            chunks,
            current: io::Cursor::default(),
            is_at_end: false,
            cancellation: cancellation.clone(),
        }
    }
}

impl Read for CancellableReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (chunks, current, is_at_end, cancellation) = match self {
            CancellableReader::Direct(inner) => return inner.read(buffer),
            CancellableReader::OnThread { chunks, current, is_at_end, cancellation } => {
                (chunks, current, is_at_end, cancellation)
            }
        };
        cancellation.check()?;
        loop {
            let count = current.read(buffer)?;
            if count > 0 || *is_at_end || buffer.is_empty() {
                return Ok(count);
            }
            let lost = || io::Error::other("the thread that reads ended early");
            let chunk = receive(chunks, cancellation)?.ok_or_else(lost);
            let chunk = chunk.and_then(|chunk| chunk)?;
            *is_at_end = chunk.is_empty();
            *current = io::Cursor::new(chunk);
        }
    }
}

/// Sends what `inner` gives, until its end, an error, or until nobody receives.
fn read_chunks(mut inner: Box<dyn Read + Send>, sender: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let result = match inner.read(&mut chunk) {
            Ok(count) => {
                chunk.truncate(count);
                Ok(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_last = result.as_ref().map_or(true, Vec::is_empty);
        if sender.send(result).is_err() || is_last {
            return;
        }
    }
}

/// The next value; `None` where there will be no more.
fn receive<T>(receiver: &Receiver<T>, cancellation: &Cancellation) -> Result<Option<T>, CancelReason> {
    loop {
        let left = cancellation.remaining().unwrap_or(POLL);
        match receiver.recv_timeout(left.min(POLL)) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => cancellation.check()?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that never gives anything.
    struct Silent;

    impl Read for Silent {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            loop {
                thread::park();
            }
        }
    }

    fn soon() -> Cancellation {
        Cancellation::with_deadline(Duration::from_millis(5))
    }

    #[test]
    fn what_blocks_is_left_at_the_deadline() {
        let result = run(&soon(), || Silent.read(&mut []).is_ok());
        assert_eq!(result, Err(CancelReason::DeadlineExceeded));
        let error = CancellableReader::new(Box::new(Silent), &soon()).read(&mut [0; 8]).unwrap_err();
        assert_eq!(CancelReason::of(&error), Some(CancelReason::DeadlineExceeded));
        let mutex = Mutex::new(());
        let held = mutex.lock().unwrap();
        assert_eq!(lock(&mutex, &soon()).err(), Some(CancelReason::DeadlineExceeded));
        drop(held);
        assert!(lock(&mutex, &Cancellation::new()).is_ok());
    }

    #[test]
    fn what_does_not_block_is_the_same_with_and_without_a_cancellation() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|number| (number % 251) as u8).collect();
        for cancellation in [Cancellation::never(), Cancellation::new()] {
            assert_eq!(run(&cancellation, || 7), Ok(7));
            let mut read = Vec::new();
            let inner = io::Cursor::new(bytes.clone());
            CancellableReader::new(Box::new(inner), &cancellation).read_to_end(&mut read).unwrap();
            assert_eq!(read, bytes);
        }
    }

    #[test]
    fn an_error_is_handed_on() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        let mut reader = CancellableReader::new(Box::new(Broken), &Cancellation::new());
        assert_eq!(reader.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(reader.read(&mut [0; 8]).is_err(), "the end would look like the end of the data");
    }
}
