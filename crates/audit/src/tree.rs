//! Merkle trees of RFC 6962, section 2.1 (RFC 9162, 2.1.1), from which only the compact range is kept: the roots of the
//! perfect trees that the leaves make up, of which there are as many as the number of leaves has bits.

use ring::digest::{Context, SHA256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The hash of a leaf: a zero byte goes before its text, so that a leaf is never taken for a node.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    hash(&[&[0], leaf])
}

/// The hash of a node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

/// SHA-256 of `parts`, one after the other.
pub(crate) fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// A tree to which leaves are added at the right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    size: u64,
    /// Roots of perfect trees, the largest, which is the leftmost, first.
    nodes: Vec<Hash>,
}

impl Range {
    /// The tree of `size` leaves whose perfect trees have the roots `nodes`, if these are as many as it takes.
    pub fn new(size: u64, nodes: Vec<Hash>) -> Option<Range> {
        (nodes.len() == size.count_ones() as usize).then_some(Range { size, nodes })
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect trees, the largest first.
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Adds the hash of a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Two perfect trees of the same height make one, as a bit carries in an addition.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.nodes.push(hash);
        self.size += 1;
    }

    /// The hash of the whole tree; that of no leaves is the hash of nothing.
    pub fn root(&self) -> Hash {
        let root = self.nodes.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        root.unwrap_or_else(|| hash(&[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition of RFC 6962, 2.1, word for word.
    fn naive(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => hash(&[]),
            [leaf] => leaf_hash(leaf),
            _ => {
                let left = leaves.len().next_power_of_two() / 2;
                node_hash(&naive(&leaves[..left]), &naive(&leaves[left..]))
            }
        }
    }

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// From `merkle_tree_test.cc` of google/certificate-transparency, which other implementations use as well.
    #[test]
    fn roots_of_the_tests_of_certificate_transparency() {
        let leaves: [&[u8]; 8] = [
            &[],
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut range = Range::default();
        assert_eq!(hex(&range.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (leaf, root) in leaves.iter().zip(roots) {
            range.push(leaf_hash(leaf));
            assert_eq!(hex(&range.root()), root);
        }
    }

    proptest! {
        #[test]
        fn roots_are_those_of_the_definition(
            leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4), 0..200)
        ) {
            let mut range = Range::default();
            for (count, leaf) in leaves.iter().enumerate() {
                prop_assert_eq!(range.root(), naive(&leaves[..count]));
                prop_assert_eq!(Range::new(range.size(), range.nodes().to_vec()), Some(range.clone()));
                range.push(leaf_hash(leaf));
            }
            prop_assert_eq!(range.root(), naive(&leaves));
        }
    }
}
