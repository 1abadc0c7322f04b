//! Single promises: what is refused, what a snapshot is, what a deletion leaves.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::*;
use crate::{
    limits::{
        OPERATION_POINTS_MAX, RESULTS_MAX, SCANNED_POINTS_MAX, SEALED_PARTS_MAX, SKETCH_VECTORS_MIN,
    },
    segment::{SectionName, SegmentFile},
    vectors::{HnswRsBuilder, VectorPart},
    view::{FacetRequest, QueryError},
};

fn upsert(id: u64, vector: &[f32], payload: &serde_json::Value) -> Operation {
    let vectors = [(String::new(), Vector::Dense(vector.to_vec()))].into();
    let payload = Payload::from_json(payload).unwrap();
    Operation::Upsert(vec![Point {
        id: id.into(),
        vectors,
        payload,
    }])
}

#[test]
fn a_vector_that_does_not_fit_is_refused_before_anything_is_written() {
    let disk = SimDisk::new(1);
    let collection = create(&disk);
    let good = [1.0, 0.0, 0.0, 0.0];
    for vector in [
        &[1.0, 0.0][..],
        &[f32::NAN, 0.0, 0.0, 0.0],
        &[f32::INFINITY; 4],
        &[0.0; 4],
    ] {
        let Operation::Upsert(mut points) = upsert(1, &good, &json!({})) else {
            unreachable!()
        };
        let Operation::Upsert(bad) = upsert(2, vector, &json!({})) else {
            unreachable!()
        };
        points.extend(bad);
        let refused = collection.apply(Operation::Upsert(points));
        assert!(
            matches!(
                refused,
                Err(CollectionError::Vector {
                    point: PointId::Number(2),
                    ..
                })
            ),
            "{vector:?}: {refused:?}"
        );
    }
    assert_eq!(collection.view().len(), 0);
    assert_eq!(reopen(&disk).view().len(), 0);
}

#[test]
fn of_one_id_twice_in_a_batch_the_last_counts() {
    let collection = create(&SimDisk::new(1));
    let Operation::Upsert(mut points) = upsert(1, &[1.0; 4], &json!({"n": 1})) else {
        unreachable!()
    };
    let Operation::Upsert(again) = upsert(1, &[1.0; 4], &json!({"n": 2})) else {
        unreachable!()
    };
    points.extend(again);
    let applied = collection.apply(Operation::Upsert(points)).unwrap();
    assert_eq!(applied.points, 1);
    let with = With {
        payload: true,
        ..With::default()
    };
    let found = collection.view().retrieve(&[1.into()], &with).unwrap();
    assert_eq!(
        found[0].payload.as_ref().unwrap().to_json(),
        json!({"n": 2})
    );
}

#[test]
fn more_than_a_bound_is_refused() {
    let collection = create(&SimDisk::new(1));
    let ids = |count: usize| Selection::Ids(vec![1.into(); count]);
    assert!(
        collection
            .apply(Operation::Delete(ids(OPERATION_POINTS_MAX)))
            .is_ok()
    );
    let past = collection.apply(Operation::Delete(ids(OPERATION_POINTS_MAX + 1)));
    assert!(matches!(past, Err(CollectionError::TooManyPoints { .. })));
    let view = collection.view();
    let search = |limit, offset| {
        let request = SearchRequest {
            offset,
            ..SearchRequest::nearest(vec![1.0; 4], limit)
        };
        view.search(&request, &mut Report::default())
    };
    assert!(search(RESULTS_MAX - 1, 1).is_ok());
    assert_eq!(search(RESULTS_MAX, 1), Err(QueryError::TooMany));
    assert_eq!(search(usize::MAX, 1), Err(QueryError::TooMany));
}

#[test]
fn a_query_that_does_not_fit_is_refused() {
    let view = create(&SimDisk::new(1)).view();
    let search = |request: &SearchRequest| view.search(request, &mut Report::default());
    assert!(search(&SearchRequest::nearest(vec![1.0; 3], 1)).is_err());
    assert!(search(&SearchRequest::nearest(vec![f32::NAN; 4], 1)).is_err());
    let named = |name: &str| SearchRequest {
        vector: name.into(),
        ..SearchRequest::nearest(vec![1.0; 4], 1)
    };
    assert!(matches!(
        search(&named("words")),
        Err(QueryError::Unknown { kind: "dense", .. })
    ));
    assert!(matches!(
        search(&named("none")),
        Err(QueryError::Unknown { .. })
    ));
}

