//! Pushes on one node, pulls on others: over real endpoints on loopback.

use std::fs;

use lode_node::command::{Command, FailureKind};

use crate::common::{assert_same, model, node, write_weights};

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_folder_is_byte_for_byte_what_was_pushed_and_seeds_without_a_second_copy() {
    let (a, b, c) = (node(), node(), node());
    let (folder, root) = model(1.0);
    a.push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let ticket = a.share("acme/tiny").await;
    let out = folder.path().join("out");
    let pulled = b
        .pull("acme/tiny", Some(&ticket), Some(&out), |_| ())
        .await
        .unwrap();
    assert_same(&root, &out);
    assert!(pulled.size_fetched > pulled.size * 9 / 10, "{pulled:?}");
    a.node.shutdown().await;
    let second = b.share("acme/tiny").await;
    c.pull(
        "acme/tiny",
        Some(&second),
        Some(&folder.path().join("third")),
        |_| (),
    )
    .await
    .unwrap();
    assert_same(&root, &folder.path().join("third"));
    let owned: u64 = walk_size(b.home.path().join("containers").as_path());
    assert!(
        owned < pulled.size / 2,
        "the folder is the copy, the home holds {owned} of {}",
        pulled.size
    );
    b.node.shutdown().await;
    c.node.shutdown().await;
}

fn walk_size(folder: &std::path::Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            if path.is_dir() {
                walk_size(&path)
            } else {
                fs::metadata(&path).unwrap().len()
            }
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_providers_share_one_pull() {
    let (a, b, c) = (node(), node(), node());
    let (_folder, root) = model(1.0);
    a.push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let first = a.share("acme/tiny").await;
    b.pull("acme/tiny", Some(&first), None, |_| ())
        .await
        .unwrap();
    let second = b.share("acme/tiny").await;
    let pulled = c
        .pull("acme/tiny", Some(&first), None, |pull| {
            pull.from.push(second)
        })
        .await
        .unwrap();
    assert!(pulled.providers >= 1, "{pulled:?}");
    let shown = c.show("acme/tiny").await;
    assert_eq!(shown.size_held, shown.size);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_not_fetched() {
    let (a, b) = (node(), node());
    let (_folder, root) = model(1.0);
    a.push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let ticket = a.share("acme/tiny").await;
    b.pull("acme/tiny", Some(&ticket), None, |_| ())
        .await
        .unwrap();
    write_weights(&root, 1.0, 1.0);
    let second = a.push(&root, "acme/tiny").await.unwrap();
    let pulled = b
        .pull("acme/tiny", Some(&ticket), None, |_| ())
        .await
        .unwrap();
    assert_eq!(pulled.version, second.version);
    assert!(
        pulled.size_fetched <= second.size_new + 64 * 1024,
        "{pulled:?} {second:?}"
    );
    let again = b
        .pull("acme/tiny", Some(&ticket), None, |_| ())
        .await
        .unwrap();
    assert_eq!(again.size_fetched, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_model_is_absent_without_its_capability() {
    let (a, b) = (node(), node());
    let (_folder, root) = model(1.0);
    a.push(&root, "acme/secret").await.unwrap();
    a.push_with(&root, "acme/open", |push| push.public = true)
        .await
        .unwrap();
    let open = a.share("acme/open").await;
    b.pull("acme/open", Some(&open), None, |_| ())
        .await
        .unwrap();
    let denied = b.pull("acme/secret", None, None, |_| ()).await.unwrap_err();
    assert_eq!(denied.kind, FailureKind::NotFound, "{denied}");
    let ticket = a.share("acme/secret").await;
    b.pull("acme/secret", Some(&ticket), None, |_| ())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tensors_alone_come_as_a_valid_file() {
    let (a, b) = (node(), node());
    let (folder, root) = model(1.0);
    a.push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let ticket = a.share("acme/tiny").await;
    let out = folder.path().join("part");
    let pulled = b
        .pull("acme/tiny", Some(&ticket), Some(&out), |pull| {
            pull.tensors = vec!["model.layers.0.*".to_owned()];
        })
        .await
        .unwrap();
    let bytes = fs::read(out.join("model.safetensors")).unwrap();
    let header = lode_tensors::parse(&bytes, bytes.len() as u64).unwrap();
    assert_eq!(header.tensors.len(), 1);
    let whole = fs::read(root.join("model.safetensors")).unwrap();
    let source = lode_tensors::parse(&whole, whole.len() as u64).unwrap();
    let of = |bytes: &[u8], range: lode_tensors::ByteRange| {
        bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec()
    };
    let wanted = source.tensor("model.layers.0.up.weight").unwrap().range;
    assert_eq!(of(&bytes, header.tensors[0].range), of(&whole, wanted));
    assert!(
        pulled.size_fetched < 640 * 512 * 4 + 64 * 1024,
        "{pulled:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_different_file_is_refused_without_force() {
    let (a, b) = (node(), node());
    let (folder, root) = model(1.0);
    a.push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let ticket = a.share("acme/tiny").await;
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("config.json"), "mine").unwrap();
    let refused = b
        .pull("acme/tiny", Some(&ticket), Some(&out), |_| ())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused);
    assert!(refused.message.contains("config.json"), "{refused}");
    assert_eq!(fs::read_to_string(out.join("config.json")).unwrap(), "mine");
    b.pull("acme/tiny", Some(&ticket), Some(&out), |pull| {
        pull.force = true
    })
    .await
    .unwrap();
    assert_same(&root, &out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_of_another_publisher_never_moves_an_alias() {
    let (a, b, c) = (node(), node(), node());
    let (_folder, root) = model(1.0);
    for node in [&a, &b] {
        node.push_with(&root, "acme/tiny", |push| push.public = true)
            .await
            .unwrap();
    }
    let (first, second) = (a.share("acme/tiny").await, b.share("acme/tiny").await);
    c.pull("acme/tiny", Some(&first), None, |_| ())
        .await
        .unwrap();
    let refused = c
        .pull("acme/tiny", Some(&second), None, |_| ())
        .await
        .unwrap_err();
    assert_eq!(refused.kind, FailureKind::Refused, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_to_ask_is_said_so_and_a_cut_ticket_is_usage() {
    let (a, b) = (node(), node());
    let (_folder, root) = model(1.0);
    a.push_with(&root, "acme/tiny", |push| push.public = true)
        .await
        .unwrap();
    let ticket = a.share("acme/tiny").await;
    let cut = b
        .pull("acme/tiny", Some(&ticket[..ticket.len() - 5]), None, |_| ())
        .await
        .unwrap_err();
    assert_eq!(cut.kind, FailureKind::Usage, "{cut}");
    a.node.shutdown().await;
    let away = b
        .pull("acme/tiny", Some(&ticket), None, |_| ())
        .await
        .unwrap_err();
    assert!(
        matches!(away.kind, FailureKind::NotFound | FailureKind::NoPeer),
        "{away}"
    );
    let names = b.run(Command::Ls { name: None }).await;
    assert!(names.is_ok());
}
