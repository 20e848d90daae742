//! Answers of models that are checked while they pass: server-sent events.
//!
//! A task reads the model's answer and hands on what may pass, one piece at a time, so that a client that reads slowly
//! slows the model down. It ends, and closes the connection to the model, when its client is gone.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use layersift_prompts::StreamCheck;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Answer, Asker};
use crate::http::answers::ChargedBytes;
use crate::http::problem::{Problem, error_event};
use crate::prompts::encoding::Decoder;
use crate::service::Service;
use crate::service::prompts::PromptGate;

/// What a stream takes of the memory for streams, in KiB, besides the texts that wait: a piece on each side, and what
/// waits at first. One that is compressed takes more.
const SHARE: usize = 48;
const SHARE_OF_COMPRESSED: usize = 128;

/// What waits of a stream without taking more memory, in KiB.
const WAITING: usize = 16;

/// Bytes that are checked at a time; what is read last may be more.
const PIECE: usize = 8 << 10;

/// The bytes of a piece that are in the share of its stream.
const USUAL_PIECE: usize = 24 << 10;

/// The most bytes that a piece decompresses to.
pub(super) const MOST_DECOMPRESSED: usize = 1 << 20;

/// What large pieces and what waits leave of the memory for streams, in KiB: many that are long or unread do not keep
/// others from beginning.
const FOR_SHARES: usize = 24 << 10;

/// How long a model may send nothing. A client that reads nothing loses its connection earlier.
const STALL: Duration = Duration::from_secs(300);

/// How long a stream may take as a whole.
const LONGEST: Duration = Duration::from_secs(3_600);

/// What it is counted as.
pub(super) const KIND: &str = "proxy-stream";

/// Answers with a stream, of which only its head is there yet.
pub(super) async fn pass(
    Answer { head, body, decoder, asker }: Answer,
    gate: &PromptGate,
    service: &Arc<Service>,
) -> Result<Response<Body>, Problem> {
    let share = if decoder.is_compressed() { SHARE_OF_COMPRESSED } else { SHARE };
    let busy = || Problem::too_many("too many answers are being streamed; try again", 1);
    let memory = more(&gate.streams, share).ok_or_else(busy)?;
    let (pieces, passed) = mpsc::channel::<Bytes>(1);
    let passing = Passing {
        check: StreamCheck::default(),
        decoder: Some(decoder),
        body,
        asker,
        service: Arc::clone(service),
        memory,
        share,
    };
    tokio::spawn(passing.run(pieces));
    let passed = futures_util::stream::unfold(passed, |mut passed| async {
        passed.recv().await.map(|piece| (Ok::<_, Infallible>(piece), passed))
    });
    Ok(super::head(&head, Body::from_stream(passed)))
}

/// A stream that passes.
struct Passing {
    check: StreamCheck,
    /// `None` once the answer has ended.
    decoder: Option<Decoder>,
    body: Incoming,
    asker: Asker,
    service: Arc<Service>,
    memory: OwnedSemaphorePermit,
    /// The memory that it has at least.
    share: usize,
}

/// Why a stream ends before its model ends it.
enum Ended {
    /// The client has the denial.
    Cut,
    /// The client is gone, or its connection was closed because it does not read.
    Gone,
    /// Something failed: the client is told.
    Failed(&'static str),
}

impl Passing {
    async fn run(mut self, pieces: Sender<Bytes>) {
        let passed = tokio::time::timeout(LONGEST, self.pass(&pieces)).await;
        let ended = passed.unwrap_or(Err(Ended::Failed("the answer took too long")));
        let verdict = match ended {
            Ok(()) if self.check.reasons().iter().any(|reason| reason.action.name() == "mask") => "mask",
            Ok(()) => "allow",
            Err(Ended::Cut) => "deny",
            Err(Ended::Gone) => "gone",
            Err(Ended::Failed(_)) => "failed",
        };
        if let Err(Ended::Failed(why)) = ended {
            // An end without it would be taken for the end of the answer.
            let _ = tokio::time::timeout(STALL, pieces.send(error_event(why).into())).await;
        }
        self.service.count_prompt(KIND, verdict);
    }

