//! Qdrant's REST dialect: `/collections`, `/aliases`, `/snapshots`. docs/qdrant.md lists what is done and what is refused.
//!
//! A handler reads the body, then does all else in one turn on a thread that may block: parsing, what the engine does,
//! and writing the answer. What is asked for and not done is refused by name; only hints that change no answer are
//! passed over.

mod alias;
pub mod ask;
pub(crate) mod body;
pub mod change;
pub mod config;
mod fuse;
pub mod json;
mod manage;
pub mod points;
mod read;
mod recommend;
mod run;
mod show;
mod snapshot;

use std::time::Instant;

use hyper::StatusCode;
use lode_node::command::FailureKind;
use serde::Serialize;

use crate::{
    answer::{self, Answer, Problem},
    in_place::in_place,
    reader::Read,
    route::Route,
    writer::Write,
};

/// The version of Qdrant's interface that is spoken: its clients compare theirs with it.
pub const VERSION: &str = "1.20.0";

/// All routes of the dialect.
pub(crate) fn routes() -> Vec<Route> {
    const ALL: &str = "/collections";
    const ONE: &str = "/collections/{collection}";
    const POINTS: &str = "/collections/{collection}/points";
    const SNAPSHOTS: &str = "/collections/{collection}/snapshots";
    const SNAPSHOT: &str = "/collections/{collection}/snapshots/{snapshot}";
    const PAYLOAD: &str = "/collections/{collection}/points/payload";
    let mut routes = vec![
        Route::get(ALL, "Lists collections")
            .scope::<Read>()
            .to(manage::list),
        Route::get(ONE, "Shows a collection")
            .scope::<Read>()
            .to(manage::show),
        Route::get(
            "/collections/{collection}/exists",
            "Says whether there is a collection",
        )
        .scope::<Read>()
        .to(manage::exists),
        Route::put(ONE, "Makes a collection")
            .scope::<Write>()
            .to(manage::create),
        Route::patch(ONE, "Takes hints for a collection")
            .scope::<Write>()
            .to(manage::update),
        Route::delete(ONE, "Deletes a collection")
            .scope::<Write>()
            .to(manage::delete),
        Route::put("/collections/{collection}/index", "Indexes a payload field")
            .scope::<Write>()
            .to(manage::create_index),
        Route::delete(
            "/collections/{collection}/index/{field..}",
            "Gives the index of a payload field up",
        )
        .scope::<Write>()
        .to(manage::delete_index),
        Route::get(SNAPSHOTS, "Lists snapshots of a collection")
            .scope::<Write>()
            .to(snapshot::list),
        Route::post(SNAPSHOTS, "Makes a snapshot of a collection")
            .scope::<Write>()
            .to(snapshot::create),
        Route::put(
            "/collections/{collection}/snapshots/recover",
            "Puts a snapshot in place of what a collection holds",
        )
        .scope::<Write>()
        .to(snapshot::recover),
        Route::get(SNAPSHOT, "A snapshot as one file")
            .scope::<Write>()
            .to(snapshot::download),
        Route::delete(SNAPSHOT, "Deletes a snapshot")
            .scope::<Write>()
            .to(snapshot::delete),
        Route::get("/aliases", "Lists aliases of collections")
            .scope::<Read>()
            .to(alias::all),
        Route::get(
            "/collections/{collection}/aliases",
            "Lists aliases of a collection",
        )
        .scope::<Read>()
        .to(alias::of),
        Route::post("/collections/aliases", "Changes aliases of collections")
            .scope::<Write>()
            .to(alias::change),
        Route::put(POINTS, "Sets points")
            .scope::<Write>()
            .to(change::upsert),
        Route::post(POINTS, "Shows points by their ids")
            .scope::<Read>()
            .to(read::retrieve),
        Route::get("/collections/{collection}/points/{id}", "Shows a point")
            .scope::<Read>()
            .to(read::point),
        Route::post("/collections/{collection}/points/delete", "Deletes points")
            .scope::<Write>()
            .to(change::delete),
        Route::post(PAYLOAD, "Sets keys of payloads")
            .scope::<Write>()
            .to(change::set_payload),
        Route::put(PAYLOAD, "Replaces payloads")
            .scope::<Write>()
            .to(change::overwrite_payload),
        Route::post(
            "/collections/{collection}/points/payload/delete",
            "Removes keys of payloads",
        )
        .scope::<Write>()
        .to(change::delete_payload),
        Route::post(
            "/collections/{collection}/points/payload/clear",
            "Empties payloads",
        )
        .scope::<Write>()
        .to(change::clear_payload),
        Route::put(
            "/collections/{collection}/points/vectors",
            "Sets vectors of points",
        )
        .scope::<Write>()
        .to(change::update_vectors),
        Route::post(
            "/collections/{collection}/points/vectors/delete",
            "Removes vectors of points",
        )
        .scope::<Write>()
        .to(change::delete_vectors),
        Route::post(
            "/collections/{collection}/points/batch",
            "Does several changes",
        )
        .scope::<Write>()
        .to(change::batch),
        Route::post("/collections/{collection}/points/query", "Finds points")
            .scope::<Read>()
            .to(read::query),
        Route::post(
            "/collections/{collection}/points/query/batch",
            "Finds points, several times",
        )
        .scope::<Read>()
        .to(read::query_batch),
        Route::post(
            "/collections/{collection}/points/query/groups",
            "Finds points, by a payload field",
        )
        .scope::<Read>()
        .to(read::query_groups),
        Route::post(
            "/collections/{collection}/points/search",
            "Finds points, as older clients ask",
        )
        .scope::<Read>()
        .to(read::search),
        Route::post(
            "/collections/{collection}/points/search/batch",
            "Finds points several times, as older clients ask",
        )
        .scope::<Read>()
        .to(read::search_batch),
        Route::post("/collections/{collection}/points/scroll", "Lists points")
            .scope::<Read>()
            .to(read::scroll),
        Route::post("/collections/{collection}/points/count", "Counts points")
            .scope::<Read>()
            .to(read::count),
        Route::post(
            "/collections/{collection}/facet",
            "Counts values of a payload field",
        )
        .scope::<Read>()
        .to(read::facet),
    ];
    routes.extend(refused());
    routes
}

