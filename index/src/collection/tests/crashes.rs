//! Crashes at every call to the disk, torn writes, failed syncs, a full disk, changed bytes.

use super::*;

/// Does random things until the disk fails; what was acknowledged, and what may have been done beyond it.
fn run_until_failure(collection: &Collection, random: &mut Random, model: &mut Model) -> Model {
    loop {
        let maybe = match random.below(8) {
            0 => collection.freeze().is_err(),
            1 => collection.compact().is_err(),
            2 => collection.maintain(&Budget::default()).is_err(),
            _ => {
                let operation = operation(random);
                let mut next = model.clone();
                next.apply(&operation);
                if collection.apply(operation).is_err() {
                    return next;
                }
                *model = next;
                false
            }
        };
        if maybe {
            return model.clone();
        }
    }
}

#[test]
fn a_crash_at_any_call_loses_nothing_that_was_acknowledged() {
    for seed in 0..400 {
        let disk = SimDisk::new(seed);
        let mut random = Random(seed);
        let mut model = Model::new();
        let collection = create(&disk);
        disk.crash_after(random.below(120));
        let maybe = run_until_failure(&collection, &mut random, &mut model);
        drop(collection);
        disk.reboot();
        let collection = reopen(&disk);
        // the operation during which power failed is there as a whole, or not at all
        let with = With {
            payload: true,
            vectors: WithVectors::None,
        };
        let page = collection.view().scroll(
            None,
            1000,
            &Filter::default(),
            &with,
            &mut Report::default(),
        );
        let read: Vec<_> = page
            .records
            .iter()
            .map(|r| (r.id, r.payload.clone().unwrap()))
            .collect();
        let points = |model: &Model| -> Vec<_> {
            model
                .points
                .values()
                .map(|p| (p.id, p.payload.clone()))
                .collect()
        };
        if read != points(&model) || collection.view().config() != &model.config {
            model = maybe;
        }
        assert_eq!(read, points(&model), "seed {seed}");
        // vectors of the operation in flight may be there with the same payload
        if collection
            .view()
            .scroll(
                None,
                1000,
                &Filter::default(),
                &With {
                    payload: false,
                    vectors: WithVectors::All,
                },
                &mut Report::default(),
            )
            .records
            .iter()
            .zip(model.points.values())
            .all(|(r, p)| r.vectors.keys().eq(p.vectors.keys()))
        {
            check(&collection, &model, &mut random, &format!("seed {seed}"));
        }
        collection.compact().unwrap();
        let names = disk.list(Path::new(DIR)).unwrap();
        assert!(
            names.iter().all(|name| !name.ends_with(".part")),
            "seed {seed}: {names:?}"
        );
        assert!(
            names.iter().filter(|name| name.ends_with(".log")).count() == 0,
            "seed {seed}"
        );
    }
}

#[test]
fn after_a_failed_sync_the_writer_refuses_and_opening_again_helps() {
    let disk = SimDisk::new(1);
    let collection = create(&disk);
    let upsert = |id: u64| Operation::Upsert(vec![point(&mut Random(id), id.into())]);
    collection.apply(upsert(1)).unwrap();
    disk.fail_sync_after(0);
    assert!(collection.apply(upsert(2)).is_err());
    assert!(matches!(
        collection.apply(upsert(3)),
        Err(CollectionError::Log(_))
    ));
    assert_eq!(collection.view().len(), 1, "readers see what is durable");
    drop(collection);
    disk.reboot();
    let collection = reopen(&disk);
    assert_eq!(collection.view().len(), 1);
    collection.apply(upsert(3)).unwrap();
    assert_eq!(collection.view().len(), 2);
}

