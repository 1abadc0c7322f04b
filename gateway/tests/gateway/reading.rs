//! What a client of the native dialect is promised, over real connections to a real home: bytes, heads
//! and refusals of every route.

use std::net::SocketAddr;

use crate::client::{Exchange, over_http};
use crate::published::{Dice, Held, Published, noise, safetensors};
use http_body_util::BodyExt;
use hyper::Method;
use lode_gateway::{
    Running, ServeOptions,
    control::{Backend, Run},
    limits::{CHUNK_ROWS_MAX, RANGES_MAX},
    serve,
};
use lode_node::{EventSink, command::Command, read::Reads};
use lode_store::{ChunkHash, VersionId, outboard::Outboard};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

/// Serves a home; takes no commands.
struct Home(Reads);

impl Backend for Home {
    fn run(&self, _: Command, _: EventSink) -> Run<'_> {
        unreachable!("no command is sent")
    }

    fn reads(&self) -> &Reads {
        &self.0
    }
}

struct Setup {
    home: Published,
    address: SocketAddr,
    version: VersionId,
    big: Vec<u8>,
    model: Vec<u8>,
    _running: Running,
    _folder: tempfile::TempDir,
}

const ROWS: &[(&str, &[u64])] = &[("a", &[300, 70]), ("b/c", &[5]), ("e", &[4, 3, 5])];

async fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let (big, model) = (noise(1, 5_000_000), safetensors(ROWS));
    let outside = noise(2, 3_000_000);
    let other = safetensors(&[("a", &[2])]);
    let files: [(&str, Held, &[u8]); 9] = [
        ("big.bin", Held::Whole, &big),
        ("outside.bin", Held::Outside, &outside),
        ("config.json", Held::Pack, b"{\"a\":1}"),
        ("empty", Held::Pack, b""),
        ("link.json", Held::Pack, b"config.json"),
        ("lost.bin", Held::Nowhere, &noise(3, 3_000_000)),
        ("model.safetensors", Held::Whole, &model),
        ("other.safetensors", Held::Pack, &other),
        ("sub/naïve 模型.txt", Held::Pack, b"text"),
    ];
    let version = home.push("tiny", &files, &[], &["heads/main", "tags/v1"]);
    let options = ServeOptions {
        http: Some("127.0.0.1:0".parse().unwrap()),
        socket: folder.path().join("control.sock"),
        policy: lode_gateway::policy::Policy::default(),
        tls: None,
    };
    let backend = Home(Reads::new(home.store.clone()));
    let running = serve(backend, options, CancellationToken::new())
        .await
        .unwrap();
    let address = running.http.unwrap();
    Setup {
        home,
        address,
        version,
        big,
        model,
        _running: running,
        _folder: folder,
    }
}

impl Setup {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Exchange {
        over_http(self.address, Method::GET, path, headers).await
    }

    async fn head(&self, path: &str, headers: &[(&str, &str)]) -> Exchange {
        over_http(self.address, Method::HEAD, path, headers).await
    }

    /// Status, and the body when it is one.
    async fn bytes(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Vec<u8>) {
        let mut answer = self.get(path, headers).await;
        (answer.status(), answer.bytes().await.unwrap().to_vec())
    }

    fn file(&self, path: &str) -> String {
        format!("/lode/v1/models/acme/tiny/v1/files/{path}")
    }

    fn tensor(&self, name: &str) -> String {
        format!("/lode/v1/models/acme/tiny/v1/tensors/{name}")
    }
}

