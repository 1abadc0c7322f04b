#![allow(clippy::unwrap_used)]

use std::{fs, time::Duration};

use lode_index::{
    Dim, Dtype, Filter, Metric, Payload, Point, SearchRequest, Vector, VectorParams,
    operation::Selection, view::Report,
};
use tempfile::TempDir;

use super::*;
use crate::NodeOptions;

pub(super) struct Home {
    folder: TempDir,
    node: Node,
}

impl Home {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = Node::open(&folder.path().join("home"), NodeOptions::default()).unwrap();
        Self { folder, node }
    }

    /// The same home in another node.
    pub(super) fn again(self) -> Self {
        let Self { folder, node } = self;
        drop(node);
        // the thread may be within a step, which ends
        let node =
            wait_for(|| Node::open(&folder.path().join("home"), NodeOptions::default()).ok());
        Self { folder, node }
    }

    pub(super) fn collections(&self) -> Collections {
        self.node.collections()
    }

    fn on_disk(&self) -> Vec<String> {
        files::names(&self.folder.path().join("home/collections")).unwrap()
    }
}

fn wait_for<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    for _ in 0..6000 {
        if let Some(value) = ready() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it did not happen within a minute");
}

pub(super) fn config() -> CollectionConfig {
    CollectionConfig::single(VectorParams {
        dim: Dim::new(2).unwrap(),
        metric: Metric::Dot,
        dtype: Dtype::F32,
    })
}

pub(super) fn point(id: u64) -> Point {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let vector = Vector::Dense(vec![id as f32, 1.0]);
    Point {
        id: id.into(),
        vectors: [(String::new(), vector)].into(),
        payload: Payload::empty(),
    }
}

pub(super) fn upsert(collection: &OpenCollection, ids: std::ops::Range<u64>) {
    let points = ids.map(point).collect();
    collection.apply(Operation::Upsert(points)).unwrap();
}

#[test]
fn a_collection_is_there_after_the_node_is_opened_again() {
    let home = Home::new();
    let at = home.collections().create("Docs", config(), false).unwrap();
    upsert(&home.collections().open(&at).unwrap(), 0..10);
    let home = home.again();
    let collection = home.collections().open_named("docs").unwrap();
    assert_eq!(collection.name(), "Docs", "as it was spelled");
    assert_eq!(collection.view().len(), 10);
    let found = collection.view().search(
        &SearchRequest::nearest(vec![1.0, 0.0], 1),
        &mut Report::default(),
    );
    assert_eq!(found.unwrap()[0].id, 9.into());
}

#[test]
fn a_name_is_one_whatever_its_case_and_whoever_says_it() {
    let home = Home::new();
    let collections = home.collections();
    assert!(matches!(
        collections.find("docs"),
        Err(CollectionsError::Absent { .. })
    ));
    let at = collections.create("docs", config(), false).unwrap();
    for name in ["DOCS", "docs", &format!("{}/Docs", at.publisher)] {
        assert!(matches!(
            collections.create(name, config(), false),
            Err(CollectionsError::Exists { .. })
        ));
        assert_eq!(collections.find(name).unwrap().name, "docs");
    }
    // an alias that nobody has becomes the home's own publisher, as with a push
    let other = collections.create("acme/other", config(), false).unwrap();
    assert_eq!(other.publisher, at.publisher);
    assert_eq!(collections.find("acme/docs").unwrap().name, "docs");
    assert_eq!(collections.full_name(&at).unwrap(), "acme/docs");
    let names: Vec<_> = collections
        .list()
        .unwrap()
        .into_iter()
        .map(|at| at.name)
        .collect();
    assert_eq!(names, ["docs", "other"]);
    for name in ["", "a/b/c", "..", "a b", "api/x", &"x".repeat(97)] {
        assert!(matches!(
            collections.find(name),
            Err(CollectionsError::Name(_))
        ));
    }
}

#[test]
fn another_publishers_collection_is_made_by_nobody_here_and_not_changed() {
    let home = Home::new();
    let collections = home.collections();
    let stranger = PublisherId::from_bytes([7; 32]);
    let failure = collections
        .create(&format!("{stranger}/docs"), config(), false)
        .unwrap_err();
    assert_eq!(failure.kind(), crate::command::FailureKind::Refused);
    let at = collections
        .install(stranger, "docs", false, &mut |data| {
            lode_index::Collection::create(data, config()).unwrap();
            Ok(())
        })
        .unwrap();
    let copy = collections.open(&at).unwrap();
    assert!(!copy.is_writable() && copy.view().is_empty());
    assert!(matches!(
        copy.apply(Operation::Upsert(vec![point(1)])),
        Err(CollectionsError::NotYours { .. })
    ));
}

