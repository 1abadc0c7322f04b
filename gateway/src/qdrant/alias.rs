//! Handlers of aliases of collections.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::{
    blocking,
    body::{As, take},
    done,
    json::{self, Fields, format_error},
    not_supported, wrong_input,
};
use crate::{
    answer::{Answer, Problem},
    collections::AliasAsked,
    limits::QDRANT_CHANGES_MAX,
    reader::Reader,
    route::Request,
    writer::Writer,
};

/// `GET /aliases`
pub(super) async fn all(reader: Reader, _: Request) -> Answer {
    let started = Instant::now();
    blocking(move || shown(&reader, started, None)).await
}

/// `GET /collections/{collection}/aliases`
pub(super) async fn of(reader: Reader, request: Request) -> Answer {
    let started = Instant::now();
    blocking(move || {
        let name = request.params.get("collection");
        shown(&reader, started, Some(name))
    })
    .await
}

fn shown(reader: &Reader, started: Instant, name: Option<&str>) -> Answer {
    let at = name.map(|name| reader.find_collection(name)).transpose()?;
    let mut rows = Vec::new();
    let collections = reader.collections()?;
    for alias in reader.aliases()? {
        let of = collections
            .iter()
            .find(|at| at.publisher == alias.publisher && at.name == alias.collection);
        let Some(of) = of else {
            continue;
        };
        if let Some(at) = &at
            && (at.publisher, &at.name) != (of.publisher, &of.name)
        {
            continue;
        }
        let collection = reader.collection_name(of)?;
        let alias = match collection.rsplit_once('/') {
            Some((publisher, _)) => format!("{publisher}/{}", alias.alias),
            None => alias.alias,
        };
        rows.push(json!({ "alias_name": alias, "collection_name": collection }));
    }
    done(started, &json!({ "aliases": rows }))
}

/// `POST /collections/aliases`
pub(super) async fn change(writer: Writer, mut request: Request) -> Answer {
    let started = Instant::now();
    let body = take(&mut request, As::Values).await?;
    blocking(move || {
        let changes = changes(&json::object(&body.bytes)?)?;
        writer.change_aliases(&changes)?;
        done(started, &true)
    })
    .await
}

/// The changes of aliases that a body asks for.
fn changes(body: &Map<String, Value>) -> Result<Vec<AliasAsked>, Problem> {
    let mut fields = Fields::new(body);
    let actions = fields.list("actions")?;
    fields.end()?;
    let actions = actions.ok_or_else(|| format_error("missing field `actions`"))?;
    if actions.len() > QDRANT_CHANGES_MAX {
        return Err(wrong_input(format!(
            "more than {QDRANT_CHANGES_MAX} changes of aliases in one request"
        )));
    }
    actions.iter().map(action).collect()
}

fn action(value: &Value) -> Result<AliasAsked, Problem> {
    let map = value.as_object().filter(|map| map.len() == 1);
    let (kind, value) = map
        .and_then(|map| map.iter().next())
        .ok_or_else(|| format_error("a change of an alias has one name"))?;
    let mut fields = Fields::of(value, "a change of an alias")?;
    let mut text = |key| {
        let text = fields.text(key)?;
        let text = text.map(str::to_owned);
        text.ok_or_else(|| format_error(format!("missing field `{key}`")))
    };
    let change = match kind.as_str() {
        "create_alias" => AliasAsked::Set {
            alias: text("alias_name")?,
            collection: text("collection_name")?,
        },
        "delete_alias" => AliasAsked::Remove {
            alias: text("alias_name")?,
        },
        "rename_alias" => AliasAsked::Rename {
            from: text("old_alias_name")?,
            to: text("new_alias_name")?,
        },
        _ => return Err(not_supported("this change of an alias")),
    };
    fields.end()?;
    Ok(change)
}
