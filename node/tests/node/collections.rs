//! Collections in homes: from a file to a signed version, to another home, and back out of all of it.

use std::{fs, path::Path};

use lode_node::{
    EventSink,
    command::{
        CollectionCommand, CollectionCommit, CollectionCreate, CollectionImport, CollectionRestore,
        CollectionSearch, CollectionSelect, CollectionShown, Command, Event, Failure, FailureKind,
        Outcome, PointRow, PointsImported, Pushed, VectorRow,
    },
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::common::{TestNode, node, open, text};

const DIM: usize = 16;

/// Uniform numbers from a seed, -1 to 1.
struct Random(u64);

impl Random {
    fn single(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f32::from(i16::try_from((self.0 >> 48) as u16 as i32 - 32_768).unwrap()) / 32_768.0
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIM).map(|_| self.single()).collect()
    }
}

/// A file of JSON lines with points `from..to`.
fn lines(path: &Path, from: u64, to: u64) {
    let mut random = Random(from + 1);
    let mut out = String::new();
    for id in from..to {
        let point = json!({"id": id, "embedding": random.vector(), "year": 2000 + id % 25,
            "tag": format!("t{}", id % 7)});
        out.push_str(&format!("{point}\n"));
    }
    fs::write(path, out).unwrap();
}

impl TestNode {
    async fn ask(&self, command: CollectionCommand) -> Result<Outcome, Failure> {
        self.run(Command::Collection(Box::new(command))).await
    }

    async fn create(&self, name: &str, change: impl FnOnce(&mut CollectionCreate)) {
        let row = VectorRow {
            size: u32::try_from(DIM).unwrap(),
            metric: "cosine".to_owned(),
            dtype: "f32".to_owned(),
        };
        let mut create = CollectionCreate {
            name: name.to_owned(),
            vectors: [(String::new(), row)].into(),
            indexes: [("tag".to_owned(), "keyword".to_owned())].into(),
            ..CollectionCreate::default()
        };
        change(&mut create);
        let made = self.ask(CollectionCommand::Create(create)).await.unwrap();
        assert!(matches!(made, Outcome::Collection(_)));
    }

    async fn index(&self, name: &str, file: &Path) -> Result<PointsImported, Failure> {
        let import = CollectionCommand::Import(import(name, file));
        match self.ask(import).await? {
            Outcome::PointsImported(imported) => Ok(imported),
            other => panic!("index answered {other:?}"),
        }
    }

    async fn commit(&self, name: &str, tag: Option<&str>) -> Result<Pushed, Failure> {
        let commit = CollectionCommit {
            name: name.to_owned(),
            message: "m".to_owned(),
            tag: tag.map(str::to_owned),
            public: true,
            ..CollectionCommit::default()
        };
        match self.ask(CollectionCommand::Commit(commit)).await? {
            Outcome::Pushed(pushed) => Ok(pushed),
            other => panic!("commit answered {other:?}"),
        }
    }

    async fn search(
        &self,
        name: &str,
        change: impl FnOnce(&mut CollectionSearch),
    ) -> Result<Vec<PointRow>, Failure> {
        let mut search = CollectionSearch {
            name: name.to_owned(),
            vector: Some(json!(Random(99).vector())),
            limit: 10,
            exact: true,
            ..CollectionSearch::default()
        };
        change(&mut search);
        match self.ask(CollectionCommand::Search(search)).await? {
            Outcome::Points { points, .. } => Ok(points),
            other => panic!("search answered {other:?}"),
        }
    }

    async fn delete(&self, name: &str, filter: &str) -> Result<u64, Failure> {
        let select = CollectionSelect {
            name: name.to_owned(),
            filter: Some(filter.to_owned()),
            ..CollectionSelect::default()
        };
        match self.ask(CollectionCommand::DeletePoints(select)).await? {
            Outcome::PointsChanged { points } => Ok(points),
            other => panic!("delete answered {other:?}"),
        }
    }

    async fn collection(&self, name: &str) -> Result<CollectionShown, Failure> {
        let name = name.to_owned();
        match self.ask(CollectionCommand::Show { name }).await? {
            Outcome::Collection(shown) => Ok(*shown),
            other => panic!("show answered {other:?}"),
        }
    }
}

