//! The `layersift` program: runs the command line and exits with its status.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
