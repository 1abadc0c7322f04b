//! Variants between nodes: made here of a base from there, fetched where that is cheaper, kept, listed.

use std::{fs, path::Path, sync::Arc};

use lode_node::command::{Command, FailureKind, Outcome, VariantRow};
use lode_quantize::{
    Gathered, Recipe,
    variant::{FileBytes, layout},
};
use lode_tensors::ByteRange;

use crate::{
    common::{TestNode, node},
    models::{Gguf, Type, source},
};

/// A GGUF model of three layers, 3 MiB of brain floats.
fn gguf() -> Vec<u8> {
    let mut file = Gguf::default();
    file.text("general.architecture", "llama")
        .u32("llama.block_count", 3)
        .u32("llama.attention.head_count", 4);
    for layer in 0..3 {
        for part in ["attn_v", "ffn_down", "ffn_up"] {
            file.random(
                &format!("blk.{layer}.{part}.weight"),
                Type::Bf16,
                &[344, 512],
            );
        }
        file.random(&format!("blk.{layer}.attn_norm.weight"), Type::F32, &[512]);
    }
    file.random("token_embd.weight", Type::Bf16, &[64, 512]);
    file.bytes()
}

fn folder(bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("m")).unwrap();
    fs::write(folder.path().join("m/model-bf16.gguf"), bytes).unwrap();
    fs::write(folder.path().join("m/README.md"), "a model").unwrap();
    folder
}

/// What a variant must be: made in one go, without a node.
fn expected(bytes: &[u8], variant: &str) -> Vec<u8> {
    let recipe = Recipe::named(variant, ["model-bf16.gguf"]).unwrap();
    let files = layout(&recipe, &source(&[("model-bf16.gguf", bytes)])).unwrap();
    let FileBytes::Made(made) = &files[0].bytes else {
        panic!("a variant is made");
    };
    let whole = ByteRange {
        start: 0,
        end: made.len(),
    };
    let needs = made.needs(whole);
    let gathered = Gathered::new(needs.iter().map(|at| (*at, at.range.of(bytes).unwrap())));
    let mut out = vec![0; usize::try_from(made.len()).unwrap()];
    Arc::clone(made).make(whole, &gathered, &mut out).unwrap();
    out
}

async fn publisher(bytes: &[u8]) -> (TestNode, String, tempfile::TempDir) {
    let (a, folder) = (node(), folder(bytes));
    a.push_with(&folder.path().join("m"), "acme/tiny", |push| {
        push.public = true;
        push.tag = Some("v1".to_owned());
    })
    .await
    .unwrap();
    let ticket = a.share("acme/tiny@v1").await;
    (a, ticket, folder)
}

async fn variants(node: &TestNode, name: &str) -> Vec<VariantRow> {
    let name = name.to_owned();
    match node.run(Command::VariantLs { name }).await.unwrap() {
        Outcome::Variants { variants, .. } => variants,
        other => panic!("variant ls answered {other:?}"),
    }
}

async fn make(node: &TestNode, name: &str) {
    let (name, from) = (name.to_owned(), Vec::new());
    node.run(Command::VariantMake { name, from }).await.unwrap();
}

