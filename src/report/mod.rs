//! Reports: what a scan says, in the forms that people and programs read. None of them shows a secret unasked.

pub mod json;
pub mod layers;
pub mod size;
pub mod text;
