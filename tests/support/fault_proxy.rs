//! A proxy in front of a registry that does to its answers what bad networks and bad registries do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::server::{Answer, Request, Server};

/// What is done to an answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Nothing.
    None,
    /// Another one is given.
    Answer(Answer),
    /// The connection is cut after so many bytes of the body.
    Cut(usize),
    /// Silence after so many bytes of the body.
    Silence(usize),
    /// One byte of the body at a time, with a pause behind each.
    Drip(Duration),
    /// The byte at this place of the body is another one.
    Flip(usize),
    /// Only so many bytes, and a length that says that this is all.
    Truncate(usize),
    /// The range that was asked for is not passed on, and the body is cut after so many bytes, if there is a number.
    NoRange(Option<usize>),
    /// The header `Content-Range` is this one.
    ContentRange(&'static str),
    /// The body never ends.
    Endless,
    /// This header is added.
    Header(&'static str, String),
}

/// Starts a proxy for the registry at `port`. `script` says what happens to each request, told how many requests came
/// before it for the same path.
pub fn start(port: u16, script: impl Fn(&Request, usize) -> Fault + Send + Sync + 'static) -> Server {
    Server::start(move |request, before, stream| {
        let fault = script(request, before);
        // Whoever asks may have gone; what they make of it is for the test to see.
        let _ = answer(port, request, &fault, stream);
    })
}

fn answer(port: u16, request: &Request, fault: &Fault, stream: &mut TcpStream) -> std::io::Result<()> {
    if let Fault::Answer(answer) = fault {
        answer.write_to(stream);
        return Ok(());
    }
    let (mut head, mut body) = upstream(port, request, !matches!(fault, Fault::NoRange(_)))?;
    match fault {
        Fault::Flip(at) => body[*at] ^= 1,
        Fault::Truncate(length) => {
            body.truncate(*length);
            set(&mut head, "Content-Length", Some(&length.to_string()));
        }
        Fault::ContentRange(range) => set(&mut head, "Content-Range", Some(range)),
        Fault::Endless => set(&mut head, "Content-Length", None),
        Fault::Header(name, value) => set(&mut head, name, Some(value)),
        _ => {}
    }
    stream.write_all(head.as_bytes())?;
    match fault {
        Fault::Cut(length) | Fault::NoRange(Some(length)) => stream.write_all(&body[..body.len().min(*length)]),
        Fault::Silence(length) => {
            stream.write_all(&body[..body.len().min(*length)])?;
            wait_for_end(stream)
        }
        Fault::Drip(pause) => body.iter().try_for_each(|byte| {
            stream.write_all(&[*byte])?;
            stream.flush()?;
            std::thread::sleep(*pause);
            Ok(())
        }),
        Fault::Endless => loop {
            stream.write_all(&[b'x'; 4096])?;
        },
        _ => stream.write_all(&body),
    }
}

/// Waits until the other side hangs up.
fn wait_for_end(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read_to_end(&mut Vec::new()).map(|_| ())
}

/// What the registry answers: the head with its empty line, and the body.
fn upstream(port: u16, request: &Request, range: bool) -> std::io::Result<(String, Vec<u8>)> {
    let mut registry = TcpStream::connect(("127.0.0.1", port))?;
    let mut text = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        let drop = name.eq_ignore_ascii_case("connection") || (!range && name.eq_ignore_ascii_case("range"));
        if !drop {
            text += &format!("{name}: {value}\r\n");
        }
    }
    registry.write_all((text + "\r\n").as_bytes())?;
    registry.write_all(&request.body)?;
    let mut bytes = Vec::new();
    registry.read_to_end(&mut bytes)?;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("the registry answers in HTTP") + 4;
    let body = bytes.split_off(end);
    Ok((String::from_utf8(bytes).expect("headers are text"), body))
}

/// Sets a header of a head, or takes it away.
fn set(head: &mut String, name: &str, value: Option<&str>) {
    let is_other = |line: &&str| !line.to_ascii_lowercase().starts_with(&format!("{}:", name.to_ascii_lowercase()));
    let mut lines: Vec<String> =
        head.split("\r\n").filter(|line| !line.is_empty()).filter(is_other).map(str::to_string).collect();
    lines.extend(value.map(|value| format!("{name}: {value}")));
    *head = lines.join("\r\n") + "\r\n\r\n";
}
