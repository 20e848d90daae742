//! The texts of places, as far as there is room for them.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use layersift_model::{
    Confidence, Digest, LayerKey, Package, ParseError, RuleSummary, Severity, TracedFinding, TracedLayer, TracedPlace,
    parse,
};

use super::{Found, Place, Places};
use crate::Seconds;
use crate::backend::{Columns, Connection, FromRow, FromValue, MOST_TEXT, Row, Value, row, too_large};
use crate::error::Fault;
use crate::ids::{FindingId, ImageId, InstructionId, KeyId, LayerId, PackageId, RuleId};
use crate::room::Room;

/// What a byte of a list of archive members may take in memory: a member with a name of one character is four bytes of
/// JSON, and two allocations.
const MEMBERS: usize = 16;

/// The texts of findings.
const FINDINGS: [&str; 6] = ["finding_id", "path", "config", "fingerprint", "masked", MEMBERS_COLUMN];

/// The column of the list of archive members.
const MEMBERS_COLUMN: &str = "inside";

/// The places of `images`, in that order, as long as there is room. Of an image they are the first of those that are in
/// `places`, which says how many there are.
pub(crate) fn traced(
    connection: &mut Connection,
    images: &[ImageId],
    places: &Places,
    room: &mut Room,
) -> Result<HashMap<ImageId, Vec<TracedPlace>>, Fault> {
    let of_image = |image: &ImageId| places.by_image.get(image).into_iter().flat_map(|places| &places.first);
    let sizes = Sizes::of(connection, images.iter().flat_map(of_image))?;
    let mut admitted: Vec<(ImageId, Place)> = Vec::new();
    for image in images {
        let of_image = of_image(image).take_while(|place| room.take(sizes.sum(place)));
        admitted.extend(of_image.map(|place| (*image, *place)));
    }
    let texts = Texts::of(connection, admitted.iter().map(|(_, place)| place))?;
    let mut traced: HashMap<ImageId, Vec<TracedPlace>> = HashMap::new();
    for (image, place) in &admitted {
        traced.entry(*image).or_default().extend(texts.traced(place)?);
    }
    Ok(traced)
}

/// The numbers of what places are made of, each once.
#[derive(Default)]
struct Numbers {
    findings: BTreeSet<FindingId>,
    rules: BTreeSet<RuleId>,
    packages: BTreeSet<PackageId>,
    keys: BTreeSet<KeyId>,
    layers: BTreeSet<LayerId>,
    instructions: BTreeSet<InstructionId>,
}

impl Numbers {
    fn of<'p>(places: impl Iterator<Item = &'p Place>) -> Numbers {
        let mut numbers = Numbers::default();
        for place in places {
            if let Some(Found { id, rule, package, key }) = place.finding {
                numbers.findings.insert(id);
                numbers.rules.insert(rule);
                numbers.packages.extend(package);
                numbers.keys.insert(key);
            }
            if let Some(layer) = place.layer {
                numbers.layers.insert(layer.layer);
                numbers.instructions.extend(layer.instruction);
            }
        }
        numbers
    }
}

/// How many bytes of text each thing has.
struct Sizes {
    findings: HashMap<FindingId, usize>,
    rules: HashMap<RuleId, usize>,
    packages: HashMap<PackageId, usize>,
    keys: HashMap<KeyId, usize>,
    layers: HashMap<LayerId, usize>,
    instructions: HashMap<InstructionId, usize>,
}

