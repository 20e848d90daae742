//! Layers rebuilt byte for byte from their unpacked files and from the headers that an engine kept of their archives.
//!
//! Source: `tar/storage` of github.com/vbatts/tar-split. The record is lines of JSON, compressed with gzip: segments
//! with raw bytes of the archive, and the names and sizes of the files whose content comes between them.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Cursor, Read, Take};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use layersift_format::Cancellation;
use layersift_format::compression::{Bounded, CompressedBytes};
use layersift_model::parse;
use serde::Deserialize;

use crate::root;

/// The most bytes of a line. A segment has headers and padding, of which extended headers are the largest.
const LINE: u64 = 16 << 20;

/// What a record may decompress to, in the units of [`Bounded`]: 32 MiB, and 32 bytes for each of its own. Usually
/// there are ten.
const BASE_WORK: u64 = 64 << 20;
const WORK_PER_BYTE: u64 = 64;

const FILE: u8 = 1;
const SEGMENT: u8 = 2;

#[derive(Deserialize)]
struct Line {
    r#type: u8,
    name: Option<String>,
    /// A name that is not UTF-8, in base64.
    name_raw: Option<String>,
    size: Option<u64>,
    payload: Option<String>,
}

/// The record of an archive.
struct Record {
    lines: Box<dyn BufRead + Send>,
    /// Ends the reading, also of lines that lead to nothing.
    cancellation: Cancellation,
}

/// The archive of a layer.
pub(crate) struct TarSplit {
    record: Record,
    /// The directory with its files.
    files: PathBuf,
    current: Current,
}

enum Current {
    Segment(Cursor<Vec<u8>>),
    File(Take<File>, String),
}

/// What an archive consists of.
enum Item {
    Segment(Vec<u8>),
    File(PathBuf, u64),
}

impl TarSplit {
    /// The archive with the record `record`, whose files are in `files`.
    ///
    /// # Errors
    /// If the record cannot be opened.
    pub(crate) fn open(record: &Path, files: &Path, cancellation: &Cancellation) -> io::Result<TarSplit> {
        let current = Current::Segment(Cursor::new(Vec::new()));
        Ok(TarSplit { record: Record::open(record, cancellation)?, files: files.into(), current })
    }
}

/// Checks that every file of the record is in `files` with its size. Their content is not read.
///
/// # Errors
/// If the record is damaged or does not match, or has files again and again; the message says where.
pub(crate) fn check(record: &Path, files: &Path, cancellation: &Cancellation) -> Result<(), String> {
    let mut record = Record::open(record, cancellation).map_err(|error| error.to_string())?;
    let mut again = Again::default();
    while let Some(item) = record.next().map_err(|error| error.to_string())? {
        let Item::File(name, size) = item else { continue };
        let found = root::below(files, &name).map_err(|error| format!("{}: {error}", name.display()))?;
        match found {
            Some((_, metadata)) if metadata.is_file() && metadata.len() == size => again.add(&metadata)?,
            Some((_, metadata)) if metadata.is_file() => {
                return Err(format!("{} has {} bytes, and had {size}", name.display(), metadata.len()));
            }
            _ => return Err(format!("{} is missing", name.display())),
        }
    }
    Ok(())
}

/// The paths of the files in `files` that the record has.
///
/// # Errors
/// If the record is damaged.
pub(crate) fn recorded_files(record: &Path, files: &Path, cancellation: &Cancellation) -> io::Result<HashSet<PathBuf>> {
    let mut record = Record::open(record, cancellation)?;
    let mut paths = HashSet::new();
    while let Some(item) = record.next()? {
        if let Item::File(name, _) = item {
            paths.extend(root::below(files, &name)?.map(|(path, _)| path));
        }
    }
    Ok(paths)
}

/// The files of a record. An archive may have a file twice, but not much more than the directory has.
#[derive(Default)]
struct Again {
    /// The device and the number of each.
    known: HashSet<(u64, u64)>,
    /// The bytes of all, and of those that came again.
    bytes: u64,
    again: u64,
}

impl Again {
    /// What may come again of any layer.
    const LEAST: u64 = 16 << 20;

    fn add(&mut self, metadata: &Metadata) -> Result<(), String> {
        match self.known.insert((metadata.dev(), metadata.ino())) {
            true => self.bytes += metadata.len(),
            false => self.again = self.again.saturating_add(metadata.len()),
        }
        match self.again <= self.bytes.max(Again::LEAST) {
            true => Ok(()),
            false => Err("the record has the same files again and again".into()),
        }
    }
}

impl Record {
    fn open(path: &Path, cancellation: &Cancellation) -> io::Result<Record> {
        let compressed = CompressedBytes::default();
        let plain = MultiGzDecoder::new(compressed.counting(root::open_file(path)?));
        let lines = BufReader::new(Bounded::new(plain, compressed, BASE_WORK, WORK_PER_BYTE));
        Ok(Record { lines: Box::new(lines), cancellation: cancellation.clone() })
    }

    /// The next segment, or the next file that has content.
    fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            self.cancellation.check()?;
            let mut line = Vec::new();
            self.lines.by_ref().take(LINE).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Ok(None);
            }
            let Line { r#type, name, name_raw, size, payload } =
                parse::json(&line).map_err(|error| damaged(&error.to_string()))?;
            let decode = |text: &str| STANDARD.decode(text).map_err(|error| damaged(&error.to_string()));
            match (r#type, size.unwrap_or(0)) {
                (SEGMENT, _) => {
                    return decode(payload.as_deref().unwrap_or_default()).map(|bytes| Some(Item::Segment(bytes)));
                }
                (FILE, 0) => {}
                (FILE, size) => {
                    let raw = name_raw.as_deref().map(decode).transpose()?;
                    let name = raw.or(name.map(String::into_bytes)).unwrap_or_default();
                    return Ok(Some(Item::File(path_of(name), size)));
                }
                _ => return Err(damaged("a line of another type")),
            }
        }
    }
}

