//! Runs: sweeps over a target, what they cost and saved, and what each was the first to find.

use std::collections::BTreeSet;

use super::backend::{Connection, NOT_EXCEPTED, Row, Value, list};
use super::error::{Fault, StoreError};
use super::findings::{ABSENT, FindingRecord, RuleRecord};
use super::holdings;
use super::images::ImageId;
use super::{Seconds, Store, intern};
use layersift_model::Digest;

/// The number of a run in the store it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(i64);

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has not ended, or its process died.
    Running,
    /// It did all it was to do.
    Done,
    /// It ended early.
    Failed,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunSums {
    /// Images seen.
    pub images: u64,
    /// Layers that were read.
    pub layers_read: u64,
    /// Layers that were known already.
    pub layers_known: u64,
    /// Bytes that were pulled.
    pub bytes_pulled: u64,
    /// Bytes that were not pulled, because their layers were known.
    pub bytes_saved: u64,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// What was swept.
    pub target: String,
    /// The digest of the rules.
    pub ruleset: String,
    /// When it began.
    pub started_at: Seconds,
    /// When it ended.
    pub ended_at: Option<Seconds>,
    /// What it did.
    pub sums: RunSums,
    /// How it stands.
    pub status: Status,
}

/// Where something is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No run over the same target found it before.
    Target,
    /// No run over any target found it before.
    Store,
}

/// Something that a run was the first to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The secret's keyed fingerprint, or the finding's id where it is no secret.
    pub thing: String,
    /// The first image that it was found in.
    pub image: Digest,
    /// An example of what found it.
    pub rule: RuleRecord,
    /// The secret's masked form.
    pub masked: Option<String>,
    /// The path of the example.
    pub path: Option<String>,
}

impl Status {
    /// The status as it is written.
    pub fn name(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Done => "done",
            Status::Failed => "failed",
        }
    }
}

impl Store {
    /// Begins a run over `target`, which is without credentials.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a target of more than 512 bytes, [`StoreError::Database`].
    pub fn start_run(&self, target: &str, ruleset: &str, now: Seconds) -> Result<RunId, StoreError> {
        let sql =
            "INSERT INTO runs (target, ruleset_id, started_at, status) VALUES ($1, $2, $3, 'running') RETURNING id";
        self.write(|connection| {
            intern::check_key("the target of a run", target)?;
            let ruleset = intern::ruleset(connection, ruleset)?;
            let row = connection.query_one(sql, &[target.into(), ruleset.into(), now.into()])?;
            row.ok_or_else(|| Fault::Damaged("a run without a number".into()))?.int(0).map(RunId)
        })
    }

    /// Records what a run has done so far, and with [`Status::Done`] or [`Status::Failed`] its end.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] for a run that the store does not know, [`StoreError::Database`].
    pub fn update_run(&self, run: RunId, sums: &RunSums, status: Status, now: Seconds) -> Result<(), StoreError> {
        let sql = "UPDATE runs SET images = $2, layers_read = $3, layers_known = $4, bytes_pulled = $5, \
                   bytes_saved = $6, status = $7, ended_at = $8 WHERE id = $1";
        let RunSums { images, layers_read, layers_known, bytes_pulled, bytes_saved } = *sums;
        let mut values = vec![Value::from(run.0)];
        values.extend([images, layers_read, layers_known, bytes_pulled, bytes_saved].map(Value::from));
        values.push(status.name().into());
        values.push((status != Status::Running).then_some(now).into());
        self.write(|connection| match connection.execute(sql, &values)? {
            0 => Err(unknown(run)),
            _ => Ok(()),
        })
    }

