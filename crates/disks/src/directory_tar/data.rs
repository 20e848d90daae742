//! The data of one file: exactly as many bytes as the header says, because the archive goes on after them. The file may
//! shrink, grow or fail while it is read. What it lacks is filled with zeros, and what was not read of it is a gap.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use layersift_model::{Gap, GapReason};

use super::pieces;
use super::tree::Content;

/// The most bytes of a file without a size. They are read before the header is written, which needs the size.
const MAX_UNSIZED: u64 = 8 << 20;

/// An open file.
pub(super) trait OpenFile: Read + Send {
    /// What changes when the file is written to.
    ///
    /// # Errors
    /// If the system does not tell.
    fn stamp(&self) -> io::Result<Stamp>;

    /// Offset and length of the pieces of the file that are not holes; in order, and of `size` bytes at most.
    ///
    /// # Errors
    /// If the file cannot be read from its start.
    fn pieces(&self, size: u64) -> io::Result<Vec<(u64, u64)>> {
        Ok(vec![(0, size)])
    }

    /// Goes on reading at byte `offset`.
    ///
    /// # Errors
    /// If the file has no such place.
    fn go_to(&mut self, _offset: u64) -> io::Result<()> {
        Ok(())
    }
}

/// The size of a file, and the seconds and nanoseconds when its data and its inode changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) modified: (i64, i64),
    pub(super) changed: (i64, i64),
}

impl OpenFile for File {
    fn stamp(&self) -> io::Result<Stamp> {
        let metadata = self.metadata()?;
        Ok(Stamp {
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    fn pieces(&self, size: u64) -> io::Result<Vec<(u64, u64)>> {
        pieces::of(self, size)
    }

    fn go_to(&mut self, offset: u64) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset)).map(|_| ())
    }
}

/// The data of a file that is being read.
pub(super) struct Data {
    source: Source,
    /// The bytes of all pieces.
    size: u64,
    left: u64,
    /// The pieces of a sparse file; none of another.
    pieces: Vec<(u64, u64)>,
    /// How many of them were begun, and the bytes that are left of the last one.
    begun: usize,
    left_of_piece: u64,
    /// What was not read, until it is taken.
    gap: Option<Gap>,
}

enum Source {
    File(Box<dyn OpenFile>, Stamp),
    /// The content of a file without a size.
    Buffered(Cursor<Vec<u8>>),
    /// The file has ended or failed.
    Ended,
}

impl Data {
    /// The data of `file`. A file whose size is 0 is read at once: those of kernel file systems have content.
    ///
    /// # Errors
    /// If the system does not tell the size.
    pub(super) fn new(file: Box<dyn OpenFile>) -> io::Result<Data> {
        let stamp = file.stamp()?;
        if stamp.size == 0 {
            return Ok(Data::unsized_of(file));
        }
        let pieces = file.pieces(stamp.size)?;
        let size = pieces.iter().map(|(_, length)| length).sum();
        let source = Source::File(file, stamp);
        Ok(if pieces == [(0, stamp.size)] {
            Data::of(source, size)
        } else {
            Data { pieces, left_of_piece: 0, ..Data::of(source, size) }
        })
    }

    /// The data in one piece.
    fn of(source: Source, size: u64) -> Data {
        Data { source, size, left: size, pieces: Vec::new(), begun: 0, left_of_piece: size, gap: None }
    }

    /// The pieces of a sparse file, and its size with the holes; `None` for another.
    pub(super) fn sparse(&self) -> Option<(&[(u64, u64)], u64)> {
        match &self.source {
            Source::File(_, stamp) if !self.pieces.is_empty() || self.size < stamp.size => {
                Some((&self.pieces, stamp.size))
            }
            _ => None,
        }
    }

    /// The data of a file that is in memory, or in a database.
    pub(super) fn of_content(content: &Content) -> Data {
        let bytes = content.bytes().to_vec();
        let size = bytes.len() as u64;
        let gap = content.check_whole().err().map(|error| Gap::new(GapReason::Unreadable, error.to_string()));
        Data { gap, ..Data::of(Source::Buffered(Cursor::new(bytes)), size) }
    }

