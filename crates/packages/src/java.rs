//! Java archives: what Maven recorded in them, or else their manifests and file names; and archives in archives.
//!
//! Sources: the JAR File Specification, "JAR Manifest"; Maven Archiver, "Archive descriptor". Bundled libraries are
//! `.jar` members, as in Spring Boot's archives and in war files.

use layersift_model::{Ecosystem, PackageRecord};

use crate::fields::{LONGEST_VALUE, field, lines, text};
use crate::kind::{MAX_RECORD_BYTES, ReadError, Records};
use crate::work::{INFLATED, MEMBER, PARSED};
use crate::zip::{Archive, Member};

/// The names of Java archives end in one of these.
const EXTENSIONS: [&str; 10] = ["jar", "war", "ear", "par", "sar", "nar", "jpi", "hpi", "kar", "lpkg"];

/// The most levels of archives in archives.
const MAX_DEPTH: usize = 6;

/// The most members of all archives in a file.
const MAX_MEMBERS: usize = 2_000_000;

/// The most bytes of the nested archives that lead to one, which are in memory together, and of all in one file.
const MAX_NESTED: u64 = 96 << 20;
const MAX_NESTED_TOTAL: u64 = 1 << 30;

/// The most work on a file: for each of its bytes, and besides. Archives in archives are read once for each level.
const MOST_WORK_PER_BYTE: u64 = 64;
const MOST_WORK: u64 = 32 << 20;

/// The most bytes of a file and of the nested archives that are in memory with it.
const MAX_TOGETHER: u64 = 152 << 20;

/// The most bytes of a manifest or a file of properties.
const MAX_TEXT: u64 = 4 << 20;

/// The most records of Maven in one archive.
const MAX_POMS: usize = 5_000;

/// The bytes in memory of one of them: three texts.
const POM_BYTES: u64 = 4 << 10;

/// The longest name of a member that is kept.
const MAX_NAME: usize = LONGEST_VALUE;

/// Whether a file of this name is a Java archive.
pub(crate) fn is_archive(name: &[u8]) -> bool {
    let Some(dot) = memchr::memrchr(b'.', name) else { return false };
    EXTENSIONS.iter().any(|extension| name[dot + 1..].eq_ignore_ascii_case(extension.as_bytes()))
}

/// The bytes of memory that it may take to read the archive `bytes`.
pub(crate) fn memory(bytes: &[u8]) -> u64 {
    let (mut poms, mut largest) = (0, 0);
    for member in Archive::new(bytes).iter().flat_map(Archive::members).take(MAX_MEMBERS) {
        if is_archive(member.name) {
            // What is in it is not known.
            return room(bytes) + MAX_TEXT + MAX_RECORD_BYTES;
        }
        if is_manifest(member.name) || is_pom_properties(member.name) {
            poms += POM_BYTES;
            largest = member.size.min(MAX_TEXT).max(largest);
        }
    }
    largest + MAX_RECORD_BYTES.min(poms)
}

/// The most work on the archives in a file of `length` bytes.
pub(crate) fn most_work(length: usize) -> u64 {
    MOST_WORK + length as u64 * MOST_WORK_PER_BYTE
}

/// What the archives in the file `bytes` may take in memory at a time.
fn room(bytes: &[u8]) -> u64 {
    MAX_NESTED.min(MAX_TOGETHER.saturating_sub(bytes.len() as u64))
}

/// Reads the archive `bytes`, a file with the name `name`, and the archives in it.
pub(crate) fn read(name: &[u8], bytes: &[u8], records: &mut Records) -> Result<(), ReadError> {
    // A link to an archive elsewhere, or a placeholder.
    let Some(archive) = Archive::new(bytes) else {
        let is_zip = bytes.starts_with(b"PK\x03\x04");
        return if is_zip { Err(ReadError::Damaged("Java archive", "it has no directory")) } else { Ok(()) };
    };
    let mut reader = Reader {
        records,
        members: MAX_MEMBERS,
        bytes: MAX_NESTED_TOTAL,
        room: room(bytes),
        most_work: most_work(bytes.len()),
        inside: Vec::new(),
        error: None,
    };
    reader.archive(name, &archive);
    reader.error.map_or(Ok(()), Err)
}

struct Reader<'r> {
    records: &'r mut Records,
    /// The members and bytes that may still be read.
    members: usize,
    bytes: u64,
    /// What nested archives may still take in memory.
    room: u64,
    most_work: u64,
    /// The members that lead to the archive.
    inside: Vec<String>,
    error: Option<ReadError>,
}

