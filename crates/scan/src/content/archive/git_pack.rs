//! Packs of Git repositories: the objects of a history in one file.
//!
//! Sources: gitformat-pack(5) and gitformat-loose(5), the documentation of Git.
//!
//! Most objects are stored as differences to others. Those that were read or used last are kept, so that most
//! differences can be applied. Of the result, only what is not in the other object is passed on, with some bytes around
//! it. Where the other object is not kept, what the difference adds is passed on by itself, and that is a gap.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use layersift_model::{Gap, GapReason};

use super::bytes::{be32, take};
use super::git_delta::{Delta, additions};
use super::level::{Format, MemberSink, Progress};
use super::stream::{Codec, Decode, Inflater};
use crate::layer_work::decompressed;
use crate::memory::ExtraMemory;

/// The size of the header of a pack, and of the SHA-1 at its end.
const HEADER: usize = 12;
const TRAILER: u64 = 20;

/// The most bytes before the data of an object: its kind and size, and the object that it differs from.
const OBJECT_HEADER: usize = 32;

/// The largest object that is kept, and that differences are applied to, in bytes.
const LARGEST: u64 = 1 << 20;

/// The bytes of the objects that are kept, and of those that are made meanwhile.
const KEPT: usize = 32 << 20;
const MADE: usize = 4 << 20;

/// What an object that is kept takes besides its bytes: its places in the map and in the list of uses.
const PLACES: usize = 224;

/// The uses of objects from which on those that do not count are removed.
const MANY: usize = 1_000;

/// The bytes of a result that take as long to copy as one byte takes to decompress.
const COPIED: u64 = 4;

/// Whether `head` begins with a pack of at least one object.
pub(super) fn is_pack(head: &[u8]) -> bool {
    let has_objects = matches!((be32(head, 4), be32(head, 8)), (Some(2 | 3), Some(1..)));
    head.starts_with(b"PACK") && has_objects && head.get(HEADER).is_some_and(|first| kind(*first).is_some())
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole(&'static str),
    /// A difference to the object at an offset of the pack; `None` if it is named by its digest.
    Difference(Option<u64>),
}

/// The kind in the first byte of an object.
fn kind(first: u8) -> Option<Kind> {
    Some(match first >> 4 & 7 {
        1 => Kind::Whole("commit"),
        2 => Kind::Whole("tree"),
        3 => Kind::Whole("blob"),
        4 => Kind::Whole("tag"),
        6 | 7 => Kind::Difference(None),
        _ => return None,
    })
}

/// The header of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Object {
    offset: u64,
    kind: Kind,
    /// The size in bytes of the object, or of the difference.
    size: u64,
}

impl Object {
    /// The object whose header begins `bytes` at `offset`, and the length of the header. `None` if more bytes are
    /// needed.
    fn read(bytes: &[u8], offset: u64) -> Option<Result<(Object, usize), Gap>> {
        let first = *bytes.first()?;
        let Some(kind) = kind(first) else { return Some(Err(damaged("an object is of no known kind"))) };
        let (mut size, mut shift, mut at) = (u64::from(first & 15), 4, 1);
        let mut last = first;
        while last & 0x80 != 0 {
            last = *bytes.get(at)?;
            size |= u64::from(last & 0x7f).checked_shl(shift).unwrap_or(0);
            (shift, at) = (shift + 7, at + 1);
            if at > OBJECT_HEADER {
                return Some(Err(damaged("the size of an object has no end")));
            }
        }
        let (kind, end) = match (kind, first >> 4 & 7) {
            (Kind::Difference(_), 6) => {
                let (distance, end) = match distance(bytes, at)? {
                    Ok(read) => read,
                    Err(gap) => return Some(Err(gap)),
                };
                (Kind::Difference(offset.checked_sub(distance)), end)
            }
            (Kind::Difference(_), _) => (kind, at + TRAILER as usize),
            _ => (kind, at),
        };
        (bytes.len() >= end).then_some(Ok((Object { offset, kind, size }, end)))
    }

    fn name(&self, kind: &str) -> String {
        format!("{kind} {}", self.offset)
    }
}

/// How far before an object the one is that it differs from, and where that number ends.
fn distance(bytes: &[u8], start: usize) -> Option<Result<(u64, usize), Gap>> {
    let mut last = *bytes.get(start)?;
    let (mut distance, mut at) = (u64::from(last & 0x7f), start + 1);
    while last & 0x80 != 0 {
        last = *bytes.get(at)?;
        distance = distance.saturating_add(1).saturating_mul(128) | u64::from(last & 0x7f);
        at += 1;
        if at > OBJECT_HEADER {
            return Some(Err(damaged("the place of an object has no end")));
        }
    }
    Some(Ok((distance, at)))
}