/// What Qdrant has and Lode has not: said, not passed over.
fn refused() -> Vec<Route> {
    macro_rules! refuse {
        ($($make:ident $pattern:literal $what:literal;)*) => {
            vec![$(Route::$make($pattern, concat!("Refused: ", $what)).scope::<Read>().to(
                async |_, _| Err(not_supported($what))
            )),*]
        };
    }
    refuse! {
        post "/collections/{collection}/points/recommend" "this address: ask points/query with recommend";
        post "/collections/{collection}/points/recommend/batch" "this address: ask points/query/batch with recommend";
        post "/collections/{collection}/points/recommend/groups" "this address: ask points/query/groups with recommend";
        post "/collections/{collection}/points/search/groups" "this address: ask points/query/groups";
        post "/collections/{collection}/points/discover" "this address: ask points/query with discover";
        post "/collections/{collection}/points/discover/batch" "this address: ask points/query/batch with discover";
        post "/collections/{collection}/points/search/matrix/pairs" "distance matrices";
        post "/collections/{collection}/points/search/matrix/offsets" "distance matrices";
        post "/collections/{collection}/snapshots/upload" "snapshots that are sent: a collection moves with `lode share` and `lode pull`";
        get "/collections/{collection}/shards/{shard}/snapshots" "clusters";
        post "/collections/{collection}/shards/{shard}/snapshots" "clusters";
        get "/snapshots" "snapshots of all collections";
        post "/snapshots" "snapshots of all collections";
        get "/collections/{collection}/cluster" "clusters";
        post "/collections/{collection}/cluster" "clusters";
        put "/collections/{collection}/shards" "clusters";
        get "/cluster" "clusters";
        get "/telemetry" "telemetry: /metrics has figures";
    }
}

/// 400: Qdrant has it and Lode has not.
fn not_supported(what: &str) -> Problem {
    Problem::usage(format!("not supported: {what}"))
}

/// 400: the request is well-formed and asks for what cannot be.
fn wrong_input(what: impl std::fmt::Display) -> Problem {
    Problem::usage(format!("Wrong input: {what}"))
}

/// 422: a value that is out of its range.
fn invalid(what: impl std::fmt::Display) -> Problem {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    let message = format!("Validation error in JSON body: [{what}]");
    Problem::new(status, FailureKind::Usage, message)
}

/// An answer as Qdrant wraps it.
fn done(started: Instant, result: &impl Serialize) -> Answer {
    #[derive(Serialize)]
    struct Done<'a, T> {
        result: &'a T,
        status: &'static str,
        time: f64,
    }
    let shown = Done {
        result,
        status: "ok",
        time: started.elapsed().as_secs_f64(),
    };
    Ok(answer::json(StatusCode::OK, &shown))
}

/// Does what blocks, and may do so for long.
async fn blocking(work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    let done = tokio::task::spawn_blocking(work).await;
    answered(done.map_err(|error| error.to_string()))
}

/// Reads points.
async fn reading(work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    answered(in_place(work).await)
}

fn answered(done: Result<Answer, String>) -> Answer {
    done.unwrap_or_else(|fault| {
        Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            FailureKind::Failed,
            format!("the request broke off: {fault}"),
        ))
    })
}

#[cfg(test)]
mod tests;
