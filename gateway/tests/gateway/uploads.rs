//! What clients that upload may send: each wrong thing has the status that they understand, and leaves nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::client::{Exchange, exchange, request};
use bytes::Bytes;
use hyper::Method;
use lode_gateway::{ServeOptions, policy::Policy, serve, xet::hash::XetHash};
use lode_node::{NetworkOptions, Node, NodeOptions};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, tcp::OwnedReadHalf},
};
use tokio_util::sync::CancellationToken;

/// A node with the model `acme/tiny`.
struct Hub {
    address: SocketAddr,
    home: TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Hub {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let options = NodeOptions {
            network: NetworkOptions {
                offline: true,
                listen: Some("127.0.0.1:0".parse().unwrap()),
                ..NetworkOptions::default()
            },
            ..NodeOptions::default()
        };
        let node = Node::open(home.path(), options).unwrap();
        let stop = CancellationToken::new();
        let options = ServeOptions {
            http: Some("127.0.0.1:0".parse().unwrap()),
            socket: home.path().join("control.sock"),
            policy: Policy::default(),
            tls: None,
        };
        let running = serve(node, options, stop.clone()).await.unwrap();
        let hub = Self {
            address: running.http.unwrap(),
            home,
            _stop: stop.drop_guard(),
        };
        let made = json!({ "name": "tiny", "organization": "acme", "type": "model" });
        let mut answer = hub.post("/api/repos/create", &made.to_string()).await;
        let url = format!("http://{}/acme/tiny", hub.address);
        assert_eq!(answer.json().await["url"], json!(url));
        hub
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Exchange {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let host = self.address.to_string();
        let headers = [headers, &[("host", host.as_str())]].concat();
        exchange(stream, request(method, path, &headers, body)).await
    }

    async fn post(&self, path: &str, body: &str) -> Exchange {
        self.send(Method::POST, path, &[], body.to_owned()).await
    }

    async fn commit(&self, lines: &[Value]) -> Exchange {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.post("/api/models/acme/tiny/commit/main", &body).await
    }

    /// Address and token for xorbs.
    async fn xet(&self) -> (String, String) {
        let path = "/api/models/acme/tiny/xet-write-token/main";
        let mut answer = self.send(Method::GET, path, &[], "").await;
        assert_eq!(answer.status(), 200);
        let header = answer.header("x-xet-cas-url").unwrap().to_owned();
        let body = answer.json().await;
        assert_eq!(body["casUrl"], json!(header));
        let path = header.strip_prefix(&format!("http://{}", self.address));
        let token = format!("Bearer {}", body["accessToken"].as_str().unwrap());
        (path.unwrap().to_owned(), token)
    }

    /// Addresses that take a file, as Git LFS gives them.
    async fn lfs(&self, bytes: &[u8], transfers: &[&str]) -> Value {
        let object = json!({ "oid": hex(bytes), "size": bytes.len() });
        let asked = json!({ "operation": "upload", "transfers": transfers, "objects": [object] });
        let path = "/acme/tiny.git/info/lfs/objects/batch";
        let mut answer = self.post(path, &asked.to_string()).await;
        assert_eq!(answer.status(), 200);
        answer.json().await
    }

    fn path<'a>(&self, address: &'a Value) -> &'a str {
        let base = format!("http://{}", self.address);
        address.as_str().unwrap().strip_prefix(&base).unwrap()
    }

    /// What came in goes away behind the answer.
    async fn nothing_is_left(&self) {
        let folder = self.home.path().join("uploads/incoming");
        let left = || std::fs::read_dir(&folder).map_or(0, Iterator::count);
        let patience = Instant::now() + Duration::from_secs(60);
        while left() > 0 {
            assert!(Instant::now() < patience, "{} are left", left());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

fn header() -> Value {
    json!({ "key": "header", "value": { "summary": "a change", "description": "" } })
}

fn file(path: &str, bytes: &[u8]) -> Value {
    let content = data_encoding::BASE64.encode(bytes);
    json!({ "key": "file", "value": { "content": content, "path": path, "encoding": "base64" } })
}

fn large(path: &str, bytes: &[u8]) -> Value {
    let value = json!({ "path": path, "algo": "sha256", "oid": hex(bytes), "size": bytes.len() });
    json!({ "key": "lfsFile", "value": value })
}

#[tokio::test]
async fn a_commit_is_taken_whole_or_not_at_all() {
    let hub = Hub::new().await;
    let mut made = hub.commit(&[header(), file("a", b"one")]).await;
    let made = made.json().await;
    let id = made["commitOid"].as_str().unwrap();
    assert_eq!((id.len(), &made["success"]), (40, &json!(true)));
    assert!(made["commitUrl"].as_str().unwrap().contains("/commit/"));
    let broken = "{\"key\":\"file\",\"value\":{\"content\":\"YQ==\",\"pa";
    let no_base64 = json!({ "key": "file", "value": { "content": "Y", "path": "b" } });
    let unknown = json!({ "key": "symlink", "value": { "path": "b", "target": "a" } });
    let folder = json!({ "key": "deletedFolder", "value": { "path": "../" } });
    for (lines, status) in [
        (vec![], 400),
        (vec![file("b", b"two")], 400),
        (vec![header(), header()], 400),
        (vec![header(), json!(broken)], 400),
        (vec![header(), file("b", b"two"), no_base64], 400),
        (vec![header(), unknown], 400),
        (vec![header(), file("../b", b"two")], 400),
        (vec![header(), file("/etc/b", b"two")], 400),
        (vec![header(), file("A", b"two")], 400),
        (vec![header(), large("b", b"never sent")], 400),
        // What leaves the model has nothing to remove: nothing changes.
        (vec![header(), folder], 200),
    ] {
        let mut answer = hub.commit(&lines).await;
        let body = answer.json().await;
        assert_eq!(answer.status(), status, "{lines:?}: {body}");
        assert!(status == 200 || body["error"].is_string());
    }
    let answer = hub
        .post(
            "/api/models/acme/tiny/commit/main",
            &format!("{}\n{broken}", header()),
        )
        .await;
    assert_eq!(answer.status(), 400);
    let mut stale = header();
    stale["value"]["parentCommit"] = json!("0123456789012345678901234567890123456789");
    assert_eq!(hub.commit(&[stale, file("c", b"3")]).await.status(), 412);
    let header_line = format!("{}\n", header());
    let branch = hub.post("/api/models/acme/tiny/commit/none", &header_line);
    let branch = branch.await;
    assert_eq!(branch.status(), 404);
    assert_eq!(branch.header("x-error-code"), Some("RevisionNotFound"));
    let model = hub.post("/api/models/acme/none/commit/main", &header_line);
    let model = model.await;
    assert_eq!(model.status(), 404);
    assert_eq!(model.header("x-error-code"), Some("RepoNotFound"));
    // None of all that changed anything: the first commit is the head.
    let mut first = header();
    first["value"]["parentCommit"] = json!(id);
    let mut same = hub.commit(&[first, file("a", b"one")]).await;
    assert_eq!(same.json().await["commitOid"], json!(id));
    hub.nothing_is_left().await;
}

#[tokio::test]
async fn more_changes_or_longer_lines_than_a_commit_may_have_are_refused() {
    use lode_gateway::limits::COMMIT_LINE_BYTES_MAX;
    use lode_node::upload::limits::CHANGES_MAX;
    let hub = Hub::new().await;
    let gone = "{\"key\":\"deletedFile\",\"value\":{\"path\":\"a\"}}\n";
    for (count, status) in [(CHANGES_MAX, 200), (CHANGES_MAX + 1, 413), (1_000_000, 413)] {
        let body = format!("{}\n{}", header(), gone.repeat(count));
        let answer = hub.post("/api/models/acme/tiny/commit/main", &body).await;
        assert_eq!(answer.status(), status, "{count} changes");
    }
    let max = usize::try_from(COMMIT_LINE_BYTES_MAX).unwrap();
    let empty = file("a", b"").to_string().len();
    for (content, status) in [
        ((max - empty) / 4 * 4, 200),
        ((max - empty) / 4 * 4 + 8, 413),
    ] {
        let line = file("a", b"").to_string();
        let content = "A".repeat(content);
        let line = line.replace("\"content\":\"\"", &format!("\"content\":\"{content}\""));
        let body = format!("{}\n{line}", header());
        let answer = hub.post("/api/models/acme/tiny/commit/main", &body).await;
        assert_eq!(answer.status(), status, "{} bytes", line.len());
    }
}

#[tokio::test]
async fn large_files_go_to_sealed_addresses_that_take_nothing_else() {
    let hub = Hub::new().await;
    let bytes = b"a large file".repeat(1000);
    let asked = hub.lfs(&bytes, &["basic"]).await;
    assert_eq!(asked["transfer"], json!("basic"));
    let upload = hub.path(&asked["objects"][0]["actions"]["upload"]["href"]);
    let put = async |path: &str, body: Vec<u8>| {
        let answer = hub.send(Method::PUT, path, &[], body).await;
        answer.status()
    };
    assert_eq!(put(upload, b"other bytes".repeat(1000)).await, 400);
    assert_eq!(put(upload, bytes[1..].to_vec()).await, 400);
    assert_eq!(put(upload, [&bytes[..], b"more"].concat()).await, 400);
    let mut forged = upload.to_owned();
    let last = if forged.ends_with('A') { 'B' } else { 'A' };
    forged.pop();
    forged.push(last);
    for path in [&forged, "/lode/v1/uploads/x", "/lode/v1/uploads/AAAA"] {
        assert_eq!(put(path, bytes.clone()).await, 403);
    }
    assert_eq!(
        hub.send(Method::POST, upload, &[], "{}").await.status(),
        400
    );
    let verify = hub.path(&asked["objects"][0]["actions"]["verify"]["href"]);
    let object = json!({ "oid": hex(&bytes), "size": bytes.len() }).to_string();
    assert_eq!(hub.post(verify, &object).await.status(), 404);
    assert_eq!(put(upload, bytes.clone()).await, 200);
    assert_eq!(hub.post(verify, &object).await.status(), 200);
    // The address is good once more, and what came needs no address.
    assert_eq!(put(upload, bytes.clone()).await, 200);
    let again = hub.lfs(&bytes, &["basic"]).await;
    assert!(again["objects"][0].get("actions").is_none());
    assert_eq!(
        hub.commit(&[header(), large("a", &bytes)]).await.status(),
        200
    );
    hub.nothing_is_left().await;
    for body in ["", "{}", "[", "{\"operation\":\"download\",\"objects\":[]}"] {
        let answer = hub
            .post("/acme/tiny.git/info/lfs/objects/batch", body)
            .await;
        assert_eq!(answer.status(), 400, "{body}");
    }
    let none = json!({ "operation": "upload", "objects": [] }).to_string();
    let answer = hub
        .post("/acme/none.git/info/lfs/objects/batch", &none)
        .await;
    assert_eq!(answer.status(), 404);
}

#[tokio::test]
async fn a_file_in_parts_is_whole_when_every_part_came() {
    let hub = Hub::new().await;
    let part = usize::try_from(lode_gateway::limits::LFS_PART_BYTES).unwrap();
    let bytes: Bytes = vec![7; part + 1000].into();
    let asked = hub.lfs(&bytes, &["basic", "multipart"]).await;
    assert_eq!(asked["transfer"], json!("multipart"));
    let upload = &asked["objects"][0]["actions"]["upload"];
    assert_eq!(upload["header"]["chunk_size"], json!(part.to_string()));
    let complete = hub.path(&upload["href"]);
    let mut parts = Vec::new();
    for (number, range) in [("2", part..bytes.len()), ("1", 0..part)] {
        let path = hub.path(&upload["header"][number]);
        let named = json!({ "oid": hex(&bytes), "parts": parts }).to_string();
        assert_eq!(hub.post(complete, &named).await.status(), 400);
        let answer = hub.send(Method::PUT, path, &[], bytes.slice(range)).await;
        assert_eq!(answer.status(), 200);
        let tag = answer.header("etag").unwrap().to_owned();
        let number: u64 = number.parse().unwrap();
        parts.push(json!({ "partNumber": number, "etag": tag }));
    }
    let mut wrong = parts.clone();
    wrong[0]["etag"] = json!("\"0\"");
    for (parts, status) in [(wrong, 400), (parts.clone(), 200), (parts, 200)] {
        let named = json!({ "oid": hex(&bytes), "parts": parts }).to_string();
        assert_eq!(hub.post(complete, &named).await.status(), status);
    }
    assert_eq!(
        hub.commit(&[header(), large("a", &bytes)]).await.status(),
        200
    );
}

#[tokio::test]
async fn a_file_comes_in_so_many_parts_and_a_longer_one_in_longer_ones() {
    use lode_gateway::limits::{LFS_PART_BYTES, LFS_PARTS_MAX};
    let hub = Hub::new().await;
    let most = LFS_PART_BYTES * LFS_PARTS_MAX;
    for (size, part) in [(most, LFS_PART_BYTES), (most + 1, LFS_PART_BYTES + 1)] {
        let object = json!({ "oid": "a".repeat(64), "size": size });
        let asked =
            json!({ "operation": "upload", "transfers": ["multipart"], "objects": [object] });
        let path = "/acme/tiny.git/info/lfs/objects/batch";
        let mut answer = hub.post(path, &asked.to_string()).await;
        assert_eq!(answer.status(), 200);
        let asked = answer.json().await;
        let header = &asked["objects"][0]["actions"]["upload"]["header"];
        assert_eq!(header["chunk_size"], json!(part.to_string()));
        let parts = header.as_object().unwrap().len() as u64 - 1;
        assert_eq!(parts, size.div_ceil(part));
        assert!(parts <= LFS_PARTS_MAX);
    }
}

/// A xorb of these chunks as they are, and its name.
fn xorb(chunks: &[&[u8]]) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut leaves = Vec::new();
    for chunk in chunks {
        let len = u32::try_from(chunk.len()).unwrap().to_le_bytes();
        bytes.extend_from_slice(&[0, len[0], len[1], len[2], 0, len[0], len[1], len[2]]);
        bytes.extend_from_slice(chunk);
        leaves.push((XetHash::of_chunk(chunk), chunk.len() as u64));
    }
    (lode_gateway::xet::hash::root(leaves).to_string(), bytes)
}

/// A shard of one file of chunks of one xorb.
fn shard(sha256: &[u8], xorb: &str, chunks: u32, len: u32) -> Vec<u8> {
    let mut out = b"HFRepoMetaData\0".to_vec();
    out.extend_from_slice(&[
        85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169,
    ]);
    out.extend_from_slice(&2u64.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[1; 32]);
    for number in [1u32 << 30, 1, 0, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(XetHash::parse(xorb).unwrap().as_bytes());
    for number in [0, len, 0, chunks] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let sha256 = XetHash::parse(&data_encoding::HEXLOWER.encode(sha256)).unwrap();
    out.extend_from_slice(sha256.as_bytes());
    out.extend_from_slice(&[0; 16]);
    out.extend_from_slice(&[0xff; 32]);
    out.extend_from_slice(&[0; 16]);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_of_another_version_is_read_to_its_end_before_it_is_refused() {
    // A client that is answered while it sends takes that for a broken connection, and waits before the next try.
    let hub = Hub::new().await;
    let (cas, token) = hub.xet().await;
    let (mut reader, mut writer) = TcpStream::connect(hub.address).await.unwrap().into_split();
    let shard = vec![0; 32 << 20];
    let head = |method: &str, path: &str, len: usize| {
        let host = hub.address;
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: {token}\r\ncontent-length: {len}\r\n\r\n"
        )
    };
    let path = format!("{cas}/v2/shards");
    let first = head("POST", &path, shard.len());
    writer.write_all(first.as_bytes()).await.unwrap();
    writer.write_all(&shard).await.unwrap();
    let status = async |reader: &mut OwnedReadHalf| {
        let mut status = [0; 12];
        reader.read_exact(&mut status).await.unwrap();
        String::from_utf8(status.to_vec()).unwrap()
    };
    assert_eq!(status(&mut reader).await, "HTTP/1.1 404");
    // The connection is whole: the next request on it is answered.
    let next = head("GET", "/readyz", 0).replace("\r\nhost", "\r\nconnection: close\r\nhost");
    writer.write_all(next.as_bytes()).await.unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("HTTP/1.1 200"), "{rest}");
}

#[tokio::test]
async fn xorbs_are_hashed_and_shards_checked_and_nothing_else_is_there() {
    let hub = Hub::new().await;
    let (cas, token) = hub.xet().await;
    let auth = [("authorization", token.as_str())];
    let post = async |path: &str, body: Vec<u8>| {
        let path = format!("{cas}{path}");
        hub.send(Method::POST, &path, &auth, body).await
    };
    let (one, two) = (vec![1; 50_000], vec![2; 70_000]);
    let whole = [&one[..], &two].concat();
    let (name, bytes) = xorb(&[&one, &two]);
    let xorbs = format!("/v1/xorbs/default/{name}");
    // A client falls back from all of these.
    for path in ["/v2/shards", "/v1/telemetry", "/v1/xorb-grants/default/1"] {
        assert_eq!(post(path, Vec::new()).await.status(), 404, "{path}");
    }
    let chunks = format!("{cas}/v1/chunks/default/{name}");
    assert_eq!(
        hub.send(Method::GET, &chunks, &auth, "").await.status(),
        404
    );
    let files = || shard(&Sha256::digest(&whole), &name, 2, 120_000);
    assert_eq!(
        post("/v1/shards", files()).await.status(),
        400,
        "an unknown xorb"
    );
    let mut other = bytes.clone();
    other[100] ^= 1;
    assert_eq!(post(&xorbs, other).await.status(), 400);
    assert_eq!(post(&xorbs, bytes[..60_000].to_vec()).await.status(), 400);
    assert_eq!(post(&xorbs, Vec::new()).await.status(), 400);
    assert_eq!(
        post("/v1/xorbs/default/xyz", bytes.clone()).await.status(),
        400
    );
    let path = format!("{cas}{xorbs}");
    for wrong in ["", "Bearer ", "Bearer AAAA", &token[..token.len() - 1]] {
        let headers = [("authorization", wrong)];
        let answer = hub.send(Method::POST, &path, &headers, bytes.clone()).await;
        assert!(matches!(answer.status(), 401 | 403), "{wrong}");
    }
    let mut taken = post(&xorbs, bytes.clone()).await;
    assert_eq!(taken.json().await["was_inserted"], json!(true));
    let mut again = post(&xorbs, bytes).await;
    assert_eq!(again.json().await["was_inserted"], json!(false));
    for wrong in [
        shard(&Sha256::digest(b"other"), &name, 2, 120_000),
        shard(&Sha256::digest(&whole), &name, 2, 119_999),
        shard(&Sha256::digest(&whole), &name, 3, 120_000),
        files()[..100].to_vec(),
        b"no shard".repeat(10),
    ] {
        assert_eq!(post("/v1/shards", wrong).await.status(), 400);
    }
    assert_eq!(
        hub.commit(&[header(), large("a", &whole)]).await.status(),
        400
    );
    let mut done = post("/v1/shards", files()).await;
    assert_eq!(done.json().await["result"], json!(1));
    assert_eq!(
        hub.commit(&[header(), large("a", &whole)]).await.status(),
        200
    );
    assert_eq!(post("/v1/shards", files()).await.status(), 200);
    hub.nothing_is_left().await;
}

#[tokio::test]
async fn models_branches_and_tags_are_said_to_exist_or_not() {
    let hub = Hub::new().await;
    let tiny = json!({ "name": "tiny", "organization": "acme" }).to_string();
    let mut again = hub.post("/api/repos/create", &tiny).await;
    assert_eq!(again.status(), 409);
    let url = format!("http://{}/acme/tiny", hub.address);
    assert_eq!(again.json().await["url"], json!(url));
    for (body, status) in [
        ("{}", 400),
        ("{\"name\":\"..\",\"organization\":\"acme\"}", 400),
        ("{\"name\":\"a\",\"organization\":\"api\"}", 400),
        ("{\"name\":\"a\"}", 400),
        (
            "{\"name\":\"a\",\"organization\":\"acme\",\"type\":\"space\"}",
            400,
        ),
    ] {
        assert_eq!(
            hub.post("/api/repos/create", body).await.status(),
            status,
            "{body}"
        );
    }
    let branch = "/api/models/acme/tiny/branch/dev";
    for (method, path, body, status, code) in [
        (Method::DELETE, branch, "", 404, Some("RevisionNotFound")),
        (
            Method::POST,
            branch,
            "{\"startingPoint\":\"none\"}",
            404,
            Some("RevisionNotFound"),
        ),
        (Method::POST, branch, "{}", 200, None),
        (Method::POST, branch, "", 409, None),
        (Method::DELETE, branch, "", 200, None),
        (
            Method::POST,
            "/api/models/acme/none/branch/dev",
            "{}",
            404,
            Some("RepoNotFound"),
        ),
        (
            Method::POST,
            "/api/models/acme/tiny/branch/a@b",
            "{}",
            400,
            None,
        ),
        (
            Method::POST,
            "/api/models/acme/tiny/tag/main",
            "{\"tag\":\"v1\"}",
            200,
            None,
        ),
        (
            Method::POST,
            "/api/models/acme/tiny/tag/main",
            "{\"tag\":\"v1\"}",
            409,
            None,
        ),
        (
            Method::POST,
            "/api/models/acme/tiny/discussions",
            "{}",
            501,
            None,
        ),
        (
            Method::PUT,
            "/api/models/acme/tiny/settings",
            "{\"private\":false}",
            200,
            None,
        ),
        (
            Method::PUT,
            "/api/models/acme/tiny/settings",
            "{\"gated\":\"auto\"}",
            501,
            None,
        ),
        (
            Method::POST,
            "/api/spaces/acme/tiny/commit/main",
            "",
            404,
            Some("RepoNotFound"),
        ),
        (
            Method::POST,
            "/api/validate-yaml",
            "{\"content\":\"---\\n---\"}",
            200,
            None,
        ),
        (Method::DELETE, "/api/repos/delete", &tiny, 200, None),
        (
            Method::DELETE,
            "/api/repos/delete",
            &tiny,
            404,
            Some("RepoNotFound"),
        ),
    ] {
        let answer = hub.send(method.clone(), path, &[], body.to_owned()).await;
        assert_eq!(answer.status(), status, "{method} {path} {body}");
        assert_eq!(answer.header("x-error-code"), code, "{method} {path}");
    }
}

#[tokio::test]
async fn clients_are_told_how_to_send_files_and_which_are_there() {
    let hub = Hub::new().await;
    let bytes = b"{}";
    hub.commit(&[header(), file("config.json", bytes)]).await;
    let asked = json!({ "files": [
        { "path": "config.json", "sample": "", "size": 2 },
        { "path": "model.safetensors", "sample": "", "size": 2 },
        { "path": "notes.txt", "sample": "", "size": 20_000_000 },
    ] });
    let path = "/api/models/acme/tiny/preupload/main";
    let mut answer = hub.post(path, &asked.to_string()).await;
    let files = answer.json().await["files"].clone();
    let modes: Vec<&str> = files
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["uploadMode"].as_str().unwrap())
        .collect();
    assert_eq!(modes, ["regular", "lfs", "lfs"]);
    // The git SHA-1 of `{}`.
    assert_eq!(
        files[0]["oid"],
        json!("9e26dfeeb6e641a33dae4961196235bdb965b21b")
    );
    assert!(files[1].get("oid").is_none());
    let none = "/api/models/acme/tiny/preupload/none";
    assert_eq!(hub.post(none, &asked.to_string()).await.status(), 404);
    use lode_gateway::limits::UPLOAD_FILES_MAX;
    for (count, status) in [(UPLOAD_FILES_MAX, 200), (UPLOAD_FILES_MAX + 1, 400)] {
        let row = json!({ "path": "a", "sample": "", "size": 1 });
        let asked = json!({ "files": vec![row; count] }).to_string();
        assert_eq!(
            hub.post(path, &asked).await.status(),
            status,
            "{count} files"
        );
    }
}