#[test]
fn a_deleted_collection_is_gone_and_a_later_one_of_its_name_is_untouched_by_who_works_on_it() {
    let home = Home::new();
    let collections = home.collections();
    let at = collections.create("docs", config(), false).unwrap();
    let old = collections.open(&at).unwrap();
    upsert(&old, 0..10);
    collections.delete(&at).unwrap();
    assert!(matches!(
        collections.delete(&at),
        Err(CollectionsError::Absent { .. })
    ));
    assert!(matches!(
        collections.open(&at),
        Err(CollectionsError::Absent { .. })
    ));
    assert_eq!(old.view().len(), 10, "who reads it may read on");
    let new = collections.create("docs", config(), false).unwrap();
    let new = collections.open(&new).unwrap();
    // whatever comes of these
    let _ = old.apply(Operation::Upsert(vec![point(99)]));
    let _ = old.engine().freeze();
    assert!(new.view().is_empty());
    upsert(&new, 0..3);
    drop((old, new, collections));
    let home = home.again();
    let collection = home.collections().open_named("docs").unwrap();
    assert_eq!(collection.view().len(), 3);
    let folders = home.on_disk();
    assert_eq!(folders.len(), 1, "{folders:?}");
}

#[test]
fn what_was_on_its_way_when_a_node_was_killed_is_removed() {
    let home = Home::new();
    home.collections().create("docs", config(), false).unwrap();
    let folder = home.folder.path().join("home/collections");
    for name in [".new-x.0", ".gone-y.1"] {
        fs::create_dir_all(folder.join(name).join("data")).unwrap();
    }
    let home = home.again();
    assert_eq!(home.collections().list().unwrap().len(), 1);
    assert_eq!(home.on_disk().len(), 1);
}

#[test]
fn a_damaged_collection_keeps_no_other_from_being_used() {
    let home = Home::new();
    for name in ["a", "b", "c"] {
        home.collections().create(name, config(), false).unwrap();
    }
    let folders = home.on_disk();
    let folder = home.folder.path().join("home/collections");
    fs::write(folder.join(&folders[0]).join("data/head"), b"junk").unwrap();
    fs::write(folder.join(&folders[1]).join("about"), b"junk").unwrap();
    let home = home.again();
    let collections = home.collections();
    let error = collections.open_named("a").unwrap_err();
    assert_eq!(error.kind(), crate::command::FailureKind::Corrupt);
    assert!(matches!(
        collections.find("b"),
        Err(CollectionsError::Absent { .. })
    ));
    upsert(&collections.open_named("c").unwrap(), 0..5);
    assert_eq!(collections.figures().unwrap().unreadable, 1);
    let a = collections.find("a").unwrap();
    collections.delete(&a).unwrap();
    collections.create("a", config(), false).unwrap();
}

#[test]
fn aliases_stand_for_collections_and_go_with_them() {
    let home = Home::new();
    let collections = home.collections();
    let at = collections.create("docs-2", config(), false).unwrap();
    let set = |alias: &str, collection: &str| {
        AliasChange::Set(AliasAt {
            publisher: at.publisher,
            alias: alias.to_owned(),
            collection: collection.to_owned(),
        })
    };
    collections
        .change_aliases(&[set("docs", "DOCS-2")])
        .unwrap();
    assert_eq!(collections.find("Docs").unwrap().name, "docs-2");
    // all or nothing
    let changes = [set("other", "docs-2"), set("x", "nothing")];
    assert!(collections.change_aliases(&changes).is_err());
    assert!(collections.find("other").is_err());
    assert!(matches!(
        collections.change_aliases(&[set("docs-2", "docs-2")]),
        Err(CollectionsError::Exists { .. })
    ));
    assert!(matches!(
        collections.create("docs", config(), false),
        Err(CollectionsError::Exists { .. })
    ));
    let rename = AliasChange::Rename {
        publisher: at.publisher,
        from: "docs".to_owned(),
        to: "papers".to_owned(),
    };
    collections.change_aliases(&[rename]).unwrap();
    drop(collections);
    let home = home.again();
    let collections = home.collections();
    let aliases = collections.aliases().unwrap();
    assert_eq!(aliases.len(), 1);
    assert_eq!(
        (aliases[0].alias.as_str(), aliases[0].collection.as_str()),
        ("papers", "docs-2")
    );
    let at = collections.find("papers").unwrap();
    collections.delete(&at).unwrap();
    assert!(collections.aliases().unwrap().is_empty());
    drop(collections);
    assert!(home.again().collections().find("papers").is_err());
}