/// Every byte of every file of the collection.
fn bytes_of(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(Path::new(DIR)).unwrap();
    let read = |name: &String| disk.read(&Path::new(DIR).join(name), u64::MAX).unwrap();
    names
        .iter()
        .map(|name| (name.clone(), read(name)))
        .collect()
}

#[test]
fn after_compaction_no_byte_of_a_deleted_point_is_in_any_file() {
    let disk = SimDisk::new(1);
    let collection = create(&disk);
    // values that do not compress and appear nowhere else
    let vector = [0.123_456_7, 0.765_432_1, -0.314_159_2, 0.271_828_1];
    let secret = "q7Zp1-Xv9Lm3-Rk5Tw8-Yb2Nc6";
    let index = Operation::CreateIndex {
        path: path("k"),
        kind: FieldType::Keyword,
    };
    collection.apply(index).unwrap();
    for id in 0..20 {
        let other = format!("{id}-other");
        collection
            .apply(upsert(id, &[1.0, 0.5, 0.25, 0.125], &json!({"k": other})))
            .unwrap();
    }
    collection
        .apply(upsert(20, &vector, &json!({"k": secret})))
        .unwrap();
    collection.freeze().unwrap();
    let stored = crate::vectors::encode(&config().vectors[""], &vector).unwrap();
    let holds = |needle: &[u8]| {
        bytes_of(&disk)
            .iter()
            .any(|(_, bytes)| bytes.windows(needle.len()).any(|w| w == needle))
    };
    assert!(
        holds(secret.as_bytes()) && holds(&stored),
        "the scan sees what is there"
    );
    collection
        .apply(Operation::Delete(Selection::id(20)))
        .unwrap();
    // one more, which never reaches a segment
    collection
        .apply(upsert(21, &vector, &json!({"k": secret})))
        .unwrap();
    collection
        .apply(Operation::Delete(Selection::id(21)))
        .unwrap();
    collection.compact().unwrap();
    assert!(!holds(secret.as_bytes()), "the payload");
    assert!(!holds(&stored), "the vector");
    let raw: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert!(!holds(&raw), "the vector as it came");
    assert_eq!(collection.view().len(), 20);
    assert_eq!(reopen(&disk).view().len(), 20);
}

/// The sketches of each row of every segment: bias, factor and signs, 256 bytes before the columns of 32 rows. Each is that of
/// the vector that lies there.
fn sketches_of(disk: &SimDisk) -> Vec<Vec<u8>> {
    let files = bytes_of(disk).into_iter();
    let segments = files.filter_map(|(_, bytes)| SegmentFile::from_bytes(bytes).ok());
    let mut sketches = Vec::new();
    for segment in segments {
        VectorPart::open(&segment, 0).unwrap().check().unwrap();
        let section = segment.section(SectionName::new("vec-sketch", 0));
        let section = section.expect("enough vectors for sketches");
        for block in section.chunks_exact(256 + 2 * 4 * 128) {
            for row in 0..32 {
                let numbers = [4 * row, 128 + 4 * row].map(|at| &block[at..at + 4]);
                let place = row % 16 * 2 + row / 16;
                let bits = block[256 + place..].iter().step_by(32);
                sketches.push(numbers.concat().into_iter().chain(bits.copied()).collect());
            }
        }
    }
    sketches
}

