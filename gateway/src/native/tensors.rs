//! Tensors of a version: the list, and the bytes of one, whole or by rows.

use std::sync::Arc;

use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderName, HeaderValue},
};
use lode_node::{
    command::FailureKind,
    read::{RowsError, TensorAt, parse_rows},
};
use lode_tensors::ByteRange;
use serde::Serialize;
use utoipa::ToSchema;

use super::{json_list, variants};
use crate::{
    answer::{Answer, Problem},
    condition::Etag,
    content::Content,
    describe::{Description, example, pattern, schema},
    file::{ascii, hex},
    reader::Reader,
    route::{Params, Request},
    stored::Window,
    target::{Target, encode_segment},
};

/// The dtype as the file's format spells it.
const DTYPE: HeaderName = HeaderName::from_static("lode-dtype");
/// The dimensions of what is sent, outermost first, as a JSON list.
const SHAPE: HeaderName = HeaderName::from_static("lode-shape");
/// The file that holds the tensor, percent-encoded as in an address.
const FILE: HeaderName = HeaderName::from_static("lode-file");
/// The first byte of what is sent, in that file.
const OFFSET: HeaderName = HeaderName::from_static("lode-offset");

/// One row of a list of tensors.
#[derive(Serialize, ToSchema)]
#[schema(as = Tensor)]
struct TensorRow<'a> {
    name: &'a str,
    /// Path of the file that holds it.
    file: &'a str,
    /// Type of its elements as the format spells it.
    dtype: String,
    /// Dimensions, outermost first.
    shape: &'a [u64],
    /// Its first byte in that file.
    offset: u64,
    /// Bytes.
    size: u64,
}

/// Text of the query, possibly none.
const QUERY: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// `GET /lode/v1/models/{publisher}/{model}/{rev}/tensors`
pub(super) async fn list(reader: Reader, request: Request) -> Answer {
    let version = reader.version(&request.params).await?;
    let layout = version.layout().await?;
    let only = request.target.query("file").map(str::to_owned);
    let files = layout.files().len();
    let rows = (0..files)
        .flat_map({
            let layout = Arc::clone(&layout);
            move |file| (0..layout.files()[file].tensors.len()).map(move |at| (file, at))
        })
        .filter_map(move |(file, at)| {
            let file = &layout.files()[file];
            if only.as_ref().is_some_and(|only| *only != file.path) {
                return None;
            }
            let tensor = &file.tensors[at];
            let row = TensorRow {
                name: &tensor.name,
                file: &file.path,
                dtype: tensor.dtype.to_string(),
                shape: &tensor.shape,
                offset: tensor.range.start,
                size: tensor.range.len(),
            };
            Some(serde_json::to_string(&row).expect("a row has text keys and finite numbers"))
        });
    json_list(&version, &request.headers, "tensors", Box::new(rows))
}

pub(super) fn describe_list() -> Description {
    let about = "The tensors, by file and offset.";
    Description::rows("tensors", &[schema::<TensorRow<'_>>()], about)
        .of_version()
        .query("file", "Only those of this file.", pattern(QUERY))
}

/// `GET|HEAD /lode/v1/models/{publisher}/{model}/{rev}/tensors/{name..}`
pub(super) async fn content(reader: Reader, request: Request) -> Answer {
    let content = reader.content(
        &request.target,
        open(&reader, &request.params, &request.target),
    );
    content
        .await?
        .answer(&request.method, &request.headers)
        .await
}

async fn open(reader: &Reader, params: &Params, target: &Target) -> Result<Content, Problem> {
    let version = reader.version(params).await?;
    let layout = version.layout().await?;
    let (file, tensor) = layout
        .find(params.get("name"), target.query("file"))
        .map_err(Problem::from)?;
    let (range, shape) = chosen(tensor, target.query("rows"))?;
    let mut headers = HeaderMap::new();
    headers.insert(DTYPE, ascii(tensor.dtype.to_string()));
    headers.insert(SHAPE, ascii(shape_text(&shape)));
    let path: Vec<String> = file.path.split('/').map(encode_segment).collect();
    headers.insert(FILE, ascii(path.join("/")));
    headers.insert(OFFSET, HeaderValue::from(range.start));
    if let Some(variant) = version.variant()
        && let Some((at, _)) = variant.file(&file.path)
    {
        let rev = params.get("rev");
        return variants::content(&version, variant, at, Some(range), rev, headers).await;
    }
    let stored = version
        .tree()
        .file(&file.path)
        .ok_or_else(|| Problem::not_found("the tensor's file is not in this version"))?;
    let source = version.reader(stored.clone()).await?;
    version.mark(&mut headers);
    Ok(Content {
        len: range.len(),
        etag: Etag::new(format!(
            "{}.{}-{}",
            hex(source.file().sha256()),
            range.start,
            range.end
        )),
        content_type: "application/octet-stream",
        immutable: version.is_pinned_by(params.get("rev")),
        headers,
        source: Arc::new(Window::new(Arc::new(source), range)),
    })
}

/// The bytes asked for, and their shape.
fn chosen(tensor: &TensorAt, rows: Option<&str>) -> Result<(ByteRange, Vec<u64>), Problem> {
    match rows {
        None => Ok((tensor.range, tensor.shape.clone())),
        Some(text) => parse_rows(text, tensor.rows())
            .and_then(|(start, end)| tensor.row_range(start, end))
            .map_err(no_rows),
    }
}

fn no_rows(error: RowsError) -> Problem {
    let message = error.to_string();
    match error {
        RowsError::Outside { .. } | RowsError::Reversed { .. } => {
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            Problem::new(status, FailureKind::Usage, message)
        }
        _ => Problem::usage(message),
    }
}

pub(super) fn describe_content() -> Description {
    let rows = example(pattern(r"^[0-9]*\.\.[0-9]*$"), &["0..2", "1.."]);
    Description::bytes(false, "The tensor, or rows of it: the file's own bytes.")
        .of_version()
        .query(
            "rows",
            "Rows `A..B`, counted from 0, without B itself.",
            rows,
        )
        .query(
            "file",
            "Which file's, where several have a tensor of this name.",
            pattern(QUERY),
        )
        .problem(
            416,
            "There are no such rows, or no range lies in the bytes.",
        )
        .sends(
            "Lode-Dtype",
            "Type of its elements as the format spells it.",
        )
        .sends(
            "Lode-Shape",
            "Dimensions of what is sent, outermost first, as JSON.",
        )
        .sends(
            "Lode-File",
            "Path of the file that holds it, percent-encoded.",
        )
        .sends("Lode-Offset", "First byte of what is sent, in that file.")
}

fn shape_text(shape: &[u64]) -> String {
    let dimensions: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", dimensions.join(","))
}
