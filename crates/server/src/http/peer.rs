//! Who is at the other end of a connection.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use layersift_model::Digest;
use x509_cert::der::Decode;

/// The other end of a connection; an extension of each of its requests.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Its address; `None` on a Unix socket, which only the user of the service can open.
    pub(crate) address: Option<IpAddr>,
    /// Its certificate, which was verified.
    pub(crate) certificate: Option<Arc<ClientName>>,
}

/// Whom a certificate names.
#[derive(Debug)]
pub(crate) struct ClientName {
    /// The digest of the certificate.
    pub(crate) digest: Digest,
    /// Its subject.
    pub(crate) subject: String,
}

impl ClientName {
    pub(crate) fn of(certificate: &[u8]) -> ClientName {
        let subject = x509_cert::Certificate::from_der(certificate)
            .map(|certificate| certificate.tbs_certificate.subject.to_string())
            .unwrap_or_default();
        ClientName { digest: Digest::of(certificate), subject }
    }
}

impl fmt::Display for ClientName {
    /// The name that the client is counted and logged by.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {} {}", self.subject, self.digest.short())
    }
}

impl Peer {
    /// What requests are counted by that nobody was authenticated for: an address, of IPv6 the network.
    pub(crate) fn origin(&self) -> String {
        match self.address {
            Some(IpAddr::V4(address)) => address.to_string(),
            Some(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
                Some(address) => address.to_string(),
                None => {
                    let [a, b, c, d, ..] = address.segments();
                    format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
                }
            },
            None => "this machine".into(),
        }
    }
}
