//! A tree as other iroh-blobs peers know one: a Collection of whole files.
//!
//! A Collection is a HashSeq. Its first child is a blob of names, postcard of
//! `CollectionMeta { header: [u8; 13], names: Vec<String> }`; the others are the files, by their roots.
//! Both follow from the tree alone. Source: `iroh_blobs::format::collection`, version 0.104.

use bytes::Bytes;

use super::{Mode, Tree};
use crate::ChunkHash;

/// What the blob of names begins with.
const HEADER: &[u8; 13] = b"CollectionV0.";

/// The two blobs that make a tree a Collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobCollection {
    /// The HashSeq.
    pub seq: Bytes,
    /// The blob of names, its first child.
    pub names: Bytes,
}

impl BlobCollection {
    /// The hash of the HashSeq, which names the Collection.
    pub fn hash(&self) -> ChunkHash {
        ChunkHash::of(&self.seq)
    }
}

impl Tree {
    /// The Collection of the files in the order of the tree, if it has files and each has a root.
    ///
    /// Links are left out: a Collection knows none.
    pub fn collection(&self) -> Option<BlobCollection> {
        let files = || self.files.iter().filter(|file| file.mode != Mode::Link);
        let roots: Option<Vec<ChunkHash>> = files().map(|file| file.root).collect();
        let roots = roots.filter(|roots| !roots.is_empty())?;
        let mut names = HEADER.to_vec();
        put_len(&mut names, roots.len());
        for file in files() {
            put_len(&mut names, file.path.len());
            names.extend_from_slice(file.path.as_bytes());
        }
        let first = ChunkHash::of(&names);
        let hashes = std::iter::once(&first).chain(&roots);
        Some(BlobCollection {
            seq: hashes.flat_map(|hash| *hash.as_bytes()).collect(),
            names: names.into(),
        })
    }
}

/// A length as postcard has it: seven bits a byte, the lowest first.
fn put_len(out: &mut Vec<u8>, mut len: usize) {
    while len >= 0x80 {
        out.push(len.to_le_bytes()[0] | 0x80);
        len >>= 7;
    }
    out.push(len.to_le_bytes()[0]);
}
