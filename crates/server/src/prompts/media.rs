//! What a body is, as far as its headers say: a form of HTML with its boundary, or anything else that tells by itself.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use layersift_prompts::{Client, Form, Gate, Verdict, is_form_bounded_by};

use super::forwarded::is_utf8;

/// What a body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    /// `multipart/form-data` with its boundary.
    Form(String),
    /// Parts of another kind, or a form without a boundary.
    OtherParts,
    /// Text in another encoding than UTF-8, which whoever gets it may read in another way.
    NotUtf8,
    /// The body tells.
    Other,
}

impl Media {
    /// What these headers say.
    pub(crate) fn of(headers: &HeaderMap) -> Media {
        if !is_utf8(headers) {
            return Media::NotUtf8;
        }
        let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
        let kind = kind.trim().to_ascii_lowercase();
        if !kind.starts_with("multipart/") {
            return Media::Other;
        }
        let mut boundaries = parameters
            .split(';')
            .filter_map(|field| field.split_once('='))
            .filter(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"));
        match (boundaries.next(), boundaries.next()) {
            (Some((_, boundary)), None) if kind == "multipart/form-data" => {
                Media::Form(boundary.trim().trim_matches('"').to_string())
            }
            _ => Media::OtherParts,
        }
    }

    /// Checks a body that is this. `form` is the form that its path says.
    pub(crate) fn check(&self, gate: &Gate, body: &[u8], form: Option<Form>, client: Client<'_>) -> Verdict {
        match self {
            Media::Form(boundary) if is_form_bounded_by(body, boundary) => {
                gate.check(body, Some(Form::Multipart), client)
            }
            Media::Form(_) => Gate::unreadable("it does not begin with the boundary that its Content-Type names"),
            Media::OtherParts => Gate::unreadable("it has parts of another kind than multipart/form-data"),
            Media::NotUtf8 => Gate::unreadable("its Content-Type does not say UTF-8"),
            Media::Other => gate.check(body, form, client),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn media(value: &'static str) -> Media {
        Media::of(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]))
    }

    #[test]
    fn forms_have_one_boundary() {
        for value in ["multipart/form-data; boundary=b", "Multipart/Form-Data;charset=utf-8;Boundary=\"b\""] {
            assert_eq!(media(value), Media::Form("b".into()), "{value}");
        }
        for value in ["multipart/form-data", "multipart/mixed; boundary=b", "multipart/form-data;boundary=a;boundary=b"]
        {
            assert_eq!(media(value), Media::OtherParts, "{value}");
        }
        assert_eq!(media("application/json"), Media::Other);
        assert_eq!(media("multipart/form-data; boundary=b; charset=utf-16"), Media::NotUtf8);
    }
}