#[test]
fn after_compaction_no_byte_of_a_deleted_vectors_code_or_sketch_is_in_any_file() {
    let disk = SimDisk::new(1);
    let params = VectorParams {
        dim: Dim::new(128).unwrap(),
        metric: Metric::Dot,
        dtype: Dtype::F32,
    };
    let config = CollectionConfig::single(params);
    let collection = Collection::create_on(on(&disk), Path::new(DIR), config).unwrap();
    let mut random = Random(63);
    let count = u64::from(SKETCH_VECTORS_MIN) + 8;
    for id in 0..count {
        let vector: Vec<f32> = (0..128).map(|_| random.single()).collect();
        collection.apply(upsert(id, &vector, &json!({}))).unwrap();
    }
    // No centre is taken off under this metric, so a vector has the same code and sketch in every segment.
    let vector: Vec<f32> = (0..128).map(|_| 3.0 * random.single()).collect();
    let max = vector.iter().fold(0f32, |max, x| max.max(x.abs()));
    let code = vector.iter().map(|x| (x * (127.0 / max)).round_ties_even());
    #[allow(clippy::cast_possible_truncation)] // at most 127
    let code: Vec<u8> = code.map(|x| (x as i8).cast_unsigned()).collect();
    collection.apply(upsert(7, &vector, &json!({}))).unwrap();
    collection.freeze().unwrap();
    let holds = || {
        let mut files = bytes_of(&disk).into_iter();
        files.any(|(_, bytes)| bytes.windows(16).any(|some| some == &code[..16]))
    };
    assert!(holds(), "the scan sees what is there");
    let before = sketches_of(&disk);
    collection
        .apply(Operation::Delete(Selection::id(7)))
        .unwrap();
    collection.compact().unwrap();
    assert!(!holds(), "the code");
    let after = sketches_of(&disk);
    let gone: Vec<_> = before.iter().filter(|one| !after.contains(one)).collect();
    assert_eq!(gone.len(), 1, "that of the deleted vector, and of no other");
    for (_, bytes) in bytes_of(&disk) {
        assert!(
            !bytes.windows(4).any(|some| some == &gone[0][4..8]),
            "its factor"
        );
    }
    assert_eq!(collection.view().len(), count - 1);
}

#[test]
fn a_view_is_one_moment_while_others_write() {
    let disk = SimDisk::new(1);
    let collection = create(&disk);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3u64)
            .map(|writer| {
                let collection = &collection;
                scope.spawn(move || {
                    for round in 0..60u64 {
                        // two points that are only ever written together
                        let points = [writer * 2, writer * 2 + 1].map(|id| {
                            let Operation::Upsert(mut points) =
                                upsert(id, &[1.0; 4], &json!({"round": round}))
                            else {
                                unreachable!()
                            };
                            points.remove(0)
                        });
                        collection.apply(Operation::Upsert(points.into())).unwrap();
                    }
                })
            })
            .collect();
        let maintainer = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                collection.freeze().unwrap();
                collection.compact().unwrap();
            }
        });
        let mut last = 0;
        while !writers.iter().all(|writer| writer.is_finished()) {
            let view = collection.view();
            assert!(view.sequence() >= last);
            last = view.sequence();
            let with = With {
                payload: true,
                ..With::default()
            };
            let all = Filter::default();
            let page = view.scroll(None, 100, &all, &with, &mut Report::default());
            assert_eq!(page.records.len() as u64, view.len());
            for pair in page.records.chunks(2) {
                assert_eq!(pair[0].payload, pair[1].payload, "half of a write");
            }
        }
        writers
            .into_iter()
            .for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::SeqCst);
        maintainer.join().unwrap();
    });
    assert_eq!(collection.view().len(), 6);
    assert_eq!(collection.view().sequence(), 180);
}

#[test]
fn writers_that_nobody_maintains_keep_memory_bounded() {
    let disk = SimDisk::new(1);
    let collection = create(&disk);
    let batch = u64::from(crate::limits::LIVE_POINTS_MAX);
    let batches = SEALED_PARTS_MAX as u64 + 3;
    for at in 0..batches {
        let points = (0..batch).map(|id| Point {
            id: (at * batch + id).into(),
            vectors: BTreeMap::new(),
            payload: Payload::empty(),
        });
        collection
            .apply(Operation::Upsert(points.collect()))
            .unwrap();
        assert!(collection.state().sealed.len() <= SEALED_PARTS_MAX + 1);
    }
    assert!(collection.view().segments() > 0, "some became segments");
    assert_eq!(collection.view().len(), batch * batches);
    while collection.maintain(&Budget::default()).unwrap() != Maintained::Nothing {}
    assert_eq!(collection.view().len(), batch * batches);
    assert!(collection.view().segments() < 8, "small segments merged");
}

#[test]
fn graphs_are_made_by_the_builder_that_was_chosen() {
    let builders: [(Box<dyn GraphBuilder>, bool); 3] = [
        (Box::new(BatchBuilder::default()), false),
        (Box::new(BatchBuilder::default().from_rows(5)), true),
        (Box::new(HnswRsBuilder::default().from_rows(5)), true),
    ];
    for (builder, has_graph) in builders {
        let collection = create(&SimDisk::new(1)).with_builder(builder);
        let mut random = Random(5);
        for id in 0..10 {
            let vector = [0; 4].map(|_| random.single() + 1.5);
            collection.apply(upsert(id, &vector, &json!({}))).unwrap();
        }
        collection.freeze().unwrap();
        let deleted = Selection::Ids(vec![PointId::Number(3)]);
        collection.apply(Operation::Delete(deleted)).unwrap();
        collection.compact().unwrap();
        let state = collection.state();
        let (_, part) = state.segments[0].part.dense().next().unwrap();
        assert_eq!((part.vectors(), part.has_graph()), (9, has_graph));
    }
}

