//! Writes the entries of `signatures/keys/known-public.toml` for the private keys in files.
//!
//! `cargo run --example known_key -- 'Where {} is published' FILE...`: `{}` becomes the name of the file.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    clippy::unwrap_used
)]

use std::collections::HashSet;

use layersift_model::Digest;
use layersift_scan::confirm::keys;
use layersift_scan::confirm::keys::PrivateKey;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let source = arguments.next().unwrap_or_default();
    let mut seen = HashSet::new();
    for path in arguments {
        let bytes = std::fs::read(&path)?;
        for key in keys_in(&bytes).filter(|key| !key.encrypted) {
            let digest = Digest::of(&key.material);
            if seen.insert(digest.hex().to_owned()) {
                let what = key.describe();
                let what = what.rsplit_once(", ").map_or(&what[..], |(what, _)| what);
                let name = path.rsplit('/').next().unwrap_or_default();
                let source = source.replace("{}", name);
                println!("[[known-key]]\nsha256 = \"{}\"\nkey    = \"{what}\"\nsource = \"{source}\"\n", digest.hex());
            }
        }
    }
    Ok(())
}

/// All keys in `bytes`, in any form.
fn keys_in(bytes: &[u8]) -> impl Iterator<Item = PrivateKey> {
    let readers = [
        keys::pem_at,
        keys::der_at,
        keys::ppk_at,
        keys::jwk_at,
        keys::openpgp_armored_at,
        keys::pkcs12_at,
        keys::java_keystore_at,
    ];
    (0..bytes.len()).filter_map(move |at| readers.iter().find_map(|read| read(bytes, at).ok()))
}
