//! The work of joining the layers of one image, counted in looks at one directory of one path.

/// Looks that one image may take: far more than any image needs, and a few seconds.
const LOOKS: u64 = 6_000_000;

/// The looks that a symbolic link takes in a layer: whether it stays, and where it leads then.
pub(crate) const LINK: u64 = 2;

/// What is left of the work.
#[derive(Debug)]
pub(crate) struct Work {
    left: u64,
    is_exceeded: bool,
}

impl Default for Work {
    fn default() -> Work {
        Work { left: LOOKS, is_exceeded: false }
    }
}

impl Work {
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
    #[cfg(test)]
    pub(crate) fn taken(&self) -> u64 {
        LOOKS - self.left
    }

    /// Whether some work was not done.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.is_exceeded
    }
}
