//! Tools of the system that a test may have to do without.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// The name of a program that is not installed.
pub fn missing(program: &str) -> Option<String> {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    (!found).then(|| program.to_string())
}

/// What is missing to use [`podman`].
pub fn missing_for_podman() -> Option<String> {
    missing("podman").or_else(|| (!is_root()).then(|| "root, for podman".to_string()))
}

/// `podman` with everything that it keeps below `work`. Its driver `vfs` keeps the root file system after each layer in
/// a directory, so nothing is mounted.
pub fn podman(work: &Path) -> Command {
    let mut command = Command::new("podman");
    command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
    for (option, folder) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
        command.arg(option).arg(work.join(folder));
    }
    command
}

/// Writes a line that the test harness does not keep to itself.
pub fn say(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
