//! The arguments of `lode collection`, `index` and `search`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lode_node::command::{SparseRow, VectorRow};

/// Metrics by name.
const METRICS: [&str; 4] = ["cosine", "dot", "euclid", "manhattan"];

/// Ways of storing components by name.
const DTYPES: [&str; 3] = ["f32", "f16", "u8"];

/// `lode collection`.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:\n  \
    lode collection create acme/docs --dim 384 --metric cosine\n  \
    lode index acme/docs vectors.parquet --id id --vector embedding --payload source,tag\n  \
    lode search acme/docs --vector @q.json --filter 'tag = \"libs\" and year >= 2020' -k 10\n  \
    lode collection commit acme/docs -m 'first' --tag v1")]
pub(crate) enum CollectionSub {
    /// Make a collection of vectors
    Create(Box<CreateArgs>),
    /// List the collections of this home
    Ls,
    /// Show what a collection is and holds
    Show {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Delete a collection; its versions stay until `lode rm NAME`
    Rm {
        #[arg(value_name = "NAME")]
        name: String,
        /// Delete points that are in no version, too
        #[arg(long)]
        force: bool,
    },
    /// Make a signed version of what a collection holds
    Commit(CommitArgs),
    /// Make a collection, that can be changed, of a version
    Restore {
        #[arg(value_name = "NAME[@REV]")]
        name: String,
        /// What to call it [default: as the version]
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
        /// Replace the collection that has the name
        #[arg(long)]
        force: bool,
    },
    /// Read points by id, or in the order of ids
    Points {
        #[arg(value_name = "NAME")]
        name: String,
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// Only those that pass [example: year >= 2020]
        #[arg(long, value_name = "FILTER", conflicts_with = "ids")]
        filter: Option<String>,
        /// Begin with this id
        #[arg(long, value_name = "ID", conflicts_with = "ids")]
        from: Option<String>,
        /// How many
        #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
        limit: u64,
        /// Give vectors too
        #[arg(long)]
        vectors: bool,
    },
    /// Delete points by id or by filter
    DeletePoints {
        #[arg(value_name = "NAME")]
        name: String,
        #[arg(value_name = "ID", required_unless_present = "filter")]
        ids: Vec<String>,
        /// All that pass [example: tag = "old"]
        #[arg(long, value_name = "FILTER", conflicts_with = "ids")]
        filter: Option<String>,
    },
    /// Index payload fields, so that filters on them are fast
    #[command(name = "index")]
    Field {
        #[command(subcommand)]
        field: FieldSub,
    },
    /// Rewrite what holds deleted points, and merge
    Compact {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Leave no byte of deleted points in this home: compact, and let go of all earlier versions
    Purge {
        #[arg(value_name = "NAME")]
        name: String,
    },
}

/// `lode collection index`.
#[derive(Debug, Subcommand)]
pub(crate) enum FieldSub {
    /// Index a field
    Add {
        #[arg(value_name = "NAME")]
        name: String,
        /// Path of the field [example: meta.tag]
        field: String,
        /// keyword, integer, float, datetime, bool, text or geo
        #[arg(value_name = "TYPE")]
        kind: String,
    },
    /// Give an index up
    Rm {
        #[arg(value_name = "NAME")]
        name: String,
        field: String,
    },
}

/// `lode collection create`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  \
    lode collection create acme/docs --dim 384 --metric cosine --index tag=keyword\n  \
    lode collection create acme/media --vector text=384 --vector image=512:dot:f16 --sparse words=idf")]
pub(crate) struct CreateArgs {
    /// What it is called: alias/collection
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Components of its vectors
    #[arg(long, value_name = "N", required_unless_present_any = ["vector", "sparse"])]
    pub(crate) dim: Option<u32>,
    /// How vectors are compared: cosine, dot, euclid or manhattan
    #[arg(long, value_name = "METRIC", default_value = "cosine", value_parser = METRICS)]
    pub(crate) metric: String,
    /// How components are stored: f32, f16 or u8
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = DTYPES)]
    pub(crate) dtype: String,
    /// Another vector of each point; may be repeated
    #[arg(long, value_name = "NAME=DIM[:METRIC[:TYPE]]", value_parser = parse_vector)]
    pub(crate) vector: Vec<(String, VectorRow)>,
    /// A sparse vector of each point, with `=idf` weighted by how rare its components are; may be repeated
    #[arg(long, value_name = "NAME[=idf]", value_parser = parse_sparse)]
    pub(crate) sparse: Vec<(String, SparseRow)>,
    /// Index a payload field: keyword, integer, float, datetime, bool, text or geo; may be repeated
    #[arg(long, value_name = "FIELD=TYPE", value_parser = parse_index)]
    pub(crate) index: Vec<(String, String)>,
    /// The model that makes the vectors; those that are said to be of another one are refused
    #[arg(long, value_name = "MODEL")]
    pub(crate) embedder: Option<String>,
    /// Let anyone read it
    #[arg(long)]
    pub(crate) public: bool,
}

