//! File contents with a structure: text with lines, executables with sections and symbols, archives, package records.

pub mod archive;
pub mod binary;
pub mod head_tail;
pub mod records;
pub mod text;
