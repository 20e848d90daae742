//! The work of joining the layers of one image, counted in looks at one directory of one path.

/// Looks that the images of one target may take: far more than any image needs, and a few seconds.
pub(crate) const LOOKS: u64 = 6_000_000;

/// The looks that a symbolic link takes in a layer: whether it stays, and where it leads then.
pub(crate) const LINK: u64 = 2;

/// What is left of the work.
#[derive(Debug)]
pub(crate) struct Work {
    most: u64,
    left: u64,
    is_exceeded: bool,
}

impl Default for Work {
    fn default() -> Work {
        Work::of(LOOKS)
    }
}

impl Work {
    /// The work of `looks` looks.
    pub(crate) fn of(looks: u64) -> Work {
        Work { most: looks, left: looks, is_exceeded: false }
    }

    /// Takes the work of `looks` and of whatever goes with them. Returns whether it may be done.
    pub(crate) fn take(&mut self, looks: u64) -> bool {
        self.is_exceeded |= looks >= self.left;
        self.left = self.left.saturating_sub(looks.max(1));
        !self.is_exceeded
    }

    /// Says that some work was not done.
    pub(crate) fn exhaust(&mut self) {
        self.is_exceeded = true;
    }

    /// The looks that were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.most - self.left
    }

    /// Whether some work was not done.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.is_exceeded
    }
}
