//! Characters that deceive whoever reads a text.

/// Whether a character changes how the text after it is displayed: control characters, and bidirectional formatting
/// characters (Unicode Standard Annex 9), which can make one name look like another.
pub fn changes_display(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a character takes no place, so that texts with it and without it look the same: what Unicode lets a font
/// leave out (`Default_Ignorable_Code_Point`, Unicode 17), other format characters, and fillers that are blank.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_as_it_is_does_not_deceive() {
        for c in ['a', ' ', '\u{e9}', '\u{3042}', '\u{1f511}', '\u{fffd}'] {
            assert!(!changes_display(c) && !is_invisible(c), "{c:?}");
        }
        for c in ['\u{200b}', '\u{200d}', '\u{2060}', '\u{feff}', '\u{ad}', '\u{e0041}'] {
            assert!(is_invisible(c), "{c:?}");
        }
        assert!(changes_display('\u{1b}') && changes_display('\u{202e}'));
    }
}
