//! Operations: everything that changes a collection, as the log keeps it.
//!
//! An operation says what was asked for, not what came of it: replaying the log on the state at its beginning
//! gives the same collection, because every operation is a function of that state alone.

use std::collections::BTreeMap;

use crate::{
    filter::Filter,
    id::PointId,
    payload::{Payload, PayloadPath},
    point::{Point, Vector},
    schema::FieldType,
};

mod codec;

/// A change of a collection.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Operation {
    /// Points are set, each as a whole; of an id that is named twice the last one counts.
    Upsert(Vec<Point>),
    /// Points are removed.
    Delete(Selection),
    /// Keys of payloads are set, below a path if there is one; the others stay.
    SetPayload {
        /// Whose.
        of: Selection,
        /// The keys and their values.
        payload: Payload,
        /// Where.
        path: Option<PayloadPath>,
    },
    /// Payloads are replaced.
    OverwritePayload {
        /// Whose.
        of: Selection,
        /// The new one.
        payload: Payload,
    },
    /// What is at paths is removed from payloads.
    DeletePayload {
        /// Whose.
        of: Selection,
        /// Where.
        paths: Vec<PayloadPath>,
    },
    /// Payloads lose all keys.
    ClearPayload {
        /// Whose.
        of: Selection,
    },
    /// Vectors of points that exist are set; others stay.
    UpdateVectors(Vec<(PointId, BTreeMap<String, Vector>)>),
    /// Vectors are removed from points.
    DeleteVectors {
        /// Whose.
        of: Selection,
        /// Their names.
        names: Vec<String>,
    },
    /// A payload field is indexed from now on.
    CreateIndex {
        /// The field.
        path: PayloadPath,
        /// As what.
        kind: FieldType,
    },
    /// A payload field is not indexed any more.
    DeleteIndex {
        /// The field.
        path: PayloadPath,
    },
}

/// Which points an operation is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// Those of these ids that exist.
    Ids(Vec<PointId>),
    /// Those that pass.
    Filter(Filter),
}

impl Operation {
    /// The filter by which points are changed, each of which becomes a new row.
    pub(crate) fn changes_by_filter(&self) -> Option<&Filter> {
        match self {
            Self::SetPayload { of, .. }
            | Self::OverwritePayload { of, .. }
            | Self::DeletePayload { of, .. }
            | Self::ClearPayload { of }
            | Self::DeleteVectors { of, .. } => match of {
                Selection::Filter(filter) => Some(filter),
                Selection::Ids(_) => None,
            },
            _ => None,
        }
    }

    /// The same change of other points.
    pub(crate) fn of_ids(mut self, ids: Vec<PointId>) -> Self {
        if let Self::SetPayload { of, .. }
        | Self::OverwritePayload { of, .. }
        | Self::DeletePayload { of, .. }
        | Self::ClearPayload { of }
        | Self::DeleteVectors { of, .. } = &mut self
        {
            *of = Selection::Ids(ids);
        }
        self
    }
}

impl Selection {
    /// One point.
    pub fn id(id: impl Into<PointId>) -> Self {
        Self::Ids(vec![id.into()])
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::point::SparseVector;

    pub(crate) fn samples() -> Vec<Operation> {
        let payload = Payload::from_json(&json!({"a": [1, {"b": null}], "t": "x"})).unwrap();
        let path: PayloadPath = "a[].b".parse().unwrap();
        let sparse = SparseVector::new(&[3, 1], &[0.5, -1.0]).unwrap();
        let vectors: BTreeMap<_, _> = [
            (String::new(), Vector::Dense(vec![1.0, -2.5])),
            ("s".to_owned(), Vector::Sparse(sparse)),
        ]
        .into();
        let filter = Filter::from_json(&json!({"must": [{"key": "t", "match": {"value": "x"}}]}));
        let of = Selection::Filter(filter.unwrap());
        let ids = Selection::Ids(vec![PointId::Number(7), PointId::Uuid([9; 16])]);
        let point = Point {
            id: 1.into(),
            vectors: vectors.clone(),
            payload: payload.clone(),
        };
        vec![
            Operation::Upsert(vec![point]),
            Operation::Delete(ids.clone()),
            Operation::Delete(of.clone()),
            Operation::SetPayload {
                of: ids.clone(),
                payload: payload.clone(),
                path: None,
            },
            Operation::SetPayload {
                of: of.clone(),
                payload: payload.clone(),
                path: Some(path.clone()),
            },
            Operation::OverwritePayload {
                of: of.clone(),
                payload,
            },
            Operation::DeletePayload {
                of: ids.clone(),
                paths: vec![path.clone()],
            },
            Operation::ClearPayload { of },
            Operation::UpdateVectors(vec![(PointId::Uuid([1; 16]), vectors)]),
            Operation::DeleteVectors {
                of: ids,
                names: vec!["s".into()],
            },
            Operation::CreateIndex {
                path: path.clone(),
                kind: FieldType::Geo,
            },
            Operation::DeleteIndex { path },
        ]
    }

    #[test]
    fn an_operation_reads_back_as_it_was() {
        for operation in samples() {
            let mut bytes = Vec::new();
            operation.encode(&mut bytes);
            assert_eq!(Operation::decode(&bytes).as_ref(), Ok(&operation));
            for len in 0..bytes.len() {
                assert!(
                    Operation::decode(&bytes[..len]).is_err(),
                    "{operation:?} cut at {len}"
                );
            }
            bytes.push(0);
            assert!(Operation::decode(&bytes).is_err());
        }
    }
}
