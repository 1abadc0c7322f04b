//! Reading files by Xet: which xorbs a file is made of, and the bytes of those.
//!
//! A client shows a token for a version, is told which chunks of which xorbs make a file or a range of it, and fetches those
//! at addresses that are sealed and run out. Xorbs are not stored: each is chunks of the one file, as they are,
//! and its bytes are the file's, read and checked like those of any other answer, with a head before each chunk.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_RANGE, HeaderValue, RANGE},
};
use lode_node::{
    command::{Failure, FailureKind},
    read::Reads,
    upload::Inbox,
};
use lode_store::tree::{self, Mode};
use lode_tensors::ByteRange;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    hash::XetHash,
    outline::{Layout, Outline, Term},
    outlines::Outlines,
};
use crate::{
    answer::{Answer, Problem, json},
    body::{Pending, Source},
    condition::Etag,
    content::Content,
    intake::{Grant, Granted, Intake, Seal, What, XORBS, bearer},
    range::{Selection, select},
    reader::{OpenModel, OpenVersion},
    route::{Request, Route},
};

/// Where clients ask for files; behind it stands what the protocol says.
pub(crate) const READS: &str = "/xet/reads";

/// The routes by which files are read.
pub(crate) fn routes() -> Vec<Route> {
    let get = |pattern, about| Route::get(pattern, about).scope::<Granted>();
    vec![
        get(
            "/xet/reads/v1/reconstructions/{hash}",
            "Says which xorbs a file is made of",
        )
        .to(reconstruct_v1),
        get(
            "/xet/reads/v2/reconstructions/{hash}",
            "Says which xorbs a file is made of",
        )
        .to(reconstruct_v2),
        get("/xet/xorbs/{grant}", "Sends a xorb, or ranges of it").to(xorb),
    ]
}

/// What hands out files by Xet.
#[derive(Debug, Clone)]
pub(crate) struct XetReads {
    outlines: Arc<Outlines>,
    seal: Seal,
}

impl XetReads {
    /// Of the files of a home.
    pub(crate) fn new(home: &Path, seal: Seal, stopping: CancellationToken) -> Self {
        Self {
            outlines: Arc::new(Outlines::open(home.join("xet"), stopping)),
            seal,
        }
    }

    /// Has it made ready that a file is read by Xet, if all of it is here.
    pub(crate) fn prepare(&self, reads: &Reads, file: &tree::File) {
        self.outlines.ask(reads, file);
    }

    /// The hash of the file with this SHA-256, if it can be read by Xet.
    pub(crate) fn hash_of(&self, sha256: &str) -> Option<XetHash> {
        let sha256 = data_encoding::HEXLOWER.decode(sha256.as_bytes()).ok()?;
        self.outlines.hash_of(&sha256.try_into().ok()?)
    }

    /// A grant for a model, and the text that stands for it.
    pub(crate) fn grant(&self, model: &OpenModel, what: What) -> (Grant, String) {
        let at = model.at();
        let grant = Grant::new(&Inbox::new(at.publisher, &at.model), what);
        let sealed = self.seal.seal(&grant);
        (grant, sealed)
    }

    async fn outline(&self, sha256: [u8; 32]) -> Result<Arc<Outline>, Problem> {
        let outlines = Arc::clone(&self.outlines);
        let loaded = tokio::task::spawn_blocking(move || outlines.load(&sha256)).await;
        match loaded.map_err(std::io::Error::other) {
            Ok(Ok(Some(outline))) => Ok(outline),
            Ok(Ok(None)) => Err(absent()),
            Ok(Err(error)) | Err(error) => Err(Problem::from(Failure {
                kind: FailureKind::Failed,
                message: format!("an outline cannot be read: {error}"),
                advice: None,
            })),
        }
    }
}

fn absent() -> Problem {
    Problem::not_found("this version has no such file that is read by Xet")
}

/// A range in JSON; whether its end is part of it, the protocol says where it stands.
#[derive(Serialize)]
struct Span {
    start: u64,
    end: u64,
}

#[derive(Serialize)]
struct ShownTerm {
    hash: String,
    unpacked_length: u64,
    range: Span,
}

/// Chunks of a xorb, and the bytes that they are in it, the last one included.
struct Fetch {
    url: String,
    chunks: Span,
    bytes: Span,
}

