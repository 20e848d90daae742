//! SQLite databases, as far as rpm's needs: all blobs of one table.
//!
//! Source: "Database File Format" of the SQLite documentation, sections 1.3 to 1.6 and 2.6. Pages that are only in a
//! write-ahead log beside the file are not seen.

use crate::bytes::{be16, be32, slice};

const MAGIC: &[u8] = b"SQLite format 3\0";
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// The deepest tree. SQLite's own has at most 20 levels.
const MAX_DEPTH: usize = 20;

/// The most columns of a table that are looked at.
const MAX_COLUMNS: usize = 16;

type Damage = &'static str;

/// Whether `bytes` begin as a SQLite database.
pub(crate) fn is_database(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Calls `found` with the blobs in the rows of the table `table`.
pub(crate) fn blobs(bytes: &[u8], table: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<(), Damage> {
    let database = Database::new(bytes)?;
    let mut root = None;
    database.rows(1, &mut |row| {
        // type, name, tbl_name, rootpage, sql
        let columns = columns(row);
        if let [Value::Bytes(b"table"), Value::Bytes(name), _, Value::Number(page), ..] = columns[..]
            && name == table
        {
            root = u32::try_from(page).ok();
        }
    })?;
    let root = root.ok_or("it has no table of packages")?;
    database.rows(root, &mut |row| {
        for column in columns(row) {
            if let Value::Bytes(blob) = column {
                found(blob);
            }
        }
    })
}

struct Database<'b> {
    bytes: &'b [u8],
    page_size: usize,
    /// The bytes of a page that are used.
    usable: usize,
}

impl<'b> Database<'b> {
    fn new(bytes: &'b [u8]) -> Result<Database<'b>, Damage> {
        const HEADER: Damage = "the header of the SQLite database is damaged";
        let size = slice(bytes, 16, 2).ok_or(HEADER)?;
        let page_size = match u16::from_be_bytes([size[0], size[1]]) {
            1 => 65536,
            size => usize::from(size),
        };
        let reserved = usize::from(*bytes.get(20).ok_or(HEADER)?);
        if page_size < 512 || !page_size.is_power_of_two() || page_size - reserved < 480 {
            return Err(HEADER);
        }
        Ok(Database { bytes, page_size, usable: page_size - reserved })
    }

    fn page(&self, number: u32) -> Option<&'b [u8]> {
        let index = (number as usize).checked_sub(1)?;
        slice(self.bytes, index.checked_mul(self.page_size)?, self.page_size)
    }

    /// Calls `found` with the record of each row of the table whose root is `page`.
    fn rows(&self, page: u32, found: &mut dyn FnMut(&[u8])) -> Result<(), Damage> {
        // Each page is part of one tree, once, and rows may share bytes only in a damaged file: pages and rows together
        // have at most twice the bytes of the file.
        let mut left = 2 * self.bytes.len();
        self.tree(page, MAX_DEPTH, &mut left, found)
    }

    fn tree(&self, number: u32, depth: usize, left: &mut usize, found: &mut dyn FnMut(&[u8])) -> Result<(), Damage> {
        const TREE: Damage = "a page of the SQLite database is damaged";
        const CIRCLE: Damage = "the pages of the SQLite database form a circle";
        if depth == 0 {
            return Err(CIRCLE);
        }
        *left = left.checked_sub(self.page_size).ok_or(CIRCLE)?;
        let page = self.page(number).ok_or("a page of the SQLite database is missing")?;
        let header = if number == 1 { 100 } else { 0 };
        let kind = *page.get(header).ok_or(TREE)?;
        let cells = usize::from(be16(page, header + 3).ok_or(TREE)?);
        let first = header + if kind == INTERIOR { 12 } else { 8 };
        for cell in 0..cells {
            let at = usize::from(be16(page, first + 2 * cell).ok_or(TREE)?);
            match kind {
                INTERIOR => self.tree(be32(page, at).ok_or(TREE)?, depth - 1, left, found)?,
                LEAF => self.leaf(page, at, left, found).ok_or(TREE)?,
                _ => return Err(TREE),
            }
        }
        match kind {
            INTERIOR => self.tree(be32(page, header + 8).ok_or(TREE)?, depth - 1, left, found),
            LEAF => Ok(()),
            _ => Err(TREE),
        }
    }

    fn leaf(&self, page: &[u8], at: usize, left: &mut usize, found: &mut dyn FnMut(&[u8])) -> Option<()> {
        let (size, at) = varint(page, at)?;
        let (_row, at) = varint(page, at)?;
        let size = usize::try_from(size).ok().filter(|size| *size <= self.bytes.len())?;
        *left = left.checked_sub(size)?;
        let most = self.usable - 35;
        if size <= most {
            found(slice(page, at, size)?);
            return Some(());
        }
        let least = (self.usable - 12) * 32 / 255 - 23;
        let kept = least + (size - least) % (self.usable - 4);
        let local = if kept <= most { kept } else { least };
        let mut record = slice(page, at, local)?.to_vec();
        let mut next = be32(page, at + local)?;
        while record.len() < size {
            let overflow = self.page(next)?;
            next = be32(overflow, 0)?;
            let wanted = (size - record.len()).min(self.usable - 4);
            record.extend_from_slice(slice(overflow, 4, wanted)?);
        }
        found(&record);
        Some(())
    }
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value<'r> {
    Number(i64),
    Bytes(&'r [u8]),
    Other,
}

/// The values of the row `record`, as far as they are there.
fn columns(record: &[u8]) -> Vec<Value<'_>> {
    let mut values = Vec::new();
    let Some((size, mut header)) = varint(record, 0) else { return values };
    let Ok(size) = usize::try_from(size) else { return values };
    let mut at = size;
    while header < size && values.len() < MAX_COLUMNS {
        let Some((kind, next)) = varint(record, header) else { break };
        header = next;
        let Some((value, length)) = value(record, at, kind) else { break };
        values.push(value);
        at += length;
    }
    values
}

/// The value of the serial type `kind` at `at`, and its length.
fn value(record: &[u8], at: usize, kind: u64) -> Option<(Value<'_>, usize)> {
    let length = match kind {
        0 | 8 | 9 => 0,
        1..=4 => kind as usize,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return None,
        _ => usize::try_from((kind - 12) / 2).ok()?,
    };
    let bytes = slice(record, at, length)?;
    let value = match kind {
        8 => Value::Number(0),
        9 => Value::Number(1),
        1..=6 => Value::Number(bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte))),
        0 | 7 => Value::Other,
        _ => Value::Bytes(bytes),
    };
    Some((value, length))
}

/// A number of one to nine bytes, and the offset after it.
fn varint(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut number = 0;
    for index in 0..8 {
        let byte = *bytes.get(at.checked_add(index)?)?;
        number = number << 7 | u64::from(byte & 0x7f);
        if byte < 0x80 {
            return Some((number, at + index + 1));
        }
    }
    Some((number << 8 | u64::from(*bytes.get(at.checked_add(8)?)?), at + 9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length() {
        assert_eq!(varint(&[0x7f], 0), Some((127, 1)));
        assert_eq!(varint(&[0x81, 0x00], 0), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9], 0), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0xff; 8], 0), None);
    }

    #[test]
    fn values_of_a_row() {
        // A row of NULL, 1, a 16-bit number, a text and a blob.
        let row = [6, 0, 9, 2, 13 + 2 * 2, 12 + 2, 0x01, 0x00, b'a', b'b', 0xfe];
        let expected = [Value::Other, Value::Number(1), Value::Number(256), Value::Bytes(b"ab"), Value::Bytes(&[0xfe])];
        assert_eq!(columns(&row), expected);
        assert_eq!(columns(&row[..9]).len(), 3);
    }
}