/// `lode collection commit`.
#[derive(Debug, Default, Args)]
pub(crate) struct CommitArgs {
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Message of the version
    #[arg(
        long,
        short,
        value_name = "MSG",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) message: String,
    /// Branch that moves to the version [default: main]
    #[arg(long)]
    pub(crate) branch: Option<String>,
    /// Tag to set on the version
    #[arg(long)]
    pub(crate) tag: Option<String>,
    /// Let anyone read the collection and its versions
    #[arg(long)]
    pub(crate) public: bool,
    /// Rewrite what holds deleted points first, so that the version has no byte of them
    #[arg(long)]
    pub(crate) compact: bool,
}

/// `lode index`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  \
    lode index acme/docs vectors.parquet --id id --vector embedding --payload source,tag\n  \
    lode index acme/docs vectors.npy\n  \
    lode index acme/docs more.jsonl --id id --vector embedding\n\n\
    A run that was cut off goes on where it stopped when it is started again.")]
pub(crate) struct IndexArgs {
    /// Collection that takes the points
    #[arg(value_name = "COLLECTION")]
    pub(crate) name: String,
    /// File with the points: .npy, .safetensors, .jsonl, .csv or .parquet
    pub(crate) file: PathBuf,
    /// Field with the ids: numbers or UUIDs [default: points are numbered]
    #[arg(long, value_name = "FIELD")]
    pub(crate) id: Option<String>,
    /// Number of the first point without ids [default: 0, in an empty collection]
    #[arg(long, value_name = "N", conflicts_with = "id")]
    pub(crate) first_id: Option<u64>,
    /// Field, column or tensor with the vectors [default: vector]
    #[arg(long, value_name = "FIELD")]
    pub(crate) vector: Option<String>,
    /// Which of the collection's vectors they are [default: the one without a name]
    #[arg(long, value_name = "NAME")]
    pub(crate) using: Option<String>,
    /// Fields to keep as payload [default: all others]
    #[arg(long, value_name = "FIELD,..", value_delimiter = ',')]
    pub(crate) payload: Option<Vec<String>>,
    /// Format of the file [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// The model that made the vectors: must be the collection's
    #[arg(long, value_name = "MODEL")]
    pub(crate) embedder: Option<String>,
    /// The metric that they are made for: must be the collection's
    #[arg(long, value_name = "METRIC", value_parser = METRICS)]
    pub(crate) metric: Option<String>,
}

/// `lode search`.
#[derive(Debug, Default, Args)]
#[command(after_help = "Examples:\n  \
    lode search acme/docs --vector @q.json -k 10\n  \
    lode search acme/docs --vector '[0.1, 0.2]' --filter 'tag = \"libs\" and year >= 2020'\n  \
    lode search acme/docs --like 17\n\n\
    Filters: = != < <= > >=, ~ (has all words), in (..), is null, is empty, and, or, not, (..); @id is the id.")]
