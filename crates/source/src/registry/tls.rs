//! Who is trusted, and who we are: TLS by rustls, always verified.
//!
//! Trusted are the system's authorities, those of the caller, and those of `certs.d/HOST[:PORT]/*.crt`, the directories
//! of Docker and Podman (containers-certs.d(5)), where a `.cert` and a `.key` of one name are a client's certificate.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::error::{RegistryError, chain};
use super::options::{ClientCertificate, RegistryOptions};
use super::reference::Host;

/// Bytes of a file of certificates.
const MOST_BYTES: u64 = 4 << 20;

/// Files in a directory of certificates.
const MOST_FILES: usize = 256;

/// The client's side of TLS with nobody: for peers that are reached without it.
///
/// # Errors
/// When this build has no TLS at all.
pub(crate) fn with_nobody() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// What a registry is connected to with.
pub(super) struct Trust {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<ClientCertificate>,
    plain_http: bool,
}

impl Trust {
    /// What the options and the directories of certificates say about `host`.
    ///
    /// # Errors
    /// For a file that cannot be read, or is no certificate.
    pub(super) fn of(host: &Host, options: &RegistryOptions) -> Result<Trust, RegistryError> {
        let mut identity = options.client_certificate.clone();
        let mut files = options.extra_roots.clone();
        for directory in &options.certificate_directories {
            let found = files_in(&directory.join(host.name()));
            files.extend(found.iter().filter(|path| has_extension(path, "crt")).cloned());
            let certificate = found.iter().find(|path| has_extension(path, "cert"));
            identity = identity.or_else(|| {
                let certificate = certificate?.clone();
                Some(ClientCertificate { key: certificate.with_extension("key"), certificate })
            });
        }
        let roots = files.iter().map(|path| certificates(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Trust { roots: roots.into_iter().flatten().collect(), identity, plain_http: options.plain_http })
    }

    /// Whether there is a certificate of ours to show.
    pub(super) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// The configuration for the registry itself, or, without `identity`, for any other host.
    ///
    /// # Errors
    /// For a key that does not fit, and for a system without authorities.
    pub(super) fn config(&self, identity: bool) -> Result<ClientConfig, RegistryError> {
        let failed = |what: &str, error: &rustls::Error| configuration(what.into(), chain(error));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed("TLS", &error))?;
        let builder = match Verifier::new_with_extra_roots(self.roots.iter().cloned(), provider) {
            Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
            // Nobody is trusted then, and a registry on plain HTTP needs nobody to be.
            Err(_) if self.plain_http => builder.with_root_certificates(RootCertStore::empty()),
            Err(error) => return Err(failed("the trusted authorities", &error)),
        };
        match self.identity.as_ref().filter(|_| identity) {
            None => Ok(builder.with_no_client_auth()),
            Some(identity) => {
                let chain = certificates(&identity.certificate)?;
                let key = PrivateKeyDer::from_pem_slice(&read(&identity.key)?)
                    .map_err(|error| configuration(shown(&identity.key), error.to_string()))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| failed(&shown(&identity.key), &error))
            }
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let failed = |reason: String| configuration(shown(path), reason);
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| failed(error.to_string()))?;
    // One that is no certificate would otherwise be said of the connection, and not of the file.
    let mut store = RootCertStore::empty();
    for certificate in &found {
        store.add(certificate.clone()).map_err(|error| failed(error.to_string()))?;
    }
    if found.is_empty() { Err(failed("there is no PEM certificate in it".into())) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    let failed = |error: std::io::Error| configuration(shown(path), error.to_string());
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MOST_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The files of a directory, by name; none where there is no such directory.
fn files_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().take(MOST_FILES).map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

fn configuration(what: String, reason: String) -> RegistryError {
    RegistryError::Configuration { what, reason }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
