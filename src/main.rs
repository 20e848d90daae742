//! The `layersift` program: hands its arguments to the library's command line and exits with its status.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run().unwrap_or_else(|error| {
        // An error may quote an image, which must not steer the terminal.
        let text = one_line(&error).replace(|c: char| c.is_control() && c != '\n', "\u{fffd}");
        anstream::eprintln!("layersift: {text}");
        ExitCode::from(2)
    })
}

/// An error and its sources. Many errors have the text of their source in their own; it is not repeated.
fn one_line(error: &anyhow::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}
