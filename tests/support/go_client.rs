//! HTTP as Go's client speaks it: its headers in their order, a limit on the whole exchange, no redirect followed, and
//! the words of its errors.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::server::Answer;

/// The answer, or Go's words. `headers` are those between Go's own.
pub fn exchange(
    method: &str,
    url: &str,
    headers: &[(&str, String)],
    body: Option<&[u8]>,
    limit: Duration,
) -> Result<Answer, String> {
    let deadline = Instant::now() + limit;
    let verb = format!("{}{}", &method[..1], method[1..].to_lowercase());
    let named = |error: String| format!("{verb} \"{url}\": {error}");
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).unwrap();
    let mut stream = connect(host, limit).map_err(|error| named(format!("dial tcp {host}: {error}")))?;
    let path = path.replace(' ', "%20");
    let mut head = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\n");
    if let Some(body) = body {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "Accept-Encoding: gzip\r\n\r\n";
    let sent = stream.write_all(&[head.as_bytes(), body.unwrap_or_default()].concat());
    sent.map_err(|error| named(error.to_string()))?;
    let mut received = Received::default();
    loop {
        if let Some(answer) = received.answer(false)? {
            return Ok(answer);
        }
        match read_some(&mut stream, deadline) {
            Ok(bytes) if bytes.is_empty() => {
                let ended = received.answer(true)?;
                return ended.ok_or_else(|| named("EOF".into()));
            }
            Ok(bytes) => received.bytes.extend(bytes),
            Err(error) if is_late(&error) && received.head().is_some() => {
                let place = "Client.Timeout or context cancellation while reading body";
                return Err(format!("context deadline exceeded ({place})"));
            }
            Err(error) if is_late(&error) => {
                return Err(named("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into()));
            }
            Err(error) => return Err(named(error.to_string())),
        }
    }
}

fn connect(host: &str, limit: Duration) -> Result<TcpStream, String> {
    let refused = |error: std::io::Error| match error.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused".to_string(),
        _ => error.to_string(),
    };
    let address = host.parse().map_err(|error| format!("{error}"))?;
    let stream = TcpStream::connect_timeout(&address, limit).map_err(refused)?;
    stream.set_write_timeout(Some(limit)).map_err(|error| error.to_string())?;
    Ok(stream)
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn read_some(stream: &mut TcpStream, deadline: Instant) -> std::io::Result<Vec<u8>> {
    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    stream.set_read_timeout(Some(left.ok_or(ErrorKind::TimedOut)?))?;
    let mut bytes = vec![0; 64 << 10];
    let length = stream.read(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// What came so far.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
}

impl Received {
    fn head(&self) -> Option<usize> {
        self.bytes.windows(4).position(|four| four == b"\r\n\r\n")
    }

    /// The answer, once it is whole; `ended` says that no more will come.
    fn answer(&self, ended: bool) -> Result<Option<Answer>, String> {
        let Some(end) = self.head() else { return Ok(None) };
        let head = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| format!("malformed HTTP response {head:?}"))?;
        let split = lines.filter_map(|line| line.split_once(':'));
        let headers = split.map(|(name, value)| (name.to_string(), value.trim().to_string())).collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let rest = &self.bytes[end + 4..];
        let body = match (answer.header("transfer-encoding"), answer.header("content-length")) {
            (Some("chunked"), _) if rest.ends_with(b"0\r\n\r\n") || ended => unchunked(rest),
            (Some("chunked"), _) => None,
            (_, Some(length)) => {
                let length: usize = length.parse().map_err(|_| format!("bad Content-Length {length:?}"))?;
                rest.get(..length).map(<[u8]>::to_vec)
            }
            _ if matches!(status, 204 | 304) => Some(Vec::new()),
            _ => ended.then(|| rest.to_vec()),
        };
        let Some(body) = body else {
            return if ended { Err("unexpected EOF".into()) } else { Ok(None) };
        };
        answer.body = match answer.header("content-encoding") {
            Some("gzip") => {
                let mut plain = Vec::new();
                flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).map_err(|error| error.to_string())?;
                plain
            }
            _ => body,
        };
        Ok(Some(answer))
    }
}

/// The bytes of all chunks, once the last one has come.
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim();
        let length = usize::from_str_radix(length, 16).ok()?;
        let chunk = rest.get(line + 2..line + 2 + length)?;
        rest = rest.get(line + 2 + length + 2..)?;
        if length == 0 {
            return Some(body);
        }
        body.extend(chunk);
    }
}
