//! Queries as clients write them: what points are found for.

use lode_index::{
    SparseVector,
    datetime::parse_datetime,
    view::{OrderValue, QueryVector},
};
use serde_json::Value;

use super::{Input, OrderBy, Query, Strategy};
use crate::{
    answer::Problem,
    limits::{QDRANT_EXAMPLES_MAX, QDRANT_MMR_CANDIDATES_MAX},
    qdrant::{
        invalid,
        json::{Fields, format_error, point_id},
        not_supported, wrong_input,
    },
};

pub(super) fn read_query(value: &Value) -> Result<Query, Problem> {
    let Value::Object(map) = value else {
        return Ok(Query::Nearest(input(value)?));
    };
    let mut fields = Fields::new(map);
    if let Some(nearest) = fields.get("nearest") {
        let nearest = input(nearest)?;
        let query = match fields.get("mmr") {
            None => Query::Nearest(nearest),
            Some(mmr) => read_mmr(nearest, mmr)?,
        };
        fields.end()?;
        return Ok(query);
    }
    if let Some(recommend) = fields.get("recommend") {
        fields.end()?;
        return read_recommend(recommend);
    }
    if let Some(fusion) = fields.text("fusion")? {
        fields.end()?;
        return match fusion {
            "rrf" => Ok(Query::Rrf {
                k: 2.0,
                weights: None,
            }),
            "dbsf" => Ok(Query::Dbsf),
            _ => Err(format_error("`fusion` is one of rrf and dbsf")),
        };
    }
    if let Some(rrf) = fields.get("rrf") {
        fields.end()?;
        return read_rrf(rrf);
    }
    if map.contains_key("indices") {
        return Ok(Query::Nearest(input(value)?));
    }
    if let Some(discover) = fields.get("discover") {
        fields.end()?;
        return read_discover(discover);
    }
    if let Some(context) = fields.get("context") {
        fields.end()?;
        return match pairs(context)? {
            none if none.is_empty() => Err(wrong_input("a context without a pair")),
            context => Ok(Query::Context(context)),
        };
    }
    if let Some(order) = fields.get("order_by") {
        fields.end()?;
        return Ok(Query::OrderBy(order_by(order)?));
    }
    if let Some(sample) = fields.text("sample")? {
        fields.end()?;
        return match sample {
            "random" => Ok(Query::Sample),
            _ => Err(format_error("`sample` is random")),
        };
    }
    const KNOWN: [&str; 3] = ["formula", "relevance_feedback", "text"];
    match KNOWN.iter().find(|key| map.contains_key(**key)) {
        Some(key) => Err(not_supported(&format!("a query by {key}"))),
        None => Err(format_error("a query of an unknown kind")),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "scores are singles")]
fn read_mmr(nearest: Input, mmr: &Value) -> Result<Query, Problem> {
    let mut fields = Fields::of(mmr, "`mmr`")?;
    let diversity = fields.number("diversity")?.unwrap_or(0.5);
    if !(0.0..=1.0).contains(&diversity) {
        return Err(invalid("query.mmr.diversity: must be between 0.0 and 1.0"));
    }
    let candidates = fields.count("candidates_limit")?;
    if candidates.is_some_and(|count| count > QDRANT_MMR_CANDIDATES_MAX) {
        let max = QDRANT_MMR_CANDIDATES_MAX;
        return Err(invalid(format!(
            "query.mmr.candidates_limit: must be at most {max}"
        )));
    }
    fields.end()?;
    Ok(Query::Mmr {
        nearest,
        diversity: diversity as f32,
        candidates,
    })
}

fn read_recommend(value: &Value) -> Result<Query, Problem> {
    let mut fields = Fields::of(value, "`recommend`")?;
    let mut examples = |key| {
        let list = fields.list(key)?.map_or(&[][..], Vec::as_slice);
        if list.len() > QDRANT_EXAMPLES_MAX {
            let max = QDRANT_EXAMPLES_MAX;
            return Err(wrong_input(format!("more than {max} examples")));
        }
        list.iter().map(input).collect::<Result<Vec<_>, _>>()
    };
    let (positive, negative) = (examples("positive")?, examples("negative")?);
    let strategy = match fields.text("strategy")? {
        None | Some("average_vector") => Strategy::AverageVector,
        Some("best_score") => Strategy::BestScore,
        Some("sum_scores") => Strategy::SumScores,
        Some(_) => return Err(format_error("an unknown strategy of recommendation")),
    };
    fields.end()?;
    if positive.is_empty() && (negative.is_empty() || strategy == Strategy::AverageVector) {
        return Err(wrong_input(
            "At least one positive vector ID or vector example is required",
        ));
    }
    Ok(Query::Recommend {
        positive,
        negative,
        strategy,
    })
}

fn read_discover(value: &Value) -> Result<Query, Problem> {
    let mut fields = Fields::of(value, "`discover`")?;
    let target = input(fields.need("target")?)?;
    let context = fields.get("context").map(pairs).transpose()?;
    fields.end()?;
    Ok(Query::Discover {
        target,
        context: context.unwrap_or_default(),
    })
}

