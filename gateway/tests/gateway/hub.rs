//! What a client of the Hub's dialect is promised, over real connections: shapes, heads and codes of every
//! route, of a model that the home holds.

use crate::models;
use std::net::SocketAddr;

use crate::client::{Exchange, exchange, over_http, request};
use crate::published::{Held, Published, noise, safetensors};
use hyper::Method;
use lode_gateway::{
    Running, ServeOptions,
    control::{Backend, Run},
    limits::{HUB_PAGE_MAX, HUB_PATHS_BYTES_MAX, HUB_PATHS_MAX, HUB_ROWS_MAX},
    serve,
};
use lode_node::{EventSink, command::Command, read::Reads};
use lode_store::{
    VersionId,
    manifest::{Version, VersionBytes},
    tree::{File, Tree},
};
use serde_json::{Value, json};
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
    versions: [VersionId; 2],
    big: Vec<u8>,
    _running: Running,
    _folder: tempfile::TempDir,
}

const ROWS: &[(&str, &[u64])] = &[("a", &[300, 70]), ("b/c", &[5])];

fn gguf() -> Vec<u8> {
    let mut file = models::Gguf::default();
    file.text("general.architecture", "llama").random(
        "blk.0.ffn_up.weight",
        models::Type::Bf16,
        &[64, 512],
    );
    file.bytes()
}

async fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let (big, model, gguf) = (noise(1, 11 << 20), safetensors(ROWS), gguf());
    let old = [
        ("config.json", Held::Pack, &b"{}"[..]),
        ("gone.txt", Held::Pack, b"gone"),
    ];
    let first = home.push("tiny", &old, &[], &["heads/main", "tags/v0"]);
    let files: [(&str, Held, &[u8]); 8] = [
        ("big.dat", Held::Whole, &big),
        ("config.json", Held::Pack, b"{\"a\":1}"),
        ("empty", Held::Pack, b""),
        ("link.json", Held::Pack, b"config.json"),
        ("lost.txt", Held::Nowhere, b"nobody has it"),
        ("model.safetensors", Held::Whole, &model),
        ("sub/deep/na\u{ef}ve \u{6a21}.txt", Held::Pack, b"text"),
        ("sub/x.txt", Held::Pack, b"x"),
    ];
    let second = home.push("tiny", &files, &[first], &["heads/main", "tags/v1"]);
    let base = [("model.gguf", Held::Whole, &gguf[..])];
    home.push("Smol", &base, &[], &["heads/main", "access/public"]);
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
    Setup {
        home,
        address: running.http.unwrap(),
        versions: [first, second],
        big,
        _running: running,
        _folder: folder,
    }
}

impl Setup {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Exchange {
        over_http(self.address, Method::GET, path, headers).await
    }

    async fn head(&self, path: &str) -> Exchange {
        over_http(self.address, Method::HEAD, path, &[]).await
    }

    async fn json(&self, path: &str) -> Value {
        let mut answer = self.get(path, &[]).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await
    }

    async fn post(&self, path: &str, body: impl Into<bytes::Bytes>) -> Exchange {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        exchange(stream, request(Method::POST, path, &[], body)).await
    }

    /// Status and code of a failure.
    async fn failure(&self, method: Method, path: &str) -> (u16, Option<String>) {
        let answer = over_http(self.address, method, path, &[]).await;
        (
            answer.status(),
            answer.header("x-error-code").map(str::to_owned),
        )
    }

    fn commit(&self) -> String {
        self.versions[1].to_hex()[..40].to_owned()
    }
}

