//! Tags: the names that images can be pulled by, with the times they were there.

use std::collections::{BTreeMap, HashMap};

use super::backend::{Connection, Row, Value, list};
use super::error::{Fault, StoreError};
use super::images::ImageId;
use super::intern::check_key;
use super::{Seconds, Store};
use layersift_model::Digest;

/// How many tags of one image an answer names.
const NAMED: usize = 20;

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    /// The registry's host and port.
    pub registry: String,
    /// The project, in a registry that has projects; otherwise empty.
    pub project: String,
    /// The repository's name, without the project.
    pub repository: String,
}

/// A tag that was seen, and an image that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSighting {
    /// Where.
    pub repository: Repository,
    /// The tag; `None` for an image that is there without one.
    pub tag: Option<String>,
    /// What the tag names: the image, or an index that has it as a child.
    pub digest: Digest,
    /// The image.
    pub image: ImageId,
}

/// A tag, as answers name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagLine {
    /// Where.
    pub repository: Repository,
    /// The tag, if there is one.
    pub tag: Option<String>,
    /// What it names: the image, or an index that has it as a child.
    pub digest: Digest,
    /// When it was first seen on this image.
    pub first_seen: Seconds,
    /// When it was last seen on it.
    pub last_seen: Seconds,
    /// When it was found to be gone, or on another image.
    pub gone_at: Option<Seconds>,
}

impl Store {
    /// Records that tags were seen now.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name of more than 512 bytes, [`StoreError::Database`].
    pub fn see_tags(&self, sightings: &[TagSighting], now: Seconds) -> Result<(), StoreError> {
        const BEFORE: &str = "INSERT INTO tags (repository_id, tag, digest, image_id, first_seen, last_seen)";
        const AFTER: &str = "ON CONFLICT (repository_id, tag, digest, image_id) DO UPDATE SET gone_at = NULL, \
             last_seen = CASE WHEN tags.last_seen > excluded.last_seen THEN tags.last_seen ELSE excluded.last_seen END";
        self.write(|connection| {
            let mut repositories: BTreeMap<&Repository, i64> = BTreeMap::new();
            for sighting in sightings {
                check_key("the tag", sighting.tag.as_deref().unwrap_or_default())?;
                repositories.insert(&sighting.repository, 0);
            }
            for (repository, id) in &mut repositories {
                *id = number(connection, repository)?;
            }
            // One statement may not touch a row twice, and rows in order keep processes from waiting in a circle.
            let mut rows: BTreeMap<(i64, &str, String, i64), ()> = BTreeMap::new();
            for sighting in sightings {
                let repository = repositories.get(&sighting.repository).copied().unwrap_or(0);
                let tag = sighting.tag.as_deref().unwrap_or_default();
                rows.insert((repository, tag, sighting.digest.to_string(), sighting.image.0), ());
            }
            let values: Vec<Value> = rows
                .into_keys()
                .flat_map(|(repository, tag, digest, image)| {
                    [repository.into(), tag.into(), digest.into(), image.into(), now.into(), now.into()]
                })
                .collect();
            connection.insert(BEFORE, 6, &values, AFTER).map(drop)
        })
    }

    /// The digest of what a tag named when it was last seen: of an image, or of an index.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn last_named(&self, repository: &Repository, tag: &str) -> Result<Option<Digest>, StoreError> {
        let sql = "SELECT t.digest FROM tags t JOIN repositories r ON r.id = t.repository_id WHERE r.registry = $1 \
                   AND r.project = $2 AND r.repository = $3 AND t.tag = $4 \
                   ORDER BY t.last_seen DESC, t.id DESC LIMIT 1";
        let Repository { registry, project, repository } = repository;
        let values = [registry.into(), project.into(), repository.into(), tag.into()];
        self.read(|connection| connection.query_one(sql, &values)?.map(|row| row.digest(0)).transpose())
    }

    /// Records that the tags of a registry, or of one project or repository of it, that were last seen before `since`
    /// are gone; their number. To be called when all tags there were listed, and none before.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn mark_gone(
        &self,
        registry: &str,
        project: Option<&str>,
        repository: Option<&str>,
        since: Seconds,
        now: Seconds,
    ) -> Result<u64, StoreError> {
        let mut values = vec![Value::from(now), since.into(), registry.into()];
        let mut condition = String::from("registry = $3");
        for (column, wanted) in [("project", project), ("repository", repository)] {
            if let Some(wanted) = wanted {
                values.push(wanted.into());
                condition += &format!(" AND {column} = ${}", values.len());
            }
        }
        let sql = format!(
            "UPDATE tags SET gone_at = $1 WHERE gone_at IS NULL AND last_seen < $2 \
             AND repository_id IN (SELECT id FROM repositories WHERE {condition})"
        );
        self.write(|connection| connection.execute(&sql, &values))
    }
}

fn number(connection: &mut Connection, place: &Repository) -> Result<i64, Fault> {
    let Repository { registry, project, repository } = place;
    for (what, text) in [("the registry", registry), ("the project", project), ("the repository", repository)] {
        check_key(what, text)?;
    }
    let names: [Value; 3] = [registry.into(), project.into(), repository.into()];
    let select = "SELECT id FROM repositories WHERE registry = $1 AND project = $2 AND repository = $3";
    if let Some(row) = connection.query_one(select, &names)? {
        return row.int(0);
    }
    let insert = "INSERT INTO repositories (registry, project, repository) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    connection.execute(insert, &names)?;
    let row = connection.query_one(select, &names)?;
    row.ok_or_else(|| Fault::Damaged("a repository without a number".into()))?.int(0)
}

/// The tags of images, those that are there now first, and how many each image has in all.
pub(super) fn of_images(
    connection: &mut Connection,
    images: &[i64],
) -> Result<HashMap<i64, (Vec<TagLine>, u64)>, Fault> {
    let (mut values, numbers) = list(images.iter().map(|image| Value::from(*image)), 1);
    let sql = format!(
        "SELECT t.image_id, t.total, r.registry, r.project, r.repository, t.tag, t.digest, t.first_seen, t.last_seen, \
         t.gone_at FROM (SELECT tags.*, count(*) OVER (PARTITION BY image_id) AS total, row_number() OVER \
           (PARTITION BY image_id ORDER BY CASE WHEN gone_at IS NULL THEN 0 ELSE 1 END, \
             CASE WHEN tag = '' THEN 1 ELSE 0 END, last_seen DESC, id) AS place \
           FROM tags WHERE image_id IN ({numbers})) AS t \
         JOIN repositories r ON r.id = t.repository_id WHERE t.place <= ${} ORDER BY t.image_id, t.place",
        values.len() + 1
    );
    values.push(NAMED.into());
    let mut tags: HashMap<i64, (Vec<TagLine>, u64)> = HashMap::new();
    for row in connection.query(&sql, &values)? {
        let (lines, total) = tags.entry(row.int(0)?).or_default();
        *total = row.count(1)?;
        lines.push(line(&row)?);
    }
    Ok(tags)
}

fn line(row: &Row) -> Result<TagLine, Fault> {
    Ok(TagLine {
        repository: Repository { registry: row.text(2)?, project: row.text(3)?, repository: row.text(4)? },
        tag: row.maybe_text(5)?.filter(|tag| !tag.is_empty()),
        digest: row.digest(6)?,
        first_seen: row.int(7)?,
        last_seen: row.int(8)?,
        gone_at: row.maybe_int(9)?,
    })
}
