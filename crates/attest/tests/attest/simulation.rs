//! A registry in simulated time, which many writers use at once. Requests take random times before and after they have
//! their effect, and reads may show what a tag named a moment ago. One writer runs at a time, so a seed repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use layersift_attest::registry::{Put, Registry};
use layersift_attest::{Descriptor, Document};
use layersift_model::Digest;
use serde_json::Value;

/// How slow requests are, in milliseconds.
const USUAL: u64 = 100;
/// One write in eight hangs before it has its effect.
const HANGING: u64 = 500;
/// How old what a read shows may be.
const STALE: u64 = 300;
/// How long from one read to the next while a write is under way.
const POLL: u64 = 50;

/// Lets one thread run at a time: the one that sleeps until the earliest moment.
struct Clock {
    state: Mutex<ClockState>,
    wake: Vec<Condvar>,
}

struct ClockState {
    now: u64,
    sleeping: BTreeSet<(u64, usize)>,
    running: usize,
    random: fastrand::Rng,
}

impl Clock {
    fn new(threads: usize, seed: u64) -> Clock {
        let random = fastrand::Rng::with_seed(seed);
        let state = ClockState { now: 0, sleeping: BTreeSet::new(), running: threads, random };
        Clock { state: Mutex::new(state), wake: (0..threads).map(|_| Condvar::new()).collect() }
    }

    fn sleep(&self, thread: usize, milliseconds: u64) {
        let mut state = self.state.lock().unwrap();
        let until = state.now + milliseconds;
        state.sleeping.insert((until, thread));
        state.running -= 1;
        self.wake_next(&mut state);
        while state.sleeping.contains(&(until, thread)) {
            state = self.wake[thread].wait(state).unwrap();
        }
    }

    fn end(&self) {
        let mut state = self.state.lock().unwrap();
        state.running -= 1;
        self.wake_next(&mut state);
    }

    fn wake_next(&self, state: &mut ClockState) {
        if state.running > 0 {
            return;
        }
        if let Some((until, thread)) = state.sleeping.pop_first() {
            state.now = until;
            state.running = 1;
            self.wake[thread].notify_one();
        }
    }
}

struct Version {
    since: u64,
    document: Document,
    entries: BTreeSet<Digest>,
}

#[derive(Default)]
struct Content {
    /// What each tag named since when.
    tags: BTreeMap<String, Vec<Version>>,
    manifests: BTreeMap<String, Document>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// Since when what refers to what.
    referrers: Vec<(u64, Digest, Descriptor)>,
    /// Entries that a writer took out of a list after the registry had shown them to it, and before it began to write.
    dropped_knowingly: Vec<(usize, Digest)>,
    /// Who took an entry out of a list last.
    dropped_by: BTreeMap<Digest, usize>,
    /// Which entries each writer was shown.
    shown: BTreeMap<usize, BTreeSet<Digest>>,
}

/// The registry for all writers.
pub(crate) struct Simulation {
    clock: Clock,
    content: Mutex<Content>,
    has_referrers: bool,
}

/// What a thread does.
pub(crate) type Writer = Box<dyn FnOnce(&Client) + Send>;

/// The registry for one writer.
pub(crate) struct Client {
    pub(crate) simulation: Arc<Simulation>,
    pub(crate) thread: usize,
}

impl Simulation {
    pub(crate) fn new(threads: usize, seed: u64, has_referrers: bool) -> Arc<Simulation> {
        let content = Mutex::new(Content::default());
        Arc::new(Simulation { clock: Clock::new(threads, seed), content, has_referrers })
    }

    /// Runs one function for each thread.
    pub(crate) fn run(self: &Arc<Self>, writers: Vec<Writer>) {
        std::thread::scope(|scope| {
            for (thread, writer) in writers.into_iter().enumerate() {
                let client = Client { simulation: self.clone(), thread };
                let seed = self.clock.state.lock().unwrap().random.u64(..);
                scope.spawn(move || {
                    fastrand::seed(seed);
                    client.wait(client.random(50));
                    writer(&client);
                    client.simulation.clock.end();
                });
            }
        });
    }

    /// What a tag lists in the end.
    pub(crate) fn listed(&self, tag: &str) -> BTreeSet<Digest> {
        let content = self.content.lock().unwrap();
        content.tags.get(tag).and_then(|versions| versions.last()).map(|last| last.entries.clone()).unwrap_or_default()
    }

    /// Who took `entry` out of a list last.
    pub(crate) fn dropped_by(&self, entry: &Digest) -> usize {
        self.content.lock().unwrap().dropped_by[entry]
    }

    /// What refers to `subject` in the end.
    pub(crate) fn referring(&self, subject: &Digest) -> BTreeSet<Digest> {
        let content = self.content.lock().unwrap();
        content.referrers.iter().filter(|(_, to, _)| to == subject).map(|(_, _, entry)| entry.digest.clone()).collect()
    }

    /// Entries that one of the `writers` was shown.
    pub(crate) fn shown_to(&self, writers: usize) -> BTreeSet<Digest> {
        let content = self.content.lock().unwrap();
        content.shown.iter().filter(|(thread, _)| **thread < writers).flat_map(|(_, shown)| shown.clone()).collect()
    }

    pub(crate) fn dropped_knowingly(&self, writers: usize) -> Vec<(usize, Digest)> {
        let content = self.content.lock().unwrap();
        content.dropped_knowingly.iter().filter(|(thread, _)| *thread < writers).cloned().collect()
    }
}

