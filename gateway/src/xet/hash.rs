//! The hashes of Xet: of chunks, and of the trees over them.

use std::fmt;

/// Key of the hash of a chunk.
const CHUNK_KEY: [u8; 32] = [
    0x66, 0x97, 0xf5, 0x77, 0x5b, 0x95, 0x50, 0xde, 0x31, 0x35, 0xcb, 0xac, 0xa5, 0x97, 0x18, 0x1c,
    0x9d, 0xe4, 0x21, 0x10, 0x9b, 0xeb, 0x2b, 0x58, 0xb4, 0xd0, 0xb0, 0x4b, 0x93, 0xad, 0xf2, 0x29,
];

/// Key of the hash of a node.
const NODE_KEY: [u8; 32] = [
    0x01, 0x7e, 0xc5, 0xc7, 0xa5, 0x47, 0x29, 0x96, 0xfd, 0x94, 0x66, 0x66, 0xb4, 0x8a, 0x02, 0xe6,
    0x5d, 0xdd, 0x53, 0x6f, 0x37, 0xc7, 0x6d, 0xd2, 0xf8, 0x63, 0x52, 0xe6, 0x4a, 0x53, 0x71, 0x3f,
];

/// Children of a node: the fewest before a hash ends it, the most, and how many there are on average.
const CHILDREN_MIN: usize = 3;
const CHILDREN_MAX: usize = 9;
const CHILDREN_MEAN: u64 = 4;

/// A hash of Xet. Its text is four numbers of eight bytes each, so that every eight bytes stand reversed in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct XetHash([u8; 32]);

impl XetHash {
    /// The hash of these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as they stand in shards.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash that a text of 64 hex digits stands for.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 32] = data_encoding::HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .ok()?
            .try_into()
            .ok()?;
        Some(Self(swapped(bytes)))
    }

    /// The bytes of its text: how shards write a SHA-256.
    pub fn in_text_order(&self) -> [u8; 32] {
        swapped(self.0)
    }

    /// The hash of a chunk.
    pub fn of_chunk(chunk: &[u8]) -> Self {
        Self(*blake3::keyed_hash(&CHUNK_KEY, chunk).as_bytes())
    }

    /// What hashes a chunk that comes in parts.
    pub(super) fn chunk_hasher() -> blake3::Hasher {
        blake3::Hasher::new_keyed(&CHUNK_KEY)
    }

    /// The hash of a file whose chunks have this root.
    pub fn of_file(root: Self) -> Self {
        Self(*blake3::keyed_hash(&[0; 32], &root.0).as_bytes())
    }

    /// Whether a node ends with it.
    fn ends_node(&self) -> bool {
        // The whole as a number is a multiple of the mean when its last word is.
        let word = self.0.last_chunk::<8>().expect("32 bytes");
        u64::from_le_bytes(*word) % CHILDREN_MEAN == 0
    }
}

/// Reverses each eight bytes.
fn swapped(mut bytes: [u8; 32]) -> [u8; 32] {
    for word in bytes.as_chunks_mut::<8>().0 {
        word.reverse();
    }
    bytes
}

impl fmt::Display for XetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&swapped(self.0)))
    }
}

impl fmt::Debug for XetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XetHash({self})")
    }
}

/// A chunk or node with the bytes below it.
pub type Leaf = (XetHash, u64);

/// The root of the tree over these leaves; zeros over none.
pub fn root(leaves: impl IntoIterator<Item = Leaf>) -> XetHash {
    let mut tree = Tree::default();
    for leaf in leaves {
        tree.push(leaf);
    }
    tree.finish()
}

/// A tree over leaves that come one after the other. Memory: nine nodes a level.
///
/// A node has its children's texts hashed, one line each. It ends after the first child from the third on whose
/// hash is a multiple of four, after the ninth, or with the level.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The children of each level's open node, leaves first.
    levels: Vec<Vec<Leaf>>,
    text: String,
}

impl Tree {
    /// Adds the next leaf.
    pub fn push(&mut self, leaf: Leaf) {
        self.push_at(0, leaf);
    }

    fn push_at(&mut self, mut level: usize, mut leaf: Leaf) {
        loop {
            if level == self.levels.len() {
                self.levels.push(Vec::with_capacity(CHILDREN_MAX));
            }
            let open = &mut self.levels[level];
            open.push(leaf);
            let ends = open.len() >= CHILDREN_MIN && leaf.0.ends_node();
            if !ends && open.len() < CHILDREN_MAX {
                return;
            }
            leaf = node(open, &mut self.text);
            open.clear();
            level += 1;
        }
    }

    /// The root; zeros over no leaves.
    pub fn finish(mut self) -> XetHash {
        let mut level = 0;
        while level < self.levels.len() {
            match self.levels[level][..] {
                [(root, _)] if level + 1 == self.levels.len() => return root,
                [] => {}
                _ => {
                    let closed = node(&self.levels[level], &mut self.text);
                    self.push_at(level + 1, closed);
                }
            }
            level += 1;
        }
        XetHash([0; 32])
    }
}

fn node(children: &[Leaf], text: &mut String) -> Leaf {
    use fmt::Write as _;
    text.clear();
    let mut len = 0;
    for (hash, below) in children {
        let _ = writeln!(text, "{hash} : {below}");
        len += below;
    }
    let hash = blake3::keyed_hash(&NODE_KEY, text.as_bytes());
    (XetHash(*hash.as_bytes()), len)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation)]
    use super::*;

    #[test]
    fn a_text_has_every_eight_bytes_reversed() {
        let bytes: [u8; 32] = std::array::from_fn(|at| at as u8);
        let hash = XetHash::from_bytes(bytes);
        let text = "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918";
        assert_eq!(hash.to_string(), text);
        assert_eq!(XetHash::parse(text), Some(hash));
        assert_eq!(XetHash::parse(&text[1..]), None);
        assert_eq!(XetHash::parse(&text.replace('0', "g")), None);
    }

    #[test]
    fn one_chunk_is_its_own_root_and_none_is_zeros() {
        let hash = XetHash::of_chunk(b"hello");
        assert_eq!(root(vec![(hash, 5)]), hash);
        assert_eq!(root(Vec::new()), XetHash::from_bytes([0; 32]));
    }
}
