//! Checksums: those that a package records for the files it ships, and those of the files themselves.
//!
//! They separate noise from news and prove nothing: the author of an image also writes its package records, and MD5 and
//! SHA-1 do not resist an author who makes both files.

use std::borrow::Cow;
use std::collections::HashMap;

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::Sha256;

use crate::path::PathKey;

/// The checksum of a file in a package record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Checksum {
    /// MD5 (RFC 1321), written by dpkg.
    Md5([u8; 16]),
    /// SHA-1 (FIPS 180-4), written by apk.
    Sha1([u8; 20]),
    /// SHA-256 (FIPS 180-4), written by Python wheels and newer versions of apk.
    Sha256([u8; 32]),
}

/// A recorded checksum, with the ecosystem of its package, such as `deb`.
pub type RecordedChecksum = (Cow<'static, str>, Checksum);

/// Recorded checksums by path.
pub type RecordedChecksums = HashMap<PathKey, RecordedChecksum>;

/// The checksums of a file itself, in every algorithm that package records use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChecksums {
    md5: [u8; 16],
    sha1: [u8; 20],
    sha256: [u8; 32],
}

impl FileChecksums {
    /// The checksums of the file made of `parts`, in order.
    pub fn of(parts: &[&[u8]]) -> FileChecksums {
        let (mut md5, mut sha1, mut sha256) = (Md5::new(), Sha1::new(), Sha256::new());
        for part in parts {
            md5.update(part);
            sha1.update(part);
            sha256.update(part);
        }
        FileChecksums { md5: md5.finalize().into(), sha1: sha1.finalize().into(), sha256: sha256.finalize().into() }
    }

    /// Whether the file has the recorded checksum `sum`.
    pub fn is(&self, sum: &Checksum) -> bool {
        match sum {
            Checksum::Md5(sum) => self.md5 == *sum,
            Checksum::Sha1(sum) => self.sha1 == *sum,
            Checksum::Sha256(sum) => self.sha256 == *sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_one_file() {
        let whole = FileChecksums::of(&[b"abc"]);
        assert_eq!(whole, FileChecksums::of(&[b"a", b"", b"bc"]));
        // RFC 1321, appendix A.5
        assert!(whole.is(&Checksum::Md5(0x9001_5098_3cd2_4fb0_d696_3f7d_28e1_7f72_u128.to_be_bytes())));
        assert!(!whole.is(&Checksum::Sha256([0; 32])));
    }
}
