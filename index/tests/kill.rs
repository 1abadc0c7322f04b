//! A process that writes is killed at a random moment, again and again: what it had acknowledged is there.
//!
//! The loss that this prevents: a promise that holds in the simulated file system and not in the kernel's.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use lode_index::{
    Collection, CollectionConfig, Dim, Dtype, Filter, Metric, Payload, Point, Report, Vector,
    VectorParams,
    collection::{Budget, Maintained},
    operation::{Operation, Selection},
    view::With,
};

/// Names the folder of the collection to the process that is killed.
const CHILD: &str = "LODE_INDEX_KILL_CHILD";

/// Points that the writer keeps: the others it has deleted.
const KEPT: u64 = 200;

fn config() -> CollectionConfig {
    CollectionConfig::single(VectorParams {
        dim: Dim::new(8).unwrap(),
        metric: Metric::Cosine,
        dtype: Dtype::F32,
    })
}

fn point(id: u64) -> Point {
    let vector = (0..8u8).map(|n| f32::from(n) + (id % 100) as f32).collect();
    Point {
        id: id.into(),
        vectors: BTreeMap::from([(String::new(), Vector::Dense(vector))]),
        payload: Payload::from_json(&serde_json::json!({ "id": id })).unwrap(),
    }
}

/// Writes ever higher ids, deletes the lowest, and prints what was acknowledged, while another thread freezes and merges.
fn child(dir: &Path) -> ! {
    let collection = Collection::open(dir).unwrap();
    let page = collection.view().scroll(
        None,
        1_000,
        &Filter::default(),
        &With::default(),
        &mut Report::default(),
    );
    let last = page
        .records
        .last()
        .map(|record| record.id.to_json().as_u64().unwrap());
    let mut out = std::io::stdout();
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                collection.freeze().unwrap();
                let done = collection.maintain(&Budget::default()).unwrap();
                if done == Maintained::Nothing {
                    collection.compact().unwrap();
                }
            }
        });
        for id in last.map_or(0, |last| last + 1).. {
            collection
                .apply(Operation::Upsert(vec![point(id)]))
                .unwrap();
            writeln!(out, "+{id}").unwrap();
            if let Some(old) = id.checked_sub(KEPT) {
                collection
                    .apply(Operation::Delete(Selection::id(old)))
                    .unwrap();
                writeln!(out, "-{old}").unwrap();
            }
        }
    });
    unreachable!("ids do not end")
}

#[test]
fn what_was_acknowledged_survives_being_killed() {
    if let Some(dir) = env::var_os(CHILD) {
        child(Path::new(&dir));
    }
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("collection");
    drop(Collection::create(&dir, config()).unwrap());
    let (mut highest, mut lowest) = (None, 0);
    for round in 0..6u64 {
        let mut process = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "what_was_acknowledged_survives_being_killed",
                "--nocapture",
            ])
            .env(CHILD, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // a number of acknowledgements after which it is killed, at whatever it is at then
        let wanted = 20 + (round * 7919 + 13) % 90;
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut seen = 0;
        let mut note = |line: &str| {
            if let Some(id) = line.strip_prefix('+').and_then(|id| id.parse::<u64>().ok()) {
                highest = Some(id);
                seen += 1;
            } else if let Some(id) = line.strip_prefix('-').and_then(|id| id.parse::<u64>().ok()) {
                lowest = id + 1;
            }
            seen
        };
        let mut lines = lines;
        while let Some(Ok(line)) = lines.next() {
            if note(&line) == wanted {
                process.kill().unwrap();
            }
        }
        process.wait().unwrap();
        let collection = Collection::open(&dir).unwrap();
        assert_eq!(collection.verify(), []);
        let with = With {
            payload: true,
            ..With::default()
        };
        let view = collection.view();
        let all = Filter::default();
        let page = view.scroll(None, 1_000, &all, &with, &mut Report::default());
        let ids: Vec<u64> = page
            .records
            .iter()
            .map(|r| r.id.to_json().as_u64().unwrap())
            .collect();
        let highest = highest.expect("it wrote");
        // the write that was under way is there or not
        assert!(
            matches!(ids.last(), Some(last) if (highest..=highest + 1).contains(last)),
            "{round}"
        );
        assert!(
            matches!(ids.first(), Some(first) if (lowest..=lowest + 1).contains(first)),
            "{round}"
        );
        assert!(
            ids.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "round {round}: {ids:?}"
        );
        for record in page.records {
            assert_eq!(
                record.payload,
                Some(point(record.id.to_json().as_u64().unwrap()).payload)
            );
        }
    }
}
