//! Entries of a tar as bytes, with no opinion on what is valid.
//!
//! Sources: POSIX `pax`, "ustar Interchange Format" and "pax Header Block"; GNU tar, "Basic Tar Format".

/// The size of a block in bytes.
pub const BLOCK: usize = 512;

/// A header, what stands before it, and what follows it.
#[derive(Clone)]
pub struct Entry {
    /// Extended headers and long names.
    pub before: Vec<u8>,
    pub header: [u8; BLOCK],
    pub data: Vec<u8>,
    /// What fills the last block of the data.
    pub padding: Vec<u8>,
}

impl Entry {
    pub fn file(name: &str, data: Vec<u8>) -> Entry {
        Entry::new(name, b'0', "", data)
    }

    pub fn directory(name: &str) -> Entry {
        Entry::new(&format!("{name}/"), b'5', "", Vec::new())
    }

    /// A symbolic or hard link.
    pub fn link(kind: u8, name: &str, target: &str) -> Entry {
        Entry::new(name, kind, target, Vec::new())
    }

    pub fn new(name: &str, kind: u8, link: &str, data: Vec<u8>) -> Entry {
        let mut header = [0; BLOCK];
        put(&mut header, 0, 100, name.as_bytes());
        put(&mut header, 100, 8, if kind == b'5' { b"0000755\0" } else { b"0000644\0" });
        put(&mut header, 108, 8, b"0000000\0");
        put(&mut header, 116, 8, b"0000000\0");
        put(&mut header, 124, 12, &octal(data.len()));
        put(&mut header, 136, 12, b"00000000000\0");
        header[156] = kind;
        put(&mut header, 157, 100, link.as_bytes());
        put(&mut header, 257, 8, b"ustar\x0000");
        let padding = vec![0; data.len().next_multiple_of(BLOCK) - data.len()];
        Entry { before: Vec::new(), header, data, padding }.checked()
    }

    /// Replaces a field of the header, and the checksum.
    pub fn set(&mut self, offset: usize, length: usize, value: &[u8]) {
        put(&mut self.header, offset, length, value);
        self.header = checked(self.header);
    }

    pub fn set_name(&mut self, name: &[u8]) {
        self.set(0, 100, name);
    }

    pub fn set_kind(&mut self, kind: u8) {
        self.set(156, 1, &[kind]);
    }

    pub fn set_size(&mut self, field: &[u8]) {
        self.set(124, 12, field);
    }

    pub fn set_magic(&mut self, magic: &[u8; 8]) {
        self.set(257, 8, magic);
    }

    /// Replaces the data and the size.
    pub fn set_data(&mut self, data: Vec<u8>) {
        self.set_size(&octal(data.len()));
        self.padding = vec![0; data.len().next_multiple_of(BLOCK) - data.len()];
        self.data = data;
    }

    pub fn bytes(&self) -> Vec<u8> {
        [&self.before[..], &self.header, &self.data, &self.padding].concat()
    }

    fn checked(mut self) -> Entry {
        self.header = checked(self.header);
        self
    }
}

/// The sum of a header's bytes, with blanks in place of the checksum.
pub fn sum(header: &[u8; BLOCK]) -> u32 {
    let fields = header.iter().enumerate();
    fields.map(|(at, byte)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(*byte) }).sum()
}

/// A number as most writers write a size.
pub fn octal(number: usize) -> Vec<u8> {
    format!("{number:011o}\0").into_bytes()
}

/// A record of an extended header.
pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

/// An extended header: `kind` is `x` for one entry and `g` for all that follow.
pub fn extended(kind: u8, records: &[u8]) -> Vec<u8> {
    Entry::new("PaxHeaders/x", kind, "", records.to_vec()).bytes()
}

/// GNU's long name (`L`) or long link target (`K`).
pub fn long(kind: u8, name: &[u8]) -> Vec<u8> {
    let mut entry = Entry::new("././@LongLink", kind, "", [name, b"\0"].concat());
    entry.set_magic(b"ustar  \0");
    entry.bytes()
}

fn put(header: &mut [u8; BLOCK], offset: usize, length: usize, value: &[u8]) {
    let value = &value[..value.len().min(length)];
    header[offset..offset + length].fill(0);
    header[offset..offset + value.len()].copy_from_slice(value);
}

fn checked(mut header: [u8; BLOCK]) -> [u8; BLOCK] {
    let checksum = format!("{:06o}\0 ", sum(&header));
    header[148..156].copy_from_slice(checksum.as_bytes());
    header
}
