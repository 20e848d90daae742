//! A Harbor in which everything changes, also while it is swept, against what sweeps say of it: projects, members,
//! robots, expiry, locked users, pushes and deletions.
//!
//! A sweep passes only if every image was read that the login may see from the beginning of the sweep to its end, and
//! nothing is marked gone that exists all that time. `LAYERSIFT_MODEL_STEPS` sets the number of steps, and
//! `LAYERSIFT_MODEL_SEED` where they begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::support::Fresh;
use crate::support::full_harbor::{Account, FullHarbor, State, login};
use crate::support::image::Layer;
use crate::support::pull;
use crate::support::tar::Tar;
use crate::sweep::{clock, scanner};
use layersift_fleet::{Expected, Progress, Registries, Sweep, SweepLimits};
use layersift_model::{Digest, LayerKey, SweepReport, Verdict};
use layersift_report::Policy;
use layersift_source::catalog::{Filter, Harbor, HarborOptions};
use layersift_source::registry::RegistryOptions;
use layersift_store::{Query, Store};

const PASSWORD: &str = "made-up";
const LOCK: Duration = Duration::from_millis(300);
const PROJECTS: [&str; 4] = ["a", "b", "c", "d"];
const REPOSITORIES: [&str; 3] = ["app", "x/y", "tool"];
const ROBOTS: [&str; 3] = ["robot$all", "robot$some", "robot$none"];
const USERS: [&str; 2] = ["alice", "bob"];

/// An image at a place: repository, tag or nothing, and digest.
type At = (String, Option<String>, String);

fn empty() -> State {
    let mut state = State { lock: LOCK, ..State::new() };
    for (number, project) in PROJECTS.into_iter().enumerate() {
        state = state.project(project, number == 0);
    }
    state
        .account("robot$all", Account::robot(PASSWORD, &[]).of_all())
        .account("robot$some", Account::robot(PASSWORD, &["b"]))
        .account("robot$none", Account::robot(PASSWORD, &[]))
        .account("alice", Account::user(PASSWORD, &["b", "c"]))
        .account("bob", Account::user(PASSWORD, &["d"]))
}

/// Changes one thing.
fn change(state: &mut State, rng: &mut Rng) {
    let project = *rng.choice(&PROJECTS[..]).unwrap();
    let repository = *rng.choice(&REPOSITORIES[..]).unwrap();
    let name = format!("{project}/{repository}");
    match rng.u8(0..100) {
        0..45 => {
            if !state.projects.contains_key(project) {
                state.projects.entry(project.into()).or_default();
            }
            let layer = Layer::plain(Tar::new().file("name", format!("{}", rng.u8(0..40)).as_bytes()).finish());
            let tag = if rng.u8(0..5) == 0 { String::new() } else { format!(":{}", rng.u8(0..3)) };
            state.push(&format!("{name}{tag}"), &[layer]);
        }
        45..65 => {
            if let Some(artifacts) =
                state.projects.get_mut(project).and_then(|all| all.repositories.get_mut(repository))
                && !artifacts.is_empty()
            {
                artifacts.remove(rng.usize(0..artifacts.len()));
            }
        }
        65..72 => drop(state.projects.get_mut(project).and_then(|all| all.repositories.remove(repository))),
        72..74 => drop(state.projects.remove(project)),
        74..78 => {
            if let Some(project) = state.projects.get_mut(project) {
                project.is_public = rng.bool();
            }
        }
        78..88 => {
            let account = state.accounts.get_mut(*rng.choice(&["robot$some", "alice", "bob"]).unwrap()).unwrap();
            let projects = account.projects.as_mut().unwrap();
            if !projects.remove(project) {
                projects.insert(project.into());
            }
        }
        88..94 => {
            let account = state.accounts.get_mut(*rng.choice(&ROBOTS[..]).unwrap()).unwrap();
            account.is_expired = !account.is_expired && rng.bool();
        }
        _ => {
            let until = Instant::now() + LOCK;
            state.accounts.get_mut(*rng.choice(&USERS[..]).unwrap()).unwrap().locked_until = Some(until);
        }
    }
}