fn read(path: Option<&String>) -> Vec<u8> {
    fs::read(Path::new(path.unwrap())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variant_of_a_base_from_elsewhere_is_made_here_and_seeds() {
    let bytes = gguf();
    let (a, ticket, folder) = publisher(&bytes).await;
    let (b, c) = (node(), node());
    let out = folder.path().join("q");
    let pulled = b
        .pull("acme/tiny@v1:q4_k_m", Some(&ticket), Some(&out), |_| ())
        .await
        .unwrap();
    let expected = expected(&bytes, "q4_k_m");
    assert!(read(pulled.path.as_ref()) == expected, "another file came");
    assert_eq!(pulled.name, "acme/tiny@v1:q4_k_m");
    let listed = variants(&b, "acme/tiny@v1").await;
    let row = listed.iter().find(|row| row.name == "q4_k_m").unwrap();
    assert_eq!(row.size, expected.len() as u64);
    assert_eq!(row.kept.as_deref(), Some(&pulled.version[..]));
    assert_eq!(
        row.claimed, None,
        "only its publisher claims for a publisher"
    );
    // The same once more is nothing to do.
    let again = b
        .pull("acme/tiny@v1:q4_k_m", None, Some(&out), |_| ())
        .await
        .unwrap();
    assert_eq!(
        (again.size_fetched, again.version),
        (0, pulled.version.clone())
    );
    // Who knows the version pulls it from whoever made it.
    make(&a, "acme/tiny@v1:q4_k_m").await;
    let kept = a.show("acme/tiny@v1:q4_k_m").await;
    assert_eq!(kept.version, pulled.version, "equal bytes have one id");
    c.pull("acme/tiny", Some(&ticket), None, |pull| {
        pull.include = vec!["README.md".to_owned()];
    })
    .await
    .unwrap();
    let second = b.share("acme/tiny@v1").await;
    a.node.shutdown().await;
    let third = folder.path().join("third");
    let pulled = c
        .pull("acme/tiny@v1:q4_k_m", Some(&second), Some(&third), |_| ())
        .await
        .unwrap();
    assert!(read(pulled.path.as_ref()) == expected, "another file came");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_publisher_keeps_is_fetched_instead_of_its_larger_base() {
    let bytes = gguf();
    let (a, ticket, folder) = publisher(&bytes).await;
    make(&a, "acme/tiny@v1:q4_0").await;
    let listed = variants(&a, "acme/tiny@v1").await;
    let row = listed.iter().find(|row| row.name == "q4_0").unwrap();
    assert!(row.kept.is_some() && row.kept == row.claimed && !row.disagree);
    let b = node();
    let out = folder.path().join("q");
    let pulled = b
        .pull("acme/tiny@v1:q4_0", Some(&ticket), Some(&out), |_| ())
        .await
        .unwrap();
    let expected = expected(&bytes, "q4_0");
    assert!(read(pulled.path.as_ref()) == expected, "another file came");
    let most = expected.len() as u64 + 64 * 1024;
    assert!(pulled.size_fetched <= most, "{pulled:?}");
    assert_eq!(Some(pulled.version), row.kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn chosen_tensors_of_a_variant_need_their_own_source_alone() {
    let bytes = gguf();
    let (_a, ticket, folder) = publisher(&bytes).await;
    let b = node();
    let out = folder.path().join("part");
    let planned = b
        .pull("acme/tiny@v1:q8_0", Some(&ticket), Some(&out), |pull| {
            pull.tensors = vec!["blk.1.ffn_down.weight".to_owned()];
            pull.dry_run = true;
        })
        .await
        .unwrap();
    assert!(!out.exists(), "a dry run writes nothing");
    let pulled = b
        .pull("acme/tiny@v1:q8_0", Some(&ticket), Some(&out), |pull| {
            pull.tensors = vec!["blk.1.ffn_down.weight".to_owned()];
        })
        .await
        .unwrap();
    assert_eq!((planned.size, planned.files), (pulled.size, pulled.files));
    let part = read(pulled.path.as_ref());
    let header = lode_tensors::parse(&part, part.len() as u64).unwrap();
    let [tensor] = &header.tensors[..] else {
        panic!("{} tensors", header.tensors.len());
    };
    let whole = expected(&bytes, "q8_0");
    let of_whole = lode_tensors::parse(&whole, whole.len() as u64).unwrap();
    let range = of_whole.tensor("blk.1.ffn_down.weight").unwrap().range;
    assert!(tensor.range.of(&part) == range.of(&whole), "other blocks");
    let source = 344 * 512 * 2;
    assert!(
        pulled.size_fetched < source + 160 * 1024,
        "{} bytes came for {source}",
        pulled.size_fetched
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variant_that_is_not_kept_is_shown_and_has_nothing_to_verify() {
    let bytes = gguf();
    let (a, _, _folder) = publisher(&bytes).await;
    let shown = a.show("acme/tiny@v1:q6_k").await;
    assert_eq!(shown.size, expected(&bytes, "q6_k").len() as u64);
    assert_eq!(shown.name, "acme/tiny:q6_k");
    let name = "acme/tiny@v1:q6_k".to_owned();
    let tensors = a
        .run(Command::Tensors { name: name.clone() })
        .await
        .unwrap();
    let Outcome::Tensors { tensors, .. } = tensors else {
        panic!("tensors answered {tensors:?}");
    };
    assert!(tensors.iter().any(|tensor| tensor.dtype == "Q6_K"));
    let error = a.run(Command::Verify { name }).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::NotFound);
    let unknown = Command::Show {
        name: "acme/tiny@v1:q9".to_owned(),
    };
    let error = a.run(unknown).await.unwrap_err();
    assert!(error.message.contains("q4_k_m"), "{error}");
    make(&a, "acme/tiny@v1:q6_k").await;
    let name = "acme/tiny@v1:q6_k".to_owned();
    let Outcome::Checked(checked) = a.run(Command::Verify { name }).await.unwrap() else {
        panic!("verify answered something else");
    };
    assert!(checked.findings.is_empty(), "{:?}", checked.findings);
    assert!(checked.bytes >= shown.size);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_is_not_replaced_and_a_slice_is_refused() {
    let bytes = gguf();
    let (a, _, folder) = publisher(&bytes).await;
    let out = folder.path().join("q");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("model.gguf"), "mine").unwrap();
    let pull = a.pull("acme/tiny@v1:q4_0", None, Some(&out), |_| ());
    assert_eq!(pull.await.unwrap_err().kind, FailureKind::Refused);
    assert_eq!(fs::read(out.join("model.gguf")).unwrap(), b"mine");
    a.pull("acme/tiny@v1:q4_0", None, Some(&out), |pull| {
        pull.force = true
    })
    .await
    .unwrap();
    assert!(read(Some(&crate::common::text(&out.join("model.gguf")))) == expected(&bytes, "q4_0"));
    let sliced = a.pull("acme/tiny@v1:q4_0", None, Some(&out), |pull| {
        pull.slice = vec!["tp=0/2".to_owned()];
    });
    assert_eq!(sliced.await.unwrap_err().kind, FailureKind::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changed_under_the_reader_gives_an_error_and_no_byte() {
    let (a, folder) = (node(), folder(&gguf()));
    let root = folder.path().join("m");
    a.push_with(&root, "acme/tiny", |push| push.in_place = true)
        .await
        .unwrap();
    // It is laid out before, so that only weights are read after.
    a.show("acme/tiny:q8_0").await;
    let path = root.join("model-bf16.gguf");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 40_000;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let out = folder.path().join("q");
    let pull = a.pull("acme/tiny:q8_0", None, Some(&out), |_| ());
    assert_eq!(pull.await.unwrap_err().kind, FailureKind::NoPeer);
    assert!(
        !out.join("model.gguf").exists(),
        "an incomplete file has its name"
    );
    let left = fs::read_dir(&out).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a part is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_variant_takes_the_claim_back_and_leaves_its_version() {
    let bytes = gguf();
    let (a, _, _folder) = publisher(&bytes).await;
    let remove = |name: &str| Command::Remove {
        name: name.to_owned(),
        force: false,
    };
    // Nothing is kept of it, and nothing else goes instead.
    for name in ["acme/tiny:q8_0", "acme/tiny@v1:q8_0"] {
        let error = a.run(remove(name)).await.unwrap_err();
        assert_eq!(error.kind, FailureKind::NotFound, "{name}");
    }
    make(&a, "acme/tiny@v1:q8_0").await;
    a.run(remove("acme/tiny:q8_0")).await.unwrap();
    let listed = variants(&a, "acme/tiny@v1").await;
    assert!(
        listed
            .iter()
            .all(|row| row.kept.is_none() && row.claimed.is_none())
    );
    assert!(
        listed.iter().any(|row| row.name == "q8_0"),
        "the version went too"
    );
}
