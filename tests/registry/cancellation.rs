//! Cancellations and deadlines: every wait of the registry client ends with them, and with an error that says so.
//!
//! All other limits are so long that a wait that ignored the cancellation would not end.

use std::io::Read;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::fault_proxy::{self, Fault};
use crate::support::pull::{options, registry};
use crate::support::registry::Registry;
use crate::support::server::{Answer, Server};
use layersift_format::{CancelReason, Cancellation, SourceError};
use layersift_model::Digest;
use layersift_source::catalog::{Catalog, CatalogError, Filter, WholeRegistry};
use layersift_source::registry::{At, Rate, RegistryError, RegistryOptions, Retry};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(100);

/// Options whose every limit is long, with a deadline that is short.
fn with_deadline() -> RegistryOptions {
    RegistryOptions {
        stall_timeout: LONG,
        connect_timeout: LONG,
        retry: Retry { attempts: u32::MAX, first_wait: LONG, longest_wait: LONG, longest_retry_after: LONG },
        resumptions: u32::MAX,
        cancellation: Cancellation::with_deadline(SHORT),
        ..options()
    }
}

/// A server that accepts connections, reads requests and answers none.
fn silent() -> Server {
    Server::start(|_, _, stream| drop(stream.read_to_end(&mut Vec::new())))
}

fn manifest(server: &Server, options: RegistryOptions) -> RegistryError {
    registry(&server.host(), options).manifest("team/app", &At::Tag("v1".into())).unwrap_err()
}

/// Checks that an error is the deadline's, in all its forms.
fn assert_deadline(error: RegistryError) {
    let expected = CancelReason::DeadlineExceeded;
    assert!(matches!(error, RegistryError::Cancelled { reason, .. } if reason == expected), "{error:?}");
    assert!(error.is_temporary());
    assert_eq!(CancelReason::of(&error), Some(expected));
    let error = SourceError::from(error);
    assert!(error.is_temporary() && error.to_string().contains("deadline exceeded"), "{error}");
    assert_eq!(CancelReason::of(&error), Some(expected));
}

#[test]
fn a_server_that_never_answers() {
    assert_deadline(manifest(&silent(), with_deadline()));
}

#[test]
fn retries_and_the_wait_that_a_registry_asks_for() {
    for answer in [Answer::new(503, ""), Answer::new(429, "").with("Retry-After", "3600")] {
        let server = Server::answering(move |_, _| answer.clone());
        let error = manifest(&server, with_deadline());
        assert!(error.to_string().contains(", while waiting after status"), "{error}");
        assert_deadline(error);
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn rate_limits() {
    let server = Server::answering(|_, _| Answer::new(200, "x".repeat(100)));
    let requests = Rate { requests_per_second: NonZeroU32::new(1), ..Rate::default() };
    let asked = registry(&server.host(), RegistryOptions { rate: requests, ..with_deadline() });
    let at = At::Tag("v1".into());
    let error = (0..1_000).find_map(|_| asked.manifest("team/app", &at).err()).unwrap();
    assert_deadline(error);
    let bytes = Rate { bytes_per_second: NonZeroU64::new(1), ..Rate::default() };
    assert_deadline(manifest(&server, RegistryOptions { rate: bytes, ..with_deadline() }));
}

#[test]
fn a_body_that_stalls_and_a_body_that_is_cut() {
    let server = Registry::filled(&["team/app:v1"]);
    for fault in [Fault::Silence(4), Fault::Cut(4)] {
        let proxy = fault_proxy::start(server.port, move |_, _| fault.clone());
        assert_deadline(manifest(&proxy, with_deadline()));
    }
}

#[test]
fn a_blocked_read_is_woken_by_a_cancellation() {
    let server = Registry::filled(&["team/app:v1"]);
    let proxy = fault_proxy::start(server.port, |_, _| Fault::Silence(4));
    let known = registry(&server.host(), options()).manifest("team/app", &At::Tag("v1".into())).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&known.bytes).unwrap();
    let layer: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let cancellation = Cancellation::new();
    let asked = registry(&proxy.host(), RegistryOptions { cancellation: Cancellation::never(), ..with_deadline() });
    let mut blob = asked.with_cancellation(cancellation.clone()).blob("team/app", &layer, None).unwrap();
    blob.read_exact(&mut [0; 4]).unwrap();
    let (sender, receiver) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        sender.send(()).unwrap();
        blob.read(&mut [0; 4]).unwrap_err()
    });
    receiver.recv().unwrap();
    cancellation.cancel();
    let error = reading.join().unwrap();
    assert_eq!(CancelReason::of(&error), Some(CancelReason::Cancelled));
    let error = error.downcast::<RegistryError>().unwrap();
    assert!(error.to_string().ends_with(": cancelled"), "{error}");
}

#[test]
fn a_token_server_that_never_answers() {
    let tokens = silent();
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"made-up\"", tokens.host());
    let server = Server::answering(move |_, _| Answer::new(401, "").with("WWW-Authenticate", &challenge));
    let asked = registry(&server.host(), RegistryOptions { cancellation: Cancellation::never(), ..with_deadline() });
    // While one thread waits for the token, another one waits for that thread, each until its own deadline.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let asked = asked.with_cancellation(Cancellation::with_deadline(SHORT));
            scope.spawn(move || assert_deadline(asked.manifest("team/app", &At::Tag("v1".into())).unwrap_err()));
        }
    });
}

#[test]
fn nothing_is_sent_after_a_cancellation() {
    let server = Server::answering(|_, _| Answer::new(200, "{}"));
    let cancellation = Cancellation::new();
    cancellation.cancel();
    let options = RegistryOptions { cancellation, ..options() };
    let error = manifest(&server, options.clone());
    assert_eq!(CancelReason::of(&error), Some(CancelReason::Cancelled), "{error}");
    let catalog = WholeRegistry::new(registry(&server.host(), options));
    let errors: Vec<CatalogError> = catalog.entries(&Filter::default()).map(Result::unwrap_err).collect();
    assert!(errors.len() == 1 && errors[0].is_whole() && errors[0].is_temporary(), "{errors:?}");
    assert_eq!(CancelReason::of(&errors[0]), Some(CancelReason::Cancelled));
    assert!(server.requests().is_empty());
}

#[test]
fn a_cancellation_that_does_not_come_changes_nothing() {
    let server = Registry::filled(&["team/app:v1"]);
    let at = At::Tag("v1".into());
    let plain = registry(&server.host(), options()).manifest("team/app", &at).unwrap();
    let asked = registry(&server.host(), RegistryOptions { cancellation: Cancellation::new(), ..options() });
    assert_eq!(asked.manifest("team/app", &at).unwrap(), plain);
    let manifest: serde_json::Value = serde_json::from_slice(&plain.bytes).unwrap();
    let layer: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let mut bytes = Vec::new();
    asked.blob("team/app", &layer, None).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(Digest::of(&bytes), layer);
}
