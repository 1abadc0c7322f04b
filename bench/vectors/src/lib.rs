//! What the runners of `bench/vectors.py` and `bench/segments.py` share: data, clocks, segments of vectors.

use std::{error::Error, fs::File, hint::black_box, io::BufWriter, path::Path};

use lode_index::{
    Dim, Dtype, Metric, ParamsError, Row, VectorParams,
    segment::{SegmentFile, SegmentWriter},
    vectors::{
        GraphBuilder, Linked, Query, Search, VectorPart, VectorSource, encode, write_vectors,
    },
};
use rustix::time::{ClockId, clock_gettime};

pub type Failure = Box<dyn Error + Send + Sync>;

/// CPU seconds of this process.
pub fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

pub fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// What rows a filter of `share` chooses: the driver has the same.
pub fn chosen(row: u32, share: f64) -> bool {
    ((mix(u64::from(row)) % 1000) as f64) < share * 1000.0
}

/// Microseconds of CPU a query.
pub fn timed(part: &VectorPart, queries: &[Query], search: &Search<'_>) -> f64 {
    let start = cpu();
    for query in queries {
        black_box(part.search(query, search));
    }
    (cpu() - start) * 1e6 / queries.len() as f64
}

pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The most memory that this process had, in MiB.
pub fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(
        line.trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<f64>()
            .ok()?
            / 1024.0,
    )
}

fn words(path: &str) -> Result<Vec<[u8; 4]>, Failure> {
    Ok(std::fs::read(path)?.as_chunks::<4>().0.to_vec())
}

pub fn singles(path: &str) -> Result<Vec<f32>, Failure> {
    Ok(words(path)?.into_iter().map(f32::from_le_bytes).collect())
}

pub fn ranks(path: &str) -> Result<Vec<u32>, Failure> {
    Ok(words(path)?.into_iter().map(u32::from_le_bytes).collect())
}

/// Stored vectors, one after the other.
struct Rows<'a> {
    bytes: &'a [u8],
    row: usize,
    /// Which of them each row is.
    order: Vec<u32>,
}

impl VectorSource for Rows<'_> {
    fn rows(&self) -> u32 {
        (self.bytes.len() / self.row) as u32
    }

    fn vector(&self, row: Row) -> Option<&[u8]> {
        Some(&self.bytes[self.order[row.index()] as usize * self.row..][..self.row])
    }

    fn hash(&self, row: Row) -> u64 {
        mix(u64::from(self.order[row.index()]))
    }
}

/// What `metric` and `dim` on the command line mean.
pub fn params(metric: &str, dim: usize) -> Result<VectorParams, ParamsError> {
    Ok(VectorParams {
        dim: Dim::new(u32::try_from(dim).unwrap_or(u32::MAX))?,
        metric: if metric == "l2" {
            Metric::Euclid
        } else {
            Metric::Cosine
        },
        dtype: Dtype::F32,
    })
}

/// The first 500 queries of a file.
pub fn queries(params: VectorParams, path: &str) -> Result<Vec<Query>, Failure> {
    let all = singles(path)?;
    let some = all.chunks_exact(params.dim.get()).take(500);
    Ok(some
        .map(|vector| Query::new(params, vector))
        .collect::<Result<_, _>>()?)
}

/// The stored form of vectors.
pub fn encoded(params: VectorParams, base: &[f32]) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::with_capacity(base.len() * 4);
    for vector in base.chunks_exact(params.dim.get()) {
        bytes.extend(encode(&params, vector)?);
    }
    Ok(bytes)
}

/// Writes a segment of stored vectors, in the order of their graph if there is one, and opens it; also which vector each row
/// is.
pub fn segment(
    params: VectorParams,
    bytes: &[u8],
    builder: Option<&dyn GraphBuilder>,
    file: &Path,
) -> Result<(SegmentFile, Vec<u32>), Failure> {
    let row = params.row_bytes();
    let mut source = Rows {
        bytes,
        row,
        order: (0..(bytes.len() / row) as u32).collect(),
    };
    let linked = match builder {
        Some(builder) => Linked::build(params, &source, builder)?,
        None => None,
    };
    let linked = linked.map(|linked| {
        source.order = linked.order().to_vec();
        linked.in_order()
    });
    let mut writer = SegmentWriter::new(BufWriter::new(File::create(file)?))?;
    write_vectors(&mut writer, 0, params, &source, linked.as_ref())?;
    writer.finish()?;
    Ok((SegmentFile::map(&File::open(file)?)?, source.order))
}
