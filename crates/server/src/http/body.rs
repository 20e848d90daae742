//! A body that is parsed while it arrives: it is never whole in memory, however large it is.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use crate::http::problem::Problem;

/// Bytes of a body that is parsed when it has arrived.
const SMALL: usize = 32 << 10;

/// What a larger body takes of the memory for bodies: a chunk that is parsed, one that waits, one that is received and
/// what the connection has read ahead.
const SHARE: usize = 256 << 10;

/// How long a body that has a share may send nothing.
const STALL: Duration = Duration::from_secs(2);

/// How long a body waits for its share.
const WAIT: Duration = Duration::from_secs(2);

/// The memory for bodies, of all connections together.
#[derive(Debug)]
pub(crate) struct BodyMemory {
    shares: Arc<Semaphore>,
}

impl BodyMemory {
    pub(crate) fn new(bytes: u32) -> BodyMemory {
        let shares = (usize::try_from(bytes).unwrap_or(usize::MAX) / SHARE).clamp(1, Semaphore::MAX_PERMITS);
        BodyMemory { shares: Arc::new(Semaphore::new(shares)) }
    }

    /// A share, if there is one within a short time, of which half must be left.
    async fn share(&self, until: Instant) -> Result<OwnedSemaphorePermit, Problem> {
        let busy = || Problem::too_many("too many requests are being received; try again", 1);
        let wait = WAIT.min(until.saturating_duration_since(Instant::now()) / 2);
        let share = tokio::time::timeout(wait, Arc::clone(&self.shares).acquire_owned());
        share.await.map_err(|_| busy())?.map_err(|_| busy())
    }
}

/// Parses `body`, which has to arrive within `time`: `parse` reads it as it arrives, on a thread that may block. A body
/// that does not arrive in time is an error of its reader.
///
/// # Errors
/// 429 where there is no memory for it.
pub(crate) async fn parse<T: Send + 'static>(
    mut body: Body,
    memory: &BodyMemory,
    time: Duration,
    parse: impl FnOnce(&mut dyn Read) -> T + Send + 'static,
) -> Result<T, Problem> {
    let until = Instant::now() + time;
    let beginning = match beginning(&mut body, until).await {
        Beginning::Whole(bytes) => return Ok(parse(&mut &bytes[..])),
        Beginning::Failed(error) => return Ok(parse(&mut Failing(Some(error)))),
        Beginning::Part(bytes) => bytes,
    };
    let share = memory.share(until).await?;
    let (chunks, received) = mpsc::channel(1);
    let feed = async move {
        if tokio::time::timeout_at(until, feed(body, &chunks)).await.is_err() {
            let _ = chunks.send(Err(late())).await;
        }
    };
    let parsed = tokio::task::spawn_blocking(move || {
        let _share = share;
        parse(&mut Received { chunks: received, current: beginning, is_over: false })
    });
    // The reader's end of the channel closes when it has read enough, which ends the feeding.
    let ((), parsed) = tokio::join!(feed, parsed);
    parsed.map_err(|_| Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "the request failed"))
}

/// What has arrived of a body before it takes a share: a client that sends slowly delays only itself.
enum Beginning {
    Whole(Bytes),
    Part(Bytes),
    Failed(io::Error),
}

async fn beginning(body: &mut Body, until: Instant) -> Beginning {
    let mut bytes = BytesMut::new();
    while bytes.len() < SMALL {
        match tokio::time::timeout_at(until, body.frame()).await {
            Err(_) => return Beginning::Failed(late()),
            Ok(None) => return Beginning::Whole(bytes.freeze()),
            Ok(Some(Err(error))) => return Beginning::Failed(io::Error::other(error)),
            Ok(Some(Ok(frame))) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
        }
    }
    Beginning::Part(bytes.freeze())
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the body did not arrive in time")
}

/// A body that could not be received.
struct Failing(Option<io::Error>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

async fn feed(mut body: Body, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let frame = tokio::select! {
            frame = tokio::time::timeout(STALL, body.frame()) => match frame {
                Ok(frame) => frame,
                Err(_) => {
                    let _ = chunks.send(Err(late())).await;
                    return;
                }
            },
            // The reader has read enough.
            () = chunks.closed() => return,
        };
        let Some(frame) = frame else { return };
        let chunk = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(data) => Ok(data),
                // Trailers.
                Err(_) => continue,
            },
            Err(error) => Err(io::Error::other(error)),
        };
        let is_last = chunk.is_err();
        if chunks.send(chunk).await.is_err() || is_last {
            return;
        }
    }
}

/// The chunks of a body, to a thread that may block.
struct Received {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    is_over: bool,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.is_over {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk.inspect_err(|_| self.is_over = true)?,
                None => self.is_over = true,
            }
        }
        let read = buffer.len().min(self.current.len());
        buffer[..read].copy_from_slice(&self.current[..read]);
        self.current.advance(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    fn text(reader: &mut dyn Read) -> io::Result<String> {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn a_body_is_read_as_it_arrives() {
        let memory = BodyMemory::new(0);
        let parsed = run(parse(Body::from("a body"), &memory, Duration::from_secs(5), text)).unwrap();
        assert_eq!(parsed.unwrap(), "a body");
    }

    #[test]
    fn a_large_body_is_read_as_it_arrives() {
        let memory = BodyMemory::new(0);
        let body = "0123456789".repeat(SMALL);
        let chunks = body.clone().into_bytes();
        let chunks = futures_util::stream::iter(chunks.chunks(777).map(Bytes::copy_from_slice).collect::<Vec<_>>());
        let stream = futures_util::StreamExt::map(chunks, Ok::<_, io::Error>);
        let parsed = run(parse(Body::from_stream(stream), &memory, Duration::from_secs(30), text)).unwrap();
        assert_eq!(parsed.unwrap(), body);
    }

    #[test]
    fn slow_bodies_hold_up_none_but_themselves() {
        let memory = BodyMemory::new(0);
        let slow = || {
            let first = futures_util::stream::once(async { Ok::<_, io::Error>(Bytes::from_static(b"{")) });
            Body::from_stream(futures_util::StreamExt::chain(first, futures_util::stream::pending()))
        };
        run(async {
            let mut waiting = Vec::new();
            for _ in 0..10 {
                waiting.push(Box::pin(parse(slow(), &memory, Duration::from_secs(30), text)));
            }
            for waits in &mut waiting {
                assert!(futures_util::poll!(waits).is_pending());
            }
            let quick = parse(Body::from("a body"), &memory, Duration::from_secs(30), text).await;
            assert_eq!(quick.unwrap().unwrap(), "a body");
        });
    }

    #[test]
    fn a_body_that_does_not_arrive_is_an_error() {
        let (sender, receiver) = mpsc::channel::<Result<Bytes, io::Error>>(1);
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        });
        let memory = BodyMemory::new(0);
        let parsed = run(parse(Body::from_stream(stream), &memory, Duration::from_millis(20), text)).unwrap();
        assert_eq!(parsed.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(sender);
    }

    #[test]
    fn a_reader_may_stop() {
        let endless = futures_util::stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 4096])));
        let read = |reader: &mut dyn Read| {
            let mut some = [0; 10];
            reader.read_exact(&mut some).map(|()| some)
        };
        let memory = BodyMemory::new(0);
        let parsed = run(parse(Body::from_stream(endless), &memory, Duration::from_secs(30), read)).unwrap();
        assert_eq!(parsed.unwrap(), [b'x'; 10]);
    }
}