    fn unsized_of(file: Box<dyn OpenFile>) -> Data {
        let mut bytes = Vec::new();
        let outcome = file.take(MAX_UNSIZED + 1).read_to_end(&mut bytes);
        let gap = match outcome {
            Err(error) => Some(Gap::new(GapReason::Unreadable, format!("{error}, after {} bytes", bytes.len()))),
            Ok(_) if bytes.len() as u64 > MAX_UNSIZED => {
                let detail = format!("the size of the file is 0, but it has more than {MAX_UNSIZED} bytes");
                Some(Gap::new(GapReason::Unreadable, detail))
            }
            Ok(_) => None,
        };
        bytes.truncate(MAX_UNSIZED as usize);
        let size = bytes.len() as u64;
        Data { gap, ..Data::of(Source::Buffered(Cursor::new(bytes)), size) }
    }

    /// The number of bytes that [`Data::read`] gives in total.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes; 0 after the last one.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> usize {
        if self.left == 0 {
            self.note_growth();
            return 0;
        }
        if self.left_of_piece == 0 {
            self.next_piece();
        }
        let most = buffer.len().min(usize::try_from(self.left_of_piece).unwrap_or(usize::MAX));
        let buffer = &mut buffer[..most];
        let count = match &mut self.source {
            Source::File(file, _) => match read_once(file, buffer) {
                Ok(0) => self.end_early(),
                Ok(count) => count,
                Err(error) => self.fail(&format!("{error}, after {} of {} bytes", self.size - self.left, self.size)),
            },
            Source::Buffered(bytes) => bytes.read(buffer).unwrap_or(0),
            Source::Ended => 0,
        };
        let count = if count == 0 {
            buffer.fill(0);
            most
        } else {
            count
        };
        self.left -= count as u64;
        self.left_of_piece -= count as u64;
        count
    }

    /// Goes on with the next piece of a sparse file.
    fn next_piece(&mut self) {
        let Some(&(offset, length)) = self.pieces.get(self.begun) else {
            self.left_of_piece = self.left;
            return;
        };
        self.begun += 1;
        self.left_of_piece = length.min(self.left);
        if let Source::File(file, _) = &mut self.source
            && let Err(error) = file.go_to(offset)
        {
            self.fail(&format!("{error}, after {} of {} bytes", self.size - self.left, self.size));
        }
    }

    /// What was not read so far, once.
    pub(super) fn take_gap(&mut self) -> Option<Gap> {
        self.gap.take()
    }

    /// The file has fewer bytes than its size.
    fn end_early(&mut self) -> usize {
        // Files of sysfs have the size of a page and end where their content does: then nothing has changed.
        if let Source::File(file, stamp) = &self.source
            && file.stamp().is_ok_and(|now| now == *stamp)
        {
            self.source = Source::Ended;
            return 0;
        }
        self.fail(&format!("the file shrank from {} to {} bytes while it was read", self.size, self.size - self.left))
    }

    fn fail(&mut self, detail: &str) -> usize {
        self.source = Source::Ended;
        self.gap = Some(Gap::new(GapReason::Unreadable, detail).sized(self.left));
        0
    }

    /// Looks once for bytes after the size that the file had, and whether the holes of a sparse file are still holes.
    fn note_growth(&mut self) {
        let is_sparse = self.sparse().is_some();
        if let Source::File(file, stamp) = &mut self.source {
            let now = file.stamp().ok();
            if !is_sparse && read_once(file, &mut [0]).is_ok_and(|count| count > 0) {
                let detail =
                    format!("the file grew while it was read, and only its first {} bytes were read", self.size);
                let added = now.and_then(|now| now.size.checked_sub(self.size)).filter(|added| *added > 0);
                let gap = Gap::new(GapReason::Unreadable, detail);
                self.gap = Some(added.map_or(gap.clone(), |added| gap.sized(added)));
            } else if is_sparse && now.is_none_or(|now| now != *stamp) {
                let detail = "the sparse file changed while it was read; what was written to its holes was not read";
                self.gap = Some(Gap::new(GapReason::Unreadable, detail));
            }
        }
        self.source = Source::Ended;
    }
}

