//! The index of a payload field: which rows have which values (docs/format/segment.md, `payload-index`).
//!
//! An index holds all values of the kinds that it can answer for, and the rows for which the field is filled,
//! empty or null, so that what it answers is what looking at every payload would answer. Three kinds:
//!
//! - *terms*: text, truth values and words, sorted, each with its rows;
//! - *numbers*: numbers and points in time, sorted, with the row of each;
//! - *places*: places by latitude, with the row of each.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use roaring::RoaringBitmap;

use super::{
    SectionBytes,
    lists::{Lists, bytes_of_u32, bytes_of_u64, write_lists},
};
use crate::{
    datetime::parse_datetime,
    filter::{Condition, Range, Scalar, Test, has_null, is_empty},
    geo::{GeoArea, GeoPoint},
    limits::TERM_BYTES_MAX,
    payload::{Kind, PayloadPath, ValueRef},
    schema::FieldType,
    view::{Counted, OrderRequest, PartError},
};

const NULLS: usize = 0;
const FILLED: usize = 1;
/// Terms one after the other, or sorted keys of numbers, or latitudes.
const KEYS: usize = 2;
/// Where each term ends; for places, longitudes.
const KEY_ENDS: usize = 3;
/// Rows of numbers and places; postings of terms one after the other.
const ROWS: usize = 4;
/// Where the postings of each term end.
const ROW_ENDS: usize = 5;
/// How many rows each term has.
const COUNTS: usize = 6;
/// Rows with a value of which the index does not have all: a text that is too long, a number that is no integer
/// or shares its float with others.
const LEFT_OUT: usize = 7;

const DAMAGED: PartError = PartError::Damaged("payload index");

/// Integers up to here are apart as floats too.
const EXACT_MAX: u64 = 1 << 53;

/// Gathers the values of a field, row by row.
#[derive(Debug)]
pub(crate) struct FieldWriter {
    path: PayloadPath,
    kind: FieldType,
    nulls: RoaringBitmap,
    filled: RoaringBitmap,
    left_out: RoaringBitmap,
    terms: BTreeMap<Vec<u8>, RoaringBitmap>,
    numbers: Vec<(u64, u32)>,
    places: Vec<(u64, u64, u32)>,
}

