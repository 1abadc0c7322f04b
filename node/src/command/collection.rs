//! What can be asked of collections: commands, and what they answer.

#![allow(
    missing_docs,
    reason = "fields of variants repeat the variant's own line"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// What is asked of a collection. Names are `alias/collection`, `KEY/collection`, or `collection` for the home's own.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum CollectionCommand {
    /// Makes one.
    Create(CollectionCreate),
    /// Lists those of the home.
    Ls,
    /// Says what one is and holds.
    Show { name: String },
    /// Deletes one; what is in no version only with `force`. Its versions stay.
    Remove { name: String, force: bool },
    /// Makes a signed version of what it holds.
    Commit(CollectionCommit),
    /// Makes a collection, that can be changed, of a version.
    Restore(CollectionRestore),
    /// Reads a file into one.
    Import(CollectionImport),
    /// Finds the points nearest to a vector.
    Search(CollectionSearch),
    /// Reads points by id, or in the order of ids.
    Points(CollectionPoints),
    /// Deletes points by id or by filter.
    DeletePoints(CollectionSelect),
    /// Indexes a payload field.
    IndexCreate {
        name: String,
        field: String,
        kind: String,
    },
    /// Gives the index of a payload field up.
    IndexRemove { name: String, field: String },
    /// Rewrites what holds deleted points, and merges.
    Compact { name: String },
    /// Rewrites it, and lets go of every version but one of what it holds now: no byte of a deleted point stays in the home.
    Purge { name: String },
}

/// `lode collection create`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct CollectionCreate {
    /// `alias/collection`.
    pub name: String,
    /// Dense vectors by name; the empty name is the one that need not be said.
    #[serde(default)]
    pub vectors: BTreeMap<String, VectorRow>,
    /// Sparse vectors by name.
    #[serde(default)]
    pub sparse: BTreeMap<String, SparseRow>,
    /// Payload fields that are indexed: path and type.
    #[serde(default)]
    pub indexes: BTreeMap<String, String>,
    /// The model that makes the vectors; those of another one are refused.
    pub embedder: Option<String>,
    /// Makes the collection readable by anyone.
    #[serde(default)]
    pub public: bool,
}

/// A dense vector of a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VectorRow {
    /// Components.
    pub size: u32,
    /// `cosine`, `dot`, `euclid` or `manhattan`.
    pub metric: String,
    /// How a component is stored: `f32`, `f16` or `u8`.
    pub dtype: String,
}

/// A sparse vector of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SparseRow {
    /// Whether components of a query are weighted by how rare they are.
    #[serde(default)]
    pub idf: bool,
}

/// `lode collection commit`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct CollectionCommit {
    /// `alias/collection`.
    pub name: String,
    /// What changed.
    #[serde(default)]
    pub message: String,
    /// Branch that moves to the new version; `main` when absent.
    pub branch: Option<String>,
    /// Tag to set on the new version.
    pub tag: Option<String>,
    /// Makes collection and versions readable by anyone.
    #[serde(default)]
    pub public: bool,
    /// Rewrites what holds deleted points first.
    #[serde(default)]
    pub compact: bool,
}

/// `lode collection restore`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct CollectionRestore {
    /// `alias/collection[@rev]`: a version that is held.
    pub name: String,
    /// What the collection is called; as its version when absent.
    #[serde(default)]
    pub to: Option<String>,
    /// Replaces the collection that has the name.
    #[serde(default)]
    pub force: bool,
}

/// `lode index`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct CollectionImport {
    /// `alias/collection`.
    pub name: String,
    /// Absolute path of the file.
    pub file: String,
    /// `npy`, `safetensors`, `jsonl`, `csv` or `parquet`; by the file's name when absent.
    pub format: Option<String>,
    /// Field with the ids; points are numbered when absent.
    pub id: Option<String>,
    /// The first number of points without ids; 0 in an empty collection when absent.
    pub first_id: Option<u64>,
    /// Field or tensor with the vectors; `vector` when absent.
    pub vector: Option<String>,
    /// Which of the collection's vectors they are.
    #[serde(default)]
    pub using: String,
    /// Fields that become payload; all others when absent.
    pub payload: Option<Vec<String>>,
    /// The model that made the vectors.
    pub embedder: Option<String>,
    /// The metric that they are made for.
    pub metric: Option<String>,
}

