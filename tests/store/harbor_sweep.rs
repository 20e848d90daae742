//! Sweeps of a Harbor that shows different people different things: what a sweep says it rests on, and which images it
//! takes for gone.

use std::time::Duration;

use crate::support::full_harbor::{Account, FullHarbor, State, login};
use crate::support::image::{INDEX, Layer, MANIFEST, bytes, config, descriptor, index, manifest};
use crate::support::tar::Tar;
use crate::support::{Fresh, finish, program};
use crate::sweep::{clock, scanner};
use layersift_fleet::{Expected, Progress, Registries, Sweep, SweepError, SweepLimits};
use layersift_model::{LoginState, SweepProblemKind, SweepReport, TracedTag, Verdict};
use layersift_report::Policy;
use layersift_source::catalog::{Filter, Harbor, HarborOptions};
use layersift_store::{Query, Store};

const PASSWORD: &str = "made-up";

crate::on_both!(
    a_wrong_password_is_an_error_and_buries_nothing,
    a_robot_that_sees_less_buries_nothing_else,
    a_project_that_is_swept_alone_buries_its_own,
    an_image_that_cannot_be_pulled_is_not_gone,
    an_image_that_was_deleted_meanwhile_is_said,
    a_fall_is_a_warning_and_incomplete_where_that_is_asked_for,
    an_empty_project_is_no_error,
    a_child_with_a_tag_of_its_own_counts_once,
    a_second_sweep_of_known_images_asks_for_listings_only,
);

/// A layer that no other has.
fn layer(name: &str) -> Layer {
    Layer::plain(Tar::new().file("etc/name", name.as_bytes()).finish())
}

fn state() -> State {
    let mut state = State::new()
        .project("team", false)
        .project("other", false)
        .project("public", true)
        .account("robot$all", Account::robot(PASSWORD, &[]).of_all())
        .account("robot$team", Account::robot(PASSWORD, &["team"]));
    for name in ["team/app", "team/a/b", "other/app", "public/app"] {
        state.push(&format!("{name}:1"), &[layer("base"), layer(name)]);
    }
    state
}

fn limits() -> SweepLimits {
    let expected = Expected { is_whole: true, ..Expected::default() };
    SweepLimits { threads: 2, expected, ..SweepLimits::default() }
}

fn try_sweep(
    store: &Store,
    harbor: &FullHarbor,
    (user, password): (&str, &str),
    limits: &SweepLimits,
) -> Result<SweepReport, SweepError> {
    let options = login(user, password);
    let host = harbor.host().parse().unwrap();
    let registries = Registries::new(options.clone(), Some(host));
    let projects = limits.expected.projects.clone();
    let catalog = Harbor::new(
        crate::support::pull::registry(&harbor.host(), options),
        HarborOptions { projects, ..HarborOptions::default() },
    );
    let (policy, progress) = (Policy::default(), Progress::default());
    let sweep =
        Sweep { scanner: scanner(), store, registries: &registries, policy: &policy, clock, progress: &progress };
    sweep.run("the harbor", &catalog, &Filter::default(), limits)
}

fn sweep_as(store: &Store, harbor: &FullHarbor, user: &str) -> SweepReport {
    try_sweep(store, harbor, (user, PASSWORD), &limits()).unwrap()
}

/// The tags of the images that have the layer of their own called `name`.
fn tags(store: &Store, name: &str) -> Vec<TracedTag> {
    let digest = crate::support::image::digest(&layer(name).blob).parse().unwrap();
    let trace = store.trace(&Query::Layer(digest), None, 10).unwrap();
    trace.images.into_iter().flat_map(|image| image.tags).collect()
}

fn is_gone(store: &Store, name: &str) -> bool {
    let tags = tags(store, name);
    assert_eq!(tags.len(), 1, "{tags:?}");
    tags[0].gone_at.is_some()
}

const ALL: [&str; 4] = ["team/app", "team/a/b", "other/app", "public/app"];