#[tokio::test]
async fn a_file_comes_whole_with_its_head() {
    let setup = setup().await;
    let mut answer = setup.get(&setup.file("big.bin"), &[]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-length"), Some("5000000"));
    assert_eq!(answer.header("accept-ranges"), Some("bytes"));
    assert_eq!(
        answer.header("lode-version"),
        Some(setup.version.to_hex().as_str())
    );
    let sha256 = Sha256::digest(&setup.big);
    let hex: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(answer.header("etag"), Some(format!("\"{hex}\"").as_str()));
    assert!(
        answer
            .header("repr-digest")
            .unwrap()
            .starts_with("sha-256=:")
    );
    let disposition = "attachment; filename=\"big.bin\"; filename*=UTF-8''big.bin";
    assert_eq!(answer.header("content-disposition"), Some(disposition));
    assert!(answer.bytes().await.unwrap() == setup.big);
}

#[tokio::test]
async fn any_range_of_a_file_is_its_bytes() {
    let setup = setup().await;
    let seed = std::process::id().into();
    let mut dice = Dice::new(seed);
    for (path, bytes) in [
        ("big.bin", &setup.big),
        ("outside.bin", &noise(2, 3_000_000)),
    ] {
        let len = bytes.len() as u64;
        for _ in 0..40 {
            let start = dice.below(len);
            let end = (start + 1 + dice.below(1_500_000)).min(len);
            let range = format!("bytes={start}-{}", end - 1);
            let mut answer = setup.get(&setup.file(path), &[("range", &range)]).await;
            assert_eq!(answer.status(), 206, "{path} {range}");
            let expected = format!("bytes {start}-{}/{len}", end - 1);
            assert_eq!(answer.header("content-range"), Some(expected.as_str()));
            let found = answer.bytes().await.unwrap();
            assert!(
                found == bytes[start as usize..end as usize],
                "{path} {range}, seed {seed}"
            );
        }
    }
    let (status, bytes) = setup
        .bytes(&setup.file("big.bin"), &[("range", "bytes=-17")])
        .await;
    assert_eq!(
        (status, bytes.as_slice()),
        (206, &setup.big[setup.big.len() - 17..])
    );
}

#[tokio::test]
async fn several_ranges_come_in_parts() {
    let setup = setup().await;
    let headers = [("range", "bytes=4000000-4000009,0-99,50-199,-3")];
    let mut answer = setup.get(&setup.file("big.bin"), &headers).await;
    assert_eq!(answer.status(), 206);
    let kind = answer.header("content-type").unwrap().to_owned();
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap()
        .to_owned();
    let length: usize = answer.header("content-length").unwrap().parse().unwrap();
    let body = answer.bytes().await.unwrap();
    assert_eq!(body.len(), length);
    let mut expected = Vec::new();
    for (start, end) in [(4_000_000, 4_000_010), (0, 200), (4_999_997, 5_000_000)] {
        let lead = if expected.is_empty() { "" } else { "\r\n" };
        let head = format!(
            "{lead}--{boundary}\r\nContent-Type: application/octet-stream\r\n\
             Content-Range: bytes {start}-{}/5000000\r\n\r\n",
            end - 1
        );
        expected.extend(head.into_bytes());
        expected.extend(&setup.big[start..end]);
    }
    expected.extend(format!("\r\n--{boundary}--\r\n").into_bytes());
    assert!(body == expected);
}

#[tokio::test]
async fn ranges_that_do_not_exist_are_416_with_the_length() {
    let setup = setup().await;
    let many: Vec<String> = (0..=RANGES_MAX)
        .map(|at| format!("{0}-{0}", at * 2))
        .collect();
    for range in [
        "bytes=5000000-",
        "bytes=-0",
        &format!("bytes={}", many.join(",")),
    ] {
        let answer = setup.get(&setup.file("big.bin"), &[("range", range)]).await;
        assert_eq!(answer.status(), 416, "{range}");
        assert_eq!(answer.header("content-range"), Some("bytes */5000000"));
    }
    let (status, bytes) = setup
        .bytes(&setup.file("empty"), &[("range", "bytes=0-")])
        .await;
    assert_eq!((status, bytes.len()), (200, 0));
}

#[tokio::test]
async fn a_resumed_download_never_mixes_two_files() {
    let setup = setup().await;
    let path = setup.file("big.bin");
    let tag = setup
        .head(&path, &[])
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    let range = ("range", "bytes=1000-");
    let (status, bytes) = setup.bytes(&path, &[range, ("if-range", &tag)]).await;
    assert_eq!((status, bytes.as_slice()), (206, &setup.big[1000..]));
    let (status, bytes) = setup
        .bytes(&path, &[range, ("if-range", "\"other\"")])
        .await;
    assert!(status == 200 && bytes == setup.big);
    let mut answer = setup.get(&path, &[("if-none-match", &tag)]).await;
    assert_eq!(
        (answer.status(), answer.header("etag")),
        (304, Some(tag.as_str()))
    );
    assert!(answer.bytes().await.unwrap().is_empty());
    assert_eq!(
        setup
            .get(&path, &[("if-match", "\"other\"")])
            .await
            .status(),
        412
    );
}

#[tokio::test]
async fn head_is_the_head_of_get_and_reads_nothing() {
    let setup = setup().await;
    for path in ["big.bin", "empty", "lost.bin", "config.json"] {
        let mut answer = setup
            .head(&setup.file(path), &[("range", "bytes=0-0")])
            .await;
        assert_eq!(answer.status(), 200, "{path}");
        let length: u64 = answer.header("content-length").unwrap().parse().unwrap();
        assert_eq!(length == 0, path == "empty");
        assert!(answer.bytes().await.unwrap().is_empty());
    }
    let tensor = setup.head(&setup.tensor("e"), &[]).await;
    assert_eq!(
        (tensor.status(), tensor.header("content-length")),
        (200, Some("240"))
    );
    assert_eq!(
        setup
            .head("/lode/v1/models/acme/tiny/v1/files", &[])
            .await
            .status(),
        200
    );
}

#[tokio::test]
async fn bytes_that_are_not_held_are_503_and_never_404() {
    let setup = setup().await;
    let mut answer = setup
        .get(&setup.file("lost.bin"), &[("range", "bytes=5-6")])
        .await;
    assert_eq!(answer.status(), 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.json().await["error"]["kind"], "no_peer");
    std::fs::write(setup.home.outside("outside.bin"), noise(9, 3_000_000)).unwrap();
    let (status, _) = setup.bytes(&setup.file("outside.bin"), &[]).await;
    assert_eq!(status, 503, "an outside file that changed");
}

#[tokio::test]
async fn an_outside_file_that_changes_while_it_is_sent_cuts_the_connection() {
    let setup = setup().await;
    let mut answer = setup.get(&setup.file("outside.bin"), &[]).await;
    assert_eq!(answer.status(), 200);
    let first = answer
        .response
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_data()
        .unwrap();
    let before = noise(2, 3_000_000);
    assert!(before.starts_with(&first));
    let mut changed = before.clone();
    changed[1_400_000..].fill(7);
    std::fs::write(setup.home.outside("outside.bin"), &changed).unwrap();
    let mut found = first.to_vec();
    let whole = loop {
        match answer.response.frame().await {
            Some(Ok(frame)) => found.extend(frame.into_data().unwrap()),
            Some(Err(_)) => break false,
            None => break true,
        }
    };
    // What was read before the change may all have been sent; nothing of the change was.
    assert!(before.starts_with(&found));
    assert_eq!(whole, found.len() == before.len());
    assert!(
        !whole,
        "a step is 512 KiB, so the end was read after the change"
    );
}

#[tokio::test]
async fn what_an_address_names_is_forgotten_when_the_home_changes() {
    let mut setup = setup().await;
    let (old, new) = (setup.big.clone(), noise(20, 5_000_000));
    let main = |path: &str| format!("/lode/v1/models/acme/tiny/main/{path}");
    let range = [("range", "bytes=4000000-4016383")];
    for _ in 0..3 {
        let (status, bytes) = setup.bytes(&main("files/big.bin"), &range).await;
        assert_eq!((status, &bytes[..]), (206, &old[4_000_000..4_016_384]));
        assert_eq!(setup.bytes(&main("tensors/b/c"), &[]).await.0, 200);
    }
    let files: [(&str, Held, &[u8]); 1] = [("big.bin", Held::Whole, &new)];
    let parents = [setup.version];
    let version = setup.home.push("tiny", &files, &parents, &["heads/main"]);
    let mut answer = setup.get(&main("files/big.bin"), &range).await;
    assert_eq!(answer.header("lode-version").unwrap(), version.to_hex());
    assert_eq!(answer.bytes().await.unwrap(), new[4_000_000..4_016_384]);
    assert_eq!(setup.bytes(&main("tensors/b/c"), &[]).await.0, 404);
    let (status, bytes) = setup.bytes(&setup.file("big.bin"), &range).await;
    assert_eq!((status, &bytes[..]), (206, &old[4_000_000..4_016_384]));
}

#[tokio::test]
async fn an_outside_file_that_changes_between_short_reads_is_not_served_any_more() {
    let setup = setup().await;
    let (path, range) = (setup.file("outside.bin"), [("range", "bytes=5-16388")]);
    for _ in 0..3 {
        let (status, bytes) = setup.bytes(&path, &range).await;
        assert_eq!(
            (status, bytes),
            (206, noise(2, 3_000_000)[5..16_389].to_vec())
        );
    }
    let mut changed = noise(2, 3_000_000);
    changed[2_000_000] ^= 1;
    std::fs::write(setup.home.outside("outside.bin"), &changed).unwrap();
    for _ in 0..2 {
        assert_eq!(setup.bytes(&path, &range).await.0, 503);
    }
}

#[tokio::test]
async fn links_lead_to_their_target() {
    let setup = setup().await;
    let mut answer = setup.get(&setup.file("link.json"), &[]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("lode-link"), Some("config.json"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.bytes().await.unwrap(), "{\"a\":1}");
}

#[tokio::test]
async fn names_of_any_script_are_reached_however_they_are_encoded() {
    let setup = setup().await;
    for path in [
        "sub/na%C3%AFve%20%E6%A8%A1%E5%9E%8B.txt",
        "sub%2Fna%C3%AFve%20%E6%A8%A1%E5%9E%8B.txt",
    ] {
        let (status, bytes) = setup.bytes(&setup.file(path), &[]).await;
        assert_eq!((status, bytes.as_slice()), (200, &b"text"[..]), "{path}");
    }
}

#[tokio::test]
async fn what_is_absent_is_404_whatever_is_missing() {
    let setup = setup().await;
    for path in [
        "/none",
        "/lode/v1/models/acme/none",
        "/lode/v1/models/nobody/tiny",
        "/lode/v1/models/acme/tiny/v2",
        "/lode/v1/models/acme/tiny/v1/files/none",
        "/lode/v1/models/acme/tiny/v1/files/sub",
        "/lode/v1/models/acme/tiny/v1/files/../../../../../etc/passwd",
        "/lode/v1/models/acme/tiny/v1/tensors/none",
        "/lode/v1/models/acme%2Ftiny/v1",
        &format!("/lode/v1/models/acme/tiny/{}", "0".repeat(64)),
    ] {
        let mut answer = setup.get(path, &[]).await;
        assert_eq!(answer.status(), 404, "{path}");
        assert_eq!(answer.json().await["error"]["kind"], "not_found");
    }
    let missing = format!("/lode/v1/chunks/{}", "0".repeat(64));
    assert_eq!(setup.get(&missing, &[]).await.status(), 404);
    assert_eq!(setup.get("/lode/v1/chunks/xyz", &[]).await.status(), 400);
    assert_eq!(
        setup.get("/lode/v1/models/acme/%zz", &[]).await.status(),
        400
    );
}

#[tokio::test]
async fn models_versions_and_files_are_listed() {
    let setup = setup().await;
    let list = setup.get("/lode/v1/models", &[]).await.json().await;
    let row = &list["models"][0];
    assert_eq!(row["name"], "acme/tiny");
    assert_eq!(row["version"], setup.version.to_hex());
    assert_eq!(row["public"], false);
    let url = row["url"].as_str().unwrap();
    let model = setup.get(url, &[]).await.json().await;
    assert_eq!(model["refs"][0]["name"], "main");
    assert_eq!(model["refs"][1]["kind"], "tag");
    let by_key = format!("/lode/v1/models/{}/tiny", setup.home.publisher);
    assert_eq!(
        setup.get(&by_key, &[]).await.json().await["name"],
        "acme/tiny"
    );
    for rev in [
        "main",
        "v1",
        &setup.version.to_hex(),
        &setup.version.to_hex()[..8],
    ] {
        let version = setup.get(&format!("{url}/{rev}"), &[]).await.json().await;
        assert_eq!(version["version"], setup.version.to_hex());
        assert_eq!(version["files"], 9);
        assert_eq!(version["message"], "a message");
    }
    let mut answer = setup.get(&format!("{url}/v1/files"), &[]).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let tag = answer.header("etag").unwrap().to_owned();
    let again = [("if-none-match", tag.as_str())];
    let unchanged = setup.get(&format!("{url}/main/files"), &again).await;
    assert_eq!(unchanged.status(), 304, "another rev with the same tree");
    let files = answer.json().await;
    let rows = files["files"].as_array().unwrap();
    assert_eq!(rows.len(), 9);
    assert!(
        rows.iter()
            .any(|row| row["path"] == "sub/naïve 模型.txt" && row["mode"] == "file")
    );
    assert!(
        rows.iter()
            .any(|row| row["path"] == "link.json" && row["mode"] == "link")
    );
}

#[tokio::test]
async fn only_addresses_of_one_version_may_be_kept_for_ever() {
    let setup = setup().await;
    let id = setup.version.to_hex();
    for (rev, immutable) in [
        ("main", false),
        ("v1", false),
        (&id[..8], false),
        (&id, true),
    ] {
        let path = format!("/lode/v1/models/acme/tiny/{rev}/files/config.json");
        let answer = setup.head(&path, &[]).await;
        let caching = answer.header("cache-control").unwrap();
        assert_eq!(caching.contains("immutable"), immutable, "{rev}: {caching}");
        assert!(caching.starts_with("private"));
    }
}

#[tokio::test]
async fn tensors_are_listed_and_sent_with_type_and_shape() {
    let setup = setup().await;
    let list = setup
        .get("/lode/v1/models/acme/tiny/v1/tensors", &[])
        .await
        .json()
        .await;
    let rows = list["tensors"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    let row = rows.iter().find(|row| row["name"] == "b/c").unwrap();
    let (offset, size) = (
        row["offset"].as_u64().unwrap(),
        row["size"].as_u64().unwrap(),
    );
    let expected = &setup.model[offset as usize..(offset + size) as usize];
    for name in ["b/c", "b%2Fc"] {
        let mut answer = setup.get(&setup.tensor(name), &[]).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("lode-dtype"), Some("F32"));
        assert_eq!(answer.header("lode-shape"), Some("[5]"));
        assert_eq!(answer.header("lode-file"), Some("model.safetensors"));
        assert_eq!(
            answer.header("lode-offset"),
            Some(offset.to_string().as_str())
        );
        assert_eq!(answer.bytes().await.unwrap(), expected);
    }
    let (status, bytes) = setup
        .bytes(&setup.tensor("b/c"), &[("range", "bytes=4-7")])
        .await;
    assert_eq!((status, bytes.as_slice()), (206, &expected[4..8]));
    let files = "/lode/v1/models/acme/tiny/v1/tensors?file=other.safetensors";
    let list = setup.get(files, &[]).await.json().await;
    assert_eq!(list["tensors"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn rows_are_cut_along_the_outermost_dimension() {
    let setup = setup().await;
    let (_, all) = setup.bytes(&setup.tensor("e"), &[]).await;
    let mut answer = setup.get(&setup.tensor("e?rows=1..3"), &[]).await;
    assert_eq!(answer.header("lode-shape"), Some("[2,3,5]"));
    assert_eq!(answer.header("content-length"), Some("120"));
    assert_eq!(answer.bytes().await.unwrap(), &all[60..180]);
    let (status, bytes) = setup
        .bytes(&setup.tensor("e?rows=..1"), &[("range", "bytes=-4")])
        .await;
    assert_eq!((status, bytes.as_slice()), (206, &all[56..60]));
    let (status, bytes) = setup.bytes(&setup.tensor("e?rows=4..4"), &[]).await;
    assert_eq!((status, bytes.len()), (200, 0));
    for (rows, status) in [
        ("2..9", 416),
        ("3..1", 416),
        ("99999999999999999999..", 416),
        ("x", 400),
        ("1", 400),
        ("-1..2", 400),
    ] {
        let path = setup.tensor(&format!("e?rows={rows}"));
        assert_eq!(setup.get(&path, &[]).await.status(), status, "{rows}");
    }
    let tag = |answer: &Exchange| answer.header("etag").unwrap().to_owned();
    let whole = tag(&setup.head(&setup.tensor("e"), &[]).await);
    let part = tag(&setup.head(&setup.tensor("e?rows=1..3"), &[]).await);
    assert_ne!(whole, part, "other bytes have another tag");
}

#[tokio::test]
async fn a_tensor_in_several_files_needs_its_file() {
    let setup = setup().await;
    let mut answer = setup.get(&setup.tensor("a"), &[]).await;
    assert_eq!(answer.status(), 400);
    let error = answer.json().await["error"].clone();
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("other.safetensors")
    );
    let (status, bytes) = setup
        .bytes(&setup.tensor("a?file=other.safetensors"), &[])
        .await;
    assert_eq!((status, bytes.len()), (200, 8));
}

#[tokio::test]
async fn a_client_can_check_every_range_itself() {
    let setup = setup().await;
    // The version's document, then its tree's, then the file's lists: each hashes to its name.
    let document = |hash: String| {
        let path = format!("/lode/v1/chunks/{hash}");
        let setup = &setup;
        async move {
            let (status, bytes) = setup.bytes(&path, &[]).await;
            assert_eq!(status, 200);
            assert_eq!(ChunkHash::of(&bytes).to_hex(), hash);
            bytes
        }
    };
    document(setup.version.to_hex()).await;
    let base = "/lode/v1/models/acme/tiny/v1";
    let version = setup.get(base, &[]).await.json().await;
    document(version["tree"].as_str().unwrap().to_owned()).await;
    let list = setup
        .get(&format!("{base}/chunks/big.bin"), &[])
        .await
        .json()
        .await;
    let seq = document(list["seq"].as_str().unwrap().to_owned()).await;
    let chunks = list["chunks"].as_array().unwrap();
    assert_eq!(seq.len(), chunks.len() * 32);
    assert!(chunks.len() <= CHUNK_ROWS_MAX && list["next"].is_null());
    let mut at = 0;
    for (row, hash) in chunks.iter().zip(seq.chunks(32)) {
        assert_eq!(row["offset"], at);
        let hash = ChunkHash::try_from(hash).unwrap();
        assert_eq!(row["hash"], hash.to_hex());
        let length = row["length"].as_u64().unwrap();
        let path = format!("/lode/v1/chunks/{hash}");
        let mut answer = setup.get(&format!("{path}/outboard"), &[]).await;
        assert_eq!(answer.status(), 200);
        let pairs = answer.bytes().await.unwrap();
        let outboard = Outboard::parse(hash, length as u32, pairs).unwrap();
        let range = format!("bytes=16384-{}", 16384 * 4 - 1);
        let (status, group) = setup.bytes(&path, &[("range", &range)]).await;
        assert_eq!(status, 206);
        outboard.verify(16384, &group).unwrap();
        let mut wrong = group.clone();
        wrong[20_000] ^= 1;
        outboard.verify(16384, &wrong).unwrap_err();
        at += length;
    }
    assert_eq!(at, 5_000_000);
    let path = format!("{base}/chunks/big.bin?start=2500000&end=2500001");
    let some = setup.get(&path, &[]).await.json().await;
    let some = some["chunks"].as_array().unwrap();
    assert_eq!(some.len(), 1);
    let (offset, length) = (
        some[0]["offset"].as_u64().unwrap(),
        some[0]["length"].as_u64().unwrap(),
    );
    assert!(offset <= 2_500_000 && 2_500_000 < offset + length);
}

#[tokio::test]
async fn a_forked_branch_says_so_in_its_head() {
    let mut setup = setup().await;
    let file = |bytes: &'static [u8]| [("a.txt", Held::Pack, bytes)];
    let sides = [b"two", b"ten"].map(|bytes| setup.home.push("tiny", &file(bytes), &[], &[]));
    setup.home.fork("tiny", "heads/main", sides);
    let answer = setup
        .head("/lode/v1/models/acme/tiny/main/files/config.json", &[])
        .await;
    assert_eq!(
        answer.header("lode-version"),
        Some(setup.version.to_hex().as_str())
    );
    let fork = answer.header("lode-fork").unwrap();
    assert!(sides.iter().all(|side| fork.contains(&side.to_hex())));
    let answer = setup.head(&setup.file("config.json"), &[]).await;
    assert_eq!(answer.header("lode-fork"), None, "the tag is not forked");
}

#[tokio::test]
async fn every_route_is_in_the_documents() {
    let setup = setup().await;
    let page = include_str!("../../../docs/http.md");
    let document = setup.get("/lode/v1/openapi.json", &[]).await.json().await;
    let mut routes = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods
            .as_object()
            .unwrap()
            .keys()
            .filter(|method| *method != "head")
        {
            let plain = |text: &str| text.replace("..}", "}");
            let line = format!("| `{} {path}` |", method.to_uppercase());
            assert!(
                plain(page).contains(&line),
                "docs/http.md has no row {line}"
            );
            routes += 1;
        }
    }
    assert_eq!(routes, 26);
}

#[tokio::test]
async fn pages_of_other_sites_read_nothing() {
    let setup = setup().await;
    let path = setup.file("config.json");
    for header in [
        ("host", "evil.example"),
        ("origin", "http://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        assert_eq!(
            setup.get(&path, &[header]).await.status(),
            403,
            "{header:?}"
        );
    }
    let answer = setup.get(&path, &[]).await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}
