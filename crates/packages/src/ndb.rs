//! NDB, the database of rpm on SUSE: a header, slots, and blobs.
//!
//! Source: `lib/backend/ndb/rpmpkg.c` of rpm.

use crate::bytes::{le32, slice};

const HEADER_MAGIC: &[u8] = b"RpmP";
const SLOT_MAGIC: &[u8] = b"Slot";
const BLOB_MAGIC: &[u8] = b"BlbS";
const PAGE: usize = 4096;
const SLOT: usize = 16;
/// The header takes the place of the first two slots.
const FIRST_SLOT: usize = 32;
/// The unit of offsets and lengths of blobs.
const BLOCK: usize = 16;
const BLOB_HEADER: usize = 16;

type Damage = &'static str;

/// Whether `bytes` begin as an NDB database.
pub(crate) fn is_database(bytes: &[u8]) -> bool {
    bytes.starts_with(HEADER_MAGIC)
}

/// Calls `found` with every blob.
pub(crate) fn blobs(bytes: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<(), Damage> {
    const HEADER: Damage = "the header of the NDB database is damaged";
    if le32(bytes, 4) != Some(0) {
        return Err("it is an NDB database of an unknown version");
    }
    let pages = le32(bytes, 12).ok_or(HEADER)? as usize;
    let slots = pages.checked_mul(PAGE).and_then(|end| bytes.get(FIRST_SLOT..end)).ok_or(HEADER)?;
    // Slots may name the same blob; together, blobs are at most as large as the file.
    let mut left = bytes.len();
    for slot in slots.chunks_exact(SLOT) {
        if !slot.starts_with(SLOT_MAGIC) {
            return Err("a slot of the NDB database is damaged");
        }
        let (Some(index), Some(offset)) = (le32(slot, 4), le32(slot, 8)) else { continue };
        // A free slot has no index and no offset.
        if index == 0 || offset == 0 {
            continue;
        }
        let blob = blob(bytes, index, offset as usize).ok_or("a blob of the NDB database is damaged")?;
        left = left.checked_sub(blob.len()).ok_or("blobs of the NDB database overlap")?;
        found(blob);
    }
    Ok(())
}

fn blob(bytes: &[u8], index: u32, offset: usize) -> Option<&[u8]> {
    let start = offset.checked_mul(BLOCK)?;
    let header = slice(bytes, start, BLOB_HEADER)?;
    if !header.starts_with(BLOB_MAGIC) || le32(header, 4) != Some(index) {
        return None;
    }
    slice(bytes, start + BLOB_HEADER, le32(header, 12)? as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database with `blobs`, as rpm writes it.
    fn database(blobs: &[&[u8]]) -> Vec<u8> {
        let mut slots = [HEADER_MAGIC, &0_u32.to_le_bytes(), &7_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat();
        slots.resize(FIRST_SLOT, 0);
        let mut data = Vec::new();
        for (number, blob) in blobs.iter().enumerate() {
            let index = number as u32 + 1;
            let offset = (PAGE + data.len()) / BLOCK;
            let length = (BLOB_HEADER + blob.len() + 12).div_ceil(BLOCK);
            slots.extend(
                [SLOT_MAGIC, &index.to_le_bytes(), &(offset as u32).to_le_bytes(), &(length as u32).to_le_bytes()]
                    .concat(),
            );
            let start = data.len();
            data.extend(
                [BLOB_MAGIC, &index.to_le_bytes(), &7_u32.to_le_bytes(), &(blob.len() as u32).to_le_bytes()].concat(),
            );
            data.extend_from_slice(blob);
            data.resize(start + length * BLOCK, 0);
        }
        while slots.len() < PAGE {
            slots.extend(SLOT_MAGIC);
            slots.resize(slots.len() + 12, 0);
        }
        [slots, data].concat()
    }

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Damage> {
        let mut all = Vec::new();
        blobs(bytes, &mut |blob| all.push(blob.to_vec())).map(|()| all)
    }

    #[test]
    fn every_blob_is_found() {
        assert_eq!(
            read(&database(&[b"one", b"the second, which is longer"])).unwrap(),
            [b"one".to_vec(), b"the second, which is longer".to_vec()]
        );
        assert_eq!(read(&database(&[])).unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn damage_is_told() {
        let whole = database(&[b"one"]);
        assert!(read(&whole[..PAGE + 4]).is_err());
        assert!(read(&whole[..100]).is_err());
        let mut other = whole.clone();
        other[PAGE + 4] = 9;
        assert!(read(&other).is_err(), "a blob of another package");
    }
}
