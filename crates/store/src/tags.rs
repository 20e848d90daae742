//! Tags: the names that images can be pulled by, with the times they were there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use layersift_model::{Digest, Repository, TracedTag};

use super::backend::{Answer, Columns, Connection, LIST, Value, list, row};
use super::error::{Fault, StoreError};
use super::ids::{ImageId, RepositoryId, RunId};
use super::intern::check_key;
use super::room::Room;
use super::{Seconds, Store};

/// How many tags of one image a trace names.
const NAMED: usize = 20;

/// A tag that a catalog lists, and an image that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSighting {
    /// Where.
    pub repository: Repository,
    /// The tag; `None` for an image that is listed without one.
    pub tag: Option<String>,
    /// What the tag names: the image, or an index that has it as a child.
    pub digest: Digest,
    /// The image.
    pub image: ImageId,
}

/// A group of repositories that a sweep listed to its end.
#[derive(Clone, Copy, Debug)]
pub struct TagGroup<'g> {
    /// The registry.
    pub registry: &'g str,
    /// The project; empty for a registry without projects.
    pub project: &'g str,
    /// The repositories that it is about, without the project's name.
    pub repositories: TagRepositories<'g>,
}

/// The repositories of a group.
#[derive(Clone, Copy, Debug)]
pub enum TagRepositories<'g> {
    /// All but these.
    AllBut(&'g [String]),
    /// These.
    Only(&'g [String]),
}

/// The tags that a sweep covers.
#[derive(Clone, Copy, Debug)]
pub enum CoveredTags<'g> {
    /// Those of these projects; of all projects, if there are none.
    OfProjects(&'g [String]),
    /// Those of a registry without projects. It does not list what has no tag.
    OfRegistry,
}

row! {
    struct TagRow {
        image: ImageId = "t.image_id",
        total: u64 = "t.total",
        registry: String = "r.registry",
        project: String = "r.project",
        repository: String = "r.repository",
        tag: Option<String> = "t.tag",
        digest: Digest = "t.digest",
        first_seen: Seconds = "t.first_seen",
        last_seen: Seconds = "t.last_seen",
        gone_at: Option<Seconds> = "t.gone_at",
        unseen_since: Option<Seconds> = "t.unseen_since",
        unseen_by: Option<String> = "t.unseen_by",
    }
}

impl TagRow {
    /// The bytes of its texts.
    fn bytes(&self) -> usize {
        let options = [&self.tag, &self.unseen_by].into_iter().flatten();
        [&self.registry, &self.project, &self.repository].into_iter().chain(options).map(String::len).sum()
    }
}

impl From<TagRow> for TracedTag {
    fn from(row: TagRow) -> TracedTag {
        let TagRow { registry, project, repository, tag, digest, first_seen, last_seen, gone_at, .. } = row;
        let unseen_by = row.unseen_by.filter(|user| !user.is_empty());
        TracedTag {
            repository: Repository { registry, project, repository },
            tag: tag.filter(|tag| !tag.is_empty()),
            digest,
            first_seen,
            last_seen,
            gone_at,
            unseen_since: row.unseen_since,
            unseen_by,
        }
    }
}

/// The tags of a store; see [`Store::tags`].
pub struct Tags<'s> {
    store: &'s Store,
}