impl FieldWriter {
    pub(crate) fn new(path: PayloadPath, kind: FieldType) -> Self {
        Self {
            path,
            kind,
            nulls: RoaringBitmap::new(),
            filled: RoaringBitmap::new(),
            left_out: RoaringBitmap::new(),
            terms: BTreeMap::new(),
            numbers: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Takes the payload of the next row; rows ascend.
    pub(crate) fn push(&mut self, row: u32, payload: ValueRef<'_>) {
        if !is_empty(&self.path, payload) {
            self.filled.insert(row);
        }
        if has_null(&self.path, payload) {
            self.nulls.insert(row);
        }
        let path = self.path.clone();
        path.each_flat(payload, &mut |value| self.value(row, value));
    }

    fn value(&mut self, row: u32, value: ValueRef<'_>) {
        match (self.kind, value.kind()) {
            (FieldType::Keyword, Kind::String(text)) => self.term(row, text.as_bytes()),
            (FieldType::Keyword, Kind::Bool(_) | Kind::Integer(_)) => {
                self.left_out.insert(row);
            }
            (FieldType::Bool, Kind::Bool(value)) => self.term(row, &[u8::from(value)]),
            (FieldType::Text(rule), Kind::String(text)) => {
                rule.tokens(text)
                    .iter()
                    .for_each(|word| self.term(row, word.as_bytes()));
            }
            (FieldType::Integer | FieldType::Float, _) => {
                let exact =
                    matches!(value.kind(), Kind::Integer(n) if n.unsigned_abs() < EXACT_MAX);
                if let Some(number) = value.as_f64() {
                    self.numbers.push((float_key(number), row));
                    if !exact {
                        self.left_out.insert(row);
                    }
                }
            }
            (FieldType::Datetime, Kind::String(text)) => {
                self.numbers
                    .extend(parse_datetime(text).map(|time| (time_key(time), row)));
            }
            (FieldType::Geo, _) => {
                let place = GeoPoint::from_value(value);
                let place = place.map(|place| (float_key(place.lat), float_key(place.lon), row));
                self.places.extend(place);
            }
            _ => {}
        }
    }

    fn term(&mut self, row: u32, term: &[u8]) {
        if term.len() > TERM_BYTES_MAX {
            self.left_out.insert(row);
        } else if let Some(rows) = self.terms.get_mut(term) {
            rows.insert(row);
        } else {
            self.terms
                .insert(term.to_vec(), [row].into_iter().collect());
        }
    }

    /// Writes the section.
    pub(crate) fn finish(mut self, out: &mut impl Write) -> io::Result<()> {
        let bitmap = |rows: &RoaringBitmap| {
            let mut bytes = Vec::new();
            rows.serialize_into(&mut bytes).map(|()| bytes)
        };
        let (mut keys, mut key_ends) = (Vec::new(), Vec::new());
        let (mut rows, mut row_ends, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (term, posting) in &self.terms {
            keys.extend_from_slice(term);
            key_ends.extend_from_slice(&(keys.len() as u64).to_le_bytes());
            match (posting.len(), posting.min()) {
                // most terms of a field of ids are in one row: four bytes instead of eighteen
                (1, Some(row)) => rows.extend_from_slice(&row.to_le_bytes()),
                _ => posting.serialize_into(&mut rows)?,
            }
            row_ends.extend_from_slice(&(rows.len() as u64).to_le_bytes());
            let count = u32::try_from(posting.len()).map_err(io::Error::other)?;
            counts.extend_from_slice(&count.to_le_bytes());
        }
        if !self.numbers.is_empty() {
            self.numbers.sort_unstable();
            keys = bytes_of_u64(self.numbers.iter().map(|(key, _)| *key));
            rows = bytes_of_u32(self.numbers.iter().map(|(_, row)| *row));
        }
        if !self.places.is_empty() {
            self.places.sort_unstable();
            keys = bytes_of_u64(self.places.iter().map(|(lat, _, _)| *lat));
            key_ends = bytes_of_u64(self.places.iter().map(|(_, lon, _)| *lon));
            rows = bytes_of_u32(self.places.iter().map(|(_, _, row)| *row));
        }
        let (nulls, filled) = (bitmap(&self.nulls)?, bitmap(&self.filled)?);
        let left_out = bitmap(&self.left_out)?;
        let lists = [
            &nulls, &filled, &keys, &key_ends, &rows, &row_ends, &counts, &left_out,
        ];
        write_lists(out, &lists.map(Vec::as_slice))
    }
}

/// A number that orders floats as they are ordered; -0 is 0.
fn float_key(number: f64) -> u64 {
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 0 {
        bits | 1 << 63
    } else {
        !bits
    }
}

fn key_float(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 {
        key & !(1 << 63)
    } else {
        !key
    })
}

/// A number that orders points in time as they are ordered.
fn time_key(micros: i64) -> u64 {
    micros.cast_unsigned() ^ 1 << 63
}

/// The index of a payload field.
#[derive(Debug, Clone)]
pub(crate) struct FieldIndex {
    path: PayloadPath,
    kind: FieldType,
    lists: Lists<8>,
    rows: u32,
}

impl FieldIndex {
    pub(crate) fn open(
        path: PayloadPath,
        kind: FieldType,
        bytes: SectionBytes,
        rows: u32,
    ) -> Result<Self, PartError> {
        let lists = Lists::open(bytes).ok_or(DAMAGED)?;
        let len = |list: usize| lists.list(list).len();
        let fits = match kind {
            FieldType::Keyword | FieldType::Bool | FieldType::Text(_) => {
                let terms = len(KEY_ENDS) / 8;
                len(KEY_ENDS) == 8 * terms && len(ROW_ENDS) == 8 * terms && len(COUNTS) == 4 * terms
            }
            FieldType::Integer | FieldType::Float | FieldType::Datetime => {
                len(KEYS) == 2 * len(ROWS) && len(ROWS).is_multiple_of(4)
            }
            FieldType::Geo => {
                len(KEYS) == 2 * len(ROWS)
                    && len(KEYS) == len(KEY_ENDS)
                    && len(ROWS).is_multiple_of(4)
            }
        };
        fits.then_some(Self {
            path,
            kind,
            lists,
            rows,
        })
        .ok_or(DAMAGED)
    }

    pub(crate) fn path(&self) -> &PayloadPath {
        &self.path
    }

    pub(crate) fn kind(&self) -> FieldType {
        self.kind
    }

    /// The rows for which a condition on this field holds, if the index can tell.
    pub(crate) fn answer(
        &self,
        condition: &Condition,
        exact: &mut dyn FnMut(&RoaringBitmap) -> Result<RoaringBitmap, PartError>,
    ) -> Result<Option<RoaringBitmap>, PartError> {
        match condition {
            Condition::IsEmpty(_) => {
                let all: RoaringBitmap = (0..self.rows).collect();
                Ok(Some(all - self.bitmap(FILLED)?))
            }
            Condition::IsNull(_) => self.bitmap(NULLS).map(Some),
            Condition::Field(_, test) => self.test(test, exact),
            _ => Ok(None),
        }
    }

    fn test(
        &self,
        test: &Test,
        exact: &mut dyn FnMut(&RoaringBitmap) -> Result<RoaringBitmap, PartError>,
    ) -> Result<Option<RoaringBitmap>, PartError> {
        let mut any = |scalars: &mut dyn Iterator<Item = &Scalar>| {
            let mut found = RoaringBitmap::new();
            for scalar in scalars {
                match self.scalar(scalar, exact)? {
                    Some(rows) => found |= rows,
                    None => return Ok(None),
                }
            }
            Ok(Some(found))
        };
        match (self.kind, test) {
            (_, Test::Value(scalar)) => any(&mut std::iter::once(scalar)),
            (_, Test::Any(scalars)) => any(&mut scalars.iter()),
            (FieldType::Text(rule), Test::Text(query)) => {
                let Some((_, words)) = query.words.as_ref().filter(|(other, _)| *other == rule)
                else {
                    return Ok(None);
                };
                let mut found: Option<RoaringBitmap> = None;
                for word in words {
                    let rows = self.term(word.as_bytes())?;
                    found = Some(match found {
                        None => rows,
                        Some(found) if query.any => found | rows,
                        Some(found) => found & rows,
                    });
                }
                Ok(Some(found.unwrap_or_default()))
            }
            (FieldType::Integer | FieldType::Float, Test::Range(range)) => {
                self.between(&range.map(float_key)).map(Some)
            }
            (FieldType::Datetime, Test::Datetime(range)) => {
                self.between(&range.map(time_key)).map(Some)
            }
            (FieldType::Geo, Test::Geo(area)) => self.inside(area).map(Some),
            _ => Ok(None),
        }
    }

    fn scalar(
        &self,
        scalar: &Scalar,
        exact: &mut dyn FnMut(&RoaringBitmap) -> Result<RoaringBitmap, PartError>,
    ) -> Result<Option<RoaringBitmap>, PartError> {
        match (self.kind, scalar) {
            (FieldType::Keyword, Scalar::Text(text)) if text.len() <= TERM_BYTES_MAX => {
                self.term(text.as_bytes()).map(Some)
            }
            (FieldType::Bool, Scalar::Bool(value)) => self.term(&[u8::from(*value)]).map(Some),
            (FieldType::Integer | FieldType::Float, Scalar::Integer(integer)) => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "what is lost is looked up below"
                )]
                let key = Some(float_key(*integer as f64));
                let near = self.between(&Range {
                    gte: key,
                    lte: key,
                    ..Range::default()
                })?;
                // floats equal integers as numbers and not as values; large integers share a float
                let doubtful = &near & self.bitmap(LEFT_OUT)?;
                let sure = near - &doubtful;
                Ok(Some(if doubtful.is_empty() {
                    sure
                } else {
                    sure | exact(&doubtful)?
                }))
            }
            _ => Ok(None),
        }
    }

    /// About how many rows [`FieldIndex::answer`] gives, if it can.
    pub(crate) fn estimate(&self, condition: &Condition) -> Result<Option<u64>, PartError> {
        let scalar = |scalar: &Scalar| match (self.kind, scalar) {
            (FieldType::Keyword, Scalar::Text(text)) if text.len() <= TERM_BYTES_MAX => {
                Some(self.count(text.as_bytes()))
            }
            (FieldType::Bool, Scalar::Bool(value)) => Some(self.count(&[u8::from(*value)])),
            (FieldType::Integer | FieldType::Float, Scalar::Integer(integer)) => {
                #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                let key = Some(float_key(*integer as f64));
                let range = self.span(&Range {
                    gte: key,
                    lte: key,
                    ..Range::default()
                });
                Some(range.len() as u64)
            }
            _ => None,
        };
        let Condition::Field(_, test) = condition else {
            return Ok(match condition {
                Condition::IsEmpty(_) => {
                    Some(u64::from(self.rows).saturating_sub(self.bitmap(FILLED)?.len()))
                }
                Condition::IsNull(_) => Some(self.bitmap(NULLS)?.len()),
                _ => None,
            });
        };
        Ok(match (self.kind, test) {
            (_, Test::Value(value)) => scalar(value),
            (_, Test::Any(values)) => values.iter().map(scalar).sum(),
            (FieldType::Text(_), Test::Text(query)) => query.words.as_ref().map(|(_, words)| {
                let counts = words.iter().map(|word| self.count(word.as_bytes()));
                if query.any {
                    counts.sum()
                } else {
                    counts.min().unwrap_or(0)
                }
            }),
            (FieldType::Integer | FieldType::Float, Test::Range(range)) => {
                Some(self.span(&range.map(float_key)).len() as u64)
            }
            (FieldType::Datetime, Test::Datetime(range)) => {
                Some(self.span(&range.map(time_key)).len() as u64)
            }
            (FieldType::Geo, Test::Geo(area)) => Some(self.band(area).len() as u64),
            _ => None,
        })
    }

    /// How often each value stands in rows of a set, if the index has every value of these rows.
    pub(crate) fn facet(
        &self,
        allowed: &RoaringBitmap,
    ) -> Result<Option<Vec<(Scalar, u64)>>, PartError> {
        if self.kind != FieldType::Keyword || !self.bitmap(LEFT_OUT)?.is_disjoint(allowed) {
            return Ok(None);
        }
        let mut found = Vec::new();
        for at in 0..self.terms() {
            let count = self.posting(at)?.intersection_len(allowed);
            if count > 0 {
                let text = self.key(at).and_then(|key| std::str::from_utf8(key).ok());
                found.push((Scalar::Text(text.ok_or(DAMAGED)?.to_owned()), count));
            }
        }
        Ok(Some(found))
    }

    /// Rows of a set among which are those with its first `limit` values in an order, if these are what the index has.
    pub(crate) fn first_by(
        &self,
        order: &OrderRequest,
        counted: Counted,
        limit: usize,
        allowed: &RoaringBitmap,
    ) -> Result<Option<RoaringBitmap>, PartError> {
        let (numbers, times) = match self.kind {
            FieldType::Integer | FieldType::Float => (true, false),
            FieldType::Datetime => (false, true),
            _ => return Ok(None),
        };
        if counted != (Counted { numbers, times }) {
            return Ok(None);
        }
        let from = order.from.map(|from| match numbers {
            true => float_key(from.as_f64()),
            false => time_key(from.floor()),
        });
        let span = self.span(&match order.descending {
            true => Range {
                lte: from,
                ..Range::default()
            },
            false => Range {
                gte: from,
                ..Range::default()
            },
        });
        let keys = self.lists.u64s(KEYS).get(span.clone()).ok_or(DAMAGED)?;
        let rows = self.lists.u32s(ROWS).get(span).ok_or(DAMAGED)?;
        let mut found = RoaringBitmap::new();
        let (mut count, mut last) = (0, None);
        let mut take = |(key, row): (&[u8; 8], &[u8; 4])| {
            let (key, row) = (u64::from_le_bytes(*key), u32::from_le_bytes(*row));
            // of equal keys all: which values come first is for the values to say
            if count >= limit && last != Some(key) {
                return false;
            }
            if allowed.contains(row) {
                found.insert(row);
                // what shares the key of the first value that is wanted may be on its other side
                count += usize::from(from != Some(key));
                last = Some(key);
            }
            true
        };
        let pairs = keys.iter().zip(rows);
        match order.descending {
            true => pairs.rev().all(&mut take),
            false => pairs.into_iter().all(&mut take),
        };
        Ok(Some(found))
    }

    fn bitmap(&self, list: usize) -> Result<RoaringBitmap, PartError> {
        read_bitmap(self.lists.list(list), self.rows)
    }

    fn terms(&self) -> usize {
        self.lists.u64s(KEY_ENDS).len()
    }

    fn key(&self, at: usize) -> Option<&[u8]> {
        between_ends(&self.lists, KEY_ENDS, KEYS, at)
    }

    fn find(&self, term: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.terms());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle)?.cmp(term) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn count(&self, term: &[u8]) -> u64 {
        let count = self.find(term).and_then(|at| self.lists.u32(COUNTS, at));
        u64::from(count.unwrap_or(0))
    }

    fn term(&self, term: &[u8]) -> Result<RoaringBitmap, PartError> {
        self.find(term)
            .map_or_else(|| Ok(RoaringBitmap::new()), |at| self.posting(at))
    }

    fn posting(&self, at: usize) -> Result<RoaringBitmap, PartError> {
        let bytes = between_ends(&self.lists, ROW_ENDS, ROWS, at).ok_or(DAMAGED)?;
        match (self.lists.u32(COUNTS, at), bytes.first_chunk::<4>()) {
            (Some(1), Some(row)) if bytes.len() == 4 => {
                let row = u32::from_le_bytes(*row);
                (row < self.rows)
                    .then(|| [row].into_iter().collect())
                    .ok_or(DAMAGED)
            }
            _ => read_bitmap(bytes, self.rows),
        }
    }

    /// Where in the sorted keys those of a range are.
    fn span(&self, range: &Range<u64>) -> std::ops::Range<usize> {
        let keys = self.lists.u64s(KEYS);
        let below = |bound: u64| keys.partition_point(|key| u64::from_le_bytes(*key) < bound);
        let not_above = |bound: u64| keys.partition_point(|key| u64::from_le_bytes(*key) <= bound);
        let starts = [range.gte.map(below), range.gt.map(not_above)];
        let ends = [range.lt.map(below), range.lte.map(not_above)];
        let start = starts.into_iter().flatten().max().unwrap_or(0);
        let end = ends.into_iter().flatten().min().unwrap_or(keys.len());
        start..end.max(start)
    }

    fn between(&self, range: &Range<u64>) -> Result<RoaringBitmap, PartError> {
        self.rows_at(self.span(range), &mut |_| true)
    }

    /// Where in the sorted latitudes those of an area are.
    fn band(&self, area: &GeoArea) -> std::ops::Range<usize> {
        let (south, north) = area.latitudes();
        let (gte, lte) = (Some(float_key(south)), Some(float_key(north)));
        self.span(&Range {
            gte,
            lte,
            ..Range::default()
        })
    }

    fn inside(&self, area: &GeoArea) -> Result<RoaringBitmap, PartError> {
        self.rows_at(self.band(area), &mut |at| {
            let degrees = |list| self.lists.u64(list, at).map(key_float);
            let place = degrees(KEY_ENDS).zip(degrees(KEYS));
            let place = place.and_then(|(lon, lat)| GeoPoint::new(lon, lat));
            place.is_some_and(|place| area.contains(place))
        })
    }

    fn rows_at(
        &self,
        span: std::ops::Range<usize>,
        keep: &mut dyn FnMut(usize) -> bool,
    ) -> Result<RoaringBitmap, PartError> {
        let start = span.start;
        let rows = self.lists.u32s(ROWS).get(span).ok_or(DAMAGED)?;
        let kept = rows.iter().enumerate().filter(|(at, _)| keep(start + at));
        let mut rows: Vec<u32> = kept.map(|(_, row)| u32::from_le_bytes(*row)).collect();
        // a bitmap is made of rows that ascend many times faster than of others
        rows.sort_unstable();
        rows.dedup();
        if rows.last().is_some_and(|row| *row >= self.rows) {
            return Err(DAMAGED);
        }
        RoaringBitmap::from_sorted_iter(rows).map_err(|_| DAMAGED)
    }
}

impl<T: Copy> Range<T> {
    fn map<U>(&self, to: impl Fn(T) -> U) -> Range<U> {
        Range {
            gt: self.gt.map(&to),
            gte: self.gte.map(&to),
            lt: self.lt.map(&to),
            lte: self.lte.map(&to),
        }
    }
}

/// What of list `data` belongs to an entry, by the list of ends.
fn between_ends<const N: usize>(
    lists: &Lists<N>,
    ends: usize,
    data: usize,
    at: usize,
) -> Option<&[u8]> {
    let end = |at| {
        lists
            .u64(ends, at)
            .and_then(|end| usize::try_from(end).ok())
    };
    let start = if at == 0 { 0 } else { end(at - 1)? };
    lists.list(data).get(start..end(at)?)
}

/// A bitmap of rows that are there.
pub(crate) fn read_bitmap(bytes: &[u8], rows: u32) -> Result<RoaringBitmap, PartError> {
    let bitmap = RoaringBitmap::deserialize_from(bytes).map_err(|_| DAMAGED)?;
    match bitmap.max() {
        Some(max) if max >= rows => Err(DAMAGED),
        _ => Ok(bitmap),
    }
}
