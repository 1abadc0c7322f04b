//! What stands beside a collection under its name: snapshots and aliases, and whose names are meant.

use super::*;
use lode_node::tokens::Power;
use sha2::Digest;

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_made_listed_sent_recovered_and_deleted_by_who_may_write() {
    let mut node = Asked::start().await;
    node.collection("docs", "Dot").await;
    let points = "/collections/docs/points";
    let upsert = |id: u64| json!({"points": [{"id": id, "vector": [1, id]}]});
    node.done("PUT", points, upsert(1)).await;
    let snapshots = "/collections/docs/snapshots";
    let made = node.done("POST", snapshots, json!(null)).await;
    let name = made["name"].as_str().unwrap().to_owned();
    assert!(
        name.starts_with("docs-20") && name.ends_with(".snapshot"),
        "{name}"
    );
    assert_eq!(
        node.done("GET", snapshots, json!(null)).await,
        json!([made])
    );
    node.done("PUT", points, upsert(2)).await;

    let address = format!("{snapshots}/{name}");
    let mut sent = client::over_http(node.node.http, Method::GET, &address, &[]).await;
    let bytes = sent.bytes().await.unwrap();
    assert_eq!(bytes.len() as u64, made["size"].as_u64().unwrap());
    let sum = data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(&bytes));
    assert_eq!(made["checksum"], sum);
    let range = [("range", "bytes=512-519")];
    let mut part = client::over_http(node.node.http, Method::GET, &address, &range).await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.bytes().await.unwrap(), b"lode col"[..]);

    let recover = "/collections/docs/snapshots/recover";
    let wrong = json!({"location": name, "checksum": "00"});
    let (status, message) = node.refused("PUT", recover, wrong).await;
    assert_eq!((status, message.contains("checksum")), (400, true));
    let count = async |of: &str| {
        let path = format!("/collections/{of}/points/count");
        node.done("POST", &path, json!({})).await["count"].clone()
    };
    assert_eq!(count("docs").await, 2);
    let body = json!({"location": name, "checksum": sum, "priority": "snapshot"});
    assert_eq!(node.done("PUT", recover, body).await, true);
    assert_eq!(count("docs").await, 1);
    // under which the client of these tests asks
    let location = format!("http://localhost{address}");
    let other = "/collections/other/snapshots/recover";
    let body = json!({"location": location, "api_key": null});
    assert_eq!(node.done("PUT", other, body).await, true);
    assert_eq!(count("other").await, 1);

    // a snapshot holds what was deleted since: reading the collection is not enough
    let owner = node.node.token(Power::Admin, &[], None);
    for (power, globs, status) in [
        (Power::Read, ["mine/docs"], 403),
        (Power::Write, ["mine/other"], 404),
        (Power::Write, ["mine/docs"], 200),
    ] {
        node.token = Some(node.node.token(power, &globs, None));
        let (found, answer) = node.ask("GET", snapshots, json!(null)).await;
        assert_eq!(found, status, "{answer}");
        let (found, _) = node.ask("PUT", recover, json!({"location": name})).await;
        assert_eq!(found, status);
    }
    // who may change the one and not the other makes neither of the other
    let body = json!({"location": address});
    assert_eq!(node.ask("PUT", other, body.clone()).await.0, 404);
    let new = "/collections/new/snapshots/recover";
    assert_eq!(node.ask("PUT", new, body).await.0, 404);
    node.token = Some(owner);
    assert_eq!(node.done("DELETE", &address, json!(null)).await, true);
    assert_eq!(node.done("GET", snapshots, json!(null)).await, json!([]));
    assert_eq!(node.refused("DELETE", &address, json!(null)).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_are_names_of_collections() {
    let node = Asked::start().await;
    node.collection("docs-1", "Dot").await;
    node.collection("docs-2", "Dot").await;
    let set = |alias: &str, of: &str| json!({"create_alias": {"alias_name": alias, "collection_name": of}});
    assert_eq!(
        node.done(
            "POST",
            "/collections/aliases",
            json!({"actions": [set("docs", "docs-1")]})
        )
        .await,
        true
    );
    node.done(
        "PUT",
        "/collections/docs/points",
        json!({"points": [{"id": 1, "vector": [1, 1]}]}),
    )
    .await;
    assert_eq!(
        node.done("GET", "/collections/docs-1", Value::Null).await["points_count"],
        1
    );
    let actions =
        json!({"actions": [{"delete_alias": {"alias_name": "docs"}}, set("docs", "docs-2")]});
    node.done("POST", "/collections/aliases", actions).await;
    let aliases = node.done("GET", "/aliases", Value::Null).await;
    assert_eq!(
        aliases["aliases"],
        json!([{"alias_name": "docs", "collection_name": "docs-2"}])
    );
    let of = node
        .done("GET", "/collections/docs-1/aliases", Value::Null)
        .await;
    assert_eq!(of["aliases"], json!([]));
    let rename = json!({"actions": [{"rename_alias": {"old_alias_name": "docs", "new_alias_name": "papers"}}]});
    node.done("POST", "/collections/aliases", rename).await;
    assert_eq!(
        node.done("GET", "/collections/papers", Value::Null).await["points_count"],
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_name_is_the_owners_and_a_token_is_for_the_collections_that_it_names() {
    let mut node = Asked::start().await;
    node.collection("docs", "Dot").await;
    node.collection("mine%2Fpapers", "Dot").await;
    let list = node.done("GET", "/collections", Value::Null).await;
    let names: Vec<&str> = list["collections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"docs") && names.contains(&"papers"),
        "{names:?}"
    );
    assert_eq!(
        node.done("GET", "/collections/mine%2Fdocs/exists", Value::Null)
            .await["exists"],
        true
    );

    node.token = Some(node.node.token(Power::Read, &["mine/docs"], None));
    let list = node.done("GET", "/collections", Value::Null).await;
    assert_eq!(list["collections"], json!([{"name": "docs"}]));
    node.done("POST", "/collections/docs/points/count", json!({}))
        .await;
    assert_eq!(
        node.refused("GET", "/collections/papers", Value::Null)
            .await
            .0,
        404
    );
    let upsert = json!({"points": [{"id": 1, "vector": [1, 1]}]});
    assert_eq!(
        node.refused("PUT", "/collections/docs/points", upsert.clone())
            .await
            .0,
        403
    );

    node.token = Some(node.node.token(Power::Write, &["mine/docs"], None));
    node.done("PUT", "/collections/docs/points", upsert.clone())
        .await;
    assert_eq!(
        node.refused("PUT", "/collections/papers/points", upsert)
            .await
            .0,
        404
    );
    let make = json!({"vectors": {"size": 2, "distance": "Dot"}});
    assert_eq!(
        node.refused("PUT", "/collections/more", make.clone())
            .await
            .0,
        404
    );
    assert_eq!(
        node.refused("PUT", "/collections/papers", make).await.0,
        404
    );
    let steal =
        json!({"actions": [{"create_alias": {"alias_name": "a", "collection_name": "papers"}}]});
    assert_eq!(
        node.refused("POST", "/collections/aliases", steal).await.0,
        404
    );
    let outside =
        json!({"actions": [{"create_alias": {"alias_name": "a", "collection_name": "docs"}}]});
    assert_eq!(
        node.refused("POST", "/collections/aliases", outside)
            .await
            .0,
        404
    );

    node.token = None;
    assert_eq!(
        node.refused("GET", "/collections/docs", Value::Null)
            .await
            .0,
        401
    );
    let list = node.done("GET", "/collections", Value::Null).await;
    assert_eq!(list["collections"], json!([]), "nothing is public");
    let at = node.node.node.collections().find("docs").unwrap();
    node.node.node.collections().set_public(&at, true).unwrap();
    node.done("POST", "/collections/docs/points/count", json!({}))
        .await;
    assert_eq!(
        node.refused("DELETE", "/collections/docs", Value::Null)
            .await
            .0,
        401
    );
}