impl<'s> Tags<'s> {
    pub(super) fn new(store: &'s Store) -> Tags<'s> {
        Tags { store }
    }

    /// Records that tags were seen now.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name of more than 512 bytes, [`StoreError::Database`].
    pub fn see(&self, sightings: &[TagSighting], now: Seconds) -> Result<(), StoreError> {
        const BEFORE: &str = "INSERT INTO tags (repository_id, tag, digest, image_id, first_seen, last_seen, seen_in)";
        const AFTER: &str = "ON CONFLICT (repository_id, tag, digest, image_id) DO UPDATE SET gone_at = NULL, \
             unseen_since = NULL, unseen_by = NULL, \
             seen_in = CASE WHEN tags.seen_in > excluded.seen_in THEN tags.seen_in ELSE excluded.seen_in END, \
             last_seen = CASE WHEN tags.last_seen > excluded.last_seen THEN tags.last_seen ELSE excluded.last_seen END";
        self.store.write(|connection| {
            let latest = latest_run(connection)?;
            let mut repositories: BTreeMap<&Repository, Option<RepositoryId>> = BTreeMap::new();
            for sighting in sightings {
                check_key("the tag", sighting.tag.as_deref().unwrap_or_default())?;
                repositories.insert(&sighting.repository, None);
            }
            for (repository, id) in &mut repositories {
                *id = Some(number(connection, repository)?);
            }
            // One statement may not touch a row twice, and rows in order keep processes from waiting in a circle.
            let mut rows: BTreeSet<(Option<RepositoryId>, &str, String, ImageId)> = BTreeSet::new();
            for sighting in sightings {
                let repository = repositories.get(&sighting.repository).copied().flatten();
                let tag = sighting.tag.as_deref().unwrap_or_default();
                rows.insert((repository, tag, sighting.digest.to_string(), sighting.image));
            }
            let values: Vec<Value> = rows
                .into_iter()
                .flat_map(|(repository, tag, digest, image)| {
                    let names = [repository.into(), tag.into(), digest.into(), image.into()];
                    names.into_iter().chain([now.into(), now.into(), latest.into()])
                })
                .collect();
            connection.insert(BEFORE, 7, &values, AFTER).map(drop)
        })
    }

    /// Records that tags which are in the store are still listed, although what they lead to was not read now. Of a tag
    /// with a digest, only what it led to with that digest; with no tags, what is listed without one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn still_listed(
        &self,
        repository: &Repository,
        tags: &[String],
        digest: Option<&Digest>,
        now: Seconds,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE tags SET gone_at = NULL, unseen_since = NULL, unseen_by = NULL, \
                   seen_in = CASE WHEN seen_in > $1 THEN seen_in ELSE $1 END, \
                   last_seen = CASE WHEN last_seen > $2 THEN last_seen ELSE $2 END \
                   WHERE tag = $3 AND (digest = $4 OR $4 = '') AND repository_id = (SELECT id FROM repositories \
                   WHERE registry = $5 AND project = $6 AND repository = $7)";
        let Repository { registry, project, repository } = repository;
        let tags: Vec<&str> = if tags.is_empty() { vec![""] } else { tags.iter().map(String::as_str).collect() };
        let digest = digest.map(ToString::to_string).unwrap_or_default();
        self.store.write(|connection| {
            let latest = latest_run(connection)?;
            for tag in &tags {
                let place = [registry.into(), project.into(), repository.into()];
                let values = [&[latest.into(), now.into(), (*tag).into(), (&digest).into()][..], &place].concat();
                connection.execute(sql, &values)?;
            }
            Ok(())
        })
    }

    /// The digest of what a tag named when it was last seen: of an image, or of an index.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn last_named(&self, repository: &Repository, tag: &str) -> Result<Option<Digest>, StoreError> {
        let sql = "SELECT t.digest FROM tags t JOIN repositories r ON r.id = t.repository_id WHERE r.registry = $1 \
                   AND r.project = $2 AND r.repository = $3 AND t.tag = $4 \
                   ORDER BY t.seen_in DESC, t.last_seen DESC, t.id DESC LIMIT 1";
        let Repository { registry, project, repository } = repository;
        let values = [registry.into(), project.into(), repository.into(), tag.into()];
        self.store.read(|connection| connection.value(sql, &values))
    }

    /// The manifests of the images that a tag led to when it was last seen: one, or those of an index. `name` is the
    /// repository, with its project.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn images(&self, registry: &str, name: &str, tag: &str) -> Result<Vec<Digest>, StoreError> {
        let sql = "SELECT t.digest, i.manifest_digest FROM tags t JOIN repositories r ON r.id = t.repository_id \
                   JOIN images i ON i.id = t.image_id WHERE r.registry = $1 AND t.tag = $3 \
                   AND CASE WHEN r.project = '' THEN r.repository ELSE r.project || '/' || r.repository END = $2 \
                   ORDER BY t.seen_in DESC, t.last_seen DESC, t.id DESC";
        let values = [registry.into(), name.into(), tag.into()];
        let rows: Vec<(Digest, Digest)> = self.store.read(|connection| connection.query(sql, &values))?;
        let Some((latest, _)) = rows.first().cloned() else { return Ok(Vec::new()) };
        let mut manifests: Vec<Digest> =
            rows.into_iter().filter(|(named, _)| *named == latest).map(|(_, manifest)| manifest).collect();
        manifests.reverse();
        manifests.dedup();
        Ok(manifests)
    }

    /// Records that tags are gone: those of a group that were not seen since `run` began, by any run. To be called when
    /// everything there was listed. Tags of repositories that were not all listed stay. Returns how many are gone now.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn mark_gone(&self, group: &TagGroup<'_>, run: RunId, login: &str, now: Seconds) -> Result<u64, StoreError> {
        let select = "SELECT id, repository FROM repositories WHERE registry = $1 AND project = $2 ORDER BY id";
        let untagged = if group.project.is_empty() { TAGGED } else { "" };
        let update = |list: &str| {
            format!(
                "UPDATE tags SET gone_at = $1, unseen_since = COALESCE(unseen_since, $1), \
                 unseen_by = COALESCE(unseen_by, $3) \
                 WHERE gone_at IS NULL AND seen_in < $2 {untagged} AND repository_id IN ({list})"
            )
        };
        let (names, are_meant) = match group.repositories {
            TagRepositories::AllBut(names) => (names, false),
            TagRepositories::Only(names) => (names, true),
        };
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        self.store.write(|connection| {
            let all: Vec<(RepositoryId, String)> =
                connection.query(select, &[group.registry.into(), group.project.into()])?;
            let listed = all.into_iter().filter(|(_, name)| names.contains(&name[..]) == are_meant);
            let listed: Vec<Value> = listed.map(|(id, _)| Value::from(id)).collect();
            let mut gone = 0;
            for some in listed.chunks(LIST) {
                let (some, numbers) = list(some.iter().cloned(), 4);
                let first = [now.into(), run.into(), login.into()];
                gone += connection.execute(&update(&numbers), &[&first[..], &some].concat())?;
            }
            Ok(gone)
        })
    }

    /// Records that tags were not seen by a sweep that covers them: those that were not seen since `run` began and are
    /// not gone. They may be what `login` may not see.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn mark_unseen(
        &self,
        registry: &str,
        covered: CoveredTags<'_>,
        run: RunId,
        login: &str,
        now: Seconds,
    ) -> Result<u64, StoreError> {
        let mut values = vec![now.into(), run.into(), login.into(), registry.into()];
        let (condition, untagged) = match covered {
            CoveredTags::OfRegistry => ("project = ''".to_string(), TAGGED),
            CoveredTags::OfProjects([]) => ("project <> ''".to_string(), ""),
            CoveredTags::OfProjects(projects) => {
                let (names, numbers) = list(projects.iter().map(Value::from), 5);
                values.extend(names);
                (format!("project IN ({numbers})"), "")
            }
        };
        let sql = format!(
            "UPDATE tags SET unseen_since = $1, unseen_by = $3 WHERE unseen_since IS NULL AND gone_at IS NULL \
             AND seen_in < $2 {untagged} \
             AND repository_id IN (SELECT id FROM repositories WHERE registry = $4 AND {condition})"
        );
        self.store.write(|connection| connection.execute(&sql, &values))
    }
}

