//! Ends connections whose clients do not read. What is to be written to them takes memory that others need, for as long
//! as they like.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a client may take nothing of what there is for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The bytes that a client has to take to be waited for a millisecond longer. Otherwise one that reads a byte now and
/// then would be waited for.
const BYTES_FOR_A_MILLISECOND: u64 = 8;

/// A connection, which fails where its client does not read.
pub(crate) struct Unread<S> {
    stream: S,
    patience: Duration,
    /// How much of it is left.
    left: Duration,
    waiting: Option<Waiting>,
}

/// A wait for the client.
struct Waiting {
    since: Instant,
    over: Pin<Box<Sleep>>,
}

impl<S> Unread<S> {
    pub(crate) fn new(stream: S) -> Unread<S> {
        Unread::patient(stream, PATIENCE)
    }

    fn patient(stream: S, patience: Duration) -> Unread<S> {
        Unread { stream, patience, left: patience, waiting: None }
    }

    /// What becomes of an attempt to write.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        let Poll::Ready(outcome) = outcome else {
            let left = self.left;
            let waiting = self.waiting.get_or_insert_with(|| Waiting::begin(left));
            return waiting.over.as_mut().poll(context).map(|()| Err(not_read()));
        };
        let waited = self.waiting.take().map(|waiting| waiting.since.elapsed()).unwrap_or_default();
        let bytes = outcome.as_ref().map(bytes).unwrap_or_default();
        let earned = u64::try_from(bytes).unwrap_or_default() / BYTES_FOR_A_MILLISECOND;
        self.left = (self.left.saturating_sub(waited) + Duration::from_millis(earned)).min(self.patience);
        Poll::Ready(outcome)
    }
}

impl Waiting {
    fn begin(left: Duration) -> Waiting {
        Waiting { since: Instant::now(), over: Box::pin(tokio::time::sleep(left)) }
    }
}

fn not_read() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the client does not read")
}

impl<S: AsyncRead + Unpin> AsyncRead for Unread<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unread<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, outcome, |bytes| *bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, outcome, |bytes| *bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // With TLS, what is flushed waits for the client as well.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.written(context, outcome, |()| 0)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.written(context, outcome, |()| 0)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::UnixStream;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(400);

    /// Writes 4 MiB to a client that reads so many bytes every 20 ms; how it ends, and after which time.
    async fn write_to(bytes: usize) -> (io::Result<()>, Duration) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(async move {
            let mut buffer = vec![0; bytes];
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if matches!(theirs.try_read(&mut buffer), Ok(0) if bytes > 0) {
                    return;
                }
            }
        });
        let begun = Instant::now();
        let mut connection = Unread::patient(ours, PATIENCE);
        let mut left = &vec![0; 4 << 20][..];
        while !left.is_empty() {
            match poll_fn(|context| Pin::new(&mut connection).poll_write(context, left)).await {
                Ok(written) => left = &left[written..],
                Err(error) => return (Err(error), begun.elapsed()),
            }
        }
        (Ok(()), begun.elapsed())
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_not_waited_for() {
        // Of one that reads little, some of what was written first may count.
        for bytes in [0, 20] {
            let (outcome, took) = write_to(bytes).await;
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut, "{bytes}");
            assert!(took >= PATIENCE && took < 10 * PATIENCE, "{bytes}: {took:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_is_waited_for() {
        let (outcome, took) = write_to(64 << 10).await;
        outcome.unwrap();
        assert!(took > PATIENCE, "{took:?}");
    }
}
