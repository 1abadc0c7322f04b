//! What a client of a registry is promised, over real connections to a real node.

use crate::models;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::client::{Exchange, over_http};
use crate::origin::Origin;
use crate::published::{Held, Published, noise, safetensors};
use hyper::Method;
use lode_gateway::{
    Running, ServeOptions,
    limits::{
        OCI_MANIFESTS_SEARCHED_MAX, OCI_TAG_CHARS_MAX, OCI_TAGS_REFS_MAX, OCI_VERSIONS_SEARCHED_MAX,
    },
    serve,
};
use lode_node::{
    NetworkOptions, Node, NodeOptions,
    tokens::{NewToken, Power},
};
use lode_store::{VersionId, manifest::Links};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";

struct Setup {
    node: Node,
    address: SocketAddr,
    _running: Running,
    files: Vec<(&'static str, Vec<u8>)>,
    version: VersionId,
    gguf: Vec<u8>,
    folder: tempfile::TempDir,
}

fn gguf() -> Vec<u8> {
    let mut file = models::Gguf::default();
    file.text("general.architecture", "llama")
        .u32("general.file_type", 32)
        .f32("general.sampling.temp", 0.6)
        .random("blk.0.ffn_up.weight", models::Type::Bf16, &[64, 512]);
    file.bytes()
}

fn options() -> NodeOptions {
    NodeOptions {
        network: NetworkOptions {
            offline: true,
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            ..NetworkOptions::default()
        },
        ..NodeOptions::default()
    }
}

async fn serve_node(node: &Node, socket: &std::path::Path) -> Running {
    let options = ServeOptions {
        http: Some("127.0.0.1:0".parse().unwrap()),
        socket: socket.to_owned(),
        policy: lode_gateway::policy::Policy::default(),
        tls: None,
    };
    let stop = CancellationToken::new();
    serve(node.clone(), options, stop).await.unwrap()
}

async fn setup() -> Setup {
    setup_with(|_| ()).await
}

/// `acme/tiny` with files of all kinds, and `acme/Smol`, one GGUF file.
async fn setup_with(more: impl FnOnce(&mut Published)) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let files = vec![
        ("LICENSE", b"as you like".to_vec()),
        ("big.dat", noise(1, 3 << 20)),
        ("config.json", b"{}".to_vec()),
        ("empty", Vec::new()),
        ("link.json", b"config.json".to_vec()),
        ("model.safetensors", safetensors(&[("a", &[300, 70])])),
        ("sub/na\u{ef}ve \u{6a21}.txt", b"text".to_vec()),
    ];
    let held: Vec<(&str, Held, &[u8])> = files
        .iter()
        .map(|(path, bytes)| (*path, Held::Pack, &bytes[..]))
        .collect();
    let first = home.push("tiny", &held[..3], &[], &["heads/main", "tags/v0"]);
    let version = home.push("tiny", &held, &[first], &["heads/main", "tags/v1"]);
    let gguf = gguf();
    let base = [
        ("LICENSE", Held::Pack, &b"as you like"[..]),
        ("model.gguf", Held::Whole, &gguf[..]),
    ];
    home.push(
        "Smol",
        &base,
        &[],
        &["heads/main", "tags/v1", "access/public"],
    );
    more(&mut home);
    drop(home);
    let node = Node::open(&folder.path().join("home"), options()).unwrap();
    let running = serve_node(&node, &folder.path().join("control.sock")).await;
    Setup {
        node,
        address: running.http.unwrap(),
        _running: running,
        files,
        version,
        gguf,
        folder,
    }
}

async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Exchange {
    over_http(address, Method::GET, path, headers).await
}

/// Status, and the code of the error.
async fn refused(address: SocketAddr, method: Method, path: &str) -> (u16, String) {
    let mut answer = over_http(address, method, path, &[]).await;
    let status = answer.status();
    assert_eq!(
        answer.header("docker-distribution-api-version"),
        Some("registry/2.0"),
        "{path}"
    );
    let body = answer.json().await;
    let code = body["errors"][0]["code"].as_str();
    (status, code.unwrap_or_default().to_owned())
}

fn digest(bytes: &[u8]) -> String {
    format!(
        "sha256:{}",
        data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
    )
}

