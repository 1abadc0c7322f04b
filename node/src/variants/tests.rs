//! A kept variant that is not what its recipe makes is found out, and which byte is wrong.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../../quantize/tests/models/mod.rs"]
mod models;

use std::{fs, path::Path};

use lode_quantize::Recipe;
use lode_store::import::{ImportOptions, ImportSink, import};

use super::kept;
use crate::{
    EventSink, NetworkOptions, Node, NodeOptions,
    command::{Checked, Command, Outcome, Pull, Push, VariantCheck},
    resolve,
};
use models::{Gguf, Type};

struct Quiet;

impl ImportSink for Quiet {
    fn progress(&self, _: u64, _: u64) {}

    fn warning(&self, _: &str) {}

    fn cancelled(&self) -> bool {
        false
    }
}

fn node(home: &Path) -> Node {
    let options = NodeOptions {
        network: NetworkOptions {
            offline: true,
            ..NetworkOptions::default()
        },
        ..NodeOptions::default()
    };
    Node::open(home, options).unwrap()
}

async fn run(node: &Node, command: Command) -> Outcome {
    node.run(command, EventSink::discard()).await.unwrap()
}

async fn check(node: &Node, groups: u32) -> Checked {
    let command = Command::VariantCheck(VariantCheck {
        name: "acme/tiny:q8_0".to_owned(),
        from: Vec::new(),
        groups,
    });
    match run(node, command).await {
        Outcome::Checked(checked) => checked,
        other => panic!("check answered {other:?}"),
    }
}

/// Keeps these bytes as what `q8_0` makes of the model, and claims that they are.
fn keep(node: &Node, folder: &Path, bytes: &[u8]) {
    let path = folder.join("model.gguf");
    fs::write(&path, bytes).unwrap();
    let imported = import(node.store(), &path, &ImportOptions::default(), &Quiet).unwrap();
    let files = node.reads().tree(imported.tree).unwrap().files().to_vec();
    let base = resolve::version(node, &"acme/tiny".parse().unwrap()).unwrap();
    let base = resolve::document(node, base.id).unwrap();
    let recipe = Recipe::named("q8_0", ["model.gguf"]).unwrap();
    kept::keep(node, &base, &recipe, files).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_byte_is_found_and_named_and_claims_that_disagree_are_shown() {
    let temporary = tempfile::tempdir().unwrap();
    let (home, folder) = (temporary.path().join("home"), temporary.path().join("m"));
    fs::create_dir(&folder).unwrap();
    let mut file = Gguf::default();
    file.text("general.architecture", "llama")
        .random("blk.0.ffn_up.weight", Type::Bf16, &[256, 512])
        .random("blk.1.ffn_up.weight", Type::Bf16, &[256, 512]);
    fs::write(folder.join("model.gguf"), file.bytes()).unwrap();
    let node = node(&home);
    let push = Push {
        dir: folder.to_str().unwrap().to_owned(),
        name: "acme/tiny".to_owned(),
        ..Push::default()
    };
    run(&node, Command::Push(push)).await;
    let out = temporary.path().join("out");
    let pull = Pull {
        name: "acme/tiny:q8_0".to_owned(),
        to: Some(out.to_str().unwrap().to_owned()),
        ..Pull::default()
    };
    let Outcome::Pulled(pulled) = run(&node, Command::Pull(pull)).await else {
        panic!("pull answered something else");
    };
    let sound = check(&node, 8).await;
    assert!(sound.findings.is_empty(), "{:?}", sound.findings);
    assert_eq!(sound.chunks, 8);
    assert!(sound.bytes > 7 * 16 * 1024, "{} bytes", sound.bytes);

    let mut bytes = fs::read(out.join("model.gguf")).unwrap();
    let planted = bytes.len() - 1000;
    bytes[planted] ^= 0x10;
    keep(&node, temporary.path(), &bytes);
    // All groups there are.
    let wrong = check(&node, 10_000).await;
    let [finding] = &wrong.findings[..] else {
        panic!("{:?}", wrong.findings);
    };
    assert_eq!(finding.level, "corrupt");
    let named = format!("byte {planted} of model.gguf, of tensor blk.1.ffn_up.weight");
    assert!(finding.text.contains(&named), "{}", finding.text);

    bytes.truncate(planted);
    keep(&node, temporary.path(), &bytes);
    let short = check(&node, 1).await;
    assert!(
        short.findings[0]
            .text
            .contains("bytes, where the recipe makes")
    );

    // This home made the right one once more, and the publisher, who is somebody else, still says otherwise.
    let make = Command::VariantMake {
        name: "acme/tiny:q8_0".to_owned(),
        from: Vec::new(),
    };
    let publisher = resolve::base(&node, &"acme/tiny".parse().unwrap())
        .unwrap()
        .publisher;
    fs::remove_file(node.home().join("keys/device.key")).unwrap();
    let Outcome::Pulled(again) = run(&node, make).await else {
        panic!("make answered something else");
    };
    assert_eq!(again.version, pulled.version);
    let base = resolve::base(&node, &"acme/tiny".parse().unwrap()).unwrap();
    let recipe = Recipe::named("q8_0", ["model.gguf"]).unwrap();
    let claims = kept::claims(node.store(), &publisher, "tiny", &base.id, &recipe).unwrap();
    assert!(claims.disagree(), "{claims:?}");
    let name = "acme/tiny".to_owned();
    let Outcome::Variants { variants, .. } = run(&node, Command::VariantLs { name }).await else {
        panic!("variant ls answered something else");
    };
    assert!(
        variants
            .iter()
            .any(|row| row.name == "q8_0" && row.disagree)
    );
}
