//! The parameters of a field's vectors in a segment (docs/format/segment.md, `vec-params`).

use super::coder::Coder;
use crate::{
    limits::{LAYERS_MAX, LINKS_MAX, SEGMENT_ROWS_MAX},
    params::{Dim, Dtype, Metric, VectorParams},
};

/// Bytes before the centre.
const FIXED_BYTES: usize = 32;

/// What is known of a field's vectors before any is read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    pub(crate) coder: Coder,
    /// Rows, with and without vector.
    pub(crate) rows: u32,
    /// Rows with a vector.
    pub(crate) present: u32,
    /// Most links of a row on layer 0; without a graph 0.
    pub(crate) links: u32,
    /// The row at which searches of the graph begin.
    pub(crate) entry: u32,
    /// How many points layer 1 has, layer 2, and so on.
    pub(crate) layers: Vec<u32>,
}

impl Head {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let params = self.coder.params();
        let mut bytes = Vec::new();
        let dim = u32::try_from(params.dim.get()).expect("made of one");
        let layers = u16::try_from(self.layers.len()).expect("at most the limit");
        bytes.extend_from_slice(&dim.to_le_bytes());
        bytes.extend_from_slice(&[params.metric.code(), params.dtype.code()]);
        bytes.extend_from_slice(&layers.to_le_bytes());
        for number in [self.rows, self.present, self.links, self.entry] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.coder.scale().to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend(self.coder.centre().iter().flat_map(|x| x.to_le_bytes()));
        bytes.extend(self.layers.iter().flat_map(|count| count.to_le_bytes()));
        bytes
    }

    /// Reads what [`Head::to_bytes`] writes; says what is wrong with anything else.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some((fixed, rest)) = bytes.split_at_checked(FIXED_BYTES) else {
            return Err("too short");
        };
        let word = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().expect("4 bytes"));
        let dim = Dim::new(word(0)).map_err(|_| "a dimension out of bounds")?;
        let metric = Metric::from_code(fixed[4]).ok_or("an unknown metric")?;
        let dtype = Dtype::from_code(fixed[5]).ok_or("an unknown dtype")?;
        let layers = usize::from(u16::from_le_bytes([fixed[6], fixed[7]]));
        if rest.len() != 4 * (dim.get() + layers) || layers > LAYERS_MAX {
            return Err("of another length");
        }
        let (centre, counts) = rest.split_at(4 * dim.get());
        let words = |bytes: &[u8]| -> Vec<u32> {
            let words = bytes.as_chunks::<4>().0.iter();
            words.map(|word| u32::from_le_bytes(*word)).collect()
        };
        let centre: Vec<f32> = words(centre).into_iter().map(f32::from_bits).collect();
        let scale = f32::from_bits(word(24));
        if !scale.is_finite() || scale < 0.0 || centre.iter().any(|x| !x.is_finite()) {
            return Err("a centre or scale that is no number");
        }
        let params = VectorParams { dim, metric, dtype };
        let head = Self {
            coder: Coder::new(params, centre, scale),
            rows: word(8),
            present: word(12),
            links: word(16),
            entry: word(20),
            layers: words(counts),
        };
        head.check(word(28))?;
        Ok(head)
    }

    fn check(&self, reserved: u32) -> Result<(), &'static str> {
        if reserved != 0 {
            return Err("bytes that must be zero");
        }
        if self.rows > SEGMENT_ROWS_MAX || self.present > self.rows {
            return Err("too many rows");
        }
        if self.links as usize > LINKS_MAX || !self.links.is_multiple_of(2) {
            return Err("a number of links out of bounds");
        }
        if self.links > 0 && self.entry >= self.rows || self.links == 0 && self.entry != 0 {
            return Err("an entry that is no row");
        }
        let falling = self.layers.windows(2).all(|pair| pair[0] >= pair[1]);
        let fits = self
            .layers
            .first()
            .is_none_or(|count| *count <= self.present);
        let full = self.layers.iter().all(|count| *count > 0);
        if !falling || !fits || !full || self.links == 0 && !self.layers.is_empty() {
            return Err("layers that do not lie on one another");
        }
        Ok(())
    }
}
