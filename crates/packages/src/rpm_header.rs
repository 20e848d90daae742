//! Headers of rpm: an index of tags, and their values.
//!
//! Source: the RPM file format, "Header format" (docs/manual/format_header.md of rpm). In a database, a header begins
//! with the numbers of its entries and bytes, without the magic number that it has in a package file.

use layersift_model::{Ecosystem, PackageRecord};

use crate::bytes::{be32, slice};
use crate::fields::text;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const LICENSE: u32 = 1014;
const ARCH: u32 = 1022;
const SOURCE_RPM: u32 = 1044;

const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const I18N_STRING: u32 = 9;

/// The bytes of an entry of the index.
const ENTRY: usize = 16;

/// The most entries of a header, as rpm has it.
const MAX_ENTRIES: usize = 0x0000_ffff;

/// The header is damaged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DamagedHeader;

/// The package of the header `bytes`. Some have none: public keys that rpm trusts are stored as packages.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<PackageRecord>, DamagedHeader> {
    // The database keeps the number of the next package as a value of four bytes.
    if bytes.len() <= 4 {
        return Ok(None);
    }
    let header = Header::new(bytes).ok_or(DamagedHeader)?;
    let (Some(name), Some(version)) = (header.string(NAME), header.string(VERSION)) else { return Err(DamagedHeader) };
    if name == "gpg-pubkey" {
        return Ok(None);
    }
    let version = match header.string(RELEASE) {
        Some(release) => format!("{version}-{release}"),
        None => version,
    };
    Ok(Some(PackageRecord {
        epoch: header.number(EPOCH).map(|epoch| epoch.to_string()),
        architecture: header.string(ARCH),
        licence: header.string(LICENSE),
        source: header.string(SOURCE_RPM).filter(|source| source != "(none)"),
        ..PackageRecord::new(Ecosystem::Rpm, name, version)
    }))
}

struct Header<'b> {
    index: &'b [u8],
    data: &'b [u8],
}

impl<'b> Header<'b> {
    fn new(bytes: &'b [u8]) -> Option<Header<'b>> {
        let entries = be32(bytes, 0)? as usize;
        let size = be32(bytes, 4)? as usize;
        if entries == 0 || entries > MAX_ENTRIES {
            return None;
        }
        let index = slice(bytes, 8, entries * ENTRY)?;
        Some(Header { index, data: slice(bytes, 8 + entries * ENTRY, size)? })
    }

    /// The type of the tag, and its data up to the end.
    fn entry(&self, tag: u32) -> Option<(u32, &'b [u8])> {
        let entry = self.index.chunks_exact(ENTRY).find(|entry| be32(entry, 0) == Some(tag))?;
        let offset = be32(entry, 8)? as usize;
        Some((be32(entry, 4)?, self.data.get(offset..)?))
    }

    fn string(&self, tag: u32) -> Option<String> {
        let (kind, data) = self.entry(tag)?;
        let is_string = matches!(kind, STRING | STRING_ARRAY | I18N_STRING);
        let end = memchr::memchr(0, data)?;
        is_string.then(|| text(&data[..end])).filter(|text| !text.is_empty())
    }

    fn number(&self, tag: u32) -> Option<u32> {
        let (kind, data) = self.entry(tag)?;
        if kind == INT32 { be32(data, 0) } else { None }
    }
}

/// The header of a package as rpm writes it, for tests of the databases.
#[cfg(test)]
pub(crate) fn example(name: &str, version: &str, release: &str, epoch: Option<u32>) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    if let Some(epoch) = epoch {
        index.extend([EPOCH, INT32, 0, 1].map(u32::to_be_bytes).concat());
        data.extend(epoch.to_be_bytes());
    }
    for (tag, value) in [(NAME, name), (VERSION, version), (RELEASE, release), (ARCH, "noarch")] {
        index.extend([tag, STRING, data.len() as u32, 1].map(u32::to_be_bytes).concat());
        data.extend(value.bytes());
        data.push(0);
    }
    let counts = [(index.len() / ENTRY) as u32, data.len() as u32].map(u32::to_be_bytes).concat();
    [counts, index, data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_version_release_and_epoch() {
        let found = read(&example("bash", "5.1.8", "9.el9", Some(2))).unwrap().unwrap();
        assert_eq!((&*found.name, &*found.version, found.epoch.as_deref()), ("bash", "5.1.8-9.el9", Some("2")));
        assert_eq!(found.architecture.as_deref(), Some("noarch"));
    }

    #[test]
    fn keys_and_counters_are_no_packages() {
        assert_eq!(read(&example("gpg-pubkey", "1", "2", None)), Ok(None));
        assert_eq!(read(&[0, 0, 0, 9]), Ok(None));
    }

    #[test]
    fn every_damaged_header_is_told() {
        let whole = example("bash", "5.1.8", "9.el9", Some(2));
        for length in 5..whole.len() {
            assert_eq!(read(&whole[..length]), Err(DamagedHeader), "{length}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            // Any answer is right; it must not stop the program.
            let _ = read(&changed);
        }
    }
}