fn a_wrong_password_is_an_error_and_buries_nothing(fresh: &Fresh) {
    let (store, harbor) = (fresh.open(), FullHarbor::start(state()));
    let first = sweep_as(&store, &harbor, "robot$all");
    assert_eq!((first.verdict, first.sums.images), (Verdict::Pass, 4), "{first:?}");
    let listing = first.listing.unwrap();
    assert_eq!((listing.login, listing.user.as_deref()), (LoginState::Accepted, Some("robot$all")));
    assert_eq!((listing.counts.projects, listing.counts.repositories, listing.last), (Some(3), 4, None));

    let wrong = try_sweep(&store, &harbor, ("robot$all", "wrong"), &limits()).unwrap_err();
    assert!(matches!(wrong, SweepError::Login(_)) && wrong.to_string().contains("does not accept"), "{wrong}");
    harbor.state().accounts.get_mut("robot$all").unwrap().is_expired = true;
    assert!(try_sweep(&store, &harbor, ("robot$all", PASSWORD), &limits()).is_err());
    assert!(ALL.iter().all(|name| !is_gone(&store, name) && tags(&store, name)[0].unseen_since.is_none()));
}

fn a_robot_that_sees_less_buries_nothing_else(fresh: &Fresh) {
    let (store, harbor) = (fresh.open(), FullHarbor::start(state()));
    sweep_as(&store, &harbor, "robot$all");
    harbor.state().artifacts("team/app").clear();
    harbor.state().projects.get_mut("team").unwrap().repositories.remove("a/b");
    let less = sweep_as(&store, &harbor, "robot$team");
    assert_eq!((less.verdict, less.sums.images), (Verdict::Pass, 1), "{less:?}");
    let gone = ALL.map(|name| is_gone(&store, name));
    assert_eq!(gone, [true, true, false, false], "only what a complete listing does not have any more");
    let other = &tags(&store, "other/app")[0];
    assert!(other.unseen_since.is_some() && other.unseen_by.as_deref() == Some("robot$team"), "{other:?}");
    sweep_as(&store, &harbor, "robot$all");
    assert_eq!(tags(&store, "other/app")[0].unseen_since, None);
}

fn a_project_that_is_swept_alone_buries_its_own(fresh: &Fresh) {
    let (store, harbor) = (fresh.open(), FullHarbor::start(state()));
    sweep_as(&store, &harbor, "robot$all");
    for project in ["team", "other"] {
        harbor.state().projects.get_mut(project).unwrap().repositories.clear();
    }
    let expected = Expected { is_whole: true, projects: vec!["team".into()], ..Expected::default() };
    let alone = SweepLimits { expected, ..limits() };
    let found = try_sweep(&store, &harbor, ("robot$all", PASSWORD), &alone).unwrap();
    assert_eq!((found.verdict, found.sums.images), (Verdict::Pass, 0), "{found:?}");
    assert_eq!(ALL.map(|name| is_gone(&store, name)), [true, true, false, false]);
    assert_eq!(tags(&store, "other/app")[0].unseen_since, None, "the sweep does not cover it");
}

fn an_image_that_cannot_be_pulled_is_not_gone(fresh: &Fresh) {
    let (store, harbor) = (fresh.open(), FullHarbor::start(state()));
    sweep_as(&store, &harbor, "robot$all");
    // The tag of one is another image, which is blocked; the other one cannot be listed.
    let new = harbor.state().push("team/app:1", &[layer("base"), layer("blocked")]);
    for artifact in harbor.state().artifacts("team/app") {
        if artifact.digest == new {
            artifact.blocked = Some("current image without vulnerability scanning cannot be pulled".into());
        }
    }
    let refusal = crate::support::harbor::error(403, "FORBIDDEN", "forbidden");
    harbor.state().answers.insert("other/app".into(), refusal);
    let second = sweep_as(&store, &harbor, "robot$all");
    assert_eq!((second.verdict, second.problems_total), (Verdict::Incomplete, 2), "{second:?}");
    assert_eq!(["team/a/b", "other/app", "public/app"].map(|name| is_gone(&store, name)), [false; 3]);
    let moved: Vec<_> = tags(&store, "team/app").into_iter().map(|tag| (tag.tag, tag.gone_at.is_some())).collect();
    assert_eq!(moved, [(None, false), (Some("1".into()), true)], "it is still there, and the tag has moved");
}

