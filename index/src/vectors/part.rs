//! The vectors of one field in a segment, searched where they lie.
//!
//! Opening checks lengths and parameters. Rows out of links are compared with the number of rows whenever one is
//! followed, so a segment from elsewhere can make a search wrong, but not read what is not its own.

mod sketch;

use std::cell::RefCell;

use super::{
    CODES, LAYERS, PARAMS, VECTORS,
    beam::{Beam, Links, Scratch},
    check::CheckVectorsError,
    head::Head,
    kernel::{CodeQuery, Kernel},
    pool::Pool,
    query::{Hit, Query, Search},
    records::{Layout, Records},
    scan::{self, Stored},
    sketched::SketchScratch,
};
use crate::{
    limits::BREADTH_MAX,
    params::VectorParams,
    rows::{Row, RowSet},
    segment::{SectionBytes, SectionName, SegmentFile},
};

/// For each row that it keeps in sight, a search along links costs as much as a scan of so many rows: it computes about
/// twelve keys, and each waits for memory where a scan does not. Measured (docs/benchmarks.md): 22 rows with AVX2, 50 with AVX-512.
const ROWS_PER_BREADTH: usize = 32;

/// The same where a filter is: such a search keeps twice as many in sight, and a scan goes from row to row.
const ROWS_PER_BREADTH_FILTERED: usize = 50;

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// What searches of a thread share.
#[derive(Debug, Default)]
struct Memory {
    scratch: Scratch,
    found: Pool,
    sketch: SketchScratch,
}

/// How a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plan {
    /// Every vector that may be found, as it is stored.
    Exact,
    /// Every code that may be found, then the best as they are stored.
    Scan,
    /// Every sketch that may be found, the codes of those that may be near, then the best as they are stored.
    Sketch,
    /// Along the links of the graph, then the best as they are stored.
    Graph,
}

/// The vectors of a field of a segment. Clones share the map.
#[derive(Debug, Clone)]
pub struct VectorPart {
    head: Head,
    layout: Layout,
    codes: SectionBytes,
    vectors: SectionBytes,
    layers: Option<SectionBytes>,
    sketch: Option<sketch::Sketch>,
}

/// Links in records, which may be on a disk.
struct StoredLinks<'a> {
    part: &'a VectorPart,
    records: Records<'a>,
}

impl VectorPart {
    /// Opens field `field`.
    ///
    /// # Errors
    ///
    /// A field that is not there, and sections that contradict each other.
    pub fn open(segment: &SegmentFile, field: u32) -> Result<Self, OpenVectorsError> {
        let section = |kind| {
            segment
                .section(SectionName::new(kind, field))
                .ok_or(OpenVectorsError::Missing { kind, field })
        };
        let damaged = |kind, why| OpenVectorsError::Damaged { kind, field, why };
        let params = section(PARAMS)?;
        params.ask(0..params.len());
        let head = Head::parse(&params).map_err(|why| damaged(PARAMS, why))?;
        let params = head.coder.params();
        let layout = Layout::new(params.dim.get(), head.links as usize)
            .ok_or(damaged(PARAMS, "too many links"))?;
        let rows = head.rows as usize;
        let codes = section(CODES)?;
        if rows.checked_mul(layout.stride) != Some(codes.len()) {
            return Err(damaged(CODES, "of another length"));
        }
        let vectors = section(VECTORS)?;
        if rows.checked_mul(params.row_bytes()) != Some(vectors.len()) {
            return Err(damaged(VECTORS, "of another length"));
        }
        let layers = if head.links == 0 {
            None
        } else {
            let layers = section(LAYERS)?;
            let words = head.layers.iter().map(|count| u64::from(*count));
            let links = words.sum::<u64>() * u64::from(head.links / 2);
            let points = head.layers.first().copied().map_or(0, u64::from);
            if layers.len() as u64 != 4 * (points + links) {
                return Err(damaged(LAYERS, "of another length"));
            }
            Some(layers)
        };
        let sketch = sketch::section(segment, field, &head)?;
        Ok(Self {
            head,
            layout,
            codes,
            vectors,
            layers,
            sketch,
        })
    }

    /// What the vectors have in common.
    #[must_use]
    pub fn params(&self) -> VectorParams {
        self.head.coder.params()
    }

