//! One scale to a group of weights of a row: `weight_packed` with two codes to a byte, `weight_scale` with a brain float
//! to a group. Groups do not see one another, and a scale is made of its group again each time.

use lode_tensors::ByteRange;

use super::code::{Code, NO_WEIGHTS, Run, Strip, brain, weights_at};
use super::{in_units, index_of, put_values};
use crate::block_rows::SourceRows;
use crate::limits::STRIP_WEIGHTS;
use crate::path::Path;
use crate::source::{Gathered, SourceRange};
use crate::virtual_file::{Encode, EncodeError};

/// Lengths of a group, in weights: what loaders have fast code for.
pub(super) const GROUPS: [u64; 3] = [128, 64, 32];
/// Bytes of a scale.
const SCALE_BYTES: u64 = 2;

/// A matrix in groups, which divide its rows.
#[derive(Debug, Clone, Copy)]
struct Groups {
    matrix: SourceRows,
    group: u64,
}

impl Groups {
    fn count(&self) -> u64 {
        self.matrix.rows * self.matrix.row_weights / self.group
    }

    /// The weights of `first..last`.
    fn at(&self, first: u64, last: u64) -> SourceRange {
        weights_at(&self.matrix, first * self.group, last * self.group)
    }

    fn run<'a>(&self, at: u64, source: &Gathered<'a>) -> Result<Run<'a>, EncodeError> {
        let bytes = source.get(self.at(at, at + 1))?;
        Ok(Run::new(&self.matrix, at * self.group, bytes))
    }
}

/// The codes and the scales of a matrix.
pub(super) fn encodes(
    matrix: SourceRows,
    group: u64,
) -> (impl Encode + 'static, impl Encode + 'static) {
    let groups = Groups { matrix, group };
    (Packed(groups), Scales(groups))
}

const CODE: Code = Code::Int4;
const CODES_IN_BYTE: u64 = CODE.per_byte() as u64;

#[derive(Debug)]
struct Packed(Groups);

impl Packed {
    /// Bytes of a group.
    fn group_bytes(&self) -> u64 {
        self.0.group / CODES_IN_BYTE
    }

    fn put(
        &self,
        path: Path,
        strip: &mut Strip,
        at: u64,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        // A group is one piece.
        self.0
            .run(at, source)?
            .pieces(path, strip, |_, x, largest| {
                let scale = brain(CODE.signed_brain_scale(x, largest));
                path.code(CODE, x, scale, out);
            })
    }
}

impl Encode for Packed {
    fn len(&self) -> u64 {
        self.0.count() * self.group_bytes()
    }

    fn needs(&self, range: ByteRange, needs: &mut Vec<SourceRange>) {
        let bytes = self.group_bytes();
        needs.push(self.0.at(range.start / bytes, range.end.div_ceil(bytes)));
    }

    fn make(
        &self,
        range: ByteRange,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let (path, mut strip) = (Path::best(), NO_WEIGHTS);
        let bytes = self.group_bytes();
        let mut aside = [0; STRIP_WEIGHTS];
        in_units(range, bytes, out, |part, made| {
            let group = part.start / bytes;
            if part.len() == bytes {
                return self.put(path, &mut strip, group, source, made);
            }
            let whole = &mut aside[..index_of(bytes)];
            self.put(path, &mut strip, group, source, whole)?;
            made.copy_from_slice(&whole[index_of(part.start % bytes)..][..made.len()]);
            Ok(())
        })
    }
}

#[derive(Debug)]
struct Scales(Groups);

impl Encode for Scales {
    fn len(&self) -> u64 {
        self.0.count() * SCALE_BYTES
    }

    fn needs(&self, range: ByteRange, needs: &mut Vec<SourceRange>) {
        let last = range.end.div_ceil(SCALE_BYTES);
        needs.push(self.0.at(range.start / SCALE_BYTES, last));
    }

    fn make(
        &self,
        range: ByteRange,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        let (path, mut strip) = (Path::best(), NO_WEIGHTS);
        put_values(range, out, |group| {
            let (run, mut bits) = (self.0.run(group, source)?, 0);
            run.pieces(path, &mut strip, |_, x, largest| {
                bits = CODE.signed_brain_scale(x, largest);
            })?;
            Ok(bits.to_le_bytes())
        })
    }
}
