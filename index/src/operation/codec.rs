//! The bytes of operations in the log: a kind, then its parts; docs/format/collection.md draws them.

use std::collections::BTreeMap;

use super::{Operation, Selection};
use crate::{
    bytes::{Reader, write_sized, write_varint},
    filter::Filter,
    id::PointId,
    payload::{Payload, PayloadPath},
    point::{Point, SparseVector, Vector},
};

/// Bytes that are no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no operation: {0}")]
pub struct OperationError(&'static str);

mod kind {
    pub(super) const UPSERT: u8 = 1;
    pub(super) const DELETE: u8 = 2;
    pub(super) const SET_PAYLOAD: u8 = 3;
    pub(super) const OVERWRITE_PAYLOAD: u8 = 4;
    pub(super) const DELETE_PAYLOAD: u8 = 5;
    pub(super) const CLEAR_PAYLOAD: u8 = 6;
    pub(super) const UPDATE_VECTORS: u8 = 7;
    pub(super) const DELETE_VECTORS: u8 = 8;
    pub(super) const CREATE_INDEX: u8 = 9;
    pub(super) const DELETE_INDEX: u8 = 10;
}

impl Operation {
    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Upsert(points) => {
                out.push(kind::UPSERT);
                write_varint(points.len() as u64, out);
                for point in points {
                    encode_id(point.id, out);
                    encode_vectors(&point.vectors, out);
                    write_sized(point.payload.as_bytes(), out);
                }
            }
            Self::Delete(of) => {
                out.push(kind::DELETE);
                of.encode(out);
            }
            Self::SetPayload { of, payload, path } => {
                out.push(kind::SET_PAYLOAD);
                of.encode(out);
                write_sized(payload.as_bytes(), out);
                write_sized(
                    path.as_ref().map_or("", PayloadPath::as_str).as_bytes(),
                    out,
                );
            }
            Self::OverwritePayload { of, payload } => {
                out.push(kind::OVERWRITE_PAYLOAD);
                of.encode(out);
                write_sized(payload.as_bytes(), out);
            }
            Self::DeletePayload { of, paths } => {
                out.push(kind::DELETE_PAYLOAD);
                of.encode(out);
                write_varint(paths.len() as u64, out);
                paths
                    .iter()
                    .for_each(|path| write_sized(path.as_str().as_bytes(), out));
            }
            Self::ClearPayload { of } => {
                out.push(kind::CLEAR_PAYLOAD);
                of.encode(out);
            }
            Self::UpdateVectors(points) => {
                out.push(kind::UPDATE_VECTORS);
                write_varint(points.len() as u64, out);
                for (id, vectors) in points {
                    encode_id(*id, out);
                    encode_vectors(vectors, out);
                }
            }
            Self::DeleteVectors { of, names } => {
                out.push(kind::DELETE_VECTORS);
                of.encode(out);
                write_varint(names.len() as u64, out);
                names
                    .iter()
                    .for_each(|name| write_sized(name.as_bytes(), out));
            }
            Self::CreateIndex { path, kind } => {
                out.push(kind::CREATE_INDEX);
                write_sized(path.as_str().as_bytes(), out);
                let kind = serde_json::to_vec(kind).expect("an enum of names and numbers is JSON");
                write_sized(&kind, out);
            }
            Self::DeleteIndex { path } => {
                out.push(kind::DELETE_INDEX);
                write_sized(path.as_str().as_bytes(), out);
            }
        }
    }

    /// Reads an operation, which is all of the bytes.
    ///
    /// # Errors
    /// [`OperationError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, OperationError> {
        let mut reader = Reader::new(bytes);
        let operation = decode(&mut reader).ok_or(OperationError("damaged"))?;
        match reader.is_at_end() {
            true => Ok(operation),
            false => Err(OperationError("bytes behind it")),
        }
    }
}

