//! `lode demo`: three nodes in temporary homes, and what they do for one another.
//!
//! Everything is done by child processes of this same binary over 127.0.0.1, with the commands that
//! a user types; the figures are theirs. Nothing is sent elsewhere, and nothing stays behind.

mod http;
mod model;
mod node;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lode_node::command::{Failure, FailureKind};
use serde::Serialize;
use serde_json::Value;

use crate::args::DemoArgs;
use crate::interrupt::Interrupt;
use crate::run::failed;
use crate::screen::Screen;
use crate::units::{plural, rate, size};
use node::Node;

/// The model's name in the demonstration.
const NAME: &str = "demo/llama@v1";
/// The same, after one tensor was changed.
const NAME_2: &str = "demo/llama@v2";
/// The tensor that is read over HTTP.
const TENSOR: &str = "model.layers.2.self_attn.k_proj.weight";
/// The tensor that the second version changes.
const TUNED: &str = "model.layers.3.mlp.down_proj.weight";
/// Rate of the download that is killed: slow enough to be caught at work.
const SLOW: &str = "24MB/s";

/// What the demonstration measured. Sizes are bytes.
#[derive(Debug, Default, Serialize)]
struct Figures {
    model_size: u64,
    tensors: u64,
    push_seconds: f64,
    pull_seconds: f64,
    killed_at: Option<u64>,
    resumed_held: u64,
    resumed_fetched: u64,
    resumed_providers: u64,
    tensor_size: u64,
    second_push_size_new: u64,
    second_pull_size_fetched: u64,
    chunks_checked: u64,
    bytes_checked: u64,
    seconds: f64,
}

/// Runs the demonstration and prints what happened.
///
/// # Errors
/// A step did not do what it promises.
pub(crate) async fn demo(args: &DemoArgs, screen: &mut Screen) -> Result<u8, Failure> {
    let mut interrupt = Interrupt::listen().map_err(|e| failed("cannot listen for Ctrl-C", &e))?;
    let dir = tempfile::Builder::new()
        .prefix("lode-demo-")
        .tempdir()
        .map_err(|error| failed("cannot make a temporary folder", &error))?;
    let result = tokio::select! {
        result = steps(dir.path(), screen) => result,
        // Dropping the steps kills the children.
        code = interrupt.wait() => {
            remove(&dir).await;
            return Ok(code);
        }
    };
    if args.keep {
        screen.note(&format!("kept: {}", dir.keep().display()));
    } else {
        remove(&dir).await;
    }
    match result {
        Ok(figures) => {
            screen.document(&figures, &summary(&figures));
            Ok(0)
        }
        Err(error) => Err(Failure {
            kind: FailureKind::Failed,
            message: format!("the demonstration broke off: {error:#}"),
            advice: Some("`lode demo --keep` keeps the homes and the nodes' logs".to_owned()),
        }),
    }
}

