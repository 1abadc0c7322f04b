//! Reading by Xet: whatever a client asks for, it gets xorbs whose hashes are true and the bytes of the file, as long as
//! it may read them, and nothing says so where it is switched off.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::Method;
use lode_gateway::{
    ServeOptions,
    policy::Policy,
    serve,
    xet::{
        hash::{XetHash, root},
        xorb::XorbReader,
    },
};
use lode_node::{
    NetworkOptions, Node, NodeOptions,
    tokens::{NewToken, Power},
};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    client::{Exchange, over_http},
    published::{Held, Published},
};

/// Where requests without a name of their own say that they go.
const BASE: &str = "http://localhost";

/// A large file: bytes that look random, bytes that repeat, and an end that is no whole chunk.
static WEIGHTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = vec![0; 900_000];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes.extend(vec![7; 300_000]);
    bytes.extend(b"the end");
    bytes
});

/// A home with the private model `acme/hidden` and the public one `acme/open`, both of the same files.
struct Home {
    node: Node,
    folder: tempfile::TempDir,
    doors: AtomicUsize,
}

/// A gateway over it.
struct Door {
    http: SocketAddr,
    _stop: DropGuard,
}

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut home = Published::new(folder.path());
        let files = [
            ("a.txt", Held::Pack, &b"small"[..]),
            ("w.bin", Held::Whole, &WEIGHTS),
        ];
        home.push("hidden", &files, &[], &["heads/main"]);
        home.push("open", &files, &[], &["heads/main", "access/public"]);
        drop(home);
        let options = NodeOptions {
            network: NetworkOptions {
                offline: true,
                listen: Some("127.0.0.1:0".parse().unwrap()),
                ..NetworkOptions::default()
            },
            ..NodeOptions::default()
        };
        let node = Node::open(&folder.path().join("home"), options).unwrap();
        Self {
            node,
            folder,
            doors: AtomicUsize::new(0),
        }
    }

    async fn serve(&self, xet_reads: bool) -> Door {
        let stop = CancellationToken::new();
        let name = format!("{}.sock", self.doors.fetch_add(1, Ordering::Relaxed));
        let options = ServeOptions {
            http: Some("127.0.0.1:0".parse().unwrap()),
            socket: self.folder.path().join(name),
            policy: Policy {
                xet_reads,
                ..Policy::default()
            },
            tls: None,
        };
        let running = serve(self.node.clone(), options, stop.clone());
        Door {
            http: running.await.unwrap().http.unwrap(),
            _stop: stop.drop_guard(),
        }
    }

    /// A token for reading one model.
    fn token(&self, model: &str) -> String {
        let new = NewToken {
            name: Some(model.replace('/', "-")),
            power: Power::Read,
            models: vec![model.parse().unwrap()],
            expires_seconds: None,
        };
        let (secret, _) = self.node.tokens().create(new).unwrap();
        secret.expose().to_owned()
    }

    fn outlines(&self) -> PathBuf {
        self.folder.path().join("home/xet")
    }
}

/// A client with a token or none.
struct Client {
    http: SocketAddr,
    token: Option<String>,
}