    /// How many rows there are, with and without vector.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.head.rows
    }

    /// How many rows have a vector.
    #[must_use]
    pub fn vectors(&self) -> u32 {
        self.head.present
    }

    /// Tells whether there is a graph; without one, every code is looked at.
    #[must_use]
    pub fn has_graph(&self) -> bool {
        self.layers.is_some()
    }

    /// The stored form of a row's vector: see [`super::decode`].
    #[must_use]
    pub fn vector(&self, row: Row) -> Option<&[u8]> {
        Stored::vector(self, row)
    }

    /// How a search will go. A scan has the best recall and costs as much as there are rows that may be found; links
    /// cost as much as there are rows in sight, more the rarer those are that may be found.
    #[must_use]
    pub fn plan(&self, search: &Search<'_>) -> Plan {
        if search.exact {
            return Plan::Exact;
        }
        let matches = self.matches(search);
        let (scan, cost) = self.scan_plan(matches);
        if self.has_graph() && cost > self.rows_worth(search, matches) {
            Plan::Graph
        } else {
            scan
        }
    }

    /// How many rows a scan looks at in the time of a search along links, when so many rows may be found.
    fn rows_worth(&self, search: &Search<'_>, matches: usize) -> usize {
        let all = self.head.present as usize;
        let rows = match search.filter {
            None => ROWS_PER_BREADTH,
            Some(_) => ROWS_PER_BREADTH_FILTERED,
        };
        (rows * breadth(search)).saturating_mul(all) / matches.max(1)
    }

    /// The nearest rows, nearest first; equally near ones by row. Finds `k` whenever so many may be found and are within
    /// the threshold.
    ///
    /// # Panics
    ///
    /// A query for other vectors.
    #[must_use]
    pub fn search(&self, query: &Query, search: &Search<'_>) -> Vec<Hit> {
        assert_eq!(query.params(), self.params());
        let search = &Search {
            k: search.k.min(self.head.rows as usize),
            ..*search
        };
        if search.k == 0 {
            return Vec::new();
        }
        self.search_as(query, search, self.plan(search))
    }

    /// As [`VectorPart::search`], in a way that is given, for 1 to as many rows as there are.
    pub(super) fn search_as(&self, query: &Query, search: &Search<'_>, plan: Plan) -> Vec<Hit> {
        MEMORY.with_borrow_mut(|memory| {
            if plan == Plan::Exact {
                return scan::exact(self, query, search, &mut memory.found);
            }
            let coded = self.head.coder.query(query.vector(), self.layout);
            let code = coded.as_query();
            if plan != Plan::Graph || !self.along_links(query, &code, search, memory) {
                self.scan(query, code, search, memory);
            }
            let Memory { scratch, found, .. } = memory;
            scan::rescore(self, query, search, found.entries(), &mut scratch.pool)
        })
    }

    /// How many rows may be found.
    fn matches(&self, search: &Search<'_>) -> usize {
        let all = self.head.present as usize;
        search.filter.map_or(all, RowSet::count).min(all)
    }

    /// Searches the graph, and leaves what is near in `memory.found`. Gives up where a scan is sure to be better.
    fn along_links(
        &self,
        query: &Query,
        code: &CodeQuery<'_>,
        search: &Search<'_>,
        memory: &mut Memory,
    ) -> bool {
        let kernel = query.kernel();
        let records = self.records();
        let links = StoredLinks {
            part: self,
            records,
        };
        let beam = Beam {
            kernel,
            records,
            graph: &links,
            query: *code,
        };
        let start = self.descend(kernel, code, &mut memory.scratch);
        let starts = [start, self.head.entry];
        let breadth = breadth(search);
        let Memory { scratch, found, .. } = memory;
        let Some(filter) = search.filter else {
            beam.run(&starts, breadth, scratch);
            std::mem::swap(found, &mut scratch.pool);
            return found.entries().len() >= search.k.min(self.head.present as usize);
        };
        found.reset(breadth);
        let matches = filter.count();
        let all = self.head.present as usize;
        let wide = breadth.saturating_mul(all) / matches.max(1);
        let wide = wide.saturating_mul(2).min(all);
        beam.run_filtered(&starts, wide, filter, matches, found, scratch)
            && found.entries().len() >= breadth.min(matches)
    }

    /// Goes down the upper layers, on each to the point from which no link leads nearer.
    fn descend(&self, kernel: Kernel, code: &CodeQuery<'_>, scratch: &mut Scratch) -> u32 {
        let entry = self.head.entry;
        let (Some(layers), Some(points)) = (&self.layers, self.head.layers.first()) else {
            return entry;
        };
        let asked = |bytes| layers.ask(bytes);
        let start_of_links = 4 * *points as usize;
        asked(0..start_of_links);
        let (rows, links) = layers.split_at(start_of_links);
        let (rows, links) = (rows.as_chunks::<4>().0, links.as_chunks::<4>().0);
        let room = self.head.links as usize / 2;
        let records = self.records();
        let Scratch { fresh, keys, .. } = scratch;
        let row_of = |slot: u32| u32::from_le_bytes(rows[slot as usize]).min(self.head.rows - 1);
        let mut slots = Vec::with_capacity(room);
        let mut near = (f32::INFINITY, 0u32);
        kernel.keys(&records, code, &[row_of(0)], keys);
        near.0 = keys[0];
        let mut end = links.len();
        for count in self.head.layers.iter().rev() {
            let start = end - *count as usize * room;
            let layer = &links[start..end];
            end = start;
            loop {
                slots.clear();
                let first = near.1 as usize * room;
                asked(
                    start_of_links + 4 * (start + first)
                        ..start_of_links + 4 * (start + first + room),
                );
                let linked = &layer[first..][..room];
                let linked = linked.iter().map(|slot| u32::from_le_bytes(*slot));
                slots.extend(linked.take_while(|slot| slot < count));
                fresh.clear();
                fresh.extend(slots.iter().map(|slot| row_of(*slot)));
                self.ask_codes(fresh);
                kernel.keys(&records, code, fresh, keys);
                let before = near;
                for (slot, key) in slots.iter().zip(&*keys) {
                    if *key < near.0 {
                        near = (*key, *slot);
                    }
                }
                if near.1 == before.1 {
                    break;
                }
            }
        }
        row_of(near.1)
    }

    /// Compares links and their number with the rows and the room that there are.
    pub(crate) fn check_links(&self, row: Row) -> Result<(), CheckVectorsError> {
        let records = self.records();
        let fine = records.links_claimed(row.0) <= self.head.links
            && records.links(row.0).all(|link| link < self.head.rows);
        if fine {
            Ok(())
        } else {
            Err(CheckVectorsError::Link { row })
        }
    }

    /// Makes a row's code again and compares it.
    pub(crate) fn code_fits(&self, row: Row) -> bool {
        let mut record = vec![0; self.layout.stride];
        self.head
            .coder
            .encode(Stored::vector(self, row), self.layout, &mut record);
        let records = self.records();
        let made = Records::new(&record, self.layout).expect("one whole record");
        made.code(0) == records.code(row.0) && made.head(0) == records.head(row.0)
    }

    /// Windows of its file that were asked for.
    #[cfg(test)]
    pub(crate) fn windows_asked(&self) -> usize {
        self.codes.windows_asked()
    }

    /// Asks for records; says whether some were not asked for before.
    #[inline]
    fn ask_codes(&self, rows: &[u32]) -> bool {
        let stride = self.layout.stride;
        rows.iter().fold(false, |first, row| {
            let start = *row as usize * stride;
            self.codes.ask(start..start + stride) | first
        })
    }

    fn records(&self) -> Records<'_> {
        Records::new(&self.codes, self.layout).expect("whole records: checked when opened")
    }
}