impl Sizes {
    fn of<'p>(connection: &mut Connection, places: impl Iterator<Item = &'p Place>) -> Result<Sizes, Fault> {
        let Numbers { findings, rules, packages, keys, layers, instructions } = Numbers::of(places);
        Ok(Sizes {
            findings: sizes(connection, "findings", &FINDINGS, &findings)?,
            rules: sizes(connection, "rules", &["rule", "title"], &rules)?,
            packages: sizes(connection, "packages", &["ecosystem", "name", "version"], &packages)?,
            keys: sizes(connection, "layer_keys", &["digest"], &keys)?,
            layers: sizes(connection, "layers", &["digest", "diff_id"], &layers)?,
            instructions: sizes(connection, "instructions", &["created_by"], &instructions)?,
        })
    }

    fn sum(&self, place: &Place) -> usize {
        let of_finding = place.finding.map_or(0, |Found { id, rule, package, key }| {
            size(&self.findings, Some(id))
                .saturating_add(size(&self.rules, Some(rule)))
                .saturating_add(size(&self.packages, package))
                .saturating_add(size(&self.keys, Some(key)))
        });
        let of_layer = place.layer.map_or(0, |layer| {
            size(&self.layers, Some(layer.layer)).saturating_add(size(&self.instructions, layer.instruction))
        });
        of_finding.saturating_add(of_layer)
    }
}

fn size<Id: Eq + Hash>(sizes: &HashMap<Id, usize>, id: Option<Id>) -> usize {
    id.and_then(|id| sizes.get(&id)).copied().unwrap_or_default()
}

/// The number of a row, and the sizes of its texts.
struct SizesRow<Id> {
    id: Id,
    sizes: Vec<usize>,
}

impl<Id: FromValue> FromRow for SizesRow<Id> {
    fn from_row(row: &mut Row) -> Result<SizesRow<Id>, Fault> {
        Ok(SizesRow { id: row.next("id")?, sizes: row.rest()? })
    }
}

/// The bytes that the texts in `columns` of the rows `ids` of `table` take. Neither database reads the texts for that.
fn sizes<Id: Copy + Eq + Hash + FromValue + Into<Value>>(
    connection: &mut Connection,
    table: &str,
    columns: &[&str],
    ids: &BTreeSet<Id>,
) -> Result<HashMap<Id, usize>, Fault> {
    let size = |column: &&str| format!("CAST(COALESCE(octet_length({column}), 0) AS BIGINT)");
    let selected = columns.iter().map(size).collect::<Vec<_>>().join(", ");
    let sql = |list: &str| format!("SELECT id, {selected} FROM {table} WHERE id IN ({list})");
    let ids: Vec<Value> = ids.iter().copied().map(Into::into).collect();
    let mut found: HashMap<Id, usize> = HashMap::new();
    for SizesRow { id, sizes } in connection.query_in::<SizesRow<Id>>(sql, &[], &ids)? {
        let mut sum = 0_usize;
        for (column, bytes) in columns.iter().zip(sizes) {
            if bytes > MOST_TEXT {
                return Err(too_large("text", Some(bytes), &format!("the column {column} of {table}"), MOST_TEXT));
            }
            let each = if *column == MEMBERS_COLUMN { MEMBERS } else { 1 };
            sum = sum.saturating_add(bytes.saturating_mul(each));
        }
        found.insert(id, sum);
    }
    Ok(found)
}

row! {
    struct FindingTexts {
        id: FindingId = "id",
        finding_id: String = "finding_id",
        path: Option<String> = "path",
        inside: Option<String> = "inside",
        config: Option<String> = "config",
        fingerprint: Option<String> = "fingerprint",
        masked: Option<String> = "masked",
        length: Option<u64> = "length",
        first_seen: Seconds = "first_seen",
    }
}

row! {
    struct RuleTexts {
        id: RuleId = "id",
        rule: String = "rule",
        title: String = "title",
        severity: Severity = "severity",
        confidence: Confidence = "confidence",
    }
}

row! {
    struct PackageTexts {
        id: PackageId = "id",
        ecosystem: String = "ecosystem",
        name: String = "name",
        version: Option<String> = "version",
    }
}

row! {
    struct KeyTexts {
        id: KeyId = "id",
        digest: LayerKey = "digest",
    }
}

row! {
    struct LayerTexts {
        id: LayerId = "id",
        digest: Digest = "digest",
        diff_id: Option<Digest> = "diff_id",
    }
}

row! {
    struct InstructionTexts {
        id: InstructionId = "id",
        created_by: String = "created_by",
    }
}