/// A registry without projects does not list what has no tag.
const TAGGED: &str = "AND tag <> ''";

/// The number of the latest run: what is seen now was seen by whatever runs, and after whatever ran before.
fn latest_run(connection: &mut Connection) -> Result<i64, Fault> {
    Ok(connection.value::<Option<i64>>("SELECT max(id) FROM runs", &[])?.flatten().unwrap_or(0))
}

fn number(connection: &mut Connection, place: &Repository) -> Result<RepositoryId, Fault> {
    let Repository { registry, project, repository } = place;
    for (what, text) in [("the registry", registry), ("the project", project), ("the repository", repository)] {
        check_key(what, text)?;
    }
    let names: [Value; 3] = [registry.into(), project.into(), repository.into()];
    let select = "SELECT id FROM repositories WHERE registry = $1 AND project = $2 AND repository = $3";
    if let Some(id) = connection.value(select, &names)? {
        return Ok(id);
    }
    let insert = "INSERT INTO repositories (registry, project, repository) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    connection.execute(insert, &names)?;
    connection.value(select, &names)?.ok_or_else(|| Fault::missing("a repository"))
}

/// The tags of images, those that exist now first, as long as there is room for them, and how many each image has had
/// in all.
pub(super) fn of_images(
    connection: &mut Connection,
    images: &[ImageId],
    room: &mut Room,
) -> Result<HashMap<ImageId, (Vec<TracedTag>, u64)>, Fault> {
    let (mut values, numbers) = list(images.iter().copied().map(Value::from), 1);
    let sql = format!(
        "SELECT {} FROM (SELECT tags.*, count(*) OVER (PARTITION BY image_id) AS total, row_number() OVER \
           (PARTITION BY image_id ORDER BY CASE WHEN gone_at IS NULL THEN 0 ELSE 1 END, \
             CASE WHEN tag = '' THEN 1 ELSE 0 END, last_seen DESC, id) AS place \
           FROM tags WHERE image_id IN ({numbers})) AS t \
         JOIN repositories r ON r.id = t.repository_id WHERE t.place <= ${} ORDER BY t.image_id, t.place",
        TagRow::COLUMNS,
        values.len() + 1
    );
    values.push(NAMED.into());
    let mut tags: HashMap<ImageId, (Vec<TracedTag>, u64)> = HashMap::new();
    connection.each(&sql, &values, &mut Answer::default(), |row: TagRow| {
        let (of_image, total) = tags.entry(row.image).or_default();
        *total = row.total;
        if room.take(row.bytes()) {
            of_image.push(row.into());
        }
        Ok(())
    })?;
    Ok(tags)
}
