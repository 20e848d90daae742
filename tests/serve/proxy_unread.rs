//! Answers that clients of the proxy do not read: what they take of the memory for streams, and for how long.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::proxy::{Proxy, chat, events, piece};
use crate::running::eventually;
use crate::support::server::Server;

/// More large answers than fit in the memory for streams.
const MANY: usize = 12;

/// Asks for a stream, and reads only its beginning.
fn begin(proxy: &Proxy) -> (TcpStream, String) {
    let mut client = TcpStream::connect(proxy.running.url("proxy").trim_start_matches("http://")).unwrap();
    let body = chat("hi");
    let head = format!("POST /model/large HTTP/1.1\r\nHost: x\r\nx-layersift-auth: {}\r\n", proxy.token);
    write!(client, "{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut beginning = String::new();
    while !beginning.contains("data: ") {
        let mut bytes = [0; 1024];
        let read = client.read(&mut bytes).unwrap();
        assert!(read > 0, "{beginning}");
        beginning.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    (client, beginning)
}

#[test]
fn large_answers_take_memory_until_they_are_read_and_leave_some_for_others() {
    let large = piece(&"word ".repeat(1_400_000));
    let length = large.len();
    let model = Server::answering(move |request, _| match request.path.ends_with("/large") {
        true => events(large.clone()),
        false => events(piece("a few words ")),
    });
    let proxy = Proxy::start(&model.host(), "");
    let is_whole = || {
        let answer = proxy.post("/large", chat("hi")).expect(200).text();
        assert!(answer.len() == length || answer.contains("there is no memory left"), "{}", &answer[..300]);
        answer.len() == length
    };
    let mut unread = Vec::new();
    while unread.len() < MANY {
        let (client, beginning) = begin(&proxy);
        if beginning.contains("event: error") {
            break;
        }
        unread.push(client);
    }
    assert!((2..MANY).contains(&unread.len()), "{}", unread.len());
    assert!(!is_whole());
    assert_eq!(proxy.post("/small", chat("hi")).expect(200).text(), piece("a few words "));
    for mut client in unread {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert!(rest.len() > length / 2, "{}", rest.len());
    }
    eventually("memory that was given back", || is_whole().then_some(()));
}
