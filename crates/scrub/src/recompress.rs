//! Rewrites a stored layer: decompresses it, changes it, and compresses it in the same way, or by gzip if it was
//! compressed in a way that layers should not be.

use std::io::{self, BufWriter, Read, Write};

use flate2::write::GzEncoder;
use layersift_format::compression::{Codec, DecoderMemory, Decoding, Undecoded};
use layersift_model::{Algorithm, Digest, Hasher};

use crate::edit::{self, Edit};

/// The compression level of Zstandard, which is its default.
const ZSTD_LEVEL: i32 = 3;

/// A layer that was written.
pub(crate) struct Written {
    pub(crate) digest: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
    /// How it is compressed now.
    pub(crate) codec: Codec,
}

/// How a layer is compressed that was compressed by `codec`: OCI's image-spec has no media types for others than these,
/// and many programs do not read them.
pub(crate) fn written_codec(codec: Codec) -> Codec {
    match codec {
        Codec::Xz | Codec::Bzip2 => Codec::Gzip,
        Codec::Plain | Codec::Gzip | Codec::Zstd => codec,
    }
}

/// Writes the layer `stored`, which is compressed by `codec`, with `edits` to `output`.
pub(crate) fn rewrite(
    stored: impl Read + Send,
    codec: Codec,
    edits: &[Edit],
    output: impl Write,
) -> io::Result<Written> {
    let (undecoded, memory) = (Undecoded::default(), |_| Some(Box::new(()) as DecoderMemory));
    let mut plain = codec.reader(stored, Decoding { undecoded: &undecoded, memory: &memory })?;
    let mut blob = Hashing { output: BufWriter::new(output), hasher: Hasher::new(Algorithm::Sha256), size: 0 };
    let codec = written_codec(codec);
    let diff_id = match codec {
        Codec::Plain => edited(&mut plain, edits, &mut blob)?,
        Codec::Gzip | Codec::Xz | Codec::Bzip2 => {
            let mut encoder = GzEncoder::new(&mut blob, flate2::Compression::default());
            let diff_id = edited(&mut plain, edits, &mut encoder)?;
            encoder.finish()?;
            diff_id
        }
        Codec::Zstd => {
            let mut encoder = zstd::Encoder::new(&mut blob, ZSTD_LEVEL)?;
            let diff_id = edited(&mut plain, edits, &mut encoder)?;
            encoder.finish()?;
            diff_id
        }
    };
    blob.output.flush()?;
    Ok(Written { digest: blob.hasher.finish(), diff_id, size: blob.size, codec })
}

fn edited(plain: &mut dyn Read, edits: &[Edit], output: &mut dyn Write) -> io::Result<Digest> {
    let mut hashed = Hashing { output, hasher: Hasher::new(Algorithm::Sha256), size: 0 };
    edit::apply(plain, edits, &mut hashed)?;
    Ok(hashed.hasher.finish())
}

/// Hashes what is written through it.
struct Hashing<W> {
    output: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