/// A manifest by tag, asked for again while something is being made.
async fn manifest(address: SocketAddr, path: &str, accept: &str) -> (Value, Vec<u8>) {
    let start = Instant::now();
    loop {
        let mut answer = get(address, path, &[("accept", accept)]).await;
        if answer.status() == 503 {
            assert!(answer.header("retry-after").is_some());
            assert!(start.elapsed() < Duration::from_secs(60), "{path}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let (status, named) = (
            answer.status(),
            answer.header("docker-content-digest").map(str::to_owned),
        );
        let bytes = answer.bytes().await.unwrap().to_vec();
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&bytes));
        assert_eq!(named, Some(digest(&bytes)));
        return (serde_json::from_slice(&bytes).unwrap(), bytes);
    }
}

/// A blob that a manifest describes, all of it, whose length and digest are what it says.
async fn blob(address: SocketAddr, name: &str, described: &Value) -> Vec<u8> {
    let named = described["digest"].as_str().unwrap();
    let path = format!("/v2/{name}/blobs/{named}");
    let head = over_http(address, Method::HEAD, &path, &[]).await;
    assert_eq!(head.status(), 200, "{path}");
    let size = described["size"].to_string();
    assert_eq!(head.header("content-length"), Some(&size[..]));
    let mut answer = get(address, &path, &[]).await;
    assert_eq!(answer.status(), 200, "{path}");
    assert_eq!(answer.header("docker-content-digest"), Some(named));
    assert_eq!(answer.header("location"), Some(&path[..]));
    let bytes = answer.bytes().await.unwrap().to_vec();
    assert_eq!(
        (digest(&bytes), bytes.len().to_string()),
        (named.to_owned(), size)
    );
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_names_every_file_by_what_its_bytes_hash_to() {
    let setup = setup().await;
    let at = setup.address;
    let (shown, bytes) = manifest(at, "/v2/acme/tiny/manifests/v1", OCI).await;
    assert_eq!(shown["mediaType"], OCI);
    assert_eq!(
        shown["artifactType"],
        "application/vnd.cncf.model.manifest.v1+json"
    );
    assert_eq!(
        shown["annotations"]["org.opencontainers.image.revision"],
        setup.version.to_hex()
    );
    let layers = shown["layers"].as_array().unwrap();
    assert_eq!(layers.len(), setup.files.len());
    for (layer, (path, bytes)) in layers.iter().zip(&setup.files) {
        assert_eq!(
            layer["annotations"]["org.opencontainers.image.title"],
            *path
        );
        assert_eq!(layer["annotations"]["org.cncf.model.filepath"], *path);
        // A link is what it leads to.
        let bytes = if *path == "link.json" {
            b"{}"
        } else {
            &bytes[..]
        };
        assert!(blob(at, "acme/tiny", layer).await == bytes, "{path}");
    }
    let config = blob(at, "acme/tiny", &shown["config"]).await;
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["config"]["format"], "safetensors");
    assert_eq!(
        config["modelfs"]["diffIds"].as_array().unwrap().len(),
        layers.len()
    );
    // By its digest it is the same for ever, and so is the head of either.
    let pinned = format!("/v2/acme/tiny/manifests/{}", digest(&bytes));
    for path in [
        "/v2/acme/tiny/manifests/v1",
        "/v2/acme/tiny/manifests/latest",
        &pinned,
    ] {
        let head = over_http(at, Method::HEAD, path, &[("accept", OCI)]).await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.header("content-type"), Some(OCI));
        assert_eq!(
            head.header("content-length"),
            Some(&bytes.len().to_string()[..])
        );
        assert_eq!(
            head.header("docker-content-digest"),
            Some(&digest(&bytes)[..])
        );
    }
    let mut same = get(at, &pinned, &[]).await;
    assert!(same.bytes().await.unwrap() == bytes);
    assert!(same.header("cache-control").unwrap().contains("immutable"));
    let (older, _) = manifest(at, "/v2/acme/tiny/manifests/v0", OCI).await;
    assert_eq!(older["layers"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_a_blob_are_sent_and_those_past_its_end_refused() {
    let setup = setup().await;
    let big = &setup.files[1].1;
    let path = format!("/v2/acme/tiny/blobs/{}", digest(big));
    let mut part = get(setup.address, &path, &[("range", "bytes=1000000-2000000")]).await;
    assert_eq!(part.status(), 206);
    assert_eq!(
        part.header("content-range"),
        Some("bytes 1000000-2000000/3145728")
    );
    assert!(part.bytes().await.unwrap() == big[1_000_000..=2_000_000]);
    let mut past = get(setup.address, &path, &[("range", "bytes=3145728-")]).await;
    assert_eq!(past.status(), 416);
    assert_eq!(past.json().await["errors"][0]["code"], "RANGE_INVALID");
    // A colon may come encoded.
    let encoded = path.replace(':', "%3A");
    assert_eq!(get(setup.address, &encoded, &[]).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restarted_node_remembers_nothing_of_is_found_again() {
    let setup = setup().await;
    let (shown, bytes) = manifest(setup.address, "/v2/acme/tiny/manifests/v0", OCI).await;
    let anew = serve_node(&setup.node, &setup.folder.path().join("again.sock")).await;
    let at = anew.http.unwrap();
    blob(at, "acme/tiny", &shown["config"]).await;
    let anew = serve_node(&setup.node, &setup.folder.path().join("more.sock")).await;
    let pinned = format!("/v2/acme/tiny/manifests/{}", digest(&bytes));
    assert_eq!(get(anew.http.unwrap(), &pinned, &[]).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_looked_for_in_so_many_versions_and_no_more() {
    let text = |number: usize| format!("of version {number}").into_bytes();
    let setup = setup_with(|home| {
        let mut parents = Vec::new();
        for number in 0..=OCI_VERSIONS_SEARCHED_MAX {
            let bytes = text(number);
            let refs: &[&str] = match number == OCI_VERSIONS_SEARCHED_MAX {
                true => &["heads/main"],
                false => &[],
            };
            let files = [("a.txt", Held::Pack, &bytes[..])];
            parents = vec![home.push("long", &files, &parents, refs)];
        }
    });
    let setup = setup.await;
    for (number, status) in [(OCI_VERSIONS_SEARCHED_MAX, 200), (1, 200), (0, 404)] {
        let path = format!("/v2/acme/long/blobs/{}", digest(&text(number)));
        let answer = get(setup.address, &path, &[]).await;
        assert_eq!(answer.status(), status, "of version {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_looked_for_in_so_many_versions_and_no_more() {
    let tag = |number: usize| format!("t{number:02}");
    let setup = setup_with(|home| {
        for number in 0..=OCI_MANIFESTS_SEARCHED_MAX {
            let bytes = format!("of version {number}").into_bytes();
            let files = [("a.txt", Held::Pack, &bytes[..])];
            home.push("wide", &files, &[], &[&format!("tags/{}", tag(number))]);
        }
    });
    let setup = setup.await;
    let mut digests = Vec::new();
    for number in 0..=OCI_MANIFESTS_SEARCHED_MAX {
        let path = format!("/v2/acme/wide/manifests/{}", tag(number));
        digests.push(digest(&manifest(setup.address, &path, OCI).await.1));
    }
    let anew = serve_node(&setup.node, &setup.folder.path().join("again.sock")).await;
    for (number, digest) in digests.iter().enumerate() {
        let path = format!("/v2/acme/wide/manifests/{digest}");
        let status = get(anew.http.unwrap(), &path, &[]).await.status();
        let found = number < OCI_MANIFESTS_SEARCHED_MAX;
        assert_eq!(status, if found { 200 } else { 404 }, "of version {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_branches_and_tags_have_their_variants_listed() {
    let tag = |number: usize| format!("t{number:02}");
    let setup = setup_with(|home| {
        let bytes = gguf();
        let files = [("model.gguf", Held::Whole, &bytes[..])];
        let version = home.push("many", &files, &[], &["heads/main"]);
        // With the branch, one more than have theirs listed.
        for number in 0..OCI_TAGS_REFS_MAX {
            home.point("many", &format!("tags/{}", tag(number)), version);
        }
    });
    let setup = setup.await;
    let (last, over) = (tag(OCI_TAGS_REFS_MAX - 2), tag(OCI_TAGS_REFS_MAX - 1));
    let path = format!(
        "/v2/acme/many/tags/list?last={}",
        tag(OCI_TAGS_REFS_MAX - 3)
    );
    let shown = get(setup.address, &path, &[]).await.json().await;
    let shown: Vec<String> = serde_json::from_value(shown["tags"].clone()).unwrap();
    let has = |tag: String| shown.contains(&tag);
    assert!(
        has(last.clone()) && has(format!("{last}--q4_k_m")),
        "{shown:?}"
    );
    assert!(
        has(over.clone()) && !has(format!("{over}--q4_k_m")),
        "{shown:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_says_that_it_is_one_and_takes_nothing() {
    let setup = setup().await;
    let at = setup.address;
    for path in ["/v2/", "/v2"] {
        let answer = get(at, path, &[]).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.header("docker-distribution-api-version"),
            Some("registry/2.0")
        );
    }
    let blob = format!("/v2/acme/tiny/blobs/{}", digest(b""));
    for (method, path) in [
        (Method::POST, "/v2/acme/tiny/blobs/uploads/"),
        (Method::POST, "/v2/acme/tiny/blobs/uploads"),
        (Method::PUT, "/v2/acme/tiny/manifests/v1"),
        (Method::DELETE, "/v2/acme/tiny/manifests/v1"),
        (Method::DELETE, &blob),
    ] {
        let found = refused(at, method, path).await;
        assert_eq!(found, (405, "UNSUPPORTED".to_owned()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_a_name_is_said_in_the_registrys_words() {
    let setup = setup().await;
    let (sha512, unknown) = ("a".repeat(128), "a".repeat(64));
    let long = "a".repeat(OCI_TAG_CHARS_MAX + 1);
    for (path, status, code) in [
        ("acme/none/manifests/v1".to_owned(), 404, "NAME_UNKNOWN"),
        ("acme/none/tags/list".to_owned(), 404, "NAME_UNKNOWN"),
        ("acme/tiny/manifests/v9".to_owned(), 404, "MANIFEST_UNKNOWN"),
        (
            "acme/tiny/manifests/v1--q9".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (format!("acme/tiny/manifests/{long}"), 400, "TAG_INVALID"),
        ("acme/tiny/manifests/a%2Fb".to_owned(), 400, "TAG_INVALID"),
        ("acme/tiny/manifests/.v1".to_owned(), 400, "TAG_INVALID"),
        (
            format!("acme/tiny/manifests/sha512:{sha512}"),
            400,
            "DIGEST_INVALID",
        ),
        (
            format!("acme/tiny/manifests/sha256:{unknown}"),
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            format!("acme/tiny/blobs/sha256:{unknown}"),
            404,
            "BLOB_UNKNOWN",
        ),
        (
            format!("acme/tiny/blobs/sha512:{sha512}"),
            400,
            "DIGEST_INVALID",
        ),
        ("acme/tiny/blobs/v1".to_owned(), 400, "DIGEST_INVALID"),
        ("acme%2Ftiny/manifests/v1".to_owned(), 404, "NAME_UNKNOWN"),
        ("tiny/manifests/v1".to_owned(), 404, "NAME_UNKNOWN"),
        (
            "acme/tiny/tags/list?n=x".to_owned(),
            400,
            "PAGINATION_NUMBER_INVALID",
        ),
        ("acme/tiny/referrers/x".to_owned(), 404, "NAME_UNKNOWN"),
        ("_catalog".to_owned(), 404, "NAME_UNKNOWN"),
    ] {
        let path = format!("/v2/{path}");
        let found = refused(setup.address, Method::GET, &path).await;
        assert_eq!(found, (status, code.to_owned()), "{path}");
    }
    let most = "a".repeat(OCI_TAG_CHARS_MAX);
    let path = format!("/v2/acme/tiny/manifests/{most}");
    let found = refused(setup.address, Method::GET, &path).await;
    assert_eq!(found, (404, "MANIFEST_UNKNOWN".to_owned()));
    // The blob of one model is not another's.
    let big = digest(&setup.files[1].1);
    let found = refused(
        setup.address,
        Method::GET,
        &format!("/v2/acme/Smol/blobs/{big}"),
    )
    .await;
    assert_eq!(found, (404, "BLOB_UNKNOWN".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_come_in_order_and_in_pages() {
    let setup = setup().await;
    let at = setup.address;
    let whole = get(at, "/v2/acme/tiny/tags/list", &[]).await.json().await;
    assert_eq!(whole["name"], "acme/tiny");
    let whole: Vec<String> = serde_json::from_value(whole["tags"].clone()).unwrap();
    assert!(whole.is_sorted());
    for tag in ["latest", "main", "v0", "v1", "v1--fp8", "fp8"] {
        assert!(whole.iter().any(|found| found == tag), "{tag} of {whole:?}");
    }
    let (mut found, mut next) = (Vec::new(), Some("/v2/acme/tiny/tags/list?n=3".to_owned()));
    while let Some(path) = next {
        let mut answer = get(at, &path, &[]).await;
        next = answer.header("link").map(|link| {
            let link = link.strip_suffix(">; rel=\"next\"").unwrap();
            link.strip_prefix('<').unwrap().to_owned()
        });
        let page: Vec<String> =
            serde_json::from_value(answer.json().await["tags"].clone()).unwrap();
        assert!(page.len() == 3 || next.is_none());
        found.extend(page);
    }
    assert_eq!(found, whole);
    let none = get(at, "/v2/acme/tiny/tags/list?n=0", &[])
        .await
        .json()
        .await;
    assert_eq!(none["tags"], json!([]));
    let variants = get(at, "/v2/acme/smol-gguf/tags/list", &[])
        .await
        .json()
        .await;
    assert_eq!(variants["name"], "acme/smol-gguf");
    let variants = variants["tags"].as_array().unwrap();
    assert!(variants.contains(&json!("q4_k_m")) && variants.contains(&json!("v1--q8_0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn case_does_not_count_since_registries_have_none() {
    let setup = setup().await;
    for name in ["acme/smol", "ACME/SMOL", "acme/Smol"] {
        let path = format!("/v2/{name}/manifests/v1");
        let (shown, _) = manifest(setup.address, &path, OCI).await;
        let layers = shown["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2);
        assert!(blob(setup.address, name, &layers[1]).await == setup.gguf);
    }
}

/// The requests of Ollama's client (`server/download.go`), in its order.
#[tokio::test(flavor = "multi_thread")]
async fn ollama_pulls_a_variant_that_nobody_ever_stored() {
    let setup = setup().await;
    let at = setup.address;
    let first = get(at, "/v2/acme/smol/manifests/q4_k_m", &[("accept", DOCKER)]).await;
    assert_eq!(first.status(), 503);
    let path = "/v2/acme/smol/manifests/q4_k_m";
    let (shown, _) = manifest(at, path, DOCKER).await;
    assert_eq!(
        (&shown["schemaVersion"], &shown["mediaType"]),
        (&json!(2), &json!(DOCKER))
    );
    let config = blob(at, "acme/smol", &shown["config"]).await;
    let config: Value = serde_json::from_slice(&config).unwrap();
    let expected = [
        ("model_format", json!("gguf")),
        ("model_family", json!("llama")),
        ("model_families", json!(["llama"])),
        ("model_type", json!("32.7K")),
        ("file_type", json!("Q4_K_M")),
    ];
    for (key, value) in expected {
        assert_eq!(config[key], value, "{key}");
    }
    let layers = shown["layers"].as_array().unwrap();
    let types: Vec<&str> = layers
        .iter()
        .map(|layer| layer["mediaType"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        [
            "application/vnd.ollama.image.model",
            "application/vnd.ollama.image.license",
            "application/vnd.ollama.image.params",
        ]
    );
    let whole = blob(at, "acme/smol", &layers[0]).await;
    assert!(blob(at, "acme/smol", &layers[1]).await == b"as you like");
    assert!(blob(at, "acme/smol", &layers[2]).await == br#"{"temperature":0.6}"#);
    // Parts, as its sixteen downloads ask for them.
    let path = format!(
        "/v2/acme/smol/blobs/{}",
        layers[0]["digest"].as_str().unwrap()
    );
    let mut part = get(at, &path, &[("range", "bytes=100-1099")]).await;
    assert_eq!(part.status(), 206);
    assert!(part.bytes().await.unwrap() == whole[100..1100]);
    // They are the bytes that every other door sends.
    let native = "/lode/v1/models/acme/Smol/main:q4_k_m/files/model.gguf";
    assert!(get(at, native, &[]).await.bytes().await.unwrap() == whole);
    // It is kept from now on: a node started anew knows it, by tag and by digest.
    let anew = serve_node(&setup.node, &setup.folder.path().join("again.sock")).await;
    let at = anew.http.unwrap();
    assert!(blob(at, "acme/smol", &layers[0]).await == whole);
    for path in [
        "/v2/acme/smol/manifests/main--q4_k_m",
        "/v2/acme/smol/manifests/v1--Q4_K_M",
        "/v2/acme/smol-gguf/manifests/latest",
        "/v2/acme/Smol-GGUF/manifests/q4_k_m",
    ] {
        let mut again = get(
            at,
            path,
            &[("user-agent", "ollama/0.12"), ("accept", DOCKER)],
        )
        .await;
        assert_eq!(again.status(), 200, "{path}");
        let again = again.json().await;
        // A model that has a GGUF file of its own gives that where no variant is named.
        let layer = &again["layers"][0]["digest"];
        match path.ends_with("latest") {
            true => assert_eq!(*layer, digest(&setup.gguf)),
            false => assert_eq!(layer, &layers[0]["digest"], "{path}"),
        }
    }
    // The same for ModelPack, and Docker's types for who asks for them.
    let (packed, _) = manifest(at, "/v2/acme/smol/manifests/q4_k_m", OCI).await;
    let packed = packed["layers"].as_array().unwrap();
    let model = packed
        .iter()
        .find(|layer| layer["mediaType"] == "application/vnd.cncf.model.weight.v1.raw");
    assert_eq!(model.unwrap()["digest"], layers[0]["digest"]);
    let docker = format!("{OCI}, application/vnd.docker.ai.model.config.v0.1+json");
    let (docker, _) = manifest(at, "/v2/acme/smol/manifests/q4_k_m", &docker).await;
    assert_eq!(
        docker["layers"][0]["mediaType"],
        "application/vnd.docker.ai.gguf.v3"
    );
    let config = blob(at, "acme/smol", &docker["config"]).await;
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["config"]["quantization"], "Q4_K_M");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_is_said_and_not_tried_at_once_again() {
    let setup = setup_with(|home| {
        // Its source is nowhere.
        let gguf = gguf();
        let file = [("model.gguf", Held::Nowhere, &gguf[..])];
        home.push("gone", &file, &[], &["heads/main"]);
    })
    .await;
    let found = refused(setup.address, Method::GET, "/v2/acme/gone/manifests/q8_0").await;
    assert_eq!(found, (503, "UNAVAILABLE".to_owned()));
    let found = refused(
        setup.address,
        Method::GET,
        "/v2/acme/smol/manifests/main--bf16",
    )
    .await;
    // A variant of the precision that the file has.
    assert!(matches!(found.0, 404 | 503), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_a_model_is_told_how_to_show_a_token() {
    let setup = setup().await;
    let new = NewToken {
        name: None,
        power: Power::Read,
        models: vec!["acme/tiny".parse().unwrap()],
        expires_seconds: None,
    };
    let (secret, _) = setup.node.tokens().create(new).unwrap();
    let at = setup.address;
    for path in [
        "/v2/",
        "/v2/acme/tiny/manifests/v1",
        "/v2/acme/none/manifests/v1",
    ] {
        let mut answer = get(at, path, &[]).await;
        assert_eq!(answer.status(), 401, "{path}");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("Basic realm=\"lode\"")
        );
        assert_eq!(answer.json().await["errors"][0]["code"], "UNAUTHORIZED");
    }
    // What is public is anyone's.
    assert_eq!(
        get(at, "/v2/acme/smol/manifests/v1", &[]).await.status(),
        200
    );
    let shown = format!("user:{}", secret.expose());
    let basic = format!("Basic {}", data_encoding::BASE64.encode(shown.as_bytes()));
    for path in ["/v2/", "/v2/acme/tiny/manifests/v1"] {
        let answer = get(at, path, &[("authorization", &basic)]).await;
        assert_eq!(answer.status(), 200, "{path}");
    }
    let big = format!("/v2/acme/tiny/blobs/{}", digest(&setup.files[1].1));
    assert_eq!(
        get(at, &big, &[("authorization", &basic)]).await.status(),
        200
    );
    // Knowing a digest is not being let in.
    assert_eq!(get(at, &big, &[]).await.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_only_a_peer_holds_streams_through() {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let (big, gguf) = (noise(7, 20 << 20), gguf());
    let files = [
        ("big.bin", Held::Whole, &big[..]),
        ("config.json", Held::Pack, b"{}"),
        ("model.gguf", Held::Whole, &gguf),
    ];
    home.push("tiny", &files, &[], &["heads/main", "tags/v1"]);
    let mut peer = Origin::start(&home.store).await;
    let node = Node::open(&folder.path().join("node"), options()).unwrap();
    peer.known_to(&node);
    let running = serve_node(&node, &folder.path().join("control.sock")).await;
    let at = running.http.unwrap();
    let name = format!("{}/tiny", home.publisher);
    let (shown, _) = manifest(at, &format!("/v2/{name}/manifests/v1"), OCI).await;
    let layers = shown["layers"].as_array().unwrap();
    assert!(blob(at, &name, &layers[2]).await == gguf);
    let path = format!("/v2/{name}/blobs/{}", digest(&big));
    let mut part = get(at, &path, &[("range", "bytes=5000000-5999999")]).await;
    assert_eq!(part.status(), 206);
    assert!(part.bytes().await.unwrap() == big[5_000_000..6_000_000]);
    assert!(
        peer.gate.sent() < big.len() as u64,
        "a part does not fetch the whole"
    );
    let (made, _) = manifest(at, &format!("/v2/{name}/manifests/q8_0"), DOCKER).await;
    let made = blob(at, &name, &made["layers"][0]).await;
    assert!(made.starts_with(b"GGUF"));
    peer.leave().await;
    let lost = get(at, &path, &[]).await;
    assert_eq!(lost.status(), 503);
    assert!(lost.header("retry-after").is_some());
    let head = over_http(at, Method::HEAD, &path, &[]).await;
    assert_eq!(head.status(), 200, "a head needs no bytes");
}

/// The publisher's claim names the bytes, so the manifest is known at once; whoever has them is not needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_nobody_serves_is_made_here() {
    let native = "/lode/v1/models/acme/Smol/main:q4_k_m/files/model.gguf";
    let first = setup().await;
    let made = get(first.address, native, &[]).await.bytes().await.unwrap();
    let claim = |home: &mut Published, bytes: &[u8]| {
        let refs = home.store.ref_set(&home.publisher, "Smol").unwrap();
        let base = refs.resolve("heads/main").served().unwrap();
        let recipe = lode_quantize::Recipe::named("q4_k_m", ["model.gguf"]).unwrap();
        let links = Links {
            base: vec![base],
            recipe: Some(recipe.encode().into()),
            ..Links::default()
        };
        let files = [("model.gguf", Held::Nowhere, bytes)];
        let claimed = format!("variants/{base}+{recipe}");
        home.push_linked("Smol", &files, &[], &[&claimed], links);
    };
    let setup = setup_with(|home| claim(home, &made)).await;
    let path = "/v2/acme/smol/manifests/q4_k_m";
    let answer = get(setup.address, path, &[("accept", DOCKER)]).await;
    assert_eq!(answer.status(), 200, "the claim says the digest");
    let (shown, _) = manifest(setup.address, path, DOCKER).await;
    let layer = &shown["layers"][0];
    assert_eq!(layer["digest"], digest(&made));
    assert!(blob(setup.address, "acme/smol", layer).await == made);
    // A claim of another length is none: it is made here to find out.
    let setup = setup_with(|home| claim(home, &made[1..])).await;
    let answer = get(setup.address, path, &[("accept", DOCKER)]).await;
    assert_eq!(answer.status(), 503);
    let (shown, _) = manifest(setup.address, path, DOCKER).await;
    assert_eq!(shown["layers"][0]["digest"], digest(&made));
}
