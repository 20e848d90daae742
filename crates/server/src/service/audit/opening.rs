//! The log and its copies, as the settings have them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use layersift_audit::{
    AuditError, AuditLog, KeyFrom, NoteError, Opened, Options, Recovery, S3Options, S3Sink, SigningKey, SinkError,
    VerifierKey,
};
use layersift_format::read_small;
use layersift_scan::Analyzer;
use layersift_store::{Seconds, Store};
use tokio::sync::mpsc;

use super::copies::{Copies, Copy, StoreSink};
use super::{Audit, Keeper, WAITING};
use crate::http::metrics::audit::AuditMetrics;
use crate::settings;

/// The longest key that is read.
const MOST_KEY: usize = 4_096;

/// Why there is no log although there has to be one.
#[derive(Debug, thiserror::Error)]
pub enum AuditSetupError {
    /// The log itself.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// The bucket for copies.
    #[error("copies of the audit log cannot be made in a bucket")]
    Bucket(#[source] SinkError),
    /// The file of the key.
    #[error("cannot read the key {} of the audit log", path.display())]
    ReadKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What is in the file of the key.
    #[error("the key {} of the audit log is of no use", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: NoteError,
    },
    /// The directory is something else.
    #[error("{} is not a directory for the audit log", path.display())]
    NotADirectory {
        /// Its path.
        path: PathBuf,
    },
}

/// What opening the log needs.
pub(crate) struct Opening<'a> {
    pub(crate) settings: &'a settings::Audit,
    pub(crate) store: &'a Arc<Store>,
    pub(crate) metrics: &'a AuditMetrics,
    pub(crate) analyzer: &'a Arc<Analyzer>,
    pub(crate) clock: fn() -> Seconds,
    /// Variables of the environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Opening<'_> {
    /// The log, with what keeps it; without a directory in the settings, none. All of it is read and compared with its
    /// checkpoints.
    pub(crate) fn open(&self) -> Result<(Audit, Option<Keeper>), AuditSetupError> {
        let Some(directory) = &self.settings.directory else {
            tracing::info!("decisions are not logged: `audit.directory` is not set");
            return Ok((Audit { batches: None }, None));
        };
        // First, so that settings that are wrong begin no log.
        check(self.settings, self.variable)?;
        let origin = origin(self.settings, directory, self.variable)?;
        let options = Options {
            key: self.settings.key.clone().map_or(KeyFrom::Directory, KeyFrom::File),
            checkpoint_every: self.settings.checkpoint_every(),
            ..Options::new(origin)
        };
        let Opened { log, recovery } = AuditLog::open(directory, &options)?;
        tell(directory, log.verifier(), &recovery);
        let copies = self.copies(log.verifier())?;
        let (sender, batches) = mpsc::channel(WAITING);
        let audit = Audit { batches: Some(sender.clone()) };
        let (metrics, analyzer) = (self.metrics.clone(), Arc::clone(self.analyzer));
        Ok((audit, Some(Keeper { log: Arc::new(log), sender, batches, metrics, copies, analyzer })))
    }

    fn copies(&self, key: &VerifierKey) -> Result<Copies, AuditSetupError> {
        let settings = self.settings;
        let instance = instance(key);
        let mut copies = Vec::new();
        if settings.ship_to_store {
            let sink = StoreSink { store: Arc::clone(self.store), instance: instance.clone(), clock: self.clock };
            copies.push(Copy { to: "store", sink: Box::new(sink) });
        }
        if let Some(sink) = bucket(settings, &instance, self.variable)? {
            copies.push(Copy { to: "s3", sink: Box::new(sink) });
        }
        Ok(Copies {
            copies,
            every: settings.ship_every(),
            retention: settings.retention(),
            keep_unshipped: settings.keep_unshipped,
            metrics: self.metrics.clone(),
        })
    }
}

/// Checks what opening would, without a log and without a connection. It writes nothing.
pub(crate) fn check(
    settings: &settings::Audit,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(), AuditSetupError> {
    let Some(directory) = &settings.directory else { return Ok(()) };
    if directory.exists() && !directory.is_dir() {
        return Err(AuditSetupError::NotADirectory { path: directory.clone() });
    }
    let origin = origin(settings, directory, variable)?;
    if let Some(path) = &settings.key {
        let found = key(path)?.verifier().name().to_string();
        if found != origin {
            return Err(AuditError::Origin { found, origin }.into());
        }
    }
    // The name has to be one that a key can have.
    let named = SigningKey::generate(&origin);
    named.map_err(|source| AuditError::Key { subject: origin.clone(), source })?;
    bucket(settings, "", variable).map(drop)
}

/// The log is called as the settings say, as its key does, or as it was called when it was begun: a host that was given
/// another name goes on with its log.
fn origin(
    settings: &settings::Audit,
    directory: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, AuditSetupError> {
    if let Some(origin) = &settings.origin {
        return Ok(origin.clone());
    }
    if let Some(path) = &settings.key {
        return Ok(key(path)?.verifier().name().to_string());
    }
    if let Some(key) = AuditLog::verifier_in(directory)? {
        return Ok(key.name().to_string());
    }
    let host = variable("HOSTNAME").filter(|name| !name.is_empty());
    let host = host.or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    Ok(format!("layersift/{}", host.as_deref().map_or("serve", str::trim)))
}

fn key(path: &Path) -> Result<SigningKey, AuditSetupError> {
    let bytes = read_small(path).map_err(|source| AuditSetupError::ReadKey { path: path.into(), source })?;
    let text = String::from_utf8_lossy(bytes.get(..MOST_KEY.min(bytes.len())).unwrap_or_default());
    SigningKey::parse(&text).map_err(|source| AuditSetupError::Key { path: path.into(), source })
}

/// What tells copies of logs apart: the name alone is not enough, as a log may be begun anew.
fn instance(key: &VerifierKey) -> String {
    let text = key.to_string();
    let mut parts = text.splitn(3, '+');
    format!("{}+{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// The bucket in the settings, as whom the environment says.
fn bucket(
    settings: &settings::Audit,
    instance: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<S3Sink>, AuditSetupError> {
    let Some(bucket) = &settings.s3_bucket else { return Ok(None) };
    let of_settings = |name: &str| match name {
        "AWS_ENDPOINT_URL_S3" => settings.s3_endpoint.clone().or_else(|| variable(name)),
        "AWS_REGION" => settings.s3_region.clone().or_else(|| variable(name)),
        _ => variable(name),
    };
    let options = S3Options::from_variables(bucket, &of_settings).map_err(AuditSetupError::Bucket)?;
    let prefix = match settings.s3_prefix.trim_end_matches('/') {
        "" => format!("{instance}/"),
        prefix => format!("{prefix}/{instance}/"),
    };
    let options = S3Options { prefix, retain: settings.s3_retain(), ..options };
    S3Sink::new(options).map(Some).map_err(AuditSetupError::Bucket)
}

fn tell(directory: &Path, key: &VerifierKey, recovery: &Recovery) {
    let Recovery { is_new, entries, torn_bytes, hashed, torn_checkpoint, .. } = recovery;
    let directory = directory.display();
    tracing::info!(%directory, key = %key, is_new, entries, "decisions are logged");
    if *torn_bytes > 0 || *hashed > 0 || *torn_checkpoint {
        tracing::warn!(torn_bytes, hashed, torn_checkpoint, "the audit log was repaired after a crash");
    }
}