/// What places are made of.
struct Texts {
    findings: HashMap<FindingId, FindingTexts>,
    rules: HashMap<RuleId, RuleTexts>,
    packages: HashMap<PackageId, PackageTexts>,
    keys: HashMap<KeyId, KeyTexts>,
    layers: HashMap<LayerId, LayerTexts>,
    instructions: HashMap<InstructionId, InstructionTexts>,
}

impl Texts {
    fn of<'p>(connection: &mut Connection, places: impl Iterator<Item = &'p Place>) -> Result<Texts, Fault> {
        let Numbers { findings, rules, packages, keys, layers, instructions } = Numbers::of(places);
        Ok(Texts {
            findings: texts(connection, "findings", &findings, |row: &FindingTexts| row.id)?,
            rules: texts(connection, "rules", &rules, |row: &RuleTexts| row.id)?,
            packages: texts(connection, "packages", &packages, |row: &PackageTexts| row.id)?,
            keys: texts(connection, "layer_keys", &keys, |row: &KeyTexts| row.id)?,
            layers: texts(connection, "layers", &layers, |row: &LayerTexts| row.id)?,
            instructions: texts(connection, "instructions", &instructions, |row: &InstructionTexts| row.id)?,
        })
    }

    /// A place with its texts; `None` for one whose finding refers to nothing.
    fn traced(&self, place: &Place) -> Result<Option<TracedPlace>, Fault> {
        let finding = match place.finding {
            Some(found) => match self.finding(&found)? {
                Some(finding) => Some(finding),
                None => return Ok(None),
            },
            None => None,
        };
        let layer = place.layer.and_then(|layer| {
            let LayerTexts { digest, diff_id, .. } = self.layers.get(&layer.layer)?;
            let instruction = layer.instruction.and_then(|id| self.instructions.get(&id));
            Some(TracedLayer {
                position: u64::try_from(layer.position).unwrap_or_default(),
                digest: digest.clone(),
                diff_id: diff_id.clone(),
                created_by: instruction.map(|row| row.created_by.clone()),
            })
        });
        Ok(Some(TracedPlace { finding, layer, state: place.state, ended_by: place.ended_by, base: None }))
    }

    fn finding(&self, found: &Found) -> Result<Option<TracedFinding>, Fault> {
        let rows = (self.findings.get(&found.id), self.rules.get(&found.rule), self.keys.get(&found.key));
        let (Some(row), Some(rule), Some(key)) = rows else { return Ok(None) };
        let invalid = |error: ParseError| Fault::Damaged(format!("invalid archive members: {error}"));
        let inside = row.inside.as_deref().map(parse::json).transpose().map_err(invalid)?;
        let package = found.package.and_then(|package| self.packages.get(&package)).map(|package| Package {
            ecosystem: package.ecosystem.clone().into(),
            name: package.name.clone(),
            version: package.version.clone(),
        });
        let RuleTexts { rule, title, severity, confidence, .. } = rule;
        let rule = RuleSummary { id: rule.clone(), title: title.clone(), severity: *severity, confidence: *confidence };
        Ok(Some(TracedFinding {
            finding_id: row.finding_id.clone(),
            rule,
            path: row.path.clone(),
            inside: inside.unwrap_or_default(),
            config: row.config.clone(),
            fingerprint: row.fingerprint.clone(),
            masked: row.masked.clone(),
            length: row.length,
            package,
            layer_key: key.digest.clone(),
            first_seen: row.first_seen,
            first_prompt: None,
        }))
    }
}

/// The rows `ids` of `table`.
fn texts<Id: Copy + Eq + Hash + Into<Value>, R: Columns>(
    connection: &mut Connection,
    table: &str,
    ids: &BTreeSet<Id>,
    id_of: impl Fn(&R) -> Id,
) -> Result<HashMap<Id, R>, Fault> {
    let rest = |list: &str| format!("FROM {table} WHERE id IN ({list})");
    let ids: Vec<Value> = ids.iter().copied().map(Into::into).collect();
    let rows: Vec<R> = connection.select_in(rest, &[], &ids)?;
    Ok(rows.into_iter().map(|row| (id_of(&row), row)).collect())
}
