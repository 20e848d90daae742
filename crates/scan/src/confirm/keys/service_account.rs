//! Key files of Google service accounts: a JSON object with the key in PEM and whose it is. Source: Google Cloud's
//! "Create and delete service account keys", as `gcloud iam service-accounts keys create` writes them.

use serde::Deserialize;

use super::{Container, PrivateKey, Reject, json, pem, printable};

#[derive(Deserialize)]
struct KeyFile {
    r#type: String,
    project_id: Option<String>,
    private_key_id: Option<String>,
    private_key: String,
    client_email: String,
}

/// Reads the key file whose object has its brace at `at` in `window`. The span is the object; the note names the
/// account.
///
/// # Errors
/// If the object is not a key file, or its private key is invalid.
pub fn service_account_at(window: &[u8], at: usize) -> Result<PrivateKey, Reject> {
    let (file, end) = json::object_at::<KeyFile>(window, at)?;
    if file.r#type != "service_account" || !file.client_email.contains('@') {
        return Err(Reject::NotAKey);
    }
    let text = file.private_key.as_bytes();
    let begin = text.iter().position(|byte| *byte == b'-').ok_or(Reject::NoLabel)?;
    // The text is complete, whatever its end looks like.
    let key = pem::pem_at(text, begin).map_err(|why| if why == Reject::Truncated { Reject::NoEnd } else { why })?;
    if key.encrypted {
        return Err(Reject::NotAKey);
    }
    let mut note = format!("of {}", printable(file.client_email.as_bytes()));
    for (name, value) in [("project", &file.project_id), ("private_key_id", &file.private_key_id)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            note += &format!(", {name} {}", printable(value.as_bytes()));
        }
    }
    Ok(PrivateKey { container: Container::ServiceAccount, span: at..end, note: Some(note), ..key })
}
