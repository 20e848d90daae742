//! Encodings: encodings in which a secret is not visible as plain text, and their decoders.
//!
//! Only a few bytes are ever decoded. Every match of a signature contains a keyword. The engine searches for the
//! encoded forms of all keywords, the [`encoded_keywords`], together with all other patterns. Where it finds one, the
//! run of bytes around it is [decoded](decode) and scanned like any other bytes, which includes further encodings.

mod decode;

pub(crate) use decode::decode_lines;
pub use decode::{Decoded, decode};
pub use layersift_rules::{EncodedKeyword, Encoding, Keyword, encoded_keywords};
