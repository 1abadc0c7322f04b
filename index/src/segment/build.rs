//! Makes a segment of rows of other parts: of a live part that is frozen, or of segments that merge.
//!
//! Vectors and payloads go from part to file as they are stored; what is gathered in memory are ids, payload
//! indexes, sparse vectors, and while a graph is built its codes and links.

use std::io::{self, Seek, Write};

use roaring::RoaringBitmap;

use super::{
    SegmentId, SegmentWriter, WriteError,
    field::FieldWriter,
    ids::write_ids,
    payloads::{Frames, PayloadWriter},
    points::{
        IDS, META, Meta, PAYLOAD_FRAMES, PAYLOAD_TABLE, SegmentPart, payload_index, sparse_lists,
        sparse_rows,
    },
    sparse::SparseWriter,
};
use crate::{
    id::PointId,
    live::Live,
    mix::mix,
    part::Part,
    payload::Payload,
    point::SparseVector,
    rows::Row,
    schema::CollectionConfig,
    vectors::{GraphBuilder, Linked, VectorSource, WriteVectorsError, write_vectors},
    view::PartError,
};

/// Why a segment was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A part that rows come from is damaged.
    #[error(transparent)]
    Part(#[from] PartError),
    /// Its vectors were not written.
    #[error(transparent)]
    Vectors(#[from] WriteVectorsError),
    /// Its sections were not written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The file was not written.
    #[error("writing a segment: {0}")]
    Io(#[from] io::Error),
}

/// A part that rows are taken from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    Live(&'a Live),
    Segment(&'a SegmentPart),
}

impl<'a> Source<'a> {
    pub(crate) fn part(self) -> &'a dyn Part {
        match self {
            Self::Live(live) => live,
            Self::Segment(segment) => segment,
        }
    }

    fn stored(self, name: &str, row: u32) -> Option<&'a [u8]> {
        match self {
            Self::Live(live) => live.stored(name, row),
            Self::Segment(segment) => segment.stored(name, row),
        }
    }

    fn payloads(self) -> PayloadReader<'a> {
        match self {
            Self::Live(live) => PayloadReader::Live(live),
            Self::Segment(segment) => PayloadReader::Segment(segment.payload_frames()),
        }
    }

    fn sparse(self, name: &str, row: u32) -> Result<Option<SparseVector>, PartError> {
        match self {
            Self::Live(live) => Ok(live.sparse(name, row).map(|sparse| (**sparse).clone())),
            Self::Segment(segment) => segment.sparse(name, row),
        }
    }
}

/// Reads payloads of a part.
enum PayloadReader<'a> {
    Live(&'a Live),
    Segment(Frames<'a>),
}

impl PayloadReader<'_> {
    fn payload(&mut self, row: u32) -> Result<Payload, PartError> {
        match self {
            Self::Live(live) => live.payload(row),
            Self::Segment(frames) => frames.payload(row),
        }
    }
}

/// The rows of a segment to be, in order.
#[derive(Debug)]
pub(crate) struct SourceRows<'a> {
    sources: Vec<Source<'a>>,
    rows: Vec<(u32, u32)>,
    points: Vec<(PointId, u64)>,
}

impl<'a> SourceRows<'a> {
    /// The rows of each part that are to stay.
    pub(crate) fn new(
        sources: impl IntoIterator<Item = (Source<'a>, &'a RoaringBitmap)>,
    ) -> Result<Self, PartError> {
        let mut all = Self {
            sources: Vec::new(),
            rows: Vec::new(),
            points: Vec::new(),
        };
        for (at, (source, kept)) in (0..).zip(sources) {
            let part = source.part();
            for row in kept {
                all.points.push((part.id(row)?, part.version(row)?));
                all.rows.push((at, row));
            }
            all.sources.push(source);
        }
        Ok(all)
    }

    /// Where the rows of each part are now, in their order there.
    pub(crate) fn places(&self) -> Vec<Vec<u32>> {
        let mut of_parts = vec![Vec::new(); self.sources.len()];
        for (place, (at, row)) in (0u32..).zip(&self.rows) {
            of_parts[*at as usize].push((*row, place));
        }
        let of_parts = of_parts.into_iter().map(|mut rows: Vec<(u32, u32)>| {
            rows.sort_unstable();
            rows.into_iter().map(|(_, place)| place).collect()
        });
        of_parts.collect()
    }

    /// Puts row `order[i]` in place i.
    fn put_in_order(&mut self, order: &[u32]) {
        self.rows = order.iter().map(|row| self.rows[*row as usize]).collect();
        self.points = order.iter().map(|row| self.points[*row as usize]).collect();
    }

