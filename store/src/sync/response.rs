//! A response of `/iroh-bytes/4` as one run of bytes, both ways: the door through which the fuzz target
//! `decode` reaches the encoder and the decoder, which otherwise meet only streams.

use std::{io, sync::Arc};

use crate::{ChunkHash, piece::Parent};

use super::{
    decode::{Blob, Decoder, Fault, Planner, Target},
    encode::{Batch, Encoder},
    selection::Selection,
    source::ChunkRead,
};

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With all that was asked for, after so many bytes.
    Complete(usize),
    /// Before this blob was complete.
    Cut(usize),
    /// With wrong bytes of this blob.
    Wrong(usize),
}

/// The response with what `boundaries` select of the blob `hash`, after what is in `out`.
///
/// # Errors
/// When the blob cannot be read, or is not what its hash says.
pub fn encode_blob(
    hash: &ChunkHash,
    blob: Arc<dyn ChunkRead>,
    boundaries: &[u64],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let mut encoder = Encoder::new(hash, blob, boundaries)?;
    let mut batch = Batch::default();
    while !encoder.fill(&mut batch, usize::MAX)? {}
    for segment in batch.into_segments() {
        out.extend_from_slice(&segment);
    }
    Ok(())
}

/// Verifies `wire` as the response with these selections of blobs, in parts of about `part_bytes`; `piece`
/// takes what is verified: the number of the blob, the offset, the bytes.
pub fn decode(
    blobs: &[(ChunkHash, Selection)],
    wire: &[u8],
    part_bytes: usize,
    piece: &mut (dyn FnMut(usize, u64, &[u8]) + Send),
) -> Ending {
    let blob = |(hash, selection): &(ChunkHash, Selection)| Blob {
        hash: *hash,
        selection: selection.clone(),
    };
    let blobs: Arc<[Blob]> = blobs.iter().map(blob).collect();
    let mut planner = Planner::new(Arc::clone(&blobs));
    let (mut decoder, mut target) = (Decoder::new(blobs), Pass(piece));
    let mut at = 0;
    while let Some(plan) = planner.plan(part_bytes) {
        let end = wire.len().min(at + plan.bytes);
        let mut part = wire[at..end].to_vec();
        match decoder.decode(&plan, &mut part, &mut target) {
            Ok(None) => at = end,
            Ok(Some(blob)) => return Ending::Cut(blob),
            Err(Fault::Wrong { blob }) => return Ending::Wrong(blob),
            Err(Fault::Sink(_)) => unreachable!("the target takes everything"),
        }
    }
    Ending::Complete(at)
}

struct Pass<'a>(&'a mut (dyn FnMut(usize, u64, &[u8]) + Send));

impl Target for Pass<'_> {
    fn piece(&mut self, blob: usize, offset: u64, data: &[u8], _: &[Parent]) -> io::Result<()> {
        (self.0)(blob, offset, data);
        Ok(())
    }
}
