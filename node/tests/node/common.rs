//! Homes in temporary folders, small models, and nodes on loopback.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use lode_node::{
    EventSink, NetworkOptions, Node, NodeOptions,
    command::{Command, Failure, Outcome, Pull, Pulled, Push, Pushed, Shown},
};
use tempfile::TempDir;

/// A node over a temporary home.
pub(crate) struct TestNode {
    pub(crate) node: Node,
    pub(crate) home: TempDir,
}

/// A node that sends nothing but to addresses that were given.
pub(crate) fn node() -> TestNode {
    let home = tempfile::tempdir().unwrap();
    TestNode {
        node: open(home.path()),
        home,
    }
}

pub(crate) fn open(home: &Path) -> Node {
    Node::open(home, options()).unwrap()
}

pub(crate) fn options() -> NodeOptions {
    NodeOptions {
        network: NetworkOptions {
            offline: true,
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            ..NetworkOptions::default()
        },
        ..NodeOptions::default()
    }
}

impl TestNode {
    pub(crate) async fn run(&self, command: Command) -> Result<Outcome, Failure> {
        self.node.run(command, EventSink::discard()).await
    }

    pub(crate) async fn push(&self, dir: &Path, name: &str) -> Result<Pushed, Failure> {
        self.push_with(dir, name, |_| ()).await
    }

    pub(crate) async fn push_with(
        &self,
        dir: &Path,
        name: &str,
        change: impl FnOnce(&mut Push),
    ) -> Result<Pushed, Failure> {
        let mut push = Push {
            dir: text(dir),
            name: name.to_owned(),
            ..Push::default()
        };
        change(&mut push);
        match self.run(Command::Push(push)).await? {
            Outcome::Pushed(pushed) => Ok(pushed),
            other => panic!("push answered {other:?}"),
        }
    }

    pub(crate) async fn pull(
        &self,
        name: &str,
        ticket: Option<&str>,
        to: Option<&Path>,
        change: impl FnOnce(&mut Pull),
    ) -> Result<Pulled, Failure> {
        let mut pull = Pull {
            name: name.to_owned(),
            to: to.map(text),
            from: ticket.into_iter().map(str::to_owned).collect(),
            ..Pull::default()
        };
        change(&mut pull);
        match self.run(Command::Pull(pull)).await? {
            Outcome::Pulled(pulled) => Ok(pulled),
            other => panic!("pull answered {other:?}"),
        }
    }

    pub(crate) async fn share(&self, name: &str) -> String {
        match self
            .run(Command::Share {
                name: name.to_owned(),
                expires_seconds: None,
            })
            .await
            .unwrap()
        {
            Outcome::Ticket { ticket, .. } => ticket,
            other => panic!("share answered {other:?}"),
        }
    }

    /// Bytes of blobs that this node has sent, to one other or to all.
    pub(crate) async fn sent(&self, to: Option<&Self>) -> u64 {
        let traffic = self.node.network().await.unwrap().traffic();
        match to {
            Some(to) => traffic.of(to.node.network().await.unwrap().id()).sent(),
            None => traffic.all().iter().map(|(_, peer)| peer.sent()).sum(),
        }
    }

    pub(crate) async fn show(&self, name: &str) -> Shown {
        match self
            .run(Command::Show {
                name: name.to_owned(),
            })
            .await
            .unwrap()
        {
            Outcome::Shown(shown) => *shown,
            other => panic!("show answered {other:?}"),
        }
    }
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// F32 tensors of one file: by name, the shape and the value that fills it.
pub(crate) type Tensors<'a> = BTreeMap<&'a str, (Vec<u64>, f32)>;

/// A safetensors file with these tensors; elements are `value + index`, so that no two chunks are equal.
pub(crate) fn safetensors(tensors: &Tensors<'_>) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, (shape, value)) in tensors {
        let start = data.len();
        for index in 0..shape.iter().product::<u64>() {
            #[allow(clippy::cast_precision_loss)]
            data.extend((value + index as f32).to_le_bytes());
        }
        header.insert(
            (*name).to_owned(),
            serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    let mut json = serde_json::to_vec(&header).unwrap();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json);
    file.extend(data);
    file
}

/// A folder like those on the Hub: two layers of a megabyte and more, a config, a sub-folder, a link.
pub(crate) fn model(value: f32) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("model");
    fs::create_dir_all(root.join("extra")).unwrap();
    write_weights(&root, value, 0.0);
    fs::write(
        root.join("config.json"),
        r#"{"architectures":["LlamaForCausalLM"]}"#,
    )
    .unwrap();
    fs::write(root.join("extra/naïve 模型.txt"), "text\n".repeat(100)).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    std::os::unix::fs::symlink("config.json", root.join("link.json")).unwrap();
    (folder, root)
}

/// Writes `model.safetensors`, layer 1 shifted by `shift`.
pub(crate) fn write_weights(root: &Path, value: f32, shift: f32) {
    let tensors = Tensors::from([
        ("model.layers.0.up.weight", (vec![640, 512], value)),
        (
            "model.layers.1.up.weight",
            (vec![640, 512], value + 1e6 + shift),
        ),
        ("model.norm.weight", (vec![512], value)),
    ]);
    fs::write(root.join("model.safetensors"), safetensors(&tensors)).unwrap();
}

/// Asserts that two folders hold the same files, links and bytes; hidden files aside.
pub(crate) fn assert_same(left: &Path, right: &Path) {
    let (left, right) = (listing(left, left), listing(right, right));
    assert_eq!(
        left.keys().collect::<Vec<_>>(),
        right.keys().collect::<Vec<_>>()
    );
    for (path, bytes) in &left {
        assert!(bytes == &right[path], "{path} differs");
    }
}

fn listing(root: &Path, folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = text(path.strip_prefix(root).unwrap());
        if path.is_symlink() {
            found.insert(
                format!("{name} ->"),
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes(),
            );
        } else if path.is_dir() {
            found.extend(listing(root, &path));
        } else {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
    found
}