fn an_image_that_was_deleted_meanwhile_is_said(fresh: &Fresh) {
    let (store, state) = (fresh.open(), state());
    let harbor = FullHarbor::changing(state, |state, request| {
        if request.path.starts_with("/v2/team/app/manifests/") {
            state.artifacts("team/app").clear();
        }
    });
    let report = sweep_as(&store, &harbor, "robot$all");
    assert_eq!((report.verdict, report.sums.images, report.problems_total), (Verdict::Pass, 3, 0), "{report:?}");
    let notes = report.listing.unwrap().notes;
    assert!(matches!(&notes[..], [note] if note.contains("team/app:1") && note.contains("was deleted")), "{notes:?}");

    // One that is still listed and cannot be pulled is a problem.
    harbor.state().push("team/c:1", &[layer("c")]);
    let state = harbor.state().clone();
    let broken = FullHarbor::changing(state, |state, request| {
        if request.path.starts_with("/v2/team/c/manifests/") {
            state.artifacts("team/c")[0].digest = "sha256:gone".into();
        } else if let Some(artifact) = state.artifacts("team/c").first_mut() {
            artifact.digest = crate::support::image::digest(&artifact.manifest);
        }
    });
    let report = sweep_as(&store, &broken, "robot$all");
    assert_eq!((report.verdict, report.problems_total), (Verdict::Incomplete, 1), "{report:?}");
    assert_eq!(report.problems[0].kind, SweepProblemKind::Image);
}

fn a_fall_is_a_warning_and_incomplete_where_that_is_asked_for(fresh: &Fresh) {
    let (store, harbor) = (fresh.open(), FullHarbor::start(state()));
    sweep_as(&store, &harbor, "robot$all");
    let strict = |max_shrink, at_least| {
        let expected = Expected { max_shrink, at_least, ..limits().expected };
        let limits = SweepLimits { expected, ..limits() };
        try_sweep(&store, &harbor, ("robot$all", PASSWORD), &limits).unwrap()
    };
    assert_eq!(strict(Some(10), Some(4)).verdict, Verdict::Pass);
    harbor.state().projects.remove("other");
    let few = strict(None, Some(4));
    assert_eq!((few.verdict, few.problems[0].kind), (Verdict::Incomplete, SweepProblemKind::Listing), "{few:?}");

    // The listing of that sweep was complete, so that the next is compared with it.
    harbor.state().projects.remove("public");
    let fallen = strict(Some(33), None);
    assert_eq!(fallen.verdict, Verdict::Incomplete, "{fallen:?}");
    assert!(fallen.problems[0].reason.contains("1 project listed, 2 by the last sweep: 50 % fewer"), "{fallen:?}");
    assert!(!is_gone(&store, "public/app"));
    // What was not believed is not compared with.
    let again = strict(None, None);
    assert_eq!(again.verdict, Verdict::Pass);
    let warnings = again.listing.unwrap().warnings;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(strict(Some(0), None).listing.unwrap().warnings.is_empty());
}

fn an_empty_project_is_no_error(fresh: &Fresh) {
    let state = State::new().project("empty", false).account("robot$all", Account::robot(PASSWORD, &[]).of_all());
    let (store, harbor) = (fresh.open(), FullHarbor::start(state));
    assert_eq!(sweep_as(&store, &harbor, "robot$all").verdict, Verdict::Pass);
    let expected = Expected { at_least: Some(1), ..limits().expected };
    let report = try_sweep(&store, &harbor, ("robot$all", PASSWORD), &SweepLimits { expected, ..limits() }).unwrap();
    assert_eq!(report.verdict, Verdict::Incomplete, "{report:?}");
    // A filter that admits nothing may be wrong.
    let expected = Expected { filter: "include tpyo/*".into(), is_whole: false, ..limits().expected };
    let report = try_sweep(&store, &harbor, ("robot$all", PASSWORD), &SweepLimits { expected, ..limits() }).unwrap();
    assert_eq!(report.verdict, Verdict::Incomplete, "{report:?}");
    // Somebody who sees no project has seen nothing.
    harbor.state().projects.clear();
    assert_eq!(sweep_as(&store, &harbor, "robot$all").verdict, Verdict::Incomplete);
}

