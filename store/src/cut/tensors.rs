//! `tensors/1`: chunks that begin and end where tensors, slices and whole rows do.
//!
//! So that a tensor's chunks depend on its own bytes, type and shape alone: it is stored once
//! wherever it stands, whatever stands around it.

use lode_tensors::{Header, Tensor};

use super::{CHUNK_BYTES_MAX, Cuts, TENSORS_1};

/// Smallest tensor, and smallest slice, with chunks of its own, in bytes.
const OWN_CHUNKS_BYTES_MIN: u64 = 1024 * 1024;
/// Longest chunk of a run of small tensors, in bytes.
const RUN_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest number in a tensor name that is taken for a layer, in digits.
const LAYER_DIGITS_MAX: usize = 9;

/// Cuts a model file by rule `tensors/1`. `header` is what `lode_tensors::parse` made of it.
///
/// Costs no reading: only the header is looked at. The lengths add up to `file_len`.
pub fn tensor_cuts(header: &Header, file_len: u64) -> Cuts {
    let mut cutter = Cutter {
        lengths: Vec::new(),
        end: 0,
        file_len,
    };
    cutter.cut_every(CHUNK_BYTES_MAX.into(), header.len);

    let mut run: Option<Run> = None;
    for tensor in header
        .tensors
        .iter()
        .filter(|tensor| !tensor.range.is_empty())
    {
        // Padding before this tensor joins the chunk before it.
        match &mut run {
            Some(run) => run.end = tensor.range.start,
            None => cutter.pad(tensor.range.start),
        }
        let small = tensor.range.len() < OWN_CHUNKS_BYTES_MIN;
        let layer = layer_of(&tensor.name);
        if let Some(open) = &run {
            let whole = tensor.range.end.saturating_sub(open.start);
            if !small || open.layer != layer || whole > RUN_BYTES_MAX {
                cutter.cut_every(CHUNK_BYTES_MAX.into(), open.end);
                run = None;
            }
        }
        if small {
            let start = tensor.range.start;
            run.get_or_insert(Run {
                start,
                end: start,
                layer,
            })
            .end = tensor.range.end;
        } else {
            cut_tensor(&mut cutter, tensor);
        }
    }
    if let Some(run) = run {
        cutter.cut_every(CHUNK_BYTES_MAX.into(), run.end);
    }
    cutter.pad(file_len);
    Cuts {
        rule: TENSORS_1,
        lengths: cutter.lengths,
    }
}

/// Small tensors of one layer that share a chunk.
struct Run {
    start: u64,
    /// Where it ends so far.
    end: u64,
    layer: Option<u32>,
}

/// The first path component of a tensor name that is a whole number: `model.layers.12.x` is of layer 12.
fn layer_of(name: &str) -> Option<u32> {
    name.split('.')
        .find(|part| {
            (1..=LAYER_DIGITS_MAX).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_digit())
        })
        .and_then(|part| part.parse().ok())
}

/// Cuts a tensor of at least [`OWN_CHUNKS_BYTES_MIN`] bytes.
fn cut_tensor(cutter: &mut Cutter, tensor: &Tensor) {
    let len = tensor.range.len();
    // Slices of slices, as long as they are large: the outermost dimensions that count as tensors.
    let mut slices: u64 = 1;
    let mut shape = tensor.shape.as_slice();
    while let [outer, inner @ ..] = shape
        && inner.len() >= 2
    {
        let Some(count) = slices.checked_mul(*outer).filter(|&count| count > 0) else {
            break;
        };
        if !len.is_multiple_of(count) || len / count < OWN_CHUNKS_BYTES_MIN {
            break;
        }
        slices = count;
        shape = inner;
    }
    let slice_bytes = len / slices;
    let rows = tensor.row_count() / slices;
    for slice in 1..=slices {
        let end = tensor.range.start + slice * slice_bytes;
        cut_slice(cutter, end, slice_bytes, rows);
    }
}

/// Cuts a slice of `bytes` bytes and `rows` rows that ends at `end`.
fn cut_slice(cutter: &mut Cutter, end: u64, bytes: u64, rows: u64) {
    let max = u64::from(CHUNK_BYTES_MAX);
    // The fewest rows that fill whole bytes: 1, but for F4 and F6 of odd lengths.
    let unit = (0..3)
        .map(|shift| 1_u64 << shift)
        .find(|unit| rows.is_multiple_of(*unit) && bytes.is_multiple_of((rows / unit).max(1)));
    let unit_bytes = match unit {
        Some(unit) => bytes / (rows / unit).max(1),
        None => bytes,
    };
    if unit_bytes <= max {
        cutter.cut_every(max / unit_bytes.max(1) * unit_bytes.max(1), end);
    } else {
        while cutter.end < end {
            let row_end = cutter.end.saturating_add(unit_bytes).min(end);
            cutter.cut_every(max, row_end);
        }
    }
}

/// Collects chunk lengths from the start of the file on.
struct Cutter {
    lengths: Vec<u32>,
    /// Where the last chunk ends.
    end: u64,
    file_len: u64,
}