/// Pairs of what points should be like and what not: a list, or a single one.
fn pairs(value: &Value) -> Result<Vec<(Input, Input)>, Problem> {
    let pair = |value: &Value| {
        let mut fields = Fields::of(value, "a pair of a context")?;
        let pair = (
            input(fields.need("positive")?)?,
            input(fields.need("negative")?)?,
        );
        fields.end()?;
        Ok(pair)
    };
    match value {
        Value::Array(items) if items.len() > QDRANT_EXAMPLES_MAX => {
            let max = QDRANT_EXAMPLES_MAX;
            Err(wrong_input(format!("more than {max} pairs of a context")))
        }
        Value::Array(items) => items.iter().map(pair).collect(),
        one => Ok(vec![pair(one)?]),
    }
}

/// An order as clients write it: the key of a field, or an object.
pub(in crate::qdrant) fn order_by(value: &Value) -> Result<OrderBy, Problem> {
    if let Value::String(key) = value {
        return Ok(OrderBy {
            path: key.parse().map_err(format_error)?,
            descending: false,
            from: None,
        });
    }
    let mut fields = Fields::of(value, "`order_by`")?;
    let key = fields.text("key")?;
    let key = key.ok_or_else(|| format_error("missing field `key`"))?;
    let path = key.parse().map_err(format_error)?;
    let descending = match fields.text("direction")? {
        None | Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(format_error("`direction` is one of asc and desc")),
    };
    let from = fields.get("start_from").map(order_value).transpose()?;
    fields.end()?;
    Ok(OrderBy {
        path,
        descending,
        from,
    })
}

/// A number, or a point in time as text.
fn order_value(value: &Value) -> Result<OrderValue, Problem> {
    let wrong = || format_error("`start_from` must be a number or a point in time");
    match value {
        Value::String(text) => {
            let micros = parse_datetime(text).ok_or_else(wrong)?;
            Ok(OrderValue::Integer(micros.into()))
        }
        Value::Number(number) => Ok(match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => OrderValue::Integer(integer.into()),
            (None, Some(integer)) => OrderValue::Integer(integer.into()),
            (None, None) => OrderValue::Float(number.as_f64().ok_or_else(wrong)?),
        }),
        _ => Err(wrong()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "scores are singles"
)]
fn read_rrf(value: &Value) -> Result<Query, Problem> {
    let mut fields = Fields::of(value, "`rrf`")?;
    let k = fields.count("k")?.unwrap_or(2);
    let weights = fields.list("weights")?;
    let weights = weights.map(|weights| {
        let weight = |value: &Value| value.as_f64().filter(|weight| *weight >= 0.0);
        let weight = |value| {
            weight(value)
                .map(|weight| weight as f32)
                .ok_or_else(|| invalid("query.rrf.weights: must not be negative"))
        };
        weights.iter().map(weight).collect::<Result<Vec<_>, _>>()
    });
    let weights = weights.transpose()?;
    fields.end()?;
    Ok(Query::Rrf {
        k: k as f32,
        weights,
    })
}

fn input(value: &Value) -> Result<Input, Problem> {
    match value {
        Value::Number(_) | Value::String(_) => Ok(Input::Id(point_id(value)?)),
        _ => Ok(Input::Vector(query_vector(value)?)),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "vectors are of singles")]
pub(super) fn query_vector(value: &Value) -> Result<QueryVector, Problem> {
    let numbers = |items: &[Value]| {
        let number = |value: &Value| match value {
            Value::Array(_) => Err(not_supported("vectors of several vectors (multivectors)")),
            value => value
                .as_f64()
                .map(|number| number as f32)
                .ok_or_else(|| format_error("a vector is a list of numbers")),
        };
        items.iter().map(number).collect::<Result<Vec<f32>, _>>()
    };
    match value {
        Value::Array(items) => Ok(QueryVector::Dense(numbers(items)?)),
        Value::Object(map) if map.contains_key("indices") || map.contains_key("values") => {
            let mut fields = Fields::new(map);
            let empty = Vec::new();
            let indices = fields.list("indices")?.unwrap_or(&empty);
            let values = fields.list("values")?.unwrap_or(&empty);
            fields.end()?;
            let index = |value: &Value| value.as_u64().and_then(|index| u32::try_from(index).ok());
            let indices = indices.iter().map(index).collect::<Option<Vec<u32>>>();
            let indices = indices.ok_or_else(|| format_error("an index of a sparse vector"))?;
            let sparse = SparseVector::new(&indices, &numbers(values)?);
            Ok(QueryVector::Sparse(sparse.map_err(invalid)?))
        }
        Value::Object(_) => Err(not_supported(
            "texts and images in place of vectors; send vectors",
        )),
        _ => Err(format_error("a vector is a list of numbers")),
    }
}
