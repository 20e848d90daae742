//! Whiteouts: entries by which a layer deletes files of the layers below.
//!
//! Source: OCI image-spec v1.1, `layer.md`, section "Whiteouts".

use layersift_model::ImagePath;

/// What a whiteout entry removes from the layers below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whiteout {
    /// A file or a whole directory.
    Path(ImagePath),
    /// The contents of a directory, but not the directory itself.
    Opaque(ImagePath),
}

impl Whiteout {
    /// Parses the path of an entry; `None` if it is not a whiteout.
    ///
    /// Names that begin with `.wh..wh.` other than the opaque marker are bookkeeping of AUFS and remove nothing.
    pub fn of(path: &ImagePath) -> Option<Whiteout> {
        let target = path.name().strip_prefix(b".wh.")?;
        let parent = path.parent()?;
        match target {
            b".wh..opq" => Some(Whiteout::Opaque(parent)),
            b"" | b"." | b".." => None,
            name if name.starts_with(b".wh.") => None,
            name => Some(Whiteout::Path(parent.join(name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Option<Whiteout> {
        Whiteout::of(&ImagePath::normalize(path.as_bytes()))
    }

    #[test]
    fn files_directories_and_markers() {
        let path = |text: &str| ImagePath::normalize(text.as_bytes());
        assert_eq!(of("a/.wh.b"), Some(Whiteout::Path(path("a/b"))));
        assert_eq!(of(".wh.b"), Some(Whiteout::Path(path("b"))));
        assert_eq!(of("a/.wh..wh..opq"), Some(Whiteout::Opaque(path("a"))));
        assert_eq!(of(".wh..wh..opq"), Some(Whiteout::Opaque(path(""))));
        for none in ["a/b", "a/.wh.", "a/.wh...", "a/.wh..wh.plnk", "a/.wh..wh.aufs", ".wh.a/b"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