/// How many points a search finds if nothing is said.
fn limit_search() -> u64 {
    10
}

/// How many points are read if nothing is said.
fn limit_points() -> u64 {
    20
}

/// `lode search`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct CollectionSearch {
    /// `alias/collection`.
    pub name: String,
    /// What is searched for: numbers, or `{"indices", "values"}`.
    pub vector: Option<Value>,
    /// The point whose vector is searched for.
    pub like: Option<String>,
    /// Which of the collection's vectors.
    #[serde(default)]
    pub using: String,
    /// Which points may be found: `tag = "libs" and year >= 2020`, or Qdrant's JSON.
    pub filter: Option<String>,
    /// How many points.
    #[serde(default = "limit_search")]
    pub limit: u64,
    /// How many of the nearest are left out.
    #[serde(default)]
    pub offset: u64,
    /// Compares with every point that may be found.
    #[serde(default)]
    pub exact: bool,
    /// How many near points a search keeps in sight.
    pub breadth: Option<u64>,
    /// The worst score that is wanted.
    pub threshold: Option<f32>,
    /// Also gives vectors.
    #[serde(default)]
    pub with_vectors: bool,
    /// The model that made the vector.
    pub embedder: Option<String>,
    /// The metric that it is made for.
    pub metric: Option<String>,
}

/// `lode collection points`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct CollectionPoints {
    /// `alias/collection`.
    pub name: String,
    /// Their ids; all in the order of ids when empty.
    #[serde(default)]
    pub ids: Vec<String>,
    /// Which points.
    pub filter: Option<String>,
    /// The first id.
    pub from: Option<String>,
    /// How many.
    #[serde(default = "limit_points")]
    pub limit: u64,
    /// Also gives vectors.
    #[serde(default)]
    pub with_vectors: bool,
}

/// Which points are meant: those of these ids, or those that pass.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct CollectionSelect {
    /// `alias/collection`.
    pub name: String,
    /// Their ids.
    #[serde(default)]
    pub ids: Vec<String>,
    /// A filter.
    pub filter: Option<String>,
}

/// One collection of the home.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CollectionRow {
    /// `alias/collection`, or `KEY/collection` when no alias is bound.
    pub name: String,
    /// Publisher id.
    pub publisher: String,
    /// Points; nothing where it cannot be read.
    pub points: Option<u64>,
    /// Bytes of its segments, and of what is in memory.
    pub size: u64,
    /// Its dense and sparse vectors, for people.
    pub vectors: String,
    /// Whether this home may change it.
    pub own: bool,
    /// Whether anyone may read it.
    pub public: bool,
    /// The version that it was when it was last committed or pulled.
    pub version: Option<String>,
    /// Why it cannot be read, or not in full.
    pub trouble: Option<String>,
}

/// A collection at a glance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CollectionShown {
    /// As in a list.
    #[serde(flatten)]
    pub row: CollectionRow,
    /// When it was made.
    pub created: u64,
    /// Dense vectors by name.
    pub dense: BTreeMap<String, VectorRow>,
    /// Sparse vectors by name.
    pub sparse: BTreeMap<String, SparseRow>,
    /// Payload fields that are indexed: path and type.
    pub indexes: BTreeMap<String, String>,
    /// The model that makes the vectors.
    pub embedder: Option<String>,
    /// Segments.
    pub segments: u64,
    /// Vectors that are in segments; the others are searched exactly.
    pub vectors_indexed: u64,
    /// Number of its last operation.
    pub sequence: u64,
    /// Whether it was changed since the version of the row.
    pub changed: bool,
}

/// What a file brought.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PointsImported {
    /// `alias/collection`.
    pub name: String,
    /// Points of the file.
    pub points: u64,
    /// Those of them that an earlier, interrupted run had brought.
    pub points_before: u64,
    /// Points that the collection holds now.
    pub points_total: u64,
}

/// A point as it is read or found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PointRow {
    /// A number or a UUID.
    pub id: Value,
    /// How near it is, if it was searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// Its payload.
    #[schema(value_type = BTreeMap<String, Value>)]
    pub payload: Map<String, Value>,
    /// Its vectors by name, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, Value>>)]
    pub vectors: Option<Map<String, Value>>,
}
