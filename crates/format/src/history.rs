//! Which instruction made which layer.

use super::config::{HistoryEntry, ImageConfig};

/// The instruction behind each layer, and whether the history fits the layers at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// For every layer the index of its history entry, where one is known.
    pub entries: Vec<Option<usize>>,
    /// Whether there are as many history entries with a layer as there are layers. An empty history fits.
    pub fits: bool,
}

/// Joins `layers` layers with the history entries that made a layer, in order.
///
/// Where the counts disagree no layer gets an instruction: a wrong one would be worse.
pub fn align(config: &ImageConfig, layers: usize) -> Alignment {
    let with_layer: Vec<usize> = (0..config.history.len()).filter(|&i| !config.history[i].empty_layer).collect();
    if with_layer.len() == layers {
        return Alignment { entries: with_layer.into_iter().map(Some).collect(), fits: true };
    }
    Alignment { entries: vec![None; layers], fits: config.history.is_empty() }
}

/// An instruction as a person would write it: without the shell that Docker's classic builder puts in front.
pub fn instruction(entry: &HistoryEntry) -> &str {
    let text = entry.created_by.trim();
    for prefix in ["/bin/sh -c #(nop) ", "/bin/sh -c #(nop)"] {
        if let Some(rest) = text.strip_prefix(prefix) {
            return rest.trim();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(empty: &[bool]) -> ImageConfig {
        let history = empty.iter().map(|&empty_layer| HistoryEntry { empty_layer, ..HistoryEntry::default() });
        ImageConfig { history: history.collect(), ..ImageConfig::default() }
    }

    #[test]
    fn empty_layers_are_passed_over() {
        let alignment = align(&config(&[false, true, true, false]), 2);
        assert_eq!(alignment, Alignment { entries: vec![Some(0), Some(3)], fits: true });
    }

    #[test]
    fn a_history_that_does_not_fit_names_nothing() {
        assert_eq!(align(&config(&[false]), 2), Alignment { entries: vec![None, None], fits: false });
        assert!(align(&config(&[]), 2).fits);
    }

    #[test]
    fn the_classic_builder_s_prefix_goes() {
        let entry = HistoryEntry { created_by: "/bin/sh -c #(nop)  CMD [\"sh\"]".into(), ..HistoryEntry::default() };
        assert_eq!(instruction(&entry), "CMD [\"sh\"]");
    }
}