#[test]
fn a_full_disk_stops_a_merge_and_nothing_else() {
    let disk = SimDisk::new(1);
    let collection = create(&disk);
    let mut random = Random(7);
    let mut model = Model::new();
    for id in 0..20 {
        let upsert = Operation::Upsert(vec![point(&mut random, (id % 7).into())]);
        model.apply(&upsert);
        collection.apply(upsert).unwrap();
        if id == 10 {
            collection.freeze().unwrap();
        }
    }
    collection.freeze().unwrap();
    disk.set_capacity(Some(0));
    assert!(collection.compact().is_err());
    check(&collection, &model, &mut random, "disk full");
    disk.set_capacity(None);
    collection.compact().unwrap();
    check(&collection, &model, &mut random, "room again");
    check(&reopen(&disk), &model, &mut random, "opened again");
}

#[test]
fn one_damaged_segment_takes_down_no_other() {
    let disk = SimDisk::new(1);
    let collection = create(&disk);
    let mut random = Random(7);
    for id in 0..2 {
        let points = (0..10).map(|n| point(&mut random, (id * 10 + n).into()));
        collection
            .apply(Operation::Upsert(points.collect()))
            .unwrap();
        collection.freeze().unwrap();
    }
    drop(collection);
    let file = Path::new(DIR).join("00000000.seg");
    disk.corrupt(&file, &mut |bytes| bytes[100] ^= 1);
    let collection = reopen(&disk);
    let view = collection.view();
    assert_eq!(view.damaged().len(), 1);
    assert_eq!(view.len(), 10);
    let found = view.retrieve(&[15.into()], &With::default()).unwrap();
    assert_eq!(found.len(), 1);
    let upsert = Operation::Upsert(vec![point(&mut random, 100.into())]);
    let refused = collection.apply(upsert.clone());
    assert!(matches!(
        refused,
        Err(CollectionError::Damaged { segment: 0, .. })
    ));
    // restored, all is as it was
    disk.corrupt(&file, &mut |bytes| bytes[100] ^= 1);
    let collection = reopen(&disk);
    assert_eq!(collection.view().len(), 20);
    // given up, the others are written to again
    disk.corrupt(&file, &mut |bytes| bytes[100] ^= 1);
    let collection = reopen(&disk);
    collection.forget_damaged().unwrap();
    collection.apply(upsert).unwrap();
    assert_eq!(reopen(&disk).view().len(), 11);
}

#[test]
fn any_changed_byte_of_a_segment_is_refused_or_read_without_harm() {
    let disk = SimDisk::new(3);
    let collection = create(&disk);
    let mut random = Random(3);
    for (field, kind) in schema() {
        collection
            .apply(Operation::CreateIndex {
                path: path(field),
                kind,
            })
            .unwrap();
    }
    let points = (0..40).map(|id| point(&mut random, id.into()));
    collection
        .apply(Operation::Upsert(points.collect()))
        .unwrap();
    collection.freeze().unwrap();
    drop(collection);
    let file = Path::new(DIR).join("00000000.seg");
    let whole = disk.read(&file, u64::MAX).unwrap();
    let filled: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    for round in 0..300 {
        let at = *random.of(&filled);
        let to = u8::try_from(random.below(256)).unwrap();
        disk.corrupt(&file, &mut |bytes| bytes[at] = to);
        let collection = reopen(&disk);
        let sound = collection.verify().is_empty();
        assert_eq!(sound, whole[at] == to, "round {round}: byte {at}");
        let view = collection.view();
        let mut report = Report::default();
        let with = With {
            payload: true,
            vectors: WithVectors::All,
        };
        view.scroll(None, 100, &Filter::default(), &with, &mut report);
        for _ in 0..4 {
            let filter = Filter::from_json(&filters(&mut random)).unwrap();
            view.count(&filter, &mut report);
            let request = SearchRequest {
                filter,
                ..SearchRequest::nearest(vec![1.0, 0.5, 0.0, 0.0], 5)
            };
            view.search(&request, &mut report).unwrap();
            let query = SparseVector::new(&[1, 2, 3], &[1.0, 1.0, 1.0]).unwrap();
            let request = SearchRequest {
                vector: "words".into(),
                query: QueryVector::Sparse(query),
                ..request
            };
            view.search(&request, &mut report).unwrap();
        }
        disk.corrupt(&file, &mut |bytes| bytes.clone_from(&whole));
    }
}
