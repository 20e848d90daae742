//! An executable file that ended: its bytes in one piece, the keys in its code, and where an offset in it is.
//!
//! One such file is in memory at a time, whatever the number of threads, and its memory is charged to the process
//! without waiting: the reading thread may wait for this one.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::confirm::{Confirmed, Verification, cipher};
use crate::content::binary;
use crate::content::head_tail::HeadTail;
use crate::layer_work::LOCATED;
use crate::memory::{MemoryBudget, RetainedMemory};
use layersift_model::{Gap, GapReason, Secret};

/// The bytes in memory for each byte that is kept of a file: itself, and what is listed of its tables.
const MEMORY: u64 = 5;

/// Lets executable files into memory, one at a time.
#[derive(Clone, Copy)]
pub(super) struct ProgramTurn<'s> {
    pub(super) turn: &'s Mutex<()>,
    pub(super) memory: &'s MemoryBudget,
}

/// The first and last bytes of an executable file.
pub(super) struct Program<'s> {
    bytes: Vec<u8>,
    /// The end of the first bytes.
    head: usize,
    length: u64,
    _memory: RetainedMemory,
    _turn: MutexGuard<'s, ()>,
}

/// Whether a file that begins with `head` is executable.
pub(super) fn is_program(head: &[u8]) -> bool {
    head.starts_with(b"MZ") || binary::is_binary(head)
}

/// The most work on `kept` once its file ends; none unless it is executable.
pub(super) fn most_work(kept: &HeadTail<'_>) -> u64 {
    if !is_program(&kept.first()) {
        return 0;
    }
    let keys = if kept.is_whole() { cipher::most_work(kept.length() as usize) } else { 0 };
    located(kept.kept()) + keys
}

fn located(bytes: u64) -> u64 {
    bytes * LOCATED
}

impl<'s> Program<'s> {
    /// The executable file whose bytes are `kept`. Waits for its turn.
    pub(super) fn new(kept: &HeadTail<'_>, turn: ProgramTurn<'s>) -> Option<Program<'s>> {
        if !is_program(&kept.first()) {
            return None;
        }
        let _turn = turn.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let _memory = turn.memory.retain(kept.kept() * MEMORY);
        let (bytes, head) = kept.parts();
        Some(Program { bytes, head, length: kept.length(), _memory, _turn })
    }

    /// The work of locating offsets in it.
    pub(super) fn work(&self) -> u64 {
        located(self.bytes.len() as u64)
    }

    /// What tells the section and the symbol of an offset.
    pub(super) fn view(&self) -> Option<binary::Binary<'_>> {
        let (head, tail) = self.bytes.split_at(self.head);
        binary::parse(binary::Parts { head, tail, len: self.length })
    }

    /// The keys in the code, as matches of the signature `rule`; what it took to find them, and what was left out.
    pub(super) fn keys(&self, rule: usize) -> (Vec<Confirmed>, u64, Option<Gap>) {
        if self.bytes.len() as u64 != self.length {
            return (Vec::new(), 0, None);
        }
        let cipher::Analysis { keys, work, is_whole } = cipher::analyze(&self.bytes);
        let found = keys.into_iter().map(|key| confirmed(rule, key)).collect();
        (found, work, (!is_whole).then(too_much_code))
    }
}

fn confirmed(rule: usize, key: cipher::CipherKey) -> Confirmed {
    let start = key.offset as usize;
    let span: Range<usize> = start..start + key.bytes.len();
    let label = format!("{}-bit key", key.bytes.len() * 8);
    let note = Some(note(&key));
    // What is a constant here may be the text of a key, which is decoded before it is used.
    let secret = Secret::labelled(key.bytes, label).as_key();
    Confirmed { rule, span, secret, note, verification: Verification::Secret, views: Vec::new() }
}

/// The evidence that a constant is a cipher key.
fn note(key: &cipher::CipherKey) -> String {
    let purpose = key.cipher.as_ref().map(|cipher| format!(" for {cipher}")).unwrap_or_default();
    match (key.evidence, &key.symbol) {
        (cipher::Evidence::Named, Some(symbol)) => {
            format!("named {symbol}, in a module that imports {}{purpose}", key.function)
        }
        _ => format!("passed to {}{purpose}", key.function),
    }
}

fn too_much_code() -> Gap {
    let detail = "the code of the file takes more work than one of its size may; the rest was not searched for keys";
    Gap::new(GapReason::LayerTooLarge, detail)
}
