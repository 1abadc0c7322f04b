//! A rank gets its rows and columns and little else, in files that load, and is told what cannot be cut.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use lode_node::{
    EventSink,
    command::{Command, Event, FailureKind, Pull, Pulled},
};
use lode_tensors::{ByteRange, Cut, Header, Tensor, slice::Slicer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::common::{TestNode, node, text};

/// Rows and columns of each tensor.
type Shapes = Vec<(String, Vec<u64>)>;

fn llama(hidden: u64, kv: u64, ffn: u64, vocab: u64, layers: u64) -> Shapes {
    let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, hidden])];
    for layer in 0..layers {
        for (name, shape) in [
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![kv, hidden]),
            ("self_attn.v_proj", vec![kv, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![ffn, hidden]),
            ("mlp.up_proj", vec![ffn, hidden]),
            ("mlp.down_proj", vec![hidden, ffn]),
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    shapes.push(("model.norm.weight".to_owned(), vec![hidden]));
    shapes.push(("lm_head.weight".to_owned(), vec![vocab, hidden]));
    shapes
}

/// A checkpoint with an index, tensors of BF16 spread over `shards`, no two chunks equal.
fn checkpoint(config: &Value, shapes: &[(String, Vec<u64>)], shards: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("model");
    fs::create_dir_all(root.join("original")).unwrap();
    fs::write(root.join("config.json"), config.to_string()).unwrap();
    fs::write(root.join("tokenizer.json"), "{}\n").unwrap();
    fs::write(root.join("original/params.txt"), "text\n").unwrap();
    let mut weight_map = BTreeMap::new();
    for (number, part) in shapes.chunks(shapes.len().div_ceil(shards)).enumerate() {
        let shard = format!("model-{:05}-of-{shards:05}.safetensors", number + 1);
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, shape) in part {
            let start = data.len();
            let len = 2 * shape.iter().product::<u64>();
            data.resize(start + usize::try_from(len).unwrap(), 0);
            blake3_fill(name, &mut data[start..]);
            let info =
                json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, data.len()]});
            header.insert(name.clone(), info);
            weight_map.insert(name.clone(), shard.clone());
        }
        let mut json = serde_json::to_vec(&header).unwrap();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut file = (json.len() as u64).to_le_bytes().to_vec();
        file.extend(json);
        file.extend(data);
        fs::write(root.join(&shard), file).unwrap();
    }
    let index = json!({"metadata": {"total_size": 0}, "weight_map": weight_map});
    fs::write(root.join("model.safetensors.index.json"), index.to_string()).unwrap();
    (folder, root)
}

fn blake3_fill(name: &str, bytes: &mut [u8]) {
    blake3::Hasher::new()
        .update(name.as_bytes())
        .finalize_xof()
        .fill(bytes);
    // Small numbers, none of them infinite: variants are made of them too.
    bytes
        .iter_mut()
        .skip(1)
        .step_by(2)
        .for_each(|byte| *byte &= 0xbf);
}

