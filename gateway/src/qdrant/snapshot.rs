//! Handlers of snapshots. All of them are for who may change the collection: a snapshot holds what was deleted since.
//!
//! Recovery takes snapshots of this node alone. An address is compared, never asked; a file is never opened by a name
//! that a client gave.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use hyper::HeaderMap;
use lode_index::datetime::format_datetime;
use lode_node::{
    collections::{SnapshotAt, SnapshotFile},
    command::{Failure, FailureKind},
};
use lode_tensors::ByteRange;
use serde_json::{Value, json};

use super::{
    blocking,
    body::{As, take},
    done,
    json::{self, Fields, format_error},
    not_supported, wrong_input,
};
use crate::{
    answer::{Answer, Problem},
    body::Source,
    condition::Etag,
    content::Content,
    route::Request,
    target::Target,
    writer::Writer,
};

/// `GET /collections/{collection}/snapshots`
pub(super) async fn list(writer: Writer, request: Request) -> Answer {
    let started = Instant::now();
    blocking(move || {
        let collection = writer.collection(request.params.get("collection"))?;
        let snapshots = writer.snapshots(&collection)?;
        let shown: Vec<Value> = snapshots.iter().map(shown).collect();
        done(started, &shown)
    })
    .await
}

/// `POST /collections/{collection}/snapshots`
pub(super) async fn create(writer: Writer, request: Request) -> Answer {
    let started = Instant::now();
    blocking(move || {
        let collection = writer.collection(request.params.get("collection"))?;
        done(started, &shown(&collection.snapshot()?))
    })
    .await
}

/// `DELETE /collections/{collection}/snapshots/{snapshot}`
pub(super) async fn delete(writer: Writer, request: Request) -> Answer {
    let started = Instant::now();
    blocking(move || {
        let collection = writer.collection(request.params.get("collection"))?;
        let name = request.params.get("snapshot");
        writer.delete_snapshot(&collection, name)?;
        done(started, &true)
    })
    .await
}

/// `GET /collections/{collection}/snapshots/{snapshot}`
pub(super) async fn download(writer: Writer, request: Request) -> Answer {
    let name = request.params.get("collection").to_owned();
    let snapshot = request.params.get("snapshot").to_owned();
    let opened = tokio::task::spawn_blocking(move || {
        let collection = writer.collection(&name)?;
        writer.snapshot_file(&collection, &snapshot)
    });
    let (at, file) = opened.await.map_err(|error| {
        Problem::from(Failure::failed(format!("the request broke off: {error}")))
    })??;
    let content = Content {
        len: file.len(),
        etag: Etag::new(at.sha256),
        content_type: "application/x-tar",
        immutable: false,
        headers: HeaderMap::new(),
        source: Arc::new(file),
    };
    content.answer(&request.method, &request.headers).await
}

/// `PUT /collections/{collection}/snapshots/recover`
pub(super) async fn recover(writer: Writer, mut request: Request) -> Answer {
    let started = Instant::now();
    let name = request.params.get("collection").to_owned();
    let base = request.base();
    let body = take(&mut request, As::Values).await?;
    blocking(move || {
        writer.check_create(&name)?;
        let map = json::object(&body.bytes)?;
        let mut fields = Fields::new(&map);
        let location = fields.text("location")?;
        let location = location.ok_or_else(|| format_error("missing field `location`"))?;
        let checksum = fields.text("checksum")?;
        match fields.text("priority")? {
            None | Some("replica" | "snapshot" | "no_sync") => {}
            Some(_) => return Err(format_error("an unknown `priority`")),
        }
        // for where it would be fetched from
        fields.skip(&["api_key"]);
        fields.end()?;
        let (from, snapshot) = own(location, &base, &name).ok_or_else(|| {
            not_supported("recovery from elsewhere: `location` must name a snapshot of this node, as its list does")
        })?;
        let from = writer.collection(&from)?;
        if let Some(checksum) = checksum {
            let (at, _) = writer.snapshot_file(&from, &snapshot)?;
            if !checksum.eq_ignore_ascii_case(&at.sha256) {
                return Err(wrong_input("the snapshot has another checksum"));
            }
        }
        writer.recover_collection(&from, &snapshot, &name)?;
        done(started, &true)
    })
    .await
}

/// The collection and the snapshot of this node that a location names: the snapshot's name, a path of this dialect, or that
/// path at the address under which this node is asked.
fn own(location: &str, base: &str, collection: &str) -> Option<(String, String)> {
    let path = match location.strip_prefix(base) {
        Some(path) => path,
        None if location.contains([':', '?', '#']) => return None,
        None if !location.contains('/') => {
            return Some((collection.to_owned(), location.to_owned()));
        }
        None => location,
    };
    if path.contains(['?', '#']) {
        return None;
    }
    match Target::parse(path, None).ok()?.segments() {
        [collections, collection, snapshots, snapshot]
            if collections == "collections" && snapshots == "snapshots" =>
        {
            Some((collection.clone(), snapshot.clone()))
        }
        _ => None,
    }
}

fn shown(at: &SnapshotAt) -> Value {
    let micros = i64::try_from(at.created)
        .unwrap_or(0)
        .saturating_mul(1_000_000);
    // as Qdrant writes it: in UTC, and not said
    let time = format_datetime(micros);
    json!({
        "name": at.name,
        "creation_time": time.trim_end_matches('Z'),
        "size": at.bytes,
        "checksum": at.sha256,
    })
}

impl Source for SnapshotFile {
    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        let bytes = Self::read(self, range.start..range.end);
        bytes.map(Bytes::from).map_err(|error| {
            // where it was deleted while it is sent, nobody else has it
            Failure::new(FailureKind::Failed, error.to_string())
        })
    }

    fn check_held(&self, _: ByteRange) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::own;

    #[test]
    fn only_what_names_a_snapshot_of_this_node_is_recovered() {
        let base = "http://127.0.0.1:7070";
        let found = |location| own(location, base, "docs");
        let named =
            |collection: &str, snapshot: &str| Some((collection.to_owned(), snapshot.to_owned()));
        assert_eq!(found("a.snapshot"), named("docs", "a.snapshot"));
        let address = "/collections/acme%2Fother/snapshots/b.snapshot";
        assert_eq!(found(address), named("acme/other", "b.snapshot"));
        let whole = format!("{base}{address}");
        assert_eq!(found(&whole), named("acme/other", "b.snapshot"));
        for location in [
            "file:///etc/passwd",
            "file:a.snapshot",
            "/etc/passwd",
            "http://169.254.169.254/collections/docs/snapshots/a.snapshot",
            "http://127.0.0.1:70700/collections/docs/snapshots/a.snapshot",
            "https://127.0.0.1:7070/collections/docs/snapshots/a.snapshot",
            "http://127.0.0.1:7070@evil/collections/docs/snapshots/a.snapshot",
            "http://127.0.0.1:7070/collections/docs/snapshots/a.snapshot?x=1",
            "http://127.0.0.1:7070/collections/docs/snapshots",
            "../collections/docs/snapshots/a.snapshot",
            "/collections/docs/snapshots/a/b",
        ] {
            assert_eq!(found(location), None, "{location}");
        }
    }
}
