//! The order in which a graph puts rows, and searches of a file of which little is in memory.
//!
//! The loss that these prevent: a row that is another point's once it was moved, and a cold search that reads all of a file.

use std::fs::File;

use super::*;

/// What a segment says of rows in the order of its graph.
fn ordered(params: VectorParams, rows: &Rows) -> (Vec<u32>, Vec<u8>) {
    let linked = Linked::build(params, rows, &builder()).unwrap().unwrap();
    let order = linked.order().to_vec();
    let moved = Rows(
        order
            .iter()
            .map(|row| rows.0[*row as usize].clone())
            .collect(),
    );
    let mut writer = SegmentWriter::new(Cursor::new(Vec::new())).unwrap();
    write_vectors(&mut writer, 3, params, &moved, Some(&linked.in_order())).unwrap();
    (order, writer.finish().unwrap().1.into_inner())
}

#[test]
fn rows_in_the_order_of_their_graph_are_the_same_points() {
    let params = params(24, Metric::Cosine, Dtype::F32);
    let mut vectors = vectors(params, 2 * BIG + 40, 31);
    let stored = vectors.split_off(40);
    let mut rows = rows(&params, &stored);
    for without in [5, 700, 3_999] {
        rows.0[without] = None;
    }
    let (order, bytes) = ordered(params, &rows);
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..rows.rows()), "each row once");
    assert_eq!(
        order[order.len() - 3..],
        [5, 700, 3_999],
        "these have no place"
    );
    let (as_they_came, moved) = (
        opened(written(params, &rows, Some(&builder()))),
        opened(bytes),
    );
    assert!(moved.check().unwrap().recall > 0.9);
    let search = Search {
        breadth: 50,
        ..Search::nearest(10)
    };
    assert_eq!(moved.plan(&search), Plan::Graph);
    for query in &vectors {
        let query = Query::new(params, query).unwrap();
        let hits = moved.search(&query, &search);
        let back = hits.iter().map(|hit| Hit {
            row: Row(order[hit.row.index()]),
            ..*hit
        });
        assert_eq!(
            back.collect::<Vec<_>>(),
            as_they_came.search(&query, &search)
        );
    }
}

#[test]
fn near_points_are_near_in_the_order_on_any_number_of_threads() {
    let params = params(24, Metric::Euclid, Dtype::F32);
    let rows = rows(&params, &vectors(params, 2 * BIG, 32));
    let [one, three] = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| ordered(params, &rows))
    });
    assert!(one == three);
    let far = |bytes: Vec<u8>| {
        let part = opened(bytes);
        let mut vector = Vec::new();
        let steps = (0..part.rows()).step_by(10).map(|row| {
            decode(params.dtype, part.vector(Row(row)).unwrap(), &mut vector);
            let query = Query::new(params, &vector).unwrap();
            let hits = part.search(&query, &Search::nearest(2));
            u64::from(hits[0].row.0.abs_diff(hits[1].row.0))
        });
        let mut steps: Vec<u64> = steps.collect();
        steps.sort_unstable();
        steps[steps.len() / 2]
    };
    let (came, moved) = (far(written(params, &rows, Some(&builder()))), far(one.1));
    assert!(moved * 5 < came, "{moved} rows apart, {came} as they came");
}

#[test]
fn a_search_of_a_file_asks_for_what_it_reads_and_finds_the_same() {
    // No sketches, which so few rows would be scanned by.
    let params = params(120, Metric::Manhattan, Dtype::F32);
    let mut vectors = vectors(params, 4 * BIG + 20, 33);
    let stored = vectors.split_off(20);
    let (_, bytes) = ordered(params, &rows(&params, &stored));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("segment");
    std::fs::write(&path, &bytes).unwrap();
    let in_memory = opened(bytes);
    let segment = SegmentFile::map(&File::open(&path).unwrap()).unwrap();
    let mapped = VectorPart::open(&segment, 3).unwrap();
    let opening = mapped.windows_asked();
    assert!(opening < 20, "{opening}");
    let mut before = opening;
    for query in &vectors {
        let query = Query::new(params, query).unwrap();
        let search = Search::nearest(10);
        assert_eq!(mapped.plan(&search), Plan::Graph);
        assert_eq!(
            mapped.search(&query, &search),
            in_memory.search(&query, &search)
        );
        let asked = mapped.windows_asked();
        assert_eq!(mapped.search(&query, &search).len(), 10);
        assert_eq!(mapped.windows_asked(), asked, "each once");
        assert!(asked >= before);
        before = asked;
    }
    let windows = 4 * BIG * (320 + 480) / 4096;
    assert!(
        (opening + 10..windows).contains(&before),
        "{before} of {windows}"
    );
    assert_eq!(in_memory.windows_asked(), 0);
}