fn decode(reader: &mut Reader<'_>) -> Option<Operation> {
    Some(match reader.u8()? {
        kind::UPSERT => {
            let count = reader.count(12)?;
            let points = (0..count).map(|_| {
                let (id, vectors) = (decode_id(reader)?, decode_vectors(reader)?);
                Some(Point {
                    id,
                    vectors,
                    payload: decode_payload(reader)?,
                })
            });
            Operation::Upsert(points.collect::<Option<_>>()?)
        }
        kind::DELETE => Operation::Delete(Selection::decode(reader)?),
        kind::SET_PAYLOAD => {
            let (of, payload) = (Selection::decode(reader)?, decode_payload(reader)?);
            let path = match reader.text()? {
                "" => None,
                path => Some(path.parse().ok()?),
            };
            Operation::SetPayload { of, payload, path }
        }
        kind::OVERWRITE_PAYLOAD => Operation::OverwritePayload {
            of: Selection::decode(reader)?,
            payload: decode_payload(reader)?,
        },
        kind::DELETE_PAYLOAD => {
            let of = Selection::decode(reader)?;
            let count = reader.count(2)?;
            let paths = (0..count).map(|_| reader.text()?.parse().ok());
            Operation::DeletePayload {
                of,
                paths: paths.collect::<Option<_>>()?,
            }
        }
        kind::CLEAR_PAYLOAD => Operation::ClearPayload {
            of: Selection::decode(reader)?,
        },
        kind::UPDATE_VECTORS => {
            let count = reader.count(10)?;
            let points = (0..count).map(|_| Some((decode_id(reader)?, decode_vectors(reader)?)));
            Operation::UpdateVectors(points.collect::<Option<_>>()?)
        }
        kind::DELETE_VECTORS => {
            let of = Selection::decode(reader)?;
            let count = reader.count(1)?;
            let names = (0..count).map(|_| reader.text().map(str::to_owned));
            Operation::DeleteVectors {
                of,
                names: names.collect::<Option<_>>()?,
            }
        }
        kind::CREATE_INDEX => Operation::CreateIndex {
            path: reader.text()?.parse().ok()?,
            kind: serde_json::from_slice(reader.sized()?).ok()?,
        },
        kind::DELETE_INDEX => Operation::DeleteIndex {
            path: reader.text()?.parse().ok()?,
        },
        _ => return None,
    })
}

impl Selection {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ids(ids) => {
                out.push(0);
                write_varint(ids.len() as u64, out);
                ids.iter().for_each(|id| encode_id(*id, out));
            }
            Self::Filter(filter) => {
                out.push(1);
                write_sized(filter.to_json().to_string().as_bytes(), out);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.u8()? {
            0 => {
                let count = reader.count(9)?;
                let ids = (0..count).map(|_| decode_id(reader));
                Some(Self::Ids(ids.collect::<Option<_>>()?))
            }
            1 => {
                let json = serde_json::from_slice(reader.sized()?).ok()?;
                Filter::from_json(&json).ok().map(Self::Filter)
            }
            _ => None,
        }
    }
}

fn encode_id(id: PointId, out: &mut Vec<u8>) {
    match id {
        PointId::Number(number) => {
            out.push(0);
            out.extend_from_slice(&number.to_le_bytes());
        }
        PointId::Uuid(bytes) => {
            out.push(1);
            out.extend_from_slice(&bytes);
        }
    }
}

fn decode_id(reader: &mut Reader<'_>) -> Option<PointId> {
    match reader.u8()? {
        0 => reader.u64().map(PointId::Number),
        1 => reader.array().map(PointId::Uuid),
        _ => None,
    }
}

fn decode_payload(reader: &mut Reader<'_>) -> Option<Payload> {
    Payload::from_bytes(reader.sized()?).ok()
}

fn encode_vectors(vectors: &BTreeMap<String, Vector>, out: &mut Vec<u8>) {
    write_varint(vectors.len() as u64, out);
    for (name, vector) in vectors {
        write_sized(name.as_bytes(), out);
        let numbers = match vector {
            Vector::Dense(numbers) => {
                out.push(0);
                write_varint(numbers.len() as u64, out);
                numbers
            }
            Vector::Sparse(sparse) => {
                out.push(1);
                write_varint(sparse.indices().len() as u64, out);
                sparse
                    .indices()
                    .iter()
                    .for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
                sparse.values()
            }
        };
        out.reserve(numbers.len() * 4);
        numbers
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    }
}

fn decode_vectors(reader: &mut Reader<'_>) -> Option<BTreeMap<String, Vector>> {
    let count = reader.count(3)?;
    let mut vectors = BTreeMap::new();
    for _ in 0..count {
        let name = reader.text()?.to_owned();
        let vector = match reader.u8()? {
            0 => {
                let len = reader.count(4)?;
                Vector::Dense(floats(reader.take(len * 4)?))
            }
            1 => {
                let len = reader.count(8)?;
                let (indices, _) = reader.take(len * 4)?.as_chunks::<4>();
                let indices: Vec<u32> = indices.iter().map(|n| u32::from_le_bytes(*n)).collect();
                let values = floats(reader.take(len * 4)?);
                Vector::Sparse(SparseVector::new(&indices, &values).ok()?)
            }
            _ => return None,
        };
        if vectors.insert(name, vector).is_some() {
            return None;
        }
    }
    Some(vectors)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|n| f32::from_le_bytes(*n)).collect()
}
