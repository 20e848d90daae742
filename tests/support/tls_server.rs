//! A server that speaks TLS and makes its answers up, because Debian's `docker-registry` does not redirect.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};

use super::registry::Keys;
use super::server::Answer;

/// Starts a server at a loopback address, and gives its host and port. Its certificate is for `127.0.0.1`. It asks for
/// a client's certificate and does not insist; `answer` is told whether one came.
pub fn start(keys: &Keys, address: &str, answer: impl Fn(bool) -> Answer + Send + 'static) -> String {
    let certificate = || CertificateDer::from_pem_file(keys.path("server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(keys.path("server.key")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(keys.path("ca.crt")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
    let clients = clients.allow_unauthenticated().build().unwrap();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_client_cert_verifier(clients);
    let config = Arc::new(builder.with_single_cert(vec![certificate()], key).unwrap());
    let listener = TcpListener::bind((address, 0)).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { continue };
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = Stream::new(&mut connection, &mut socket);
            let lines = BufReader::new(&mut stream).lines();
            // Whoever does not trust the certificate is gone here.
            if lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).count() > 0 {
                let mut bytes = Vec::new();
                answer(stream.conn.peer_certificates().is_some()).write_to(&mut bytes);
                let _ = stream.write_all(&bytes);
                connection.send_close_notify();
                let _ = connection.complete_io(&mut socket);
            }
        }
    });
    host
}
