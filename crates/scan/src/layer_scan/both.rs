//! One walk of a layer for two: the scan of its files, and what collects its packages.

use std::ops::Range;

use layersift_format::tar::Entry;
use layersift_model::ImagePath;

use super::{FileHandle, LayerVisitor};
use crate::inventory::visitor::PackageVisitor;
use crate::layer::buffer::Bytes;
use crate::layer::walk::{Rest, Visitor};

/// Passes what is walked to the scan, and to what collects packages.
pub(super) struct Both<'d, 'a, 's> {
    pub(super) scan: LayerVisitor<'d, 'a, 's>,
    pub(super) packages: Option<PackageVisitor<'d>>,
}

impl<'a, 's> Visitor<'a> for Both<'_, 'a, 's>
where
    's: 'a,
{
    /// That of the scan: both take the same entries for files.
    type File = FileHandle<'a, 's>;

    fn entry(&mut self, path: &ImagePath, entry: &Entry) -> Option<Self::File> {
        if let Some(packages) = &mut self.packages {
            packages.entry(path, entry);
        }
        self.scan.entry(path, entry)
    }

    fn rest(&mut self, rest: Rest) -> Self::File {
        if let Some(packages) = &mut self.packages {
            packages.rest(rest);
        }
        self.scan.rest(rest)
    }

    fn hole(&mut self, file: &Self::File, length: u64) {
        if let Some(packages) = &mut self.packages {
            packages.hole(&(), length);
        }
        self.scan.hole(file, length);
    }

    fn bytes(&mut self, file: &Self::File, offset: u64, window: &Bytes<'a>, range: Range<usize>) {
        if let Some(packages) = &mut self.packages {
            packages.bytes(&(), offset, window, range.clone());
        }
        self.scan.bytes(file, offset, window, range);
    }

    fn end(&mut self, file: Self::File) {
        if let Some(packages) = &mut self.packages {
            packages.end(());
        }
        self.scan.end(file);
    }

    fn header(&mut self, block: &[u8], is_last: bool) {
        self.scan.header(block, is_last);
    }
}
