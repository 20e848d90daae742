//! `verify-gone --wait`: whatever a registry does, the time is kept, and what it did not say in time is not known.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Run, layersift};

const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A server that handles each request, by its first line, on a thread of its own: the address.
fn server(handle: impl Fn(&str, TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let handle = Arc::new(handle);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                while lines.next().is_some_and(|line| !line.is_empty()) {}
                handle(&first, stream);
            });
        }
    });
    host
}

fn answer(mut stream: TcpStream, head: &str, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

/// Says nothing for longer than any test takes.
fn hang(_stream: TcpStream) {
    thread::sleep(Duration::from_secs(3_600));
}

fn verify(host: &str) -> Run {
    let image = format!("docker://{host}/team/app@{DIGEST}");
    layersift(&["verify-gone", "--plain-http", "--anonymous", "-q", "--wait", "2s", "--format", "json", &image])
}

#[test]
fn a_registry_that_takes_its_time_has_not_said_that_anything_is_gone() {
    let busy = |_: &str, stream| answer(stream, "429 Too Many Requests\r\nRetry-After: 3600", "{\"errors\":[]}");
    let trickling = |_: &str, mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n");
        while stream.write_all(b" ").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    };
    for host in [server(busy), server(trickling), server(|_, stream| hang(stream))] {
        let report = verify(&host).expect(3).json();
        assert_eq!(report["things"][0]["state"], "unknown", "{report}");
        let reason = report["things"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("deadline exceeded"), "{reason}");
    }
}

#[test]
fn what_was_served_is_still_said_when_the_registry_falls_silent() {
    let asked: Mutex<HashSet<String>> = Mutex::default();
    let host = server(move |first, stream| {
        let is_again = first.starts_with("HEAD") && !asked.lock().unwrap().insert(first.to_string());
        if is_again { hang(stream) } else { answer(stream, "200 OK", "{}") }
    });
    let report: Value = verify(&host).expect(1).json();
    assert_eq!(report["things"][0]["state"], "served", "{report}");
}
