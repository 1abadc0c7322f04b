//! Versions, branches, tags, comparison: what a publisher does at home.

use lode_node::command::{Command, FailureKind, Outcome};

use crate::common::{model, node, write_weights};

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_listed_shown_and_signed() {
    let node = node();
    let (_folder, root) = model(1.0);
    let pushed = node
        .push_with(&root, "acme/tiny", |push| push.tag = Some("v1".to_owned()))
        .await
        .unwrap();
    assert!(pushed.changed);
    assert_eq!((pushed.tensors, pushed.tensors_new), (3, 3));
    let shown = node.show("acme/tiny@v1").await;
    assert_eq!(shown.version, pushed.version);
    assert_eq!(shown.parameters, 640 * 512 * 2 + 512);
    assert_eq!(shown.architecture.as_deref(), Some("LlamaForCausalLM"));
    assert_eq!(shown.size_held, shown.size);
    assert_eq!(shown.size_own, shown.size);
    assert_eq!(shown.refs, ["main", "v1"]);
    assert_eq!(shown.signatures.len(), 1);
    assert_eq!(shown.signatures[0].verdict, "valid");
    assert!(!shown.public);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_tree_makes_no_version() {
    let node = node();
    let (_folder, root) = model(1.0);
    let first = node.push(&root, "acme/tiny").await.unwrap();
    let second = node.push(&root, "acme/tiny").await.unwrap();
    assert!(!second.changed);
    assert_eq!(second.size_new, 0);
    assert_eq!(first.version, second.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_tensor_is_stored_once_over_versions_and_models() {
    let node = node();
    let (_folder, root) = model(1.0);
    node.push(&root, "acme/tiny").await.unwrap();
    write_weights(&root, 1.0, 5.0);
    let second = node.push(&root, "acme/tiny").await.unwrap();
    assert_eq!((second.tensors, second.tensors_new), (3, 1));
    assert!(second.size_new < second.size * 6 / 10, "{second:?}");
    let other = node.push(&root, "acme/other").await.unwrap();
    assert_eq!((other.tensors_new, other.size_new), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_names_the_tensor_that_changed_and_by_how_much() {
    let node = node();
    let (_folder, root) = model(1.0);
    let first = node.push(&root, "acme/tiny").await.unwrap();
    write_weights(&root, 1.0, 0.5);
    node.push(&root, "acme/tiny").await.unwrap();
    let diff = Command::Diff {
        from: format!("acme/tiny@{}", first.version),
        to: "acme/tiny".to_owned(),
        stats: true,
    };
    let Outcome::Diff(diff) = node.run(diff).await.unwrap() else {
        panic!()
    };
    assert_eq!(diff.files.len(), 1);
    assert_eq!(diff.tensors.len(), 1);
    let row = &diff.tensors[0];
    assert_eq!(
        (row.change.as_str(), row.name.as_str()),
        ("changed", "model.layers.1.up.weight")
    );
    assert!((row.max_abs.unwrap() - 0.5).abs() < 0.1, "{row:?}");
    assert!((row.mean_abs.unwrap() - 0.5).abs() < 0.1, "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_does_not_move_without_force_and_a_move_shows_in_the_log() {
    let node = node();
    let (_folder, root) = model(1.0);
    let first = node
        .push_with(&root, "acme/tiny", |push| push.tag = Some("v1".to_owned()))
        .await
        .unwrap();
    write_weights(&root, 1.0, 1.0);
    let refused = node
        .push_with(&root, "acme/tiny", |push| push.tag = Some("v1".to_owned()))
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    let second = node.push(&root, "acme/tiny").await.unwrap();
    let tag = |force| Command::Tag {
        name: "acme/tiny".to_owned(),
        tag: "v1".to_owned(),
        force,
    };
    assert_eq!(
        node.run(tag(false)).await.unwrap_err().kind,
        FailureKind::Refused
    );
    node.run(tag(true)).await.unwrap();
    let log = Command::Log {
        name: "acme/tiny".to_owned(),
    };
    let Outcome::Log { versions } = node.run(log).await.unwrap() else {
        panic!()
    };
    assert_eq!(
        versions.iter().map(|row| &row.version).collect::<Vec<_>>(),
        [&second.version, &first.version]
    );
    assert!(
        versions[1]
            .moves
            .iter()
            .any(|text| text.starts_with("tag v1 moved to")),
        "{versions:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_rolls_back_and_deletes() {
    let node = node();
    let (_folder, root) = model(1.0);
    let first = node.push(&root, "acme/tiny").await.unwrap();
    write_weights(&root, 1.0, 1.0);
    node.push(&root, "acme/tiny").await.unwrap();
    let back = format!("acme/tiny@{}", &first.version[..10]);
    node.run(Command::BranchSet {
        name: back.clone(),
        branch: "main".to_owned(),
    })
    .await
    .unwrap();
    assert_eq!(node.show("acme/tiny").await.version, first.version);
    node.run(Command::BranchSet {
        name: back,
        branch: "old".to_owned(),
    })
    .await
    .unwrap();
    let Outcome::Branches { refs } = node
        .run(Command::Branches {
            name: "acme/tiny".to_owned(),
        })
        .await
        .unwrap()
    else {
        panic!()
    };
    assert_eq!(refs.len(), 2);
    let remove = Command::BranchRemove {
        name: "acme/tiny".to_owned(),
        branch: "old".to_owned(),
    };
    node.run(remove.clone()).await.unwrap();
    assert_eq!(
        node.run(remove).await.unwrap_err().kind,
        FailureKind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lineage_follows_bases_in_both_directions() {
    let node = node();
    let (_folder, root) = model(1.0);
    let base = node.push(&root, "acme/base").await.unwrap();
    write_weights(&root, 1.0, 1.0);
    let tuned = node
        .push_with(&root, "acme/tuned", |push| {
            push.base = Some("acme/base".to_owned())
        })
        .await
        .unwrap();
    let lineage = |name: &str| Command::Lineage {
        name: name.to_owned(),
    };
    let Outcome::Lineage { rows } = node.run(lineage("acme/tuned")).await.unwrap() else {
        panic!()
    };
    let up = rows.iter().find(|row| row.relation == "base").unwrap();
    assert_eq!((up.version.as_str(), up.depth), (base.version.as_str(), 1));
    assert!(up.shared.unwrap() > 0.4);
    let Outcome::Lineage { rows } = node.run(lineage("acme/base")).await.unwrap() else {
        panic!()
    };
    let down = rows.iter().find(|row| row.relation == "derived").unwrap();
    assert_eq!(
        (down.version.as_str(), down.depth),
        (tuned.version.as_str(), -1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_here_are_not_found_and_bad_ones_are_usage() {
    let node = node();
    let show = |name: &str| Command::Show {
        name: name.to_owned(),
    };
    for name in ["acme/nothing", "acme/nothing@v1"] {
        assert_eq!(
            node.run(show(name)).await.unwrap_err().kind,
            FailureKind::NotFound,
            "{name}"
        );
    }
    for name in ["acme", "", "acme/x@", "Acme Inc/x"] {
        assert_eq!(
            node.run(show(name)).await.unwrap_err().kind,
            FailureKind::Usage,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_version_is_collected_and_a_pinned_one_stays() {
    let node = node();
    let (_folder, root) = model(1.0);
    let first = node.push(&root, "acme/tiny").await.unwrap();
    write_weights(&root, 1.0, 1.0);
    let second = node.push(&root, "acme/tiny").await.unwrap();
    let old = format!("acme/tiny@{}", first.version);
    node.run(Command::Remove {
        name: old.clone(),
        force: false,
    })
    .await
    .unwrap();
    let gc = |dry_run| Command::Gc { dry_run };
    let Outcome::Collected { bytes: planned, .. } = node.run(gc(true)).await.unwrap() else {
        panic!()
    };
    let Outcome::Collected { bytes, .. } = node.run(gc(false)).await.unwrap() else {
        panic!()
    };
    let least = second.size_new * 9 / 10; // allocated blocks, not bytes, are given back
    assert!(bytes >= least && planned >= least, "{planned} {bytes}");
    let shown = node.show("acme/tiny").await;
    assert_eq!(shown.size_held, shown.size);
    let Outcome::Checked(checked) = node
        .run(Command::Verify {
            name: "acme/tiny".to_owned(),
        })
        .await
        .unwrap()
    else {
        panic!()
    };
    assert_eq!(
        (checked.missing, checked.findings.len()),
        (0, 0),
        "{checked:?}"
    );
    node.run(Command::Pin {
        name: "acme/tiny".to_owned(),
    })
    .await
    .unwrap();
    let all = Command::Remove {
        name: "acme/tiny".to_owned(),
        force: false,
    };
    assert_eq!(node.run(all).await.unwrap_err().kind, FailureKind::Refused);
    node.run(Command::Unpin {
        name: "acme/tiny".to_owned(),
    })
    .await
    .unwrap();
    node.run(Command::Remove {
        name: "acme/tiny".to_owned(),
        force: false,
    })
    .await
    .unwrap();
    node.run(gc(false)).await.unwrap();
    assert_eq!(
        node.run(Command::Show {
            name: "acme/tiny".to_owned()
        })
        .await
        .unwrap_err()
        .kind,
        FailureKind::NotFound
    );
    let Outcome::Models { models } = node.run(Command::Ls { name: None }).await.unwrap() else {
        panic!()
    };
    assert!(models.is_empty(), "{models:?}");
}