fn llama_config(heads: u64, kv_heads: u64, hidden: u64, layers: u64) -> Value {
    json!({"architectures": ["LlamaForCausalLM"], "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads})
}

/// Every tensor of the files in a folder, with its bytes.
fn tensors(folder: &Path) -> BTreeMap<String, (Tensor, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_none_or(|extension| extension != "safetensors")
        {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let header: Header = lode_tensors::parse(&bytes, bytes.len() as u64).unwrap();
        for tensor in header.tensors {
            let range: ByteRange = tensor.range;
            let content = range.of(&bytes).unwrap().to_vec();
            let twice = found.insert(tensor.name.clone(), (tensor, content));
            assert!(twice.is_none());
        }
    }
    found
}

/// The bytes of a cut of a two-byte matrix, row by row.
fn by_hand(tensor: &Tensor, bytes: &[u8], cut: &Cut) -> Vec<u8> {
    let Cut::Part { dim, parts } = cut else {
        return bytes.to_vec();
    };
    let at = |index: u64| usize::try_from(index).unwrap() * 2;
    let columns = if tensor.shape.len() == 1 {
        1
    } else {
        tensor.shape[1]
    };
    let mut out = Vec::new();
    if *dim == 0 {
        for part in parts {
            out.extend(&bytes[at(part.start * columns)..at(part.end * columns)]);
        }
        return out;
    }
    for row in bytes.chunks(at(columns)) {
        for part in parts {
            out.extend(&row[at(part.start)..at(part.end)]);
        }
    }
    out
}

/// Holds a pulled slice to the source, tensor by tensor, with its index and manifest.
fn assert_slice(source: &Path, out: &Path, slices: &[String]) -> u64 {
    let config = fs::read(source.join("config.json")).unwrap();
    let architecture = lode_tensors::slice::Architecture::parse(&config).unwrap();
    let slice = lode_tensors::slice::Slice::parse(slices.iter().map(String::as_str)).unwrap();
    let whole = tensors(source);
    let slicer = Slicer::new(architecture, slice, whole.contains_key("lm_head.weight")).unwrap();
    let mut found = tensors(out);
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(out.join(name)).unwrap()).unwrap()
    };
    let (index, manifest) = (
        read("model.safetensors.index.json"),
        read("lode-slice.json"),
    );
    let mut size = 0;
    for (name, (tensor, bytes)) in &whole {
        let row = &manifest["tensors"][name];
        let Some(cut) = slicer.cut(name, &tensor.shape).unwrap() else {
            assert!(!found.contains_key(name), "{name}");
            assert!(row.is_null() && index["weight_map"][name].is_null());
            continue;
        };
        let (new, content) = found.remove(name).expect("the tensor is in the slice");
        assert!(content == by_hand(tensor, bytes, &cut), "{name}");
        assert_eq!(new.dtype, tensor.dtype);
        assert_eq!(row["shape"], json!(tensor.shape));
        let shard = row["file"].as_str().unwrap();
        assert_eq!(index["weight_map"][name], shard);
        assert!(out.join(shard).exists());
        match cut {
            Cut::Whole => assert!(row["cut"].is_null()),
            Cut::Part { dim, parts } => {
                assert_eq!(row["cut"], json!({"dim": dim, "parts": parts}));
            }
        }
        size += content.len() as u64;
    }
    assert!(found.is_empty(), "{:?}", found.keys());
    assert_eq!(index["metadata"]["total_size"], size);
    assert_eq!(manifest["size"], size);
    assert_eq!(manifest["slice"], json!(slices));
    for name in ["config.json", "tokenizer.json", "original/params.txt"] {
        assert_eq!(
            fs::read(out.join(name)).unwrap(),
            fs::read(source.join(name)).unwrap()
        );
    }
    size
}

/// A node that serves a checkpoint, and its ticket.
async fn serving(root: &Path) -> (TestNode, String) {
    let a = node();
    a.push_with(root, "acme/llama", |push| {
        push.public = true;
        push.in_place = true;
    })
    .await
    .unwrap();
    let ticket = a.share("acme/llama").await;
    (a, ticket)
}

async fn pull(b: &TestNode, ticket: &str, out: &Path, slices: &[String]) -> Pulled {
    let slices = slices.to_vec();
    b.pull("acme/llama", Some(ticket), Some(out), |pull| {
        pull.slice = slices
    })
    .await
    .unwrap()
}

