//! How a service starts, refuses to start, and ends.

use crate::running::{Client, Site};

#[test]
fn it_listens_answers_and_ends_by_a_signal() {
    let site = Site::sqlite();
    let running = site.start("");
    let health = Client::new(&running.url("health"));
    assert_eq!(health.get("/healthz").expect(200).text(), "ok\n");
    let ready = health.get("/readyz").expect(200).json();
    assert_eq!((&ready["ready"], &ready["store"]), (&true.into(), &"ok".into()));
    assert!(health.get("/metrics").expect(200).text().ends_with("# EOF\n"));
    assert_eq!(Client::new(&running.url("api")).get("/healthz").expect(200).text(), "ok\n");
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log:#?}");
    assert!(log.iter().any(|message| message["message"] == "the service ended"), "{log:#?}");
}
