//! A stand-in of the side of Harbor 2.16 that scans: it asks a scanner adapter as core and jobservice do, stores what
//! is answered in tables as theirs, refuses pulls, serves the images, and lets an operator's robot ask for scans.
//!
//! `testdata/recordings/harbor/scanner/` has what a real one did, and `tests/serve/harbor_stand_in.rs` compares. Every
//! wait is multiplied by [`Setup::pace`]; the limit of a call, [`Setup::limit`], is not. What an adapter must not do,
//! although Harbor bears it, is noted as a violation.

mod adapter;
mod go_json;
mod jobs;
mod metadata;
mod policy;
mod registry;
mod rest;
mod state;
mod table;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use super::artifacts::Artifact;
use super::full_harbor::{Account, FullHarbor, State as Listings};
use super::image::digest;
use super::server::{Answer, Request, Server};
use super::{DEADLINE, full_harbor};
use metadata::Cache;
use state::{Image, State};

pub use adapter::{Adapter, Auth};
pub use metadata::Metadata;
pub use policy::Settings;
pub use state::{Call, Status};
pub use table::Row;

/// How a stand-in behaves.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The name that the scanner is registered with.
    pub name: String,
    /// What every wait is multiplied by: those before polls, and the 30 seconds for which metadata is remembered.
    pub pace: f64,
    /// How long a call may take with its body.
    pub limit: Duration,
    /// How many scans are polled for at once.
    pub workers: usize,
    /// How long tokens for the registry are good.
    pub token_lifetime: Duration,
    /// How long [`HarborScanner::wait_all`] waits.
    pub patience: Duration,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            name: "Layersift".into(),
            pace: 0.01,
            limit: Duration::from_secs(5),
            workers: 10,
            token_lifetime: Duration::from_secs(1_800),
            patience: DEADLINE,
        }
    }
}

/// What became of a scan that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    Queued,
    /// It is being scanned: 409.
    Busy(Status),
    /// The scanner does not take it, or does not say what it takes: 400.
    Unsupported(String),
}

/// What "scan all" did with each artifact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanAll {
    pub total: usize,
    pub submitted: usize,
    pub conflicts: usize,
    pub unsupported: usize,
}

/// What threads share.
struct Shared {
    setup: Setup,
    /// Accounts and listings.
    harbor: FullHarbor,
    host: Mutex<String>,
    metadata: Mutex<Cache>,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether blobs are given.
    is_open: AtomicBool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn url(&self) -> String {
        format!("http://{}", self.host.lock().unwrap())
    }

    fn paced(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds).mul_f64(self.setup.pace)
    }

    /// What the adapter says of itself, asked for if it is not remembered.
    fn metadata(&self) -> Result<Metadata, String> {
        let adapter = self.state().adapter.clone().ok_or("no scanner is registered")?;
        self.metadata.lock().unwrap().get(&adapter, self.setup.limit, self.paced(30))
    }

    /// Changes how far a scan is, unless there is a newer one.
    fn change<T>(
        &self,
        digest: &str,
        id: &str,
        is_sbom: bool,
        change: impl FnOnce(&mut Status, &mut Option<String>) -> T,
    ) -> Option<T> {
        let mut state = self.state();
        match is_sbom {
            true => state.sboms.get_mut(digest).map(|sbom| change(&mut sbom.status, &mut sbom.log)),
            false => {
                let report = state.reports.get_mut(digest).filter(|report| report.id == id);
                report.map(|report| change(&mut report.status, &mut report.log))
            }
        }
    }
}

/// A stand-in that is running.
pub struct HarborScanner {
    shared: Arc<Shared>,
    server: Server,
}

