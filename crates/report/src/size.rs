//! Sizes for people.

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

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn three_digits() {
        let shown = [0, 1023, 1024, 10 * 1024 + 512, 1_740_000_000, 999 << 20].map(human);
        assert_eq!(shown, ["0 B", "1023 B", "1.00 KiB", "10.5 KiB", "1.62 GiB", "999 MiB"]);
    }
}