fn import(name: &str, file: &Path) -> CollectionImport {
    CollectionImport {
        name: name.to_owned(),
        file: text(file),
        id: Some("id".to_owned()),
        vector: Some("embedding".to_owned()),
        ..CollectionImport::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_pulled_answers_as_where_it_was_made() {
    let (a, b) = (node(), node());
    let file = a.home.path().join("points.jsonl");
    lines(&file, 0, 9000);
    a.create("acme/docs", |_| ()).await;
    let imported = a.index("acme/docs", &file).await.unwrap();
    assert_eq!((imported.points, imported.points_total), (9000, 9000));
    let pushed = a.commit("acme/docs", Some("v1")).await.unwrap();
    assert!(pushed.changed);
    assert!(!a.commit("acme/docs", None).await.unwrap().changed);
    assert_eq!(a.show("acme/docs@v1").await.kind, "collection");
    let verified = a
        .run(Command::Verify {
            name: "acme/docs".to_owned(),
        })
        .await
        .unwrap();
    assert!(
        matches!(verified, Outcome::Checked(checked) if checked.findings.is_empty() && checked.missing == 0)
    );

    let ticket = a.share("acme/docs").await;
    b.pull("acme/docs", Some(&ticket), None, |_| ())
        .await
        .unwrap();
    let filtered = |search: &mut CollectionSearch| {
        search.filter = Some("tag = \"t3\" and year >= 2010".to_owned());
    };
    let along_links = |search: &mut CollectionSearch| search.exact = false;
    for change in [
        &(|_: &mut CollectionSearch| ()) as &dyn Fn(&mut CollectionSearch),
        &filtered,
        &along_links,
    ] {
        let here = a.search("acme/docs", change).await.unwrap();
        assert_eq!(here.len(), 10);
        assert_eq!(here, b.search("acme/docs", change).await.unwrap());
    }
    let copy = b.collection("acme/docs").await.unwrap();
    assert!(!copy.row.own && !copy.changed);
    assert_eq!(copy.row.version.as_ref(), Some(&pushed.version));
    // a copy is read, not changed
    let refused = b.delete("acme/docs", "year = 2001").await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert_eq!(
        b.commit("acme/docs", None).await.unwrap_err().kind,
        FailureKind::Refused
    );

    // what changed arrives, what did not is not sent again
    let deleted = a.delete("acme/docs", "year = 2001").await.unwrap();
    assert_eq!(deleted, 360);
    lines(&file, 9000, 9100);
    a.index("acme/docs", &file).await.unwrap();
    a.commit("acme/docs", Some("v2")).await.unwrap();
    let second = b.pull("acme/docs", None, None, |_| ()).await.unwrap();
    assert!(second.size_fetched * 3 < second.size_full, "{second:?}");
    assert_eq!(
        b.collection("acme/docs").await.unwrap().row.points,
        Some(8740)
    );
    assert_eq!(
        a.search("acme/docs", |_| ()).await.unwrap(),
        b.search("acme/docs", |_| ()).await.unwrap()
    );
    // the first version is there still, and can be gone on from
    let restore = CollectionRestore {
        name: "acme/docs@v1".to_owned(),
        to: Some("mine/docs".to_owned()),
        force: false,
    };
    b.pull("acme/docs@v1", None, None, |_| ()).await.unwrap();
    b.ask(CollectionCommand::Restore(restore.clone()))
        .await
        .unwrap();
    assert_eq!(
        b.ask(CollectionCommand::Restore(restore))
            .await
            .unwrap_err()
            .kind,
        FailureKind::Refused
    );
    let mine = b.collection("mine/docs").await.unwrap();
    assert!(mine.row.own && mine.row.points == Some(9000));
    assert_eq!(b.delete("mine/docs", "@id = 5").await.unwrap(), 1);
    let pushed = b.commit("mine/docs", None).await.unwrap();
    assert_eq!(b.show("mine/docs").await.base.len(), 1, "{pushed:?}");
    a.node.shutdown().await;
    b.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_not_what_it_claims_is_not_searched_though_it_is_signed() {
    let (a, b) = (node(), node());
    let file = a.home.path().join("points.jsonl");
    lines(&file, 0, 300);
    a.create("acme/docs", |_| ()).await;
    a.index("acme/docs", &file).await.unwrap();
    let name = "acme/docs".to_owned();
    a.ask(CollectionCommand::Compact { name }).await.unwrap();
    // a first version makes segments of what is in memory
    a.commit("acme/docs", None).await.unwrap();
    a.node.shutdown().await;
    let home = a.home;
    drop(a.node);
    let folder = home.path().join("collections");
    let folders = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let data = folders
        .map(|path| path.join("data"))
        .find(|path| path.is_dir())
        .unwrap();
    let segment = fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segment = segment
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "seg"))
        .unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let last = bytes.len() - 100;
    bytes[last] ^= 1;
    // under a name of its own: the store has the right bytes
    fs::remove_file(&segment).unwrap();
    fs::write(&segment, bytes).unwrap();
    let a = TestNode {
        node: open(home.path()),
        home,
    };
    lines(&file, 300, 301);
    a.index("acme/docs", &file).await.unwrap();
    let commit = CollectionCommit {
        name: "acme/docs".to_owned(),
        branch: Some("forged".to_owned()),
        public: true,
        ..CollectionCommit::default()
    };
    a.ask(CollectionCommand::Commit(commit)).await.unwrap();
    let ticket = a.share("acme/docs@forged").await;
    let refused = b
        .pull("acme/docs@forged", Some(&ticket), None, |_| ())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Corrupt, "{refused:?}");
    assert_eq!(
        b.search("acme/docs", |_| ()).await.unwrap_err().kind,
        FailureKind::NotFound
    );
    a.node.shutdown().await;
    b.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_stopped_goes_on_where_it_was() {
    let a = node();
    let file = a.home.path().join("points.jsonl");
    lines(&file, 0, 30_000);
    a.create("acme/docs", |_| ()).await;
    let (sender, mut events) = mpsc::unbounded_channel();
    let cancel = CancellationToken::new();
    let sink = EventSink::new(sender, cancel.clone());
    let running = {
        let node = a.node.clone();
        let import = CollectionCommand::Import(import("acme/docs", &file));
        tokio::spawn(async move { node.run(Command::Collection(Box::new(import)), sink).await })
    };
    while let Some(event) = events.recv().await {
        if matches!(event, Event::Progress { ref phase, .. } if phase == "index") {
            cancel.cancel();
            break;
        }
    }
    assert!(running.await.unwrap().is_err());
    let first = a.collection("acme/docs").await.unwrap().row.points.unwrap();
    assert!((1..30_000).contains(&first), "{first}");
    let imported = a.index("acme/docs", &file).await.unwrap();
    assert_eq!((imported.points, imported.points_total), (30_000, 30_000));
    assert_eq!(imported.points_before, first);
    // once it is through, the same file is read anew, and each point is there once
    let again = a.index("acme/docs", &file).await.unwrap();
    assert_eq!((again.points_before, again.points_total), (0, 30_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_of_another_model_metric_or_length_are_refused() {
    let a = node();
    a.create("acme/docs", |create| {
        create.embedder = Some("minilm".to_owned())
    })
    .await;
    let file = a.home.path().join("points.jsonl");
    lines(&file, 0, 10);
    let with = |change: &dyn Fn(&mut CollectionImport)| {
        let mut import = import("acme/docs", &file);
        change(&mut import);
        a.ask(CollectionCommand::Import(import))
    };
    let kind = |result: Result<Outcome, Failure>| result.unwrap_err().kind;
    assert_eq!(
        kind(with(&|import| import.embedder = Some("bge".to_owned())).await),
        FailureKind::Refused
    );
    assert_eq!(
        kind(with(&|import| import.metric = Some("dot".to_owned())).await),
        FailureKind::Refused
    );
    with(&|import| import.embedder = Some("minilm".to_owned()))
        .await
        .unwrap();
    let other = |search: &mut CollectionSearch| search.embedder = Some("bge".to_owned());
    assert_eq!(
        a.search("acme/docs", other).await.unwrap_err().kind,
        FailureKind::Refused
    );
    let short = |search: &mut CollectionSearch| search.vector = Some(json!([1, 2]));
    assert_eq!(
        a.search("acme/docs", short).await.unwrap_err().kind,
        FailureKind::Usage
    );
    fs::write(&file, "{\"id\": 1, \"embedding\": [1, 2]}\n").unwrap();
    assert_eq!(kind(with(&|_| ()).await), FailureKind::Usage);
    assert_eq!(
        a.collection("acme/docs").await.unwrap().row.points,
        Some(10)
    );
}

/// The files of a home that hold a run of bytes.
fn holding(folder: &Path, needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, needle));
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            if bytes.windows(needle.len()).any(|window| window == needle) {
                found.push(text(&path));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_leaves_no_byte_of_a_deleted_point_in_the_home() {
    let a = node();
    // elsewhere than in the home, which is searched
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("points.jsonl");
    let row = VectorRow {
        size: u32::try_from(DIM).unwrap(),
        metric: "dot".to_owned(),
        dtype: "f32".to_owned(),
    };
    a.create("acme/docs", |create| {
        drop(create.vectors.insert(String::new(), row))
    })
    .await;
    lines(&file, 0, 2000);
    a.index("acme/docs", &file).await.unwrap();
    let secret = "q7Zp1-Xv9Lm3-Rk5Tw8-Yb2Nc6";
    let vector: Vec<f32> = Random(12_345).vector();
    let needle: Vec<u8> = vector
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let point = json!({"id": 5000, "embedding": vector, "tag": secret});
    fs::write(&file, format!("{point}\n")).unwrap();
    a.index("acme/docs", &file).await.unwrap();
    a.commit("acme/docs", Some("v1")).await.unwrap();
    assert_eq!(
        a.delete("acme/docs", &format!("tag = \"{secret}\""))
            .await
            .unwrap(),
        1
    );
    a.commit("acme/docs", Some("v2")).await.unwrap();
    let home = a.home.path();
    assert!(!holding(home, &needle).is_empty() && !holding(home, secret.as_bytes()).is_empty());
    let name = "acme/docs".to_owned();
    a.ask(CollectionCommand::Purge { name }).await.unwrap();
    assert_eq!(holding(home, &needle), Vec::<String>::new());
    assert_eq!(holding(home, secret.as_bytes()), Vec::<String>::new());
    let shown = a.collection("acme/docs").await.unwrap();
    assert_eq!((shown.row.points, shown.changed), (Some(2000), false));
    assert!(a.show("acme/docs").await.parents.is_empty());
    assert_eq!(a.search("acme/docs", |_| ()).await.unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_no_version_is_not_deleted_by_mistake() {
    let a = node();
    let file = a.home.path().join("points.jsonl");
    lines(&file, 0, 10);
    a.create("acme/docs", |_| ()).await;
    a.index("acme/docs", &file).await.unwrap();
    let remove = |force| CollectionCommand::Remove {
        name: "acme/docs".to_owned(),
        force,
    };
    assert_eq!(
        a.ask(remove(false)).await.unwrap_err().kind,
        FailureKind::Refused
    );
    a.commit("acme/docs", None).await.unwrap();
    a.ask(remove(false)).await.unwrap();
    assert_eq!(
        a.collection("acme/docs").await.unwrap_err().kind,
        FailureKind::NotFound
    );
    // its version brings it back
    let restore = CollectionRestore {
        name: "acme/docs".to_owned(),
        ..CollectionRestore::default()
    };
    a.ask(CollectionCommand::Restore(restore)).await.unwrap();
    let shown = a.collection("acme/docs").await.unwrap();
    assert!(shown.row.own && shown.row.points == Some(10) && !shown.changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_a_model_or_a_collection() {
    let a = node();
    let (_folder, root) = crate::common::model(1.0);
    a.push(&root, "acme/tiny").await.unwrap();
    a.create("acme/tiny", |_| ()).await;
    assert_eq!(
        a.commit("acme/tiny", None).await.unwrap_err().kind,
        FailureKind::Refused
    );
    a.create("acme/docs", |_| ()).await;
    a.commit("acme/docs", None).await.unwrap();
    assert_eq!(
        a.push(&root, "acme/docs").await.unwrap_err().kind,
        FailureKind::Refused
    );
}