/// Rows that a search keeps in sight.
fn breadth(search: &Search<'_>) -> usize {
    search.breadth.clamp(search.k, BREADTH_MAX.max(search.k))
}

impl Links for StoredLinks<'_> {
    #[inline]
    fn links(&self, row: u32, out: &mut Vec<u32>) {
        out.extend(self.records.links(row));
    }

    #[inline]
    fn prefetch(&self, kernel: Kernel, row: u32) {
        kernel.prefetch(&self.records.record(row)[self.records.layout().code_bytes..]);
    }

    #[inline]
    fn ask(&self, rows: &[u32]) -> bool {
        self.part.ask_codes(rows)
    }

    fn ask_linked(&self, row: u32) {
        let rows = self.records.len();
        for link in self
            .records
            .links(row)
            .filter(|link| (*link as usize) < rows)
        {
            self.part.ask_codes(&[link]);
        }
    }
}

impl Stored for VectorPart {
    fn rows(&self) -> u32 {
        self.head.rows
    }

    fn ask(&self, row: Row) {
        let bytes = self.params().row_bytes();
        let start = row.index() * bytes;
        self.vectors.ask(start..start + bytes);
    }

    #[inline]
    fn vector(&self, row: Row) -> Option<&[u8]> {
        if row.0 >= self.head.rows || !self.records().is_present(row.0) {
            return None;
        }
        let bytes = self.params().row_bytes();
        Some(&self.vectors[row.index() * bytes..][..bytes])
    }
}

/// Why the vectors of a field are not opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenVectorsError {
    /// The segment has no such section.
    #[error("the segment has no section {kind}.{field}")]
    Missing {
        /// The kind of section.
        kind: &'static str,
        /// The field.
        field: u32,
    },
    /// A section contradicts itself or another one.
    #[error("section {kind}.{field} is damaged: {why}")]
    Damaged {
        /// The kind of section.
        kind: &'static str,
        /// The field.
        field: u32,
        /// What is wrong.
        why: &'static str,
    },
}