#[test]
fn tokens_and_visibility_say_who_reads_and_writes() {
    use lode_store::access::{TokenScope, TokenScopes};
    let home = Home::new();
    let collections = home.collections();
    let at = collections.create("docs", config(), false).unwrap();
    let token = |models: &str, write| {
        let scope = TokenScope {
            publisher: Some(at.publisher),
            models: models.to_owned(),
            write,
        };
        Caller::Token(Arc::new(TokenScopes {
            scopes: vec![scope],
            expires: None,
        }))
    };
    let grant = |caller: &Caller| collections.grant(caller, &collections.find("docs").unwrap());
    assert_eq!(grant(&Caller::Owner), Grant::Write);
    assert_eq!(grant(&token("do*", true)), Grant::Write);
    assert_eq!(grant(&token("do*", false)), Grant::Read);
    assert_eq!(grant(&token("other", true)), Grant::None);
    assert_eq!(grant(&Caller::Anonymous), Grant::None);
    let writer = token("do*", true);
    let new = |name: &str| collections.grant_new(&writer, name).unwrap();
    assert_eq!(new("do-more"), Some(Grant::Write));
    assert_eq!(new("more"), Some(Grant::None));
    assert_eq!(new("acme/docs"), None);
    collections.set_public(&at, true).unwrap();
    assert_eq!(grant(&Caller::Anonymous), Grant::Read);
    drop(collections);
    let home = home.again();
    assert!(home.collections().find("docs").unwrap().public, "durably");
}

#[test]
fn what_is_written_becomes_segments_in_the_background() {
    let home = Home::new();
    let collections = home.collections();
    let at = collections.create("docs", config(), false).unwrap();
    let collection = collections.open(&at).unwrap();
    let full = u64::from(lode_index::limits::LIVE_POINTS_MAX);
    upsert(&collection, 0..full);
    wait_for(|| (collection.view().segments() == 1).then_some(()));
    assert_eq!(collection.view().len(), full);
    let delete = Operation::Delete(Selection::Filter(Filter::default()));
    collection.apply(delete).unwrap();
    assert_eq!(collection.view().len(), 0);
    // one that its background work looks at in this moment is left out
    let figures = wait_for(|| {
        collections
            .figures()
            .ok()
            .filter(|figures| figures.open == 1)
    });
    assert_eq!(figures.collections, 1);
    assert!(figures.flushed > 0 && figures.failed == 0);
}

#[test]
fn only_so_many_collections_stay_open_and_none_that_is_used_is_closed() {
    let home = Home::new();
    let collections = home.collections();
    let ats: Vec<_> = (0..=limits::OPEN_MAX)
        .map(|number| {
            collections
                .create(&format!("c{number}"), config(), false)
                .unwrap()
        })
        .collect();
    let held = collections.open(&ats[0]).unwrap();
    upsert(&held, 0..3);
    for at in &ats {
        wait_for(|| (collections.figures().unwrap().waiting == 0).then_some(()));
        upsert(&collections.open(at).unwrap(), 5..6);
    }
    wait_for(|| (collections.figures().unwrap().waiting == 0).then_some(()));
    let open = collections.figures().unwrap().open;
    assert!(
        open <= limits::OPEN_MAX as u64 && open > limits::OPEN_MAX as u64 / 2,
        "{open}"
    );
    upsert(&held, 3..4);
    assert_eq!(collections.open(&ats[0]).unwrap().view().len(), 5);
    for at in &ats[1..] {
        assert_eq!(collections.open(at).unwrap().view().len(), 1);
    }
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("about");
    let max = usize::try_from(limits::ABOUT_BYTES_MAX).unwrap();
    fs::write(&path, vec![b'x'; max]).unwrap();
    assert_eq!(
        files::read(&path, limits::ABOUT_BYTES_MAX).unwrap().len(),
        max
    );
    fs::write(&path, vec![b'x'; max + 1]).unwrap();
    assert!(files::read(&path, limits::ABOUT_BYTES_MAX).is_err());
}

#[test]
fn one_point_more_than_an_answer_may_have_is_refused() {
    use crate::command::{CollectionCommand, CollectionPoints, CollectionSearch, Outcome};
    let home = Home::new();
    let collections = home.collections();
    collections.create("docs", config(), false).unwrap();
    let events = crate::EventSink::discard();
    let max = limits::POINTS_READ_MAX;
    let points = |limit: usize, ids: usize| {
        let command = CollectionCommand::Points(CollectionPoints {
            name: "docs".into(),
            ids: vec!["1".into(); ids],
            limit: limit as u64,
            ..CollectionPoints::default()
        });
        collections.ask(command, &events)
    };
    let search = |limit: usize| {
        let command = CollectionCommand::Search(CollectionSearch {
            name: "docs".into(),
            vector: Some(serde_json::json!([1, 0])),
            limit: limit as u64,
            ..CollectionSearch::default()
        });
        collections.ask(command, &events)
    };
    assert!(matches!(points(max, 0), Ok(Outcome::Points { .. })));
    assert!(matches!(points(1, max), Ok(Outcome::Points { .. })));
    assert!(matches!(search(max), Ok(Outcome::Points { .. })));
    for refused in [points(max + 1, 0), points(1, max + 1), search(max + 1)] {
        assert_eq!(
            refused.unwrap_err().kind,
            crate::command::FailureKind::Usage
        );
    }
}
