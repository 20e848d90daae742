//! The form of a bill of materials for Harbor, `application/vnd.security.sbom.report+json; version=1.0`.
//!
//! Harbor takes the field `sbom`, an object, as it is, and pushes it to the repository as an accessory of the image. It
//! asks for SPDX unless an operator's client asks for something else.

use jiff::Timestamp;
use layersift_model::parse;
use serde_json::{Value, json};

use crate::harbor::document::Scanner;
use crate::harbor::scan_request::Artifact;

/// Bytes of a bill. Harbor gives a poll 5 seconds.
const MOST_BYTES: usize = 32 << 20;

/// A form that bills are made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// SPDX 2.3.
    Spdx,
    /// CycloneDX 1.6.
    CycloneDx,
}

impl Form {
    /// Every form, the one first that Harbor asks for.
    pub const ALL: [Form; 2] = [Form::Spdx, Form::CycloneDx];

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Form::Spdx => "application/spdx+json",
            Form::CycloneDx => "application/vnd.cyclonedx+json",
        }
    }

    /// The first form of `media_types` that there is; SPDX where none is asked for.
    pub fn of(media_types: &[String]) -> Option<Form> {
        if media_types.is_empty() {
            return Some(Form::Spdx);
        }
        media_types.iter().find_map(|asked| Form::ALL.into_iter().find(|form| form.media_type() == asked))
    }
}

/// A report with the bill `bill`, which is JSON.
///
/// # Errors
/// A sentence, for a bill that is too large.
pub fn report(bill: Vec<u8>, form: Form, artifact: &Artifact, version: &str) -> Result<Vec<u8>, String> {
    if bill.len() > MOST_BYTES {
        return Err(format!("the bill of materials has more than {MOST_BYTES} bytes"));
    }
    let bill: Value = parse::json(&bill).map_err(|error| error.to_string())?;
    let report = json!({
        "generated_at": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "artifact": artifact,
        "scanner": Scanner::layersift(version),
        "media_type": form.media_type(),
        "sbom": bill,
    });
    Ok(report.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_first_that_there_is() {
        let of = |media_types: &[&str]| Form::of(&media_types.iter().map(|one| (*one).to_string()).collect::<Vec<_>>());
        assert_eq!(of(&[]), Some(Form::Spdx));
        assert_eq!(of(&["text/spdx", "application/vnd.cyclonedx+json"]), Some(Form::CycloneDx));
        assert_eq!(of(&["text/spdx"]), None);
    }
}