impl HarborScanner {
    /// Starts one without a scanner.
    pub fn start(setup: Setup) -> HarborScanner {
        let workers = setup.workers;
        let shared = Arc::new(Shared {
            setup,
            harbor: FullHarbor::start(Listings { lock: Duration::ZERO, ..Listings::new() }),
            host: Mutex::default(),
            metadata: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            is_open: AtomicBool::new(true),
        });
        let answering = Arc::clone(&shared);
        let server = Server::start(move |request: &Request, _, stream| {
            let answer = answering.answer(request);
            match request.method.as_str() {
                "HEAD" => head(&answer, stream),
                _ => answer.write_to(stream),
            }
        });
        *shared.host.lock().unwrap() = server.host();
        for _ in 0..workers {
            let shared = Arc::clone(&shared);
            // Reports may be nested deeply.
            let thread = std::thread::Builder::new().stack_size(64 << 20);
            thread.spawn(move || jobs::work(&shared)).unwrap();
        }
        HarborScanner { shared, server }
    }

    /// The registry's host and port, where the interface of its own is as well.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// `http://HOST`.
    pub fn url(&self) -> String {
        self.shared.url()
    }

    /// All requests that the registry and the interface of its own got.
    pub fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    /// Registers a scanner as an operator does, for all projects, after asking what it is. Whatever was found stays.
    pub fn register(&self, url: &str, auth: Auth) -> Result<Metadata, String> {
        let adapter = Adapter { url: url.into(), auth };
        let metadata = Metadata::ask(&adapter, self.shared.setup.limit)?;
        self.shared.state().adapter = Some(adapter);
        *self.shared.metadata.lock().unwrap() = Cache::default();
        Ok(metadata)
    }

    /// What is remembered of the scanner's metadata, or what it says now.
    pub fn metadata(&self) -> Result<Metadata, String> {
        self.shared.metadata()
    }

    /// How often metadata were asked for since the scanner was registered.
    pub fn metadata_asked(&self) -> usize {
        self.shared.metadata.lock().unwrap().asked()
    }

    /// Makes a project or changes its settings.
    pub fn set_project(&self, name: &str, settings: Settings) {
        let project = full_harbor::Project { is_public: settings.is_public, ..full_harbor::Project::default() };
        let mut harbor = self.shared.harbor.state();
        harbor.projects.entry(name.into()).or_insert(project).is_public = settings.is_public;
        drop(harbor);
        self.shared.state().settings.insert(name.into(), settings);
    }

    /// Makes an account of the operator. `may_scan` is the right `scan:create`, or that to start scans.
    pub fn add_account(&self, name: &str, account: Account, may_scan: bool) {
        self.shared.harbor.state().accounts.insert(name.into(), account);
        if may_scan {
            self.shared.state().may_scan.insert(name.into());
        }
    }

    /// Pushes an artifact to a repository such as `team/app`, with a tag unless that is empty, and gives its digest. It
    /// is scanned if the project says so and the scanner is in reach.
    pub fn push(&self, repository: &str, tag: &str, artifact: &Artifact) -> String {
        let project = repository.split('/').next().unwrap();
        if !self.shared.state().settings.contains_key(project) {
            self.set_project(project, Settings::default());
        }
        let root = digest(&artifact.manifests.last().unwrap().1);
        let name = if tag.is_empty() { repository.to_string() } else { format!("{repository}:{tag}") };
        self.shared.harbor.state().push_manifest(&name, artifact.manifests.last().unwrap().1.clone());
        let auto_scan = {
            let mut state = self.shared.state();
            state.blobs.extend(artifact.blobs.iter().map(|blob| (digest(blob), Arc::new(blob.clone()))));
            for (media_type, manifest) in &artifact.manifests {
                let image = image(&state, media_type, manifest);
                let found = state.repositories.entry(repository.into()).or_default();
                if !found.iter().any(|(known, _)| *known == image.digest) {
                    found.push((image.digest.clone(), Vec::new()));
                }
                state.images.insert(image.digest.clone(), image);
            }
            let artifacts = state.repositories.get_mut(repository).unwrap();
            artifacts.iter_mut().for_each(|(_, tags)| tags.retain(|known| known != tag));
            let (_, tags) = artifacts.iter_mut().find(|(known, _)| *known == root).unwrap();
            tags.extend((!tag.is_empty()).then(|| tag.to_string()));
            state.settings[project].auto_scan
        };
        if auto_scan {
            self.shared.begin(repository, &root, "vulnerability");
        }
        root
    }