    fn each(&self) -> impl Iterator<Item = (Source<'a>, u32)> + '_ {
        self.rows
            .iter()
            .map(|(at, row)| (self.sources[*at as usize], *row))
    }
}

/// The vectors of one name.
struct Named<'a> {
    rows: &'a SourceRows<'a>,
    name: &'a str,
}

impl VectorSource for Named<'_> {
    fn rows(&self) -> u32 {
        u32::try_from(self.rows.rows.len()).unwrap_or(u32::MAX)
    }

    fn vector(&self, row: Row) -> Option<&[u8]> {
        let (at, row) = self.rows.rows[row.index()];
        self.rows.sources[at as usize].stored(self.name, row)
    }

    fn hash(&self, row: Row) -> u64 {
        match self.rows.points[row.index()].0 {
            PointId::Number(number) => mix(number),
            PointId::Uuid(bytes) => {
                let number = u128::from_le_bytes(bytes);
                #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
                let (low, high) = (number as u64, (number >> 64) as u64);
                mix(low ^ mix(high))
            }
        }
    }
}

/// Writes a segment of rows; the caller makes it durable and names it. The first vectors that get a graph put the rows in its
/// order.
pub(crate) fn build_segment<W: Write + Seek>(
    file: W,
    config: &CollectionConfig,
    rows: &mut SourceRows<'_>,
    builder: Option<&dyn GraphBuilder>,
) -> Result<(SegmentId, W), BuildError> {
    let link = |rows: &SourceRows<'_>, name: &str, params| {
        let build = |builder| Linked::build(params, &Named { rows, name }, builder);
        builder.map_or(Ok(None), build)
    };
    let mut first = None;
    for (name, params) in &config.vectors {
        if let Some(linked) = link(rows, name, *params)? {
            rows.put_in_order(linked.order());
            first = Some((name, linked.in_order()));
            break;
        }
    }
    let rows = &*rows;
    let mut writer = SegmentWriter::new(file)?;
    let fields = config.schema.iter();
    let meta = Meta {
        vectors: config.vectors.keys().cloned().collect(),
        sparse: config.sparse.keys().cloned().collect(),
        fields: fields
            .map(|(path, kind)| (path.to_string(), kind))
            .collect(),
    };
    let meta = serde_json::to_vec(&meta).map_err(io::Error::other)?;
    writer.section(META, &meta)?;
    writer.begin(IDS)?;
    write_ids(&mut writer, &rows.points)?;
    write_payloads(&mut writer, config, rows)?;
    for (field, (name, params)) in (0..).zip(&config.vectors) {
        let linked = match first.take_if(|(first, _)| *first == name) {
            Some((_, linked)) => Some(linked),
            None => link(rows, name, *params)?,
        };
        let source = Named { rows, name };
        write_vectors(&mut writer, field, *params, &source, linked.as_ref())?;
    }
    for (field, name) in (0..).zip(config.sparse.keys()) {
        let mut sparse = SparseWriter::default();
        for (source, row) in rows.each() {
            sparse.push(source.sparse(name, row)?.as_ref());
        }
        writer.begin(sparse_rows(field))?;
        let lists = sparse.finish(&mut writer)?;
        writer.section(sparse_lists(field), &lists)?;
    }
    Ok(writer.finish()?)
}

/// Writes payloads, and the indexes of their fields.
fn write_payloads<W: Write + Seek>(
    writer: &mut SegmentWriter<W>,
    config: &CollectionConfig,
    rows: &SourceRows<'_>,
) -> Result<(), BuildError> {
    let fields = config.schema.iter();
    let mut fields: Vec<_> = fields
        .map(|(path, kind)| FieldWriter::new(path.clone(), kind))
        .collect();
    let mut frames = PayloadWriter::default();
    writer.begin(PAYLOAD_FRAMES)?;
    let mut readers: Vec<_> = rows
        .sources
        .iter()
        .map(|source| source.payloads())
        .collect();
    for (new_row, (at, row)) in (0..).zip(&rows.rows) {
        let payload = readers[*at as usize].payload(*row)?;
        frames.push(&payload, writer)?;
        fields
            .iter_mut()
            .for_each(|field| field.push(new_row, payload.root()));
    }
    let table = frames.finish(writer)?;
    writer.section(PAYLOAD_TABLE, &table)?;
    for (number, field) in (0..).zip(fields) {
        writer.begin(payload_index(number))?;
        field.finish(writer)?;
    }
    Ok(())
}
