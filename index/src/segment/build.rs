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
    payloads::PayloadWriter,
    points::{
        IDS, META, Meta, PAYLOAD_FRAMES, PAYLOAD_TABLE, SegmentPart, payload_index, sparse_lists,
        sparse_rows,
    },
    sparse::SparseWriter,
};
use crate::{
    id::PointId,
    live::Live,
    part::Part,
    point::SparseVector,
    rows::Row,
    schema::CollectionConfig,
    vectors::{GraphBuilder, VectorSource, WriteVectorsError, write_vectors},
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

    fn sparse(self, name: &str, row: u32) -> Result<Option<SparseVector>, PartError> {
        match self {
            Self::Live(live) => Ok(live.sparse(name, row).map(|sparse| (**sparse).clone())),
            Self::Segment(segment) => segment.sparse(name, row),
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

/// The finaliser of SplitMix64.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// Writes a segment of rows; the caller makes it durable and names it.
pub(crate) fn build_segment<W: Write + Seek>(
    file: W,
    config: &CollectionConfig,
    rows: &SourceRows<'_>,
    builder: Option<&dyn GraphBuilder>,
) -> Result<(SegmentId, W), BuildError> {
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
        write_vectors(&mut writer, field, *params, &Named { rows, name }, builder)?;
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
    let mut new_row = 0;
    for (at, source) in (0..).zip(&rows.sources) {
        let mine = rows.rows.iter().filter(|(other, _)| *other == at);
        let mine: RoaringBitmap = mine.map(|(_, row)| *row).collect();
        source.part().payloads(&mine, &mut |_, payload| {
            frames
                .push(payload, writer)
                .map_err(|error| PartError::Io(error.into()))?;
            fields
                .iter_mut()
                .for_each(|field| field.push(new_row, payload.root()));
            new_row += 1;
            Ok(())
        })?;
    }
    let table = frames.finish(writer)?;
    writer.section(PAYLOAD_TABLE, &table)?;
    for (number, field) in (0..).zip(fields) {
        writer.begin(payload_index(number))?;
        field.finish(writer)?;
    }
    Ok(())
}
