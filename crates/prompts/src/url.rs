//! The path and the query of a request, with what is percent-encoded in them.

use std::collections::BTreeSet;

use layersift_model::percent_decoded;

use crate::conversation::{Content, Conversation, Kind, Part, Segments, Source};
use crate::form::Form;

/// How often encoded text is decoded: servers in a row may each do it once.
const MOST_ROUNDS: usize = 3;

/// Reads a path with its query. It is one text: as it came, decoded, and each segment, name and value of it on a line
/// of its own, so that nothing stands right before a secret or after it.
pub(crate) fn read(url: &[u8]) -> Conversation<'_> {
    let text = String::from_utf8_lossy(&lines(url).join(&b'\n')).into_owned();
    // A URL goes on as it came.
    let segments = Segments::whole(text.len(), Source::Fixed);
    let part = Part::of_user(Kind::Url, Content::Text { text: text.into(), segments });
    Conversation::of_parts(Form::Text, vec![part], url)
}

fn lines(url: &[u8]) -> Vec<Vec<u8>> {
    let mut known = BTreeSet::new();
    let mut lines = Vec::new();
    let mut add = |line: Vec<u8>| {
        if !line.is_empty() && known.insert(line.clone()) {
            lines.push(line);
        }
    };
    let pieces = url.split(|byte| b"/?&;=#".contains(byte));
    // Values stand with their names as well: some secrets are only told by them.
    let pairs = url.split(|byte| b"?&;".contains(byte)).skip(1);
    for piece in std::iter::once(url).chain(pairs).chain(pieces) {
        add(piece.to_vec());
        if piece.contains(&b'+') {
            let spaced: Vec<u8> = piece.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
            decoded(spaced, &mut add);
        }
        decoded(piece.to_vec(), &mut add);
    }
    lines
}

fn is_delimiter(byte: &u8) -> bool {
    b"/?&;=#+,: ".contains(byte)
}

fn decoded(mut piece: Vec<u8>, add: &mut impl FnMut(Vec<u8>)) {
    for _ in 0..MOST_ROUNDS {
        let decoded = percent_decoded(&piece);
        if decoded == piece {
            return;
        }
        add(decoded.clone());
        decoded.split(is_delimiter).for_each(|part| add(part.to_vec()));
        piece = decoded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_server_may_read_is_there() {
        let conversation = read(b"/v1/a%2Fb?q=x+y%2520z&key%3dw");
        let text = conversation.parts[0].text().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for line in ["/v1/a%2Fb?q=x+y%2520z&key%3dw", "a/b", "q=x y%20z", "q=x+y z", "x y z", "key=w", "v1", "a%2Fb"] {
            assert!(lines.contains(&line), "{line}: {lines:?}");
        }
        assert_eq!(read(b"/v1/models").parts[0].text(), Some("/v1/models\nv1\nmodels"));
    }
}
