//! PAX extended header records: `<length> <keyword>=<value>\n`.
//!
//! Source: POSIX.1-2017, `pax`, section "pax Extended Header", and the GNU tar manual, "Storing Sparse Files", for
//! the `GNU.sparse.*` keywords. Records are split by their length and not by lines: a value may hold a newline.

/// The records that affect how an entry is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// `path`: the entry's name.
    pub path: Option<Vec<u8>>,
    /// `linkpath`: the name that a link points to.
    pub link: Option<Vec<u8>>,
    /// `size`: the bytes of data after the header.
    pub size: Option<u64>,
    /// `GNU.sparse.name`: the real name of a sparse file.
    pub sparse_name: Option<Vec<u8>>,
    /// `GNU.sparse.map`, or pairs of `GNU.sparse.offset` and `GNU.sparse.numbytes`: offsets and lengths of the data.
    pub sparse_map: Option<Vec<(u64, u64)>>,
    /// Whether the map precedes the data (`GNU.sparse.major` is 1).
    pub sparse_map_in_data: bool,
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

    /// These records, completed by `defaults` (those of a global extended header).
    pub fn over(self, defaults: &Records) -> Records {
        Records {
            path: self.path.or_else(|| defaults.path.clone()),
            link: self.link.or_else(|| defaults.link.clone()),
            size: self.size.or(defaults.size),
            ..self
        }
    }

    fn take(&mut self, key: &[u8], value: &[u8], pending_offset: &mut Option<u64>) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
            b"GNU.sparse.major" => self.sparse_map_in_data = number(value)? == 1,
            b"GNU.sparse.map" => self.sparse_map = Some(comma_map(value)?),
            b"GNU.sparse.offset" => *pending_offset = Some(number(value)?),
            b"GNU.sparse.numbytes" => {
                let pair = (pending_offset.take()?, number(value)?);
                self.sparse_map.get_or_insert_default().push(pair);
            }
            _ => {}
        }
        Some(())
    }
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
    if value.is_empty() {
        return Some(Vec::new());
    }
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
    fn both_forms_of_the_old_sparse_map() {
        let comma = Records::parse(b"26 GNU.sparse.map=0,5,9,1\n").unwrap();
        assert_eq!(comma.sparse_map, Some(vec![(0, 5), (9, 1)]));
        let pairs = Records::parse(b"23 GNU.sparse.offset=0\n25 GNU.sparse.numbytes=5\n").unwrap();
        assert_eq!(pairs.sparse_map, Some(vec![(0, 5)]));
    }

    #[test]
    fn damaged_records_are_refused() {
        for bad in [&b"x path=a\n"[..], b"99 path=a\n", b"9 path=ab", b"0 path=a\n", b"5 abc\n", b"12 size=99x\n"] {
            assert!(Records::parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
