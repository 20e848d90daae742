//! `layersift verify-gone`.

mod asking;
mod questions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::args::{QuietArgs, RegistryArgs, StoreArgs};
use super::formats::{OutputArgs, TextOrJson};
use super::progress::WaitProgress;
use super::{deadline, output, signals, values};
use asking::{Answer, Askers};
use layersift_format::Cancellation;
use layersift_model::Verdict;
use questions::{Question, Questions};

const STORE: &str = "Also ask every repository that had the layers, as this store knows from sweeps: a SQLite file, or \
                     postgres://…";

/// The version of the form of the JSON.
const SCHEMA: u32 = 1;

/// The time that is left for the last round of questions: a tenth of the whole, and at most so much.
const LAST_ROUND: Duration = Duration::from_secs(5);

/// The first pause between two rounds of questions, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
#[command(mut_arg("store", |arg| arg.help(STORE)))]
pub(crate) struct VerifyGoneArgs {
    /// Image that was deleted: docker://[HOST/]NAME@DIGEST; a tag is resolved, if it is still there
    #[arg(value_name = "IMAGE", required_unless_present = "changes")]
    images: Vec<String>,

    /// List of changes of `layersift scrub`, whose old manifests, layers and configurations have to be gone; may be
    /// repeated
    #[arg(long, value_name = "FILE")]
    changes: Vec<PathBuf>,

    /// Also ask this repository, HOST/NAME, which may share the layers; may be repeated
    #[arg(long, value_name = "REPOSITORY")]
    repository: Vec<String>,

    /// Ask again until everything is gone or this time is over, such as 3h [default: ask once]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    wait: Option<Duration>,

    #[command(flatten)]
    output: OutputArgs<TextOrJson>,

    #[command(flatten)]
    store: StoreArgs,

    #[command(flatten)]
    quiet: QuietArgs,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// Asks until everything is gone, or the time is over.
pub(crate) fn run(args: &VerifyGoneArgs) -> anyhow::Result<ExitCode> {
    let cancellation = deadline::begin(args.wait).or(&signals::cancellation()?);
    let askers = Askers::new(&args.registry, &cancellation)?;
    let questions = Questions::collect(args, &askers, &cancellation)?;
    let answers = ask(args, &questions, &askers, &cancellation);
    let is = |wanted: fn(&Answer) -> bool| answers.values().any(wanted);
    let (is_served, is_unknown) = (is(|answer| matches!(answer, Answer::Served { .. })), is(Answer::is_unknown));
    let is_open = is_unknown || !questions.unknown.is_empty() || !questions.absent.is_empty();
    let verdict = match (is_served, is_open) {
        (true, _) => Verdict::Fail,
        (false, true) => Verdict::Incomplete,
        (false, false) => Verdict::Pass,
    };
    let file = args.output.output.as_deref();
    match args.output.format {
        TextOrJson::Text => output::write(text(&questions, &answers).as_bytes(), file)?,
        TextOrJson::Json => output::write(&json(&questions, &answers, verdict)?, file)?,
    }
    if is_served {
        output::warn([
            "whoever may pull can still get what is served: delete the image, and every other image with these layers, \
             in each of these repositories, and have the registry collect its garbage",
            "a collection keeps recent blobs: Harbor's those of the last two hours, so run it again after that time",
        ]);
    }
    Ok(ExitCode::from(verdict.exit_code()))
}

/// The last answer to each question.
fn ask<'q>(
    args: &VerifyGoneArgs,
    questions: &'q Questions,
    askers: &Askers,
    cancellation: &Cancellation,
) -> BTreeMap<&'q Question, Answer> {
    let progress = WaitProgress::start(args.quiet.quiet);
    let mut answers = BTreeMap::new();
    let mut pause = FIRST_PAUSE;
    loop {
        let open: Vec<&Question> =
            questions.all.iter().filter(|question| !matches!(answers.get(question), Some(Answer::Gone))).collect();
        let is_last = open.is_empty() || open.len() == questions.all.len();
        if open.is_empty() {
            // What is gone is asked for again at the end: a push of the same layer brings it back.
            answers.extend(questions.all.iter().map(|question| (question, askers.ask(question))));
        } else {
            ask_again(&open, &mut answers, askers, cancellation);
        }
        let left = answers.values().filter(|answer| !matches!(answer, Answer::Gone)).count();
        if left == 0 && !is_last && !cancellation.is_cancelled() {
            continue;
        }
        let rest = until_last_round(args, cancellation);
        if left == 0 || rest.is_zero() || cancellation.is_cancelled() {
            progress.finish();
            return answers;
        }
        progress.show(&format!("{left} of {} are not gone", answers.len()));
        cancellation.wait(pause.min(rest));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Asks what is not gone. An answer stays where the time was over before the next one came.
fn ask_again<'q>(
    open: &[&'q Question],
    answers: &mut BTreeMap<&'q Question, Answer>,
    askers: &Askers,
    cancellation: &Cancellation,
) {
    for &question in open {
        let answer = askers.ask(question);
        let was_cut = answer.is_unknown() && cancellation.is_cancelled();
        if !was_cut || !answers.contains_key(question) {
            answers.insert(question, answer);
        }
    }
}

/// The time until the last round of questions; none where everything is asked once.
fn until_last_round(args: &VerifyGoneArgs, cancellation: &Cancellation) -> Duration {
    let Some(wait) = args.wait else { return Duration::ZERO };
    // A time that is too long to be counted does not end.
    cancellation.remaining().map_or(Duration::MAX, |left| left.saturating_sub(LAST_ROUND.min(wait / 10)))
}

/// A line for each question.
fn text(questions: &Questions, answers: &BTreeMap<&Question, Answer>) -> String {
    let mut text = String::new();
    for question in &questions.all {
        let Some(answer) = answers.get(question) else { continue };
        text.push_str(&format!("{answer:<8} {question}{}\n", answer.note()));
    }
    text
}

/// An object for each question.
fn json(questions: &Questions, answers: &BTreeMap<&Question, Answer>, verdict: Verdict) -> anyhow::Result<Vec<u8>> {
    let object = |question: &Question| {
        let answer = answers.get(question)?;
        let (to_strangers, reason) = match answer {
            Answer::Served { to_strangers } => (Some(*to_strangers), None),
            Answer::Unknown(why) => (None, Some(why)),
            Answer::Gone => (None, None),
        };
        Some(json!({
            "registry": question.place.host.name(),
            "repository": question.place.repository,
            "kind": question.kind.name(),
            "digest": question.digest,
            "state": answer.to_string(),
            "to_strangers": to_strangers,
            "reason": reason,
        }))
    };
    let things: Vec<Value> = questions.all.iter().filter_map(object).collect();
    // Where the manifest of an image is gone, nobody says what its layers were.
    let absent = questions.absent.iter().map(|place| format!("{}/{}", place.host, place.repository));
    let document = json!({
        "schema": SCHEMA,
        "verdict": verdict,
        "layers_are_known": questions.unknown.is_empty(),
        "not_known": questions.unknown,
        "no_such_repository": absent.collect::<Vec<_>>(),
        "things": things,
    });
    let mut bytes = serde_json::to_vec_pretty(&document)?;
    bytes.push(b'\n');
    Ok(bytes)
}