impl Reader<'_> {
    fn archive<'b>(&mut self, name: &[u8], archive: &Archive<'b>) {
        let mut manifest = None;
        let mut poms = Vec::new();
        let mut read = 0;
        for member in archive.members() {
            let Some(left) = self.members.checked_sub(1) else {
                self.error = Some(ReadError::ArchiveLimit("members"));
                break;
            };
            self.members = left;
            if !self.work(MEMBER) {
                break;
            }
            read += 1;
            if is_manifest(member.name) {
                manifest = self.text(archive, &member).map(|bytes| Manifest::new(&bytes));
            } else if is_pom_properties(member.name) && poms.len() >= MAX_POMS {
                self.error = Some(ReadError::ArchiveLimit("records of Maven"));
            } else if is_pom_properties(member.name) {
                poms.extend(self.text(archive, &member).and_then(|bytes| pom(&bytes)));
            }
        }
        self.packages(name, &manifest.unwrap_or_default(), poms);
        for member in archive.members().take(read).filter(|member| is_archive(member.name)) {
            self.nested(archive, &member);
        }
    }

    /// Counts work. Returns whether the file is within its limit.
    fn work(&mut self, work: u64) -> bool {
        let fits = self.records.work.saturating_add(work) <= self.most_work;
        if fits {
            self.records.work += work;
        } else {
            self.error = Some(ReadError::ArchiveLimit("work"));
        }
        fits
    }

    /// The packages of one archive: that of the archive itself, and those that were merged into it.
    fn packages(&mut self, name: &[u8], manifest: &Manifest, poms: Vec<PackageRecord>) {
        let file = FileName::new(name);
        let main = manifest.package(&file);
        let is_main = |pom: &PackageRecord| pom.name == file.name || pom.name == main.name || file.is_of(&pom.name);
        // Of several, the archive itself is that whose name the file has.
        let has_main = poms.iter().any(is_main);
        for pom in poms {
            self.add(pom);
        }
        if !has_main && !main.name.is_empty() {
            self.add(main);
        }
    }

    fn add(&mut self, record: PackageRecord) {
        self.records.add(PackageRecord { inside: self.inside.clone(), ..record });
    }

    fn nested<'b>(&mut self, archive: &Archive<'b>, member: &Member<'b>) {
        if self.inside.len() >= MAX_DEPTH {
            self.error = Some(ReadError::ArchiveLimit("archives in archives"));
            return;
        }
        let Some(bytes) = self.contents(archive, member, self.room) else {
            let damaged = ReadError::Damaged("archive in a Java archive", "it is damaged, encrypted or too large");
            self.error.get_or_insert(damaged);
            return;
        };
        // A member may have the name of an archive and be something else.
        let Some(inner) = Archive::new(&bytes) else { return };
        self.inside.push(text(&member.name[..member.name.len().min(MAX_NAME)]));
        let base = memchr::memrchr(b'/', member.name).map_or(0, |slash| slash + 1);
        self.room -= member.size;
        self.archive(&member.name[base..], &inner);
        self.room += member.size;
        self.inside.pop();
    }

    fn text<'b>(&mut self, archive: &Archive<'b>, member: &Member<'b>) -> Option<Vec<u8>> {
        let fits = member.size <= MAX_TEXT && self.work(member.size * PARSED);
        fits.then(|| self.contents(archive, member, MAX_TEXT))?
    }

    /// The contents of `member`, if they have at most `limit` bytes. What it costs to read them is taken from the bytes
    /// that may still be read, also where that fails.
    fn contents<'b>(&mut self, archive: &Archive<'b>, member: &Member<'b>, limit: u64) -> Option<Vec<u8>> {
        if member.size > limit {
            return None;
        }
        let Some(left) = self.bytes.checked_sub(member.size) else {
            self.error = Some(ReadError::ArchiveLimit("bytes"));
            return None;
        };
        if !self.work(archive.bytes_of(member).saturating_mul(INFLATED)) {
            return None;
        }
        self.bytes = left;
        archive.contents(member)
    }
}

fn is_manifest(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"META-INF/MANIFEST.MF")
}

fn is_pom_properties(name: &[u8]) -> bool {
    name.starts_with(b"META-INF/maven/") && name.ends_with(b"/pom.properties")
}

/// The package of a `pom.properties`.
fn pom(bytes: &[u8]) -> Option<PackageRecord> {
    let (mut group, mut name, mut version) = (None, None, None);
    for line in lines(bytes) {
        let Some(at) = line.iter().position(|&byte| matches!(byte, b'=' | b':')) else { continue };
        let value = Some(text(&line[at + 1..])).filter(|value| !value.is_empty());
        match line[..at].trim_ascii() {
            b"groupId" => group = value,
            b"artifactId" => name = value,
            b"version" => version = value,
            _ => {}
        }
    }
    // Maven did not fill in a template.
    let is_whole = |text: &String| !text.contains("${");
    let record = PackageRecord::new(Ecosystem::Maven, name.filter(is_whole)?, version.filter(is_whole)?);
    Some(PackageRecord { namespace: group.filter(is_whole), ..record })
}

