//! What a collection's points look like: its vectors by name, its payload indexes, its embedder.
//!
//! A configuration is durable: the head of a collection holds it as JSON. It is checked when it is made and
//! when it is read, so that the rest of the crate trusts it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    limits::{NAME_BYTES_MAX, PAYLOAD_INDEXES_MAX, VECTORS_MAX},
    params::{Dim, Dtype, Metric, VectorParams},
    payload::PayloadPath,
    tokenizer::TextRule,
};

/// What a collection is made with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CollectionConfig {
    /// Dense vectors by name; the empty name is the one that need not be said.
    pub vectors: BTreeMap<String, VectorParams>,
    /// Sparse vectors by name.
    pub sparse: BTreeMap<String, SparseParams>,
    /// Payload fields that are indexed.
    pub schema: Schema,
    /// The model that makes the vectors, if the collection is bound to one.
    pub embedder: Option<Embedder>,
}

/// How a sparse vector is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SparseParams {
    /// Whether components of a query are weighted by how rare they are.
    #[serde(default)]
    pub idf: bool,
}

/// The model that makes the vectors of a collection, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Embedder {
    /// Its name, for people.
    pub name: String,
    /// A hash of its weights, or of the version that holds them.
    #[serde(default)]
    pub hash: String,
    /// Pooling, prefixes, normalisation: whatever changes the vectors.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
}

/// The payload fields that are indexed, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schema {
    fields: BTreeMap<PayloadPath, FieldType>,
}

/// What an indexed field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FieldType {
    /// Text that is compared as a whole.
    Keyword,
    /// Whole numbers.
    Integer,
    /// Numbers.
    Float,
    /// Points in time, as text.
    Datetime,
    /// True and false.
    Bool,
    /// Text that is searched by its words.
    Text(TextRule),
    /// Places.
    Geo,
}

/// Why a collection cannot be like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A name that is too long.
    #[error("the name of a vector has at most {NAME_BYTES_MAX} bytes")]
    Name,
    /// Two vectors with one name.
    #[error("{name:?} is both a dense and a sparse vector")]
    Twice {
        /// The name.
        name: String,
    },
    /// Too many vectors.
    #[error("a point has at most {VECTORS_MAX} vectors")]
    Vectors,
    /// Too many indexed fields.
    #[error("at most {PAYLOAD_INDEXES_MAX} payload fields are indexed")]
    Indexes,
    /// JSON that is no configuration.
    #[error("no configuration of a collection: {0}")]
    Json(String),
}

impl CollectionConfig {
    /// A configuration with one vector without a name.
    pub fn single(params: VectorParams) -> Self {
        Self {
            vectors: [(String::new(), params)].into(),
            ..Self::default()
        }
    }

    /// Checks names and numbers of things.
    ///
    /// # Errors
    /// [`ConfigError`], the first that applies.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.vectors.len() + self.sparse.len() > VECTORS_MAX {
            return Err(ConfigError::Vectors);
        }
        if self
            .vectors
            .keys()
            .chain(self.sparse.keys())
            .any(|name| name.len() > NAME_BYTES_MAX)
        {
            return Err(ConfigError::Name);
        }
        if let Some(name) = self
            .sparse
            .keys()
            .find(|name| self.vectors.contains_key(*name))
        {
            return Err(ConfigError::Twice { name: name.clone() });
        }
        if self.schema.fields.len() > PAYLOAD_INDEXES_MAX {
            return Err(ConfigError::Indexes);
        }
        Ok(())
    }

    /// The configuration as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let vectors = self.vectors.iter().map(|(name, params)| {
            let shown = VectorJson {
                size: u32::try_from(params.dim.get()).unwrap_or(u32::MAX),
                metric: metric_name(params.metric).to_owned(),
                dtype: dtype_name(params.dtype).to_owned(),
            };
            (name.clone(), shown)
        });
        let fields = self
            .schema
            .iter()
            .map(|(path, kind)| (path.to_string(), kind));
        let json = ConfigJson {
            vectors: vectors.collect(),
            sparse: self.sparse.clone(),
            schema: fields.collect(),
            embedder: self.embedder.clone(),
        };
        serde_json::to_value(json).expect("maps with text for keys are JSON")
    }

    /// Reads [`CollectionConfig::to_json`].
    ///
    /// # Errors
    /// [`ConfigError`] for anything else.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, ConfigError> {
        let wrong = |what: String| ConfigError::Json(what);
        let json = ConfigJson::deserialize(value).map_err(|error| wrong(error.to_string()))?;
        let mut config = Self {
            sparse: json.sparse,
            embedder: json.embedder,
            ..Self::default()
        };
        for (name, shown) in json.vectors {
            let params = VectorParams {
                dim: Dim::new(shown.size).map_err(|error| wrong(error.to_string()))?,
                metric: metric_named(&shown.metric)
                    .ok_or_else(|| wrong("unknown metric".into()))?,
                dtype: dtype_named(&shown.dtype).ok_or_else(|| wrong("unknown dtype".into()))?,
            };
            config.vectors.insert(name, params);
        }
        for (path, kind) in json.schema {
            let path: PayloadPath = path
                .parse()
                .map_err(|e: crate::payload::PathError| wrong(e.to_string()))?;
            config.schema.fields.insert(path, kind);
        }
        config.check()?;
        Ok(config)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigJson {
    vectors: BTreeMap<String, VectorJson>,
    #[serde(default)]
    sparse: BTreeMap<String, SparseParams>,
    #[serde(default)]
    schema: BTreeMap<String, FieldType>,
    #[serde(default)]
    embedder: Option<Embedder>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorJson {
    size: u32,
    metric: String,
    dtype: String,
}

const METRICS: [(Metric, &str); 4] = [
    (Metric::Cosine, "cosine"),
    (Metric::Dot, "dot"),
    (Metric::Euclid, "euclid"),
    (Metric::Manhattan, "manhattan"),
];

const DTYPES: [(Dtype, &str); 3] = [(Dtype::F32, "f32"), (Dtype::F16, "f16"), (Dtype::U8, "u8")];

/// What a metric is called in configurations and on the command line.
pub fn metric_name(metric: Metric) -> &'static str {
    METRICS
        .iter()
        .find(|(other, _)| *other == metric)
        .map_or("", |(_, name)| name)
}

