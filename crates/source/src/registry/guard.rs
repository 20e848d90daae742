//! Protection against request forgery (SSRF). A registry answers with URLs of its own choosing (redirects, token
//! servers); none of them may lead into the network that the scanner is in.
//!
//! Covered: numeric addresses, and names. A name is resolved here, before a connection is made, and the connection is
//! made to exactly the addresses that were checked, so that the name cannot resolve to another address in between (DNS
//! rebinding). Connections to private, loopback and link-local addresses are made only if the registry itself has an
//! address of the same kind, and those to cloud metadata services only if the user named the registry by that address.
//!
//! Not covered: how a proxy resolves a name. With a proxy in the environment, names that do not resolve here are left
//! to the proxy, which must have rules of its own. Ports are not restricted: a registry on a private address may send
//! us to any port of an address of that kind.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::refusal::{Network, Refusal};

/// How long the addresses of a name are cached.
const CACHED: Duration = Duration::from_secs(30);

/// How long it is cached that a name has no address. With a proxy this is common, and a look-up may take long.
const CACHED_MISSING: Duration = Duration::from_secs(1);
const CACHED_MISSING_WITH_PROXY: Duration = Duration::from_secs(600);

/// The variables that name a proxy.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Names whose addresses are cached.
const MAX_NAMES: usize = 1_000;

/// Metadata services of clouds, which hand out credentials of the machine: AWS and others, AWS over IPv6, Alibaba,
/// Azure, Oracle.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// The same, by name.
const METADATA_NAMES: [&str; 4] = ["metadata", "metadata.google.internal", "instance-data", "metadata.goog"];

/// The kind of network that `address` is in.
fn network_of(address: IpAddr) -> Network {
    match embedded_v4(address) {
        IpAddr::V4(address) => network_of_v4(address),
        IpAddr::V6(address) => network_of_v6(address),
    }
}

fn network_of_v4(address: Ipv4Addr) -> Network {
    let [a, b, c, _] = address.octets();
    match (a, b) {
        (0 | 127, _) => Network::Loopback,
        (169, 254) => Network::LinkLocal,
        (10, _) | (172, 16..=31) | (192, 168) | (100, 64..=127) | (198, 18 | 19) => Network::Private,
        (224..=255, _) => Network::Reserved,
        (192, 0) if c == 0 => Network::Private,
        _ => Network::Public,
    }
}

fn network_of_v6(address: Ipv6Addr) -> Network {
    if address.is_loopback() || address.is_unspecified() {
        return Network::Loopback;
    }
    let [first, ..] = address.segments();
    match first {
        0xfe80..=0xfebf => Network::LinkLocal,
        // Unique local, and the site-local addresses that came before them.
        0xfc00..=0xfdff | 0xfec0..=0xfeff => Network::Private,
        0xff00..=0xffff => Network::Reserved,
        _ => Network::Public,
    }
}

fn bit(network: Network) -> u8 {
    1 << network as u8
}

/// The IPv4 address inside an IPv6 address, where there is one: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded_v4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(six) = address.to_canonical() else { return address.to_canonical() };
    let [a, b, c, d, e, f, g, h] = six.segments();
    let join = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match [a, b, c, d, e, f] {
        [0x64, 0xff9b, 0, 0, 0, 0] => join(g, h),
        [0, 0, 0, 0, 0, 0] if g != 0 => join(g, h),
        [0x2002, ..] => join(b, c),
        _ => address,
    }
}

/// The addresses of a name.
struct Resolved {
    addresses: Vec<IpAddr>,
    at: Instant,
}

/// Decides which hosts are connected to, and resolves names for the HTTP client.
pub(super) struct Guard {
    registry: String,
    /// The kinds of network that the registry has addresses in, as bits.
    networks: AtomicU8,
    names: Mutex<HashMap<String, Resolved>>,
    has_proxy: bool,
    look_up: fn(&str) -> Vec<IpAddr>,
}

impl Guard {
    /// A guard for the registry that `base` leads to.
    pub(super) fn new(base: &Url) -> Guard {
        let registry = base.host_str().unwrap_or_default().to_ascii_lowercase();
        let networks = AtomicU8::new(address_of(base).map_or(0, |address| bit(network_of(address))));
        let has_proxy = PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        Guard { registry, networks, names: Mutex::default(), has_proxy, look_up }
    }

