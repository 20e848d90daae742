//! Key files of `attest`, `verify` and `generate-key`.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;

use super::pkcs11::{SCHEME, TokenKey};
use crate::cli::blocking::within;
use crate::cli::masked::argument;
use crate::cli::prompt;
use layersift_attest::keys::{PrivateKey, PublicKey, Signer, is_image_signing_name};
use layersift_format::read_small;

const PASSWORD: &str = "LAYERSIFT_KEY_PASSWORD";

/// Where the password of a private key is.
#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// File with the password of the private key, or the PIN of its token [default: LAYERSIFT_KEY_PASSWORD, or it is
    /// asked for at a terminal]
    ///
    /// An end of line at the end of the file is not part of the password.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// `what`, such as the password of a file.
    pub(crate) fn of(&self, what: &str) -> anyhow::Result<String> {
        let given = self.given()?.map_or_else(|| prompt::password(&format!("Enter the {what}")), |it| Ok(Some(it)))?;
        given.with_context(|| not_given(what))
    }

    /// `what`, the password that a new key gets. At a terminal it is asked for twice.
    pub(crate) fn of_new(&self, what: &str) -> anyhow::Result<String> {
        if let Some(given) = self.given()? {
            return Ok(given);
        }
        let typed = prompt::password(&format!("Enter a new {what}"))?.with_context(|| not_given(what))?;
        ensure!(!typed.is_empty(), "the password is empty");
        let again = prompt::password("Enter it again")?;
        ensure!(again.as_ref() == Some(&typed), "the two passwords are not the same");
        Ok(typed)
    }

    /// The password in the file or the environment.
    fn given(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.password_file else { return Ok(std::env::var(PASSWORD).ok()) };
        let text = text(path)?;
        Ok(Some(text.strip_suffix('\n').map_or(text.as_str(), |line| line.trim_end_matches('\r')).into()))
    }
}

fn not_given(what: &str) -> String {
    format!("the {what} is needed: pass --password-file, set {PASSWORD}, or run this at a terminal to be asked")
}

/// The key that signs: in a file, or in a token. A file that is named as keys that sign images are is refused.
pub(crate) fn signer(key: &str, password: &PasswordArgs) -> anyhow::Result<Box<dyn Signer>> {
    if key.starts_with(SCHEME) {
        return Ok(Box::new(TokenKey::open(key, || password.of("PIN of the token"))?));
    }
    Ok(Box::new(private_key(Path::new(key), password)?))
}

fn private_key(path: &Path, password: &PasswordArgs) -> anyhow::Result<PrivateKey> {
    refuse_image_keys(path)?;
    let text = text(path)?;
    let name = path.display().to_string();
    let password =
        PrivateKey::needs_password(&text).then(|| password.of(&format!("password of {name}"))).transpose()?;
    PrivateKey::from_pem(&text, password.as_deref().map(str::as_bytes)).context(name)
}

/// A key that verifies.
pub(crate) fn public_key(path: &Path) -> anyhow::Result<PublicKey> {
    PublicKey::from_pem(&text(path)?).with_context(|| path.display().to_string())
}

/// Refuses a file that is named as the keys that sign images are by default.
pub(crate) fn refuse_image_keys(path: &Path) -> anyhow::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    ensure!(
        !is_image_signing_name(&name),
        "{}: this is the name of a key that signs images; cosign takes attestations in bundles for such signatures, so \
         attest with a key of its own, as `layersift generate-key` makes it",
        path.display()
    );
    Ok(())
}

fn text(path: &Path) -> anyhow::Result<String> {
    // What is taken for a path may be a URI with a PIN that is written in another way.
    let name = || argument(&path.display().to_string());
    let owned = path.to_path_buf();
    let bytes = within(path, move || read_small(&owned)).and_then(|bytes| bytes);
    let bytes = bytes.with_context(|| format!("cannot read {}", name()))?;
    String::from_utf8(bytes).with_context(|| format!("cannot read {}: it is not UTF-8", name()))
}