/// The metric of a name.
pub fn metric_named(name: &str) -> Option<Metric> {
    METRICS
        .iter()
        .find(|(_, other)| *other == name)
        .map(|(metric, _)| *metric)
}

/// What a way of storing components is called in configurations and on the command line.
pub fn dtype_name(dtype: Dtype) -> &'static str {
    DTYPES
        .iter()
        .find(|(other, _)| *other == dtype)
        .map_or("", |(_, name)| name)
}

/// The way of storing components of a name.
pub fn dtype_named(name: &str) -> Option<Dtype> {
    DTYPES
        .iter()
        .find(|(_, other)| *other == name)
        .map(|(dtype, _)| *dtype)
}

impl Schema {
    /// The fields in order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&PayloadPath, FieldType)> {
        self.fields.iter().map(|(path, kind)| (path, *kind))
    }

    /// What a field is indexed as.
    pub fn field(&self, path: &PayloadPath) -> Option<FieldType> {
        self.fields.get(path).copied()
    }

    /// Indexes a field, in place of an index that it had.
    ///
    /// # Errors
    /// [`ConfigError::Indexes`].
    pub fn insert(&mut self, path: PayloadPath, kind: FieldType) -> Result<(), ConfigError> {
        if self.fields.len() >= PAYLOAD_INDEXES_MAX && !self.fields.contains_key(&path) {
            return Err(ConfigError::Indexes);
        }
        self.fields.insert(path, kind);
        Ok(())
    }

    /// Gives the index of a field up; whether it had one.
    pub fn remove(&mut self, path: &PayloadPath) -> bool {
        self.fields.remove(path).is_some()
    }

    /// How the text of a field is cut, if it is indexed as text.
    pub(crate) fn text_rule(&self, path: &str) -> Option<TextRule> {
        match self
            .fields
            .iter()
            .find(|(field, _)| field.as_str() == path)?
        {
            (_, FieldType::Text(rule)) => Some(*rule),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(dim: u32) -> VectorParams {
        VectorParams {
            dim: Dim::new(dim).unwrap(),
            metric: Metric::Cosine,
            dtype: Dtype::F16,
        }
    }

    #[test]
    fn a_configuration_reads_back_as_it_was() {
        let mut config = CollectionConfig::single(params(384));
        config
            .sparse
            .insert("bm25".into(), SparseParams { idf: true });
        config.embedder = Some(Embedder {
            name: "minilm".into(),
            ..Embedder::default()
        });
        let text = FieldType::Text(TextRule::default());
        for (path, kind) in [
            ("a.b", FieldType::Keyword),
            ("t", text),
            ("g", FieldType::Geo),
        ] {
            config.schema.insert(path.parse().unwrap(), kind).unwrap();
        }
        assert_eq!(CollectionConfig::from_json(&config.to_json()), Ok(config));
        assert!(CollectionConfig::from_json(&serde_json::json!({"vectors": 1})).is_err());
    }

    #[test]
    fn one_more_than_a_bound_is_refused() {
        let mut config = CollectionConfig::default();
        for name in 0..VECTORS_MAX {
            config.vectors.insert(name.to_string(), params(1));
        }
        assert_eq!(config.check(), Ok(()));
        config
            .sparse
            .insert("one more".into(), SparseParams::default());
        assert_eq!(config.check(), Err(ConfigError::Vectors));

        let mut config = CollectionConfig::default();
        config.vectors.insert("n".repeat(NAME_BYTES_MAX), params(1));
        assert_eq!(config.check(), Ok(()));
        config
            .vectors
            .insert("n".repeat(NAME_BYTES_MAX + 1), params(1));
        assert_eq!(config.check(), Err(ConfigError::Name));

        let mut schema = Schema::default();
        for field in 0..PAYLOAD_INDEXES_MAX {
            let path = format!("f{field}").parse().unwrap();
            schema.insert(path, FieldType::Keyword).unwrap();
        }
        let more = "more".parse().unwrap();
        assert_eq!(
            schema.insert(more, FieldType::Keyword),
            Err(ConfigError::Indexes)
        );
    }

    #[test]
    fn a_name_is_one_vector() {
        let mut config = CollectionConfig::single(params(1));
        config.sparse.insert(String::new(), SparseParams::default());
        assert!(matches!(config.check(), Err(ConfigError::Twice { .. })));
    }
}
