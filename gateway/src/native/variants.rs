//! Variants of a version: the list with exact sizes, and their files, which are made while they are sent.

use std::sync::Arc;

use hyper::{HeaderMap, StatusCode, header::CONTENT_DISPOSITION};
use lode_node::variants::VariantAt;
use lode_tensors::ByteRange;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    answer::{Answer, Problem, json},
    body::Source,
    condition::Etag,
    content::Content,
    describe::Description,
    file::{disposition, media_type},
    reader::{OpenVersion, Reader},
    route::Request,
    stored::Window,
};

/// One row of a list of variants.
#[derive(Serialize, ToSchema)]
#[schema(as = Variant)]
struct VariantRow {
    /// What stands behind the colon.
    name: String,
    /// From which format to which.
    method: &'static str,
    /// The set of rules that it is made under.
    rules: &'static str,
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, pattern = "^[0-9a-f]{64}$")]
    variant: Option<String>,
    /// Bytes of all its files.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    size: Option<u64>,
    /// Bytes of those that are made; the others are the version's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    size_made: Option<u64>,
    /// How many files.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    files: Option<usize>,
    /// Why it cannot be made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    refused: Option<String>,
}

/// The variants of a version.
#[derive(Serialize, ToSchema)]
struct VariantList {
    #[schema(pattern = "^[0-9a-f]{64}$")]
    version: String,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    tree: String,
    variants: Vec<VariantRow>,
}

/// `GET /lode/v1/models/{publisher}/{model}/{rev}/variants`
pub(super) async fn list(reader: Reader, request: Request) -> Answer {
    let version = reader.version(&request.params).await?;
    let mut variants = Vec::new();
    for (recipe, laid_out) in version.opener().all().await? {
        let mut row = VariantRow {
            name: recipe.name(),
            method: recipe.method().name(),
            rules: recipe.rules(),
            variant: None,
            size: None,
            size_made: None,
            files: None,
            refused: None,
        };
        match laid_out {
            Ok(at) => {
                row.variant = Some(at.id.to_hex());
                row.size = Some(at.size());
                row.size_made = Some(at.size_made());
                row.files = Some(at.files.len());
            }
            Err(failure) => row.refused = Some(failure.message),
        }
        variants.push(row);
    }
    let list = VariantList {
        version: version.id().to_hex(),
        tree: version.doc().tree.to_hex(),
        variants,
    };
    let mut response = json(StatusCode::OK, &list);
    version.mark(response.headers_mut());
    Ok(response)
}

pub(super) fn describe_list() -> Description {
    Description::json::<VariantList>("The variants, those that cannot be made too.").of_version()
}

/// One row of the files of a variant.
#[derive(Serialize, ToSchema)]
#[schema(as = VariantFile)]
pub(super) struct FileRow<'a> {
    path: &'a str,
    /// Bytes.
    size: u64,
    /// Whether it is made on demand; else it is the version's own file.
    made: bool,
}

/// The rows of the files of a variant.
pub(super) fn rows(at: Arc<VariantAt>) -> impl Iterator<Item = String> + Send + Unpin + 'static {
    (0..at.files.len()).map(move |index| {
        let file = &at.files[index];
        let row = FileRow {
            path: &file.path,
            size: file.len,
            made: file.same_as(&at.tree).is_none(),
        };
        serde_json::to_string(&row).expect("a row has text keys and finite numbers")
    })
}

/// The content of a file of a variant that is made, or of a part of it. `headers` are what the caller adds.
pub(super) async fn content(
    version: &OpenVersion,
    at: &Arc<VariantAt>,
    file: usize,
    range: Option<ByteRange>,
    rev: &str,
    mut headers: HeaderMap,
) -> Result<Content, Problem> {
    let made = &at.files[file];
    let reader = version.opener().reader(at, file).await?;
    version.mark(&mut headers);
    let (content_type, shown) = match range {
        Some(_) => ("application/octet-stream", false),
        None => media_type(&made.path),
    };
    if range.is_none() {
        headers.insert(CONTENT_DISPOSITION, disposition(&made.path, shown));
    }
    let part = range.map_or_else(String::new, |range| {
        format!(".{}-{}", range.start, range.end)
    });
    let reader: Arc<dyn Source> = Arc::new(reader);
    let (len, source) = match range {
        Some(range) => {
            let window: Arc<dyn Source> = Arc::new(Window::new(reader, range));
            (range.len(), window)
        }
        None => (made.len, reader),
    };
    Ok(Content {
        len,
        etag: Etag::new(format!("{}.{file}{part}", at.id)),
        content_type,
        immutable: version.is_pinned_by(rev),
        headers,
        source,
    })
}