/// The main section of a manifest.
#[derive(Debug, Default)]
struct Manifest {
    fields: Vec<(&'static str, String)>,
}

impl Manifest {
    /// The fields that name a version or a package, each in the order of its worth.
    const VERSIONS: [&'static str; 4] =
        ["Implementation-Version", "Specification-Version", "Plugin-Version", "Bundle-Version"];
    const NAMES: [&'static str; 6] = [
        "Automatic-Module-Name",
        "Bundle-SymbolicName",
        "Short-Name",
        "Extension-Name",
        "Implementation-Title",
        "Bundle-Name",
    ];
    const GROUPS: [&'static str; 2] = ["Implementation-Vendor-Id", "Group-Id"];

    fn new(bytes: &[u8]) -> Manifest {
        let mut manifest = Manifest::default();
        let mut joined = Vec::new();
        for line in lines(bytes).take_while(|line| !line.is_empty()) {
            // A line that begins with a space continues the one above.
            match line.strip_prefix(b" ").filter(|_| !joined.is_empty()) {
                Some(rest) => joined.extend_from_slice(rest),
                None => {
                    manifest.line(&joined);
                    joined.clear();
                    joined.extend_from_slice(line);
                }
            }
        }
        manifest.line(&joined);
        manifest
    }

    /// Takes a field that is wanted. The first of a name counts.
    fn line(&mut self, line: &[u8]) {
        let wanted = Manifest::VERSIONS.iter().chain(&Manifest::NAMES).chain(&Manifest::GROUPS);
        for name in wanted {
            if let Some(value) = field(line, name).filter(|_| self.first(&[name]).is_none()) {
                self.fields.push((name, value));
            }
        }
    }

    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.fields.iter().find(|field| field.0 == *name)).map(|field| field.1.clone())
    }

    /// The package of an archive without a record of Maven.
    fn package(&self, file: &FileName) -> PackageRecord {
        let name =
            if file.name.is_empty() { self.first(&Manifest::NAMES).unwrap_or_default() } else { file.name.clone() };
        let version = file.version.clone().or_else(|| self.first(&Manifest::VERSIONS)).unwrap_or_default();
        let namespace = self.first(&Manifest::GROUPS);
        PackageRecord { namespace, ..PackageRecord::new(Ecosystem::Maven, name, version) }
    }
}

/// A file name, `name-version.jar`.
#[derive(Debug, PartialEq, Eq)]
struct FileName {
    name: String,
    version: Option<String>,
}

impl FileName {
    fn new(name: &[u8]) -> FileName {
        let name = text(name);
        let stem = name.rsplit_once('.').map_or(&*name, |(stem, _)| stem);
        let bytes = stem.as_bytes();
        let begins = |at: &usize| {
            matches!(bytes[*at], b'-' | b'_') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) && *at > 0
        };
        match (0..bytes.len()).find(begins) {
            Some(at) => FileName { name: stem[..at].into(), version: Some(stem[at + 1..].into()) },
            None => FileName { name: stem.into(), version: None },
        }
    }

    /// Whether the file is named for the artifact `name`, such as `name_2.13-1.0` or `name-jdk8-1.0`.
    fn is_of(&self, name: &str) -> bool {
        self.name.strip_prefix(name).is_some_and(|rest| rest.starts_with(['-', '_', '.']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_of_files() {
        for (file, name, version) in [
            ("slf4j-api-2.0.9.jar", "slf4j-api", Some("2.0.9")),
            ("app.war", "app", None),
            ("scala-library_2.13-1.0.jar", "scala-library", Some("2.13-1.0")),
            ("a-b.jar", "a-b", None),
        ] {
            let expected = FileName { name: name.into(), version: version.map(str::to_string) };
            assert_eq!(FileName::new(file.as_bytes()), expected, "{file}");
        }
    }

    #[test]
    fn manifests_join_their_lines() {
        let manifest = Manifest::new(b"Manifest-Version: 1.0\r\nImplementation-Version: 1.2\r\n .3\r\n\r\nName: x\r\n");
        assert_eq!(manifest.first(&Manifest::VERSIONS).as_deref(), Some("1.2.3"));
    }

    #[test]
    fn properties_of_maven() {
        let found = pom(b"#Created\nversion=1.0\ngroupId=org.a\nartifactId=b\n").unwrap();
        assert_eq!((found.namespace.as_deref(), &*found.name, &*found.version), (Some("org.a"), "b", "1.0"));
        assert_eq!(pom(b"version=${v}\nartifactId=b\n"), None);
    }
}