    async fn pass(&mut self, pieces: &Sender<Bytes>) -> Result<(), Ended> {
        while self.decoder.is_some() {
            // Nothing is read while the client has not taken what was read before.
            let place = pieces.reserve().await.map_err(|_| Ended::Gone)?;
            let piece = tokio::select! {
                () = pieces.closed() => return Err(Ended::Gone),
                piece = tokio::time::timeout(STALL, self.piece()) => piece,
            };
            let piece = piece.map_err(|_| Ended::Failed("the model sent nothing for too long"))?;
            let piece = piece.map_err(|_| Ended::Failed("the connection to the model was lost"))?;
            let is_over = piece.is_empty();
            let decoded = self.decode(piece).map_err(|_| Ended::Failed("the answer cannot be decompressed"))?;
            self.take_memory(decoded.len())?;
            let checked = self.checked(decoded, is_over).await?;
            if !checked.is_empty() {
                place.send(self.passing(checked)?);
            }
            if self.check.is_cut() {
                return Err(Ended::Cut);
            }
            self.take_memory(0)?;
        }
        Ok(())
    }

    /// The next bytes that have arrived; none at the end.
    async fn piece(&mut self) -> Result<Vec<u8>, hyper::Error> {
        let mut piece = Vec::new();
        loop {
            // What is there already is checked at once.
            let frame = match piece.is_empty() {
                true => self.body.frame().await,
                false => match self.body.frame().now_or_never() {
                    Some(frame) => frame,
                    None => return Ok(piece),
                },
            };
            match frame {
                None => return Ok(piece),
                Some(frame) => piece.extend_from_slice(&frame?.into_data().unwrap_or_default()),
            }
            if piece.len() >= PIECE {
                return Ok(piece);
            }
        }
    }

    fn decode(&mut self, piece: Vec<u8>) -> io::Result<Vec<u8>> {
        match (&mut self.decoder, piece.is_empty()) {
            (Some(decoder), false) => decoder.push(piece),
            (decoder, _) => decoder.take().map_or(Ok(Vec::new()), Decoder::finish),
        }
    }

    /// What may pass of the next bytes.
    async fn checked(&mut self, bytes: Vec<u8>, is_over: bool) -> Result<Vec<u8>, Ended> {
        let (mut check, asker) = (std::mem::take(&mut self.check), self.asker.clone());
        let checked = self.gate()?.check_in_time(move |shared| {
            let client = shared.client(&asker.name, &asker.names);
            let mut out = check.push(&bytes, &shared.gate, client);
            if is_over {
                out.extend(check.finish(&shared.gate, client));
            }
            (check, out)
        });
        let (check, out) = checked.await.map_err(|_| Ended::Failed("the answer could not be checked"))?;
        self.check = check;
        Ok(out)
    }

    /// Takes memory for what waits and for a piece, which is there twice once it is checked, or gives it back.
    fn take_memory(&mut self, piece: usize) -> Result<(), Ended> {
        let needed = self.needed() + 2 * piece.saturating_sub(USUAL_PIECE) / 1024;
        self.hold(needed)?;
        let taken = self.memory.num_permits();
        if taken > 2 * needed {
            drop(self.memory.split(taken - needed));
        }
        Ok(())
    }

    /// The memory that the stream needs for itself and for what waits.
    fn needed(&self) -> usize {
        self.share + (self.check.waiting_bytes() / 1024).saturating_sub(WAITING)
    }

    /// Sees to it that there is so much memory.
    fn hold(&mut self, needed: usize) -> Result<(), Ended> {
        let missing = needed.saturating_sub(self.memory.num_permits());
        if missing > 0 {
            let memory = &self.gate()?.streams;
            let more = more(memory, missing).filter(|_| memory.available_permits() >= FOR_SHARES);
            self.memory.merge(more.ok_or(Ended::Failed("there is no memory left for what waits of the answer"))?);
        }
        Ok(())
    }

    /// Bytes that pass. What is more than the share has memory of its own until the client was sent it.
    fn passing(&mut self, mut bytes: Vec<u8>) -> Result<Bytes, Ended> {
        if bytes.len() <= USUAL_PIECE {
            return Ok(bytes.into());
        }
        bytes.shrink_to_fit();
        let own = bytes.len() / 1024 + 1;
        self.hold(self.needed() + own)?;
        match self.memory.split(own) {
            Some(memory) => Ok(ChargedBytes::of(bytes, memory)),
            None => Ok(bytes.into()),
        }
    }

    fn gate(&self) -> Result<&PromptGate, Ended> {
        self.service.prompts.as_ref().ok_or(Ended::Failed("prompts are not checked here"))
    }
}

fn more(memory: &Arc<Semaphore>, kib: usize) -> Option<OwnedSemaphorePermit> {
    Arc::clone(memory).try_acquire_many_owned(u32::try_from(kib).ok()?).ok()
}
