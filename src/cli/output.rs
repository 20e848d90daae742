//! What the program prints: reports on standard output or to a file, warnings and errors on standard error. Nothing
//! else in the program prints.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::Context;
use layersift_model::json_output;

use super::output_file::{self, Readers};
use super::printable::{self, Printable, PrintableWriter};
use super::progress;

const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// Writes `bytes` to `file`, or to standard output. Colours only go to a terminal.
pub(crate) fn write(bytes: &[u8], file: Option<&Path>) -> anyhow::Result<()> {
    stream(file, |out| out.write_all(bytes))
}

/// Writes `bytes` to standard output for a program that has to read them. If it has closed its end, that is an error.
pub(crate) fn answer(bytes: &[u8]) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(Printable::new(bytes).as_bytes())?;
    out.flush()
}

/// Whether standard output is the null device, as it also is if it was closed when the program started: Rust opens
/// that device then, so that no file takes the place of standard output.
#[cfg(unix)]
pub(crate) fn is_discarded() -> bool {
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let output = io::stdout().as_fd().try_clone_to_owned();
    let output = output.and_then(|output| std::fs::File::from(output).metadata());
    match (output, std::fs::metadata("/dev/null")) {
        (Ok(output), Ok(null)) => output.file_type().is_char_device() && output.rdev() == null.rdev(),
        _ => false,
    }
}

/// Whether standard output is the null device.
#[cfg(not(unix))]
pub(crate) fn is_discarded() -> bool {
    false
}

/// Writes what `write` writes, as [`write()`] does, while it comes: a report may be larger than the memory for it.
pub(crate) fn stream(file: Option<&Path>, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    stream_for(Readers::AsUsual, file, write)
}

/// As [`stream`], to a file that only `readers` may read.
pub(crate) fn stream_for(
    readers: Readers,
    file: Option<&Path>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    let printed = |out: &mut dyn Write, is_plain: bool| {
        let mut out = PrintableWriter::new(out, is_plain);
        write(&mut out)?;
        out.finish()
    };
    match file {
        Some(path) => output_file::write(path, readers, |out| printed(out, true)),
        None => match printed(&mut anstream::stdout().lock(), false) {
            // The reader of the pipe has seen enough; the verdict is the same.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            outcome => outcome.context("cannot write to standard output"),
        },
    }
}

/// `value` as indented JSON with a line feed at its end.
pub(crate) fn pretty(value: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    json_output::write_pretty(&mut bytes, value)?;
    Ok(String::from_utf8(bytes)? + "\n")
}

/// Prints warnings, a line each.
pub(crate) fn warn<T: AsRef<str>>(warnings: impl IntoIterator<Item = T>) {
    for warning in warnings {
        error_line(&format!(
            "{}warning:{} {}",
            WARNING.render(),
            WARNING.render_reset(),
            printable::message(warning.as_ref())
        ));
    }
}

/// Prints the error that ends the program, with what caused it.
pub(crate) fn error(error: &anyhow::Error) {
    error_line(&format!("layersift: {}", one_line(error)));
}

/// Prints what is wrong with the arguments, or the help that they ask for. Returns the exit status.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    // Help quotes nothing.
    let cleaned = error.use_stderr().then(|| printable::lines(&text)).filter(|cleaned| *cleaned != text);
    match cleaned {
        Some(cleaned) => error_line(cleaned.trim_end()),
        // If nobody listens, nobody can be told.
        None => drop(error.print()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// An error with what caused it, without control characters.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    printable::message(&chain(error.chain()))
}

/// Asks a question on standard error, without ending the line.
pub(crate) fn prompt(question: &str) {
    // If standard error is closed, nobody can be asked; the answer is then read all the same.
    let _ = anstream::stderr().lock().write_all(Printable::new(question.as_bytes()).as_bytes());
}

/// Standard error, around the progress bar.
pub(crate) fn error_line(line: &str) {
    // If standard error is closed, nobody can be told.
    let line = format!("{line}\n");
    let line = Printable::new(line.as_bytes());
    let _ = progress::without_bars(|| anstream::stderr().lock().write_all(line.as_bytes()));
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
