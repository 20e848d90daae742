//! `layersift generate-key`.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::attest::keys::{PasswordArgs, refuse_image_keys};
use super::output;
use layersift_attest::keys::{PrivateKey, Signer};

const FOR_ATTESTATIONS_ONLY: &str = "use this key for attestations only: `cosign verify --key` takes an image that has \
     an attestation by it for a signed image, so no policy may trust it for signatures of images";

#[derive(Debug, Args)]
pub(crate) struct GenerateKeyArgs {
    /// Name of the files without .key and .pub; they must not exist
    name: PathBuf,

    /// Make an Ed25519 key [default: ECDSA on P-256, which everything reads]
    #[arg(long)]
    ed25519: bool,

    #[command(flatten)]
    password: PasswordArgs,
}

pub(crate) fn run(args: &GenerateKeyArgs) -> anyhow::Result<ExitCode> {
    let file = |ending: &str| PathBuf::from(format!("{}.{ending}", args.name.display()));
    let (private, public) = (file("key"), file("pub"));
    refuse_image_keys(&private)?;
    let password = args.password.of_new(&format!("password of {}", private.display()))?;
    let key = if args.ed25519 { PrivateKey::generate_ed25519()? } else { PrivateKey::generate_p256()? };
    let encrypted = key.to_encrypted_pem(password.as_bytes())?;
    // The private key comes last: without the public one, nothing of it is left.
    write_new(&public, 0o644, &key.public_key().to_pem())?;
    if let Err(error) = write_new(&private, 0o600, &encrypted) {
        let _ = fs::remove_file(&public);
        return Err(error);
    }
    let line = format!("{}: {}\n", public.display(), key.public_key().fingerprint());
    output::write(line.as_bytes(), None)?;
    output::warn([FOR_ATTESTATIONS_ONLY]);
    Ok(ExitCode::SUCCESS)
}

fn write_new(path: &Path, mode: u32, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        // A part of a key is of no use.
        let _ = fs::remove_file(path);
    }
    written.with_context(failed)
}
