//! Signed statements in both forms, and where their time stamps come from.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::AttestArgs;
use crate::cli::{input_file, stamp};
use layersift_attest::keys::Signer;
use layersift_attest::timestamp::{Authorities, Request, TimestampError};
use layersift_attest::{Bundle, Descriptor, Envelope, Layer, Statement};
use layersift_format::Cancellation;

/// What is attached to an image.
pub(super) struct Signed<'i> {
    pub(super) subject: &'i Descriptor,
    pub(super) of: Vec<Attested>,
}

/// A signed statement in both forms.
pub(super) struct Attested {
    pub(super) predicate_type: String,
    pub(super) bundle: Bundle,
    pub(super) layer: Layer,
}

impl Attested {
    /// Signs a statement.
    pub(super) fn sign(statement: &Statement, key: &dyn Signer) -> anyhow::Result<Attested> {
        let bundle = Bundle::new(Envelope::sign(statement, key)?, key.public_key());
        Ok(Attested::of(statement, bundle))
    }

    /// The statement that was signed in `bundle`.
    pub(super) fn of(statement: &Statement, bundle: Bundle) -> Attested {
        let layer = Layer { envelope: bundle.envelope.clone(), timestamp: None };
        Attested { predicate_type: statement.predicate_type().to_owned(), bundle, layer }
    }

    /// Adds the time stamps: in a bundle over the signature, in a layer over the envelope.
    pub(super) fn stamp(&mut self, stamping: &Stamping<'_>) -> anyhow::Result<()> {
        for signature in self.bundle.envelope.signatures() {
            self.bundle.timestamps.extend(stamping.stamp(signature, "a signature")?);
        }
        if stamping.is_attached {
            self.layer.timestamp = stamping.stamp(self.layer.envelope.to_json()?.as_bytes(), "an envelope")?;
        }
        Ok(())
    }
}

/// Writes a request for each time stamp to the new directory `directory`: an authority answers it with one.
pub(super) fn write_requests<'a>(directory: &Path, attested: impl Iterator<Item = &'a Attested>) -> anyhow::Result<()> {
    fs::create_dir(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let write = |number: usize, of: &str, message: &[u8]| {
        let path = directory.join(format!("{number:04}-{of}.tsq"));
        fs::write(&path, Request::new(message)?.to_der()?).with_context(|| format!("cannot write {}", path.display()))
    };
    for (number, attested) in (1..).zip(attested) {
        for signature in attested.bundle.envelope.signatures() {
            write(number, "signature", signature)?;
        }
        write(number, "envelope", attested.layer.envelope.to_json()?.as_bytes())?;
    }
    Ok(())
}

/// Where time stamps come from, and who has to have made them.
pub(super) struct Stamping<'a> {
    origin: Origin<'a>,
    authorities: Authorities,
    /// Whether the form that is only attached is stamped, too.
    is_attached: bool,
    /// Ends waits for an authority.
    cancellation: Cancellation,
}

enum Origin<'a> {
    /// An authority, which is asked.
    Url(&'a str),
    /// Answers of authorities that were asked before, and whether they were used.
    Files(Vec<(PathBuf, Vec<u8>, Cell<bool>)>),
}

impl Stamping<'_> {
    /// What the flags say. An authority is waited for until `cancellation` at the longest.
    pub(super) fn new(args: &AttestArgs, cancellation: Cancellation) -> anyhow::Result<Option<Stamping<'_>>> {
        let origin = match &args.timestamp {
            Some(url) => Origin::Url(url),
            None if args.timestamp_token.is_empty() => return Ok(None),
            None => Origin::Files(args.timestamp_token.iter().map(|path| read(path)).collect::<Result<_, _>>()?),
        };
        let path = args.timestamp_authorities.as_deref().context("--timestamp-authorities is needed")?;
        let (authorities, is_attached) = (stamp::authorities(path)?, args.output.is_none());
        Ok(Some(Stamping { origin, authorities, is_attached, cancellation }))
    }

    /// The time stamp of `message`, which is `what`. It is checked.
    fn stamp(&self, message: &[u8], what: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let files = match &self.origin {
            Origin::Url(url) => return stamp::ask(url, &self.authorities, message, &self.cancellation).map(Some),
            Origin::Files(files) => files,
        };
        for (path, token, is_used) in files {
            match self.authorities.verify(token, message) {
                Ok(_) => {
                    is_used.set(true);
                    return Ok(Some(token.clone()));
                }
                Err(TimestampError::Imprint) => {}
                Err(error) => return Err(error).with_context(|| path.display().to_string()),
            }
        }
        bail!("no time stamp is over {what}; each signature and each envelope needs one")
    }

    /// Refuses time stamps that are over something else.
    pub(super) fn check_all_used(&self) -> anyhow::Result<()> {
        let Origin::Files(files) = &self.origin else { return Ok(()) };
        let unused = files.iter().find(|(_, _, is_used)| !is_used.get());
        let unused = unused.filter(|_| self.is_attached);
        ensure!(
            unused.is_none(),
            "{}: the time stamp is over none of the attestations",
            unused.map(|(path, ..)| path.display().to_string()).unwrap_or_default()
        );
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<(PathBuf, Vec<u8>, Cell<bool>)> {
    let token = input_file::read(path)?;
    Ok((path.into(), token, Cell::new(false)))
}
