//! Envoy's `ext_authz` over HTTP: the request of a client with its method, its path and its body, before it is sent on.
//!
//! Envoy sends on what the client sent, whatever is answered, so what would be masked is denied. Media type and
//! encoding are only there if its configuration names them: the bytes tell.

use std::io::Read;

use layersift_format::compression::{Codec, Decoding, Undecoded};
use layersift_prompts::{Client, Decision, Gate, Verdict};

use super::media::Media;

/// What Envoy shows of a request.
pub(crate) struct Shown<'r> {
    /// The path and the query of the client.
    pub(crate) path: &'r str,
    pub(crate) body: &'r [u8],
    /// What the body is, where Envoy shows its media type.
    pub(crate) media: Media,
    /// Whether Envoy shows an encoding of the body that is not known.
    pub(crate) is_encoded: bool,
    /// Whether `body` is only the beginning: the whole of it goes on.
    pub(crate) is_partial: bool,
}

/// The verdict: allow or deny.
pub(crate) fn check(gate: &Gate, shown: &Shown<'_>, client: Client<'_>) -> Verdict {
    if shown.is_partial {
        return Gate::unreadable("only the beginning of the body was shown");
    }
    let in_url = gate.check_url(shown.path, client);
    if in_url.decision != Decision::Allow || shown.body.is_empty() {
        return in_url;
    }
    if shown.is_encoded {
        return Gate::unreadable("its Content-Encoding is neither gzip nor zstd");
    }
    match decompressed(shown.body, client.policy.max_bytes) {
        Ok(None) => denied(shown.media.check(gate, shown.body, None, client)),
        Ok(Some(body)) => denied(shown.media.check(gate, &body, None, client)),
        Err(()) => Gate::unreadable("the body is compressed and cannot be decompressed"),
    }
}

/// A verdict that masks denies.
fn denied(verdict: Verdict) -> Verdict {
    match verdict.decision {
        Decision::Mask => Verdict { decision: Decision::Deny, copy: None, ..verdict },
        Decision::Allow | Decision::Deny => verdict,
    }
}

/// The uncompressed body, one byte more than `most` at most; `None` if the body is not compressed.
fn decompressed(body: &[u8], most: usize) -> Result<Option<Vec<u8>>, ()> {
    let codec = Codec::detect(body);
    if !matches!(codec, Codec::Gzip | Codec::Zstd) {
        return Ok(None);
    }
    let undecoded = Undecoded::default();
    // The limit on bytes bounds the memory.
    let decoding = Decoding { undecoded: &undecoded, memory: &|_| Some(Box::new(())) };
    let mut out = Vec::new();
    let reader = codec.reader(body, decoding).map_err(|_| ())?;
    reader.take(most as u64 + 1).read_to_end(&mut out).map_err(|_| ())?;
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_bodies_are_read_up_to_the_limit() {
        // Five bytes in a stored block of gzip (RFC 1952).
        let body = [
            &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..],
            &[1, 5, 0, 0xfa, 0xff],
            b"hello",
            &[0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0],
        ]
        .concat();
        assert_eq!(decompressed(&body, 100), Ok(Some(b"hello".to_vec())));
        assert_eq!(decompressed(&body, 3), Ok(Some(b"hell".to_vec())));
        assert_eq!(decompressed(&body[..14], 100), Err(()));
        assert_eq!(decompressed(b"{}", 100), Ok(None));
    }
}
