//! Collections of vectors in the native dialect: the vocabulary of the command line, as JSON.
//!
//! `{collection}` is `docs` for one of the home's own publisher, `acme%2Fdocs` for any other. Who may is decided by
//! [`crate::collections`] before a body is looked at; what is asked is then one command of the node.

use bytes::Bytes;
use hyper::StatusCode;
use lode_index::operation::Operation;
use lode_node::{
    EventSink,
    collections::CollectionAt,
    command::{
        CollectionCommand, CollectionCommit, CollectionCreate, CollectionPoints, CollectionRow,
        CollectionSearch, CollectionSelect, CollectionShown, Failure, FailureKind, Outcome,
        PointRow, Pushed,
    },
};
use lode_store::access::Caller;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::{
    answer::{self, Answer, Problem},
    describe::{Description, pattern},
    limits::COLLECTION_ASK_BYTES_MAX,
    qdrant::{
        body::{As, take},
        points,
    },
    reader::{Read, Reader},
    route::{Request, Route},
    writer::{Write, Writer},
};

/// The routes of collections.
pub(super) fn routes() -> Vec<Route> {
    const ONE: &str = "/lode/v1/collections/{collection}";
    const SEARCH: &str = "/lode/v1/collections/{collection}/search";
    const POINTS: &str = "/lode/v1/collections/{collection}/points";
    const READ: &str = "/lode/v1/collections/{collection}/points/read";
    const DELETE: &str = "/lode/v1/collections/{collection}/points/delete";
    const COMMIT: &str = "/lode/v1/collections/{collection}/commit";
    vec![
        Route::get("/lode/v1/collections", "Lists the collections of the home")
            .scope::<Read>()
            .to(list)
            .described(describe_list),
        Route::get(ONE, "Shows a collection")
            .scope::<Read>()
            .to(show)
            .described(describe_show),
        Route::put(ONE, "Makes a collection")
            .scope::<Write>()
            .to(create)
            .described(describe_create),
        Route::delete(ONE, "Deletes a collection")
            .scope::<Write>()
            .to(delete)
            .described(describe_delete),
        Route::post(SEARCH, "Finds the nearest points of a collection")
            .scope::<Read>()
            .to(search)
            .described(describe_search),
        Route::post(POINTS, "Sets points of a collection")
            .scope::<Write>()
            .to(upsert)
            .described(describe_upsert),
        Route::post(READ, "Reads points of a collection")
            .scope::<Read>()
            .to(read)
            .described(describe_read),
        Route::post(DELETE, "Deletes points of a collection")
            .scope::<Write>()
            .to(delete_points)
            .described(describe_delete_points),
        Route::post(COMMIT, "Makes a version of a collection")
            .scope::<Write>()
            .to(commit)
            .described(describe_commit),
    ]
}

/// `GET /lode/v1/collections`
pub(super) async fn list(reader: Reader, _: Request) -> Answer {
    blocking(move || {
        let all = reader.collections()?;
        let rows = all
            .iter()
            .map(|at| reader.all_collections()?.row(at).map_err(Problem::from));
        let rows = rows.collect::<Result<Vec<_>, Problem>>()?;
        Ok(json!({ "collections": rows }))
    })
    .await
}

pub(super) fn describe_list() -> Description {
    Description::json::<CollectionList>("Those that the caller may read.")
}

/// `GET /lode/v1/collections/{collection}`
pub(super) async fn show(reader: Reader, request: Request) -> Answer {
    let name = request.params.get("collection").to_owned();
    blocking(move || {
        let name = full(&reader.find_collection(&name)?);
        ask(&reader, CollectionCommand::Show { name })
    })
    .await
}

pub(super) fn describe_show() -> Description {
    Description::json::<CollectionShown>("The collection.")
}

/// `PUT /lode/v1/collections/{collection}`
pub(super) async fn create(writer: Writer, mut request: Request) -> Answer {
    let name = request.params.get("collection").to_owned();
    let body = request.take_body(COLLECTION_ASK_BYTES_MAX).await?;
    blocking(move || {
        writer.check_create(&name)?;
        let create: CollectionCreate = named(&body, &name)?;
        check_public(&writer, create.public)?;
        if writer.reader().find_collection(&name).is_ok() {
            let message = format!("there is a collection {name} already");
            return Err(Problem::new(
                StatusCode::CONFLICT,
                FailureKind::Refused,
                message,
            ));
        }
        ask(writer.reader(), CollectionCommand::Create(create))
    })
    .await
}