/// The digests in an index or a manifest.
fn entries(document: &Document) -> BTreeSet<Digest> {
    let value: Value = serde_json::from_slice(&document.bytes).unwrap();
    let list = value.get("manifests").or_else(|| value.get("layers")).and_then(Value::as_array).unwrap();
    list.iter().map(|entry| entry["digest"].as_str().unwrap().parse().unwrap()).collect()
}

impl Client {
    fn random(&self, most: u64) -> u64 {
        self.simulation.clock.state.lock().unwrap().random.u64(0..=most)
    }

    fn now(&self) -> u64 {
        self.simulation.clock.state.lock().unwrap().now
    }

    fn wait(&self, milliseconds: u64) {
        self.simulation.clock.sleep(self.thread, milliseconds);
    }

    /// A request: time before its effect, and after it.
    fn request<T>(&self, before: u64, effect: impl FnOnce(&mut Content, u64) -> T) -> T {
        self.wait(self.random(before));
        let answer = effect(&mut self.simulation.content.lock().unwrap(), self.now());
        self.wait(self.random(USUAL));
        answer
    }

    /// What a read of a tag shows that has its effect now.
    fn shown(&self, content: &mut Content, tag: &str, stale: u64) -> Option<Document> {
        let (now, versions) = (self.now(), content.tags.get(tag)?);
        let shown = versions.iter().rev().find(|version| version.since + stale <= now)?;
        let known = content.shown.entry(self.thread).or_default();
        let new: Vec<Digest> = shown.entries.difference(known).cloned().collect();
        known.extend(new);
        Some(shown.document.clone())
    }

    /// What this writer was shown so far.
    fn known(&self) -> BTreeSet<Digest> {
        self.simulation.content.lock().unwrap().shown.get(&self.thread).cloned().unwrap_or_default()
    }

    /// The effect of a write by somebody who began it when he was shown `known`.
    fn put(&self, content: &mut Content, reference: &str, manifest: &Document, known: &BTreeSet<Digest>) {
        let (now, digest) = (self.now(), Digest::of(&manifest.bytes));
        content.manifests.insert(digest.to_string(), manifest.clone());
        let value: Value = serde_json::from_slice(&manifest.bytes).unwrap();
        if let Some(subject) = value["subject"]["digest"].as_str() {
            content.referrers.push((now, subject.parse().unwrap(), manifest.descriptor()));
        }
        if !reference.contains(':') {
            let versions = content.tags.entry(reference.into()).or_default();
            let before = versions.last().map(|last| last.entries.clone()).unwrap_or_default();
            let entries = entries(manifest);
            for gone in before.difference(&entries) {
                content.dropped_by.insert(gone.clone(), self.thread);
                if known.contains(gone) {
                    content.dropped_knowingly.push((self.thread, gone.clone()));
                }
            }
            versions.push(Version { since: now, document: manifest.clone(), entries });
        }
    }

    /// How long a write takes before it has its effect.
    fn before_write(&self) -> u64 {
        if self.random(7) == 0 { HANGING } else { USUAL }
    }
}

impl Registry for Client {
    type Error = Infallible;

    fn manifest(&self, reference: &str) -> Result<Option<Document>, Infallible> {
        let stale = self.random(STALE);
        Ok(self.request(USUAL, |content, _| match reference.contains(':') {
            true => content.manifests.get(reference).cloned(),
            false => self.shown(content, reference, stale),
        }))
    }

    fn put_manifest(&self, reference: &str, manifest: &Document) -> Result<Put, Infallible> {
        let known = self.known();
        self.request(self.before_write(), |content, _| self.put(content, reference, manifest, &known));
        Ok(Put::Stored)
    }

    fn put_watched(&self, tag: &str, manifest: &Document) -> Result<(Put, Vec<Document>), Infallible> {
        let (known, effect) = (self.known(), self.now() + self.random(self.before_write()));
        let mut shown = Vec::new();
        let mut read = self.now() + self.random(USUAL);
        while read < effect {
            self.wait(read - self.now());
            let stale = self.random(STALE);
            shown.extend(self.shown(&mut self.simulation.content.lock().unwrap(), tag, stale));
            read += self.random(USUAL) + POLL + self.random(USUAL);
        }
        self.wait(effect - self.now());
        self.put(&mut self.simulation.content.lock().unwrap(), tag, manifest, &known);
        self.wait(self.random(USUAL));
        Ok((Put::Stored, shown))
    }

    fn blob(&self, digest: &Digest, _: u64) -> Result<Option<Vec<u8>>, Infallible> {
        Ok(self.request(USUAL, |content, _| content.blobs.get(&digest.to_string()).cloned()))
    }

    fn put_blob(&self, blob: &Document) -> Result<(), Infallible> {
        self.request(USUAL, |content, _| {
            content.blobs.insert(Digest::of(&blob.bytes).to_string(), blob.bytes.clone());
        });
        Ok(())
    }

    fn referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>, Infallible> {
        if !self.simulation.has_referrers {
            return Ok(None);
        }
        let stale = self.random(STALE);
        Ok(Some(self.request(USUAL, |content, now| {
            let shown = content.referrers.iter().filter(|(since, to, _)| to == subject && since + stale <= now);
            shown.map(|(_, _, entry)| entry.clone()).collect()
        })))
    }

    fn pause(&self, duration: Duration) -> Result<(), Infallible> {
        self.wait(u64::try_from(duration.as_millis()).unwrap());
        Ok(())
    }
}
