//! Large answers: each piece takes its share of the memory for answers until the client was sent it. Clients that do
//! not read have no more than that between them, and the next one is told to come again.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use anstream::adapter::StripBytes;
use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;

/// The memory for all answers that were not read yet, in KiB.
const MEMORY: usize = 96 << 10;

/// Bytes that are sent together.
const PIECE: usize = 256 << 10;

/// How long an answer waits for memory.
const TURN: Duration = Duration::from_secs(2);

/// Bytes with the memory that they take, which they give back when they were sent.
pub(crate) struct ChargedBytes {
    bytes: Vec<u8>,
    _memory: OwnedSemaphorePermit,
}

impl ChargedBytes {
    /// `bytes`, which take `memory` from now on.
    pub(crate) fn of(bytes: Vec<u8>, memory: OwnedSemaphorePermit) -> Bytes {
        Bytes::from_owner(ChargedBytes { bytes, _memory: memory })
    }
}

impl AsRef<[u8]> for ChargedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The memory for answers.
pub(crate) struct AnswerMemory {
    kib: Arc<Semaphore>,
}

impl AnswerMemory {
    pub(crate) fn new() -> AnswerMemory {
        AnswerMemory { kib: Arc::new(Semaphore::new(MEMORY)) }
    }

    /// The answer that `write` writes, in text without colours, which are for terminals. It is called on a thread of
    /// the runtime that may block.
    ///
    /// # Errors
    /// 503 where others have the memory, and 422 where there will never be enough of it.
    pub(crate) fn answer(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<ChargedAnswer, Problem> {
        let mut answer = ChargedAnswer { pieces: Vec::new(), bytes: 0 };
        let mut writer =
            PieceWriter { memory: self, answer: &mut answer, stripping: StripBytes::new(), piece: Vec::new() };
        let written = write(&mut writer).and_then(|()| writer.pass());
        match written {
            Ok(()) => Ok(answer),
            Err(error)
                if error.kind() == io::ErrorKind::OutOfMemory && answer.bytes / 1024 + PIECE / 1024 >= MEMORY =>
            {
                Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the answer is too large to be sent"))
            }
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                Err(Problem::unavailable("too many large answers are being read; try again"))
            }
            Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the report cannot be written")),
        }
    }
}

/// An answer with the memory that it takes.
pub(crate) struct ChargedAnswer {
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl ChargedAnswer {
    pub(crate) fn into_response(self, media_type: &'static str) -> Response {
        let pieces = self.pieces.into_iter().map(Ok::<_, Infallible>);
        let mut response = Body::from_stream(futures_util::stream::iter(pieces)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.bytes));
        response
    }
}

/// Cuts what is written into pieces.
struct PieceWriter<'a> {
    memory: &'a AnswerMemory,
    answer: &'a mut ChargedAnswer,
    stripping: StripBytes,
    piece: Vec<u8>,
}

impl PieceWriter<'_> {
    fn pass(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.piece).into_boxed_slice().into_vec();
        let kib = u32::try_from(bytes.len() / 1024 + 1).unwrap_or(u32::MAX);
        let memory = tokio::time::timeout(TURN, Arc::clone(&self.memory.kib).acquire_many_owned(kib));
        let memory = Handle::current().block_on(memory).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.answer.bytes += bytes.len();
        self.answer.pieces.push(ChargedBytes::of(bytes, memory.map_err(io::Error::other)?));
        Ok(())
    }
}

impl Write for PieceWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for text in self.stripping.strip_next(bytes) {
            self.piece.extend_from_slice(text);
        }
        if self.piece.len() >= PIECE {
            self.pass()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { tokio::task::spawn_blocking(work).await.unwrap() })
    }

    #[test]
    fn an_answer_takes_its_memory_until_it_was_sent() {
        let memory = Arc::new(AnswerMemory::new());
        let all = memory.kib.available_permits();
        let text = b"\x1b[31mred\x1b[0m ".repeat(100_000);
        let writing = Arc::clone(&memory);
        let answer = blocking(move || writing.answer(|out| text.chunks(7).try_for_each(|part| out.write_all(part))));
        let answer = answer.map_err(|_| "no answer").unwrap();
        assert_eq!(answer.bytes, 400_000);
        assert!(all - memory.kib.available_permits() >= 400_000 / 1024);
        let response = answer.into_response("text/plain");
        assert_eq!(response.headers()[CONTENT_LENGTH], "400000");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let sent = runtime.block_on(async { response.into_body().collect().await.unwrap().to_bytes() });
        assert!(sent == b"red ".repeat(100_000));
        assert_eq!(memory.kib.available_permits(), all);
    }

    #[test]
    fn answers_that_nobody_reads_leave_no_memory_for_the_next() {
        let memory = Arc::new(AnswerMemory::new());
        let (mut unread, mut refused) = (Vec::new(), None);
        while refused.is_none() {
            let writing = Arc::clone(&memory);
            match blocking(move || writing.answer(|out| (0..200).try_for_each(|_| out.write_all(&[b'x'; 100_000])))) {
                Ok(answer) => unread.push(answer),
                Err(problem) => refused = Some(problem.into_response().status()),
            }
            assert!(unread.len() < 8);
        }
        assert_eq!((refused, unread.len()), (Some(StatusCode::SERVICE_UNAVAILABLE), 5));
        drop(unread);
        assert_eq!(memory.kib.available_permits(), MEMORY);
        let writing = Arc::clone(&memory);
        let endless = blocking(move || {
            writing.answer(|out| {
                loop {
                    out.write_all(&[b'x'; 100_000])?
                }
            })
        });
        assert_eq!(
            endless.err().map(|problem| problem.into_response().status()),
            Some(StatusCode::UNPROCESSABLE_ENTITY)
        );
    }
}