#[test]
fn facets_count_points_by_value() {
    let collection = create(&SimDisk::new(1));
    for (id, value) in (0..).zip([
        json!("a"),
        json!("b"),
        json!(["a", "a", "b"]),
        json!(3),
        json!(null),
    ]) {
        collection
            .apply(upsert(id, &[1.0; 4], &json!({"k": value})))
            .unwrap();
    }
    let facet = |limit| {
        let request = FacetRequest {
            path: path("k"),
            filter: Filter::default(),
            limit,
        };
        let hits = collection.view().facet(&request, &mut Report::default());
        hits.iter()
            .map(|hit| (hit.value.to_json(), hit.count))
            .collect::<Vec<_>>()
    };
    let expected = [(json!("a"), 2), (json!("b"), 2), (json!(3), 1)];
    assert_eq!(facet(10), expected);
    collection
        .apply(Operation::CreateIndex {
            path: path("k"),
            kind: FieldType::Keyword,
        })
        .unwrap();
    collection.compact().unwrap();
    assert_eq!(facet(10), expected);
    assert_eq!(facet(1), expected[..1]);
}

#[test]
fn a_folder_with_something_in_it_is_left_alone() {
    let disk = SimDisk::new(1);
    drop(create(&disk));
    let again = Collection::create_on(on(&disk), Path::new(DIR), config());
    assert!(matches!(again, Err(CollectionError::Exists { .. })));
}

#[test]
fn a_snapshot_is_a_collection_of_its_own_and_keeps_what_is_compacted() {
    let disk = SimDisk::new(1);
    let collection = create(&disk);
    for id in 0..10 {
        let upsert = upsert(id, &[1.0, 0.5, 0.0, 0.0], &json!({ "id": id }));
        collection.apply(upsert).unwrap();
        if id == 5 {
            collection.freeze().unwrap();
        }
    }
    let dir = Path::new("/snapshot");
    let snapshot = collection.snapshot_to(dir).unwrap();
    assert_eq!(snapshot.sequence, 10);
    assert_eq!(snapshot.files.len(), 3, "the head and two segments");
    collection
        .apply(Operation::Delete(Selection::Filter(Filter::default())))
        .unwrap();
    collection.compact().unwrap();
    assert_eq!(collection.view().len(), 0);
    disk.reboot();
    let kept = Collection::open_on(on(&disk), dir).unwrap();
    assert_eq!(kept.view().len(), 10);
    assert_eq!(kept.verify(), []);
    kept.apply(Operation::Delete(Selection::id(3))).unwrap();
    kept.compact().unwrap();
    assert_eq!(kept.view().len(), 9);
    assert_eq!(reopen(&disk).view().len(), 0);
    let again = collection.snapshot_to(dir);
    assert!(
        matches!(again, Err(CollectionError::Io { .. })),
        "{again:?}"
    );
}

#[test]
fn rare_dimensions_weigh_more_where_the_collection_says_so() {
    let disk = SimDisk::new(1);
    let mut config = config();
    config
        .sparse
        .insert("bm25".into(), SparseParams { idf: true });
    let collection = Collection::create_on(on(&disk), Path::new(DIR), config).unwrap();
    // dimension 1 is in all of 9 points, dimension 2 in one
    for id in 0..9u64 {
        let dims: &[u32] = if id == 4 { &[1, 2] } else { &[1] };
        let sparse = SparseVector::new(dims, &vec![1.0; dims.len()]).unwrap();
        let vectors = [("bm25".to_owned(), Vector::Sparse(sparse))].into();
        let point = Point {
            id: id.into(),
            vectors,
            payload: Payload::empty(),
        };
        collection.apply(Operation::Upsert(vec![point])).unwrap();
        if id == 6 {
            collection.freeze().unwrap();
        }
    }
    let query = SparseVector::new(&[1, 2, 3], &[1.0, 1.0, 1.0]).unwrap();
    let request = SearchRequest {
        vector: "bm25".into(),
        query: QueryVector::Sparse(query),
        ..SearchRequest::nearest(Vec::new(), 20)
    };
    let idf = |df: f32| ((9.0 - df + 0.5) / (df + 0.5)).ln_1p();
    let (common, rare) = (idf(9.0), idf(1.0));
    for _ in 0..2 {
        let found = collection
            .view()
            .search(&request, &mut Report::default())
            .unwrap();
        assert_eq!(found.len(), 9);
        assert_eq!(found[0].id, 4.into());
        assert!((found[0].score - common - rare).abs() < 1e-5, "{found:?}");
        assert!(
            found[1..]
                .iter()
                .all(|hit| (hit.score - common).abs() < 1e-5)
        );
        collection.freeze().unwrap();
    }
}