/// What somebody may see, with the digest of each image's layer.
fn visible(state: &State, user: Option<&str>, named: &[String]) -> BTreeSet<At> {
    let account = user.and_then(|user| state.accounts.get(user));
    let is_seen = |project: &str, is_public: bool| {
        let is_member =
            account.is_some_and(|account| account.projects.as_ref().is_none_or(|all| all.contains(project)));
        (is_public || is_member) && (named.is_empty() || named.iter().any(|name| name == project))
    };
    let mut all = BTreeSet::new();
    for (project, found) in state.projects.iter().filter(|(name, found)| is_seen(name, found.is_public)) {
        for (repository, artifacts) in &found.repositories {
            for artifact in artifacts {
                let place = format!("{project}/{repository}");
                let tags: Vec<Option<String>> = match artifact.tags.is_empty() {
                    true => vec![None],
                    false => artifact.tags.iter().cloned().map(Some).collect(),
                };
                all.extend(tags.into_iter().map(|tag| (place.clone(), tag, artifact.digest.clone())));
            }
        }
    }
    all
}

/// What was there and visible all the time.
#[derive(Default)]
struct Watch {
    user: Option<String>,
    named: Vec<String>,
    visible: BTreeSet<At>,
    existing: BTreeSet<At>,
}

impl Watch {
    fn look(&mut self, state: &State) {
        let visible = visible(state, self.user.as_deref(), &self.named);
        self.visible.retain(|at| visible.contains(at));
        let existing = self::visible(state, Some("robot$all"), &[]);
        self.existing.retain(|at| existing.contains(at));
    }
}

struct Model {
    harbor: FullHarbor,
    store: Store,
    rng: Rng,
    /// Whether things change while the Harbor answers.
    is_restless: Arc<AtomicBool>,
    watch: Arc<Mutex<Watch>>,
    outcomes: BTreeMap<&'static str, u32>,
}

