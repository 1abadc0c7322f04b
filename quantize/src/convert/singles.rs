//! A small tensor as singles: norms and biases, which llama.cpp reads in no other type.

use lode_tensors::ByteRange;

use crate::block::BlockType;
use crate::block_rows::RowOrder;
use crate::source::{Gathered, SourceRange};
use crate::virtual_file::{Encode, EncodeError};
use crate::weights::Weights;

/// Weights of a source file, made into singles one by one.
#[derive(Debug)]
pub(super) struct Singles {
    /// Position of the file.
    pub(super) file: usize,
    /// Where the first weight starts.
    pub(super) start: u64,
    /// How they are stored: one weight a block.
    pub(super) from: BlockType,
    pub(super) weights: u64,
    /// Which weight of the source each is.
    pub(super) order: RowOrder,
    /// Added to each, in single precision.
    pub(super) plus: f32,
}

const BYTES: u64 = size_of::<f32>() as u64;

impl Singles {
    fn at(&self, weight: u64) -> SourceRange {
        let bytes = self.from.bytes() as u64;
        let start = self.start + self.order.source_row(weight) * bytes;
        SourceRange {
            file: self.file,
            range: ByteRange {
                start,
                end: start + bytes,
            },
        }
    }

    /// The weights that a range of bytes touches.
    fn touched(range: ByteRange) -> std::ops::Range<u64> {
        range.start / BYTES..range.end.div_ceil(BYTES)
    }

    fn single(&self, weight: u64, source: &Gathered<'_>) -> Result<[u8; 4], EncodeError> {
        let bytes = source.get(self.at(weight))?;
        let mut value = [0.0];
        Weights::from_bytes(self.from, bytes)
            .expect("one block of a type of one weight a block")
            .source()
            .decode(&mut value);
        // Adding zero would change the sign of a negative one.
        let value = if self.plus == 0.0 {
            value[0]
        } else {
            value[0] + self.plus
        };
        Ok(value.to_le_bytes())
    }
}

impl Encode for Singles {
    fn len(&self) -> u64 {
        self.weights * BYTES
    }

    fn needs(&self, range: ByteRange, needs: &mut Vec<SourceRange>) {
        let touched = Self::touched(range);
        match self.order {
            RowOrder::Same => {
                let first = self.at(touched.start);
                let bytes = (touched.end - touched.start) * self.from.bytes() as u64;
                needs.push(SourceRange {
                    file: self.file,
                    range: ByteRange {
                        start: first.range.start,
                        end: first.range.start + bytes,
                    },
                });
            }
            RowOrder::PairedHalves { .. } => needs.extend(touched.map(|weight| self.at(weight))),
        }
    }

    fn make(
        &self,
        range: ByteRange,
        source: &Gathered<'_>,
        out: &mut [u8],
    ) -> Result<(), EncodeError> {
        for weight in Self::touched(range) {
            let single = self.single(weight, source)?;
            let own = ByteRange {
                start: weight * BYTES,
                end: (weight + 1) * BYTES,
            };
            let Some(within) = own.intersection(range) else {
                continue;
            };
            let part = |start: u64| {
                let at = |byte| usize::try_from(byte - start).expect("it is part of a slice");
                at(within.start)..at(within.end)
            };
            out[part(range.start)].copy_from_slice(&single[part(own.start)]);
        }
        Ok(())
    }
}