    /// The latest runs, newest first; those over `target` only, where one is named.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn runs(&self, target: Option<&str>, limit: usize) -> Result<Vec<Run>, StoreError> {
        let condition = if target.is_some() { "WHERE r.target = $2" } else { "" };
        let sql = format!(
            "SELECT r.id, r.target, s.digest, r.started_at, r.ended_at, r.images, r.layers_read, r.layers_known, \
             r.bytes_pulled, r.bytes_saved, r.status FROM runs r JOIN rulesets s ON s.id = r.ruleset_id {condition} \
             ORDER BY r.id DESC LIMIT $1"
        );
        let mut values = vec![Value::from(limit)];
        values.extend(target.map(Value::from));
        self.read(|connection| connection.query(&sql, &values)?.iter().map(run).collect())
    }

    /// Records that a run came across images that were assembled before, so that what they hold is not new to the run's
    /// target the next time.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] for a run that the store does not know, [`StoreError::Database`].
    pub fn see_images(&self, run: RunId, images: &[ImageId]) -> Result<(), StoreError> {
        let (images, numbers) = list(images.iter().map(|image| Value::from(image.0)), 2);
        // What a layer brings, but for what an image says otherwise, and what an image says: as a trace has it.
        let sql = format!(
            "INSERT INTO sightings (thing, target, run_id, image_id) \
             SELECT held.thing, r.target, r.id, MIN(held.image_id) FROM runs r CROSS JOIN ( \
               SELECT COALESCE(f.fingerprint, f.finding_id) AS thing, f.ruleset_id, il.image_id \
               FROM image_layers il JOIN findings f ON f.layer_id = il.layer_id \
               WHERE il.image_id IN ({numbers}) AND f.shared = 1 AND (f.excepted = 0 OR {NOT_EXCEPTED}) \
               UNION ALL SELECT COALESCE(f.fingerprint, f.finding_id), f.ruleset_id, x.image_id \
               FROM image_findings x JOIN findings f ON f.id = x.finding \
               WHERE x.image_id IN ({numbers}) AND (f.shared = 0 OR f.excepted = 1) AND x.state <> '{ABSENT}' \
             ) AS held WHERE r.id = $1 AND held.ruleset_id = r.ruleset_id \
             GROUP BY held.thing, r.target, r.id ORDER BY held.thing ON CONFLICT DO NOTHING"
        );
        self.write(|connection| {
            let known = connection.query_one("SELECT 1 FROM runs WHERE id = $1", &[run.0.into()])?;
            known.ok_or_else(|| unknown(run))?;
            connection.execute(&sql, &[&[run.0.into()], images.as_slice()].concat()).map(drop)
        })
    }

    /// At most `limit` things that a run was the first to find, in the order of their fingerprints and ids.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn news(&self, run: RunId, scope: Scope, limit: usize) -> Result<Vec<News>, StoreError> {
        let earlier = match scope {
            Scope::Target => "",
            Scope::Store => {
                "AND NOT EXISTS (SELECT 1 FROM sightings o WHERE o.thing = s.thing AND o.run_id < s.run_id)"
            }
        };
        let sql = format!(
            "SELECT s.thing, i.manifest_digest FROM sightings s JOIN images i ON i.id = s.image_id \
             WHERE s.run_id = $1 {earlier} ORDER BY s.thing LIMIT $2"
        );
        self.read(|connection| {
            let mut news = Vec::new();
            for row in connection.query(&sql, &[run.0.into(), limit.into()])? {
                news.extend(example(connection, row.text(0)?, row.digest(1)?)?);
            }
            Ok(news)
        })
    }
}

/// What something is known by from run to run: a secret wherever it is, anything else where it is.
pub(super) fn thing(finding: &FindingRecord) -> String {
    finding.secret.as_ref().map_or_else(|| finding.finding_id.clone(), |secret| secret.fingerprint.clone())
}

/// Records that a run came across `things` in `image`.
pub(super) fn sight(
    connection: &mut Connection,
    run: RunId,
    image: ImageId,
    things: &BTreeSet<String>,
) -> Result<(), Fault> {
    let row = connection.query_one("SELECT target FROM runs WHERE id = $1", &[run.0.into()])?;
    let target = row.ok_or_else(|| unknown(run))?.text(0)?;
    let row = |thing: &String| [Value::from(thing), Value::from(&target), run.0.into(), image.0.into()];
    let values: Vec<Value> = things.iter().flat_map(row).collect();
    let before = "INSERT INTO sightings (thing, target, run_id, image_id)";
    connection.insert(before, 4, &values, "ON CONFLICT DO NOTHING").map(drop)
}

/// One finding that shows what `thing` is; `None` where all its findings were removed.
fn example(connection: &mut Connection, thing: String, image: Digest) -> Result<Option<News>, Fault> {
    const WHAT: &str = "SELECT r.rule, r.title, r.severity, r.confidence, f.masked, f.path FROM findings f \
                        JOIN rules r ON r.id = f.rule_id WHERE";
    let by_secret = connection.query_one(&format!("{WHAT} f.fingerprint = $1 LIMIT 1"), &[Value::from(&thing)])?;
    let row = match by_secret {
        Some(row) => Some(row),
        None => connection.query_one(&format!("{WHAT} f.finding_id = $1 LIMIT 1"), &[Value::from(&thing)])?,
    };
    let Some(row) = row else { return Ok(None) };
    let rule = holdings::rule(&row, 0)?;
    Ok(Some(News { thing, image, rule, masked: row.maybe_text(4)?, path: row.maybe_text(5)? }))
}

fn run(row: &Row) -> Result<Run, Fault> {
    let text = row.text(10)?;
    let status = [Status::Running, Status::Done, Status::Failed].into_iter().find(|status| status.name() == text);
    Ok(Run {
        id: RunId(row.int(0)?),
        target: row.text(1)?,
        ruleset: row.text(2)?,
        started_at: row.int(3)?,
        ended_at: row.maybe_int(4)?,
        sums: RunSums {
            images: row.count(5)?,
            layers_read: row.count(6)?,
            layers_known: row.count(7)?,
            bytes_pulled: row.count(8)?,
            bytes_saved: row.count(9)?,
        },
        status: status.ok_or_else(|| Fault::Damaged(format!("`{text}` where the status of a run belongs")))?,
    })
}

fn unknown(run: RunId) -> Fault {
    Fault::unknown(format!("run {}", run.0))
}
