//! TLS to PostgreSQL, by rustls. A certificate is always verified, with its name: there is no weaker mode.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{DatabaseError, Fault};
use crate::location::Server;

/// The TLS connector for `server`; `None` where its URL has `sslmode=disable`.
pub(super) fn connector(server: &Server) -> Result<Option<MakeRustlsConnect>, Fault> {
    if !server.wants_tls() {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Fault::Database(DatabaseError::Tls(error.to_string())))?
        .with_root_certificates(roots(server)?)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// The authorities that are trusted: those of the URL's `sslrootcert`, or else those of the system.
fn roots(server: &Server) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    let Some(path) = server.root_certificate() else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let failed = |reason: String| {
        let path = path.to_path_buf();
        Fault::Database(DatabaseError::Certificates { path, reason })
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(failed("no certificate in the file".into()));
    }
    Ok(roots)
}