    /// Checks that `url` may be requested. May block while a name is resolved.
    ///
    /// # Errors
    /// The reason for which it may not.
    pub(super) fn admit(&self, url: &Url) -> Result<(), Refusal> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Scheme(url.scheme().into()));
        }
        let Some(host) = url.host_str().map(str::to_ascii_lowercase) else { return Err(Refusal::NoHost) };
        let is_registry = host == self.registry;
        if let Some(address) = address_of(url) {
            return if is_registry { Ok(()) } else { self.admit_address(address) };
        }
        let bare = host.trim_end_matches('.');
        if !is_registry && METADATA_NAMES.contains(&bare) {
            return Err(Refusal::MetadataName);
        }
        // Even if it does not resolve here, because it would at a proxy.
        if !is_registry && (bare == "localhost" || bare.ends_with(".localhost")) {
            self.admit_address(Ipv4Addr::LOCALHOST.into())?;
        }
        let addresses = self.addresses(&host);
        if is_registry {
            let networks = addresses.iter().fold(0, |networks, address| networks | bit(network_of(*address)));
            self.networks.fetch_or(networks, Ordering::Relaxed);
            return Ok(());
        }
        let refused = addresses.iter().find_map(|address| self.admit_address(*address).err());
        match refused {
            Some(reason) => {
                self.lock().remove(&host);
                Err(reason)
            }
            None => Ok(()),
        }
    }

    fn admit_address(&self, address: IpAddr) -> Result<(), Refusal> {
        if METADATA.contains(&embedded_v4(address)) || METADATA.contains(&address) {
            return Err(Refusal::MetadataAddress(address));
        }
        let network = network_of(address);
        let is_registrys = self.networks.load(Ordering::Relaxed) & bit(network) != 0;
        if network == Network::Public || (is_registrys && network != Network::Reserved) {
            return Ok(());
        }
        Err(Refusal::OtherNetwork { address, network })
    }

    /// The addresses of a name. If it has none, it is left to the proxy, if there is one.
    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        if let Some(known) = self.lock().get(name).filter(|known| self.is_fresh(known)) {
            return known.addresses.clone();
        }
        let addresses = (self.look_up)(name);
        let mut names = self.lock();
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        names.insert(name.into(), Resolved { addresses: addresses.clone(), at: Instant::now() });
        addresses
    }

    fn is_fresh(&self, known: &Resolved) -> bool {
        let fresh = match (known.addresses.is_empty(), self.has_proxy) {
            (false, _) => CACHED,
            (true, false) => CACHED_MISSING,
            (true, true) => CACHED_MISSING_WITH_PROXY,
        };
        known.at.elapsed() < fresh
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Resolved>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers with the addresses that were checked. A name that was not checked is the proxy's own: every other request
/// goes through [`Guard::admit`] first.
impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_ascii_lowercase();
        let checked = self.lock().get(&host).map(|known| known.addresses.clone());
        let addresses = checked.unwrap_or_else(|| (self.look_up)(&host));
        let answer = if addresses.is_empty() {
            Err(format!("the name {host} has no address").into())
        } else {
            let all: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(all)
        };
        Box::pin(std::future::ready(answer))
    }
}

fn look_up(name: &str) -> Vec<IpAddr> {
    match (name, 0).to_socket_addrs() {
        Ok(addresses) => addresses.map(|address| address.ip()).collect(),
        Err(_) => Vec::new(),
    }
}

/// The numeric address in a URL.
fn address_of(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(registry: &str, target: &str) -> bool {
        let guard = Guard::new(&registry.parse().unwrap());
        guard.admit(&registry.parse().unwrap()).unwrap();
        guard.admit(&target.parse().unwrap()).is_ok()
    }

    #[test]
    fn a_public_registry_leads_to_public_addresses_only() {
        let public = "https://203.0.114.7/";
        assert!(admits(public, "https://198.51.101.9/blob"));
        let wrong = [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[fd00::1]",
            "[ff02::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:a00:1::]",
            "[::7f00:1]",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "168.63.129.16",
            "[fd00:ec2::254]",
            "localhost",
            "localhost.",
            "metadata.google.internal",
            "METADATA.google.internal.",
        ];
        for host in wrong {
            assert!(!admits(public, &format!("https://{host}/blob")), "{host}");
        }
        assert!(!admits(public, "ftp://198.51.101.9/blob"));
    }

    #[test]
    fn a_private_registry_leads_to_its_own_kind() {
        assert!(admits("https://10.1.2.3/", "https://10.9.9.9/blob"));
        assert!(admits("https://127.0.0.1:5000/", "http://127.0.0.1:9000/blob"));
        assert!(admits("https://localhost:5000/", "https://localhost:9000/blob"));
        assert!(!admits("https://10.1.2.3/", "https://127.0.0.1/blob"));
        assert!(!admits("https://10.1.2.3/", "https://169.254.169.254/blob"));
        assert!(!admits("https://100.64.0.9/", "https://100.100.100.200/blob"));
        assert!(!admits("https://169.254.7.7/", "https://169.254.169.254/blob"));
    }

    /// Names as a hostile DNS server has them: `turns.example` is public the first time, and then a loopback address.
    fn hostile_dns(name: &str) -> Vec<IpAddr> {
        static ASKED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
        let first = || ASKED.fetch_add(1, Ordering::Relaxed) == 0;
        let texts: &[&str] = match name {
            "registry.example" => &["198.51.101.1"],
            "inside.example" => &["10.0.0.1"],
            "both.example" => &["198.51.101.2", "10.0.0.1"],
            "turns.example" if first() => &["198.51.101.2"],
            "turns.example" => &["127.0.0.1"],
            _ => &[],
        };
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn resolved(guard: &Guard, name: &str) -> Option<Vec<SocketAddr>> {
        let waker = std::task::Waker::noop();
        match guard.resolve(name.parse().unwrap()).as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            std::task::Poll::Ready(answer) => answer.ok().map(Iterator::collect),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn names_are_resolved_once_and_checked() {
        let base: Url = "https://registry.example/".parse().unwrap();
        let guard = Guard { look_up: hostile_dns, ..Guard::new(&base) };
        guard.admit(&base).unwrap();
        for name in ["inside.example", "both.example"] {
            assert!(guard.admit(&format!("https://{name}/").parse().unwrap()).is_err(), "{name}");
        }
        guard.admit(&"https://turns.example/".parse().unwrap()).unwrap();
        assert_eq!(resolved(&guard, "turns.example").unwrap(), ["198.51.101.2:0".parse().unwrap()]);
        assert_eq!(hostile_dns("turns.example"), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(resolved(&guard, "turns.example").unwrap(), ["198.51.101.2:0".parse().unwrap()]);
        guard.admit(&"https://nowhere.example/".parse().unwrap()).unwrap();
        assert!(resolved(&guard, "nowhere.example").is_none());
    }
}
