//! The output of `layersift sbom`: the packages of an image, as CycloneDX for other programs and as a table.
//!
//! Source: CycloneDX 1.6, `bom-1.6.schema.json`. Packages that a later layer removed are in the document as well, told
//! apart by `scope` and by properties: anyone who can pull the image can pull them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use layersift_model::{Ecosystem, ImageGap, InstalledPackage, Inventory};
use serde::Serialize;

use crate::terminal::{BOLD, DIM, Line, PLAIN, WARNING, clean, plural, safe};

/// Gaps that are listed in text; more are counted.
const GAPS: usize = 20;

/// The widest name and version that the columns of the table make room for.
const WIDEST_NAME: usize = 40;
const WIDEST_VERSION: usize = 28;

/// Writes the inventory as CycloneDX 1.6 in JSON.
///
/// # Errors
/// Those of `out`.
pub fn cyclonedx(inventory: &Inventory, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &Bom::new(inventory))?;
    writeln!(out)
}

/// Writes tables for a person, of at most `width` columns.
///
/// # Errors
/// Those of `out`.
pub fn text(inventories: &[Inventory], width: usize, out: &mut dyn Write) -> io::Result<()> {
    for (index, inventory) in inventories.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        table(inventory, width, out)?;
    }
    Ok(())
}

fn table(inventory: &Inventory, width: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut line = Line::begin(out, 0, width)?;
    line.path(BOLD, &clean(name(inventory), usize::MAX), "")?;
    line.text(PLAIN, &clean(inventory.platform.as_deref().unwrap_or("unknown platform"), 60))?;
    line.text(PLAIN, &inventory.distribution.as_ref().map(distribution).unwrap_or_default())?;
    line.end()?;
    let widest = |text: fn(&InstalledPackage) -> String, most: usize| {
        inventory.packages.iter().map(|package| text(package).chars().count()).max().unwrap_or(0).clamp(7, most)
    };
    let (names, versions) = (widest(full_name, WIDEST_NAME), widest(version, WIDEST_VERSION));
    let [kind, title, number] = ["type", "name", "version"];
    writeln!(out, "{DIM}{kind:<6}  {title:<names$}  {number:<versions$}  layer  place{DIM:#}")?;
    for package in &inventory.packages {
        let (name, version) = (clean(&full_name(package), 200), clean(&version(package), 200));
        let kind = package.record.ecosystem.name();
        write!(out, "{kind:<6}  {name:<names$}  {version:<versions$}  {:>5}  ", package.layer)?;
        if let Some(fate) = fate(package) {
            write!(out, "{WARNING}{fate}{WARNING:#}  ")?;
        }
        writeln!(out, "{}", safe(&place(package)))?;
    }
    gaps(&inventory.gaps, width, out)?;
    summary(inventory, out)
}

fn summary(inventory: &Inventory, out: &mut dyn Write) -> io::Result<()> {
    let mut counts: BTreeMap<Ecosystem, usize> = BTreeMap::new();
    for package in inventory.packages.iter().filter(|package| package.is_visible()) {
        *counts.entry(package.record.ecosystem).or_default() += 1;
    }
    let each: Vec<String> = counts.iter().map(|(ecosystem, count)| format!("{count} {}", ecosystem.name())).collect();
    let visible = inventory.visible();
    let hidden = inventory.packages.len() - visible;
    write!(out, "{}", plural(visible as u64, "package"))?;
    if !each.is_empty() {
        write!(out, ": {}", each.join(", "))?;
    }
    writeln!(out, "; {hidden} hidden in layers")
}

fn gaps(gaps: &[ImageGap], width: usize, out: &mut dyn Write) -> io::Result<()> {
    for ImageGap { gap, layer } in gaps.iter().take(GAPS) {
        let mut line = Line::begin(out, 0, width)?;
        line.text(WARNING, "gap")?;
        line.text(PLAIN, gap.reason.name())?;
        line.text(PLAIN, &layer.map(|layer| format!("layer {layer}")).unwrap_or_default())?;
        line.text(PLAIN, &gap.path.as_deref().map(|path| clean(path, 200)).unwrap_or_default())?;
        line.text(DIM, &clean(&gap.detail, 300))?;
        line.end()?;
    }
    if gaps.len() > GAPS {
        writeln!(out, "… and {}", plural((gaps.len() - GAPS) as u64, "more gap"))?;
    }
    Ok(())
}

fn name(inventory: &Inventory) -> &str {
    inventory.reference.as_deref().unwrap_or(&inventory.target)
}

fn distribution(known: &layersift_model::Distribution) -> String {
    let plain = || [Some(known.id.clone()), known.version.clone()].into_iter().flatten().collect::<Vec<_>>().join(" ");
    clean(&known.title.clone().unwrap_or_else(plain), 60)
}

/// The name as people write it: `@scope/name` and `group:name`.
fn full_name(package: &InstalledPackage) -> String {
    let record = &package.record;
    match (&record.namespace, record.ecosystem) {
        (Some(scope), Ecosystem::Npm) => format!("@{scope}/{}", record.name),
        (Some(group), _) => format!("{group}:{}", record.name),
        (None, _) => record.name.clone(),
    }
}

/// The version with the epoch of an RPM before it, as rpm prints it.
fn version(package: &InstalledPackage) -> String {
    match &package.record.epoch {
        Some(epoch) => format!("{epoch}:{}", package.record.version),
        None => package.record.version.clone(),
    }
}

