//! Looks for known secrets in texts, whether their bytes are there or only what a store keeps of them.

use std::cell::{Cell, OnceCell};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;

use layersift_model::{FingerprintKey, HEAD, LONGEST_NAME, Secret, WindowHash, WindowSums};

/// The places of a text whose sums are taken at once.
const BLOCK: usize = 64 << 10;

/// How often a place whose first bytes are those of a secret is compared with secrets of one length. What a report says
/// is then masked wherever a secret may begin: rather too much than too little.
const MOST_COMPARISONS: u64 = 20_000_000;

/// Secrets that may be in names and other texts of an image.
pub(crate) struct KnownSecrets<'s> {
    key: &'s FingerprintKey,
    hash: WindowHash,
    /// By the hash of their first bytes, the longest first, and by the hash of all of their bytes.
    entries: Vec<Entry<'s>>,
    /// Where those with each hash of their first bytes begin, and where the last ones end.
    begins: Vec<u32>,
    longest: usize,
    comparisons: Cell<u64>,
}

/// A secret. An image may have a hundred thousand, so it is small.
struct Entry<'s> {
    head: u16,
    whole: u16,
    length: u32,
    secret: &'s Secret,
}

impl<'s> KnownSecrets<'s> {
    /// Those of `secrets` that are long enough not to be ordinary words, and short enough to be in a name; `None` if
    /// none is. Redacted ones were so under `key`.
    pub(crate) fn of(
        secrets: impl IntoIterator<Item = &'s Secret>,
        key: &'s FingerprintKey,
    ) -> Option<KnownSecrets<'s>> {
        let fits = |secret: &&Secret| (HEAD..=LONGEST_NAME).contains(&secret.len());
        let distinct: BTreeSet<&Secret> = secrets.into_iter().filter(fits).collect();
        let longest = distinct.iter().map(|secret| secret.len()).max()?;
        let hash = WindowHash::new(key);
        let entry = |secret: &'s Secret| {
            let windows = secret.windows(&hash);
            Entry { head: windows.head, whole: windows.whole, length: secret.len() as u32, secret }
        };
        let mut entries: Vec<Entry<'s>> = distinct.into_iter().map(entry).collect();
        entries.sort_by_key(|entry| (entry.head, Reverse(entry.length), entry.whole));
        let mut begins = Vec::with_capacity((1 << 16) + 1);
        for (at, entry) in entries.iter().enumerate() {
            begins.resize(begins.len().max(usize::from(entry.head) + 1), at as u32);
        }
        begins.resize((1 << 16) + 1, entries.len() as u32);
        Some(KnownSecrets { key, hash, entries, begins, longest, comparisons: Cell::new(0) })
    }

    /// The secrets whose first bytes have the hash `head`.
    fn beginning(&self, head: u16) -> &[Entry<'s>] {
        let bounds = (self.begins.get(usize::from(head)), self.begins.get(usize::from(head) + 1));
        let (Some(from), Some(to)) = bounds else { return &[] };
        self.entries.get(*from as usize..*to as usize).unwrap_or_default()
    }

    /// `text` with all secrets masked; `None` if it has none.
    pub(crate) fn masked(&self, text: &[u8]) -> Option<Vec<u8>> {
        if text.len() < HEAD {
            return None;
        }
        let mut out: Option<Vec<u8>> = None;
        let mut sums = self.hash.sums(self.longest);
        let (mut at, mut copied) = (0, 0);
        while at + HEAD <= text.len() {
            let block = text.get(at..text.len().min(at + BLOCK + self.longest)).unwrap_or_default();
            sums.take(block);
            let start = at;
            while at < start + BLOCK {
                let Some(head) = sums.window(at - start, HEAD) else { break };
                let Some((secret, range)) = self.at(head, block, at - start, &sums) else {
                    at += 1;
                    continue;
                };
                let out = out.get_or_insert_default();
                out.extend_from_slice(text.get(copied..at).unwrap_or_default());
                out.extend_from_slice(secret.masked().as_bytes());
                at = start + range.end;
                copied = at;
            }
            if at < start + BLOCK {
                break;
            }
        }
        if let Some(out) = &mut out {
            out.extend_from_slice(text.get(copied..).unwrap_or_default());
        }
        out
    }

    /// The longest secret at the place `at` of `block`, where the first bytes have the hash `head`.
    fn at(&self, head: u16, block: &[u8], at: usize, sums: &WindowSums<'_>) -> Option<(&'s Secret, Range<usize>)> {
        for of_length in self.beginning(head).chunk_by(|a, b| a.length == b.length) {
            let first = of_length.first()?;
            let length = first.length as usize;
            let Some(whole) = sums.window(at, length) else { continue };
            let range = at..at + length;
            self.comparisons.set(self.comparisons.get() + 1);
            if self.comparisons.get() > MOST_COMPARISONS {
                return Some((first.secret, range));
            }
            let window = block.get(range.clone())?;
            let fingerprint = OnceCell::new();
            let is = |entry: &&Entry<'_>| {
                entry.secret.is(window, || fingerprint.get_or_init(|| self.key.fingerprint(window)).clone())
            };
            let from = of_length.partition_point(|entry| entry.whole < whole);
            let mut same = of_length.get(from..).unwrap_or_default().iter().take_while(|entry| entry.whole == whole);
            if let Some(entry) = same.find(is) {
                return Some((entry.secret, range));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_with_and_without_their_bytes() {
        let key = FingerprintKey::new(*b"made-up");
        let all = [
            Secret::new(*b"hT5vB9nM2cX7zQ"),
            Secret::new(*b"hT5vB9nM2cX7zQ-and-more"),
            Secret::new(*b"00112233445566778899aabbccddeeff").as_key(),
            Secret::new(*b"tooshort"),
        ];
        let kept: Vec<Secret> = all.iter().map(|secret| secret.redacted(&key)).collect();
        let long = format!("{}hT5vB9nM2cX7zQ{}", "x".repeat(BLOCK - 5), "y".repeat(2 * BLOCK));
        for text in [
            "srv/q-hT5vB9nM2cX7zQ/.env",
            "hT5vB9nM2cX7zQ",
            "hT5vB9nM2cX7zQ-and-more and hT5vB9nM2cX7zQhT5vB9nM2cX7z",
            "00112233445566778899aabbccddeeff0",
            "tooshort",
            &long,
        ] {
            let masked = |secrets: &[Secret]| {
                KnownSecrets::of(secrets, &key)
                    .unwrap()
                    .masked(text.as_bytes())
                    .map(|text| String::from_utf8(text).unwrap())
            };
            let expected = text.replace("hT5vB9nM2cX7zQ-and-more", "hT5v****re").replace("hT5vB9nM2cX7zQ", "h****");
            let expected = expected.replace("00112233445566778899aabbccddeeff", "0011****ff");
            for secrets in [&all[..], &kept, &[&all[..1], &kept[1..]].concat()] {
                assert!(masked(secrets).unwrap_or_else(|| text.into()) == expected, "{text}");
            }
        }
        assert!(KnownSecrets::of(&all[3..], &key).is_none());
    }

    #[test]
    fn too_much_work_masks_more() {
        let key = FingerprintKey::default();
        let secrets = [Secret::new(*b"hT5vB9nM2cX7zQ")];
        let known = KnownSecrets::of(&secrets, &key).unwrap();
        assert_eq!(known.masked(b"hT5vB9nM2cX7zZ"), None);
        known.comparisons.set(MOST_COMPARISONS);
        assert_eq!(known.masked(b"hT5vB9nM2cX7zZ/x").unwrap(), b"h****/x");
    }
}
