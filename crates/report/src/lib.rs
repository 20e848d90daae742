//! Reports: what a scan says, in the forms that people and programs read. None of them shows a secret unasked.

mod exceptions;
pub mod json;
pub mod layers;
pub mod policy;
pub mod size;
pub mod text;

/// How a report is written, in whichever form.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Shows the raw values of secrets.
    pub show_secrets: bool,
    /// Leaves versions and durations out, for comparisons.
    pub reproducible: bool,
}
