//! Package records: the files in which package managers record which package owns which path.
//!
//! Sources: dpkg-query(1) for `/var/lib/dpkg`, Alpine's "Apk spec" for `/lib/apk/db/installed`, the npm documentation
//! of `package.json`, PyPA's "Recording installed projects" for `RECORD`. Distroless images have one file per package
//! in `/var/lib/dpkg/status.d`.

use std::mem::size_of;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;

use layersift_model::{
    Checksum, Footprint, ImagePath, LONGEST_NAME, Owners, Package, PathKey, RecordedChecksum, heap_bytes,
};

use crate::allowance::Allowance;

/// The kind of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The `package.json` of the npm package in this directory.
    Npm(ImagePath),
    /// dpkg's list of all packages and their versions.
    DpkgStatus,
    /// dpkg's list of the files of one package.
    DpkgList(String),
    /// dpkg's checksums of the files of one package.
    DpkgSums,
    /// The files of one package in a distroless image, with their checksums.
    DistrolessSums(String),
    /// apk's list of all packages and their files.
    Apk,
    /// The files of a Python package, with their checksums.
    Python {
        /// The directory that the package is installed in.
        directory: ImagePath,
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
}

/// The maximum number of lines in the file list of one package. Each repeats the directory; no real list is as long.
const MAX_RECORD_LINES: usize = 100_000;

/// The maximum length of a package's name or version in bytes; longer ones are truncated.
const MAX_TEXT: usize = 512;

impl Record {
    /// The kind of record at `path`, if it is one.
    pub fn at(path: &ImagePath) -> Option<Record> {
        let name = path.name();
        if name == b"package.json" {
            return path.parent().map(Record::Npm);
        }
        if name == b"RECORD" {
            return Record::python(path);
        }
        let bytes = path.as_bytes();
        if let Some(file) = bytes.strip_prefix(b"var/lib/dpkg/") {
            return Record::dpkg(std::str::from_utf8(file).ok()?);
        }
        [&b"lib/apk/db/installed"[..], b"usr/lib/apk/db/installed"].contains(&bytes).then_some(Record::Apk)
    }

    fn python(path: &ImagePath) -> Option<Record> {
        let info = path.parent()?;
        let name = std::str::from_utf8(info.name()).ok()?.strip_suffix(".dist-info")?;
        let (name, version) = name.split_once('-')?;
        Some(Record::Python { directory: info.parent()?, name: name.into(), version: version.into() })
    }

    fn dpkg(file: &str) -> Option<Record> {
        if file == "status" {
            return Some(Record::DpkgStatus);
        }
        let package = |name: &str| name.split(':').next().unwrap_or(name).to_string();
        if let Some(name) = file.strip_prefix("info/") {
            let list = name.strip_suffix(".list").map(|name| Record::DpkgList(package(name)));
            return list.or(name.ends_with(".md5sums").then_some(Record::DpkgSums));
        }
        let name = file.strip_prefix("status.d/")?;
        Some(match name.strip_suffix(".md5sums") {
            Some(name) => Record::DistrolessSums(package(name)),
            None => Record::DpkgStatus,
        })
    }

    /// Reads the record into `owners`, as far as the allowance reaches. Damaged parts are skipped: records only add
    /// owners to findings.
    pub(crate) fn read(&self, bytes: &[u8], owners: &mut Owners, allowance: &mut Allowance<'_>) {
        let mut owners = BoundedOwners { owners, allowance };
        let owners = &mut owners;
        match self {
            Record::Npm(directory) => read_npm(directory, bytes, owners),
            Record::DpkgStatus => read_status(bytes, owners),
            Record::DpkgList(package) => {
                let paths = lines(bytes).map(|line| line.strip_prefix(b"/.").unwrap_or(line));
                add_files(owners, "deb", package, None, paths);
            }
            Record::DpkgSums => read_md5sums(bytes, owners),
            Record::DistrolessSums(package) => {
                let paths = lines(bytes).filter_map(|line| Some(line.split_at_checked(32)?.1.trim_ascii_start()));
                add_files(owners, "deb", package, None, paths);
                read_md5sums(bytes, owners);
            }
            Record::Apk => read_apk(bytes, owners),
            Record::Python { directory, name, version } => read_python(directory, name, version, bytes, owners),
        }
    }
}