    /// Deletes an artifact. A scan of it goes on.
    pub fn delete(&self, repository: &str, digest: &str) {
        let mut state = self.shared.state();
        state.repositories.get_mut(repository).unwrap().retain(|(known, _)| known != digest);
        if !state.repositories.values().flatten().any(|(known, _)| known == digest) {
            state.reports.remove(digest);
        }
        drop(state);
        self.shared.harbor.state().artifacts(repository).retain(|artifact| artifact.digest != digest);
    }

    /// Asks for a scan as an administrator: 202, 400, 404 or 409.
    pub fn scan(&self, repository: &str, reference: &str) -> Answer {
        self.shared.ask("admin", repository, reference, b"")
    }

    /// Asks for an SBOM.
    pub fn scan_sbom(&self, repository: &str, reference: &str) -> Answer {
        self.shared.ask("admin", repository, reference, br#"{"scan_type":"sbom"}"#)
    }

    /// Stops a scan.
    pub fn stop(&self, repository: &str, reference: &str) -> Answer {
        self.shared.stop(repository, reference)
    }

    /// Queues a scan of every artifact; `None` while the one before goes on.
    pub fn scan_all(&self) -> Option<ScanAll> {
        let all: Vec<(String, String)> = {
            let mut state = self.shared.state();
            if state.scans_all && !is_idle(&state) {
                return None;
            }
            state.scans_all = true;
            let children: Vec<String> = state.images.values().flat_map(|image| image.children.clone()).collect();
            let listed = state.repositories.iter().flat_map(|(name, artifacts)| {
                artifacts.iter().map(|(digest, tags)| (name.clone(), digest.clone(), tags.is_empty()))
            });
            // The images of an index are not artifacts of their own, unless they have a tag.
            let is_own = |(_, digest, untagged): &(String, String, bool)| !(*untagged && children.contains(digest));
            listed.filter(is_own).map(|(name, digest, _)| (name, digest)).collect()
        };
        let mut done = ScanAll { total: all.len(), ..ScanAll::default() };
        for (repository, digest) in all {
            match self.shared.begin(&repository, &digest, "vulnerability") {
                Asked::Queued => done.submitted += 1,
                Asked::Busy(_) => done.conflicts += 1,
                Asked::Unsupported(_) => done.unsupported += 1,
            }
        }
        Some(done)
    }

    /// Waits until no scan is queued or running.
    #[track_caller]
    pub fn wait_all(&self) {
        jobs::wait_until(&self.shared, "all scans", is_idle);
    }

    /// Waits until a condition holds of the calls so far.
    #[track_caller]
    pub fn wait_for_calls(&self, what: &str, is_so: impl Fn(&[Call]) -> bool) {
        jobs::wait_until(&self.shared, what, |state| is_so(&state.calls));
    }

    /// How far the scan of an image is; `None` where there was none.
    pub fn status(&self, digest: &str) -> Option<Status> {
        self.shared.state().reports.get(digest).map(|report| report.status)
    }

    /// How many images have each status.
    pub fn statuses(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for report in self.shared.state().reports.values() {
            *found.entry(format!("{:?}", report.status)).or_default() += 1;
        }
        found
    }

    /// Why a scan failed, as the job's log has it.
    pub fn log(&self, digest: &str) -> Option<String> {
        self.shared.state().reports.get(digest).and_then(|report| report.log.clone())
    }

    /// Seconds that Harbor would have waited before each poll of the last scan.
    pub fn waits(&self, digest: &str) -> Vec<u8> {
        self.shared.state().reports.get(digest).map(|report| report.waits.clone()).unwrap_or_default()
    }

    /// The overview of an image or an index, null where there is none.
    pub fn overview(&self, digest: &str) -> Value {
        self.shared.state().overview(digest).unwrap_or_default()
    }

    /// The report that Harbor's page shows, `{}` where there is none.
    pub fn report(&self, digest: &str) -> Value {
        let mut all = self.shared.state().vulnerabilities(digest);
        all.get_mut(state::REPORT).map(Value::take).unwrap_or_else(|| serde_json::json!({}))
    }

    /// The findings of an image or an index, as Harbor's page shows them.
    pub fn vulnerabilities(&self, digest: &str) -> Vec<Value> {
        self.report(digest)["vulnerabilities"].as_array().cloned().unwrap_or_default()
    }

    /// The SBOM of an image, and how far its scan is.
    pub fn sbom(&self, digest: &str) -> Option<(Status, Value, Option<String>)> {
        let state = self.shared.state();
        state.sboms.get(digest).map(|sbom| (sbom.status, sbom.report.clone(), sbom.log.clone()))
    }

    /// A row of the table.
    pub fn row(&self, id: &str, package: &str, version: &str) -> Option<Row> {
        self.shared.state().table.row(&(id.into(), package.into(), version.into())).cloned()
    }

    /// The whole table, in the order in which its rows were made.
    pub fn rows(&self) -> Vec<Row> {
        self.shared.state().table.rows().into_iter().cloned().collect()
    }

    /// How many rows the table has.
    pub fn row_count(&self) -> usize {
        self.shared.state().table.count()
    }

    /// Why a pull is refused to everyone but the scanner.
    pub fn refused(&self, repository: &str, digest: &str) -> Option<String> {
        self.shared.refused(repository, digest)
    }

    /// All calls to the adapter but those for metadata.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// The longest call.
    pub fn slowest(&self) -> Duration {
        self.calls().iter().map(|call| call.took).max().unwrap_or_default()
    }

    /// Scans that were asked for by name: whoever asked, repository and digest.
    pub fn asked(&self) -> Vec<(String, String, String)> {
        self.shared.state().asked.clone()
    }

    /// Robots of tasks that have not ended.
    pub fn robots(&self) -> Vec<String> {
        self.shared.state().robots.keys().cloned().collect()
    }

    /// What the adapter did that it must not.
    pub fn violations(&self) -> Vec<String> {
        self.shared.state().violations.clone()
    }

    /// Holds blobs back.
    pub fn close(&self) {
        self.shared.is_open.store(false, Ordering::Relaxed);
    }

    /// Gives blobs again.
    pub fn open(&self) {
        self.shared.is_open.store(true, Ordering::Relaxed);
    }
}

impl Drop for HarborScanner {
    fn drop(&mut self) {
        // A test that failed may have left it poisoned.
        self.shared.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner).has_ended = true;
        self.shared.changed.notify_all();
        self.open();
    }
}

