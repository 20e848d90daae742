//! Writers of archives and executables, as far as the tests need them.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};

/// A jar with a record of Maven and other members.
pub(crate) fn jar(name: &str, version: &str, members: &[(&str, &[u8])]) -> Vec<u8> {
    let record = format!("groupId=org.sample\nartifactId={name}\nversion={version}\n");
    let path = format!("META-INF/maven/org.sample/{name}/pom.properties");
    let own: [(&str, &[u8]); 2] =
        [("META-INF/MANIFEST.MF", b"Manifest-Version: 1.0\r\n\r\n"), (&path, record.as_bytes())];
    zip(&[&own, members].concat())
}

/// A zip archive of deflated members, whose checksums are left out.
pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, contents) in members {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(contents).unwrap();
        let packed = encoder.finish().unwrap();
        let offset = u32::try_from(bytes.len()).unwrap();
        // Flags, method, time, date, checksum, sizes, and the lengths of the name and of the extra field.
        let mut common = vec![0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
        common.extend(u32::try_from(contents.len()).unwrap().to_le_bytes());
        common.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        common.extend([0, 0]);
        bytes.extend(b"PK\x03\x04\x14\0");
        bytes.extend(&common);
        bytes.extend(name.bytes());
        bytes.extend(packed);
        directory.extend(b"PK\x01\x02\x14\0\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.bytes());
    }
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    let (offset, size) = (u32::try_from(bytes.len()).unwrap(), u32::try_from(directory.len()).unwrap());
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, count].concat());
    bytes.extend([size.to_le_bytes(), offset.to_le_bytes()].concat());
    bytes.extend([0, 0]);
    bytes
}

/// `bytes`, compressed with zlib.
pub(crate) fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The build information of Go 1.18 and later.
pub(crate) fn go_information(version: &str, modules: &str) -> Vec<u8> {
    let mut bytes = b"\xff Go buildinf:\x08\x02".to_vec();
    bytes.resize(32, 0);
    let framed = [&[1; 16][..], modules.as_bytes(), &[2; 16]].concat();
    for text in [version.as_bytes(), &framed] {
        let mut length = text.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(text);
    }
    bytes
}

/// A 64-bit ELF file with these sections.
pub(crate) fn elf(sections: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut names = vec![0];
    let mut body = Vec::new();
    let mut headers = vec![0; 64];
    let section = |name: usize, kind: u32, offset: usize, size: usize| {
        let mut header = [name as u32, kind].map(u32::to_le_bytes).concat();
        header.extend([0, 0, offset as u64, size as u64].map(u64::to_le_bytes).concat());
        header.extend([0_u32, 0].map(u32::to_le_bytes).concat());
        header.extend([1_u64, 0].map(u64::to_le_bytes).concat());
        header
    };
    for (name, data) in sections {
        headers.extend(section(names.len(), 1, 64 + body.len(), data.len()));
        names.extend(name.bytes());
        names.push(0);
        body.extend(data);
    }
    let name = names.len();
    names.extend(b".shstrtab\0");
    headers.extend(section(name, 3, 64 + body.len(), names.len()));
    body.extend(names);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2_u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([0, 0, 64 + body.len() as u64].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    let count = sections.len() as u16 + 2;
    file.extend([64, 56, 0, 64, count, count - 1].map(u16::to_le_bytes).concat());
    [file, body, headers].concat()
}
