//! Keys in configurations of WireGuard: `PrivateKey` and `PresharedKey`. Sources: wg(8), section "Configuration file
//! format"; systemd.netdev(5), sections `[WireGuard]` and `[WireGuardPeer]`.

use memchr::memmem;

use super::{Algorithm, Container, PrivateKey, Reject, der, distinct, pem};

/// The greatest distance from the start of the section to the key.
const SECTION: usize = 512;

const DIGITS: usize = 44;

/// Reads the key whose assignment starts at `at` in `window`. The span is the base64. The window should start 512
/// bytes before `at`, for the header of the section.
///
/// # Errors
/// If the assignment is not in a section of WireGuard, or the value is not 32 random bytes.
pub fn wireguard_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let line = window.get(at..).ok_or(Reject::Truncated)?;
    let line = line.get(..128).unwrap_or(line);
    let equals = line.iter().position(|byte| *byte == b'=').ok_or(Reject::NoLabel)?;
    let (name, value) = line.split_at_checked(equals + 1).ok_or(Reject::NoLabel)?;
    let name = name.strip_suffix(b"=").unwrap_or(name).trim_ascii();
    let start = at + line.len() - value.trim_ascii_start().len();
    let digits = window.get(start..start + DIGITS).ok_or(Reject::Truncated)?;
    let bytes = pem::base64(digits)?;
    if bytes.len() != 32 || !digits.ends_with(b"=") {
        return Err(Reject::Malformed);
    }
    if distinct(&bytes) < 20 {
        return Err(Reject::Placeholder);
    }
    let section = section(window.get(at.saturating_sub(SECTION)..at).unwrap_or_default()).ok_or(Reject::NoLabel)?;
    let span = start..start + DIGITS;
    if name.eq_ignore_ascii_case(b"PrivateKey") && matches!(section, Section::Own) {
        let key = der::x25519(&bytes, Container::WireGuard)?;
        return Ok(PrivateKey { span, ..key });
    }
    if !name.eq_ignore_ascii_case(b"PresharedKey") || !matches!(section, Section::Peer) {
        return Err(Reject::NotAKey);
    }
    let (algorithm, container) = (Algorithm::Symmetric, Container::WireGuard);
    Ok(PrivateKey { algorithm, bits: 256, container, encrypted: false, span, material: bytes, note: None })
}

#[derive(Clone, Copy)]
enum Section {
    Own,
    Peer,
}

/// The last section that begins in `text`.
fn section(text: &[u8]) -> Option<Section> {
    let open = memchr::memrchr(b'[', text)?;
    let rest = text.get(open + 1..)?;
    let name = rest.get(..memmem::find(rest, b"]")?)?;
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if is("Interface") || is("WireGuard") {
        return Some(Section::Own);
    }
    (is("Peer") || is("WireGuardPeer")).then_some(Section::Peer)
}
