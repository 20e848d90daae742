//! The rules: the engine that looks for them, files of them, and every one of those that are built in.

#[path = "../support/mod.rs"]
mod support;

mod engine;
mod foreign_rules;
mod keywords;
mod signatures;