fn fate(package: &InstalledPackage) -> Option<String> {
    let by = package.ended_by.map(|layer| format!(" in layer {layer}")).unwrap_or_default();
    (!package.is_visible()).then(|| format!("{}{by}", package.state.name()))
}

/// The file with the record, and the members of archives that lead to it.
fn place(package: &InstalledPackage) -> String {
    let inside = package.record.inside.iter().map(|member| clean(member, usize::MAX));
    std::iter::once(package.path.to_string()).chain(inside).collect::<Vec<_>>().join(" \u{25b8} ")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    compositions: Vec<Composition>,
}

#[derive(Serialize)]
struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    tools: Tools,
    component: Component,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Serialize)]
struct Tools {
    components: Vec<Component>,
}

/// Whether the components are all that there are.
#[derive(Serialize)]
struct Composition {
    aggregate: &'static str,
    assemblies: Vec<&'static str>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bom_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<LicenseChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Serialize)]
struct LicenseChoice {
    license: License,
}

#[derive(Serialize)]
struct License {
    name: String,
}

#[derive(Serialize)]
struct Property {
    name: &'static str,
    value: String,
}

const IMAGE: &str = "image";

impl Bom {
    fn new(inventory: &Inventory) -> Bom {
        let packages =
            inventory.packages.iter().enumerate().map(|(index, package)| component(index, package, inventory));
        let composition = Composition { aggregate: "incomplete", assemblies: vec![IMAGE] };
        Bom {
            schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
            bom_format: "CycloneDX",
            spec_version: "1.6",
            version: 1,
            metadata: metadata(inventory),
            components: operating_system(inventory).into_iter().chain(packages).collect(),
            compositions: if inventory.gaps.is_empty() { Vec::new() } else { vec![composition] },
        }
    }
}

fn metadata(inventory: &Inventory) -> Metadata {
    let digest = |name, digest: &Option<layersift_model::Digest>| property(name, digest.as_ref()?);
    let properties = [
        digest("layersift:image:manifest", &inventory.manifest_digest),
        digest("layersift:image:config", &inventory.config_digest),
        inventory.platform.as_ref().and_then(|platform| property("layersift:image:platform", platform)),
    ];
    let gap = |ImageGap { gap, layer }: &ImageGap| {
        let layer = layer.map(|layer| format!("layer {layer}"));
        let parts = [Some(gap.reason.name().to_string()), layer, gap.path.clone(), Some(gap.detail.clone())];
        property("layersift:gap", parts.into_iter().flatten().collect::<Vec<_>>().join(": "))
    };
    let version = inventory.manifest_digest.as_ref().or(inventory.config_digest.as_ref());
    Metadata {
        timestamp: inventory.read_at.map(|time| format!("{time:.0}")),
        tools: Tools {
            components: vec![Component {
                kind: "application",
                name: "layersift".into(),
                version: Some(inventory.version.clone()).filter(|version| !version.is_empty()),
                ..Component::default()
            }],
        },
        component: Component {
            kind: "container",
            bom_ref: Some(IMAGE.into()),
            name: name(inventory).into(),
            version: version.map(ToString::to_string),
            properties: properties.into_iter().flatten().collect(),
            ..Component::default()
        },
        properties: inventory.gaps.iter().filter_map(gap).collect(),
    }
}

fn operating_system(inventory: &Inventory) -> Option<Component> {
    let known = inventory.distribution.as_ref()?;
    Some(Component {
        kind: "operating-system",
        bom_ref: Some("distribution".into()),
        name: known.id.clone(),
        version: known.version.clone(),
        ..Component::default()
    })
}

fn component(index: usize, package: &InstalledPackage, inventory: &Inventory) -> Component {
    let record = &package.record;
    let group = record.namespace.as_ref().map(|name| match record.ecosystem {
        Ecosystem::Npm => format!("@{name}"),
        _ => name.clone(),
    });
    let license = |name: &String| LicenseChoice { license: License { name: name.clone() } };
    let layer = |index: usize| inventory.layers.get(index).and_then(|layer| layer.diff_id.as_ref());
    let ended = package.ended_by;
    let properties = [
        property("layersift:state", package.state.name()),
        property("layersift:path", &package.path),
        property("layersift:layer:index", package.layer),
        layer(package.layer).and_then(|digest| property("layersift:layer:diff-id", digest)),
        ended.and_then(|index| property("layersift:ended-by:index", index)),
        ended.and_then(layer).and_then(|digest| property("layersift:ended-by:diff-id", digest)),
        record.source.as_ref().and_then(|source| property("layersift:source-package", source)),
    ];
    let inside = record.inside.iter().filter_map(|member| property("layersift:member", member));
    Component {
        kind: "library",
        bom_ref: Some(format!("package-{index}")),
        group,
        name: record.name.clone(),
        version: Some(version(package)).filter(|version| !version.is_empty()),
        // CycloneDX: not reachable at run time.
        scope: (!package.is_visible()).then_some("excluded"),
        licenses: record.licence.iter().map(license).collect(),
        purl: Some(package.purl.clone()),
        properties: properties.into_iter().flatten().chain(inside).collect(),
    }
}

fn property(name: &'static str, value: impl ToString) -> Option<Property> {
    Some(Property { name, value: value.to_string() })
}
