//! The routes of the Hub's dialect that change models.

mod branches;
mod commit;
mod files;
mod lfs;
mod repos;
mod xet;

use lode_node::upload::RefKind;

use crate::{
    answer::Problem,
    intake::Granted,
    route::{Params, Route},
    writer::{Writable, Write, Writer},
};

/// The routes that change models.
pub(super) fn routes() -> Vec<Route> {
    let post = |pattern, about| Route::post(pattern, about).scope::<Write>();
    vec![
        post("/api/repos/create", "Makes a model").to(repos::create),
        Route::delete("/api/repos/delete", "Removes a model")
            .scope::<Write>()
            .to(repos::delete),
        post("/api/validate-yaml", "Looks at the head of a model card").to(repos::validate_yaml),
        Route::put(
            "/api/{kind}/{publisher}/{model}/settings",
            "Says who may read a model",
        )
        .scope::<Write>()
        .to(repos::settings),
        post(
            "/api/{kind}/{publisher}/{model}/discussions",
            "Says that there are none",
        )
        .to(repos::discussions),
        post(
            "/api/{kind}/{publisher}/{model}/branch/{rev}",
            "Makes a branch",
        )
        .to(branches::create_branch),
        Route::delete(
            "/api/{kind}/{publisher}/{model}/branch/{rev}",
            "Removes a branch",
        )
        .scope::<Write>()
        .to(branches::delete_branch),
        post("/api/{kind}/{publisher}/{model}/tag/{rev}", "Makes a tag").to(branches::create_tag),
        Route::delete("/api/{kind}/{publisher}/{model}/tag/{rev}", "Removes a tag")
            .scope::<Write>()
            .to(branches::delete_tag),
        post(
            "/api/{kind}/{publisher}/{model}/preupload/{rev}",
            "Says how files are to be sent",
        )
        .to(files::preupload),
        post(
            "/api/{kind}/{publisher}/{model}/lfs-files/duplicate",
            "Takes files over from another model",
        )
        .to(files::duplicate),
        post(
            "/api/{kind}/{publisher}/{model}/commit/{rev}",
            "Makes a version",
        )
        .to(commit::commit),
        Route::get(
            "/api/{kind}/{publisher}/{model}/xet-write-token/{rev}",
            "Says where xorbs are sent",
        )
        .scope::<Write>()
        .to(xet::write_token),
        post(
            "/{publisher}/{repo}/info/lfs/objects/batch",
            "Says where large files are sent",
        )
        .to(lfs::batch),
        post(
            "/{publisher}/{repo}/info/lfs/objects/verify",
            "Says whether a large file came",
        )
        .to(lfs::verify),
        post(
            "/datasets/{publisher}/{repo}/info/lfs/objects/batch",
            "Says where large files are sent",
        )
        .to(lfs::batch),
        post(
            "/datasets/{publisher}/{repo}/info/lfs/objects/verify",
            "Says whether a large file came",
        )
        .to(lfs::verify),
        Route::put(
            "/lode/v1/uploads/{grant}",
            "Takes a large file, or a part of one",
        )
        .scope::<Granted>()
        .to(lfs::put),
        Route::post(
            "/lode/v1/uploads/{grant}",
            "Takes a large file whose parts were sent",
        )
        .scope::<Granted>()
        .to(lfs::complete),
    ]
}

/// The model that the address of a request to the API names.
async fn model(writer: &Writer, params: &Params) -> Result<Writable, Problem> {
    check_kind(params.get("kind"))?;
    writer
        .model(params.get("publisher"), params.get("model"))
        .await
}

fn check_kind(kind: &str) -> Result<(), Problem> {
    match kind {
        "models" | "datasets" => Ok(()),
        _ => Err(Problem::not_found(format!("there are no {kind} here"))),
    }
}

/// A revision as clients write it: a name, or a branch or tag in full.
fn short_rev(rev: &str) -> &str {
    rev.strip_prefix("refs/heads/")
        .or_else(|| rev.strip_prefix("refs/tags/"))
        .unwrap_or(rev)
}

/// The first 40 digits of a version's id: what the dialect takes for a commit.
fn commit_id(version: lode_store::VersionId) -> String {
    let mut hex = version.to_hex();
    hex.truncate(40);
    hex
}

/// JSON of a body.
fn parse<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|error| Problem::usage(format!("the body is not what it must be: {error}")))
}

/// 64 hex digits.
fn sha256(text: &str) -> Result<[u8; 32], Problem> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Problem::usage(format!("{:?} is no SHA-256", cut(text))))
}

/// A client's text, short enough for a message.
fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}

const BRANCH: RefKind = RefKind::Branch;
const TAG: RefKind = RefKind::Tag;