fn a_child_with_a_tag_of_its_own_counts_once(fresh: &Fresh) {
    let mut state = state();
    let layers = [layer("base"), layer("team/app")];
    let child = bytes(&manifest(&bytes(&config(&layers)), &layers));
    let mut entry = descriptor(MANIFEST, &child);
    entry["platform"] = serde_json::json!({ "os": "linux", "architecture": "amd64" });
    let parent = bytes(&index(&[entry]));
    assert!(String::from_utf8_lossy(&parent).contains(INDEX));
    state.push_manifest("team/app:all", parent);
    let (store, harbor) = (fresh.open(), FullHarbor::start(state));
    for _ in 0..2 {
        let report = sweep_as(&store, &harbor, "robot$all");
        // Four images, and the index.
        assert_eq!((report.verdict, report.sums.images), (Verdict::Pass, 5), "{report:?}");
    }
}

fn a_second_sweep_of_known_images_asks_for_listings_only(fresh: &Fresh) {
    let (store, harbor) = (fresh.open(), FullHarbor::start(state()));
    sweep_as(&store, &harbor, "robot$all");
    let tokens = harbor.server.requests_of("/service/token").len();
    assert_eq!(tokens, 3, "one for each project");
    let before = harbor.server.requests().len();
    sweep_as(&store, &harbor, "robot$all");
    let second: Vec<String> = harbor.server.requests().split_off(before).into_iter().map(|seen| seen.path).collect();
    let pulled: Vec<&String> = second.iter().filter(|path| path.starts_with("/v2/") && *path != "/v2/").collect();
    assert!(pulled.is_empty(), "{pulled:?}");
}

/// Measures what the listing of a Harbor costs that takes 30 ms for each answer: `cargo test --test store slow_harbor
/// --
/// --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn a_second_sweep_of_a_slow_harbor() {
    let mut state = State::new().account("robot$all", Account::robot(PASSWORD, &[]).of_all());
    for project in 0..11 {
        state = state.project(&format!("p{project}"), false);
    }
    for number in 0..121 {
        let (project, repository) = (number % 11, number / 11 % 10);
        state.push(&format!("p{project}/r{repository}:{number}"), &[layer("base"), layer(&number.to_string())]);
    }
    let fresh = Fresh::sqlite();
    let (store, harbor) = (fresh.open(), FullHarbor::start(state));
    harbor.state().delay = Duration::from_millis(30);
    for sweep in ["first", "second"] {
        let (before, started) = (harbor.server.requests().len(), std::time::Instant::now());
        let report = sweep_as(&store, &harbor, "robot$all");
        assert_eq!(report.sums.images, 121, "{report:?}");
        let requests = harbor.server.requests().len() - before;
        println!("the {sweep} sweep of 121 images: {requests} requests in {:.2} s", started.elapsed().as_secs_f64());
    }
}

/// The program, which waits ten seconds for a user who may be locked.
#[test]
fn a_wrong_password_ends_the_program_with_2() {
    let (folder, harbor) = (tempfile::tempdir().unwrap(), FullHarbor::start(state()));
    harbor.state().lock = Duration::ZERO;
    let run = |password: &str| {
        let mut command = program();
        command.args(["sweep", "harbor", &format!("http://{}/", harbor.host()), "--store"]);
        command.arg(folder.path().join("store.db"));
        command.env("LAYERSIFT_REGISTRY_USER", "robot$all").env("LAYERSIFT_REGISTRY_PASSWORD", password);
        finish(&mut command, None)
    };
    let right = run(PASSWORD).expect(0);
    assert!(right.stdout.contains("listed as robot$all: 3 projects, 4 repositories, 4 images"), "{}", right.stdout);
    let half = run("").expect(2);
    assert!(half.stderr.contains("LAYERSIFT_REGISTRY_PASSWORD is not: set both"), "{}", half.stderr);
    let wrong = run("wrong").expect(2);
    assert!(wrong.stderr.contains("does not accept the login"), "{}", wrong.stderr);
    assert!(wrong.stdout.is_empty(), "{}", wrong.stdout);
}
