//! `[events]`: which registries may say what was pushed, by what their requests have in `Authorization`.

use std::path::PathBuf;

use serde::Deserialize;

/// Who may say what was pushed. What has no file is not answered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Events {
    /// A file with what Harbor sends in `Authorization`, which is its `auth_header`: one text in a line, of which each
    /// is accepted.
    pub harbor_auth: Option<PathBuf>,
    /// The same for Distribution.
    pub distribution_auth: Option<PathBuf>,
}

impl Events {
    /// Whether nobody may.
    pub(super) fn is_empty(&self) -> bool {
        self.harbor_auth.is_none() && self.distribution_auth.is_none()
    }
}
