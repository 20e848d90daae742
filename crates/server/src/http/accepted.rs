//! Texts that a client may show, such as in `Authorization`, one in a line of a file, so that one can be replaced by
//! another while both are accepted. The file is read again when it changes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use layersift_format::read_small_text;
use layersift_model::Digest;

/// Bytes of a text at least: a shorter one can be guessed.
const LEAST: usize = 16;

/// Texts, of which only hashes are kept.
pub(crate) struct AcceptedTexts {
    path: PathBuf,
    hashes: RwLock<Vec<String>>,
}

impl AcceptedTexts {
    /// Reads a file.
    ///
    /// # Errors
    /// With the reason, for a file that cannot be read, has no text, or one that can be guessed.
    pub(crate) fn open(path: &Path) -> Result<AcceptedTexts, String> {
        Ok(AcceptedTexts { path: path.into(), hashes: RwLock::new(read(path)?) })
    }

    /// Reads the file again; whether it has changed.
    ///
    /// # Errors
    /// As [`AcceptedTexts::open`]; what was accepted before is then still accepted.
    pub(crate) fn reload(&self) -> Result<bool, String> {
        let new = read(&self.path).map_err(|reason| format!("{}: {reason}", self.path.display()))?;
        let mut hashes = self.hashes.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = *hashes != new;
        *hashes = new;
        Ok(is_other)
    }

    /// Whether a text is among them. How long that takes says nothing about them: hashes are compared, each of them
    /// whole.
    pub(crate) fn accepts(&self, text: &[u8]) -> bool {
        let hash = hash(text);
        let hashes = self.hashes.read().unwrap_or_else(PoisonError::into_inner);
        hashes.iter().fold(false, |is_any, known| is_any | is_same(known, &hash))
    }
}

impl fmt::Debug for AcceptedTexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AcceptedTexts").field(&self.path).finish()
    }
}

fn read(path: &Path) -> Result<Vec<String>, String> {
    let text = read_small_text(path).map_err(|error| error.to_string())?;
    let lines = text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty());
    let hashes = lines.map(|(line, number)| match line.len() {
        0..LEAST => Err(format!("line {number} can be guessed: expected at least {LEAST} bytes")),
        _ => Ok(hash(line.as_bytes())),
    });
    let hashes: Vec<String> = hashes.collect::<Result<_, _>>()?;
    if hashes.is_empty() { Err("there is no text in it".into()) } else { Ok(hashes) }
}

fn hash(text: &[u8]) -> String {
    Digest::of(text).hex().to_string()
}

fn is_same(one: &str, other: &str) -> bool {
    let pairs = one.bytes().zip(other.bytes());
    one.len() == other.len() && pairs.fold(0, |sum, (one, other)| sum | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn any_line_is_accepted_and_nothing_else() {
        let file = file("Bearer made-up-text-of-before\r\n\n  a made-up text with blanks\n");
        let texts = AcceptedTexts::open(file.path()).unwrap();
        for text in ["Bearer made-up-text-of-before", "a made-up text with blanks"] {
            assert!(texts.accepts(text.as_bytes()), "{text}");
        }
        for text in ["", "Bearer made-up-text-of-befor", "made-up-text-of-before", "bearer made-up-text-of-before"] {
            assert!(!texts.accepts(text.as_bytes()), "{text}");
        }
        std::fs::write(file.path(), "a made-up text with blanks\n").unwrap();
        assert_eq!((texts.reload(), texts.reload()), (Ok(true), Ok(false)));
        assert!(!texts.accepts(b"Bearer made-up-text-of-before"));
        std::fs::write(file.path(), "").unwrap();
        assert!(texts.reload().is_err() && texts.accepts(b"a made-up text with blanks"), "what was before stays");
    }

    #[test]
    fn a_file_has_secrets_that_cannot_be_guessed_easily() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        for wrong in ["", "\n \n", "short\n", "a-long-secret-of-this-file\nshort\n"] {
            write(wrong);
            assert!(AcceptedTexts::open(file.path()).is_err(), "{wrong:?}");
        }
        write("a-long-secret-of-this-file\n\n  another-secret-of-this-file \n");
        let secrets = AcceptedTexts::open(file.path()).unwrap();
        assert!(secrets.accepts(b"a-long-secret-of-this-file") && secrets.accepts(b"another-secret-of-this-file"));
        assert!(!secrets.accepts(b"") && !secrets.accepts(b"a-long-secret-of-this-fil"));
        write("a-new-secret-of-this-file");
        secrets.reload().unwrap();
        assert!(secrets.accepts(b"a-new-secret-of-this-file") && !secrets.accepts(b"another-secret-of-this-file"));
        write("");
        secrets.reload().unwrap_err();
        assert!(secrets.accepts(b"a-new-secret-of-this-file"), "a file that is being replaced changes nothing");
    }

    #[test]
    fn what_can_be_guessed_is_refused() {
        for text in ["", "\n \n", "Bearer x\n", "a made-up text with blanks\nshort\n"] {
            assert!(AcceptedTexts::open(file(text).path()).is_err(), "{text:?}");
        }
        assert!(AcceptedTexts::open(Path::new("/there-is-none")).is_err());
    }
}
