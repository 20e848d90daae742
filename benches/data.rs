//! Data for benchmarks: the same bytes on every run, made from files of the project.

use std::path::Path;

use tar::{Builder, Header};

/// Bytes of files in [`layer`].
pub const SIZE: usize = 64 << 20;

/// A file of an image.
pub struct File {
    name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Files like those of an image, `size` bytes of them: mostly binary, then text and scripts without line ends, then
/// what is compressed already. A few hold secrets.
pub fn files(size: usize) -> Vec<File> {
    let text = source_lines();
    let code = fixtures();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut files = incident();
    let mut total: usize = files.iter().map(|file| file.bytes.len()).sum();
    while total < size {
        let length = (1 << (10 + random.below(10))) + random.below(1024);
        let number = files.len();
        let (name, bytes) = match random.below(10) {
            0..5 => (format!("usr/lib/lib{number}.so"), pieces(&mut random, &code, length, b"")),
            5..7 => (format!("usr/share/{number}.txt"), pieces(&mut random, &text, length, b"\n")),
            7..9 => (format!("app/node_modules/{number}/index.min.js"), pieces(&mut random, &text, length, b";")),
            _ => (format!("var/cache/{number}.bin"), random.bytes(length)),
        };
        total += bytes.len();
        files.push(File { name, bytes });
    }
    files
}

/// The uncompressed tar of a layer with [`files`].
pub fn layer() -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for file in files(SIZE) {
        builder.append_data(&mut header(&file.bytes), &file.name, &file.bytes[..]).expect("a tar in memory");
    }
    builder.into_inner().expect("a tar in memory")
}

/// What `docker save` would write of an image whose only layer is `blob`, with the uncompressed digest `diff_id`.
pub fn image(blob: &[u8], diff_id: &str) -> Vec<u8> {
    let config = format!(r#"{{"os":"linux","architecture":"amd64","rootfs":{{"diff_ids":["{diff_id}"]}}}}"#);
    let listing = r#"[{"Config":"config.json","Layers":["layer.tar"]}]"#;
    let mut builder = Builder::new(Vec::new());
    for (name, bytes) in
        [("manifest.json", listing.as_bytes()), ("config.json", config.as_bytes()), ("layer.tar", blob)]
    {
        builder.append_data(&mut header(bytes), name, bytes).expect("a tar in memory");
    }
    builder.into_inner().expect("a tar in memory")
}

fn header(bytes: &[u8]) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header
}

/// The image of the incident, its layers uncompressed as they are.
fn incident() -> Vec<File> {
    let image = include_bytes!("../testdata/incident.tar");
    vec![File { name: "srv/incident.tar".into(), bytes: image.to_vec() }]
}

/// Lines of this project's Rust sources, in the order of the files' names.
fn source_lines() -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crates"), "rs", &mut texts);
    texts.iter().flat_map(|text| text.split(|&byte| byte == b'\n')).map(|line| line.trim_ascii().to_vec()).collect()
}

/// Machine code, cut into pieces.
fn fixtures() -> Vec<Vec<u8>> {
    let mut modules = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/scan/src/confirm/cipher/fixtures"), "so", &mut modules);
    modules.iter().flat_map(|module| module.chunks(24)).map(<[u8]>::to_vec).collect()
}

fn collect(folder: &Path, extension: &str, found: &mut Vec<Vec<u8>>) {
    let entries = std::fs::read_dir(folder).expect("the sources are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|known| known == extension) {
            found.push(std::fs::read(&path).expect("a readable file"));
        }
    }
}

/// At least `length` bytes of `pool`, in any order.
fn pieces(random: &mut Random, pool: &[Vec<u8>], length: usize, between: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 256);
    while bytes.len() < length {
        bytes.extend_from_slice(&pool[random.below(pool.len())]);
        bytes.extend_from_slice(between);
    }
    bytes
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).take(length.div_ceil(8)).flatten().collect()
    }
}
