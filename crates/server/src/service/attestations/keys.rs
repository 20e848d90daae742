//! The keys whose attestations count: those in all files that the settings name. They are read again when they change,
//! so that one can follow another, and one that is not trusted any more can be taken out.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use layersift_attest::keys::PublicKey;
use layersift_format::read_small_text;

/// Keys.
pub(super) struct TrustedKeys {
    files: Vec<PathBuf>,
    /// With a number that changes with them: what was verified with other keys does not count.
    current: RwLock<(u64, Vec<PublicKey>)>,
}

impl TrustedKeys {
    /// Reads the keys in `files`.
    ///
    /// # Errors
    /// With the file and the reason.
    pub(super) fn open(files: &[PathBuf]) -> Result<TrustedKeys, (PathBuf, String)> {
        Ok(TrustedKeys { files: files.to_vec(), current: RwLock::new((0, read_all(files)?)) })
    }

    /// Reads them again; whether they have changed.
    ///
    /// # Errors
    /// As [`TrustedKeys::open`]; the keys of before are then still trusted.
    pub(super) fn reload(&self) -> Result<bool, (PathBuf, String)> {
        let new = read_all(&self.files)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = current.1 != new;
        if is_other {
            *current = (current.0 + 1, new);
        }
        Ok(is_other)
    }

    /// The keys, with their number.
    pub(super) fn current(&self) -> (u64, Vec<PublicKey>) {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read_all(files: &[PathBuf]) -> Result<Vec<PublicKey>, (PathBuf, String)> {
    let mut keys = Vec::new();
    for file in files {
        keys.extend(read(file).map_err(|reason| (file.clone(), reason))?);
    }
    Ok(keys)
}

fn read(path: &Path) -> Result<Vec<PublicKey>, String> {
    let text = read_small_text(path).map_err(|error| error.to_string())?;
    PublicKey::all_from_pem(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use layersift_attest::keys::{PrivateKey, Signer};

    #[test]
    fn keys_follow_one_another_in_a_file() {
        let pem = |key: &PrivateKey| key.public_key().to_pem();
        let (old, new) = (PrivateKey::generate_p256().unwrap(), PrivateKey::generate_ed25519().unwrap());
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        write(&pem(&old));
        let keys = TrustedKeys::open(&[file.path().into()]).unwrap();
        write(&(pem(&old) + &pem(&new)));
        assert_eq!((keys.reload(), keys.reload()), (Ok(true), Ok(false)));
        assert_eq!(keys.current(), (1, vec![old.public_key().clone(), new.public_key().clone()]));
        for damaged in ["", "not a key", &pem(&new)[..90]] {
            write(damaged);
            keys.reload().unwrap_err();
            assert_eq!(keys.current().0, 1, "a file that is being replaced changes nothing");
        }
        write(&pem(&new));
        assert_eq!(keys.reload(), Ok(true));
        assert_eq!(keys.current().1, [new.public_key().clone()]);
    }
}
