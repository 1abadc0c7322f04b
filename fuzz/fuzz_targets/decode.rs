//! Responses of `/iroh-bytes/4`: an honest one comes whole, one that was changed or cut yields right bytes up to
//! there, and any other yields nothing that is wrong.
#![no_main]

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lode_store::{
    ChunkHash, outboard,
    sync::{
        response::{Ending, decode, encode_blob},
        selection::Selection,
        source::ChunkRead,
    },
};

struct Blob {
    hash: ChunkHash,
    data: Bytes,
    pairs: Bytes,
}

impl ChunkRead for Blob {
    fn size(&self) -> u64 {
        self.data.len() as u64
    }

    fn is_mapped(&self) -> bool {
        true
    }

    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let at = |at: u64| usize::try_from(at).map_err(io::Error::other);
        Ok(self.data.slice(at(range.start)?..at(range.end)?))
    }

    fn outboard(&self) -> io::Result<Bytes> {
        Ok(self.pairs.clone())
    }
}

fuzz_target!(|data: &[u8]| {
    run(data);
});

/// The input says which blobs, which leaves of them, in which parts, and what happens on the way.
fn run(mut data: &[u8]) -> Option<()> {
    let mut blobs = Vec::new();
    let mut honest = Vec::new();
    for number in 0..=take(&mut data)? % 3 {
        let size = usize::from(take(&mut data)?) * 300 + usize::from(take(&mut data)?);
        let content: Vec<u8> = (0..size)
            .map(|at| (at >> 8) as u8 ^ at as u8 ^ number)
            .collect();
        let (hash, pairs) = outboard::compute(&content);
        let mut boundaries = Vec::new();
        let mut last = u64::from(take(&mut data)?);
        for _ in 0..take(&mut data)? % 8 {
            boundaries.push(last);
            last += u64::from(take(&mut data)?) + 1;
        }
        let selection = Selection::of_boundaries(size as u64, &boundaries);
        if selection.is_empty() {
            continue;
        }
        let blob = Arc::new(Blob {
            hash,
            data: content.into(),
            pairs: pairs.into(),
        });
        encode_blob(&hash, Arc::clone(&blob) as _, &boundaries, &mut honest)
            .expect("the blob and its pairs are right");
        blobs.push((blob, selection));
    }
    let part_bytes = usize::from(take(&mut data)?) * 200 + 1;
    let wire = match take(&mut data)? % 4 {
        0 => honest.clone(),
        1 => data.to_vec(),
        2 => {
            let at = usize::from(take(&mut data)?) << 8 | usize::from(take(&mut data)?);
            honest[..at.min(honest.len())].to_vec()
        }
        _ => {
            let mut wire = honest.clone();
            for edit in data.chunks_exact(4) {
                let at = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize;
                if let Some(byte) = wire.get_mut(at) {
                    *byte ^= edit[3];
                }
            }
            wire
        }
    };
    let asked: Vec<_> = blobs
        .iter()
        .map(|(blob, selection)| (blob.hash, selection.clone()))
        .collect();
    let mut came = 0;
    let ending = decode(&asked, &wire, part_bytes, &mut |number, offset, bytes| {
        let start = usize::try_from(offset).expect("the blobs are small");
        assert_eq!(blobs[number].0.data[start..start + bytes.len()], *bytes);
        came += bytes.len() as u64;
    });
    let all: u64 = asked.iter().map(|(_, selection)| selection.bytes()).sum();
    assert!(came <= all);
    let right = wire.starts_with(&honest);
    assert_eq!(right, ending == Ending::Complete(honest.len()));
    assert!(!right || came == all);
    Some(())
}

fn take(data: &mut &[u8]) -> Option<u8> {
    let (first, rest) = data.split_first()?;
    *data = rest;
    Some(*first)
}
