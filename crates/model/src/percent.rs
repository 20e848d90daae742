//! Percent-encoding (RFC 3986, section 2.1).

/// `text` without percent-encoding. What is not encoded well stays as it is.
pub fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut rest = text;
    let mut out = Vec::with_capacity(rest.len());
    while let Some((byte, after)) = rest.split_first() {
        let decoded = after.first_chunk().filter(|_| *byte == b'%').and_then(hex_byte);
        out.push(decoded.unwrap_or(*byte));
        rest = if decoded.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    out
}

/// The byte that two hexadecimal digits of either case stand for.
pub fn hex_byte(digits: &[u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? << 4 | low?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_encoded_well_stays() {
        for (text, decoded) in
            [("a%20b", "a b"), ("%2f%2F", "//"), ("%zz%+1%2", "%zz%+1%2"), ("%%41", "%A"), ("%2520", "%20"), ("", "")]
        {
            assert_eq!(percent_decoded(text.as_bytes()), decoded.as_bytes(), "{text}");
        }
    }
}