impl Read for TarSplit {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = match &mut self.current {
                Current::Segment(bytes) => bytes.read(buffer)?,
                Current::File(file, name) => match file.read(buffer)? {
                    0 if file.limit() > 0 => return Err(damaged(&format!("{name} is shorter than it was"))),
                    count => count,
                },
            };
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.current = match self.record.next()? {
                None => return Ok(0),
                Some(Item::Segment(bytes)) => Current::Segment(Cursor::new(bytes)),
                Some(Item::File(name, size)) => {
                    let missing = || damaged(&format!("{} is missing", name.display()));
                    let (path, _) = root::below(&self.files, &name)?.ok_or_else(missing)?;
                    Current::File(root::open_file(&path)?.take(size), name.display().to_string())
                }
            };
        }
    }
}

/// The path of a file in the directory of its layer. A name that begins with `/` is of the layer, too.
fn path_of(name: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
    PathBuf::from(std::ffi::OsString::from_vec(name[start..].to_vec()))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the record of the layer's archive does not match: {what}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn record(directory: &Path, lines: &str) -> PathBuf {
        let path = directory.join("tar-split.json.gz");
        let mut out = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        out.write_all(lines.as_bytes()).unwrap();
        out.finish().unwrap();
        path
    }

    fn check(record: &Path, files: &Path) -> Result<(), String> {
        super::check(record, files, &Cancellation::never())
    }

    fn open(record: &Path, files: &Path) -> TarSplit {
        TarSplit::open(record, files, &Cancellation::never()).unwrap()
    }

    const LINES: &str = concat!(
        r#"{"type":2,"payload":"PGE+","position":0}"#,
        "\n",
        r#"{"type":1,"name":"./etc/","payload":null,"position":1}"#,
        "\n",
        r#"{"type":1,"name":"./etc/a","size":5,"payload":"AAAAAAAAAAA=","position":2}"#,
        "\n",
        r#"{"type":2,"payload":"PGI+","position":3}"#,
        "\n",
        r#"{"type":2,"payload":"","position":4}"#,
        "\n",
    );

    #[test]
    fn an_archive_is_its_segments_and_the_files_between_them() {
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("diff");
        fs::create_dir_all(files.join("etc")).unwrap();
        fs::write(files.join("etc/a"), "hello").unwrap();
        let record = record(directory.path(), LINES);
        assert_eq!(check(&record, &files), Ok(()));
        let mut archive = String::new();
        open(&record, &files).read_to_string(&mut archive).unwrap();
        assert_eq!(archive, "<a>hello<b>");
        assert_eq!(
            recorded_files(&record, &files, &Cancellation::never()).unwrap(),
            HashSet::from([files.join("etc/a")])
        );
    }

    #[test]
    fn a_file_that_is_missing_or_has_another_size_does_not_match() {
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("diff");
        fs::create_dir_all(files.join("etc")).unwrap();
        let record = record(directory.path(), LINES);
        assert_eq!(check(&record, &files), Err("./etc/a is missing".into()));
        fs::write(files.join("etc/a"), "hell").unwrap();
        assert_eq!(check(&record, &files), Err("./etc/a has 4 bytes, and had 5".into()));
        assert!(open(&record, &files).read_to_end(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_record_that_decompresses_to_far_more_than_others_is_not_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let record = record(directory.path(), &format!("{}\n", r#"{"type":1,"size":0}"#).repeat(3 << 20));
        let error = check(&record, directory.path()).unwrap_err();
        assert!(error.contains("decompresses to far more"), "{error}");
    }

    #[test]
    fn a_file_that_comes_again_and_again_does_not_match_and_reading_can_be_cancelled() {
        let directory = tempfile::tempdir().unwrap();
        File::create(directory.path().join("a")).unwrap().set_len(4 << 20).unwrap();
        let line = format!("{{\"type\":1,\"name\":\"a\",\"size\":{}}}\n", 4 << 20);
        for (times, expected) in [(5, Ok(())), (6, Err("the record has the same files again and again".into()))] {
            let record = record(directory.path(), &line.repeat(times));
            assert_eq!(check(&record, directory.path()), expected);
        }
        let cancelled = Cancellation::new();
        cancelled.cancel();
        let record = record(directory.path(), &line);
        assert_eq!(super::check(&record, directory.path(), &cancelled), Err("cancelled".into()));
        let mut archive = TarSplit::open(&record, directory.path(), &cancelled).unwrap();
        assert!(archive.read(&mut [0; 10]).is_err());
    }

    #[test]
    fn a_name_does_not_lead_out_of_the_layer() {
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("diff");
        fs::create_dir_all(&files).unwrap();
        fs::write(directory.path().join("outside"), "hello").unwrap();
        std::os::unix::fs::symlink(directory.path(), files.join("link")).unwrap();
        for (name, why) in
            [("../outside", "is missing"), ("link/outside", "is not followed"), ("/../outside", "is missing")]
        {
            let lines = format!("{{\"type\":1,\"name\":\"{name}\",\"size\":5}}\n");
            let record = record(directory.path(), &lines);
            assert!(check(&record, &files).unwrap_err().ends_with(why), "{name}");
        }
    }
}
