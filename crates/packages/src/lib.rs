//! Records of packages: what dpkg, apk, rpm, npm, pip, Java archives and executables say is installed; and marks of AI.
//!
//! [`RecordKind::at`] tells by its path whether a file may have records, and [`RecordKind::read`] reads them from its
//! bytes. Executables are told by their first bytes instead: [`RecordKind::executable`]. [`AiFile`] does the same for
//! marks of AI. Nothing here reads a file.
//!
//! ```
//! use layersift_model::{Distribution, ImagePath};
//! use layersift_packages::RecordKind;
//!
//! let path = ImagePath::normalize(b"var/lib/dpkg/status");
//! let status = b"Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.15-2\n";
//! let read = RecordKind::at(&path).map(|kind| kind.read(&path, status)).unwrap_or_default();
//! let debian = Distribution { id: "debian".into(), version: Some("12".into()), title: None };
//! assert_eq!(read.packages[0].purl(Some(&debian)), "pkg:deb/debian/bash@5.2.15-2?arch=amd64&distro=debian-12");
//! ```

mod ai;
mod apk;
mod berkeley_db;
mod bytes;
mod dpkg;
mod executable;
mod fields;
mod go;
mod java;
mod kind;
mod ndb;
mod npm;
mod os_release;
mod python;
mod rpm;
mod rpm_header;
mod rust;
mod sqlite;
mod work;
mod zip;

pub use ai::AiFile;
pub use kind::{Read, ReadError, RecordKind};
pub use os_release::distribution;
