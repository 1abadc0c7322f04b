//! What collections are made with, from and to the form in which Qdrant's clients have it.

use lode_index::{
    CollectionConfig, Dim, Dtype, Metric, VectorParams,
    schema::{FieldType, SparseParams},
    tokenizer::{TextRule, Tokenizer},
};
use serde_json::{Map, Value, json};

use super::{
    invalid,
    json::{Fields, format_error},
    not_supported,
};
use crate::answer::Problem;

/// Links of a point in graphs, and breadth in which they are built: what the engine does, whatever is asked for.
const GRAPH_M: u32 = 16;
const GRAPH_EF: u32 = 100;

/// Settings of storage and optimisation, which change no answer and have no counterpart here.
const HINTS: [&str; 12] = [
    "hnsw_config",
    "wal_config",
    "optimizers_config",
    "quantization_config",
    "on_disk_payload",
    "on_disk",
    "shard_number",
    "replication_factor",
    "write_consistency_factor",
    "strict_mode_config",
    "params",
    "payload",
];

/// The collection that a body asks for.
///
/// # Errors
/// 400 for what is not of the grammar or not done, 422 for what is out of range.
pub fn create(body: &Map<String, Value>) -> Result<CollectionConfig, Problem> {
    let mut fields = Fields::new(body);
    fields.skip(&HINTS);
    if fields
        .text("sharding_method")?
        .is_some_and(|method| method != "auto")
    {
        return Err(not_supported("shards that clients choose"));
    }
    let mut config = CollectionConfig::default();
    match fields.get("vectors") {
        None => {}
        Some(Value::Object(map)) if map.contains_key("size") && !map["size"].is_object() => {
            config
                .vectors
                .insert(String::new(), vector(map, "vectors")?);
        }
        Some(Value::Object(map)) => {
            for (name, params) in map {
                let params = params.as_object();
                let params =
                    params.ok_or_else(|| format_error("parameters of a vector are an object"))?;
                let at: String = format!("vectors.{name}").chars().take(100).collect();
                config.vectors.insert(name.clone(), vector(params, &at)?);
            }
        }
        Some(_) => return Err(format_error("`vectors` must be an object")),
    }
    match fields.get("sparse_vectors") {
        None => {}
        Some(Value::Object(map)) => {
            for (name, params) in map {
                config.sparse.insert(name.clone(), sparse(params)?);
            }
        }
        Some(_) => return Err(format_error("`sparse_vectors` must be an object")),
    }
    fields.end()?;
    config.check().map_err(invalid)?;
    Ok(config)
}

/// Looks at a change of a collection: it may ask for hints alone.
///
/// # Errors
/// 400 for anything else.
pub(super) fn update(body: &Map<String, Value>) -> Result<(), Problem> {
    let mut fields = Fields::new(body);
    fields.skip(&HINTS);
    for key in ["vectors", "sparse_vectors"] {
        let Some(Value::Object(map)) = fields.get(key) else {
            continue;
        };
        for params in map.values() {
            let mut params = Fields::of(params, "parameters of a vector")?;
            params.skip(&HINTS);
            params.skip(&["index"]);
            params.end()?;
        }
    }
    fields.end()
}

fn vector(map: &Map<String, Value>, at: &str) -> Result<VectorParams, Problem> {
    let mut fields = Fields::new(map);
    fields.skip(&HINTS);
    let size = fields.size("size")?;
    let size = size.ok_or_else(|| format_error("missing field `size`"))?;
    let dim = u32::try_from(size)
        .ok()
        .and_then(|size| Dim::new(size).ok());
    let dim = dim.ok_or_else(|| {
        let max = lode_index::limits::DIM_MAX;
        invalid(format!(
            "{at}.size: value {size} invalid, must be from 1 to {max}"
        ))
    })?;
    let metric = match fields.text("distance")? {
        Some("Cosine") => Metric::Cosine,
        Some("Dot") => Metric::Dot,
        Some("Euclid") => Metric::Euclid,
        Some("Manhattan") => Metric::Manhattan,
        Some(other) => {
            let other: String = other.chars().take(100).collect();
            return Err(format_error(format!(
                "unknown variant `{other}`, expected one of `Cosine`, `Euclid`, `Dot`, `Manhattan`"
            )));
        }
        None => return Err(format_error("missing field `distance`")),
    };
    let dtype = match fields.text("datatype")? {
        None | Some("float32") => Dtype::F32,
        Some("float16") => Dtype::F16,
        Some("uint8") => Dtype::U8,
        Some(_) => return Err(not_supported("this `datatype`")),
    };
    if fields.get("multivector_config").is_some() {
        return Err(not_supported("vectors of several vectors (multivectors)"));
    }
    fields.end()?;
    Ok(VectorParams { dim, metric, dtype })
}

fn sparse(value: &Value) -> Result<SparseParams, Problem> {
    if value.is_null() {
        return Ok(SparseParams::default());
    }
    let mut fields = Fields::of(value, "parameters of a sparse vector")?;
    fields.skip(&["index"]);
    let idf = match fields.text("modifier")? {
        None | Some("none") => false,
        Some("idf") => true,
        Some(_) => return Err(not_supported("this `modifier`")),
    };
    fields.end()?;
    Ok(SparseParams { idf })
}

