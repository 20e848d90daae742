//! Content: what the files of a layer are, beyond their bytes: text with lines, executables with sections and symbols,
//! records that say which package owns which path.

pub mod archive;
pub mod binary;
pub mod keep;
pub mod records;
pub mod text;