/// Bytes of answers that a node has sent, proofs included.
fn sent(a: &TestNode) -> u64 {
    let network = a.node.network_if_up().unwrap();
    let counters = network.traffic().all();
    counters
        .iter()
        .map(|(_, counters)| counters.sent_wire())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rank_pays_little_more_than_its_own_bytes() {
    // one layer of Llama 3.2 1B, with a smaller vocabulary
    let shapes = llama(2048, 512, 8192, 4096, 1);
    let (folder, root) = checkpoint(&llama_config(32, 8, 2048, 1), &shapes, 2);
    let (a, ticket) = serving(&root).await;
    for of in [2, 4, 8] {
        let b = node();
        let out = folder.path().join(format!("of{of}"));
        let slices = vec![format!("tp={}/{of}", of - 1)];
        let before = sent(&a);
        let pulled = pull(&b, &ticket, &out, &slices).await;
        let wire = sent(&a) - before;
        let own = assert_slice(&root, &out, &slices);
        assert!(
            wire as f64 <= own as f64 * 1.15,
            "tp={of}: {wire} bytes came for {own}"
        );
        assert!(pulled.size_fetched <= wire && pulled.size >= own);
        assert!(pulled.size_full > own);
        b.node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_ranks_and_globs_combine_and_come_once() {
    let shapes = llama(256, 64, 704, 512, 4);
    let (folder, root) = checkpoint(&llama_config(8, 2, 256, 4), &shapes, 3);
    let (a, ticket) = serving(&root).await;
    let b = node();
    for slices in [
        vec!["layers=0..2"],
        vec!["layers=2..4", "tp=3/8"],
        vec!["tp=0/1"],
    ] {
        let slices: Vec<String> = slices.into_iter().map(str::to_owned).collect();
        let out = folder
            .path()
            .join(slices.join("-").replace(['/', '='], "_"));
        let pulled = pull(&b, &ticket, &out, &slices).await;
        assert!(pulled.size_fetched > 0);
        assert_slice(&root, &out, &slices);
        // what was left out leaves no file behind
        let files = fs::read_dir(&out).unwrap().count();
        let again = pull(&b, &ticket, &out, &slices).await;
        assert_eq!(again.size_fetched, 0, "{again:?}");
        assert!(again.size_held > 0 && again.size_held <= again.size);
        assert_eq!(fs::read_dir(&out).unwrap().count(), files);
    }
    let out = folder.path().join("named");
    b.pull("acme/llama", Some(&ticket), Some(&out), |pull| {
        pull.slice = vec!["tp=1/2".to_owned()];
        pull.tensors = vec!["*.o_proj.weight".to_owned()];
        pull.include = vec!["config.json".to_owned()];
    })
    .await
    .unwrap();
    let names: Vec<String> = tensors(&out).into_keys().collect();
    assert_eq!(names.len(), 4);
    assert!(names.iter().all(|name| name.ends_with("o_proj.weight")));
    assert!(out.join("config.json").exists() && !out.join("tokenizer.json").exists());
    a.node.shutdown().await;
    b.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_was_stopped_goes_on_where_it_was() {
    let shapes = llama(1024, 256, 4096, 4096, 1);
    let (folder, root) = checkpoint(&llama_config(16, 4, 1024, 1), &shapes, 1);
    let (a, ticket) = serving(&root).await;
    let b = node();
    let out = folder.path().join("out");
    let slices = vec!["tp=1/2".to_owned()];
    let command = Pull {
        name: "acme/llama".to_owned(),
        to: Some(text(&out)),
        slice: slices.clone(),
        from: vec![ticket.clone()],
        max_rate: Some(20_000_000),
        ..Pull::default()
    };
    let (sender, mut events) = mpsc::unbounded_channel();
    let cancel = CancellationToken::new();
    let sink = EventSink::new(sender, cancel.clone());
    let stop = async {
        while let Some(event) = events.recv().await {
            if matches!(event, Event::Progress { done, .. } if done > 12_000_000) {
                cancel.cancel();
            }
        }
    };
    let (stopped, ()) = tokio::join!(b.node.run(Command::Pull(command), sink), stop);
    assert!(stopped.is_err());
    let before = sent(&a);
    let pulled = pull(&b, &ticket, &out, &slices).await;
    let own = assert_slice(&root, &out, &slices);
    assert!(pulled.size_held > 4_000_000, "{pulled:?}");
    let rest = own - pulled.size_held;
    let wire = sent(&a) - before;
    assert!(
        wire as f64 <= rest as f64 * 1.15 + 4e6,
        "{wire} bytes came for {rest}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_named_tensors_come_alone() {
    let shapes = llama(256, 64, 704, 5000, 1);
    let (folder, root) = checkpoint(&llama_config(8, 2, 256, 1), &shapes, 1);
    let (a, ticket) = serving(&root).await;
    let b = node();
    let out = folder.path().join("rows");
    let rows = |rows: &str| {
        let rows = Some(rows.to_owned());
        move |pull: &mut Pull| {
            pull.tensors = vec!["*embed_tokens.weight".to_owned(), "lm_head.*".to_owned()];
            pull.rows = rows;
        }
    };
    let before = sent(&a);
    b.pull("acme/llama", Some(&ticket), Some(&out), rows("4000..4100"))
        .await
        .unwrap();
    let whole = tensors(&root);
    let found = tensors(&out);
    assert_eq!(found.len(), 2);
    for (name, (tensor, bytes)) in &found {
        assert_eq!(tensor.shape, [100, 256]);
        assert!(*bytes == by_hand(&whole[name].0, &whole[name].1, &Cut::rows(4000..4100)));
    }
    assert!(sent(&a) - before < 2 * 100 * 512 + 64 * 1024);
    let manifest: Value =
        serde_json::from_slice(&fs::read(out.join("lode-slice.json")).unwrap()).unwrap();
    assert_eq!(manifest["rows"], json!({"start": 4000, "end": 4100}));
    let error = b
        .pull("acme/llama", Some(&ticket), Some(&out), rows("4990..5001"))
        .await
        .unwrap_err();
    assert_eq!(error.kind, FailureKind::Usage);
    assert!(error.message.contains("4990..5001"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_cut_is_refused_before_a_byte_is_written() {
    let shapes = llama(256, 64, 704, 512, 2);
    let (folder, root) = checkpoint(&llama_config(8, 2, 256, 2), &shapes, 2);
    let (a, ticket) = serving(&root).await;
    let b = node();
    let out = folder.path().join("never");
    for (slices, kind, says) in [
        (vec!["tp=2/2"], FailureKind::Usage, "no rank 2 among 2"),
        (vec!["tp=0/0"], FailureKind::Usage, "0 ranks"),
        (
            vec!["tp=0/3"],
            FailureKind::Usage,
            "num_attention_heads 8 cannot be divided",
        ),
        (
            vec!["layers=1..3"],
            FailureKind::Usage,
            "of a model with 2 layers",
        ),
        (
            vec!["experts=0..1"],
            FailureKind::Usage,
            "of a model with 0 experts",
        ),
        (vec!["pp=0/2"], FailureKind::Usage, "write tp=R/N"),
        (
            vec!["tp=0/2", "tp=1/2"],
            FailureKind::Usage,
            "tp is given twice",
        ),
    ] {
        let slices = slices.into_iter().map(str::to_owned).collect();
        let error = b
            .pull("acme/llama", Some(&ticket), Some(&out), |pull| {
                pull.slice = slices
            })
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
    let error = b
        .pull("acme/llama", Some(&ticket), None, |pull| {
            pull.slice = vec!["tp=0/2".to_owned()];
        })
        .await
        .unwrap_err();
    assert!(error.message.contains("needs --to"), "{error}");
    assert!(!out.exists());

    for (name, config, says) in [
        (
            "gpt",
            json!({"architectures": ["GptOssForCausalLM"]}),
            "supported are LlamaForCausalLM",
        ),
        (
            "more",
            llama_config(16, 2, 256, 2),
            "rows are expected of 16 heads",
        ),
        (
            "mixtral",
            llama_config(8, 2, 256, 2),
            "is not known in Mixtral",
        ),
    ] {
        let mut config = config;
        if name == "mixtral" {
            config["architectures"] = json!(["MixtralForCausalLM"]);
            config["num_local_experts"] = json!(4);
        }
        if name == "more" {
            config["head_dim"] = json!(32);
        }
        fs::write(root.join("config.json"), config.to_string()).unwrap();
        a.push_with(&root, &format!("acme/{name}"), |push| push.public = true)
            .await
            .unwrap();
        let ticket = a.share(&format!("acme/{name}")).await;
        let error = b
            .pull(&format!("acme/{name}"), Some(&ticket), Some(&out), |pull| {
                pull.slice = vec!["tp=0/2".to_owned()];
            })
            .await
            .unwrap_err();
        assert_eq!(error.kind, FailureKind::Refused, "{error}");
        assert!(error.message.contains(says), "{error}");
    }
    assert!(!out.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_index_says_counts_and_a_wrong_one_is_found() {
    let shapes = llama(256, 64, 704, 512, 1);
    let (folder, root) = checkpoint(&llama_config(8, 2, 256, 1), &shapes, 2);
    let path = root.join("model.safetensors.index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["weight_map"]
        .as_object_mut()
        .unwrap()
        .remove("model.norm.weight");
    fs::write(&path, index.to_string()).unwrap();
    // of another checkpoint: its names are not those of the architecture
    fs::copy(
        root.join("model-00001-of-00002.safetensors"),
        root.join("consolidated.safetensors"),
    )
    .unwrap();
    let (a, ticket) = serving(&root).await;
    let b = node();
    let out = folder.path().join("out");
    pull(&b, &ticket, &out, &["tp=0/2".to_owned()]).await;
    let found = tensors(&out);
    assert_eq!(found.len(), shapes.len() - 1);
    assert!(!found.contains_key("model.norm.weight"));
    assert!(!out.join("consolidated.safetensors").exists());

    for (change, says) in [
        ("model-00003-of-00002.safetensors", "which is not there"),
        ("model-00001-of-00002.safetensors", "does not hold it"),
        ("../elsewhere", "no plain file name"),
    ] {
        index["weight_map"]["lm_head.weight"] = json!(change);
        fs::write(&path, index.to_string()).unwrap();
        a.push_with(&root, "acme/llama", |push| push.public = true)
            .await
            .unwrap();
        let error = b
            .pull("acme/llama", Some(&ticket), Some(&out), |pull| {
                pull.slice = vec!["tp=0/2".to_owned()];
            })
            .await
            .unwrap_err();
        assert_eq!(error.kind, FailureKind::Corrupt, "{error}");
        assert!(error.message.contains(says), "{error}");
    }

    // without an index all files at the top count
    fs::remove_file(&path).unwrap();
    let repush = || a.push_with(&root, "acme/llama", |push| push.public = true);
    repush().await.unwrap();
    let slice = |pull: &mut Pull| pull.slice = vec!["tp=0/2".to_owned()];
    let other = folder.path().join("other");
    let error = b
        .pull("acme/llama", Some(&ticket), Some(&other), slice)
        .await
        .unwrap_err();
    assert!(error.message.contains("in more than one file"), "{error}");
    fs::remove_file(root.join("consolidated.safetensors")).unwrap();
    repush().await.unwrap();
    b.pull("acme/llama", Some(&ticket), Some(&other), slice)
        .await
        .unwrap();
    assert_eq!(tensors(&other).len(), shapes.len());
    assert!(!other.join("model.safetensors.index.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_is_kept_in_the_store_without_a_folder() {
    let shapes = llama(512, 128, 2048, 4096, 4);
    let (_folder, root) = checkpoint(&llama_config(8, 2, 512, 4), &shapes, 2);
    let (_a, ticket) = serving(&root).await;
    let b = node();
    let stage = |pull: &mut Pull| pull.slice = vec!["layers=0..1".to_owned()];
    let plan = b
        .pull("acme/llama", Some(&ticket), None, |pull| {
            stage(pull);
            pull.dry_run = true;
        })
        .await
        .unwrap();
    assert!(plan.dry_run && plan.size_fetched > 0 && plan.size_fetched < plan.size_full / 2);
    let pulled = b
        .pull("acme/llama", Some(&ticket), None, stage)
        .await
        .unwrap();
    assert!(pulled.size_fetched < pulled.size_full / 2, "{pulled:?}");
    let again = b
        .pull("acme/llama", Some(&ticket), None, stage)
        .await
        .unwrap();
    assert_eq!(again.size_fetched, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_of_a_variant_is_cut_as_its_matrices_are_and_packed_groups_are_refused() {
    let (a, b) = (node(), node());
    let config = llama_config(8, 4, 256, 2);
    let (folder, root) = checkpoint(&config, &llama(256, 128, 512, 300, 2), 2);
    a.push_with(&root, "acme/llama", |push| push.public = true)
        .await
        .unwrap();
    let ticket = a.share("acme/llama").await;
    let whole = folder.path().join("whole");
    let pull = a.pull("acme/llama:fp8", None, Some(&whole), |_| ());
    pull.await.unwrap();
    let (whole, rank) = (tensors(&whole), folder.path().join("rank"));
    let pulled = b.pull("acme/llama:fp8", Some(&ticket), Some(&rank), |pull| {
        pull.slice = vec!["tp=1/2".to_owned()];
    });
    let pulled = pulled.await.unwrap();
    assert!(pulled.size_fetched < pulled.size_full * 3 / 2, "{pulled:?}");
    let cut = tensors(&rank);
    assert_eq!(
        cut.keys().collect::<Vec<_>>(),
        whole.keys().collect::<Vec<_>>()
    );
    let all = |name: &str| &whole[&format!("model.layers.1.{name}")].1;
    let part = |name: &str| &cut[&format!("model.layers.1.{name}")].1;
    // Rows of eight-bit codes, and the scales of these rows.
    assert!(*part("mlp.up_proj.weight") == all("mlp.up_proj.weight")[256 * 256..]);
    assert!(*part("mlp.up_proj.weight_scale") == all("mlp.up_proj.weight_scale")[256 * 2..]);
    // Columns, and all scales.
    let columns: Vec<u8> = all("mlp.down_proj.weight")
        .chunks(512)
        .flat_map(|row| row[256..].to_vec())
        .collect();
    assert!(*part("mlp.down_proj.weight") == columns);
    assert!(part("mlp.down_proj.weight_scale") == all("mlp.down_proj.weight_scale"));
    for file in ["config.json", "tokenizer.json", "lode-slice.json"] {
        assert!(rank.join(file).exists(), "{file}");
    }
    let index = fs::read(rank.join("model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["weight_map"].as_object().unwrap().len(), cut.len());

    let stage = folder.path().join("stage");
    let pull = b.pull("acme/llama:int4", None, Some(&stage), |pull| {
        pull.slice = vec!["layers=1..2".to_owned()];
    });
    pull.await.unwrap();
    let names: Vec<String> = tensors(&stage).into_keys().collect();
    assert!(names.contains(&"model.layers.1.mlp.up_proj.weight_packed".to_owned()));
    assert!(
        names.iter().all(|name| !name.contains("layers.0.")),
        "{names:?}"
    );
    let pull = b.pull("acme/llama:int4", None, Some(&stage), |pull| {
        pull.slice = vec!["tp=0/2".to_owned()];
    });
    let error = pull.await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Refused);
    assert!(error.message.contains("int4"), "{error}");
}