/// The field and the index that a body asks for.
///
/// # Errors
/// As [`create`].
pub(super) fn index(body: &Map<String, Value>) -> Result<(String, FieldType), Problem> {
    let mut fields = Fields::new(body);
    let name = fields.text("field_name")?;
    let name = name.ok_or_else(|| format_error("missing field `field_name`"))?;
    let kind = match fields.get("field_schema").or(fields.get("field_type")) {
        None => {
            return Err(not_supported(
                "an index of a type that is guessed: say `field_schema`",
            ));
        }
        Some(Value::String(kind)) => named(kind)?,
        Some(Value::Object(map)) => {
            let mut fields = Fields::new(map);
            let kind = fields.text("type")?;
            let kind = named(kind.ok_or_else(|| format_error("missing field `type`"))?)?;
            // hints of how an index is stored, and which of its uses is expected
            fields.skip(&[
                "is_tenant",
                "on_disk",
                "lookup",
                "range",
                "is_principal",
                "enable_hnsw",
            ]);
            let kind = match kind {
                FieldType::Text(_) => FieldType::Text(text_rule(&mut fields)?),
                kind => kind,
            };
            fields.end()?;
            kind
        }
        Some(_) => return Err(format_error("`field_schema` must be text or an object")),
    };
    fields.end()?;
    Ok((name.to_owned(), kind))
}

fn named(kind: &str) -> Result<FieldType, Problem> {
    Ok(match kind {
        // equal text is an equal UUID, as its clients write them
        "keyword" | "uuid" => FieldType::Keyword,
        "integer" => FieldType::Integer,
        "float" => FieldType::Float,
        "geo" => FieldType::Geo,
        "text" => FieldType::Text(TextRule::default()),
        "bool" => FieldType::Bool,
        "datetime" => FieldType::Datetime,
        _ => return Err(format_error("an unknown type of index")),
    })
}

fn text_rule(fields: &mut Fields<'_>) -> Result<TextRule, Problem> {
    let rule = TextRule::default();
    let tokenizer = match fields.text("tokenizer")? {
        None | Some("word") => Tokenizer::Word,
        Some("whitespace") => Tokenizer::Whitespace,
        Some("prefix") => Tokenizer::Prefix,
        Some(_) => return Err(not_supported("this `tokenizer`")),
    };
    if fields.bool("phrase_matching")?.unwrap_or(false) {
        return Err(not_supported("phrases in text"));
    }
    Ok(TextRule {
        tokenizer,
        lowercase: fields.bool("lowercase")?.unwrap_or(rule.lowercase),
        min_token_len: fields.size("min_token_len")?.unwrap_or(rule.min_token_len),
        max_token_len: fields.size("max_token_len")?.unwrap_or(rule.max_token_len),
    })
}

/// A configuration as clients read it.
pub(super) fn shown(config: &CollectionConfig) -> Value {
    let params = |params: &VectorParams| {
        let mut shown = json!({
            "size": params.dim.get(),
            "distance": match params.metric {
                Metric::Cosine => "Cosine",
                Metric::Dot => "Dot",
                Metric::Euclid => "Euclid",
                Metric::Manhattan => "Manhattan",
            },
        });
        match params.dtype {
            Dtype::F32 => {}
            Dtype::F16 => shown["datatype"] = "float16".into(),
            Dtype::U8 => shown["datatype"] = "uint8".into(),
        }
        shown
    };
    let vectors = match (config.vectors.len(), config.vectors.get("")) {
        (1, Some(only)) => params(only),
        _ => {
            let named = config.vectors.iter();
            Value::Object(named.map(|(name, p)| (name.clone(), params(p))).collect())
        }
    };
    let mut all = json!({
        "vectors": vectors,
        "shard_number": 1,
        "replication_factor": 1,
        "write_consistency_factor": 1,
        "on_disk_payload": true,
    });
    if !config.sparse.is_empty() {
        let sparse = config.sparse.iter().map(|(name, params)| {
            let modifier = if params.idf {
                json!({ "modifier": "idf" })
            } else {
                json!({})
            };
            (name.clone(), modifier)
        });
        all["sparse_vectors"] = Value::Object(sparse.collect());
    }
    json!({
        "params": all,
        "hnsw_config": {
            "m": GRAPH_M,
            "ef_construct": GRAPH_EF,
            "full_scan_threshold": lode_index::limits::GRAPH_ROWS_MIN,
            "max_indexing_threads": 0,
            "on_disk": true,
        },
        "optimizer_config": {
            "deleted_threshold": 0.25,
            "vacuum_min_vector_number": 0,
            "default_segment_number": 0,
            "flush_interval_sec": 0,
        },
        "wal_config": {
            "wal_capacity_mb": lode_index::limits::LOG_SEAL_BYTES >> 20,
            "wal_segments_ahead": 0,
        },
        "quantization_config": null,
    })
}

/// The index of a field as clients read it.
pub(super) fn shown_index(kind: FieldType, points: u64) -> Value {
    let name = match kind {
        FieldType::Keyword => "keyword",
        FieldType::Integer => "integer",
        FieldType::Float => "float",
        FieldType::Datetime => "datetime",
        FieldType::Bool => "bool",
        FieldType::Geo => "geo",
        FieldType::Text(_) => "text",
        _ => "keyword",
    };
    let mut shown = json!({ "data_type": name, "points": points });
    if let FieldType::Text(rule) = kind {
        shown["params"] = json!({
            "type": "text",
            "tokenizer": match rule.tokenizer {
                Tokenizer::Whitespace => "whitespace",
                Tokenizer::Prefix => "prefix",
                _ => "word",
            },
            "lowercase": rule.lowercase,
            "min_token_len": rule.min_token_len,
            "max_token_len": rule.max_token_len,
        });
    }
    shown
}