fn read_once(file: &mut Box<dyn OpenFile>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A file that does what a test says.
    pub(in crate::directory_tar) struct Fake {
        /// The sizes that it says it has: at first, and from then on.
        pub(in crate::directory_tar) sizes: [u64; 2],
        /// What its reads give. After the last one it is at its end.
        pub(in crate::directory_tar) reads: VecDeque<Result<Vec<u8>, i32>>,
        pub(in crate::directory_tar) stamped: std::sync::atomic::AtomicBool,
    }

    pub(in crate::directory_tar) fn fake(sizes: [u64; 2], reads: &[Result<&[u8], i32>]) -> Box<Fake> {
        let reads = reads.iter().map(|read| read.map(<[u8]>::to_vec)).collect();
        Box::new(Fake { sizes, reads, stamped: false.into() })
    }

    impl Read for Fake {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.reads.pop_front() {
                None => Ok(0),
                Some(Err(code)) => Err(io::Error::from_raw_os_error(code)),
                Some(Ok(mut bytes)) => {
                    let count = bytes.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&bytes[..count]);
                    let rest = bytes.split_off(count);
                    if !rest.is_empty() {
                        self.reads.push_front(Ok(rest));
                    }
                    Ok(count)
                }
            }
        }
    }

    impl OpenFile for Fake {
        fn stamp(&self) -> io::Result<Stamp> {
            let index = usize::from(self.stamped.swap(true, std::sync::atomic::Ordering::Relaxed));
            let size = self.sizes[index];
            Ok(Stamp { size, modified: (0, i64::try_from(size).unwrap()), changed: (0, 0) })
        }
    }

    /// EIO and EINTR, which every Unix has under these numbers.
    pub(in crate::directory_tar) const BROKEN: i32 = 5;
    const INTERRUPTED: i32 = 4;

    /// All bytes, and the gap.
    fn read(file: Box<Fake>) -> (Vec<u8>, Option<Gap>) {
        let mut data = Data::new(file).unwrap();
        let mut bytes = Vec::new();
        loop {
            let mut buffer = [9; 5];
            match data.read(&mut buffer) {
                0 => break,
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
        assert_eq!(bytes.len() as u64, data.size());
        assert_eq!(data.read(&mut [0; 5]), 0);
        (bytes, data.take_gap())
    }

    fn gap(detail: &str, bytes: Option<u64>) -> Option<Gap> {
        let gap = Gap::new(GapReason::Unreadable, detail);
        Some(bytes.map_or(gap.clone(), |bytes| gap.sized(bytes)))
    }

    #[test]
    fn a_file_that_stays_as_it_is() {
        assert_eq!(read(fake([8, 8], &[Ok(b"abcde"), Err(INTERRUPTED), Ok(b"fgh")])), (b"abcdefgh".to_vec(), None));
        assert_eq!(read(fake([0, 0], &[])), (Vec::new(), None));
    }

    #[test]
    fn a_file_that_shrinks() {
        let (bytes, found) = read(fake([8, 3], &[Ok(b"abc")]));
        assert_eq!(bytes, b"abc\0\0\0\0\0");
        assert_eq!(found, gap("the file shrank from 8 to 3 bytes while it was read", Some(5)));
    }

    #[test]
    fn a_file_that_grows() {
        let (bytes, found) = read(fake([3, 9], &[Ok(b"abc"), Ok(b"defghi")]));
        assert_eq!(bytes, b"abc");
        assert_eq!(found, gap("the file grew while it was read, and only its first 3 bytes were read", Some(6)));
        // Its size may be wrong and never change.
        let (_, found) = read(fake([3, 3], &[Ok(b"abcdefghi")]));
        assert_eq!(found.unwrap().bytes, None);
    }

    #[test]
    fn a_file_with_an_error_in_its_middle() {
        let (bytes, found) = read(fake([8, 8], &[Ok(b"abc"), Err(BROKEN), Ok(b"defgh")]));
        assert_eq!(bytes, b"abc\0\0\0\0\0");
        let found = found.unwrap();
        assert_eq!((found.reason, found.bytes), (GapReason::Unreadable, Some(5)));
        assert!(found.detail.ends_with(", after 3 of 8 bytes"), "{found:?}");
    }

    #[test]
    fn a_file_that_ends_before_its_size_although_nothing_changed() {
        assert_eq!(read(fake([8, 8], &[Ok(b"abc")])), (b"abc\0\0\0\0\0".to_vec(), None));
    }

    #[test]
    fn a_file_with_content_but_no_size() {
        assert_eq!(read(fake([0, 0], &[Ok(b"abc"), Ok(b"def")])), (b"abcdef".to_vec(), None));
        let (bytes, found) = read(fake([0, 0], &[Ok(b"abc"), Err(BROKEN)]));
        assert_eq!(bytes, b"abc");
        assert!(found.unwrap().detail.ends_with(", after 3 bytes"));
        let long = vec![b'x'; MAX_UNSIZED as usize + 7];
        let (bytes, found) = read(fake([0, 0], &[Ok(&long)]));
        assert_eq!(bytes.len() as u64, MAX_UNSIZED);
        assert_eq!(found, gap("the size of the file is 0, but it has more than 8388608 bytes", None));
    }
}