fn is_idle(state: &State) -> bool {
    state.queue.is_empty() && state.working == 0
}

/// An image as its manifest says it is.
fn image(state: &State, media_type: &str, manifest: &[u8]) -> Image {
    let document: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let digest_of = |entry: &Value| entry["digest"].as_str().unwrap_or_default().to_string();
    let children: Vec<String> = document["manifests"].as_array().into_iter().flatten().map(digest_of).collect();
    let layers = document["layers"].as_array().into_iter().flatten().chain([&document["config"]]);
    let below: u64 = layers.filter_map(|entry| entry["size"].as_u64()).sum();
    let images: u64 = children.iter().filter_map(|child| state.images.get(child)).map(|image| image.size).sum();
    Image {
        digest: digest(manifest),
        media_type: media_type.into(),
        manifest: Arc::new(manifest.to_vec()),
        config: document["config"]["mediaType"].as_str().unwrap_or_default().into(),
        size: manifest.len() as u64 + below + images,
        children,
    }
}

/// An answer without its body, whose length it says.
fn head(answer: &Answer, stream: &mut impl std::io::Write) {
    let mut whole = Vec::new();
    answer.write_to(&mut whole);
    whole.truncate(whole.len() - answer.body.len());
    // Whoever asks may have gone.
    let _ = stream.write_all(&whole);
}
