//! Berkeley DB hash databases, as far as old rpm's needs: all values.
//!
//! Source: `dbinc/db_page.h` of Berkeley DB 5.3. Values are on hash pages, or on chains of overflow pages.

use crate::bytes::{be16, be32, le16, le32, slice};

const HASH_MAGIC: u32 = 0x0006_1561;
const HASH_META: u8 = 8;
const HASH_UNSORTED: u8 = 2;
const HASH: u8 = 13;
const OVERFLOW: u8 = 7;
const PAGE_HEADER: usize = 26;
const KEY_DATA: u8 = 1;
const OFF_PAGE: u8 = 3;

type Damage = &'static str;
const PAGE_DAMAGE: Damage = "a page of the Berkeley DB is damaged";

/// Whether `bytes` begin as a hash database.
pub(crate) fn is_database(bytes: &[u8]) -> bool {
    [le32(bytes, 12), be32(bytes, 12)].contains(&Some(HASH_MAGIC))
}

/// Calls `found` with every value.
pub(crate) fn values(bytes: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<(), Damage> {
    let is_little = le32(bytes, 12) == Some(HASH_MAGIC);
    let page_size = if is_little { le32(bytes, 20) } else { be32(bytes, 20) };
    let page_size = page_size.map_or(0, |size| size as usize);
    if !(512..=65536).contains(&page_size) || !page_size.is_power_of_two() || bytes.get(25) != Some(&HASH_META) {
        return Err("the header of the Berkeley DB is damaged");
    }
    // Encrypted pages look like noise.
    if bytes.get(24) != Some(&0) {
        return Err("the Berkeley DB is encrypted");
    }
    let database = Database { bytes, page_size, is_little };
    // Entries may share bytes and pages; together they have at most those of the file.
    let mut left = bytes.len();
    for page in bytes.chunks_exact(page_size).skip(1) {
        if matches!(page[25], HASH | HASH_UNSORTED) {
            database.hash_page(page, &mut left, found)?;
        }
    }
    Ok(())
}

struct Database<'b> {
    bytes: &'b [u8],
    page_size: usize,
    is_little: bool,
}

impl Database<'_> {
    fn u16(&self, bytes: &[u8], at: usize) -> Option<u16> {
        if self.is_little { le16(bytes, at) } else { be16(bytes, at) }
    }

    fn u32(&self, bytes: &[u8], at: usize) -> Option<u32> {
        if self.is_little { le32(bytes, at) } else { be32(bytes, at) }
    }

    /// Entries are keys and values in turn. They fill the page from its end.
    fn hash_page(&self, page: &[u8], left: &mut usize, found: &mut dyn FnMut(&[u8])) -> Result<(), Damage> {
        let entries = usize::from(self.u16(page, 20).ok_or(PAGE_DAMAGE)?);
        let offset = |entry: usize| self.u16(page, PAGE_HEADER + 2 * entry).map(usize::from);
        for entry in (1..entries).step_by(2) {
            let start = offset(entry).ok_or(PAGE_DAMAGE)?;
            let end = offset(entry - 1).ok_or(PAGE_DAMAGE)?;
            match page.get(start) {
                Some(&KEY_DATA) => {
                    let value = page.get(start + 1..end).ok_or(PAGE_DAMAGE)?;
                    *left = left.checked_sub(value.len()).ok_or(PAGE_DAMAGE)?;
                    found(value);
                }
                Some(&OFF_PAGE) => found(&self.off_page(page, start, left).ok_or(PAGE_DAMAGE)?),
                Some(_) => {}
                None => return Err(PAGE_DAMAGE),
            }
        }
        Ok(())
    }

    fn off_page(&self, page: &[u8], at: usize, left: &mut usize) -> Option<Vec<u8>> {
        let mut next = self.u32(page, at + 4)? as usize;
        let size = self.u32(page, at + 8)? as usize;
        if size > self.bytes.len() {
            return None;
        }
        let mut value = Vec::with_capacity(size);
        while value.len() < size {
            *left = left.checked_sub(self.page_size)?;
            let page = slice(self.bytes, next.checked_mul(self.page_size)?, self.page_size)?;
            if page[25] != OVERFLOW {
                return None;
            }
            // On an overflow page, the offset of the free space is the length of the data.
            let length = usize::from(self.u16(page, 22)?);
            if length == 0 {
                return None;
            }
            value.extend_from_slice(slice(page, PAGE_HEADER, length)?);
            next = self.u32(page, 16)? as usize;
        }
        value.truncate(size);
        Some(value)
    }
}
