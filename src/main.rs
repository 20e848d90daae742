//! The `layersift` program: hands its arguments to the library's command line and exits with its status.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run().unwrap_or_else(|error| {
        // An error may quote an image, which must not steer the terminal.
        let text = format!("{error:#}").replace(|c: char| c.is_control() && c != '\n', "\u{fffd}");
        anstream::eprintln!("layersift: {text}");
        ExitCode::from(2)
    })
}
