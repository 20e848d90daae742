//! Small parts that texts for people are made of: sizes, plurals, and names from an image made safe for a terminal.

use layersift_model::steers;

/// `bytes` with three digits and a binary unit, such as `1.74 GiB`.
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    for (index, _) in UNITS.iter().enumerate() {
        value /= 1024.0;
        unit = index;
        if value < 999.5 {
            break;
        }
    }
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `text` on one line, without control characters, cut to `limit` characters.
pub fn clean(text: &str, limit: usize) -> String {
    let mut words = String::new();
    for (count, c) in text.split_whitespace().flat_map(|word| [word, " "]).flat_map(str::chars).enumerate() {
        if count == limit {
            words.push('…');
            break;
        }
        words.push(if steers(c) { '\u{fffd}' } else { c });
    }
    words.trim_end().to_string()
}

/// `count` and `noun`, which takes an `s`.
pub fn plural(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::{clean, human};

    #[test]
    fn three_digits() {
        let shown = [0, 1023, 1024, 10 * 1024 + 512, 1_740_000_000, 999 << 20].map(human);
        assert_eq!(shown, ["0 B", "1023 B", "1.00 KiB", "10.5 KiB", "1.62 GiB", "999 MiB"]);
    }

    #[test]
    fn nothing_from_an_image_steers_the_terminal() {
        assert_eq!(clean("a\x1b[31mb\n\tc", 100), "a\u{fffd}[31mb c");
        assert_eq!(clean("a\u{202e}b\u{9b}c", 100), "a\u{fffd}b\u{fffd}c");
        assert_eq!(clean("abcdef", 3), "abc…");
    }
}