/// An object that is kept: its kind, and its bytes.
type Kept = (&'static str, Arc<[u8]>);

/// The objects that were read or used last, by their offsets.
#[derive(Default)]
struct KeptObjects {
    /// Each with the number of its last use.
    by_offset: HashMap<u64, (Kept, u64)>,
    /// The uses, the oldest first. Only the last one of an object counts.
    uses: VecDeque<(u64, u64)>,
    count: u64,
    bytes: usize,
}

impl KeptObjects {
    fn add(&mut self, offset: u64, kept: Kept) {
        self.bytes += kept.1.len() + PLACES;
        self.by_offset.insert(offset, (kept, 0));
        self.note_use(offset);
        while self.bytes > KEPT {
            let Some((oldest, number)) = self.uses.pop_front() else { break };
            if self.is_last(oldest, number) {
                self.bytes -= self.by_offset.remove(&oldest).map_or(0, |((_, bytes), _)| bytes.len() + PLACES);
            }
        }
    }

    /// The object at `offset`, if it is kept.
    fn get(&mut self, offset: u64) -> Option<Kept> {
        let (kept, _) = self.by_offset.get(&offset)?;
        let kept = kept.clone();
        self.note_use(offset);
        Some(kept)
    }

    fn note_use(&mut self, offset: u64) {
        self.count += 1;
        if let Some((_, last)) = self.by_offset.get_mut(&offset) {
            *last = self.count;
        }
        self.uses.push_back((offset, self.count));
        if self.uses.len() > 2 * self.by_offset.len() + MANY {
            let by_offset = &self.by_offset;
            self.uses.retain(|(offset, number)| by_offset.get(offset).is_some_and(|(_, last)| last == number));
        }
    }

    fn is_last(&self, offset: u64, number: u64) -> bool {
        self.by_offset.get(&offset).is_some_and(|(_, last)| *last == number)
    }
}

enum State {
    Header,
    Object,
    /// In the data of an object that is kept.
    Small {
        object: Object,
        data: Vec<u8>,
    },
    /// In the data of a larger object, which is passed on.
    Large {
        inflater: Inflater,
    },
    Trailer {
        left: u64,
    },
}

/// A reader of packs.
pub(super) struct GitPack {
    state: State,
    offset: u64,
    objects: u32,
    kept: KeptObjects,
    /// The decoder of small objects, its output, and the memory of all of it.
    decoder: Option<(Box<dyn Decode>, Vec<u8>, ExtraMemory)>,
    is_incomplete: bool,
}

impl GitPack {
    pub(super) fn new() -> GitPack {
        GitPack {
            state: State::Header,
            offset: 0,
            objects: 0,
            kept: KeptObjects::default(),
            decoder: None,
            is_incomplete: false,
        }
    }

    fn skip(&mut self, input: &mut &[u8], count: usize) {
        self.offset += take(input, count as u64).len() as u64;
    }

    fn header(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Option<Progress>, Gap> {
        let Some(objects) = be32(input, 8) else { return Ok(Some(Progress::More)) };
        self.skip(input, HEADER);
        self.objects = objects;
        let memory = sink.memory((KEPT + MADE) as u64)?;
        self.decoder = Some((Codec::Zlib.decoder()?, vec![0; 64 << 10], memory));
        self.state = State::Object;
        Ok(None)
    }

    fn object(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Option<Progress>, Gap> {
        if self.objects == 0 {
            self.state = State::Trailer { left: TRAILER };
            return Ok(None);
        }
        let Some(read) = Object::read(input, self.offset) else { return Ok(Some(Progress::More)) };
        let (object, length) = read?;
        self.skip(input, length);
        self.objects -= 1;
        if object.size <= LARGEST {
            if let Some((decoder, ..)) = &mut self.decoder {
                decoder.restart()?;
            }
            self.state = State::Small { object, data: Vec::with_capacity(object.size as usize) };
            return Ok(None);
        }
        let inflater = Inflater::new(Codec::Zlib, sink)?;
        let kind = match object.kind {
            Kind::Whole(kind) => kind,
            Kind::Difference(_) => {
                self.not_applied(sink);
                "difference"
            }
        };
        sink.begin(Some(object.name(kind).as_bytes()), Some(object.size));
        self.state = State::Large { inflater };
        Ok(None)
    }

    fn large(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Option<Progress>, Gap> {
        let State::Large { inflater } = &mut self.state else { return Ok(None) };
        let before = input.len();
        let progress = inflater.run(input, sink)?;
        self.offset += (before - input.len()) as u64;
        if progress == Progress::More {
            return Ok(Some(Progress::More));
        }
        sink.end();
        self.state = State::Object;
        Ok(None)
    }

    fn small(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Option<Progress>, Gap> {
        let (State::Small { object, data }, Some((decoder, output, _))) = (&mut self.state, &mut self.decoder) else {
            return Ok(None);
        };
        loop {
            let step = decoder.step(input, output);
            *input = input.get(step.read..).unwrap_or_default();
            self.offset += step.read as u64;
            data.extend_from_slice(output.get(..step.written).unwrap_or_default());
            if data.len() as u64 > object.size {
                return Err(damaged("an object is longer than it says"));
            }
            if step.state? == Progress::End {
                break;
            }
            if input.is_empty() && step.written < output.len() {
                return Ok(Some(Progress::More));
            }
            if step.read == 0 && step.written == 0 {
                return Err(damaged("the decoder makes no progress"));
            }
        }
        if data.len() as u64 != object.size {
            return Err(damaged("an object is shorter than it says"));
        }
        let (object, data) = (*object, std::mem::take(data));
        self.state = State::Object;
        match object.kind {
            Kind::Whole(kind) => self.whole(object, kind, data, sink),
            Kind::Difference(base) => self.difference(object, base, &data, sink),
        }
        Ok(None)
    }

    fn whole(&mut self, object: Object, kind: &'static str, data: Vec<u8>, sink: &mut MemberSink<'_, '_>) {
        sink.begin(Some(object.name(kind).as_bytes()), Some(object.size));
        sink.inflated(&data);
        sink.end();
        self.kept.add(object.offset, (kind, data.into()));
    }

    fn difference(&mut self, object: Object, base: Option<u64>, data: &[u8], sink: &mut MemberSink<'_, '_>) {
        sink.work(decompressed(data));
        let base = base.and_then(|base| self.kept.get(base));
        let applied = base.and_then(|(kind, base)| {
            let result = Delta::parse(data).filter(|delta| delta.result <= LARGEST)?.apply(&base)?;
            Some((kind, result))
        });
        let Some((kind, (result, fresh))) = applied else {
            self.not_applied(sink);
            sink.begin_raw(Some(object.name("difference").as_bytes()), None);
            sink.inflated(&additions(data));
            sink.end();
            return;
        };
        sink.work(result.len() as u64 / COPIED);
        sink.begin_raw(Some(object.name(kind).as_bytes()), None);
        for range in fresh {
            sink.inflated(result.get(range).unwrap_or_default());
            sink.bytes(b"\n");
        }
        sink.end();
        self.kept.add(object.offset, (kind, result.into()));
    }

    /// Says once that a difference was not applied.
    fn not_applied(&mut self, sink: &mut MemberSink<'_, '_>) {
        if !std::mem::replace(&mut self.is_incomplete, true) {
            let detail = "a Git pack has objects that are differences to others which were not kept; only what they \
                          add was scanned";
            sink.gap(Gap::new(GapReason::ArchiveTooLarge, detail));
        }
    }
}

impl Format for GitPack {
    fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        loop {
            if sink.is_stopped() {
                *input = &[];
                return Ok(Progress::More);
            }
            let progress = match &mut self.state {
                State::Header => self.header(input, sink)?,
                State::Object => self.object(input, sink)?,
                State::Small { .. } => self.small(input, sink)?,
                State::Large { .. } => self.large(input, sink)?,
                State::Trailer { left } => {
                    *left -= take(input, *left).len() as u64;
                    Some(if *left == 0 { Progress::End } else { Progress::More })
                }
            };
            if let Some(progress) = progress {
                return Ok(progress);
            }
        }
    }

    fn finish(&mut self, _: &[u8], _: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        match self.state {
            State::Trailer { .. } => Ok(()),
            _ => Err(damaged("it is truncated")),
        }
    }
}

fn damaged(detail: &str) -> Gap {
    Gap::new(GapReason::DamagedArchive, format!("a Git pack is damaged: {detail}"))
}