#[test]
fn a_change_of_more_points_than_fit_at_once_is_done_in_steps() {
    use crate::limits::CHANGE_POINTS_MAX;
    let collection = create(&SimDisk::new(1));
    let points = (0..=CHANGE_POINTS_MAX as u64).map(|id| Point {
        id: id.into(),
        vectors: BTreeMap::new(),
        payload: Payload::empty(),
    });
    let points: Vec<_> = points.collect();
    let count = points.len() as u64;
    collection.apply(Operation::Upsert(points)).unwrap();
    let set = |of| Operation::SetPayload {
        of,
        payload: Payload::from_json(&json!({"k": 1})).unwrap(),
        path: None,
    };
    let all = Filter::default();
    let applied = collection.apply(set(Selection::Filter(all))).unwrap();
    assert_eq!((applied.points, applied.sequence), (count, 3), "two steps");
    let changed: Filter = "k = 1".parse().unwrap();
    assert_eq!(
        collection.view().count(&changed, &mut Report::default()),
        count
    );
    let one_less: Filter = "@id != 0".parse().unwrap();
    let applied = collection.apply(set(Selection::Filter(one_less))).unwrap();
    assert_eq!(
        (applied.points, applied.sequence),
        (count - 1, 4),
        "one step"
    );
}

#[test]
fn a_new_point_is_found_whatever_was_deleted_and_searched_before() {
    let disk = SimDisk::new(1);
    let collection = create(&disk);
    let vector = [1.0, 0.0, 0.0, 0.0];
    let found = || {
        let request = SearchRequest::nearest(vector.to_vec(), 10);
        let found = collection.view().search(&request, &mut Report::default());
        let mut ids: Vec<PointId> = found.unwrap().iter().map(|point| point.id).collect();
        ids.sort_unstable();
        ids
    };
    for id in [1, 2] {
        collection.apply(upsert(id, &vector, &json!({}))).unwrap();
    }
    collection
        .apply(Operation::Delete(Selection::id(1)))
        .unwrap();
    assert_eq!(found(), [2.into()]);
    collection.apply(upsert(3, &vector, &json!({}))).unwrap();
    assert_eq!(found(), [2.into(), 3.into()]);
}

#[test]
fn many_points_get_a_graph_without_waiting_for_more() {
    let disk = SimDisk::new(31);
    let collection = create(&disk);
    let mut random = Random(31);
    let mut fill = |ids: std::ops::Range<u64>| {
        let points = ids.map(|id| Point {
            id: id.into(),
            vectors: [(
                "image".to_owned(),
                Vector::Dense((0..3).map(|_| random.single()).collect()),
            )]
            .into(),
            payload: Payload::empty(),
        });
        collection
            .apply(Operation::Upsert(points.collect()))
            .unwrap();
        collection.freeze().unwrap();
        while collection.maintain(&Budget::default()).unwrap() != Maintained::Nothing {}
    };
    let scanned = || {
        let segments = &collection.state().segments;
        segments
            .iter()
            .map(|segment| segment.part.scanned("image"))
            .collect::<Vec<_>>()
    };
    fill(0..SCANNED_POINTS_MAX / 2);
    fill(SCANNED_POINTS_MAX / 2..SCANNED_POINTS_MAX);
    assert_eq!(
        scanned(),
        [SCANNED_POINTS_MAX / 2; 2],
        "as fast as a graph, and not built again for each more"
    );
    fill(SCANNED_POINTS_MAX..SCANNED_POINTS_MAX + 1);
    assert_eq!(scanned(), [0], "one segment, with a graph");
    fill(SCANNED_POINTS_MAX + 1..SCANNED_POINTS_MAX + 2);
    assert_eq!(scanned(), [0, 1]);
}
