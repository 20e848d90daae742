//! Evidence from container images: files as a layer holds them, in a bundle that shows every later change.
//!
//! A bundle is a directory, or a tar archive of one:
//!
//! | file | what it is |
//! |---|---|
//! | `manifest.json` | the case, the program, the image and its layers, and what each artifact is ([`Manifest`]) |
//! | `artifacts/0001`, … | the files, numbered: no name from an image becomes the name of a file |
//! | `SHA256SUMS` | the digests of all of these, for `sha256sum -c` |
//! | `custody.log` | what was done, a line each, every line with the hash of the one before ([`custody`]) |
//! | `seal.json` | the digests of the manifest and the sums, and the end of the log |
//! | `seal.sig`, `seal.tsr` | a signature of the seal, and a timestamp of it (RFC 3161), if they were asked for |
//!
//! ```
//! use layersift_evidence::{Carver, Case, Wanted, verify};
//! use layersift_format::Blob;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir().join(format!("evidence-{}", std::process::id()));
//! # let mut layer = tar::Builder::new(Vec::new());
//! # let mut header = tar::Header::new_gnu();
//! # (header.set_size(3), header.set_mode(0o644), header.set_cksum());
//! # layer.append_data(&mut header, "etc/key", &b"abc"[..])?;
//! # let layer = layer.into_inner()?;
//! let case = Case { case_id: Some("2031-004".into()), ..Case::default() };
//! let mut carver = Carver::create(&directory, case, jiff::Timestamp::now())?;
//! let wanted = [Wanted::path(b"etc/key")];
//! carver.layer(Default::default(), Blob::Stream(Box::new(&layer[..])), &wanted)?;
//! carver.seal(None, None)?;
//! assert!(verify(&directory)?.faults.is_empty());
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok(())
//! # }
//! ```

mod carve;
pub mod custody;
mod differences;
mod error;
mod extract;
mod layout;
mod manifest;
mod seal;
mod verify;

pub use carve::{Carver, Seal, Sealed, Signing};
pub use differences::differences;
pub use error::EvidenceError;
pub use extract::Wanted;
pub use manifest::{
    Artifact, ArtifactKind, Case, FoundIn, LayerIdentity, LeftOut, Manifest, Range, Source, ToolIdentity,
};
pub use verify::{Verification, verify, verify_until};
