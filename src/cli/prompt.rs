//! Passwords that are typed at a terminal, which shows nothing of them.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, ensure};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The password that somebody types after `prompt`; `None` where nobody is asked, because standard input or standard
/// error is not a terminal.
pub(crate) fn password(prompt: &str) -> anyhow::Result<Option<String>> {
    let (input, mut output) = (io::stdin(), io::stderr());
    if !input.is_terminal() || !output.is_terminal() {
        return Ok(None);
    }
    let silent = Silent::begin().context("cannot keep the terminal from showing the password")?;
    write!(output, "{prompt}: ")?;
    output.flush()?;
    let mut line = String::new();
    let read = input.lock().read_line(&mut line);
    drop(silent);
    // The end of the line was not shown either.
    writeln!(output)?;
    ensure!(read.context("cannot read the password")? > 0, "no password was typed");
    let password = line.strip_suffix('\n').unwrap_or(&line);
    Ok(Some(password.strip_suffix('\r').unwrap_or(password).into()))
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silent {
    before: Termios,
}

impl Silent {
    fn begin() -> io::Result<Silent> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // What was typed before the question is not the answer.
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Silent { before })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // There is nothing else to try.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
