//! What the program prints: reports on standard output or to a file, warnings and errors on standard error. Nothing
//! else in the program prints.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use anstyle::{AnsiColor, Style};
use anyhow::Context;

use super::output_file::{self, Readers};
use super::progress;

const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// Writes `bytes` to `file`, or to standard output. Colours only go to a terminal.
pub(crate) fn write(bytes: &[u8], file: Option<&Path>) -> anyhow::Result<()> {
    write_for(Readers::AsUsual, bytes, file)
}

/// As [`write`], to a file that only `readers` may read.
pub(crate) fn write_for(readers: Readers, bytes: &[u8], file: Option<&Path>) -> anyhow::Result<()> {
    match file {
        Some(path) => {
            // Only text has colours; JSON has no escape sequences.
            let plain = anstream::adapter::strip_bytes(bytes).into_vec();
            output_file::write(path, &plain, readers)
        }
        None => {
            let mut out = anstream::stdout().lock();
            match out.write_all(bytes).and_then(|()| out.flush()) {
                // The reader of the pipe has seen enough; the verdict is the same.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                outcome => outcome.context("cannot write to standard output"),
            }
        }
    }
}

/// `value` as indented JSON with a line feed at its end.
pub(crate) fn pretty(value: &serde_json::Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Prints warnings, a line each.
pub(crate) fn warn<T: AsRef<str>>(warnings: impl IntoIterator<Item = T>) {
    for warning in warnings {
        error_line(&format!("{}warning:{} {}", WARNING.render(), WARNING.render_reset(), printable(warning.as_ref())));
    }
}

/// Prints the error that ends the program, with what caused it.
pub(crate) fn error(error: &anyhow::Error) {
    error_line(&format!("layersift: {}", one_line(error)));
}

/// An error with what caused it, without control characters.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    printable(&chain(error.chain()))
}

/// Asks a question on standard error, without ending the line.
pub(crate) fn prompt(question: &str) {
    // If standard error is closed, nobody can be asked; the answer is then read all the same.
    let _ = anstream::stderr().lock().write_all(question.as_bytes());
}

/// Standard error, around the progress bar.
pub(crate) fn error_line(line: &str) {
    // If standard error is closed, nobody can be told.
    let _ = progress::without_bars(|| writeln!(anstream::stderr().lock(), "{line}"));
}

/// The messages of an error and its sources, separated by colons. Some errors quote their source's message.
fn chain<'e>(errors: impl Iterator<Item = &'e (dyn Error + 'static)>) -> String {
    let mut text = String::new();
    for message in errors.map(ToString::to_string) {
        if text.is_empty() {
            text = message;
        } else if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
    }
    text
}

/// `text` without control characters: a message may quote an image, which must not steer the terminal.
fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\n', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_of_a_chain_stands_once() {
        let error = anyhow::anyhow!("no such file").context("cannot read x: no such file").context("policy");
        assert_eq!(chain(error.chain()), "policy: cannot read x: no such file");
        assert_eq!(chain(anyhow::anyhow!("a").chain()), "a");
    }
}
