//! Reads the files of a segment as streams, in bounded memory whatever is in them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::entry::MOST_LINE;
use crate::error::AuditError;
use crate::tree::{Hash, leaf_hash};

const BUFFER: usize = 128 * 1024;

/// A line of a file.
#[derive(Debug)]
pub(crate) struct Line {
    /// Where it begins.
    pub(crate) offset: u64,
    /// The text without its newline, at most one byte more than [`MOST_LINE`].
    pub(crate) text: Vec<u8>,
    /// Whether it ends with a newline.
    pub(crate) is_ended: bool,
}

impl Line {
    pub(crate) fn hash(&self) -> Hash {
        leaf_hash(&self.text)
    }

    /// Whether the write of this line was cut off by a crash: no end, or a hole that the file system left.
    pub(crate) fn is_torn(&self) -> bool {
        !self.is_ended || self.text.contains(&0)
    }
}

/// The lines of a file.
pub(crate) struct Lines {
    reader: BufReader<File>,
    offset: u64,
}

impl Lines {
    pub(crate) fn new(file: File) -> Lines {
        Lines { reader: BufReader::with_capacity(BUFFER, file), offset: 0 }
    }

    pub(crate) fn open(path: &Path) -> Result<Lines, AuditError> {
        File::open(path).map(Lines::new).map_err(AuditError::io("open", path))
    }

    /// The next line, or `None` at the end. Of a line that is too long, what is too much is read past.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Line { offset: self.offset, text: Vec::new(), is_ended: false };
        while !line.is_ended {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..newline.unwrap_or(bytes.len())];
            let room = (MOST_LINE + 1).saturating_sub(line.text.len());
            line.text.extend_from_slice(&part[..part.len().min(room)]);
            line.is_ended = newline.is_some();
            let used = part.len() + usize::from(line.is_ended);
            self.reader.consume(used);
            self.offset += used as u64;
        }
        Ok((self.offset > line.offset).then_some(line))
    }
}

/// The hashes in a file of leaves, up to the length that it had when it was opened.
pub(crate) struct Leaves {
    reader: Option<io::Take<BufReader<File>>>,
    /// How many bytes the file has after the last whole hash.
    pub(crate) rest: u64,
}

impl Leaves {
    /// A file that does not exist has no hashes.
    pub(crate) fn open(path: &Path) -> Result<Leaves, AuditError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Leaves { reader: None, rest: 0 });
            }
            Err(error) => return Err(AuditError::io("open", path)(error)),
        };
        let length = file.metadata().map_err(AuditError::io("read", path))?.len();
        let (count, rest) = (length / 32, length % 32);
        let reader = BufReader::with_capacity(BUFFER, file).take(count * 32);
        Ok(Leaves { reader: Some(reader), rest })
    }

    /// The next hash, or `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Hash>> {
        let Some(reader) = self.reader.as_mut().filter(|reader| reader.limit() > 0) else { return Ok(None) };
        let mut hash = [0; 32];
        reader.read_exact(&mut hash)?;
        Ok(Some(hash))
    }
}
