//! TLS by rustls, always verified: CA certificates and client certificates.
//!
//! Trusted are the system's CA certificates, those in the options, and those in `certs.d/HOST[:PORT]/*.crt`, the
//! directories of Docker and Podman (containers-certs.d(5)), where `NAME.cert` and `NAME.key` are a client certificate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use layersift_format::read_small;
use reqwest::Url;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::error::{RegistryError, chain};
use super::options::{ClientCertificate, RegistryOptions};
use super::reference::Host;

/// The most files of a certificate directory.
const MAX_FILES: usize = 256;

/// Why an option, a certificate or a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// A file cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// A file is not in the PEM format.
    #[error("invalid PEM: {0}")]
    Pem(#[source] pem::Error),
    /// A file has no certificate in it.
    #[error("no PEM certificate in this file")]
    NoCertificate,
    /// A certificate or a key is not valid, or does not belong to the other.
    #[error("{}", chain(_0))]
    Tls(#[source] rustls::Error),
    /// The host makes no URL.
    #[error("invalid URL: {0}")]
    Url(#[source] <Url as std::str::FromStr>::Err),
    /// The HTTP client cannot be made.
    #[error("{}", chain(_0))]
    Client(#[source] reqwest::Error),
}

/// TLS settings that trust no certificate, for a client that only connects without TLS.
///
/// # Errors
/// If this build of rustls supports no version of TLS.
pub(crate) fn without_trust() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// The certificates for connections to one registry.
pub(super) struct Trust {
    roots: Vec<CertificateDer<'static>>,
    client_certificate: Option<ClientCertificate>,
    plain_http: bool,
}

impl Trust {
    /// The certificates for `host` in the options and the certificate directories.
    ///
    /// # Errors
    /// For a file that cannot be read, or has no certificate in it.
    pub(super) fn of(host: &Host, options: &RegistryOptions) -> Result<Trust, RegistryError> {
        let mut client_certificate = options.client_certificate.clone();
        let mut files = options.extra_roots.clone();
        for directory in &options.certificate_directories {
            let found = files_in(&directory.join(host.name()));
            files.extend(found.iter().filter(|path| has_extension(path, "crt")).cloned());
            let certificate = found.iter().find(|path| has_extension(path, "cert"));
            client_certificate = client_certificate.or_else(|| {
                let certificate = certificate?.clone();
                Some(ClientCertificate { key: certificate.with_extension("key"), certificate })
            });
        }
        let roots = files.iter().map(|path| certificates(path)).collect::<Result<Vec<_>, _>>()?;
        let roots = roots.into_iter().flatten().collect();
        Ok(Trust { roots, client_certificate, plain_http: options.plain_http })
    }

    pub(super) fn has_client_certificate(&self) -> bool {
        self.client_certificate.is_some()
    }

    /// The TLS settings for the registry itself, or, without the client certificate, for any other host.
    ///
    /// # Errors
    /// For a key that does not belong to the certificate, and for a system without CA certificates.
    pub(super) fn config(&self, with_client_certificate: bool) -> Result<ClientConfig, RegistryError> {
        let failed = |subject: &str, error| configuration(subject, ConfigurationError::Tls(error));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed("TLS", error))?;
        let builder = match Verifier::new_with_extra_roots(self.roots.iter().cloned(), provider) {
            Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
            // Nothing is trusted then, and plain HTTP needs no trust.
            Err(_) if self.plain_http => builder.with_root_certificates(RootCertStore::empty()),
            Err(error) => return Err(failed("CA certificates", error)),
        };
        with_client(builder, self.client_certificate.as_ref().filter(|_| with_client_certificate))
    }
}

/// TLS settings for Layersift's own service: trusts the certificates in the file `ca` and no others, or the system's if
/// there is no file.
///
/// # Errors
/// For a file that cannot be used, and for a system without CA certificates.
pub fn service_tls(
    ca: Option<&Path>,
    client_certificate: Option<&ClientCertificate>,
) -> Result<ClientConfig, RegistryError> {
    let failed = |subject: &str, error| configuration(subject, ConfigurationError::Tls(error));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("TLS", error))?;
    let builder = match ca {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(path)?);
            builder.with_root_certificates(roots)
        }
        None => {
            let verifier = Verifier::new(provider).map_err(|error| failed("CA certificates", error))?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    with_client(builder, client_certificate)
}

/// The settings with the client's certificate, if there is one.
fn with_client(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    client_certificate: Option<&ClientCertificate>,
) -> Result<ClientConfig, RegistryError> {
    let Some(files) = client_certificate else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(&files.certificate)?;
    let subject = files.key.display().to_string();
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| configuration(&subject, ConfigurationError::Pem(error)))?;
    let invalid = |error| configuration(&subject, ConfigurationError::Tls(error));
    builder.with_client_auth_cert(chain, key).map_err(invalid)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let failed = |error| configuration(&path.display().to_string(), error);
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| failed(ConfigurationError::Pem(error)))?;
    // Checked here, so that the error names the file and not the connection.
    let mut store = RootCertStore::empty();
    for certificate in &found {
        store.add(certificate.clone()).map_err(|error| failed(ConfigurationError::Tls(error)))?;
    }
    if found.is_empty() { Err(failed(ConfigurationError::NoCertificate)) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    read_small(path).map_err(|error| configuration(&path.display().to_string(), error.into()))
}

/// The files of a directory, sorted by name; none if there is no such directory.
fn files_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().take(MAX_FILES).map(|entry| entry.path()).collect();
    files.sort();
    files
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

fn configuration(subject: &str, error: ConfigurationError) -> RegistryError {
    RegistryError::Configuration { subject: subject.into(), error }
}
