//! PEM: base64 between two lines that say what it is.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::KeyError;
use crate::encoding::base64;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";
const COLUMNS: usize = 64;

/// A section of a file.
pub(crate) struct Section {
    pub(crate) label: String,
    pub(crate) bytes: Vec<u8>,
}

/// The only section of `text`.
pub(super) fn only_section(text: &str) -> Result<Section, KeyError> {
    if !text.trim_start_matches(['\r', '\n', ' ']).starts_with(BEGIN) {
        return Err(KeyError::Pem);
    }
    let mut sections = sections(text).ok_or(KeyError::Pem)?;
    let section = sections.pop().filter(|_| sections.is_empty()).ok_or(KeyError::Pem)?;
    let end = text.trim_end_matches(['\r', '\n', ' ']);
    if end.ends_with(&format!("{END}{}{DASHES}", section.label)) { Ok(section) } else { Err(KeyError::Pem) }
}

/// The sections of `text`, with any text between them; `None` if one is damaged.
pub(crate) fn sections(text: &str) -> Option<Vec<Section>> {
    let mut sections = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in text.lines().map(|line| line.trim_end_matches([' ', '\r'])) {
        match &mut open {
            None => {
                if let Some(label) = line.strip_prefix(BEGIN) {
                    open = Some((label.strip_suffix(DASHES)?, String::new()));
                }
            }
            Some((label, body)) => match line.strip_prefix(END) {
                Some(end) if end.strip_suffix(DASHES)? == *label => {
                    let bytes = BASE64_STANDARD.decode(&*body).ok()?;
                    sections.push(Section { label: (*label).into(), bytes });
                    open = None;
                }
                Some(_) => return None,
                None => body.push_str(line),
            },
        }
    }
    open.is_none().then_some(sections)
}

/// `bytes` as a section.
pub(super) fn section(label: &str, bytes: &[u8]) -> String {
    let text = base64(bytes);
    let mut pem = format!("{BEGIN}{label}{DASHES}\n");
    for (count, char) in text.chars().enumerate() {
        if count > 0 && count % COLUMNS == 0 {
            pem.push('\n');
        }
        pem.push(char);
    }
    pem + "\n" + END + label + DASHES + "\n"
}
