//! zip, read in one pass: by the local headers of the members, without the central directory at the end.
//!
//! Source: PKWARE's APPNOTE.TXT 6.3.10. jar, war, whl, nupkg, docx and Android's apk are zip archives; so is a jmod
//! after its first four bytes. Bytes outside of records (Android's signatures, a leading script) become an unnamed
//! member, and reading continues at the next record. The checksum of a member is verified.

use crc32fast::Hasher;

use layersift_model::{Gap, GapReason};

use super::bytes::{le32, take};
use super::level::{Format, MemberSink, Progress};
use super::stream::{Codec, Inflater};
use super::zip_record::{
    CENTRAL, DESCRIPTOR, DESCRIPTOR_BYTES, Descriptor, END, END_64, LOCAL, LOCAL_BYTES, Member, Method, Record, read,
};

/// The magic number of a jmod, before the archive (`jdk.internal.jmod.JmodFile` of the JDK).
const JMOD: &[u8] = b"JM\x01\x00";

/// The number of bytes that a search for a descriptor leaves unread: room for a descriptor without a signature, and for
/// the start of the record after it.
const SEARCH_LEFT: usize = 2 * DESCRIPTOR_BYTES;

/// The most bytes of a descriptor without its signature, in the format of ZIP64.
const LONGEST_DESCRIPTOR: usize = 20;

/// Whether `head` begins with a zip archive, or with a known prefix of one.
pub(super) fn is_zip(head: &[u8]) -> bool {
    let first_line = || head.splitn(2, |&byte| byte == b'\n').nth(1).unwrap_or_default();
    let archive = match head {
        [b'#', b'!', ..] => first_line(),
        _ => head.strip_prefix(JMOD).unwrap_or(head),
    };
    match le32(archive, 0) {
        Some(LOCAL) => archive.len() < LOCAL_BYTES || !matches!(read(archive), Record::None),
        // An archive without members has only an end record.
        Some(END) => matches!(read(archive), Record::End(..)) && archive.len() == 22,
        _ => false,
    }
}

enum State {
    /// At a record.
    Record,
    /// In stored data, of which this many bytes remain.
    Stored { member: Box<Member>, left: u64, crc: Option<Hasher> },
    /// In compressed data, of which this many bytes remain, if known.
    Coded { member: Box<Member>, inflater: Inflater, left: Option<u64> },
    /// In stored data of unknown size, which end at a matching descriptor.
    Search { member: Box<Member>, passed: u64, crc: Option<Hasher> },
    /// Before the descriptor of a member of this many bytes.
    Descriptor { member: Box<Member>, packed: u64, size: u64, crc: Option<u32> },
    /// In bytes outside of records.
    Junk,
}

/// A reader of zip.
pub(super) struct Zip {
    state: State,
    is_junk_open: bool,
    /// The decoder of the last complete member, for reuse: creating one for each member is slow.
    spare: Option<Inflater>,
}

impl Zip {
    pub(super) fn new() -> Zip {
        Zip { state: State::Record, is_junk_open: false, spare: None }
    }

