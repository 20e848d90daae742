//! PAX extended header records: `<length> <keyword>=<value>\n`.
//!
//! Source: POSIX.1-2017, `pax`, section "pax Extended Header", and the GNU tar manual, "Storing Sparse Files", for
//! the `GNU.sparse.*` keywords. Records are split by their length and not by lines: a value may hold a newline.
//!
//! Where readers differ, records mean what they mean to Go's `archive/tar`, which container runtimes use: an empty
//! value keeps the field of the header, the last of several records of one keyword counts, and a sparse file has one of
//! the known versions.

/// The records that affect how an entry is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// `path`: the entry's name.
    pub path: Option<Vec<u8>>,
    /// `linkpath`: the name that a link points to.
    pub link: Option<Vec<u8>>,
    /// `size`: the bytes of data after the header.
    pub size: Option<u64>,
    /// `mtime`: when the file was modified, in whole seconds since 1970.
    pub modified: Option<i64>,
    /// `uid`: the numeric id of its owner.
    pub uid: Option<u64>,
    /// `gid`: the numeric id of its group.
    pub gid: Option<u64>,
    sparse: SparseRecords,
}

/// The records of a sparse file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SparseRecords {
    /// `GNU.sparse.major` and `GNU.sparse.minor`, as written.
    major: Vec<u8>,
    minor: Vec<u8>,
    name: Option<Vec<u8>>,
    /// `GNU.sparse.size`, or `GNU.sparse.realsize`.
    size: Option<u64>,
    real_size: Option<u64>,
    /// `GNU.sparse.map`, or pairs of `GNU.sparse.offset` and `GNU.sparse.numbytes`.
    map: Option<Vec<(u64, u64)>>,
}

/// A sparse file, as PAX records describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sparse {
    /// The real name of the file.
    pub name: Option<Vec<u8>>,
    /// The size of the file with its holes.
    pub size: Option<u64>,
    /// Offset and length in the file of each run of stored bytes; `None` if the map precedes the data.
    pub map: Option<Vec<(u64, u64)>>,
}

/// A record does not have the documented form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("damaged PAX record at byte {offset} of the extended header")]
pub struct DamagedRecord {
    offset: usize,
}

impl Records {
    /// Parses the records of one extended header.
    ///
    /// # Errors
    /// If a record does not have the documented form.
    pub fn parse(data: &[u8]) -> Result<Records, DamagedRecord> {
        let mut records = Records::default();
        let mut offset = 0;
        let mut pending_offset = None;
        // Some writers pad the data of an extended header with zeros.
        while offset < data.len() && data[offset] != 0 {
            let damaged = || DamagedRecord { offset };
            let (length, key, value) = split_record(&data[offset..]).ok_or_else(damaged)?;
            records.take(key, value, &mut pending_offset).ok_or_else(damaged)?;
            offset += length;
        }
        Ok(records)
    }

    /// Whether a record changes how an entry is read.
    pub fn change_reading(&self) -> bool {
        let Records { path, link, size, sparse, .. } = self;
        path.is_some() || link.is_some() || size.is_some() || *sparse != SparseRecords::default()
    }

    /// The description of a sparse file; `None` if the entry is not one. A version that Go does not know is a plain
    /// file.
    pub fn sparse(&self) -> Option<Sparse> {
        let SparseRecords { major, minor, name, size, real_size, map } = &self.sparse;
        let is_in_data = match (&major[..], &minor[..]) {
            (b"0", b"0" | b"1") => false,
            (b"1", b"0") => true,
            (b"", b"") if map.is_some() => false,
            _ => return None,
        };
        let map = if is_in_data { None } else { Some(map.clone().unwrap_or_default()) };
        Some(Sparse { name: name.clone(), size: size.or(*real_size), map })
    }

    fn take(&mut self, key: &[u8], value: &[u8], pending_offset: &mut Option<u64>) -> Option<()> {
        let text = || (!value.is_empty()).then(|| value.to_vec());
        let size = || if value.is_empty() { Some(None) } else { number(value).map(Some) };
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = size()?,
            // Nothing is read differently because of these.
            b"mtime" => self.modified = seconds(value),
            b"uid" => self.uid = number(value),
            b"gid" => self.gid = number(value),
            b"GNU.sparse.name" => self.sparse.name = text(),
            b"GNU.sparse.major" => self.sparse.major = value.to_vec(),
            b"GNU.sparse.minor" => self.sparse.minor = value.to_vec(),
            b"GNU.sparse.size" => self.sparse.size = size()?,
            b"GNU.sparse.realsize" => self.sparse.real_size = size()?,
            b"GNU.sparse.map" if value.is_empty() => self.sparse.map = None,
            b"GNU.sparse.map" => self.sparse.map = Some(comma_map(value)?),
            b"GNU.sparse.offset" => *pending_offset = Some(number(value)?),
            b"GNU.sparse.numbytes" => {
                let pair = (pending_offset.take()?, number(value)?);
                self.sparse.map.get_or_insert_default().push(pair);
            }
            _ => {}
        }
        Some(())
    }
}

/// The whole seconds of a time with a fraction, rounded down.
fn seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let has_fraction = fraction.bytes().any(|digit| digit != b'0');
    let seconds: i64 = whole.parse().ok()?;
    if whole.starts_with('-') && has_fraction { seconds.checked_sub(1) } else { Some(seconds) }
}

/// A decimal number of at most 20 digits.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

fn split_record(data: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let space = memchr::memchr(b' ', data.get(..data.len().min(21))?)?;
    let length = usize::try_from(number(&data[..space])?).ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = memchr::memchr(b'=', record)?;
    Some((length, &record[..equals], &record[equals + 1..]))
}

fn comma_map(value: &[u8]) -> Option<Vec<(u64, u64)>> {
    let numbers: Vec<u64> = value.split(|&b| b == b',').map(number).collect::<Option<_>>()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[offset, length]| (*offset, *length)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_newlines_and_equals_signs() {
        let records = Records::parse(b"14 path=a\nb=c\n12 size=123\n").unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a\nb=c"[..]));
        assert_eq!(records.size, Some(123));
    }

    #[test]
    fn an_empty_value_keeps_the_field_of_the_header() {
        let records = Records::parse(b"10 path=a\n8 path=\n8 size=\n").unwrap();
        assert_eq!(records, Records::default());
        assert!(!records.change_reading());
    }

    #[test]
    fn both_forms_of_the_old_sparse_map() {
        let map = |text: &[u8]| Records::parse(text).unwrap().sparse().unwrap().map;
        assert_eq!(map(b"26 GNU.sparse.map=0,5,9,1\n"), Some(vec![(0, 5), (9, 1)]));
        assert_eq!(map(b"23 GNU.sparse.offset=0\n25 GNU.sparse.numbytes=5\n"), Some(vec![(0, 5)]));
    }

    #[test]
    fn only_known_versions_are_sparse_files() {
        let version = |text: &[u8]| Records::parse(text).unwrap().sparse();
        assert_eq!(version(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n").unwrap().map, None);
        assert_eq!(version(b"22 GNU.sparse.major=1\n"), None);
        assert_eq!(version(b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=9\n"), None);
        assert_eq!(version(b"21 GNU.sparse.name=a\n"), None);
    }

    #[test]
    fn damaged_records_are_refused() {
        for bad in [&b"x path=a\n"[..], b"99 path=a\n", b"9 path=ab", b"0 path=a\n", b"5 abc\n", b"12 size=99x\n"] {
            assert!(Records::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