impl Cutter {
    /// Adds chunks of `step` bytes up to `to`, the last one as long as is left.
    fn cut_every(&mut self, step: u64, to: u64) {
        let to = to.min(self.file_len);
        while self.end < to {
            let len = step.min(to - self.end).min(CHUNK_BYTES_MAX.into());
            self.lengths
                .push(u32::try_from(len).expect("at most CHUNK_BYTES_MAX"));
            self.end += len;
        }
    }

    /// Joins padding up to `to` to the last chunk, or makes it chunks where that would be too long.
    fn pad(&mut self, to: u64) {
        let to = to.min(self.file_len);
        let padding = to.saturating_sub(self.end);
        if padding == 0 {
            return;
        }
        let joined = self
            .lengths
            .last()
            .map_or(u64::MAX, |&last| u64::from(last) + padding);
        match (u32::try_from(joined), self.lengths.last_mut()) {
            (Ok(joined), Some(last)) if joined <= CHUNK_BYTES_MAX => {
                *last = joined;
                self.end = to;
            }
            _ => self.cut_every(CHUNK_BYTES_MAX.into(), to),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use std::collections::BTreeMap;

    use lode_tensors::{ByteRange, Dtype, Format, Metadata};
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// A header of 1000 bytes over these tensors, each followed by `padding` bytes.
    fn header(tensors: &[(&str, Dtype, &[u64])], padding: u64) -> (Header, u64) {
        let mut end = 1000;
        let tensors = tensors
            .iter()
            .map(|&(name, dtype, shape)| {
                let start = end;
                let len = dtype.bytes_of(shape.iter().product()).unwrap();
                end += len + padding;
                let range = ByteRange {
                    start,
                    end: start + len,
                };
                Tensor {
                    name: name.into(),
                    dtype,
                    shape: shape.into(),
                    range,
                }
            })
            .collect();
        let metadata = Metadata::Safetensors(BTreeMap::new());
        (
            Header {
                format: Format::Safetensors,
                len: 1000,
                tensors,
                metadata,
            },
            end,
        )
    }

    fn lengths(tensors: &[(&str, Dtype, &[u64])], padding: u64) -> Vec<u64> {
        let (header, file_len) = header(tensors, padding);
        let cuts = tensor_cuts(&header, file_len);
        assert_eq!(cuts.rule, "tensors/1");
        let lengths: Vec<u64> = cuts.lengths.into_iter().map(u64::from).collect();
        assert_eq!(lengths.iter().sum::<u64>(), file_len);
        assert_eq!(lengths[0], 1000, "the header is a chunk");
        lengths[1..].to_vec()
    }

    use Dtype::{BF16, F4, F6_E2M3, Q4_0, U8};

    #[test]
    fn large_tensors_are_cut_at_whole_rows() {
        // 6000-byte rows: 2796 of them in 16 MiB.
        let whole = 2796 * 6000;
        assert_eq!(
            lengths(&[("a", BF16, &[6000, 3000])], 0),
            [whole, whole, 408 * 6000]
        );
        // Appended rows leave all chunks but the last one as they are.
        assert_eq!(
            lengths(&[("a", BF16, &[6010, 3000])], 0),
            [whole, whole, 418 * 6000]
        );
        let exact = lengths(&[("a", U8, &[32, MIB])], 0);
        assert_eq!(exact, [16 * MIB, 16 * MIB]);
        // Quantized rows are whole blocks: 18 bytes per 32 elements.
        let row = 4096 / 32 * 18;
        let most = 16 * MIB / row * row;
        assert_eq!(
            lengths(&[("a", Q4_0, &[8000, 4096])], 0),
            [most, 8000 * row - most]
        );
    }

    #[test]
    fn rows_over_16_mib_are_cut_by_bytes() {
        let one = [16 * MIB, MIB + 5];
        assert_eq!(lengths(&[("a", U8, &[17 * MIB + 5])], 0), one);
        assert_eq!(
            lengths(&[("a", U8, &[2, 17 * MIB + 5])], 0),
            [one, one].concat()
        );
    }

    #[test]
    fn sub_byte_rows_are_cut_where_they_end_on_a_byte() {
        // 3001 elements of 4 bits: two rows fill 3001 bytes.
        let pairs = 16 * MIB / 3001;
        let rest = 12_000 / 2 - pairs;
        assert_eq!(
            lengths(&[("a", F4, &[12_000, 3001])], 0),
            [pairs * 3001, rest * 3001]
        );
        // 1001 elements of 6 bits: four rows fill 3003 bytes.
        let fours = 16 * MIB / 3003;
        let rest = 24_000 / 4 - fours;
        assert_eq!(
            lengths(&[("a", F6_E2M3, &[24_000, 1001])], 0),
            [fours * 3003, rest * 3003]
        );
    }

    #[test]
    fn fused_experts_are_cut_like_separate_ones() {
        let expert: &[u64] = &[1500, 6000];
        let apart: Vec<_> = ["e.a", "e.b", "e.c"]
            .map(|name| (name, BF16, expert))
            .into();
        let fused = lengths(&[("e", BF16, &[3, 1500, 6000])], 0);
        assert_eq!(fused, lengths(&apart, 0));
        assert_eq!(fused.len(), 6);
        let twice = lengths(&[("e", BF16, &[3, 2, 750, 6000])], 0);
        assert_eq!(twice.len(), 6, "slices of slices: {twice:?}");
        assert!(twice.iter().all(|&len| len == 750 * 12_000));
        // Slices under 1 MiB stay together.
        assert_eq!(lengths(&[("e", U8, &[8, 1023, 1024])], 0).len(), 1);
        assert_eq!(lengths(&[("e", U8, &[8, 1024, 1024])], 0).len(), 8);
    }

    #[test]
    fn small_tensors_share_chunks_within_a_layer() {
        let kib: &[u64] = &[1024];
        let run = [
            ("l.0.a", U8, kib),
            ("l.0.b", U8, kib),
            ("l.1.a", U8, kib),
            ("norm", U8, kib),
        ];
        assert_eq!(lengths(&run, 0), [2048, 1024, 1024]);
        let large: &[u64] = &[MIB];
        let split = [("l.0.a", U8, kib), ("l.0.w", U8, large), ("l.0.b", U8, kib)];
        assert_eq!(lengths(&split, 0), [1024, MIB, 1024]);
        // 4 MiB at most: a run takes four tensors just below 1 MiB.
        let below: &[u64] = &[MIB - 1];
        assert_eq!(lengths(&[("a", U8, below); 5], 0), [4 * MIB - 4, MIB - 1]);
        let quarter: &[u64] = &[MIB / 4];
        assert_eq!(lengths(&[("a", U8, quarter); 17], 0), [4 * MIB, MIB / 4]);
    }

    #[test]
    fn padding_joins_the_chunk_before_it() {
        let kib: &[u64] = &[1000];
        let large: &[u64] = &[MIB];
        assert_eq!(
            lengths(&[("a", U8, kib), ("b", U8, large)], 24),
            [1024, MIB + 24]
        );
        assert_eq!(lengths(&[("a", U8, kib), ("a", U8, kib)], 24), [2048]);
        // Where the chunk before it is full, padding is a chunk.
        let full: &[u64] = &[16 * MIB];
        assert_eq!(
            lengths(&[("a", U8, full), ("b", U8, large)], 24),
            [16 * MIB, 24, MIB + 24]
        );
    }

    #[test]
    fn empty_tensors_make_no_chunk_and_break_no_run() {
        let kib: &[u64] = &[1024];
        let run = [
            ("l.0.a", U8, kib),
            ("l.1.none", U8, &[0, 5][..]),
            ("l.0.b", U8, kib),
        ];
        assert_eq!(lengths(&run, 0), [2048]);
        assert_eq!(lengths(&[], 0), Vec::<u64>::new());
    }

    #[test]
    fn headers_over_16_mib_are_cut() {
        let (mut header, _) = header(&[], 0);
        header.len = 33 * MIB;
        let cuts = tensor_cuts(&header, 33 * MIB);
        assert_eq!(
            cuts.lengths,
            [CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 1024 * 1024]
        );
    }

    #[test]
    fn layers_are_the_first_number_in_a_name() {
        assert_eq!(layer_of("model.layers.12.mlp.7.weight"), Some(12));
        assert_eq!(layer_of("blk.3.attn_q.weight"), Some(3));
        assert_eq!(layer_of("007"), Some(7));
        for none in [
            "token_embd.weight",
            "h12.w",
            "a.-1.b",
            "a.1234567890.b",
            "",
            "a..b",
            "a.1e3",
        ] {
            assert_eq!(layer_of(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn chunks_cover_the_file_and_begin_where_large_tensors_do(
            tensors in prop::collection::vec(
                (0_u64..3, 1_u64..20_000, 1_u64..1500, prop::sample::select(vec![U8, BF16, F4, Q4_0])),
                0..12),
            padding in 0_u64..64,
        ) {
            let shapes: Vec<_> = tensors.iter().map(|&(layer, rows, row, dtype)| {
                let row = if dtype == U8 || dtype == BF16 { row } else { row.next_multiple_of(32) };
                (format!("l.{layer}.w"), dtype, [rows, row])
            }).collect();
            let listed: Vec<_> =
                shapes.iter().map(|(name, dtype, shape)| (name.as_str(), *dtype, &shape[..])).collect();
            let (header, file_len) = header(&listed, padding);
            let cuts = tensor_cuts(&header, file_len);
            let mut starts = std::collections::BTreeSet::new();
            let mut end = 0_u64;
            for &length in &cuts.lengths {
                prop_assert!((1..=CHUNK_BYTES_MAX).contains(&length));
                starts.insert(end);
                end += u64::from(length);
            }
            prop_assert_eq!(end, file_len);
            for tensor in header.tensors.iter().filter(|t| t.range.len() >= MIB) {
                prop_assert!(starts.contains(&tensor.range.start), "{}", tensor.name);
                for &start in starts.range(tensor.range.start..tensor.range.end) {
                    let row = tensor.row_bytes().unwrap();
                    prop_assert_eq!((start - tensor.range.start) % row, 0);
                }
            }
        }
    }
}