impl Client {
    fn of(door: &Door, token: Option<&str>) -> Self {
        Self {
            http: door.http,
            token: token.map(str::to_owned),
        }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Exchange {
        let shown = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let shown = shown.iter().map(|shown| ("authorization", shown.as_str()));
        let headers: Vec<_> = headers.iter().copied().chain(shown).collect();
        over_http(self.http, method, path, &headers).await
    }

    async fn get(&self, path: &str) -> Exchange {
        self.ask(Method::GET, path, &[]).await
    }

    /// The address of the file at its commit.
    async fn pinned(&self, model: &str) -> String {
        let path = format!("/acme/{model}/resolve/main/w.bin");
        let moved = self.ask(Method::HEAD, &path, &[]).await;
        assert_eq!(moved.status(), 307);
        moved.header("location").unwrap().to_owned()
    }

    /// The file's hash and the address for a token, once it is offered.
    async fn offer(&self, model: &str) -> (String, String) {
        let path = self.pinned(model).await;
        for _ in 0..500 {
            let head = self.ask(Method::HEAD, &path, &[]).await;
            assert_eq!(head.status(), 200);
            if let Some(hash) = head.header("x-xet-hash") {
                let links = head.header("link").unwrap();
                let (auth, reconstruction) = links.split_once(", ").unwrap();
                let auth = auth.strip_suffix(">; rel=\"xet-auth\"").unwrap();
                let auth = auth.strip_prefix('<').unwrap().strip_prefix(BASE).unwrap();
                assert!(reconstruction.contains(&format!("/v1/reconstructions/{hash}>")));
                return (hash.to_owned(), auth.to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the file is not offered by Xet");
    }

    async fn token(&self, auth: &str) -> Cas {
        let mut answer = self.get(auth).await;
        assert_eq!(answer.status(), 200);
        let body = answer.json().await;
        assert_eq!(body["casUrl"], answer.header("x-xet-cas-url").unwrap());
        let cas = body["casUrl"].as_str().unwrap().strip_prefix(BASE);
        Cas {
            http: self.http,
            path: cas.unwrap().to_owned(),
            token: format!("Bearer {}", body["accessToken"].as_str().unwrap()),
        }
    }
}

/// The storage as a client with its token sees it.
struct Cas {
    http: SocketAddr,
    path: String,
    token: String,
}

impl Cas {
    async fn ask(&self, version: u8, hash: &str, range: Option<&str>) -> Exchange {
        let path = format!("{}/v{version}/reconstructions/{hash}", self.path);
        let mut headers = vec![("authorization", self.token.as_str())];
        headers.extend(range.map(|range| ("range", range)));
        over_http(self.http, Method::GET, &path, &headers).await
    }

    /// Fetches a range of a file as clients do; and how many xorbs that took.
    async fn read(&self, version: u8, hash: &str, range: Option<&str>) -> (Vec<u8>, usize) {
        let mut answer = self.ask(version, hash, range).await;
        assert_eq!(answer.status(), 200);
        let plan = answer.json().await;
        let mut out = Vec::new();
        let terms = plan["terms"].as_array().unwrap();
        for term in terms {
            let name = term["hash"].as_str().unwrap();
            let (url, chunks, bytes) = match version {
                1 => {
                    let fetch = &plan["fetch_info"][name][0];
                    (&fetch["url"], &fetch["range"], &fetch["url_range"])
                }
                _ => {
                    let fetch = &plan["xorbs"][name][0];
                    let ranges = &fetch["ranges"][0];
                    (&fetch["url"], &ranges["chunks"], &ranges["bytes"])
                }
            };
            let xorb = self.fetch(url, Some(bytes)).await;
            let first = number(&term["range"]["start"]) - number(&chunks["start"]);
            let count = number(&term["range"]["end"]) - number(&term["range"]["start"]);
            let mut reader = XorbReader::new(&xorb[..]);
            let (mut at, mut len) = (0, 0);
            while let Some(chunk) = reader.next_chunk().unwrap() {
                if (first..first + count).contains(&at) {
                    out.extend_from_slice(chunk);
                    len += chunk.len() as u64;
                }
                at += 1;
            }
            assert_eq!(at, number(&chunks["end"]) - number(&chunks["start"]));
            assert_eq!(len, number(&term["unpacked_length"]));
        }
        let skipped = number(&plan["offset_into_first_range"]) as usize;
        (out.split_off(skipped), terms.len())
    }

    /// Bytes of a xorb, by an address that carries no token.
    async fn fetch(&self, url: &Value, bytes: Option<&Value>) -> Vec<u8> {
        let path = url.as_str().unwrap().strip_prefix(BASE).unwrap();
        let range = bytes.map(|at| format!("bytes={}-{}", at["start"], at["end"]));
        let headers: Vec<_> = range
            .iter()
            .map(|range| ("range", range.as_str()))
            .collect();
        let mut answer = over_http(self.http, Method::GET, path, &headers).await;
        assert_eq!(answer.status(), if range.is_some() { 206 } else { 200 });
        answer.bytes().await.unwrap().to_vec()
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_whole_and_by_ranges_and_every_hash_is_true() {
    let home = Home::new();
    let door = home.serve(true).await;
    let client = Client::of(&door, None);
    let (hash, auth) = client.offer("open").await;
    let cas = client.token(&auth).await;
    let weights = &**WEIGHTS;
    for version in [1, 2] {
        assert_eq!(cas.read(version, &hash, None).await.0, weights);
        // Clients ask for more than there is, and cut what comes.
        for (start, end) in [
            (0, 0),
            (70_000, 70_000),
            (100_000, 900_000),
            (5, u64::MAX - 1),
        ] {
            let range = format!("bytes={start}-{end}");
            let (found, _) = cas.read(version, &hash, Some(&range)).await;
            let end = weights
                .len()
                .min(end.saturating_add(1).min(1 << 40) as usize);
            let expected = &weights[start as usize..end];
            assert_eq!(&found[..expected.len()], expected, "{range}");
            assert!(found.len() < expected.len() + (128 << 10), "{range}");
        }
        let behind = format!("bytes={}-", weights.len());
        let answer = cas.ask(version, &hash, Some(&behind)).await;
        assert_eq!(answer.status(), 416);
        let twice = cas.ask(version, &hash, Some("bytes=0-1,9-10")).await;
        assert_eq!(twice.status(), 400);
        let other = XetHash::of_chunk(b"other").to_string();
        assert_eq!(cas.ask(version, &other, None).await.status(), 404);
        assert_eq!(cas.ask(version, "abc", None).await.status(), 400);
    }
    // All of a xorb: its chunks' hashes make its name, and the file's hash is that of its chunks.
    let mut plan = cas.ask(2, &hash, None).await;
    let plan = plan.json().await;
    let xorbs = plan["xorbs"].as_object().unwrap();
    assert_eq!(xorbs.len(), 1);
    let (name, fetches) = xorbs.iter().next().unwrap();
    let xorb = cas.fetch(&fetches[0]["url"], None).await;
    let mut reader = XorbReader::new(&xorb[..]);
    let mut leaves = Vec::new();
    while let Some(chunk) = reader.next_chunk().unwrap() {
        leaves.push((XetHash::of_chunk(chunk), chunk.len() as u64));
    }
    assert_eq!(reader.finish().to_string(), *name);
    assert_eq!(XetHash::of_file(root(leaves)).to_string(), hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_of_xet_where_it_is_switched_off() {
    let home = Home::new();
    let on = home.serve(true).await;
    let client = Client::of(&on, None);
    let (hash, auth) = client.offer("open").await;
    let cas = client.token(&auth).await;
    let small = client.get("/acme/open/resolve/main/a.txt").await;
    let path = small.header("location").unwrap().to_owned();
    let small = client.get(&path).await;
    assert_eq!(small.status(), 200);
    assert_eq!(
        small.header("x-xet-hash"),
        None,
        "only large files are offered"
    );

    let off = home.serve(false).await;
    let client = Client::of(&off, None);
    let path = client.pinned("open").await;
    for method in [Method::HEAD, Method::GET] {
        for _ in 0..2 {
            let mut answer = client.ask(method.clone(), &path, &[]).await;
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.header("x-xet-hash"), None);
            assert_eq!(answer.header("link"), None);
            answer.bytes().await.unwrap();
        }
    }
    assert_eq!(client.get(&auth).await.status(), 404);
    let cas = Cas {
        http: off.http,
        ..cas
    };
    for version in [1, 2] {
        assert_eq!(cas.ask(version, &hash, None).await.status(), 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_out_ends_with_the_right_to_read() {
    let home = Home::new();
    let door = home.serve(true).await;
    let reader = home.token("acme/hidden");
    let client = Client::of(&door, Some(&reader));
    let (hash, auth) = client.offer("hidden").await;
    let cas = client.token(&auth).await;
    let mut plan = cas.ask(2, &hash, None).await;
    let plan = plan.json().await;
    let (_, fetches) = plan["xorbs"].as_object().unwrap().iter().next().unwrap();
    let url = fetches[0]["url"].as_str().unwrap();
    let path = url.strip_prefix(BASE).unwrap();
    let fetch = async || {
        let answer = over_http(door.http, Method::GET, path, &[]).await;
        answer.status()
    };
    assert_eq!(fetch().await, 200);
    // Neither another token's owner nor anyone is given one, and none is good for what it was not given for.
    let other = Client::of(&door, Some(&home.token("acme/other")));
    assert_eq!(other.get(&auth).await.status(), 404);
    let anyone = Client::of(&door, None);
    assert_eq!(anyone.get(&auth).await.status(), 401);
    let (open_hash, open_auth) = anyone.offer("open").await;
    assert_eq!(open_hash, hash, "the same bytes");
    let open = anyone.token(&open_auth).await;
    let sealed = open.token.strip_prefix("Bearer ").unwrap();
    for wrong in [
        format!("/xet/xorbs/{sealed}"),
        format!("{path}A"),
        "/xet/xorbs/AAAA".to_owned(),
    ] {
        let answer = over_http(door.http, Method::GET, &wrong, &[]).await;
        assert_eq!(answer.status(), 403, "{wrong}");
    }
    let sealed = path.strip_prefix("/xet/xorbs/").unwrap();
    for wrong in [sealed, "AAAA", reader.as_str()] {
        let cas = Cas {
            http: door.http,
            path: cas.path.clone(),
            token: format!("Bearer {wrong}"),
        };
        assert_eq!(cas.ask(2, &hash, None).await.status(), 403);
    }
    // The token for reading takes no uploads.
    let shard = format!("{}/v1/shards", cas.path);
    let headers = [("authorization", cas.token.as_str())];
    let answer = over_http(door.http, Method::POST, &shard, &headers).await;
    assert_eq!(answer.status(), 403);
    // Removed, the token's addresses end at once, and nobody else's do.
    home.node.tokens().remove("acme-hidden").unwrap();
    assert_eq!(cas.ask(2, &hash, None).await.status(), 401);
    assert_eq!(fetch().await, 401);
    assert_eq!(open.ask(2, &hash, None).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outline_outlives_the_node_and_a_damaged_one_is_made_again() {
    let home = Home::new();
    let door = home.serve(true).await;
    let (hash, _) = Client::of(&door, None).offer("open").await;
    // Another process finds it, and offers the file at once.
    let door = home.serve(true).await;
    let client = Client::of(&door, None);
    let path = client.pinned("open").await;
    let head = client.ask(Method::HEAD, &path, &[]).await;
    assert_eq!(head.header("x-xet-hash"), Some(hash.as_str()));
    // A byte of it changes on disk: nothing is read by it, and the next reader has it made again.
    let outlines = std::fs::read_dir(home.outlines()).unwrap();
    let outlines: Vec<PathBuf> = outlines.map(|entry| entry.unwrap().path()).collect();
    let [outline] = &outlines[..] else {
        panic!("one large file, one outline: {outlines:?}");
    };
    let whole = std::fs::read(outline).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(outline, &damaged).unwrap();
    let (_, auth) = client.offer("open").await;
    let cas = client.token(&auth).await;
    assert_eq!(cas.ask(2, &hash, None).await.status(), 404);
    assert_eq!(client.offer("open").await.0, hash);
    assert_eq!(cas.read(2, &hash, None).await.0, **WEIGHTS);
    assert_eq!(std::fs::read(outline).unwrap(), whole);
    // What is no outline goes when the folder is read again.
    std::fs::write(home.outlines().join("else"), b"else").unwrap();
    let _door = home.serve(true).await;
    assert!(!home.outlines().join("else").exists());
}