/// Owners, and what they may still take.
struct BoundedOwners<'o, 'm> {
    owners: &'o mut Owners,
    allowance: &'o mut Allowance<'m>,
}

impl BoundedOwners<'_, '_> {
    fn add_npm(&mut self, directory: PathKey, package: Package) {
        if self.allowance.take(Owners::FILE_BYTES as u64 + package.footprint()) {
            self.owners.npm.insert(directory, package);
        }
    }

    /// Adds a package that lists its files, and returns its index.
    fn add_package(&mut self, package: Package) -> Option<u32> {
        let index = u32::try_from(self.owners.os.len()).ok()?;
        self.allowance.take(package.footprint()).then(|| self.owners.os.push(package))?;
        Some(index)
    }

    fn add_file(&mut self, path: PathKey, package: u32) {
        if self.owners.files.contains_key(&path) || self.allowance.take(Owners::FILE_BYTES as u64) {
            self.owners.files.insert(path, package);
        }
    }

    fn add_sum(&mut self, path: PathKey, sum: RecordedChecksum) {
        if self.owners.sums.contains_key(&path) || self.allowance.take(Owners::SUM_BYTES as u64) {
            self.owners.sums.insert(path, sum);
        }
    }

    fn add_version(&mut self, package: &str, version: String) {
        let bytes =
            heap_bytes(package.len()) + heap_bytes(version.len()) + Owners::FILE_BYTES + 2 * size_of::<String>();
        if self.owners.versions.contains_key(package) || self.allowance.take(bytes as u64) {
            self.owners.versions.insert(package.into(), version);
        }
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]).trim().to_string()
}

fn read_npm(directory: &ImagePath, bytes: &[u8], owners: &mut BoundedOwners<'_, '_>) {
    #[derive(Deserialize)]
    struct PackageJson {
        name: String,
        version: Option<String>,
    }
    if let Ok(PackageJson { name, version }) = serde_json::from_slice(bytes)
        && name.len() + version.as_ref().map_or(0, String::len) <= MAX_TEXT
    {
        owners.add_npm(directory.key(), Package { ecosystem: "npm".into(), name, version });
    }
}

/// Reads paragraphs of fields. Configuration files, which users may change, are listed with their original checksums.
fn read_status(bytes: &[u8], owners: &mut BoundedOwners<'_, '_>) {
    let mut package = None;
    for line in bytes.split(|&byte| byte == b'\n') {
        if line.is_empty() {
            package = None;
        } else if let Some(setting) = line.strip_prefix(b" /") {
            let mut words = setting.split(|&byte| byte == b' ');
            if let (Some(path), Some(sum)) = (words.next(), words.next().and_then(md5)) {
                add_sum(owners, "deb", path, sum);
            }
        } else if let Some(name) = line.strip_prefix(b"Package: ") {
            package = Some(text(name));
        } else if let (Some(version), Some(package)) = (line.strip_prefix(b"Version: "), &package) {
            owners.add_version(package, text(version));
        }
    }
}

/// `<md5>  <path>`, as md5sum(1) writes it.
fn read_md5sums(bytes: &[u8], owners: &mut BoundedOwners<'_, '_>) {
    for (sum, path) in lines(bytes).filter_map(|line| line.split_at_checked(32)) {
        if let Some(sum) = md5(sum) {
            add_sum(owners, "deb", path.trim_ascii_start(), sum);
        }
    }
}

fn md5(digits: &[u8]) -> Option<Checksum> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 32)?;
    Some(Checksum::Md5(u128::from_str_radix(digits, 16).ok()?.to_be_bytes()))
}

