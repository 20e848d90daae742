//! Models and their cards.
//!
//! Sources: ggml, `gguf.md`; Hugging Face, "Safetensors: format" and "Model Cards"; TensorFlow Lite, `schema.fbs`. The
//! bytes tell what a file is; only ONNX, which has no mark of its own, is told by its name too.

use layersift_model::{AiMarkKind, AiRecord};

use super::{front_matter, record};
use crate::bytes::{le32, le64, slice};
use crate::fields::text;

/// The longest key of a GGUF file.
const MAX_KEY: u64 = 65_535;

/// Keys of a card that only models have.
const CARD_KEYS: [&str; 3] = ["base_model", "library_name", "pipeline_tag"];

/// The form of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelFormat {
    /// GGUF, of llama.cpp and Ollama.
    Gguf,
    /// Safetensors, of Hugging Face.
    Safetensors,
    /// ONNX.
    Onnx,
    /// TensorFlow Lite.
    TfLite,
}

impl ModelFormat {
    /// The form by the name of the file.
    pub(super) fn at(name: &[u8]) -> Option<ModelFormat> {
        let extension = &name[memchr::memrchr(b'.', name)? + 1..];
        let known: [(&[u8], ModelFormat); 4] = [
            (b"gguf", ModelFormat::Gguf),
            (b"safetensors", ModelFormat::Safetensors),
            (b"onnx", ModelFormat::Onnx),
            (b"tflite", ModelFormat::TfLite),
        ];
        known.into_iter().find(|(known, _)| extension.eq_ignore_ascii_case(known)).map(|(_, format)| format)
    }

    /// The form by the first bytes, whatever the name: Ollama's files are named for their digests.
    pub(super) fn of_head(head: &[u8]) -> Option<ModelFormat> {
        match head {
            [b'G', b'G', b'U', b'F', ..] => Some(ModelFormat::Gguf),
            [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Some(ModelFormat::TfLite),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            ModelFormat::Gguf => "GGUF",
            ModelFormat::Safetensors => "Safetensors",
            ModelFormat::Onnx => "ONNX",
            ModelFormat::TfLite => "TensorFlow Lite",
        }
    }

    /// The model that begins with `bytes`, unless it only has the name of one.
    pub(super) fn read(self, bytes: &[u8]) -> Option<AiRecord> {
        let is_one = match self {
            ModelFormat::Gguf | ModelFormat::TfLite => ModelFormat::of_head(bytes) == Some(self),
            // The length of the header, and the header.
            ModelFormat::Safetensors => le64(bytes, 0)? > 1 && bytes.get(8) == Some(&b'{'),
            // The version of the format, a small number.
            ModelFormat::Onnx => matches!(bytes, [0x08, 1..=32, ..]),
        };
        let detail = match self {
            ModelFormat::Gguf => format!("a model in the form {}{}", self.name(), gguf(bytes)),
            _ => format!("a model in the form {}", self.name()),
        };
        is_one.then(|| record(AiMarkKind::Model, Some(self.name()), &detail))
    }
}

/// What a GGUF file says about its model, as far as it is in its first bytes.
fn gguf(bytes: &[u8]) -> String {
    let mut said = String::new();
    let mut at = 24;
    let count = le64(bytes, 16).unwrap_or_default();
    for _ in 0..count.min(1_000) {
        let Some((key, value)) = string_entry(bytes, &mut at) else { break };
        if matches!(key, b"general.name" | b"general.architecture" | b"general.license") {
            let key = key.strip_prefix(b"general.").unwrap_or(key);
            said += &format!("; {} {}", text(key), text(value));
        }
    }
    said
}

/// The next key and its value, up to the first value that is not a short text or a number.
fn string_entry<'b>(bytes: &'b [u8], at: &mut usize) -> Option<(&'b [u8], &'b [u8])> {
    let key = string(bytes, at)?;
    let kind = le32(bytes, *at)?;
    *at += 4;
    // The types of gguf.md by their sizes; 8 is a string, 9 an array.
    let size = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        8 => return Some((key, string(bytes, at)?)),
        _ => return None,
    };
    *at += size;
    Some((key, b""))
}

fn string<'b>(bytes: &'b [u8], at: &mut usize) -> Option<&'b [u8]> {
    let length = le64(bytes, *at).filter(|length| *length <= MAX_KEY)?;
    let length = usize::try_from(length).ok()?;
    let found = slice(bytes, at.checked_add(8)?, length)?;
    *at += 8 + length;
    Some(found)
}

/// The card of a model: a `README.md` whose front matter has keys that only models have.
pub(super) fn card(bytes: &[u8]) -> Option<AiRecord> {
    let keys = front_matter(bytes).filter(|(key, _)| CARD_KEYS.contains(&&**key));
    let said: Vec<String> = keys.map(|(key, value)| format!("{key} {value}").trim().to_string()).collect();
    let base = front_matter(bytes).find(|(key, value)| key == "base_model" && !value.is_empty());
    let name = base.map(|(_, value)| value);
    let detail = format!("the card of a model: {}", said.join("; "));
    (!said.is_empty()).then(|| record(AiMarkKind::ModelCard, name.as_deref(), &detail))
}
