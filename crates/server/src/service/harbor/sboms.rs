//! Bills of materials that Harbor asks for: the layers of the image are read for records of packages, on threads of
//! their own, because that may take longer than a claim of a task lasts.
//!
//! A bill is in the memory of the process that reads it until its task has it. What is read is noted in the task, so
//! that other processes leave it alone as long as the note is fresh.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use layersift_fleet::Registries;
use layersift_format::platform::Choice;
use layersift_format::{Cancellation, Opened};
use layersift_model::Inventory;
use layersift_report::SpecVersion;
use layersift_report::sbom::{Materials, cyclonedx, spdx};
use layersift_scan::{Analyzer, InventoryScan, MemoryBudget, NameWork};
use layersift_source::registry::{Credentials, Login, Reference, RegistrySource};

use super::VERSION;
use super::tasks::TaskRequest;
use crate::harbor::sbom::{Form, report};

/// Images that are read at once. Each has a thread of its own to walk the layers.
const AT_ONCE: usize = 2;

/// The memory that they take together.
const MEMORY: u64 = 512 << 20;

/// How long a bill waits for its task.
const KEPT: Duration = Duration::from_secs(600);

/// How far the reading of a bill is.
enum Reading {
    Running,
    /// Since when it waits for its task.
    Ended(Instant, Result<Vec<u8>, String>),
}

/// What a step is told of a bill.
pub(super) enum Bill {
    /// It is being read here.
    Running,
    /// As many as possible are being read already.
    Full,
    Report(Vec<u8>),
    Failed(String),
    /// Nothing is known of it here.
    Unknown,
}

/// What is needed to read the image of a task.
pub(super) struct Wanted {
    pub(super) task: String,
    pub(super) reference: Reference,
    pub(super) plain_http: bool,
    pub(super) credentials: Option<Credentials>,
    pub(super) request: TaskRequest,
    pub(super) form: Form,
    /// Ends the reading.
    pub(super) cancellation: Cancellation,
}

/// The bills that are read by this process, by the ids of their tasks.
#[derive(Clone)]
pub(crate) struct Sboms {
    readings: Arc<Mutex<HashMap<String, Reading>>>,
    /// What this process is called in tasks.
    pub(super) process: String,
    memory: MemoryBudget,
}

impl Sboms {
    /// Of a process with this name, which no other one has.
    pub(super) fn new(process: String) -> Sboms {
        Sboms { readings: Arc::default(), process, memory: MemoryBudget::new(MEMORY) }
    }

    /// How far the bill of a task is. One that has ended is given away.
    pub(super) fn take(&self, task: &str) -> Bill {
        let mut all = self.all();
        match all.get(task) {
            Some(Reading::Running) => Bill::Running,
            Some(Reading::Ended(..)) => match all.remove(task) {
                Some(Reading::Ended(_, Ok(report))) => Bill::Report(report),
                Some(Reading::Ended(_, Err(why))) => Bill::Failed(why),
                _ => Bill::Unknown,
            },
            None => Bill::Unknown,
        }
    }

    /// Begins to read a bill, if there is room. What `analyzer` finds in names is masked in it.
    pub(super) fn begin(&self, wanted: Wanted, registries: &Arc<Registries>, analyzer: &Arc<Analyzer>) -> Bill {
        let mut all = self.all();
        // What no task fetches any more, as after its deadline.
        all.retain(|_, reading| !matches!(reading, Reading::Ended(since, _) if since.elapsed() > KEPT));
        if all.values().filter(|reading| matches!(reading, Reading::Running)).count() >= AT_ONCE {
            return Bill::Full;
        }
        let (task, registries, readings) = (wanted.task.clone(), Arc::clone(registries), self.clone());
        let analyzer = Arc::clone(analyzer);
        let read = move || {
            let ended = catch_unwind(AssertUnwindSafe(|| wanted.read(&registries, &analyzer, readings.memory.clone())));
            let ended = ended.unwrap_or_else(|_| Err("the image cannot be read: an internal error".into()));
            // An error may quote a name.
            let ended = ended.map_err(|why| analyzer.mask_name(&why));
            readings.all().insert(wanted.task.clone(), Reading::Ended(Instant::now(), ended));
        };
        match thread::Builder::new().name("sbom".into()).spawn(read) {
            Ok(_) => {
                all.insert(task, Reading::Running);
                Bill::Running
            }
            Err(error) => Bill::Failed(format!("no thread can be started: {error}")),
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Reading>> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    /// Reads the image, and writes the report for Harbor.
    fn read(&self, registries: &Registries, analyzer: &Analyzer, memory: MemoryBudget) -> Result<Vec<u8>, String> {
        let login = self.credentials.clone().map_or(Login::Anonymous, Login::As);
        let registry = registries.with_login(&self.reference.host, self.plain_http, login);
        let registry = registry.map_err(|error| error.to_string())?.with_cancellation(self.cancellation.clone());
        let source = RegistrySource::new(registry, self.reference.clone());
        let scan = InventoryScan::new(1).map_err(|error| error.to_string())?;
        let scan = scan.platform(Choice::All).cancellation(self.cancellation.clone()).memory(memory);
        let read = scan.run(&self.reference.to_string(), Opened::Source(Box::new(source)));
        let mut inventories = read.map_err(|error| format!("the image cannot be read: {error}"))?;
        let [inventory] = &mut inventories[..] else { return Err("the artifact is not one image".into()) };
        let mut work = NameWork::new(analyzer.limits(), &self.cancellation);
        analyzer.mask_inventory(inventory, Vec::new(), &mut work);
        // What may be readable the next time is no reason to push a bill that lacks it.
        if let Some(gap) = inventory.gaps.iter().map(|one| &one.gap).find(|gap| gap.reason.is_transient()) {
            return Err(format!("not everything of the image could be read: {}", gap.detail));
        }
        let bill = self.bill(inventory).map_err(|error| error.to_string())?;
        report(bill, self.form, &self.request.artifact, VERSION)
    }

    /// The bill alone. It is pushed to the registry, where anybody reads it who can pull the image; it has no findings,
    /// and secrets in names are masked.
    fn bill(&self, inventory: &Inventory) -> std::io::Result<Vec<u8>> {
        let mut bill = Vec::new();
        match self.form {
            Form::Spdx => spdx(inventory, &mut bill)?,
            Form::CycloneDx => cyclonedx(&Materials { inventory, secrets: None }, SpecVersion::V1_6, &mut bill)?,
        }
        Ok(bill)
    }
}
