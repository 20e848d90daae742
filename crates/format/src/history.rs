//! Matches history entries with the layers that they created.

use super::config::{HistoryEntry, ImageConfig};

/// The history entry of each layer, and whether history and layers agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alignment {
    /// For each layer, the index of its history entry, if known.
    pub entries: Vec<Option<usize>>,
    /// Whether the history has one entry with a layer for each layer. An empty history fits, too.
    pub fits: bool,
}

/// Assigns the history entries that created a layer to `layers` layers, in order.
///
/// If the counts differ, no layer gets an entry: a wrong instruction would be worse than none.
pub fn align(config: &ImageConfig, layers: usize) -> Alignment {
    let with_layer: Vec<usize> = (0..config.history.len()).filter(|&i| !config.history[i].empty_layer).collect();
    if with_layer.len() == layers {
        return Alignment { entries: with_layer.into_iter().map(Some).collect(), fits: true };
    }
    Alignment { entries: vec![None; layers], fits: config.history.is_empty() }
}

/// The instruction as its author wrote it, without the shell that Docker's classic builder puts before it.
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
    fn empty_layers_are_skipped() {
        let alignment = align(&config(&[false, true, true, false]), 2);
        assert_eq!(alignment, Alignment { entries: vec![Some(0), Some(3)], fits: true });
    }

    #[test]
    fn a_history_that_does_not_fit_gives_no_instructions() {
        assert_eq!(align(&config(&[false]), 2), Alignment { entries: vec![None, None], fits: false });
        assert!(align(&config(&[]), 2).fits);
    }

    #[test]
    fn the_prefix_of_the_classic_builder_is_removed() {
        let entry = HistoryEntry { created_by: "/bin/sh -c #(nop)  CMD [\"sh\"]".into(), ..HistoryEntry::default() };
        assert_eq!(instruction(&entry), "CMD [\"sh\"]");
    }
}