fn add_sum(owners: &mut BoundedOwners<'_, '_>, ecosystem: &'static str, path: &[u8], sum: Checksum) {
    owners.add_sum(ImagePath::normalize(path).key(), (ecosystem.into(), sum));
}

fn add_files<'p>(
    owners: &mut BoundedOwners<'_, '_>,
    ecosystem: &'static str,
    name: &str,
    version: Option<String>,
    paths: impl Iterator<Item = &'p [u8]>,
) {
    let package = Package { ecosystem: ecosystem.into(), name: name.into(), version };
    let Some(index) = owners.add_package(package) else { return };
    for path in paths {
        owners.add_file(ImagePath::normalize(path).key(), index);
    }
}

/// Lines of `path,sha256=digits,size`, the path relative to the directory of the package. Only paths
/// in that directory are accepted.
fn read_python(directory: &ImagePath, name: &str, version: &str, bytes: &[u8], owners: &mut BoundedOwners<'_, '_>) {
    let (name, version) = (text(name.as_bytes()), Some(text(version.as_bytes())));
    let Some(index) = owners.add_package(Package { ecosystem: "pypi".into(), name, version }) else { return };
    let inside = [directory.as_bytes(), b"/"].concat();
    for line in lines(bytes).map(<[u8]>::trim_ascii_end).take(MAX_RECORD_LINES) {
        let mut fields = line.rsplitn(3, |&byte| byte == b',');
        let (Some(_), Some(sum), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let path = path.strip_prefix(b"\"").and_then(|path| path.strip_suffix(b"\"")).unwrap_or(path);
        if path.is_empty() || path.len() > LONGEST_NAME {
            continue;
        }
        let path = ImagePath::normalize(&[&inside, path].concat());
        if !directory.is_root() && !path.as_bytes().starts_with(&inside) {
            continue;
        }
        owners.add_file(path.key(), index);
        let sum = sum.strip_prefix(b"sha256=").and_then(|digits| URL_SAFE_NO_PAD.decode(digits).ok());
        if let Some(sum) = sum.and_then(|sum| sum.try_into().ok()) {
            add_sum(owners, "pypi", path.as_bytes(), Checksum::Sha256(sum));
        }
    }
}

/// `Q1` and a SHA-1, or `Q2` and a SHA-256, in base64.
fn apk_sum(value: &[u8]) -> Option<Checksum> {
    let (kind, digits) = value.split_at_checked(2)?;
    let sum = STANDARD.decode(digits).ok()?;
    match kind {
        b"Q1" => Some(Checksum::Sha1(sum.try_into().ok()?)),
        b"Q2" => Some(Checksum::Sha256(sum.try_into().ok()?)),
        _ => None,
    }
}

/// Paragraphs of `X:value` lines: `P` package, `V` version, `F` directory, `R` file in it, `Z` its checksum.
fn read_apk(bytes: &[u8], owners: &mut BoundedOwners<'_, '_>) {
    let mut lines = bytes.split(|&byte| byte == b'\n').peekable();
    while lines.peek().is_some() {
        let (mut name, mut version, mut directory, mut paths) = (String::new(), None, &b""[..], Vec::new());
        for line in lines.by_ref().take_while(|line| !line.is_empty()) {
            match line.split_at_checked(2) {
                Some((b"P:", value)) => name = text(value),
                Some((b"V:", value)) => version = Some(text(value)),
                // Every file in the directory repeats it. No file system has longer names.
                Some((b"F:", value)) => directory = &value[..value.len().min(LONGEST_NAME)],
                Some((b"R:", value)) if paths.len() < MAX_RECORD_LINES => paths.push([directory, b"/", value].concat()),
                Some((b"Z:", value)) => {
                    if let (Some(path), Some(sum)) = (paths.last(), apk_sum(value)) {
                        add_sum(owners, "apk", path, sum);
                    }
                }
                _ => {}
            }
        }
        if !name.is_empty() {
            add_files(owners, "apk", &name, version, paths.iter().map(Vec::as_slice));
        }
    }
}

#[cfg(test)]
mod tests {
    use layersift_model::Limits;

    use super::*;
    use crate::memory::MemoryBudget;

    fn path(text: &str) -> ImagePath {
        ImagePath::normalize(text.as_bytes())
    }

    #[test]
    fn dpkg_apk_and_npm() {
        let mut owners = Owners::default();
        let lease = MemoryBudget::default().lease(0);
        let mut allowance = Allowance::new(&Limits::default(), &lease, None);
        let mut read = |at: &str, bytes: &[u8]| Record::at(&path(at)).unwrap().read(bytes, &mut owners, &mut allowance);
        read("var/lib/dpkg/info/libc6:amd64.list", b"/.\n/lib\n/lib/libc.so.6\n");
        read("var/lib/dpkg/status", b"Package: libc6\nStatus: x\nVersion: 2.36-9\n\nPackage: b\nVersion: 1\n");
        read("var/lib/dpkg/status.d/tzdata.md5sums", b"0123456789abcdef0123456789abcdef  usr/share/zoneinfo/UTC\n");
        read("lib/apk/db/installed", b"P:musl\nV:1.2\nF:lib\nR:ld-musl.so\n\nP:b\nV:3\nF:bin\nR:b\n\n");
        read("app/node_modules/x/package.json", br#"{"name":"x","version":"1.0.0"}"#);
        read("usr/lib/python3/dist-packages/y-2.0.dist-info/RECORD", b"y/a.py,sha256=AAAA,3\n\"y/b,c.py\",,\n");
        let owner = |at: &str| owners.files.get(&path(at).key()).map(|&i| owners.os[i as usize].name.as_str());
        assert_eq!(owner("lib/libc.so.6"), Some("libc6"));
        assert_eq!(owner("usr/share/zoneinfo/UTC"), Some("tzdata"));
        assert_eq!(owner("lib/ld-musl.so"), Some("musl"));
        assert_eq!(owner("bin/b"), Some("b"));
        assert_eq!(owner("usr/lib/python3/dist-packages/y/b,c.py"), Some("y"));
        assert_eq!(owners.versions.get("libc6").map(String::as_str), Some("2.36-9"));
        assert_eq!(owners.npm[&path("app/node_modules/x").key()].name, "x");
    }

    #[test]
    fn checksums_of_what_packages_ship() {
        let mut owners = Owners::default();
        let lease = MemoryBudget::default().lease(0);
        let mut allowance = Allowance::new(&Limits::default(), &lease, None);
        let mut read = |at: &str, bytes: &[u8]| Record::at(&path(at)).unwrap().read(bytes, &mut owners, &mut allowance);
        // All of "abc".
        let md5 = b"900150983cd24fb0d6963f7d28e17f72";
        read("var/lib/dpkg/info/a.md5sums", &[&md5[..], b"  usr/share/a\n"].concat());
        read("var/lib/dpkg/status", &[b"Package: a\nConffiles:\n /etc/a ", &md5[..], b"\n"].concat());
        read("lib/apk/db/installed", b"P:b\nF:etc\nR:b\na:0:0:644\nZ:Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=\nR:c\n\n");
        read(
            "opt/c-1.dist-info/RECORD",
            b"c.py,sha256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0,3\n\
            ../app/.env,sha256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0,3\n",
        );
        let abc = layersift_model::FileChecksums::of(&[b"abc"]);
        for file in ["usr/share/a", "etc/a", "etc/b", "opt/c.py"] {
            assert!(owners.sums.get(&path(file).key()).is_some_and(|(_, sum)| abc.is(sum)), "{file}");
        }
        assert_eq!(owners.sums.len(), 4);
    }

    #[test]
    fn other_files_are_not_records() {
        for other in ["var/lib/dpkg/info/a.postinst", "home/var/lib/dpkg/status", "a/package.json.bak"] {
            assert_eq!(Record::at(&path(other)), None, "{other}");
        }
    }
}
