//! Differences between objects of a Git repository.
//!
//! Source: gitformat-pack(5), "Deltified representation".

use std::ops::Range;

/// The bytes around what is new that are passed on with it: a name before a value, the rest of a line.
const AROUND: usize = 256;

/// The bytes of a copy whose instruction does not say how many.
const COPY: usize = 0x1_0000;

/// A difference: how an object is made of the bytes of another and of new ones.
pub(super) struct Delta<'d> {
    /// The size of the other object in bytes.
    base: u64,
    /// The size of the object that is made.
    pub(super) result: u64,
    instructions: &'d [u8],
}

enum Instruction<'d> {
    /// Bytes of the other object.
    Copy(Range<usize>),
    Add(&'d [u8]),
}

impl<'d> Delta<'d> {
    /// `None` if it is damaged.
    pub(super) fn parse(bytes: &'d [u8]) -> Option<Delta<'d>> {
        let mut instructions = bytes;
        let (base, result) = (number(&mut instructions)?, number(&mut instructions)?);
        Some(Delta { base, result, instructions })
    }

    /// The object that is made of `base`, and where it has what `base` does not have in this order, with some bytes
    /// around. `None` if the difference is damaged, or one to another object.
    pub(super) fn apply(&self, base: &[u8]) -> Option<(Vec<u8>, Vec<Range<usize>>)> {
        if self.base != base.len() as u64 {
            return None;
        }
        let size = usize::try_from(self.result).ok()?;
        let (mut result, mut fresh) = (Vec::with_capacity(size), Fresh::default());
        // Where the bytes of `base` go on that were copied last.
        let mut next_of_base = Some(0);
        let mut rest = self.instructions;
        while !rest.is_empty() {
            let start = result.len();
            match next(&mut rest)? {
                Instruction::Copy(range) => {
                    if next_of_base != Some(range.start) {
                        fresh.add(start..start);
                    }
                    next_of_base = Some(range.end);
                    result.extend_from_slice(base.get(range)?);
                }
                Instruction::Add(bytes) => {
                    result.extend_from_slice(bytes);
                    fresh.add(start..result.len());
                    next_of_base = None;
                }
            }
            if result.len() > size {
                return None;
            }
        }
        if next_of_base != Some(base.len()) {
            fresh.add(result.len()..result.len());
        }
        (result.len() == size).then(|| (result, fresh.within(size)))
    }
}

/// The bytes that the difference `data` adds, in their order. Between those that are not next to each other is a line
/// break.
pub(super) fn additions(data: &[u8]) -> Vec<u8> {
    let (mut added, mut is_apart) = (Vec::new(), false);
    let Some(Delta { instructions: mut rest, .. }) = Delta::parse(data) else { return added };
    while let Some(instruction) = next(&mut rest) {
        let Instruction::Add(bytes) = instruction else {
            is_apart = !added.is_empty();
            continue;
        };
        added.extend(std::mem::take(&mut is_apart).then_some(b'\n'));
        added.extend_from_slice(bytes);
    }
    added
}

/// Ranges in their order, with some bytes around; those that touch are one.
#[derive(Default)]
struct Fresh(Vec<Range<usize>>);

impl Fresh {
    fn add(&mut self, range: Range<usize>) {
        let wide = range.start.saturating_sub(AROUND)..range.end.saturating_add(AROUND);
        match self.0.last_mut().filter(|last| wide.start <= last.end) {
            Some(last) => last.end = last.end.max(wide.end),
            None => self.0.push(wide),
        }
    }

    fn within(mut self, size: usize) -> Vec<Range<usize>> {
        self.0.iter_mut().for_each(|range| range.end = range.end.min(size));
        self.0
    }
}

/// The number at the start of `bytes`, of seven bits in each byte, the lowest first.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f).checked_shl(shift)?;
        shift += 7;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
}

/// The next instruction.
fn next<'d>(bytes: &mut &'d [u8]) -> Option<Instruction<'d>> {
    let (&first, rest) = bytes.split_first()?;
    if first & 0x80 == 0 {
        // Zero is reserved.
        let (added, rest) = rest.split_at_checked(usize::from(first)).filter(|_| first > 0)?;
        *bytes = rest;
        return Some(Instruction::Add(added));
    }
    let mut rest = rest;
    let mut part = |bit: u8, shift: u32| -> Option<usize> {
        if first & (1 << bit) == 0 {
            return Some(0);
        }
        let (byte, after) = rest.split_first()?;
        rest = after;
        Some(usize::from(*byte) << shift)
    };
    let from = part(0, 0)? | part(1, 8)? | part(2, 16)? | part(3, 24)?;
    let count = match part(4, 0)? | part(5, 8)? | part(6, 16)? {
        0 => COPY,
        count => count,
    };
    *bytes = rest;
    Some(Instruction::Copy(from..from.checked_add(count)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(base: &[u8], result: u8, instructions: &[u8]) -> Option<(Vec<u8>, Vec<Range<usize>>)> {
        let delta = [&[base.len() as u8, result], instructions].concat();
        Delta::parse(&delta)?.apply(base)
    }

    #[test]
    fn copies_and_additions_make_an_object() {
        let (base, copy) = (b"0123456789", |from, count| [0x91, from, count]);
        let made = |instructions: &[&[u8]], size| apply(base, size, &instructions.concat()).map(|(made, _)| made);
        assert_eq!(made(&[&copy(2, 3), b"\x02ab", &copy(0, 1)], 6).unwrap(), b"234ab0");
        assert_eq!(made(&[&copy(8, 3)], 3), None, "beyond the end");
        assert_eq!(made(&[&copy(0, 3)], 4), None, "too short");
        assert_eq!(made(&[&copy(0, 3)], 2), None, "too long");
        assert_eq!(made(&[b"\0"], 0), None, "reserved");
        assert_eq!(made(&[b"\x05ab"], 5), None, "cut");
        assert!(Delta::parse(b"\x03\x00").unwrap().apply(base).is_none(), "to another object");
        assert!(apply(base, 10, &copy(0, 10)).unwrap().1.is_empty(), "nothing is new");
    }

    #[test]
    fn only_what_is_new_is_passed_on_with_some_bytes_around() {
        let base = vec![b'.'; 10_000];
        // 5,000 bytes, three new ones, the other 5,000.
        let instructions = [&[0xb0, 0x88, 0x13][..], b"\x03new", &[0xb3, 0x88, 0x13, 0x88, 0x13]].concat();
        let delta = [&[0x90, 0x4e, 0x93, 0x4e][..], &instructions].concat();
        let (result, fresh) = Delta::parse(&delta).unwrap().apply(&base).unwrap();
        assert_eq!((result.len(), &result[5000..5003]), (10_003, &b"new"[..]));
        assert_eq!((fresh.len(), &fresh[0]), (1, &(5000 - AROUND..5003 + AROUND)));
        assert_eq!(additions(&delta), b"new");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(base in proptest::collection::vec(any::<u8>(), 0..200), delta: Vec<u8>) {
            let _ = additions(&delta);
            if let Some((result, fresh)) = Delta::parse(&delta).and_then(|delta| delta.apply(&base)) {
                prop_assert!(fresh.iter().all(|range| range.start <= range.end && range.end <= result.len()));
            }
        }
    }
}
