//! Random operations, with freezes, merges and reopenings between them.

use super::*;

fn run(seed: u64, steps: u64) {
    let disk = SimDisk::new(seed);
    let mut collection = create(&disk);
    let mut model = Model::new();
    let mut random = Random(seed);
    for step in 0..steps {
        let context = format!("seed {seed}, step {step}");
        match random.below(12) {
            0 => collection.freeze().unwrap(),
            1 => collection.compact().unwrap(),
            2 => drop(collection.maintain(&Budget::default()).unwrap()),
            3 => {
                drop(collection);
                collection = reopen(&disk);
            }
            _ => {
                let operation = operation(&mut random);
                model.apply(&operation);
                collection.apply(operation).unwrap();
            }
        }
        check(&collection, &model, &mut random, &context);
    }
    assert_eq!(collection.verify(), []);
}

#[test]
fn what_is_read_is_what_was_written_whatever_parts_it_is_in() {
    for seed in 0..24 {
        run(seed, 40);
    }
}

#[test]
fn an_index_changes_no_answer_and_is_used() {
    for seed in 0..8 {
        let disk = SimDisk::new(seed);
        let collection = create(&disk);
        let mut random = Random(seed);
        let points: Vec<_> = (0..300).map(|id| point(&mut random, id.into())).collect();
        collection.apply(Operation::Upsert(points)).unwrap();
        collection.freeze().unwrap();
        let count = |filter: &serde_json::Value| {
            let mut report = Report::default();
            let filter = Filter::from_json(filter).unwrap();
            (collection.view().count(&filter, &mut report), report)
        };
        let asked: Vec<_> = (0..60).map(|_| filters(&mut random)).collect();
        // what a word is the schema says, so that conditions on text are not compared
        let asked: Vec<_> = asked
            .into_iter()
            .filter(|json| !json.to_string().contains("\"text\""))
            .collect();
        let before: Vec<u64> = asked.iter().map(|json| count(json).0).collect();
        for (field, kind) in schema() {
            let index = Operation::CreateIndex {
                path: path(field),
                kind,
            };
            collection.apply(index).unwrap();
        }
        while collection.maintain(&Budget::default()).unwrap() != Maintained::Nothing {}
        for (json, before) in asked.iter().zip(before) {
            assert_eq!(count(json).0, before, "seed {seed}: {json}");
        }
        let (_, report) = count(&json!({"must": [{"key": "n", "range": {"gte": 3}},
            {"key": "tag", "match": {"value": "libs"}}]}));
        assert_eq!((report.indexed, report.scanned), (2, 0), "seed {seed}");
        let (_, report) = count(&json!({"must": [{"key": "e", "match": {"value": 1}}]}));
        assert_eq!((report.indexed, report.scanned), (0, 300), "seed {seed}");
    }
}
