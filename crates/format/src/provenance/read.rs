//! Reads statements of provenance. Everything is optional and bounded: a statement comes from whoever pushed it.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use layersift_model::Digest;

use super::{Material, Provenance, SourceFile, Step, build_arguments};
use crate::dockerfile::{Dockerfile, Variables};
use crate::json::Node;

/// The predicates that are read.
const PREDICATES: [&str; 3] =
    ["https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v0.1"];

/// BuildKit's name for its metadata in version 0.2.
const METADATA: &str = "https://mobyproject.org/buildkit@v1#metadata";

/// The largest Dockerfile in bytes.
const MAX_DOCKERFILE: usize = 1 << 20;

/// The most steps, materials and subjects, and the most places of one step.
const MAX_STEPS: usize = 10_000;
const MAX_LOCATIONS: usize = 100;

/// Where the two versions keep the same things.
struct Places<'n> {
    definition: Option<&'n Node>,
    materials: Option<&'n Node>,
    request: Option<&'n Node>,
    metadata: Option<&'n Node>,
}

impl Provenance {
    /// Reads a statement; `None` if it is not one of provenance.
    pub fn read(statement: &Node) -> Option<Provenance> {
        let kind = statement.get("predicateType")?.as_str()?;
        if !PREDICATES.contains(&kind) {
            return None;
        }
        let predicate = statement.get("predicate")?;
        let places = Places::of(predicate);
        let args = places.request.and_then(|request| request.get("args")).map(strings).unwrap_or_default();
        let source = places.metadata.and_then(|metadata| metadata.get("source"));
        let file = source.and_then(|source| dockerfile(source, &build_arguments(&args)));
        let mut provenance = Provenance {
            subjects: subjects(statement),
            target: args.get("target").filter(|target| !target.is_empty()).cloned(),
            materials: places.materials.map(materials).unwrap_or_default(),
            file,
            ..Provenance::default()
        };
        provenance.read_steps(&places, source);
        Some(provenance)
    }

    fn read_steps(&mut self, places: &Places<'_>, source: Option<&Node>) {
        let mut steps: HashMap<&str, Step> = HashMap::new();
        let chains = places.metadata.and_then(|metadata| metadata.get("layers")).map(members).unwrap_or_default();
        for (name, results) in chains.iter().take(MAX_STEPS) {
            // `step7:0` is the first result of `step7`.
            let step = name.split(':').next().unwrap_or_default();
            steps.entry(step).or_default().chains.extend(results.elements().iter().filter_map(chain));
        }
        let locations = source.and_then(|source| source.get("locations")).map(members).unwrap_or_default();
        for (name, location) in locations {
            // Only what made layers is of interest.
            let Some(step) = steps.get_mut(&name[..]) else { continue };
            for one in location.get("locations").map(Node::elements).unwrap_or_default().iter().take(MAX_LOCATIONS) {
                self.add_lines(step, one);
            }
        }
        for definition in places.definition.map(Node::elements).unwrap_or_default() {
            let Some(step) = definition.get("id").and_then(Node::as_str).and_then(|id| steps.get_mut(id)) else {
                continue;
            };
            let operation = definition.get("op").and_then(|op| op.get("Op")).and_then(|op| op.get("source"));
            let identifier = operation.and_then(|source| source.get("identifier")).and_then(Node::as_str);
            let is_image = |text: &&str| text.starts_with("docker-image://") || text.starts_with("oci-layout://");
            step.image = identifier.filter(is_image).map(Into::into);
        }
        let mut steps: Vec<(&str, Step)> = steps.into_iter().collect();
        steps.sort_by_key(|(name, _)| *name);
        self.steps = steps.into_iter().map(|(_, step)| step).collect();
    }

    /// Adds the lines of one instruction, which come as one range for each of them.
    fn add_lines(&mut self, step: &mut Step, location: &Node) {
        // Other files than the first are not read.
        if number(location.get("sourceIndex")).is_some_and(|index| index > 0) {
            return;
        }
        let ranges = location.get("ranges").map(Node::elements).unwrap_or_default();
        let line = |range: &Node, end: &str| number(range.get(end).and_then(|end| end.get("line")));
        let first = ranges.iter().filter_map(|range| line(range, "start")).min();
        let last = ranges.iter().filter_map(|range| line(range, "end").or_else(|| line(range, "start"))).max();
        let (Some(first), Some(last)) = (first, last) else { return };
        let lines = self.file.as_ref().map_or(0, |file| file.dockerfile.lines);
        if first == 0 || first > last || last > lines {
            self.wrong_lines += 1;
        } else {
            step.lines.push((first, last));
        }
    }
}

impl<'n> Places<'n> {
    fn of(predicate: &'n Node) -> Places<'n> {
        let at = |path: &[&str]| path.iter().try_fold(predicate, |node, name| node.get(name));
        if predicate.get("buildDefinition").is_some() {
            return Places {
                definition: at(&["buildDefinition", "internalParameters", "buildConfig", "llbDefinition"]),
                materials: at(&["buildDefinition", "resolvedDependencies"]),
                request: at(&["buildDefinition", "externalParameters", "request"]),
                metadata: at(&["runDetails", "metadata", "buildkit_metadata"]),
            };
        }
        Places {
            definition: at(&["buildConfig", "llbDefinition"]),
            materials: at(&["materials"]),
            request: at(&["invocation", "parameters"]),
            metadata: at(&["metadata", METADATA]),
        }
    }
}

fn members(node: &Node) -> &[(String, Node)] {
    if let Node::Object(members) = node { members } else { &[] }
}

fn strings(node: &Node) -> Variables {
    let string = |(name, value): &(String, Node)| Some((name.clone(), value.as_str()?.to_string()));
    members(node).iter().take(MAX_STEPS).filter_map(string).collect()
}

fn number(node: Option<&Node>) -> Option<u64> {
    if let Some(Node::Number(number)) = node { number.as_u64() } else { None }
}

fn subjects(statement: &Node) -> Vec<Digest> {
    let subjects = statement.get("subject").map(Node::elements).unwrap_or_default();
    subjects.iter().take(MAX_STEPS).filter_map(|subject| digest(subject.get("digest")?)).collect()
}

/// A digest as in-toto writes it: an object of algorithms and hexadecimal digits.
fn digest(node: &Node) -> Option<Digest> {
    let one = |(name, hex): &(String, Node)| format!("{name}:{}", hex.as_str()?).parse().ok();
    members(node).iter().find_map(one)
}

fn materials(node: &Node) -> Vec<Material> {
    let material = |one: &Node| {
        Some(Material { uri: one.get("uri")?.as_str()?.into(), digest: one.get("digest").and_then(digest) })
    };
    node.elements().iter().take(MAX_STEPS).filter_map(material).collect()
}

/// A chain; `None` if one of its layers has no digest, so that no place in it is wrong.
fn chain(layers: &Node) -> Option<Vec<Digest>> {
    layers.elements().iter().map(|layer| layer.get("digest")?.as_str()?.parse().ok()).collect()
}

/// The Dockerfile of the build: the first file of the sources.
fn dockerfile(source: &Node, arguments: &Variables) -> Option<SourceFile> {
    let info = source.get("infos")?.elements().first()?;
    let name = info.get("filename").and_then(Node::as_str).filter(|name| !name.is_empty()).unwrap_or("Dockerfile");
    let data = info.get("data")?.as_str()?;
    if data.len() > MAX_DOCKERFILE / 3 * 4 {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(data).ok()?).ok()?;
    let lines = text.lines().map(Into::into).collect();
    Some(SourceFile { name: name.into(), dockerfile: Dockerfile::parse(&text, arguments), lines })
}