pub(super) fn describe_create() -> Description {
    Description::json::<CollectionShown>("The collection.")
        .takes_unnamed::<CollectionCreate>("What it holds; its name is that of the address.")
        .problem(409, "There is one of that name.")
}

/// `DELETE /lode/v1/collections/{collection}?force=true`
pub(super) async fn delete(writer: Writer, request: Request) -> Answer {
    let name = request.params.get("collection").to_owned();
    let force = match request.target.query("force") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Problem::usage("force is `true` or `false`")),
    };
    blocking(move || {
        let name = changeable(&writer, &name)?;
        ask(writer.reader(), CollectionCommand::Remove { name, force })
    })
    .await
}

pub(super) fn describe_delete() -> Description {
    let flag = pattern("^(true|false)$");
    Description::json::<Done>("It is deleted; its versions stay.").query(
        "force",
        "`true`: also what is in no version.",
        flag,
    )
}

/// `POST /lode/v1/collections/{collection}/search`
pub(super) async fn search(reader: Reader, mut request: Request) -> Answer {
    let name = request.params.get("collection").to_owned();
    let body = request.take_body(COLLECTION_ASK_BYTES_MAX).await?;
    blocking(move || {
        let name = full(&reader.find_collection(&name)?);
        let search: CollectionSearch = named(&body, &name)?;
        ask(&reader, CollectionCommand::Search(search))
    })
    .await
}

pub(super) fn describe_search() -> Description {
    Description::json::<PointsFound>("The nearest points, the nearest first.")
        .takes_unnamed::<CollectionSearch>(
            "What is searched for. `filter` may be JSON in Qdrant's grammar.",
        )
}

/// `POST /lode/v1/collections/{collection}/points/read`
pub(super) async fn read(reader: Reader, mut request: Request) -> Answer {
    let name = request.params.get("collection").to_owned();
    let body = request.take_body(COLLECTION_ASK_BYTES_MAX).await?;
    blocking(move || {
        let name = full(&reader.find_collection(&name)?);
        let points: CollectionPoints = named(&body, &name)?;
        ask(&reader, CollectionCommand::Points(points))
    })
    .await
}

pub(super) fn describe_read() -> Description {
    Description::json::<PointsFound>("The points; `next` is the first id that is not among them.")
        .takes_unnamed::<CollectionPoints>("Which points. `filter` may be JSON in Qdrant's grammar.")
}

/// `POST /lode/v1/collections/{collection}/points`
pub(super) async fn upsert(writer: Writer, mut request: Request) -> Answer {
    let name = request.params.get("collection").to_owned();
    let body = take(&mut request, As::Points).await?;
    blocking(move || {
        let collection = writer.collection(&name)?;
        let points = points::upsert(&body.bytes)?;
        let applied = collection.apply(Operation::Upsert(points))?;
        Ok(json!({ "points": applied.points, "sequence": applied.sequence }))
    })
    .await
}

pub(super) fn describe_upsert() -> Description {
    Description::json::<PointsSet>("They are durable.")
        .takes::<PointsToSet>("The points, as in Qdrant's dialect: a list, or a batch of columns.")
        .problem(507, "The disk is full.")
}

/// `POST /lode/v1/collections/{collection}/points/delete`
pub(super) async fn delete_points(writer: Writer, mut request: Request) -> Answer {
    let name = request.params.get("collection").to_owned();
    let body = request.take_body(COLLECTION_ASK_BYTES_MAX).await?;
    blocking(move || {
        let name = changeable(&writer, &name)?;
        let select: CollectionSelect = named(&body, &name)?;
        ask(writer.reader(), CollectionCommand::DeletePoints(select))
    })
    .await
}

pub(super) fn describe_delete_points() -> Description {
    Description::json::<PointsCounted>("They are deleted.")
        .takes_unnamed::<CollectionSelect>(
            "Which points. `filter` may be JSON in Qdrant's grammar.",
        )
        .problem(507, "The disk is full.")
}

