//! Content encodings (RFC 9110, section 8.4): none and gzip. What is sent on is not compressed, so that nobody reads
//! another text than was checked.

use std::io::{self, Write};
use std::mem;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use flate2::write::MultiGzDecoder;

/// Decodes a body while it arrives.
pub(crate) enum Decoder {
    Plain { most: usize },
    Gzip(Box<MultiGzDecoder<Bounded>>),
}

/// What was decoded, within a bound.
pub(crate) struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it decompresses to too many bytes"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    /// The decoder of a body with these headers, which returns at most `most` bytes at a time; `None` for an encoding
    /// that is not known.
    pub(crate) fn of(headers: &HeaderMap, most: usize) -> Option<Decoder> {
        let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
        let encoding = encodings.next().map_or(Some("identity"), |value| value.to_str().ok())?;
        if encodings.next().is_some() {
            return None;
        }
        match encoding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Decoder::Plain { most }),
            "gzip" | "x-gzip" => {
                Some(Decoder::Gzip(Box::new(MultiGzDecoder::new(Bounded { bytes: Vec::new(), most }))))
            }
            _ => None,
        }
    }

    /// Whether the body is compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        matches!(self, Decoder::Gzip(_))
    }

    /// Decodes the next bytes.
    ///
    /// # Errors
    /// For damaged data, and for more bytes than there may be at a time.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Decoder::Plain { most } if bytes.len() > *most => Err(io::ErrorKind::FileTooLarge.into()),
            Decoder::Plain { .. } => Ok(bytes),
            Decoder::Gzip(decoder) => {
                decoder.write_all(&bytes)?;
                decoder.flush()?;
                Ok(mem::take(&mut decoder.get_mut().bytes))
            }
        }
    }

    /// Decodes what is left: the body has ended.
    ///
    /// # Errors
    /// For data that was cut.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Decoder::Plain { .. } => Ok(Vec::new()),
            Decoder::Gzip(decoder) => Ok(decoder.finish()?.bytes),
        }
    }

    /// Decodes a whole body.
    ///
    /// # Errors
    /// As [`Decoder::push`] and [`Decoder::finish`].
    pub(crate) fn whole(mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = self.push(bytes)?;
        out.append(&mut self.finish()?);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decoder(encoding: &'static str, most: usize) -> Option<Decoder> {
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        Decoder::of(&headers, most)
    }

    #[test]
    fn gzip_is_decoded_as_it_arrives() {
        let body = [gzip(b"a body "), gzip(b"in two members")].concat();
        let mut decoder = decoder("gzip", 100).unwrap();
        let mut out = Vec::new();
        for byte in &body {
            out.extend(decoder.push(vec![*byte]).unwrap());
        }
        out.extend(decoder.finish().unwrap());
        assert_eq!(out, b"a body in two members");
    }

    #[test]
    fn what_is_flushed_is_not_held_back() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"first").unwrap();
        encoder.flush().unwrap();
        let first = encoder.get_ref().clone();
        assert_eq!(decoder("gzip", 100).unwrap().push(first).unwrap(), b"first");
    }

    #[test]
    fn what_cannot_be_decoded_is_an_error() {
        let body = gzip(&[b'a'; 1000]);
        assert!(decoder("gzip", 1000).unwrap().whole(body.clone()).is_ok());
        assert!(decoder("gzip", 999).unwrap().whole(body.clone()).is_err());
        assert!(decoder("gzip", 1000).unwrap().whole(body[..body.len() - 9].to_vec()).is_err());
        assert!(decoder("gzip", 1000).unwrap().whole(b"{}".to_vec()).is_err());
        assert!(decoder("identity", 3).unwrap().whole(b"abcd".to_vec()).is_err());
        assert!(decoder("br", 10).is_none() && decoder("gzip, gzip", 10).is_none());
        let mut headers = HeaderMap::new();
        for _ in 0..2 {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static("identity"));
        }
        assert!(Decoder::of(&headers, 10).is_none());
    }
}
