//! The registry transport when things go wrong: a proxy in front of Debian's `docker-registry` cuts, stalls, redirects
//! and lies.

use std::io::Read;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::support::fault_proxy::{self, Fault};
use crate::support::pull::{Pulled, options, pull, registry, source};
use crate::support::registry::Registry;
use crate::support::server::{Answer, Request, Server};
use layersift_model::Digest;
use layersift_source::registry::{
    At, Identity, ProtocolError, Rate, Refusal, RegistryError, RegistryErrorCode, RegistryOptions,
};

/// A registry with an image, what the image is, and its largest layer.
struct Subject {
    server: Registry,
    image: Pulled,
}

impl Subject {
    fn new() -> Subject {
        let server = Registry::filled(&["team/app:v1"]);
        let image = pull(&source(&format!("{}/team/app:v1", server.host()), options())).unwrap();
        Subject { server, image }
    }

    fn layer(&self) -> &(Digest, Vec<u8>) {
        self.image.layers.iter().max_by_key(|(_, bytes)| bytes.len()).unwrap()
    }

    /// A proxy that does something to the largest layer and nothing to anything else.
    fn proxy(&self, fault: impl Fn(&Request, usize) -> Fault + Send + Sync + 'static) -> Server {
        let digest = self.layer().0.to_string();
        fault_proxy::start(self.server.port, move |request, before| {
            if request.path.ends_with(&digest) { fault(request, before) } else { Fault::None }
        })
    }

    /// The largest layer, read through a proxy.
    fn read(&self, proxy: &Server, options: RegistryOptions) -> Result<Vec<u8>, RegistryError> {
        let (digest, bytes) = self.layer();
        let mut read = Vec::new();
        let mut blob = registry(&proxy.host(), options).blob("team/app", digest, Some(bytes.len() as u64))?;
        // Far more than there is: a stream that does not end must not take all memory.
        match blob.by_ref().take(1 << 24).read_to_end(&mut read) {
            Ok(_) => Ok(read),
            Err(error) => {
                assert!(blob.read(&mut [0]).is_err(), "after an error there is nothing more");
                Err(error.downcast::<RegistryError>().unwrap())
            }
        }
    }
}

/// Whether the connection was lost too often, the last time with `text`.
fn is_lost(error: &RegistryError, text: &str) -> bool {
    matches!(error, RegistryError::ConnectionLost { .. }) && error.to_string().contains(text)
}

fn ranges(requests: &[Request]) -> Vec<Option<&str>> {
    requests.iter().map(|request| request.header("range")).collect()
}

#[test]
fn the_rest_of_a_blob_is_requested_after_a_lost_connection() {
    let subject = Subject::new();
    let bytes = &subject.layer().1;
    let proxy = subject.proxy(|_, before| if before < 3 { Fault::Cut(100) } else { Fault::None });
    assert_eq!(subject.read(&proxy, options()).unwrap(), *bytes);
    let expected = [None, Some("bytes=100-"), Some("bytes=200-"), Some("bytes=300-")];
    assert_eq!(ranges(&proxy.requests()), expected);
    assert!(bytes.len() > 300);
}

#[test]
fn a_registry_without_ranges() {
    let subject = Subject::new();
    let proxy = subject.proxy(|_, before| Fault::NoRange((before < 2).then_some(200 * (before + 1))));
    assert_eq!(subject.read(&proxy, options()).unwrap(), subject.layer().1);
    assert_eq!(ranges(&proxy.requests()), [None, Some("bytes=200-"), Some("bytes=400-")]);
}

#[test]
fn another_range_than_was_asked_for() {
    let subject = Subject::new();
    for range in ["bytes 99-200/201", "bytes */201", "bytes x-y", "", "items 100-200/201"] {
        let proxy =
            subject.proxy(move |_, before| if before == 0 { Fault::Cut(100) } else { Fault::ContentRange(range) });
        let error = subject.read(&proxy, options()).unwrap_err();
        assert!(matches!(error, RegistryError::Protocol { error: ProtocolError::Range(100), .. }), "{error}");
    }
}

#[test]
fn retries_without_progress_are_bounded() {
    let subject = Subject::new();
    let proxy = subject.proxy(|_, before| Fault::Cut(if before == 0 { 100 } else { 0 }));
    let error = subject.read(&proxy, RegistryOptions { resumptions: 3, ..options() }).unwrap_err();
    assert!(matches!(error, RegistryError::ConnectionLost { at: 100, retries: 3, .. }), "{error}");
    assert_eq!(proxy.requests().len(), 4);
}

#[test]
fn a_byte_now_and_then_is_not_progress() {
    let subject = Subject::new();
    let proxy = subject.proxy(|_, _| Fault::Cut(1));
    let error = subject.read(&proxy, RegistryOptions { resumptions: 3, ..options() }).unwrap_err();
    assert!(matches!(error, RegistryError::ConnectionLost { at: 4, retries: 3, .. }), "{error}");
}

