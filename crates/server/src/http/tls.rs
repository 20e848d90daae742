//! Certificates: read at the start, and again when their files change. A file that cannot be used any more leaves the
//! certificate that was read before in place.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use layersift_format::read_small;
use layersift_model::Digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_cert::der::Decode;

/// How long the first to make a certificate is waited for.
const MAKING: Duration = Duration::from_secs(10);

/// Which certificates clients have.
#[derive(Clone, Debug)]
pub(crate) enum ClientCertificates {
    /// They are not asked for one.
    None,
    /// They may have one of these authorities.
    Optional(PathBuf),
    /// They must have one of these authorities.
    Required(PathBuf),
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file that has no certificate or key in PEM.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file without a certificate.
    #[error("{}: there is no certificate in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The key does not belong to the certificate, or an authority is not a certificate.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The TLS of one address.
#[derive(Debug)]
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    clients: ClientCertificates,
    current: RwLock<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// Of the files.
    digest: Digest,
    /// Seconds since 1970.
    expires: i64,
}

impl Tls {
    pub(crate) fn open(certificate: &Path, key: &Path, clients: ClientCertificates) -> Result<Tls, TlsError> {
        let current = read(certificate, key, &clients, None)?;
        let unchanged = || TlsError::Empty { path: certificate.into() };
        let current = RwLock::new(current.ok_or_else(unchanged)?);
        Ok(Tls { certificate: certificate.into(), key: key.into(), clients, current })
    }

    /// What new connections are served with.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config)
    }

    /// When the certificate expires, in seconds since 1970.
    pub(crate) fn expires(&self) -> i64 {
        self.current.read().unwrap_or_else(PoisonError::into_inner).expires
    }

    /// Reads the files again. Returns whether they have changed.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let known = self.current.read().unwrap_or_else(PoisonError::into_inner).digest.clone();
        let Some(new) = read(&self.certificate, &self.key, &self.clients, Some(&known))? else { return Ok(false) };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(true)
    }
}

/// Reads the files, unless they are those with the digest `known`.
fn read(
    certificate: &Path,
    key: &Path,
    clients: &ClientCertificates,
    known: Option<&Digest>,
) -> Result<Option<Current>, TlsError> {
    let ca = match clients {
        ClientCertificates::None => None,
        ClientCertificates::Optional(path) | ClientCertificates::Required(path) => Some((path, bytes(path)?)),
    };
    let (certificate_pem, key_pem) = (bytes(certificate)?, bytes(key)?);
    let ca_pem = ca.as_ref().map_or(&[][..], |(_, pem)| &pem[..]);
    let digest = Digest::of(&[&certificate_pem[..], b"\0", &key_pem, b"\0", ca_pem].concat());
    if known == Some(&digest) {
        return Ok(None);
    }
    let chain = certificates(certificate, &certificate_pem)?;
    let parsed_key =
        PrivateKeyDer::from_pem_slice(&key_pem).map_err(|source| TlsError::Pem { path: key.into(), source })?;
    let unusable = |path: &Path| {
        let path = path.to_path_buf();
        move |error: &dyn std::fmt::Display| TlsError::Unusable { path: path.clone(), reason: error.to_string() }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(certificate)(&error))?;
    let builder = match ca {
        None => builder.with_no_client_auth(),
        Some((path, pem)) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path, &pem)? {
                roots.add(root).map_err(|error| unusable(path)(&error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match clients {
                ClientCertificates::Required(_) => verifier,
                ClientCertificates::None | ClientCertificates::Optional(_) => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| unusable(path)(&error))?)
        }
    };
    let expires = chain.iter().map(|certificate| expiry(certificate)).min().unwrap_or(0);
    let mut config = builder.with_single_cert(chain, parsed_key).map_err(|error| unusable(certificate)(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(Current { config: Arc::new(config), digest, expires }))
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    read_small(path).map_err(|source| TlsError::File { path: path.into(), source })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|source| TlsError::Pem { path: path.into(), source })?;
    if found.is_empty() { Err(TlsError::Empty { path: path.into() }) } else { Ok(found) }
}

/// When a certificate expires, in seconds since 1970; 0 where that cannot be read.
fn expiry(certificate: &CertificateDer<'_>) -> i64 {
    let parsed = x509_cert::Certificate::from_der(certificate);
    let expires = parsed.map(|parsed| parsed.tbs_certificate.validity.not_after.to_unix_duration().as_secs());
    i64::try_from(expires.unwrap_or(0)).unwrap_or(i64::MAX)
}

/// Makes a certificate for `names`, unless the files exist. Of several processes that do so in one directory, one makes
/// it and the others wait for it.
pub(crate) fn make_self_signed(certificate: &Path, key: &Path, names: &[String]) -> Result<(), TlsError> {
    use std::io::Write;
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| TlsError::File { path: path.clone(), source }
    };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut key_file = match options.open(key) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return wait_for(certificate),
        Err(error) => return Err(failed(key)(error)),
    };
    let unusable = |error: rcgen::Error| TlsError::Unusable { path: certificate.into(), reason: error.to_string() };
    let pair = rcgen::KeyPair::generate().map_err(unusable)?;
    let mut parameters = rcgen::CertificateParams::new(names.to_vec()).map_err(unusable)?;
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "layersift");
    // Whoever trusts it has to be told of a new one, so it lives as long as an installation.
    parameters.not_after = rcgen::date_time_ymd(2049, 12, 31);
    let made = parameters.self_signed(&pair).map_err(unusable)?;
    key_file.write_all(pair.serialize_pem().as_bytes()).map_err(failed(key))?;
    // Whole at once, as others wait for it.
    let part = certificate.with_extension("part");
    std::fs::write(&part, made.pem()).map_err(failed(&part))?;
    std::fs::rename(&part, certificate).map_err(failed(certificate))
}

fn wait_for(certificate: &Path) -> Result<(), TlsError> {
    let until = std::time::Instant::now() + MAKING;
    while !certificate.exists() {
        if std::time::Instant::now() >= until {
            let source = io::Error::new(io::ErrorKind::NotFound, "its key exists and it does not; remove the key");
            return Err(TlsError::File { path: certificate.into(), source });
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_read_again_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
        let make = || make_self_signed(&certificate, &key, &["localhost".into()]).unwrap();
        make();
        let first = std::fs::read(&certificate).unwrap();
        make();
        assert_eq!(std::fs::read(&certificate).unwrap(), first);
        let tls = Tls::open(&certificate, &key, ClientCertificates::None).unwrap();
        assert!(tls.expires() > 2_000_000_000 && !tls.reload().unwrap());
        let config = tls.config();
        std::fs::write(&certificate, "broken").unwrap();
        assert!(tls.reload().is_err());
        assert!(Arc::ptr_eq(&config, &tls.config()), "the one before stays");
        std::fs::remove_file(&certificate).unwrap();
        std::fs::remove_file(&key).unwrap();
        make();
        assert!(tls.reload().unwrap() && !Arc::ptr_eq(&config, &tls.config()));
    }

    #[test]
    fn processes_that_start_at_once_share_a_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    make_self_signed(&certificate, &key, &["localhost".into()]).unwrap();
                    Tls::open(&certificate, &key, ClientCertificates::None).unwrap();
                });
            }
        });
    }
}