pub(crate) struct SearchArgs {
    /// Collection to search
    #[arg(value_name = "COLLECTION")]
    pub(crate) name: String,
    /// What to search for: JSON, @FILE with JSON, or - for standard input
    #[arg(
        long,
        value_name = "VECTOR",
        allow_hyphen_values = true,
        required_unless_present = "like"
    )]
    pub(crate) vector: Option<String>,
    /// Search for what is near to this point
    #[arg(long, value_name = "ID", conflicts_with = "vector")]
    pub(crate) like: Option<String>,
    /// Which of the collection's vectors [default: the one without a name]
    #[arg(long, value_name = "NAME")]
    pub(crate) using: Option<String>,
    /// Only among those that pass
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// How many points
    #[arg(short = 'k', long, value_name = "K", default_value_t = 10)]
    pub(crate) limit: u64,
    /// Leave this many of the nearest out
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) offset: u64,
    /// Compare with every point
    #[arg(long)]
    pub(crate) exact: bool,
    /// Near points kept in sight on the way: more is slower and finds more
    #[arg(long, value_name = "N")]
    pub(crate) ef: Option<u64>,
    /// The worst score that is wanted
    #[arg(long, value_name = "SCORE", allow_hyphen_values = true)]
    pub(crate) threshold: Option<f32>,
    /// Give vectors too
    #[arg(long)]
    pub(crate) vectors: bool,
    /// The model that made the vector: must be the collection's
    #[arg(long, value_name = "MODEL")]
    pub(crate) embedder: Option<String>,
    /// The metric that it is made for: must be the collection's
    #[arg(long, value_name = "METRIC", value_parser = METRICS)]
    pub(crate) metric: Option<String>,
}

/// Reads `NAME=DIM[:METRIC[:TYPE]]`.
fn parse_vector(text: &str) -> Result<(String, VectorRow), String> {
    let wrong = || "write NAME=DIM, NAME=DIM:METRIC or NAME=DIM:METRIC:TYPE".to_owned();
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let mut parts = rest.split(':');
    let size = parts
        .next()
        .and_then(|dim| dim.parse().ok())
        .ok_or_else(wrong)?;
    let mut one_of = |known: &[&str]| match parts.next() {
        None => Ok(known[0].to_owned()),
        Some(given) if known.contains(&given) => Ok(given.to_owned()),
        Some(other) => Err(format!("{other:?} is none of {}", known.join(", "))),
    };
    let (metric, dtype) = (one_of(&METRICS)?, one_of(&DTYPES)?);
    match parts.next() {
        None => Ok((
            name.to_owned(),
            VectorRow {
                size,
                metric,
                dtype,
            },
        )),
        Some(_) => Err(wrong()),
    }
}

/// Reads `NAME[=idf]`.
fn parse_sparse(text: &str) -> Result<(String, SparseRow), String> {
    match text.split_once('=') {
        None => Ok((text.to_owned(), SparseRow::default())),
        Some((name, "idf")) => Ok((name.to_owned(), SparseRow { idf: true })),
        Some(_) => Err("write NAME or NAME=idf".to_owned()),
    }
}

/// Reads `FIELD=TYPE`.
fn parse_index(text: &str) -> Result<(String, String), String> {
    let (field, kind) = text
        .split_once('=')
        .ok_or_else(|| "write FIELD=TYPE".to_owned())?;
    Ok((field.to_owned(), kind.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn vectors_are_read_with_what_is_left_out() {
        let row = |size, metric: &str, dtype: &str| VectorRow {
            size,
            metric: metric.to_owned(),
            dtype: dtype.to_owned(),
        };
        for (text, expected) in [
            ("text=384", row(384, "cosine", "f32")),
            ("text=3:dot", row(3, "dot", "f32")),
            ("text=3:euclid:u8", row(3, "euclid", "u8")),
        ] {
            assert_eq!(parse_vector(text), Ok(("text".to_owned(), expected)));
        }
        for bad in [
            "text",
            "text=",
            "text=x",
            "text=3:near",
            "text=3:dot:f64",
            "text=3:dot:f32:x",
        ] {
            assert!(parse_vector(bad).is_err(), "{bad}");
        }
        assert!(parse_sparse("words=bm25").is_err());
        assert_eq!(
            parse_sparse("words=idf").unwrap().1,
            SparseRow { idf: true }
        );
    }
}
