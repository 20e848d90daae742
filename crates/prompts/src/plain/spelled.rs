//! Bytes that are spelled: as numbers, in base64 or base32, letter by letter, backwards, or with letters exchanged.
//!
//! What a run of digits spells is text if many printable characters follow each other in it; otherwise the digits are
//! a hash, an address, or numbers. Each text stands on a piece of its own: what is around the digits says nothing
//! about it, so a list of numbers next to a name is not a password.

use super::digits::{self, BASE32, BASE64, Base};
use super::letters;
use super::mapped::Mapped;
use super::numbers::Numbers;
use crate::json::offset as to_u32;

/// The fewest characters of a text that is spelled.
pub(super) const FEWEST: usize = 12;

/// The most bytes of an offset at the beginning of a line of a dump.
const LONGEST_OFFSET: usize = 20;

/// Adds what `text` spells, which begins at `offset` of what is mapped. Words are only turned around if `is_turned`.
pub(super) fn add(text: &[u8], offset: usize, is_turned: bool, out: &mut Mapped) {
    let mut words = Words { offset, is_turned, ..Words::new(text, out) };
    words.read();
    words.numbers.finish(words.out, offset);
    digits::ascii85(text, words.out, offset);
}

/// Where the run at the end of a growing text begins that may spell something when more of it is there.
pub(crate) fn open(text: &[u8]) -> Option<usize> {
    // The last word may not be there as a whole, nor the offset of a line of a dump.
    let word = text.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    let lines = memchr::memrchr(b'\n', text).map_or(0, |end| end + 1);
    let is_of_offset = |byte: &u8| byte.is_ascii_hexdigit() || b" \t>#:x".contains(byte);
    let is_offset = text.get(lines..).unwrap_or_default().iter().take(LONGEST_OFFSET).all(is_of_offset);
    let dump = if is_offset { open_in(text.get(..lines).unwrap_or_default(), text) } else { None };
    open_in(text.get(..text.len() - word).unwrap_or_default(), text).into_iter().chain(dump).min()
}

/// The same for the beginning of a text.
fn open_in(beginning: &[u8], text: &[u8]) -> Option<usize> {
    let mut nothing = Mapped::default();
    let mut words = Words::new(beginning, &mut nothing);
    words.read();
    words.open.into_iter().chain(words.numbers.open(text)).min()
}

/// The words of a text, as they are read from its beginning to its end.
struct Words<'t, 'o> {
    text: &'t [u8],
    offset: usize,
    is_turned: bool,
    out: &'o mut Mapped,
    numbers: Numbers,
    /// How far each kind of run was read: digits of two bases, letters that stand apart, and words that are turned.
    read: [usize; 4],
    /// Where the first run begins that may go on after the text.
    open: Option<usize>,
}

impl<'t, 'o> Words<'t, 'o> {
    fn new(text: &'t [u8], out: &'o mut Mapped) -> Words<'t, 'o> {
        Words { text, offset: 0, is_turned: false, out, numbers: Numbers::default(), read: [0; 4], open: None }
    }

    fn read(&mut self) {
        let text = self.text;
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            if !is_of_word(*byte) {
                at += 1;
                continue;
            }
            let start = at;
            while text.get(at).is_some_and(|byte| is_of_word(*byte)) {
                at += 1;
            }
            at = self.word(start, at);
        }
    }

    /// Reads what may begin with the word from `start` to `end`, and returns where to read on. Most words begin
    /// nothing.
    #[inline]
    fn word(&mut self, start: usize, end: usize) -> usize {
        let text = self.text;
        let [base64, base32, apart, turned] = self.read;
        if end - start == 1 && start >= apart {
            self.apart(start);
        }
        if start >= base64 && digits::may_be_base64(text, start) {
            self.read[0] = self.digits(BASE64, start);
        }
        if end - start >= letters::SHORTEST
            && start >= base32
            && text.get(start..end).is_some_and(digits::may_be_base32)
        {
            self.read[1] = self.digits(BASE32, start);
        }
        if self.is_turned && start >= turned {
            self.turned(start, end);
        }
        match text.get(start) {
            Some(b'0'..=b'9') => self.numbers.add(text, start, end, self.out, self.offset),
            Some(b'H' | b'h') if self.is_basic(start) => self.numbers.add(text, start + 1, end, self.out, self.offset),
            _ => end,
        }
    }

    /// Whether a number of Visual Basic begins at its letter: `&H67`.
    fn is_basic(&self, start: usize) -> bool {
        let before = start.checked_sub(1).and_then(|before| self.text.get(before));
        before == Some(&b'&') && self.text.get(start + 1).is_some_and(u8::is_ascii_digit)
    }

    fn apart(&mut self, start: usize) {
        let (read, open) = letters::apart(self.text, start, self.out, self.offset);
        self.read[2] = read;
        self.note(open);
    }

    /// Reads the word of letters, digits, hyphens and underscores whose first part ends at `end`.
    fn turned(&mut self, start: usize, mut end: usize) {
        let is_of_token = |byte: &u8| is_of_word(*byte) || matches!(byte, b'-' | b'_');
        while self.text.get(end).is_some_and(is_of_token) {
            end += 1;
        }
        if end - start >= letters::SHORTEST {
            letters::turned(self.text, start, end, self.out, self.offset);
        }
        self.read[3] = end;
    }

    fn digits(&mut self, base: Base, start: usize) -> usize {
        let run = base.read(self.text, start, self.out, self.offset);
        self.note(run.open);
        run.end
    }

    fn note(&mut self, open: Option<usize>) {
        self.open = self.open.into_iter().chain(open).min();
    }
}

/// A table is faster than comparisons: all bytes of all texts are asked.
fn is_of_word(byte: u8) -> bool {
    const LETTERS: [bool; 256] = {
        let mut letters = [false; 256];
        let mut byte = 0;
        while byte < letters.len() {
            letters[byte] = (byte as u8).is_ascii_alphanumeric();
            byte += 1;
        }
        letters
    };
    LETTERS[usize::from(byte)]
}

/// The characters that one reading of a run spells so far.
#[derive(Debug, Default)]
pub(super) struct Spelled {
    bytes: Vec<(u8, u32)>,
    end: usize,
}

impl Spelled {
    /// Adds a byte that is spelled from `start` to `end`. What is not printable ends the text.
    pub(super) fn push(&mut self, byte: u8, start: usize, end: usize, (out, offset): (&mut Mapped, usize)) {
        if is_printable(byte) {
            self.bytes.push((byte, to_u32(start)));
            self.end = end;
        } else {
            self.finish(out, offset);
        }
    }

    /// Ends the text, and adds it if it is one. `offset` is added to all origins.
    pub(super) fn finish(&mut self, out: &mut Mapped, offset: usize) {
        if self.bytes.len() >= FEWEST {
            out.begin_piece(offset + self.open().unwrap_or(0), false);
            self.bytes.iter().for_each(|(byte, start)| out.push(*byte, offset + *start as usize));
            out.push(b'\n', offset + self.end);
        }
        self.bytes.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where the text begins, if it may go on at the end of a text.
    pub(super) fn open(&self) -> Option<usize> {
        self.bytes.first().map(|(_, start)| *start as usize)
    }
}

pub(super) fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r')
}
