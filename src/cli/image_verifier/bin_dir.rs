//! The directory of containerd's verifiers: which files there are, whether each can be run, and which are ours.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The most bytes of a script that are looked at.
const MOST_BYTES: u64 = 64 << 10;

/// How long a verifier may take to refuse a call that is invalid.
const PROBE_TIME: Duration = Duration::from_secs(10);

/// A file in the directory.
pub(super) struct Entry {
    pub(super) name: String,
    path: PathBuf,
}

/// The entries in the order in which containerd runs them; `None` if there is no such directory.
///
/// # Errors
/// If it cannot be read: containerd then denies every pull.
pub(super) fn entries(directory: &Path) -> std::io::Result<Option<Vec<Entry>>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        found.push(Entry { name: entry.file_name().to_string_lossy().into_owned(), path: entry.path() });
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Some(found))
}

impl Entry {
    /// Why containerd cannot run it.
    pub(super) fn problem(&self) -> Option<String> {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) => return Some(format!("cannot be read ({error})")),
        };
        if !metadata.is_file() {
            return Some(if metadata.is_dir() { "is a directory" } else { "is not a file" }.into());
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Some("is not executable".into());
        }
        let beginning = match self.beginning() {
            Ok(beginning) => beginning,
            Err(error) => return Some(format!("cannot be read ({error})")),
        };
        if beginning.starts_with(b"\x7fELF") {
            return None;
        }
        let Some(line) = beginning.strip_prefix(b"#!") else {
            return Some("is neither a program nor a script that begins with `#!`".into());
        };
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
        let interpreter = line.split_whitespace().next().unwrap_or_default();
        (!Path::new(interpreter).is_file()).then(|| format!("needs the interpreter `{interpreter}`, which is missing"))
    }

    /// Whether it leads to this program: by its name, as a link or a copy, or as a script that runs it.
    pub(super) fn is_ours(&self) -> bool {
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let has_name = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("layersift"));
        let is_self = std::env::current_exe().and_then(fs::canonicalize).is_ok_and(|program| program == target);
        let is_script = || {
            let text = self.beginning().unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            text.starts_with("#!") && text.contains("layersift") && text.contains("image-verifier")
        };
        is_self || has_name(&self.path) || has_name(&target) || is_script()
    }

    /// Runs it as containerd would, for a digest that is invalid: it must deny, and say so itself.
    ///
    /// # Errors
    /// What it did instead.
    pub(super) fn probe(&self) -> Result<(), String> {
        let mut command = Command::new(&self.path);
        command.args(["-name", "layersift.invalid/check:1", "-digest", "check", "-stdin-media-type", "check"]);
        let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = pipes.spawn().map_err(|error| format!("cannot be run ({error})"))?;
        let stdout = child.stdout.take();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            let read = stdout.map(|stdout| stdout.take(MOST_BYTES).read_to_end(&mut text));
            drop(sender.send(read.map(|_| String::from_utf8_lossy(&text).into_owned())));
        });
        let started = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if started.elapsed() < PROBE_TIME => thread::sleep(Duration::from_millis(10)),
                _ => {
                    // It may have ended just now.
                    drop((child.kill(), child.wait()));
                    return Err(format!("does not end within {} seconds", PROBE_TIME.as_secs()));
                }
            }
        };
        let text = receiver.recv_timeout(PROBE_TIME).ok().flatten().unwrap_or_default();
        if status.code() == Some(1) && text.starts_with("layersift: denied:") {
            return Ok(());
        }
        Err(format!("does not deny an invalid call: {status}, and wrote `{}`", super::reason::clean(&text)))
    }

    fn beginning(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(&self.path)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