fn sha256(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

fn paths(list: &Value) -> Vec<&str> {
    let rows = list.as_array().unwrap().iter();
    rows.map(|row| row["path"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_branch_leads_to_its_commit_and_a_commit_to_bytes() {
    let setup = setup().await;
    let commit = setup.commit();
    let pinned = format!("/acme/tiny/resolve/{commit}/big.dat");
    for rev in ["main", "v1", &setup.versions[1].to_hex(), &commit[..12]] {
        let answer = setup
            .head(&format!("/acme/tiny/resolve/{rev}/big.dat"))
            .await;
        assert_eq!(answer.status(), 307, "{rev}");
        assert_eq!(answer.header("location"), Some(&pinned[..]), "{rev}");
        assert_eq!(answer.header("x-repo-commit"), Some(&commit[..]));
    }
    let head = setup.head(&pinned).await;
    let hash = sha256(&setup.big);
    let quoted = format!("\"{hash}\"");
    for (name, value) in [
        ("x-repo-commit", &commit[..]),
        ("etag", &quoted),
        ("x-linked-etag", &quoted),
        ("x-linked-size", "11534336"),
        ("content-length", "11534336"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(head.header(name), Some(value), "{name}");
    }
    let mut whole = setup.get(&pinned, &[]).await;
    assert_eq!(whole.status(), 200);
    assert!(whole.bytes().await.unwrap() == setup.big);
    let mut first = setup.get(&pinned, &[("range", "bytes=0-0")]).await;
    assert_eq!(first.status(), 206);
    assert_eq!(first.header("content-range"), Some("bytes 0-0/11534336"));
    assert_eq!(first.header("x-repo-commit"), Some(&commit[..]));
    assert_eq!(first.bytes().await.unwrap(), &setup.big[..1]);
    let past = setup.get(&pinned, &[("range", "bytes=11534336-")]).await;
    assert_eq!(past.status(), 416);
    let same = setup.get(&pinned, &[("if-none-match", &quoted)]).await;
    assert_eq!(same.status(), 304);
    let kept = setup
        .get("/acme/tiny/resolve/main/big.dat?download=true", &[])
        .await;
    let with_query = format!("{pinned}?download=true");
    assert_eq!(kept.header("location"), Some(&with_query[..]));
}

#[tokio::test]
async fn small_files_have_their_git_hash_and_weights_their_sha256() {
    let setup = setup().await;
    let commit = setup.commit();
    let head = setup
        .head(&format!("/acme/tiny/resolve/{commit}/config.json"))
        .await;
    let etag = head.header("etag").unwrap().trim_matches('"').to_owned();
    // `printf '{"a":1}' | git hash-object --stdin`
    assert_eq!(etag, "daa5053ecf5f9a37b2de733d0751cc1ab53ac010");
    assert!(head.header("x-linked-size").is_none());
    let link = setup
        .head(&format!("/acme/tiny/resolve/{commit}/link.json"))
        .await;
    assert_eq!(link.header("etag").unwrap().trim_matches('"'), etag);
    let mut link = setup
        .get(&format!("/acme/tiny/resolve/{commit}/link.json"), &[])
        .await;
    assert_eq!(link.bytes().await.unwrap(), &b"{\"a\":1}"[..]);
    let odd = "sub/deep/na%C3%AFve%20%E6%A8%A1.txt";
    let mut odd = setup
        .get(&format!("/acme/tiny/resolve/{commit}/{odd}"), &[])
        .await;
    assert_eq!(odd.bytes().await.unwrap(), &b"text"[..]);
    let tree = setup
        .json(&format!(
            "/api/models/acme/tiny/tree/{commit}?recursive=true"
        ))
        .await;
    let row = |path: &str| {
        let mut rows = tree.as_array().unwrap().iter();
        rows.find(|row| row["path"] == path).unwrap().clone()
    };
    assert_eq!(
        row("config.json"),
        json!({"type":"file","path":"config.json","size":7,"oid":etag})
    );
    assert_eq!(row("link.json")["size"], 7);
    let model = safetensors(ROWS);
    let (lfs, hash) = (&row("model.safetensors")["lfs"], sha256(&model));
    let size = model.len();
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{hash}\nsize {size}\n");
    assert_eq!(
        *lfs,
        json!({"oid":hash,"size":size,"pointerSize":pointer.len()})
    );
}

#[tokio::test]
async fn trees_list_folders_files_and_pages() {
    let setup = setup().await;
    let tree = async |rest: &str| {
        setup
            .json(&format!("/api/models/acme/tiny/tree/main{rest}"))
            .await
    };
    let odd = "sub/deep/na\u{ef}ve \u{6a21}.txt";
    let top = [
        "big.dat",
        "config.json",
        "empty",
        "link.json",
        "lost.txt",
        "model.safetensors",
    ];
    let root = tree("").await;
    assert_eq!(paths(&root), [&top[..], &["sub"]].concat());
    assert_eq!(root[6]["type"], "directory");
    let all = tree("?recursive=true").await;
    let inner = ["sub", "sub/deep", odd, "sub/x.txt"];
    assert_eq!(paths(&all), [&top[..], &inner].concat());
    assert_eq!(paths(&tree("/sub").await), ["sub/deep", "sub/x.txt"]);
    assert_eq!(paths(&tree("/sub%2Fdeep").await), [odd]);
    assert_eq!(paths(&tree("/sub/deep?recursive=True").await), [odd]);
    let expanded = tree("?expand=true").await;
    assert_eq!(expanded[0]["lastCommit"]["id"], setup.commit());
    let mut found: Vec<String> = Vec::new();
    let mut next = Some("/api/models/acme/tiny/tree/main?recursive=true&limit=3".to_owned());
    let mut pages = 0;
    while let Some(path) = next {
        let mut page = setup.get(&path, &[]).await;
        let link = page.header("link").map(str::to_owned);
        found.extend(paths(&page.json().await).iter().map(ToString::to_string));
        pages += 1;
        next = link.map(|link| {
            let link = link.strip_prefix("<http://localhost").unwrap();
            assert!(
                link.contains(&setup.commit()),
                "later pages are of the same tree"
            );
            link.strip_suffix(">; rel=\"next\"").unwrap().to_owned()
        });
    }
    assert_eq!(
        (pages, found),
        (4, paths(&all).iter().map(ToString::to_string).collect())
    );
    let (status, code) = setup
        .failure(Method::GET, "/api/models/acme/tiny/tree/main/none")
        .await;
    assert_eq!((status, code.as_deref()), (404, Some("EntryNotFound")));
}

#[tokio::test]
async fn a_tree_of_ten_thousand_files_comes_in_one_page() {
    let mut setup = setup().await;
    let names: Vec<String> = (0..=HUB_ROWS_MAX)
        .map(|at| format!("f{at:05}.txt"))
        .collect();
    let (store, reads) = (&setup.home.store, Reads::new(setup.home.store.clone()));
    let version = reads.version(setup.versions[1]).unwrap();
    let known = reads.tree(version.doc.tree).unwrap();
    let named = |name: &String| File {
        path: name.clone(),
        ..known.file("config.json").unwrap().clone()
    };
    let tree = Tree::new(names.iter().map(named).collect()).unwrap();
    let (tree, tree_bytes) = tree.encode_with_id();
    let version = VersionBytes::new(Version {
        model: "many".to_owned(),
        tree,
        parents: Vec::new(),
        ..version.doc
    });
    let version = version.unwrap();
    store
        .put_documents(&[tree_bytes, version.bytes.clone()])
        .unwrap();
    setup.home.point("many", "heads/main", version.id);
    let mut first = setup.get("/api/models/acme/many/tree/main", &[]).await;
    let more = first.header("link").is_some();
    let rows = first.json().await.as_array().unwrap().len();
    assert_eq!((rows, more), (HUB_ROWS_MAX, true));
    let last = setup
        .json(&format!(
            "/api/models/acme/many/tree/main?cursor={HUB_ROWS_MAX}"
        ))
        .await;
    assert_eq!(paths(&last), [names.last().unwrap()]);
    let model = setup.json("/api/models/acme/many").await;
    assert_eq!(model["siblings"].as_array().unwrap().len(), names.len());
}

#[tokio::test]
async fn paths_are_described_from_forms_and_json_and_absent_ones_left_out() {
    let setup = setup().await;
    let at = "/api/models/acme/tiny/paths-info/main";
    let form = "paths=config.json&paths=sub%2Fx.txt&paths=none&paths=sub&expand=False";
    let mut answer = setup.post(at, form).await;
    let found = answer.json().await;
    assert_eq!(paths(&found), ["config.json", "sub/x.txt", "sub"]);
    let mut answer = setup
        .post(
            at,
            "{\"paths\":[\"sub/x.txt\",\"../x\",\"\"],\"expand\":true}",
        )
        .await;
    let same = answer.json().await;
    assert_eq!(paths(&same), ["sub/x.txt"]);
    assert_eq!(same[0]["oid"], found[1]["oid"]);
    assert_eq!(same[0]["lastCommit"]["id"], setup.commit());
    for (body, status) in [
        ("{\"paths\":[1]}".to_owned(), 400),
        ("{".to_owned(), 400),
        ("paths=%ff".to_owned(), 400),
        ("paths=a&".repeat(HUB_PATHS_MAX), 200),
        ("paths=a&".repeat(HUB_PATHS_MAX + 1), 413),
        ("x".repeat(HUB_PATHS_BYTES_MAX + 1), 413),
    ] {
        assert_eq!(
            setup.post(at, body.clone()).await.status(),
            status,
            "{:.20}",
            body
        );
    }
}

#[tokio::test]
async fn a_repository_says_what_clients_need_of_it() {
    let setup = setup().await;
    let model = setup.json("/api/models/acme/tiny").await;
    assert_eq!(model["id"], "acme/tiny");
    assert_eq!(model["sha"], setup.commit());
    assert_eq!(model["private"], true);
    assert_eq!(model["tags"], json!(["safetensors"]));
    assert_eq!(model["lastModified"], model["createdAt"]);
    let siblings = model["siblings"].as_array().unwrap();
    assert_eq!(siblings.len(), 8);
    assert_eq!(siblings[0], json!({"rfilename":"big.dat"}));
    let old = setup
        .json("/api/models/acme/tiny/revision/v0?blobs=true&securityStatus=true")
        .await;
    assert_eq!(old["sha"], setup.versions[0].to_hex()[..40]);
    assert_eq!(old["siblings"][1]["size"], 4);
    assert_eq!(old["siblings"][1]["blobId"].as_str().unwrap().len(), 40);
    assert_eq!(old["securityRepoStatus"]["scansDone"], false);
    let blobs = setup.json("/api/models/acme/tiny?blobs=true").await;
    assert_eq!(blobs["siblings"][0]["lfs"]["sha256"], sha256(&setup.big));
    let some = setup
        .json("/api/models/acme/tiny?expand=sha&expand=siblings")
        .await;
    let keys: Vec<&String> = some.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["_id", "id", "sha", "siblings"]);
    let one = setup.json("/api/models/acme/tiny?expand[]=sha").await;
    assert!(one.get("siblings").is_none() && one.get("sha").is_some());
}

#[tokio::test]
async fn refs_commits_and_changes_are_listed() {
    let setup = setup().await;
    let [first, second] = setup.versions.map(|id| id.to_hex()[..40].to_owned());
    let refs = setup.json("/api/models/acme/tiny/refs?include_prs=1").await;
    assert_eq!(
        refs,
        json!({
            "branches": [{"name":"main","ref":"refs/heads/main","targetCommit":second}],
            "converts": [],
            "tags": [
                {"name":"v0","ref":"refs/tags/v0","targetCommit":first},
                {"name":"v1","ref":"refs/tags/v1","targetCommit":second},
            ],
            "pullRequests": [],
        })
    );
    let at = "/api/models/acme/tiny/commits/main?expand[]=formatted&limit=1";
    let mut page = setup.get(at, &[]).await;
    assert_eq!(page.header("x-total-count"), Some("2"));
    let next = page.header("link").unwrap().to_owned();
    let rows = page.json().await;
    assert_eq!(
        (&rows[0]["id"], &rows[0]["title"]),
        (&json!(second), &json!("a message"))
    );
    assert_eq!(rows[0]["formatted"]["title"], "a message");
    let next = next.strip_prefix("<http://localhost").unwrap();
    let rows = setup
        .json(next.strip_suffix(">; rel=\"next\"").unwrap())
        .await;
    assert_eq!(rows[0]["id"], json!(first));
    let mut changes = setup
        .get("/api/models/acme/tiny/compare/v0..main", &[])
        .await;
    let text = String::from_utf8(changes.bytes().await.unwrap().to_vec()).unwrap();
    let kinds: Vec<&str> = text
        .lines()
        .map(|line| line.split(' ').nth(4).unwrap())
        .collect();
    assert!(
        kinds.contains(&"M\tconfig.json") && kinds.contains(&"D\tgone.txt"),
        "{text}"
    );
    assert!(kinds.contains(&"A\tempty") && kinds.len() == 9, "{text}");
    let same = setup
        .get("/api/models/acme/tiny/compare/v1...main", &[])
        .await;
    assert_eq!(
        (same.status(), same.header("content-length")),
        (200, Some("0"))
    );
    assert_eq!(
        setup
            .get("/api/models/acme/tiny/compare/main", &[])
            .await
            .status(),
        400
    );
}

#[tokio::test]
async fn models_are_listed_by_author_search_and_filter_in_pages() {
    let setup = setup().await;
    let ids = async |query: &str| {
        let rows = setup.json(&format!("/api/models{query}")).await;
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, ["acme/Smol", "acme/tiny"]);
    assert_eq!(
        ids("?sort=id&direction=-1").await,
        ["acme/tiny", "acme/Smol"]
    );
    assert_eq!(ids("?author=acme&search=TIN").await, ["acme/tiny"]);
    assert_eq!(ids("?author=other").await, [""; 0]);
    assert_eq!(ids("?filter=gguf").await, ["acme/Smol"]);
    assert_eq!(ids("?filter=gguf,safetensors").await, [""; 0]);
    let mut page = setup.get("/api/models?limit=1", &[]).await;
    let next = page.header("link").unwrap().to_owned();
    assert!(
        next.starts_with("<http://localhost/api/models?limit=1&cursor=1>"),
        "{next}"
    );
    let rows = page.json().await;
    assert!(rows[0].get("siblings").is_none());
    assert_eq!(ids("?limit=1&cursor=1").await, ["acme/tiny"]);
    assert_eq!(ids(&format!("?limit={}", HUB_PAGE_MAX + 1)).await.len(), 2);
    let full = setup.json("/api/models?full=true&search=smol").await;
    assert_eq!(full[0]["siblings"], json!([{"rfilename":"model.gguf"}]));
    assert_eq!(setup.get("/api/models?limit=x", &[]).await.status(), 400);
}

#[tokio::test]
async fn what_is_not_there_has_the_code_that_clients_turn_into_the_right_error() {
    let setup = setup().await;
    let commit = setup.commit();
    for (path, code) in [
        ("/api/models/acme/none", "RepoNotFound"),
        ("/api/models/nobody/tiny", "RepoNotFound"),
        ("/api/models/tiny", "RepoNotFound"),
        ("/api/models/acme/none-GGUF", "RepoNotFound"),
        ("/api/models/acme/none/tree/main", "RepoNotFound"),
        ("/api/models/acme/tiny-GGUF/tree/none", "RevisionNotFound"),
        ("/api/datasets/acme/tiny", "RepoNotFound"),
        ("/api/spaces/acme/tiny/revision/main", "RepoNotFound"),
        ("/api/agent-harnesses", "RepoNotFound"),
        (
            "/datasets/acme/tiny/resolve/main/config.json",
            "RepoNotFound",
        ),
        ("/spaces/acme/tiny/resolve/main/config.json", "RepoNotFound"),
        ("/tiny/resolve/main/config.json", "RepoNotFound"),
        ("/acme/none/resolve/main/config.json", "RepoNotFound"),
        ("/acme/tiny/resolve/none/config.json", "RevisionNotFound"),
        (
            "/acme/tiny/resolve/refs%2Fpr%2F1/config.json",
            "RevisionNotFound",
        ),
        (
            "/acme/tiny/resolve/main--none/config.json",
            "RevisionNotFound",
        ),
        (
            "/api/models/acme/tiny/revision/refs%2Fpr%2F1",
            "RevisionNotFound",
        ),
        (
            "/api/models/acme/tiny/revision/0123456789012345678901234567890123456789",
            "RevisionNotFound",
        ),
        ("/acme/tiny/resolve/main/none", "EntryNotFound"),
        ("/acme/tiny/resolve/main/../../etc/passwd", "EntryNotFound"),
        (
            "/acme/tiny/resolve/main/sub%2F..%2Fconfig.json",
            "EntryNotFound",
        ),
        ("/acme/tiny/resolve/main/sub", "EntryNotFound"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let (status, found) = setup.failure(method, path).await;
            assert_eq!((status, found.as_deref()), (404, Some(code)), "{path}");
        }
    }
    let none = setup.head("/acme/tiny/resolve/main/none").await;
    assert_eq!(none.header("x-repo-commit"), Some(&commit[..]));
    let mut lost = setup
        .get(&format!("/acme/tiny/resolve/{commit}/lost.txt"), &[])
        .await;
    assert_eq!((lost.status(), lost.header("x-error-code")), (503, None));
    assert!(lost.header("retry-after").is_some());
    assert!(lost.json().await["error"].is_string());
    let lost = setup
        .head(&format!("/acme/tiny/resolve/{commit}/lost.txt"))
        .await;
    assert_eq!(lost.status(), 200, "a head needs no bytes");
    for path in ["/acme/tiny/resolve/main/a%00b", "/acme/tiny/resolve/%ff/a"] {
        assert_eq!(setup.failure(Method::GET, path).await.0, 400, "{path}");
    }
    assert_eq!(
        setup
            .post("/acme/tiny/resolve/main/config.json", "")
            .await
            .status(),
        405
    );
}

#[tokio::test]
async fn another_case_leads_to_the_name_as_it_is_written() {
    let setup = setup().await;
    for (path, expected) in [
        ("/api/models/ACME/Tiny", "/api/models/acme/tiny"),
        (
            "/api/models/acme/smol?blobs=true",
            "/api/models/acme/Smol?blobs=true",
        ),
        (
            "/Acme/TINY/resolve/main/sub/x.txt",
            "/acme/tiny/resolve/main/sub/x.txt",
        ),
        (
            "/api/models/acme/smol-gguf/refs",
            "/api/models/acme/Smol-GGUF/refs",
        ),
        (
            "/api/models/acme/Smol-Gguf/tree/main/a%2Fb",
            "/api/models/acme/Smol-GGUF/tree/main/a%2Fb",
        ),
    ] {
        let answer = setup.get(path, &[]).await;
        assert_eq!(
            (answer.status(), answer.header("location")),
            (307, Some(expected)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_variants_of_a_model_are_a_repository_of_gguf_files() {
    let mut setup = setup().await;
    let refs = setup.json("/api/models/acme/Smol-GGUF/refs").await;
    let commit = refs["branches"][0]["targetCommit"]
        .as_str()
        .unwrap()
        .to_owned();
    let tree = setup
        .json(&format!(
            "/api/models/acme/Smol-GGUF/tree/{commit}?recursive=true"
        ))
        .await;
    let names = paths(&tree);
    assert!(
        names.contains(&"Smol-Q4_K_M.gguf") && names.contains(&"Smol-Q8_0.gguf"),
        "{names:?}"
    );
    let at = names
        .iter()
        .position(|name| *name == "Smol-Q8_0.gguf")
        .unwrap();
    let (size, oid) = (
        tree[at]["size"].as_u64().unwrap(),
        tree[at]["lfs"]["oid"].as_str().unwrap(),
    );
    assert_eq!(oid.len(), 64);
    let file = format!("/acme/Smol-GGUF/resolve/{commit}/Smol-Q8_0.gguf");
    let head = setup.head(&file).await;
    assert_eq!(head.status(), 200);
    assert_eq!(head.header("x-repo-commit"), Some(&commit[..]));
    assert_eq!(head.header("etag"), Some(&format!("\"{oid}\"")[..]));
    assert_eq!(head.header("content-length"), Some(&size.to_string()[..]));
    let whole = setup.get(&file, &[]).await.bytes().await.unwrap();
    assert_eq!(whole.len() as u64, size);
    let mut part = setup.get(&file, &[("range", "bytes=1000-")]).await;
    assert_eq!(part.status(), 206);
    assert!(part.bytes().await.unwrap() == whole[1000..]);
    let branch = setup
        .head("/acme/Smol-GGUF/resolve/main/Smol-Q8_0.gguf")
        .await;
    assert_eq!(branch.header("location"), Some(&file[..]));
    let model = setup.json("/api/models/acme/Smol-GGUF").await;
    assert_eq!(
        (&model["id"], &model["tags"]),
        (&json!("acme/Smol-GGUF"), &json!(["gguf"]))
    );
    // The same variant as a revision of the model is the same file.
    let revision = setup
        .json("/api/models/acme/Smol/revision/main--q8_0")
        .await;
    let of_variant = revision["sha"].as_str().unwrap();
    assert_ne!(of_variant, commit);
    let head = setup
        .head(&format!("/acme/Smol/resolve/{of_variant}/model.gguf"))
        .await;
    assert_eq!(head.header("etag"), Some(&format!("\"{oid}\"")[..]));
    assert_eq!(head.header("x-repo-commit"), Some(of_variant));
    // A model without weights makes nothing, and a model of that name wins.
    let (status, code) = setup
        .failure(Method::GET, "/api/models/acme/tiny-GGUF/tree/v0")
        .await;
    assert_eq!((status, code.as_deref()), (404, Some("RepoNotFound")));
    setup.home.push(
        "Smol-GGUF",
        &[("real.txt", Held::Pack, b"x")],
        &[],
        &["heads/main"],
    );
    let tree = setup.json("/api/models/acme/Smol-GGUF/tree/main").await;
    assert_eq!(paths(&tree), ["real.txt"]);
}

#[tokio::test]
async fn a_variant_is_a_revision_whose_commit_leads_back_to_it() {
    let mut setup = setup().await;
    let weights = safetensors(&[("model.layers.0.mlp.up_proj.weight", &[128, 256])]);
    let files = [
        (
            "config.json",
            Held::Pack,
            &b"{\"model_type\":\"llama\"}"[..],
        ),
        ("model.safetensors", Held::Whole, &weights),
    ];
    let refs = ["heads/main", "tags/v1"];
    let base = setup.home.push("llm", &files, &[], &refs).to_hex()[..40].to_owned();
    let mut shas = Vec::new();
    for rev in ["main--fp8", "v1--FP8", &format!("{base}--fp8")] {
        let info = setup
            .json(&format!("/api/models/acme/llm/revision/{rev}"))
            .await;
        shas.push(info["sha"].as_str().unwrap().to_owned());
    }
    assert!(
        shas.iter()
            .all(|sha| *sha == shas[0] && sha.len() == 40 && *sha != base)
    );
    let sha = &shas[0];
    let tree = setup
        .json(&format!("/api/models/acme/llm/tree/{sha}?recursive=true"))
        .await;
    assert!(paths(&tree).contains(&"model.safetensors"));
    let branch = setup.head("/acme/llm/resolve/main--fp8/config.json").await;
    let location = format!("/acme/llm/resolve/{sha}/config.json");
    assert_eq!(
        (branch.status(), branch.header("location")),
        (307, Some(&location[..]))
    );
    let mut config = setup.get(&location, &[]).await;
    assert_eq!(config.status(), 200);
    assert!(config.json().await.is_object());
    // Digits that no recipe has name nothing.
    let other = format!("{}00000000", &sha[..32]);
    let (status, code) = setup
        .failure(
            Method::GET,
            &format!("/api/models/acme/llm/revision/{other}"),
        )
        .await;
    assert_eq!((status, code.as_deref()), (404, Some("RevisionNotFound")));
}

#[tokio::test]
async fn who_asks_is_said_to_those_who_say_it_first() {
    let setup = setup().await;
    let answer = setup.get("/api/whoami-v2", &[]).await;
    assert_eq!(
        (answer.status(), answer.header("x-error-code")),
        (401, None)
    );
    let token = [("authorization", "Bearer hf_x")];
    let mut answer = setup.get("/api/whoami-v2", &token).await;
    let about = answer.json().await;
    assert_eq!(
        (&about["type"], &about["auth"]["accessToken"]["role"]),
        (&json!("user"), &json!("write"))
    );
}