/// What a file, or a range of it, is made of.
struct Reconstruction {
    skipped: u64,
    terms: Vec<ShownTerm>,
    /// By xorb: one entry each.
    fetches: BTreeMap<String, Fetch>,
}

/// `GET /xet/reads/v1/reconstructions/{hash}`
async fn reconstruct_v1(intake: Intake, request: Request) -> Answer {
    #[derive(Serialize)]
    struct Shown {
        range: Span,
        url: String,
        url_range: Span,
    }
    #[derive(Serialize)]
    struct Body {
        offset_into_first_range: u64,
        terms: Vec<ShownTerm>,
        fetch_info: BTreeMap<String, [Shown; 1]>,
    }
    let found = reconstruct(intake, request).await?;
    let shown = |fetch: Fetch| Shown {
        range: fetch.chunks,
        url: fetch.url,
        url_range: fetch.bytes,
    };
    let fetches = found.fetches.into_iter();
    let body = Body {
        offset_into_first_range: found.skipped,
        terms: found.terms,
        fetch_info: fetches
            .map(|(hash, fetch)| (hash, [shown(fetch)]))
            .collect(),
    };
    Ok(json(StatusCode::OK, &body))
}

/// `GET /xet/reads/v2/reconstructions/{hash}`
async fn reconstruct_v2(intake: Intake, request: Request) -> Answer {
    #[derive(Serialize)]
    struct Ranges {
        chunks: Span,
        bytes: Span,
    }
    #[derive(Serialize)]
    struct Shown {
        url: String,
        ranges: [Ranges; 1],
    }
    #[derive(Serialize)]
    struct Body {
        offset_into_first_range: u64,
        terms: Vec<ShownTerm>,
        xorbs: BTreeMap<String, [Shown; 1]>,
    }
    let found = reconstruct(intake, request).await?;
    let shown = |Fetch { url, chunks, bytes }| Shown {
        url,
        ranges: [Ranges { chunks, bytes }],
    };
    let fetches = found.fetches.into_iter();
    let body = Body {
        offset_into_first_range: found.skipped,
        terms: found.terms,
        xorbs: fetches
            .map(|(hash, fetch)| (hash, [shown(fetch)]))
            .collect(),
    };
    Ok(json(StatusCode::OK, &body))
}

async fn reconstruct(intake: Intake, request: Request) -> Result<Reconstruction, Problem> {
    let xet = intake.xet()?.clone();
    let token = bearer(&request.headers);
    let token = token.ok_or_else(|| Problem::unauthorized("send the token of this storage"))?;
    let (version, what) = intake.open_version(token).await?;
    let What::Files { whose, .. } = what else {
        return Err(Problem::refused("this token is for something else"));
    };
    let hash = XetHash::parse(request.params.get("hash"))
        .ok_or_else(|| Problem::usage("a file is named by 64 hex digits"))?;
    let sha256 = xet.outlines.file_of(&hash).ok_or_else(absent)?;
    file(&version, &sha256)?;
    let outline = xet.outline(sha256).await?;
    let (skipped, terms) = outline.terms(asked(&request.headers, outline.len())?);
    let mut fetches: BTreeMap<String, Fetch> = BTreeMap::new();
    for term in &terms {
        let chunks = Span {
            start: term.chunks.start.into(),
            end: term.chunks.end.into(),
        };
        let bytes = Span {
            start: term.packed.start,
            end: term.packed.end - 1,
        };
        match fetches.get_mut(&term.hash.to_string()) {
            // A file that repeats itself has a xorb twice: it is fetched once, as far as any part of the file needs.
            Some(fetch) => {
                fetch.chunks.start = fetch.chunks.start.min(chunks.start);
                fetch.chunks.end = fetch.chunks.end.max(chunks.end);
                fetch.bytes.start = fetch.bytes.start.min(bytes.start);
                fetch.bytes.end = fetch.bytes.end.max(bytes.end);
            }
            None => {
                let what = What::Xorb {
                    version: version.id(),
                    whose,
                    sha256,
                    xorb: u32::try_from(term.xorb).expect("a file has few xorbs"),
                };
                let (_, sealed) = xet.grant(version.model(), what);
                let url = format!("{}{XORBS}{sealed}", request.base());
                let fetch = Fetch { url, chunks, bytes };
                fetches.insert(term.hash.to_string(), fetch);
            }
        }
    }
    let shown = |term: &Term| ShownTerm {
        hash: term.hash.to_string(),
        unpacked_length: term.len,
        range: Span {
            start: term.chunks.start.into(),
            end: term.chunks.end.into(),
        },
    };
    Ok(Reconstruction {
        skipped,
        terms: terms.iter().map(shown).collect(),
        fetches,
    })
}

