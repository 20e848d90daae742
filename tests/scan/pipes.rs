//! Pipes in the place of files: one that somebody writes or reads is used, and others are waited for no longer than the
//! time of the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::support::image::{Layer, archive, oci};
use crate::support::tar::Tar;
use crate::support::{finish, layersift, program, text};
use tempfile::TempDir;

/// A folder with an image and a pipe.
fn with_a_pipe() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (image, pipe) = (folder.path().join("image.tar"), folder.path().join("pipe"));
    let layer = Layer::plain(Tar::new().file("etc/os", "x").finish());
    fs::write(&image, archive(&oci(&[layer]))).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    (folder, image, pipe)
}

/// A key to verify with, beside `image`.
fn public_key(image: &Path) -> String {
    let (name, password) = (image.with_file_name("attest"), image.with_file_name("password"));
    fs::write(&password, "made-up").unwrap();
    layersift(&["generate-key", text(&name), "--password-file", text(&password)]).expect(0);
    format!("{}.pub", name.display())
}

#[test]
fn a_pipe_that_nobody_writes_to_is_waited_for_as_long_as_the_command_may_take() {
    let (_folder, image, pipe) = with_a_pipe();
    let scan = ["scan", text(&image), "-q", "--timeout", "1s"];
    for flag in ["--policy", "--baseline", "--rules", "--fingerprint-key", "--dockerfile"] {
        let run = layersift(&[&scan[..], &[flag, text(&pipe)]].concat()).expect(3);
        let expected = format!("cannot read {}: deadline exceeded", pipe.display());
        assert!(run.stderr.contains(&expected), "{flag}: {}", run.stderr);
    }
    let attest = ["attest", text(&image), "-o", "/nowhere/x", "--timeout", "1s", "--key", text(&pipe)];
    assert!(layersift(&attest).expect(3).stderr.contains("deadline exceeded"));
    let gone = ["verify-gone", "--wait", "1s", "--changes", text(&pipe)];
    assert!(layersift(&gone).expect(3).stderr.contains("deadline exceeded"));
    // Where the registry is asked, nothing listens.
    let verify = ["verify", "docker://127.0.0.1:1/x:1", "--plain-http", "--anonymous", "--timeout", "1s"];
    let public = public_key(&image);
    for flags in [
        &["--key", text(&pipe)][..],
        &["--key", &public, "--policy", text(&pipe)],
        &["--key", &public, "--baseline", text(&pipe)],
        &["--key", &public, "--timestamp-authorities", text(&pipe)],
    ] {
        let run = layersift(&[&verify[..], flags].concat()).expect(3);
        assert!(run.stderr.contains("deadline exceeded"), "{flags:?}: {}", run.stderr);
    }
    let digest = format!("sha256:{}", "0".repeat(64));
    let bundle = ["verify", &digest, "--timeout", "1s", "--key", &public, "--bundle", text(&pipe)];
    assert!(layersift(&bundle).expect(3).stderr.contains("deadline exceeded"));
    let store = image.with_file_name("s.db");
    let list = ["sweep", "list", text(&pipe), "--max-time", "1s", "--store", text(&store)];
    assert!(layersift(&list).expect(3).stderr.contains("deadline exceeded"));
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error_at_the_end_of_the_time() {
    let (_folder, image, pipe) = with_a_pipe();
    let run = layersift(&["scan", text(&image), "-q", "--timeout", "1s", "-o", text(&pipe)]).expect(3);
    assert!(run.stderr.contains(&format!("cannot write {}", pipe.display())), "{}", run.stderr);
    let (public, bundle) = (public_key(&image), image.with_file_name("bundle"));
    fs::write(&bundle, "").unwrap();
    let digest = format!("sha256:{}", "0".repeat(64));
    let verify = ["verify", &digest, "--timeout", "1s", "--key", &public, "--bundle", text(&bundle), "-o", text(&pipe)];
    let run = layersift(&verify).expect(3);
    assert!(run.stderr.contains(&format!("cannot write {}", pipe.display())), "{}", run.stderr);
}

/// What a shell says of the command, whose arguments may have its `<(command)`.
fn in_a_shell(command: &str, image: &Path) -> crate::support::Run {
    let mut shell = Command::new("bash");
    shell.args(["-c", command, "bash"]).arg(program().get_program()).arg(image);
    finish(&mut shell, None)
}

#[test]
fn a_pipe_with_somebody_at_its_other_end_is_used() {
    let (_folder, image, pipe) = with_a_pipe();
    for time in ["", "--timeout 60s"] {
        let policy = format!("exec \"$1\" scan \"$2\" -q {time} --policy <(printf 'fail-on = \"high\"\\n')");
        in_a_shell(&policy, &image).expect(0);
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).unwrap()
        });
        let written = format!("exec \"$1\" scan \"$2\" -q {time} --format json -o {}", pipe.display());
        in_a_shell(&written, &image).expect(0);
        assert!(serde_json::from_str::<serde_json::Value>(&reader.join().unwrap()).is_ok());
    }
}