impl Model {
    fn new(store: Store, seed: u64) -> Model {
        let (is_restless, watch) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Watch::default())));
        let (restless, watching) = (Arc::clone(&is_restless), Arc::clone(&watch));
        let changes = Mutex::new(Rng::with_seed(seed.wrapping_add(1)));
        let harbor = FullHarbor::changing(empty(), move |state, _| {
            let mut rng = changes.lock().unwrap();
            if restless.load(Ordering::Relaxed) && rng.u8(0..16) == 0 {
                change(state, &mut rng);
                watching.lock().unwrap().look(state);
            }
        });
        let (rng, outcomes) = (Rng::with_seed(seed), BTreeMap::new());
        Model { harbor, store, rng, is_restless, watch, outcomes }
    }

    fn step(&mut self) {
        if self.rng.u8(0..4) > 0 {
            let mut state = self.harbor.state();
            change(&mut state, &mut self.rng);
            return;
        }
        let everyone: Vec<Option<&str>> = ROBOTS.iter().chain(&USERS).map(|name| Some(*name)).chain([None]).collect();
        let user = everyone[self.rng.usize(0..everyone.len())];
        let is_wrong = user.is_some() && self.rng.u8(0..8) == 0;
        let named = match self.rng.u8(0..3) {
            0 => vec![PROJECTS[self.rng.usize(0..PROJECTS.len())].to_string()],
            _ => Vec::new(),
        };
        let options = match user {
            Some(user) => {
                RegistryOptions { login_patience: LOCK * 2, ..login(user, if is_wrong { "wrong" } else { PASSWORD }) }
            }
            None => pull::options(),
        };
        {
            let state = self.harbor.state();
            let mut watch = self.watch.lock().unwrap();
            *watch = Watch {
                user: user.map(Into::into),
                named: named.clone(),
                visible: visible(&state, user, &named),
                existing: visible(&state, Some("robot$all"), &[]),
            };
        }
        let gone = self.gone();
        self.is_restless.store(self.rng.bool(), Ordering::Relaxed);
        let report = self.sweep(options, named);
        self.is_restless.store(false, Ordering::Relaxed);
        self.check(report, is_wrong, &gone);
    }

    /// What exists and was taken for gone before: it came back, and no sweep has seen it since.
    fn gone(&self) -> BTreeSet<At> {
        let existing = self.watch.lock().unwrap().existing.clone();
        existing.into_iter().filter(|at| self.is_gone(at)).collect()
    }

    fn is_gone(&self, (repository, tag, digest): &At) -> bool {
        let is_it = |(name, known, is_gone, _): (String, Option<String>, bool, bool)| {
            name == *repository && known == *tag && is_gone
        };
        self.tags(digest).into_iter().any(is_it)
    }

    /// The report; `None` for a login that was not accepted.
    fn sweep(&self, options: RegistryOptions, projects: Vec<String>) -> Option<SweepReport> {
        let host = self.harbor.host().parse().unwrap();
        let registries = Registries::new(options.clone(), Some(host));
        let harbor = HarborOptions { projects: projects.clone(), page: 2, ..HarborOptions::default() };
        let catalog = Harbor::new(pull::registry(&self.harbor.host(), options), harbor);
        let expected = Expected { is_whole: true, projects, ..Expected::default() };
        let limits = SweepLimits { threads: 2, retry_delay: 0, expected, ..SweepLimits::default() };
        let (policy, progress) = (Policy::default(), Progress::default());
        let (store, scanner) = (&self.store, scanner());
        let sweep = Sweep { scanner, store, registries: &registries, policy: &policy, clock, progress: &progress };
        sweep.run("the harbor", &catalog, &Filter::default(), &limits).ok()
    }

    fn check(&mut self, report: Option<SweepReport>, is_wrong: bool, gone_before: &BTreeSet<At>) {
        let watch = self.watch.lock().unwrap();
        let outcome = report.as_ref().map_or("refused", |report| report.verdict.name());
        *self.outcomes.entry(outcome).or_default() += 1;
        assert!(!is_wrong || report.is_none(), "a wrong password is refused: {report:?}");
        for at in watch.existing.iter().filter(|at| !gone_before.contains(*at)) {
            assert!(!self.is_gone(at), "{at:?} exists and is gone, after {report:?}");
        }
        if report.as_ref().is_none_or(|report| report.verdict != Verdict::Pass) {
            return;
        }
        let key = LayerKey::new(scanner().layer_key());
        for (repository, tag, digest) in &watch.visible {
            let parsed: Digest = digest.parse().unwrap();
            let is_read = self.store.images().report(&parsed, &key).unwrap().is_some();
            let is_seen = self.tags(digest).into_iter().any(|(name, known, is_gone, is_unseen)| {
                name == *repository && known == *tag && !is_gone && !is_unseen
            });
            assert!(is_read && is_seen, "{repository}:{tag:?}@{digest} was not seen, and it passes: {report:?}");
        }
    }

    /// Repository, tag, whether it is gone, and whether it was not seen, of each tag of an image.
    fn tags(&self, digest: &str) -> Vec<(String, Option<String>, bool, bool)> {
        let digest: Digest = digest.parse().unwrap();
        let Some(image) = self.store.images().find(&digest).unwrap() else { return Vec::new() };
        let Some(layer) = self.store.images().layers(image.id).unwrap().into_iter().next() else { return Vec::new() };
        let trace = self.store.trace(&Query::Layer(layer.digest), None, 100).unwrap();
        let tags =
            trace.images.into_iter().filter(|image| image.manifest_digest == digest).flat_map(|image| image.tags);
        let tags = tags.map(|tag| {
            let name = format!("{}/{}", tag.repository.project, tag.repository.repository);
            (name, tag.tag, tag.gone_at.is_some(), tag.unseen_since.is_some())
        });
        tags.collect()
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn sweeps_of_a_harbor_in_which_everything_changes() {
    let (steps, seed) = (number("LAYERSIFT_MODEL_STEPS", 240), number("LAYERSIFT_MODEL_SEED", 7));
    let fresh = Fresh::sqlite();
    let mut model = Model::new(fresh.open(), seed);
    for step in 0..steps {
        model.step();
        if step % 500 == 499 {
            println!("{} steps: {:?}", step + 1, model.outcomes);
        }
    }
    println!("{steps} steps: {:?}", model.outcomes);
    let passes = model.outcomes.get("pass").copied().unwrap_or(0);
    assert!(u64::from(passes) > steps / 40, "few sweeps pass: {:?}", model.outcomes);
}
