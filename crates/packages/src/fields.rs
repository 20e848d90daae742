//! Paragraphs of `Name: value` lines, as dpkg, Python and Java manifests have them.

/// The longest value that is kept, in bytes. Longer ones are cut.
pub(crate) const LONGEST_VALUE: usize = 1024;

/// `bytes` as text for a record: cut, without surrounding blanks, damaged UTF-8 replaced.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_VALUE)]).trim().to_string()
}

/// The lines of `bytes`, without their ends.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// The value of the line if its field is `name`, in any case.
pub(crate) fn value<'l>(line: &'l [u8], name: &str) -> Option<&'l [u8]> {
    let (field, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    field.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
}

/// The text of the line if its field is `name` and not empty.
pub(crate) fn field(line: &[u8], name: &str) -> Option<String> {
    value(line, name).map(text).filter(|value| !value.is_empty())
}