#[test]
fn a_silent_server_is_a_lost_connection() {
    let subject = Subject::new();
    let stall_timeout = Duration::from_millis(300);
    let proxy = subject.proxy(|_, before| if before == 0 { Fault::Silence(150) } else { Fault::None });
    assert_eq!(subject.read(&proxy, RegistryOptions { stall_timeout, ..options() }).unwrap(), subject.layer().1);
    assert_eq!(ranges(&proxy.requests()), [None, Some("bytes=150-")]);

    let proxy = subject.proxy(|_, _| Fault::Silence(0));
    let error = subject.read(&proxy, RegistryOptions { stall_timeout, resumptions: 1, ..options() }).unwrap_err();
    assert!(is_lost(&error, "timed out"), "{error}");
}

#[test]
fn a_slow_server_is_a_silent_one() {
    let subject = Subject::new();
    let proxy = subject.proxy(|_, _| Fault::Drip(Duration::from_millis(50)));
    let options = RegistryOptions { stall_timeout: Duration::from_millis(400), resumptions: 1, ..options() };
    let error = subject.read(&proxy, options).unwrap_err();
    assert!(is_lost(&error, "bytes in"), "{error}");
}

#[test]
fn more_bytes_than_the_manifest_names() {
    let subject = Subject::new();
    let size = subject.layer().1.len();
    let proxy = subject.proxy(|_, _| Fault::Endless);
    assert_eq!(subject.read(&proxy, options()).unwrap().len(), size + 1);
    let options = RegistryOptions { blob_bytes: 70_000, ..options() };
    let mut blob = registry(&proxy.host(), options).blob("team/app", &subject.layer().0, None).unwrap();
    assert_eq!(std::io::copy(&mut blob.by_ref().take(1 << 24), &mut std::io::sink()).unwrap(), 70_001);
}

#[test]
fn what_is_not_read_is_not_fetched() {
    use std::io::Write;
    // It writes until nobody has taken anything for a while, and says how much that was.
    let (sender, receiver) = std::sync::mpsc::channel();
    let server = Server::start(move |_, _, stream| {
        stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let written = (0..1_u64 << 16).take_while(|_| stream.write_all(&[b'x'; 1 << 16]).is_ok()).count();
        sender.send(written << 16).unwrap();
    });
    let mut blob = registry(&server.host(), options()).blob("team/app", &Digest::of(b""), None).unwrap();
    blob.read_exact(&mut vec![0; 1 << 20]).unwrap();
    let written = receiver.recv().unwrap();
    assert!(written < 64 << 20, "{written} bytes were sent, and 1 MiB was read");
}

#[test]
fn fewer_bytes_than_the_manifest_names() {
    let subject = Subject::new();
    let proxy = subject.proxy(|_, before| if before == 0 { Fault::Truncate(120) } else { Fault::None });
    assert_eq!(subject.read(&proxy, options()).unwrap(), subject.layer().1);
    assert_eq!(ranges(&proxy.requests()), [None, Some("bytes=120-")]);

    // The manifest is wrong, and the registry has nothing more: the caller is given what there is.
    let (digest, bytes) = subject.layer();
    let mut read = Vec::new();
    let direct = registry(&subject.server.host(), options());
    direct.blob("team/app", digest, Some(bytes.len() as u64 + 10)).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, *bytes);
}

#[test]
fn wrong_bytes_of_a_blob_are_handed_on_and_of_a_document_are_not() {
    let subject = Subject::new();
    let proxy = subject.proxy(|_, _| Fault::Flip(50));
    let read = subject.read(&proxy, options()).unwrap();
    assert_ne!(Digest::of(&read), subject.layer().0);

    let proxy = fault_proxy::start(subject.server.port, |_, _| Fault::Flip(50));
    let asked = registry(&proxy.host(), options());
    let (config, manifest) = (Digest::of(&subject.image.config), &subject.image.manifest);
    for at in [At::Tag("v1".into()), At::Digest(manifest.clone())] {
        let error = asked.manifest("team/app", &at).unwrap_err();
        assert!(matches!(&error, RegistryError::DigestMismatch { expected, .. } if expected == manifest), "{error}");
    }
    let error = asked.small_blob("team/app", &config).unwrap_err();
    assert!(matches!(&error, RegistryError::DigestMismatch { expected, .. } if *expected == config), "{error}");
}

