//! Where this program lets itself be sent. A registry answers with addresses of its own choosing (redirects, token
//! services); none of them may lead into the network that the scanner stands in.
//!
//! Covered: addresses in numbers, and names, which are resolved here, before a connection is made, and connected to at
//! exactly the addresses that were checked, so that a name cannot change its mind in between. Private, loopback and
//! link-local addresses are gone to only where the registry itself has one of the same kind, and those of the cloud
//! metadata services only where the registry is named by that very address.
//!
//! Not covered: what a proxy makes of a name. With a proxy in the environment, names that do not resolve here are left
//! to it, and it must have rules of its own. Ports are not restricted: a registry on a private address may send us to
//! any port of that kind of address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How long a name's addresses are good for.
const FRESH: Duration = Duration::from_secs(30);

/// How long it is believed that a name has none. Behind a proxy that is nothing new, and asking may take long.
const FRESH_NONE: Duration = Duration::from_secs(1);
const FRESH_NONE_BEHIND_PROXY: Duration = Duration::from_secs(600);

/// The variables that name a proxy.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// Names whose addresses are kept.
const MOST_NAMES: usize = 1_000;

/// Where clouds keep credentials of the machine: AWS and others, AWS over IPv6, Alibaba, Azure, Oracle.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// The same, by name.
const METADATA_NAMES: [&str; 4] = ["metadata", "metadata.google.internal", "instance-data", "metadata.goog"];

/// What kind of network an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Public,
    Private,
    Loopback,
    LinkLocal,
    /// Nothing that one connects to: multicast, reserved, documentation.
    Nowhere,
}

impl Reach {
    fn of(address: IpAddr) -> Reach {
        match plain(address) {
            IpAddr::V4(address) => Reach::of_v4(address),
            IpAddr::V6(address) => Reach::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Reach {
        let [a, b, ..] = address.octets();
        match (a, b) {
            (0 | 127, _) => Reach::Loopback,
            (169, 254) => Reach::LinkLocal,
            (10, _) | (172, 16..=31) | (192, 168) | (100, 64..=127) | (198, 18 | 19) => Reach::Private,
            (224..=255, _) => Reach::Nowhere,
            (192, 0) if address.octets()[2] == 0 => Reach::Private,
            _ => Reach::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Reach {
        let first = address.segments()[0];
        if address.is_loopback() || address.is_unspecified() {
            return Reach::Loopback;
        }
        match first {
            0xfe80..=0xfebf => Reach::LinkLocal,
            // Unique local, and the site-local addresses that came before them.
            0xfc00..=0xfdff | 0xfec0..=0xfeff => Reach::Private,
            0xff00..=0xffff => Reach::Nowhere,
            _ => Reach::Public,
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn name(self) -> &'static str {
        match self {
            Reach::Public => "a public",
            Reach::Private => "a private",
            Reach::Loopback => "a loopback",
            Reach::LinkLocal => "a link-local",
            Reach::Nowhere => "a reserved",
        }
    }
}

/// The IPv4 address inside an IPv6 address, where there is one: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn plain(address: IpAddr) -> IpAddr {
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

/// What is known of a name.
struct Known {
    addresses: Vec<IpAddr>,
    at: Instant,
}

/// Decides which addresses are gone to, and resolves names for the HTTP client.
pub(super) struct Guard {
    registry: String,
    /// The kinds of address the registry has, as bits.
    kinds: AtomicU8,
    names: Mutex<HashMap<String, Known>>,
    behind_proxy: bool,
    look_up: fn(&str) -> Vec<IpAddr>,
}

impl Guard {
    /// A guard for the registry that `base` leads to.
    pub(super) fn new(base: &Url) -> Guard {
        let registry = base.host_str().unwrap_or_default().to_ascii_lowercase();
        let kinds = AtomicU8::new(address_of(base).map_or(0, |address| Reach::of(address).bit()));
        let behind_proxy = PROXIES.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        Guard { registry, kinds, names: Mutex::default(), behind_proxy, look_up }
    }

    /// Whether `url` may be gone to.
    ///
    /// # Errors
    /// Says why not.
    pub(super) fn admit(&self, url: &Url) -> Result<(), String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("`{}` is no scheme that is followed", url.scheme()));
        }
        let Some(host) = url.host_str().map(str::to_ascii_lowercase) else { return Err("it has no host".into()) };
        let is_registry = host == self.registry;
        if let Some(address) = address_of(url) {
            return if is_registry { Ok(()) } else { self.admit_address(address) };
        }
        let bare = host.trim_end_matches('.');
        if !is_registry && METADATA_NAMES.contains(&bare) {
            return Err("it is the name of a metadata service".into());
        }
        // Whether or not it resolves here: it would at a proxy.
        if !is_registry && (bare == "localhost" || bare.ends_with(".localhost")) {
            self.admit_address(Ipv4Addr::LOCALHOST.into())?;
        }
        let addresses = self.addresses(&host);
        if is_registry {
            let kinds = addresses.iter().fold(0, |kinds, address| kinds | Reach::of(*address).bit());
            self.kinds.fetch_or(kinds, Ordering::Relaxed);
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

    fn admit_address(&self, address: IpAddr) -> Result<(), String> {
        if METADATA.contains(&plain(address)) || METADATA.contains(&address) {
            return Err(format!("{address} is the address of a metadata service"));
        }
        let reach = Reach::of(address);
        let same_as_registry = reach != Reach::Nowhere && self.kinds.load(Ordering::Relaxed) & reach.bit() != 0;
        if reach == Reach::Public || same_as_registry {
            return Ok(());
        }
        Err(format!("{address} is {} address, and the registry has none of that kind", reach.name()))
    }

    /// The addresses of a name; none where it has none, which is left to the proxy, if there is one.
    fn addresses(&self, name: &str) -> Vec<IpAddr> {
        if let Some(known) = self.lock().get(name).filter(|known| self.is_fresh(known)) {
            return known.addresses.clone();
        }
        let addresses = (self.look_up)(name);
        let mut names = self.lock();
        if names.len() >= MOST_NAMES {
            names.clear();
        }
        names.insert(name.into(), Known { addresses: addresses.clone(), at: Instant::now() });
        addresses
    }

    fn is_fresh(&self, known: &Known) -> bool {
        let fresh = match (known.addresses.is_empty(), self.behind_proxy) {
            (false, _) => FRESH,
            (true, false) => FRESH_NONE,
            (true, true) => FRESH_NONE_BEHIND_PROXY,
        };
        known.at.elapsed() < fresh
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers with the addresses that were checked. A name that was not is the proxy's: nothing else is sent unchecked.
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

/// The address that a URL has in numbers.
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

    /// Names as a hostile server of names would have them: `turns.example` is public once, and then is not.
    fn hostile(name: &str) -> Vec<IpAddr> {
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
        let guard = Guard { look_up: hostile, ..Guard::new(&base) };
        guard.admit(&base).unwrap();
        for name in ["inside.example", "both.example"] {
            assert!(guard.admit(&format!("https://{name}/").parse().unwrap()).is_err(), "{name}");
        }
        guard.admit(&"https://turns.example/".parse().unwrap()).unwrap();
        assert_eq!(resolved(&guard, "turns.example").unwrap(), ["198.51.101.2:0".parse().unwrap()]);
        assert_eq!(hostile("turns.example"), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(resolved(&guard, "turns.example").unwrap(), ["198.51.101.2:0".parse().unwrap()]);
        guard.admit(&"https://nowhere.example/".parse().unwrap()).unwrap();
        assert!(resolved(&guard, "nowhere.example").is_none());
    }
}
