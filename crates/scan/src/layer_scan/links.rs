//! Findings in hard links to files of the same layer.

use std::collections::{HashMap, HashSet};

use layersift_model::{HardLink, LayerFinding, Limits, Ranked};

use crate::layer_work::{LINKED, LayerWork};

/// The findings, and those of files under the paths of their hard links, as many as fit and as there is work left for;
/// and how many are left out.
pub(super) fn with_linked(
    found: Ranked<LayerFinding>,
    links: &[HardLink],
    limits: &Limits,
    work: &LayerWork,
) -> (Vec<LayerFinding>, u64) {
    let (findings, dropped) = found.into_parts();
    let linked: HashSet<u32> = links.iter().filter_map(|link| link.entry_of_origin()).collect();
    if !findings.iter().any(|finding| linked.contains(&finding.entry)) {
        return (findings, dropped);
    }
    let mut by_entry: HashMap<u32, Vec<LayerFinding>> = HashMap::new();
    for finding in findings.iter().filter(|finding| linked.contains(&finding.entry)) {
        by_entry.entry(finding.entry).or_default().push(finding.clone());
    }
    let mut all = Ranked::new(limits.findings_per_layer, limits.layer_finding_bytes);
    all.add_dropped(dropped);
    findings.into_iter().for_each(|finding| all.add(finding));
    for link in links {
        let originals = link.entry_of_origin().and_then(|entry| by_entry.get(&entry));
        let Some(originals) = originals else { continue };
        if work.add(originals.len() as u64 * LINKED) {
            originals.iter().for_each(|original| all.add(original.linked(link)));
        } else {
            all.add_dropped(originals.len() as u64);
        }
    }
    all.into_parts()
}

#[cfg(test)]
mod tests {
    use layersift_model::{ImagePath, Origin, Place};

    use super::*;
    use crate::compiled_rules::CompiledRules;

    #[test]
    fn findings_are_repeated_for_links_as_long_as_there_is_work_left() {
        let rules = CompiledRules::built_in();
        let rule = rules.file_info(0);
        let finding = |offset| LayerFinding {
            severity: rule.severity,
            rule: rule.clone(),
            place: Place { path: ImagePath::normalize(b"t"), offset, ..Place::default() },
            entry: 0,
            superseded: None,
            secret: None,
            note: None,
            checksums: None,
            attributes: None,
        };
        let link = |entry| {
            let link = ImagePath::normalize(format!("{entry}").as_bytes());
            HardLink { link, entry, origin: Origin::Entry(0), superseded: None }
        };
        let links: Vec<HardLink> = (1..=1_000).map(link).collect();
        let linked = |layer_work| {
            let limits = Limits { layer_work, layer_work_per_byte: 0, ..Limits::default() };
            let mut found = Ranked::new(limits.findings_per_layer, limits.layer_finding_bytes);
            (0..10).for_each(|offset| found.add(finding(offset)));
            with_linked(found, &links, &limits, &LayerWork::new(&limits))
        };
        assert_eq!(linked(1 << 30).0.len(), 10 + 10_000);
        let (findings, dropped) = linked(100 * 10 * LINKED);
        assert_eq!((findings.len() as u64, dropped), (10 + 1_000, 9_000));
    }
}