    fn record(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Option<Progress> {
        let record = read(input);
        match record {
            Record::More => return Some(Progress::More),
            Record::None => {
                // Skips the signature, so that these bytes are not read as a record again.
                self.junk(take(input, 1), sink);
                self.state = State::Junk;
                return None;
            }
            _ => {}
        }
        if std::mem::take(&mut self.is_junk_open) {
            sink.end();
        }
        match record {
            Record::Local(member, bytes) => {
                take(input, bytes as u64);
                self.begin(member, sink);
                None
            }
            Record::Directory(bytes, comment) => {
                comment_of(take(input, bytes as u64), comment, sink);
                None
            }
            Record::End(bytes, comment) => {
                comment_of(take(input, bytes as u64), comment, sink);
                Some(Progress::End)
            }
            Record::More | Record::None => None,
        }
    }

    fn begin(&mut self, member: Box<Member>, sink: &mut MemberSink<'_, '_>) {
        let unreadable = match member.method {
            _ if member.is_encrypted => {
                Some(Gap::new(GapReason::EncryptedMember, "a member of a zip archive is encrypted"))
            }
            Method::Other(number) => {
                let detail = format!("a member of a zip archive has the unsupported compression method {number}");
                Some(Gap::new(GapReason::UnsupportedCompression, detail))
            }
            _ => None,
        };
        if let Some(gap) = unreadable {
            sink.begin_raw(Some(&member.name), member.packed);
            sink.gap(gap);
            return self.stored(member, None);
        }
        sink.begin(Some(&member.name), member.size);
        let Method::Coded(codec) = member.method else { return self.stored(member, Some(Hasher::new())) };
        match self.inflater(codec, sink) {
            Ok(mut inflater) => {
                inflater.crc = Some(Hasher::new());
                self.state = State::Coded { left: member.packed, member, inflater };
            }
            Err(gap) => {
                sink.gap(gap);
                self.stored(member, None);
            }
        }
    }

    fn inflater(&mut self, codec: Codec, sink: &mut MemberSink<'_, '_>) -> Result<Inflater, Gap> {
        match self.spare.take().filter(|spare| spare.codec == codec) {
            Some(mut spare) => spare.restart(sink).map(|()| spare),
            None => Inflater::new(codec, sink),
        }
    }

    fn stored(&mut self, member: Box<Member>, crc: Option<Hasher>) {
        self.state = match member.packed {
            Some(left) => State::Stored { member, left, crc },
            None => State::Search { member, passed: 0, crc },
        };
    }

    /// Ends a member: verifies its checksum, or reads its descriptor next.
    fn end(&mut self, member: Box<Member>, packed: u64, size: u64, crc: Option<u32>, sink: &mut MemberSink<'_, '_>) {
        if member.has_descriptor {
            self.state = State::Descriptor { member, packed, size, crc };
        } else {
            check(member.crc, crc, sink);
            sink.end();
            self.state = State::Record;
        }
    }

    fn descriptor(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Option<Progress> {
        let State::Descriptor { member, packed, size, crc } = &self.state else { return None };
        if input.len() < DESCRIPTOR_BYTES {
            return Some(Progress::More);
        }
        // The size of a member that was not decompressed is unknown.
        let size = crc.map(|_| *size);
        match Descriptor::read(input, *packed, size, member.is_zip64) {
            Some(descriptor) => {
                take(input, descriptor.bytes as u64);
                check(descriptor.crc, *crc, sink);
            }
            None => sink.gap(damaged("a data descriptor does not match its member")),
        }
        sink.end();
        self.state = State::Record;
        None
    }

    fn coded(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Option<Progress> {
        let State::Coded { inflater, left, .. } = &mut self.state else { return None };
        let mut rest = *input;
        let mut piece = take(&mut rest, left.unwrap_or(u64::MAX));
        let before = piece.len();
        let result = inflater.run(&mut piece, sink);
        let taken = before - piece.len();
        take(input, taken as u64);
        if let Some(left) = left {
            *left -= taken as u64;
        }
        let result = match result {
            Ok(Progress::More) if *left != Some(0) => return Some(Progress::More),
            Ok(Progress::More) => Err(damaged("a member is truncated")),
            result => result,
        };
        if let State::Coded { member, inflater, left } = std::mem::replace(&mut self.state, State::Record) {
            self.end_coded(result.err(), member, inflater, left, sink);
        }
        None
    }

    fn end_coded(
        &mut self,
        gap: Option<Gap>,
        member: Box<Member>,
        mut inflater: Inflater,
        left: Option<u64>,
        sink: &mut MemberSink<'_, '_>,
    ) {
        let is_damaged = gap.is_some();
        if let Some(gap) = gap {
            sink.gap(gap);
        } else if left.unwrap_or(0) == 0 {
            let (packed, size) = (inflater.read, inflater.written);
            let crc = inflater.crc.take().map(Hasher::finalize);
            self.spare = Some(inflater);
            return self.end(member, packed, size, crc, sink);
        } else {
            sink.gap(damaged("the compressed data of a member end too early"));
        }
        // Data that could not be decompressed are passed on as they are.
        sink.end();
        match left {
            Some(left) if left > 0 => {
                sink.begin_raw(Some(&member.name), Some(left));
                self.state = State::Stored { member, left, crc: None };
            }
            _ if is_damaged && left.is_none() => self.state = State::Junk,
            _ => self.state = State::Record,
        }
    }

    fn search(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Option<Progress> {
        let State::Search { member, passed, crc } = &mut self.state else { return None };
        let bytes = *input;
        // Data may be full of what looks like a descriptor: the checksum goes on from one to the next.
        let mut near = crc.clone().map(|crc| (0, crc));
        let found = memchr::memmem::find_iter(bytes, b"PK")
            .take_while(|at| at + DESCRIPTOR_BYTES <= bytes.len())
            .find_map(|at| {
                if let Some((to, crc)) = &mut near {
                    let next = at.saturating_sub(LONGEST_DESCRIPTOR).max(*to);
                    crc.update(bytes.get(*to..next).unwrap_or_default());
                    *to = next;
                }
                descriptor_around(bytes, at, *passed, near.as_ref(), member.is_zip64)
            });
        let count = found.map_or(bytes.len().saturating_sub(SEARCH_LEFT), |(data, _)| data);
        let data = take(input, count as u64);
        *passed += count as u64;
        if let Some(crc) = crc {
            crc.update(data);
        }
        sink.bytes(data);
        let Some((_, descriptor)) = found else { return Some(Progress::More) };
        take(input, descriptor as u64);
        sink.end();
        self.state = State::Record;
        None
    }

    fn in_junk(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Option<Progress> {
        let is_record = |at: &usize| {
            let signature = input.get(*at..).and_then(|bytes| le32(bytes, 0));
            matches!(signature, Some(LOCAL | CENTRAL | END | END_64))
        };
        let found = memchr::memmem::find_iter(input, b"PK").find(is_record);
        // A signature may begin in the last three bytes.
        let count = found.unwrap_or(input.len().saturating_sub(3));
        self.junk(take(input, count as u64), sink);
        if found.is_none() {
            return Some(Progress::More);
        }
        self.state = State::Record;
        None
    }

    fn junk(&mut self, bytes: &[u8], sink: &mut MemberSink<'_, '_>) {
        if bytes.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.is_junk_open, true) {
            sink.begin_raw(None, None);
        }
        sink.bytes(bytes);
    }
}

impl Format for Zip {
    fn push(&mut self, input: &mut &[u8], sink: &mut MemberSink<'_, '_>) -> Result<Progress, Gap> {
        loop {
            if sink.is_stopped() {
                *input = &[];
                return Ok(Progress::More);
            }
            let progress = match &mut self.state {
                State::Record => self.record(input, sink),
                State::Coded { .. } => self.coded(input, sink),
                State::Search { .. } => self.search(input, sink),
                State::Descriptor { .. } => self.descriptor(input, sink),
                State::Junk => self.in_junk(input, sink),
                State::Stored { left, crc, .. } => {
                    let data = take(input, *left);
                    *left -= data.len() as u64;
                    if let Some(crc) = crc {
                        crc.update(data);
                    }
                    sink.bytes(data);
                    (*left > 0).then_some(Progress::More)
                }
            };
            if let Some(progress) = progress {
                return Ok(progress);
            }
            if let State::Stored { left: 0, .. } = self.state
                && let State::Stored { member, crc, .. } = std::mem::replace(&mut self.state, State::Record)
            {
                let bytes = member.packed.unwrap_or(0);
                self.end(member, bytes, bytes, crc.map(Hasher::finalize), sink);
            }
        }
    }

    fn finish(&mut self, rest: &[u8], sink: &mut MemberSink<'_, '_>) -> Result<(), Gap> {
        if let State::Search { .. } = self.state {
            sink.bytes(rest);
        }
        Err(damaged("it is truncated in its central directory"))
    }
}

/// The sizes of the data and of the descriptor after them, if a descriptor begins at `at`, or ends there before a
/// record. `passed` bytes of data precede `bytes`; `crc` is the checksum of these and of as many bytes as it says,
/// which are fewer than those before the descriptor. Encrypted data have none.
fn descriptor_around(
    bytes: &[u8],
    at: usize,
    passed: u64,
    crc: Option<&(usize, Hasher)>,
    is_zip64: bool,
) -> Option<(usize, usize)> {
    let lengths: &[usize] = match le32(bytes, at)? {
        0 => return None,
        DESCRIPTOR => &[0],
        LOCAL | CENTRAL => &[12, LONGEST_DESCRIPTOR],
        _ => return None,
    };
    lengths.iter().find_map(|length| {
        let end = at.checked_sub(*length)?;
        let size = passed + end as u64;
        // Stored data have the same size in the archive; encrypted data do not.
        let descriptor = Descriptor::read(bytes.get(end..)?, size, crc.map(|_| size), is_zip64)?;
        if *length > 0 && descriptor.bytes != *length {
            return None;
        }
        let fits = crc.is_none_or(|(from, crc)| {
            let mut crc = crc.clone();
            crc.update(bytes.get(*from..end).unwrap_or_default());
            crc.finalize() == descriptor.crc
        });
        fits.then_some((end, descriptor.bytes))
    })
}

/// Passes on a comment as a member.
fn comment_of(record: &[u8], comment: std::ops::Range<usize>, sink: &mut MemberSink<'_, '_>) {
    let comment = record.get(comment).unwrap_or_default();
    if !comment.is_empty() {
        sink.begin_raw(None, Some(comment.len() as u64));
        sink.bytes(comment);
        sink.end();
    }
}

fn check(wanted: u32, crc: Option<u32>, sink: &mut MemberSink<'_, '_>) {
    if crc.is_some_and(|crc| crc != wanted) {
        sink.gap(damaged("the checksum of a member does not match"));
    }
}

fn damaged(detail: &str) -> Gap {
    Gap::new(GapReason::DamagedArchive, format!("a zip archive is damaged: {detail}"))
}
