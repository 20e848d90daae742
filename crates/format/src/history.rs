//! Matches history entries with the layers that they created.

use jiff::Timestamp;

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

/// When the entry's layer was created. A builder that does not know writes the zero time of Go, year 1.
pub fn time(entry: &HistoryEntry) -> Option<Timestamp> {
    const YEAR_2: i64 = -62_104_060_800;
    let time: Timestamp = entry.created.as_deref()?.parse().ok()?;
    (time.as_second() >= YEAR_2).then_some(time)
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

    #[test]
    fn only_a_time_that_a_builder_knew_is_one() {
        let at = |created: &str| {
            let entry: HistoryEntry = serde_json::from_str(&format!(r#"{{"created":{created}}}"#)).unwrap();
            time(&entry).map(|time| time.to_string())
        };
        assert_eq!(at(r#""2026-01-02T03:04:05+01:00""#).as_deref(), Some("2026-01-02T02:04:05Z"));
        assert_eq!(at(r#""1970-01-01T00:00:00Z""#).as_deref(), Some("1970-01-01T00:00:00Z"));
        for none in [r#""0001-01-01T00:00:00Z""#, r#""yesterday""#, "7", "null", "{}"] {
            assert_eq!(at(none), None, "{none}");
        }
    }
}
