//! Reasons for which a URL that a registry names is not requested.

use std::fmt;
use std::net::IpAddr;

/// Why a URL is not requested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Neither HTTP nor HTTPS.
    #[error("unsupported scheme `{0}`")]
    Scheme(String),
    /// No host.
    #[error("the URL has no host")]
    NoHost,
    /// The name of a metadata service, which hands out credentials of the machine.
    #[error("the host is a cloud metadata service")]
    MetadataName,
    /// The address of one.
    #[error("{0} is the address of a cloud metadata service")]
    MetadataAddress(IpAddr),
    /// An address in a network that the registry itself is not in.
    #[error("{address} is {network} address and the registry has none of that kind")]
    OtherNetwork {
        /// The address.
        address: IpAddr,
        /// The kind of network that it is in.
        network: Network,
    },
    /// More redirects than are followed.
    #[error("more than {0} redirects")]
    TooManyRedirects(u32),
    /// A redirect without a `Location` header.
    #[error("redirect without a location")]
    NoLocation,
    /// A `Location` header that is not a URL.
    #[error("redirect to an invalid URL")]
    InvalidLocation,
    /// A redirect to a less secure scheme.
    #[error("redirect from HTTPS to plain HTTP")]
    InsecureRedirect,
    /// A user or password in a redirect, or in the URL of a token server.
    #[error("the URL has a user or password in it")]
    UserInUrl,
    /// A token server that would get credentials in the clear.
    #[error("credentials are sent to a token server only over HTTPS")]
    InsecureTokenServer,
    /// A URL on another host, where only the registry's own is used.
    #[error("the URL is on another host")]
    OtherHost,
    /// A link to the next page with another scheme, host or port than the registry; the text says which.
    #[error("the link to the next page has {0}; correct the external URL in the registry's configuration")]
    OtherOrigin(String),
}

/// The kind of network that an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Network {
    Public,
    Private,
    Loopback,
    LinkLocal,
    /// Multicast, documentation, and addresses for future use.
    Reserved,
}

impl fmt::Display for Network {
    /// With its article: "a private".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Network::Public => "a public",
            Network::Private => "a private",
            Network::Loopback => "a loopback",
            Network::LinkLocal => "a link-local",
            Network::Reserved => "a reserved",
        })
    }
}