#[test]
fn another_manifest_than_the_registry_names() {
    let subject = Subject::new();
    let other = Digest::of(b"other");
    let header = other.to_string();
    let proxy =
        fault_proxy::start(subject.server.port, move |_, _| Fault::Header("Docker-Content-Digest", header.clone()));
    let error = registry(&proxy.host(), options()).manifest("team/app", &At::Tag("v1".into())).unwrap_err();
    assert!(matches!(&error, RegistryError::DigestMismatch { expected, .. } if *expected == other), "{error}");
}

#[test]
fn an_answer_without_a_manifest_that_nobody_asked_for() {
    let subject = Subject::new();
    let proxy = fault_proxy::start(subject.server.port, |_, _| Fault::Answer(Answer::new(304, "")));
    let asked = registry(&proxy.host(), options());
    let error = asked.manifest("team/app", &At::Tag("v1".into())).unwrap_err();
    assert_eq!(error.status(), Some(304), "{error:?}");
}

#[test]
fn a_manifest_is_requested_again_after_a_lost_connection() {
    let subject = Subject::new();
    let proxy =
        fault_proxy::start(subject.server.port, |_, before| if before < 2 { Fault::Cut(30) } else { Fault::None });
    let manifest = registry(&proxy.host(), options()).manifest("team/app", &At::Tag("v1".into())).unwrap();
    assert_eq!(manifest.digest, subject.image.manifest);
    let proxy = fault_proxy::start(subject.server.port, |_, _| Fault::Cut(30));
    let error = registry(&proxy.host(), options()).manifest("team/app", &At::Tag("v1".into())).unwrap_err();
    assert!(matches!(error, RegistryError::ConnectionLost { retries: 2, .. }), "{error}");
}

#[test]
fn temporary_failures_are_retried() {
    let subject = Subject::new();
    for status in [429, 500, 502, 503, 504] {
        let proxy = subject.proxy(move |_, before| match before {
            0 => Fault::Answer(Answer::new(status, "").with("Retry-After", "0")),
            1 => Fault::Answer(Answer::new(status, "").with("Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT")),
            2 => Fault::Answer(Answer::new(status, "")),
            _ => Fault::None,
        });
        assert_eq!(subject.read(&proxy, options()).unwrap(), subject.layer().1, "{status}");
        assert_eq!(proxy.requests().len(), 4, "{status}");
    }
}

#[test]
fn retries_are_bounded() {
    let subject = Subject::new();
    let always = |status| subject.proxy(move |_, _| Fault::Answer(Answer::new(status, "")));
    let proxy = always(429);
    let error = subject.read(&proxy, options()).unwrap_err();
    assert!(matches!(error, RegistryError::TooManyRequests { attempts: 6, .. }), "{error}");
    assert_eq!(proxy.requests().len(), 6);
    let proxy = always(503);
    let error = subject.read(&proxy, options()).unwrap_err();
    assert_eq!(error.status(), Some(503), "{error}");
    assert_eq!(proxy.requests().len(), 6);
    for status in [400, 403, 404, 405, 410, 412, 418, 501] {
        let proxy = always(status);
        assert!(subject.read(&proxy, options()).is_err());
        assert_eq!(proxy.requests().len(), 1, "{status}");
    }
}