/// Removes the folder; children that were just killed may still write to it for a moment.
async fn remove(dir: &tempfile::TempDir) {
    for _ in 0..20 {
        if std::fs::remove_dir_all(dir.path()).is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn steps(dir: &Path, screen: &Screen) -> Result<Figures> {
    let start = Instant::now();
    let mut figures = Figures::default();

    let folder = dir.join("model");
    let mut tensors = model::tensors();
    figures.tensors = tensors.len() as u64;
    figures.model_size = {
        let (folder, tensors) = (folder.clone(), tensors.clone());
        tokio::task::spawn_blocking(move || model::write(&folder, &tensors)).await??
    };
    screen.note(&format!(
        "made a Llama-shaped model: {} in 3 shards, {}",
        plural(figures.tensors, "tensor"),
        size(figures.model_size)
    ));

    let (a, b, c) = tokio::try_join!(
        Node::start(dir, "a"),
        Node::start(dir, "b"),
        Node::start(dir, "c")
    )?;
    let mut c = c;
    screen.note("started three nodes, a, b and c, on 127.0.0.1, without relays");

    let source = text(&folder)?;
    let step = Instant::now();
    screen.note(&format!(
        "a$ lode push ./model {} --tag v1 --public",
        model_name()
    ));
    let pushed = a
        .run(&["push", source, model_name(), "--tag", "v1", "--public"])
        .await?;
    figures.push_seconds = step.elapsed().as_secs_f64();
    screen.note(&format!(
        "   version {}: {} of {} new, {} stored",
        crate::style::short(pushed["version"].as_str().unwrap_or_default()),
        number(&pushed, "tensors_new"),
        plural(number(&pushed, "tensors"), "tensor"),
        size(number(&pushed, "size_new"))
    ));

    let from_a = ticket(&a, NAME).await?;
    let out_b = dir.join("out-b");
    let step = Instant::now();
    screen.note(&format!(
        "b$ lode pull {NAME} --from TICKET-OF-A --to ./out-b"
    ));
    let pulled = b
        .run(&["pull", NAME, "--from", &from_a, "--to", text(&out_b)?])
        .await?;
    figures.pull_seconds = step.elapsed().as_secs_f64();
    same_files(&folder, &out_b)?;
    screen.note(&format!(
        "   {} fetched, equal byte for byte; b seeds it now, from the same files",
        size(number(&pulled, "size_fetched"))
    ));

    let from_b = ticket(&b, NAME).await?;
    let out_c = dir.join("out-c");
    let pull = [
        "pull",
        NAME,
        "--from",
        &from_a,
        "--from",
        &from_b,
        "--to",
        text(&out_c)?,
    ];
    screen.note(&format!(
        "c$ lode pull {NAME} --from TICKET-OF-A --from TICKET-OF-B --to ./out-c"
    ));
    let slow = [pull.as_slice(), &["--max-rate", SLOW]].concat();
    figures.killed_at = c.kill_during(&slow, 50).await?;
    if let Some(at) = figures.killed_at {
        screen.note(&format!(
            "   killed c's node (SIGKILL) after {} and started it again",
            size(at)
        ));
        c = Node::start(dir, "c").await?;
    }
    let resumed = c.run(&pull).await?;
    figures.resumed_held = number(&resumed, "size_held");
    figures.resumed_fetched = number(&resumed, "size_fetched");
    figures.resumed_providers = number(&resumed, "providers");
    same_files(&folder, &out_c)?;
    screen.note(&format!(
        "   resumed: {} held, {} fetched from {}, equal byte for byte",
        size(figures.resumed_held),
        size(figures.resumed_fetched),
        plural(figures.resumed_providers, "peer")
    ));

    figures.tensor_size = read_tensor(&c, &tensors, screen).await?;

    model::tune(&mut tensors, TUNED);
    {
        let (folder, tensors) = (folder.clone(), tensors.clone());
        tokio::task::spawn_blocking(move || model::write(&folder, &tensors)).await??;
    }
    screen.note(&format!(
        "a$ lode push ./model {} --tag v2      (one tensor changed)",
        model_name()
    ));
    let pushed = a
        .run(&["push", source, model_name(), "--tag", "v2"])
        .await?;
    figures.second_push_size_new = number(&pushed, "size_new");
    let from_a = ticket(&a, NAME_2).await?;
    let pulled = b.run(&["pull", NAME_2, "--from", &from_a]).await?;
    figures.second_pull_size_fetched = number(&pulled, "size_fetched");
    screen.note(&format!(
        "   {} of {} new, {} stored; b pulls it with {}",
        number(&pushed, "tensors_new"),
        plural(number(&pushed, "tensors"), "tensor"),
        size(figures.second_push_size_new),
        size(figures.second_pull_size_fetched)
    ));

    for (node, name) in [(&a, NAME_2), (&b, NAME_2), (&c, NAME)] {
        let checked = node.run(&["verify", name]).await?;
        ensure!(
            number(&checked, "missing") == 0,
            "node {} misses chunks of {name}",
            node.name
        );
        figures.chunks_checked += number(&checked, "chunks");
        figures.bytes_checked += number(&checked, "bytes");
    }
    screen.note(&format!(
        "verified every signature and byte on the three nodes: {}, {}",
        plural(figures.chunks_checked, "chunk"),
        size(figures.bytes_checked)
    ));

    tokio::try_join!(a.stop(), b.stop(), c.stop())?;
    figures.seconds = start.elapsed().as_secs_f64();
    Ok(figures)
}

/// Reads one tensor of the model from a node over HTTP, and compares it with what was made.
async fn read_tensor(node: &Node, tensors: &[model::Tensor], screen: &Screen) -> Result<u64> {
    let http = node
        .status
        .http
        .as_deref()
        .context("the node serves no HTTP")?;
    let address = http
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()?;
    let path = format!("/lode/v1/models/{}/v1/tensors/{TENSOR}", model_name());
    screen.note(&format!("$ curl http://{address}{path}"));
    let answer = http::get(address, &path).await?;
    let tensor = tensors
        .iter()
        .find(|tensor| tensor.name == TENSOR)
        .context("no such tensor")?;
    ensure!(
        answer.body == tensor.bytes(),
        "the tensor's bytes differ from those that were pushed"
    );
    let header = |name: &str| {
        answer
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("?")
            .to_owned()
    };
    screen.note(&format!(
        "   {} {} of shape {}, equal byte for byte",
        size(answer.body.len() as u64),
        header("lode-dtype"),
        header("lode-shape")
    ));
    Ok(answer.body.len() as u64)
}

async fn ticket(node: &Node, name: &str) -> Result<String> {
    let shared = node.run(&["share", name]).await?;
    Ok(shared["ticket"]
        .as_str()
        .context("`lode share` printed no ticket")?
        .to_owned())
}

/// Checks that `copy` holds the files of `folder`, byte for byte.
fn same_files(folder: &Path, copy: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let other = copy.join(entry.file_name());
        let (a, b) = (std::fs::read(entry.path())?, std::fs::read(&other)?);
        ensure!(a == b, "{} is not what was pushed", other.display());
    }
    Ok(())
}

fn summary(figures: &Figures) -> String {
    let a_second = |bytes: u64, seconds: f64| {
        let rate_now = Duration::try_from_secs_f64(seconds).map_or(0, |time| {
            u64::try_from(u128::from(bytes) * 1000 / time.as_millis().max(1)).unwrap_or(u64::MAX)
        });
        rate(rate_now)
    };
    let killed = match figures.killed_at {
        Some(at) => format!(
            "killed at {}; {} held, {} fetched after it",
            size(at),
            size(figures.resumed_held),
            size(figures.resumed_fetched)
        ),
        None => "was faster than the kill".to_owned(),
    };
    format!(
        "\n  model         {} in {}\n  push          {:.2} s, {}\n  pull          {:.2} s, {}\n  \
         resume        {killed}\n  HTTP          one tensor of {}\n  next version  {} stored, {} fetched \
         of {}\n  verified      {} in {}, all sound\n  took          {:.1} s\n\n\
         Try next:\n  lode push DIR me/my-model --tag v1     make a version of a folder\n  \
         lode serve &                           let others have it\n  \
         lode share me/my-model@v1              print a ticket for them\n  \
         lode pull me/my-model@v1 --from TICKET --to ./out\n  \
         curl http://127.0.0.1:7070/lode/v1/models\n",
        size(figures.model_size),
        plural(figures.tensors, "tensor"),
        figures.push_seconds,
        a_second(figures.model_size, figures.push_seconds),
        figures.pull_seconds,
        a_second(figures.model_size, figures.pull_seconds),
        size(figures.tensor_size),
        size(figures.second_push_size_new),
        size(figures.second_pull_size_fetched),
        size(figures.model_size),
        size(figures.bytes_checked),
        plural(figures.chunks_checked, "chunk"),
        figures.seconds,
    )
}

/// The model's name without a revision.
fn model_name() -> &'static str {
    NAME.split_once('@').map_or(NAME, |(name, _)| name)
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or(0)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .context("the temporary folder's path is not UTF-8")
}
