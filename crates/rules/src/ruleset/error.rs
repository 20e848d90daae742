//! Why rules cannot be used.

use std::path::PathBuf;

use layersift_model::ParseError;

/// Why rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A file that cannot be read.
    #[error("{path}: cannot read the file")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A file that is not TOML, or has a field that signature files do not have, or lacks one.
    #[error("{file}: invalid signature file")]
    Parse {
        /// The file.
        file: String,
        /// The error, with line and column.
        source: ParseError,
    },
    /// The rules of this build are damaged.
    #[error("the rules that come with this build are damaged")]
    BuiltIn(#[source] ParseError),
    /// The compressed examples of this build are damaged.
    #[error("the examples that come with this build are damaged")]
    Examples(#[source] ParseError),
    /// A file in the format of another scanner without a rule that can be used.
    #[error("{file}: none of its rules can be used: {reasons}")]
    Useless {
        /// The file.
        file: String,
        /// Why the rules were left out.
        reasons: String,
    },
    /// Two rules with one id, or two lists with one name.
    #[error("{file}: `{id}` is already defined in {other}; choose another name")]
    Duplicate {
        /// The file of the second definition.
        file: String,
        /// The id.
        id: String,
        /// The file of the first definition.
        other: String,
    },
    /// An id that is not of the form `provider.token`.
    #[error("{file}: invalid id `{id}`: expected lower-case words joined by `-`, and at least one `.`")]
    Id {
        /// The file.
        file: String,
        /// The id.
        id: String,
    },
    /// A rule without a text that reports need.
    #[error("{file}: {id}: `{field}` is empty; describe the rule in it")]
    Missing {
        /// The file.
        file: String,
        /// The rule's id.
        id: String,
        /// The empty field.
        field: &'static str,
    },
    /// A signature that names a list that does not exist.
    #[error("{file}: {id}: unknown reject list `{list}`: expected a name in `[reject-lists]`")]
    RejectList {
        /// The file.
        file: String,
        /// The rule's id.
        id: String,
        /// The name of the list.
        list: String,
    },
}
