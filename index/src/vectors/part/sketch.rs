//! The sketches of a field in a segment, if it has some: opened, planned with, searched and checked.
//!
//! Their length is held against the number of rows when they are opened; no number in them is trusted. Scans read them from the
//! first to the last block, so nothing of them is asked for ahead.

use super::{Memory, OpenVectorsError, Plan, VectorPart};
use crate::{
    params::Metric,
    rows::Row,
    segment::{SectionBytes, SectionName, SegmentFile},
    vectors::{
        SKETCH,
        head::Head,
        kernel::CodeQuery,
        query::{Query, Search},
        scan::{self, Stored},
        sketch::{self, BLOCK_ROWS, Bits, SketchQuery, Sketches},
        sketched::Sketched,
    },
};

/// Sketches that are looked at in the time of one code. Measured (docs/benchmarks.md).
const SKETCHES_PER_CODE: usize = 8;

/// Codes that are looked at in the time of what a scan of sketches does beside them: preparing the query, and codes of what may
/// be near. Measured (docs/benchmarks.md).
const SKETCH_CODES: usize = 256;

/// The sketches of a field.
#[derive(Debug, Clone)]
pub(super) struct Sketch {
    bytes: SectionBytes,
    bits: Bits,
}

/// The sketches of a field, if there are some.
///
/// # Errors
///
/// Sketches of another number of rows, or under Manhattan, whose differences they do not say.
pub(super) fn section(
    segment: &SegmentFile,
    field: u32,
    head: &Head,
) -> Result<Option<Sketch>, OpenVectorsError> {
    let Some(section) = segment.section(SectionName::new(SKETCH, field)) else {
        return Ok(None);
    };
    let damaged = |why| OpenVectorsError::Damaged {
        kind: SKETCH,
        field,
        why,
    };
    let params = head.coder.params();
    if params.metric == Metric::Manhattan {
        return Err(damaged("under a metric that has none"));
    }
    let (dim, rows) = (params.dim.get(), head.rows as usize);
    let bits = Bits::of_bytes(dim, rows, section.len()).ok_or(damaged("of another length"))?;
    Ok(Some(Sketch {
        bytes: section,
        bits,
    }))
}

impl VectorPart {
    /// How a scan of rows of which so many may be found will go, and how many codes would be looked at in its time.
    pub(super) fn scan_plan(&self, matches: usize) -> (Plan, usize) {
        let sketches = self.head.rows as usize / SKETCHES_PER_CODE + SKETCH_CODES;
        if self.sketch.is_some() && sketches < matches {
            (Plan::Sketch, sketches)
        } else {
            (Plan::Scan, matches)
        }
    }

    /// Looks at all rows that may be found, and leaves what is near in `memory.found`.
    pub(super) fn scan(
        &self,
        query: &Query,
        code: CodeQuery<'_>,
        search: &Search<'_>,
        memory: &mut Memory,
    ) {
        let Memory { found, sketch, .. } = memory;
        found.reset(scan::candidates(search.k));
        let (kernel, records) = (query.kernel(), self.records());
        let all = u32::try_from(records.len()).expect("rows have 31 bits");
        let offer = |rows: &[u32], keys: &[f32]| scan::offer_keys(0, rows, keys, found);
        match (&self.sketch, search.filter) {
            (Some(of_rows), _) if self.scan_plan(self.matches(search)).0 == Plan::Sketch => {
                let coder = &self.head.coder;
                let scan = Sketched {
                    kernel,
                    sketches: Sketches::new(&of_rows.bytes, coder.params().dim.get(), of_rows.bits),
                    sketch: SketchQuery::new(coder, of_rows.bits, query.vector()),
                    records,
                    code,
                    k: search.k,
                    ask: |rows: &[u32]| {
                        self.ask_codes(rows);
                    },
                };
                scan.run(search.filter, sketch, found);
            }
            (_, Some(filter)) => {
                let members = filter.iter().map(|row| row.0).take_while(|row| *row < all);
                scan::codes(kernel, &records, &code, members, offer);
            }
            _ => scan::codes(kernel, &records, &code, 0..all, offer),
        }
    }

    /// Makes the block of sketches again of which a row is the first, if one is, and compares it.
    pub(crate) fn sketch_fits(&self, row: Row) -> bool {
        let Some(Sketch { bytes, bits }) = &self.sketch else {
            return true;
        };
        if !row.index().is_multiple_of(BLOCK_ROWS) {
            return true;
        }
        let mut made = vec![0; bits.block_bytes(self.params().dim.get())];
        sketch::encode(&self.head.coder, *bits, &mut made, |slot| {
            Stored::vector(self, Row(row.0.checked_add(slot)?))
        });
        let start = (row.index() / BLOCK_ROWS).checked_mul(made.len());
        let block = start.and_then(|start| bytes.get(start..)?.get(..made.len()));
        block == Some(&made[..])
    }
}
