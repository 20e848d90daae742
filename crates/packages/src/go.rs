//! Go's build information: the modules of an executable, and the version of Go.
//!
//! Source: `debug/buildinfo/buildinfo.go` and `runtime/debug/mod.go` of Go.

use layersift_model::{Ecosystem, PackageRecord};
use object::{Object, ObjectSegment};

use crate::bytes::{be32, le32, le64, slice};
use crate::executable::{File, Sections};
use crate::fields::{lines, text};
use crate::kind::Records;
use crate::work::PARSED;

const MAGIC: &[u8] = b"\xff Go buildinf:";
const ALIGNMENT: usize = 16;
const HEADER: usize = 32;
/// Flag: the strings follow the header. Before Go 1.18, the header has pointers to them.
const INLINE: u8 = 2;
const BIG_ENDIAN: u8 = 1;
/// What the linker puts around the list of modules.
const SENTINEL: usize = 16;
/// The longest list of modules.
const MAX_STRING: usize = 16 << 20;

/// Reads the modules of `file`, if it is a Go executable.
pub(crate) fn read(file: &File<'_>, sections: &Sections<'_>, records: &mut Records) {
    let Some((version, modules)) = build_information(file, sections) else { return };
    records.work += (version.len() + modules.len()) as u64 * PARSED;
    if let Some(version) = version.strip_prefix(b"go") {
        let version = version.split(u8::is_ascii_whitespace).find(|word| !word.is_empty()).unwrap_or_default();
        records.add(PackageRecord::new(Ecosystem::Golang, "stdlib", text(version)));
    }
    add_modules(modules, records);
}

/// Lines of `mod`, `dep` or `=>`, a path, a version and a checksum, with tabs between them.
fn add_modules(modules: &[u8], records: &mut Records) {
    let mut last: Option<PackageRecord> = None;
    for line in lines(modules) {
        let mut words = line.split(|&byte| byte == b'\t');
        let kind = words.next().unwrap_or_default();
        let (Some(path), Some(version)) = (words.next().map(text), words.next().map(text)) else { continue };
        let module = PackageRecord::new(Ecosystem::Golang, path, version);
        match kind {
            b"mod" | b"dep" => records.extend(last.replace(module)),
            // What was built in place of the module above: another module, or a directory of the builder, whose path
            // names nothing.
            b"=>" if module.name.starts_with(['.', '/']) => {
                last = last.map(|replaced| PackageRecord { version: "(devel)".into(), ..replaced });
            }
            b"=>" => last = Some(module),
            _ => {}
        }
    }
    records.extend(last);
}

/// The version of Go and the list of modules.
fn build_information<'f>(file: &File<'f>, sections: &Sections<'f>) -> Option<(&'f [u8], &'f [u8])> {
    let data = sections.go.or(sections.data)?;
    let header = find(data)?;
    if header.get(15)? & INLINE != 0 {
        let (version, rest) = inline(header.get(HEADER..)?)?;
        let (modules, _) = inline(rest)?;
        return Some((version, strip(modules)));
    }
    let pointer_size = usize::from(*header.get(14)?);
    let is_big = header.get(15)? & BIG_ENDIAN != 0;
    let pointer = |bytes: &[u8], at: usize| match (pointer_size, is_big) {
        (4, false) => le32(bytes, at).map(u64::from),
        (4, true) => be32(bytes, at).map(u64::from),
        (8, false) => le64(bytes, at),
        (8, true) => le64(bytes, at).map(u64::swap_bytes),
        _ => None,
    };
    let text_at = |address: u64| {
        let descriptor = memory(file, address, 2 * pointer_size)?;
        let length = usize::try_from(pointer(descriptor, pointer_size)?).ok()?;
        memory(file, pointer(descriptor, 0)?, Some(length).filter(|length| *length <= MAX_STRING)?)
    };
    let version = text_at(pointer(header, 16)?)?;
    let modules = text_at(pointer(header, 16 + pointer_size)?).unwrap_or_default();
    Some((version, strip(modules)))
}

/// The header, which is aligned.
fn find(data: &[u8]) -> Option<&[u8]> {
    memchr::memmem::find_iter(data, MAGIC).find(|at| at % ALIGNMENT == 0).and_then(|at| data.get(at..))
}

/// A string after its length, and the rest.
fn inline(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut length, mut shift, mut at) = (0_u64, 0, 0);
    loop {
        let byte = *bytes.get(at)?;
        length |= u64::from(byte & 0x7f).checked_shl(shift)?;
        (shift, at) = (shift + 7, at + 1);
        if byte < 0x80 {
            break;
        }
        if shift > 56 {
            return None;
        }
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_STRING)?;
    Some((slice(bytes, at, length)?, &bytes[at + length..]))
}

/// The list of modules without what the linker puts around it.
fn strip(modules: &[u8]) -> &[u8] {
    let is_whole = modules.len() > 2 * SENTINEL && modules[modules.len() - SENTINEL - 1] == b'\n';
    if is_whole { &modules[SENTINEL..modules.len() - SENTINEL] } else { b"" }
}

/// `length` bytes of the memory of the program at `address`.
fn memory<'f>(file: &File<'f>, address: u64, length: usize) -> Option<&'f [u8]> {
    file.segments().find_map(|segment| {
        let offset = usize::try_from(address.checked_sub(segment.address())?).ok()?;
        slice(segment.data().ok()?, offset, length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_modules_take_the_place_of_theirs() {
        let mut records = Records::default();
        let list = b"path\texample.org/app\nmod\texample.org/app\t(devel)\t\ndep\tgolang.org/x/text\tv0.3.0\th1:x=\n\
                     dep\texample.org/old\tv1.0.0\n=>\texample.org/new\tv1.2.0\th1:y=\n\
                     dep\texample.org/local\tv1.0.0\n=>\t./local\t(devel)\t\nbuild\t-compiler=gc\n";
        add_modules(list, &mut records);
        let found: Vec<_> = records.into_packages().into_iter().map(|one| (one.name, one.version)).collect();
        let expected = [
            ("example.org/app", "(devel)"),
            ("golang.org/x/text", "v0.3.0"),
            ("example.org/new", "v1.2.0"),
            ("example.org/local", "(devel)"),
        ];
        assert_eq!(found, expected.map(|(name, version)| (name.to_string(), version.to_string())));
    }

    #[test]
    fn strings_after_their_lengths() {
        assert_eq!(inline(&[2, b'a', b'b', 9]), Some((&b"ab"[..], &[9][..])));
        assert_eq!(inline(&[3, b'a', b'b']), None);
        assert_eq!(inline(&[0xff; 12]), None);
    }
}