#[test]
fn error_responses() {
    let said = |status: u16, body: &'static str| {
        let server = Server::answering(move |_, _| Answer::new(status, body));
        registry(&server.host(), options()).manifest("team/app", &At::Tag("v1".into())).unwrap_err()
    };
    let blocked = said(412, r#"{"errors":[{"code":"PROJECTPOLICYVIOLATION","message":"over the severity"}]}"#);
    let RegistryError::Blocked { response, .. } = &blocked else { panic!("{blocked}") };
    assert_eq!(response.message.as_deref(), Some("PROJECTPOLICYVIOLATION: over the severity"));
    assert_eq!(blocked.codes(), [RegistryErrorCode::Other("PROJECTPOLICYVIOLATION".into())]);
    assert!(blocked.to_string().contains("blocked by a policy of the registry"), "{blocked}");
    let denied = said(403, r#"{"errors":[{"code":"DENIED"}]}"#);
    assert!(matches!(denied, RegistryError::Forbidden { identity: Identity::Anonymous, .. }), "{denied}");
    assert_eq!((denied.status(), denied.codes()), (Some(403), &[RegistryErrorCode::Denied][..]));
    let missing = said(404, "<html>");
    assert!(matches!(missing, RegistryError::NotFound { .. }) && missing.codes().is_empty(), "{missing}");
    assert!(missing.to_string().contains("no credentials were used"), "{missing}");
    assert_eq!(said(418, "").status(), Some(418));
    assert!(matches!(said(401, ""), RegistryError::Unauthorized { .. }));
    assert_eq!(said(204, "").status(), Some(204));
    let busy = said(503, r#"{"errors":[{"code":"UNAVAILABLE","message":"restarting"}]}"#);
    assert!(busy.is_temporary() && busy.to_string().contains("UNAVAILABLE: restarting"), "{busy}");
}

#[test]
fn a_redirect_is_followed_without_our_credentials() {
    use layersift_source::registry::{Credentials, Login};
    let subject = Subject::new();
    let bytes = subject.layer().1.clone();
    let storage = Server::answering(move |request, before| {
        let from: usize = request.header("range").map_or(0, |range| range[6..range.len() - 1].parse().unwrap());
        let whole = Answer::new(206, &bytes[from..]).with("Content-Range", &format!("bytes {from}-9/10"));
        // The first time it breaks off; the rest is asked for anew, at the registry.
        if before == 0 { Answer::new(200, &bytes[..64]) } else { whole }
    });
    let target = format!("http://{}/signed?X-Signature=made-up", storage.host());
    let proxy = subject.proxy(move |request, _| match request.header("authorization") {
        None => Fault::Answer(Answer::new(401, "").with("WWW-Authenticate", "Basic realm=\"made-up\"")),
        Some(_) => Fault::Answer(Answer::new(307, "").with("Location", &target).with("Set-Cookie", "a=b")),
    });
    let login = Login::As(Credentials::Password { user: "someone".into(), password: "made-up".into() });
    let read = subject.read(&proxy, RegistryOptions { login, ..options() }).unwrap();
    assert_eq!(read, subject.layer().1);
    assert!(proxy.requests().iter().skip(1).all(|request| request.header("authorization").is_some()));
    let at_storage = storage.requests();
    assert_eq!(ranges(&at_storage), [None, Some("bytes=64-")]);
    for request in at_storage {
        assert!(request.header("authorization").is_none() && request.header("cookie").is_none(), "{request:?}");
        assert!(request.header("referer").is_none(), "{request:?}");
    }
}

#[test]
fn redirects_that_are_not_followed() {
    let subject = Subject::new();
    let elsewhere = [
        "http://169.254.169.254/latest/meta-data/?token=made-up",
        "http://[fe80::1]/x",
        "http://10.0.0.1/x",
        "http://192.168.0.1:2375/x",
        "http://metadata.google.internal/x",
        "http://[::ffff:169.254.169.254]/x",
        "http://2852039166/x",
        "http://user:made-up@127.0.0.1/x",
        "file:///etc/passwd",
        "gopher://127.0.0.1/x",
        "http://",
    ];
    for target in elsewhere {
        let proxy = subject.proxy(move |_, _| Fault::Answer(Answer::new(302, "").with("Location", target)));
        let error = subject.read(&proxy, options()).unwrap_err();
        assert!(matches!(error, RegistryError::Refused { .. }), "{target}: {error}");
        assert!(!error.to_string().contains("made-up"), "{error}");
        assert_eq!(proxy.requests().len(), 1, "{target}");
    }
    let proxy = subject.proxy(|_, _| Fault::Answer(Answer::new(302, "")));
    assert!(matches!(subject.read(&proxy, options()), Err(RegistryError::Refused { .. })));
}

#[test]
fn a_redirect_in_a_circle_ends() {
    let subject = Subject::new();
    let proxy = subject.proxy(|request, _| Fault::Answer(Answer::new(302, "").with("Location", &request.path)));
    let error = subject.read(&proxy, options()).unwrap_err();
    assert!(matches!(error, RegistryError::Refused { reason: Refusal::TooManyRedirects(5), .. }), "{error}");
    assert_eq!(proxy.requests().len(), 6);
}

#[test]
fn what_the_storage_says_is_not_taken_for_the_registry() {
    let subject = Subject::new();
    let storage = Server::answering(|_, _| Answer::new(401, "").with("WWW-Authenticate", "Basic realm=\"made-up\""));
    let target = format!("http://{}/signed", storage.host());
    let proxy = subject.proxy(move |_, _| Fault::Answer(Answer::new(307, "").with("Location", &target)));
    assert!(matches!(subject.read(&proxy, options()), Err(RegistryError::Unauthorized { .. })));
    assert_eq!(storage.requests().len(), 1);
}

#[test]
fn bytes_and_requests_are_counted_and_may_be_bounded() {
    let subject = Subject::new();
    let rate = Rate { requests_per_second: NonZeroU32::new(1_000), bytes_per_second: NonZeroU64::new(1 << 30) };
    let asked = registry(&subject.server.host(), RegistryOptions { rate, ..options() });
    let size = subject.layer().1.len() as u64;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let asked = asked.clone();
            let digest = &subject.layer().0;
            scope.spawn(move || {
                let mut blob = asked.blob("team/app", digest, Some(size)).unwrap();
                std::io::copy(&mut blob, &mut std::io::sink()).unwrap()
            });
        }
    });
    let usage = asked.usage();
    assert_eq!((usage.requests, usage.bytes), (4, 4 * size));
}
