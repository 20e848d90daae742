//! The `layersift` program: hands its arguments to the library's command line and exits with its status.

use std::process::ExitCode;

fn main() -> ExitCode {
    match layersift::cli::run() {
        Ok(code) => code,
        Err(error) => {
            // A reader that closed the pipe has seen enough.
            if layersift::cli::is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            anstream::eprintln!("layersift: {error:#}");
            ExitCode::from(2)
        }
    }
}