/// `POST /lode/v1/collections/{collection}/commit`
pub(super) async fn commit(writer: Writer, mut request: Request) -> Answer {
    let name = request.params.get("collection").to_owned();
    let body = request.take_body(COLLECTION_ASK_BYTES_MAX).await?;
    blocking(move || {
        let name = changeable(&writer, &name)?;
        let commit: CollectionCommit = named(&body, &name)?;
        check_public(&writer, commit.public)?;
        ask(writer.reader(), CollectionCommand::Commit(commit))
    })
    .await
}

pub(super) fn describe_commit() -> Description {
    Description::json::<Pushed>("The version, or the one that holds the same already.")
        .takes_unnamed::<CollectionCommit>("What to call it.")
        .problem(507, "The disk is full.")
}

/// The collections of the home that the caller may read.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the answer is made elsewhere; this is its shape")]
struct CollectionList {
    collections: Vec<CollectionRow>,
}

/// Points that were read or found.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the answer is made elsewhere; this is its shape")]
struct PointsFound {
    points: Vec<PointRow>,
    /// The first id that is not among them.
    next: Option<String>,
}

/// Points to be set: a list of them, or a batch.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the body is read elsewhere; this is its shape")]
struct PointsToSet {
    /// Each with `id`, `vector` and `payload`.
    points: Option<Vec<Value>>,
    /// `ids`, `vectors` and `payloads`, one below the other.
    batch: Option<Value>,
}

/// Points that were set.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the answer is made elsewhere; this is its shape")]
struct PointsSet {
    points: u64,
    /// Number of the operation that set them.
    sequence: u64,
}

/// How many points it was about.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the answer is made elsewhere; this is its shape")]
struct PointsCounted {
    points: u64,
}

/// Nothing more to say.
#[derive(ToSchema)]
struct Done {}

/// A collection's name whatever aliases are bound.
fn full(at: &CollectionAt) -> String {
    format!("{}/{}", at.publisher, at.name)
}

/// The full name of a collection that the caller may change.
fn changeable(writer: &Writer, name: &str) -> Result<String, Problem> {
    Ok(full(writer.collection(name)?.readable().at()))
}

/// Whom a collection is shown to is the owner's to say.
fn check_public(writer: &Writer, public: bool) -> Result<(), Problem> {
    match writer.reader().caller() {
        Caller::Owner => Ok(()),
        _ if public => Err(Problem::refused("a token cannot make a collection public")),
        _ => Ok(()),
    }
}

/// What a body asks of the collection of a name, which is not the body's to say. An empty one asks for nothing special.
fn named<T: DeserializeOwned>(body: &Bytes, name: &str) -> Result<T, Problem> {
    let wrong = |error: serde_json::Error| {
        Problem::usage(format!("the body is not what is asked here: {error}"))
    };
    let mut asked = match body.trim_ascii().is_empty() {
        true => json!({}),
        false => serde_json::from_slice(body).map_err(wrong)?,
    };
    let Value::Object(map) = &mut asked else {
        return Err(Problem::usage("the body is a JSON object"));
    };
    map.insert("name".to_owned(), name.into());
    // a filter may be text, or JSON in Qdrant's grammar
    if let Some(filter @ Value::Object(_)) = map.get_mut("filter") {
        *filter = filter.to_string().into();
    }
    serde_json::from_value(asked).map_err(wrong)
}

fn ask(reader: &Reader, command: CollectionCommand) -> Result<Value, Problem> {
    let outcome = reader
        .all_collections()?
        .ask(command, &EventSink::discard())?;
    fn value(outcome: &impl Serialize) -> Result<Value, Problem> {
        serde_json::to_value(outcome)
            .map_err(|error| Failure::new(FailureKind::Failed, error.to_string()).into())
    }
    match outcome {
        Outcome::Collection(shown) => value(&shown),
        Outcome::Pushed(pushed) => value(&pushed),
        Outcome::Points { points, next } => Ok(json!({ "points": points, "next": next })),
        Outcome::PointsChanged { points } => Ok(json!({ "points": points })),
        _ => Ok(json!({})),
    }
}

async fn blocking(work: impl FnOnce() -> Result<Value, Problem> + Send + 'static) -> Answer {
    let done = tokio::task::spawn_blocking(work).await;
    let value = done.map_err(|error| Failure::failed(format!("internal error: {error}")))??;
    Ok(answer::json(StatusCode::OK, &value))
}