/// The range of a file that is asked for: all of it, or one.
fn asked(headers: &HeaderMap, len: u64) -> Result<ByteRange, Problem> {
    let range = headers
        .get(RANGE)
        .map(|range| select(range.as_bytes(), len));
    match range {
        None | Some(Selection::Whole) => Ok(ByteRange { start: 0, end: len }),
        Some(Selection::Parts(parts)) if parts.len() == 1 => Ok(parts[0]),
        Some(Selection::Parts(_)) => Err(Problem::usage("ask for one range at a time")),
        Some(Selection::Unsatisfiable) => {
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            let message = format!("the range lies behind the file's {len} bytes");
            let text = HeaderValue::try_from(format!("bytes */{len}"));
            let text = text.expect("made of visible ASCII characters");
            Err(Problem::new(status, FailureKind::Usage, message).with(CONTENT_RANGE, text))
        }
    }
}

/// The file of a version with this SHA-256.
fn file(version: &OpenVersion, sha256: &[u8; 32]) -> Result<tree::File, Problem> {
    let same = |file: &&tree::File| file.sha256 == *sha256 && file.mode != Mode::Link;
    let found = version.tree().files().iter().find(same);
    found.cloned().ok_or_else(absent)
}

/// `GET /xet/xorbs/{grant}`
async fn xorb(intake: Intake, request: Request) -> Answer {
    let xet = intake.xet()?.clone();
    let (version, what) = intake.open_version(request.params.get("grant")).await?;
    let What::Xorb { sha256, xorb, .. } = what else {
        return Err(Problem::refused("this address is for something else"));
    };
    let outline = xet.outline(sha256).await?;
    let (hash, layout) = outline.xorb(xorb as usize).ok_or_else(absent)?;
    let file: Arc<dyn Source> = Arc::new(version.reader(file(&version, &sha256)?).await?);
    let mut headers = HeaderMap::new();
    version.mark(&mut headers);
    let content = Content {
        len: layout.len(),
        etag: Etag::new(hash.to_string()),
        content_type: "application/octet-stream",
        immutable: true,
        headers,
        source: Arc::new(Packed { file, layout }),
    };
    content.answer(&request.method, &request.headers).await
}

/// A xorb that is made of a file's bytes while it is read.
struct Packed {
    file: Arc<dyn Source>,
    layout: Layout,
}

impl Source for Packed {
    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        let needed = self.layout.file_range(range);
        let data = match needed.is_empty() {
            true => Bytes::new(),
            false => self.file.read(needed)?,
        };
        Ok(self.layout.join(range, &data).into())
    }

    fn check_held(&self, range: ByteRange) -> Result<(), Failure> {
        let needed = self.layout.file_range(range);
        match needed.is_empty() {
            true => Ok(()),
            false => self.file.check_held(needed),
        }
    }

    fn reach(self: Arc<Self>, ranges: Vec<ByteRange>) -> Option<Pending<()>> {
        let needed = ranges
            .into_iter()
            .map(|range| self.layout.file_range(range));
        let needed = needed.filter(|range| !range.is_empty()).collect();
        Arc::clone(&self.file).reach(needed)
    }

    fn fetch(self: Arc<Self>, range: ByteRange, until: u64) -> Option<Pending<Bytes>> {
        let needed = self.layout.file_range(range);
        let to = ByteRange {
            start: range.start,
            end: until.max(range.end),
        };
        let until = self.layout.file_range(to).end;
        let data = match needed.is_empty() {
            true => Box::pin(std::future::ready(Ok(Bytes::new()))),
            false => Arc::clone(&self.file).fetch(needed, until)?,
        };
        Some(Box::pin(async move {
            let data = data.await?;
            Ok(self.layout.join(range, &data).into())
        }))
    }
}
