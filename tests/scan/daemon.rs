//! Images of a Docker daemon, over its socket: a stand-in answers as the Docker Engine API says, and podman's service
//! is one that others wrote.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::tools::{missing_for_podman, podman, say};
use crate::support::{DEADLINE, Run, findings, finish, layersift, program, text};
use tempfile::TempDir;

const INCIDENT: &str = "testdata/incident.tar";

/// A daemon that has the image of the incident as `app:1`, and breaks off in the middle of `broken:1`: the folder that
/// its socket is in, and its address. It serves until the test ends.
fn daemon() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let host = format!("unix://{}", text(&socket));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            let _ = stream.write_all(&answer(&request));
            if request.contains("slow") {
                thread::spawn(move || {
                    while stream.write_all(b"a").is_ok() {
                        thread::sleep(Duration::from_millis(20))
                    }
                });
            }
        }
    });
    (folder, host)
}

fn answer(request: &str) -> Vec<u8> {
    let image = || std::fs::read(INCIDENT).unwrap();
    let tar = |bytes: &[u8]| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        [head, bytes.chunks(10_000).flat_map(chunk).collect()].concat()
    };
    match request.split(' ').nth(1) {
        Some("/images/app:1/get") => [tar(&image()), b"0\r\n\r\n".to_vec()].concat(),
        Some("/images/broken:1/get") => tar(&image()[..30_000]),
        Some("/images/slow:1/get") => b"HTTP/1.1 500 X\r\nContent-Length: 60000\r\n\r\n{\"message\":\"".to_vec(),
        _ => {
            let body = r#"{"message":"reference does not exist\u001b[2J"}"#;
            format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        }
    }
}

fn scan(host: &str, target: &str) -> Run {
    let arguments = ["scan", "-q", "--format", "json", target];
    finish(program().args(arguments).env("DOCKER_HOST", host), None)
}

#[test]
fn an_image_of_the_daemon_is_scanned_like_what_docker_save_writes() {
    let (_folder, host) = daemon();
    let from_daemon = scan(&host, "docker-daemon:app:1").expect(1).json();
    let from_file = layersift(&["scan", "-q", "--format", "json", INCIDENT]).expect(1).json();
    assert_eq!(findings(&from_daemon), findings(&from_file));
    assert!(!findings(&from_file).is_empty());
}

#[test]
fn what_the_daemon_does_not_give_is_an_error_that_says_why() {
    let (folder, host) = daemon();
    let missing = scan(&host, "docker-daemon:other").expect(2).stderr;
    assert!(missing.contains("`other:latest`") && missing.contains("reference does not exist"), "{missing}");
    assert!(!missing.contains('\u{1b}'), "{missing:?}");
    let broken = scan(&host, "docker-daemon:broken:1");
    assert!(broken.code == Some(2) || broken.code == Some(3), "{broken:?}");
    let nobody = scan(&format!("unix://{}/none.sock", text(folder.path())), "docker-daemon:app:1").expect(2).stderr;
    assert!(nobody.contains("none.sock") && nobody.contains("check that the daemon is running"), "{nobody}");
    let elsewhere = scan("tcp://127.0.0.1:2375", "docker-daemon:app:1").expect(2).stderr;
    assert!(elsewhere.contains("docker save"), "{elsewhere}");
    let traversal = scan(&host, "docker-daemon:../containers/json?").expect(2).stderr;
    assert!(traversal.contains("invalid image name"), "{traversal}");
}

#[test]
fn a_message_that_does_not_end_is_not_waited_for() {
    let (_folder, host) = daemon();
    let within = |time: &str| {
        let arguments = ["scan", "-q", "docker-daemon:slow:1", "--timeout", time];
        finish(program().args(arguments).env("DOCKER_HOST", &host), None)
    };
    let run = within("1s").expect(3);
    assert!(run.stderr.contains("deadline exceeded"), "{}", run.stderr);
    let run = within("1d").expect(2);
    assert!(run.stderr.contains("status 500: no message"), "{}", run.stderr);
}

/// `podman system service`, until it is dropped.
struct Service(Child);

impl Service {
    /// Starts one that keeps everything below `work`, and waits until it can be reached at `socket`.
    fn start(work: &Path, socket: &Path) -> Service {
        let mut command = podman(work);
        // It ends by itself where the test is killed.
        command.args(["system", "service", "--time", "120"]).arg(format!("unix://{}", text(socket)));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (service, started) = (Service(child), Instant::now());
        while UnixStream::connect(socket).is_err() {
            assert!(started.elapsed() < DEADLINE, "podman's service does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_image_that_podman_serves_is_scanned_like_the_file_it_was_loaded_from() {
    if let Some(missing) = missing_for_podman() {
        return say(&format!("NOT RUN: scan of an image that podman serves: missing {missing}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let loaded = finish(podman(folder.path()).args(["load", "--input", INCIDENT]), None).expect(0).stdout;
    let name = loaded.trim().rsplit_once(": ").unwrap().1;
    let socket = folder.path().join("podman.sock");
    let _service = Service::start(folder.path(), &socket);
    let served = scan(&format!("unix://{}", text(&socket)), &format!("docker-daemon:{name}")).expect(1).json();
    let from_file = layersift(&["scan", "-q", "--format", "json", INCIDENT]).expect(1).json();
    assert_eq!(findings(&served), findings(&from_file));
    assert_eq!(served["gaps"], from_file["gaps"]);
}
