//! Unmodified clients, where they are installed: curl, and Python's standard library (clients.py).

use std::{
    path::{Path, PathBuf},
    process::{Command as Program, Output},
};

use crate::published::{Held, Published, noise, safetensors};
use lode_gateway::{
    Running, ServeOptions,
    control::{Backend, Run},
    serve,
};
use lode_node::{EventSink, command::Command, read::Reads};
use tokio_util::sync::CancellationToken;

/// Serves a home; takes no commands.
struct Home(Reads);

impl Backend for Home {
    fn run(&self, _: Command, _: EventSink) -> Run<'_> {
        unreachable!("no command is sent")
    }

    fn reads(&self) -> &Reads {
        &self.0
    }
}

struct Setup {
    base: String,
    socket: PathBuf,
    source: PathBuf,
    _running: Running,
    folder: tempfile::TempDir,
}

async fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let mut home = Published::new(folder.path());
    let (big, outside) = (noise(1, 5_000_000), noise(2, 1_000_000));
    let model = safetensors(&[("weight", &[64, 500]), ("bias", &[5])]);
    let files: [(&str, Held, &[u8]); 5] = [
        ("big.bin", Held::Whole, &big),
        ("config.json", Held::Pack, b"{\"a\":1}"),
        ("empty", Held::Pack, b""),
        ("model.safetensors", Held::Pack, &model),
        ("sub/naïve 模型.txt", Held::Outside, &outside),
    ];
    home.push("tiny", &files, &[], &["heads/main", "tags/v1"]);
    let source = folder.path().join("source");
    for (path, _, bytes) in files {
        let path = source.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let socket = folder.path().join("control.sock");
    let http = Some("127.0.0.1:0".parse().unwrap());
    let options = ServeOptions {
        http,
        socket: socket.clone(),
        policy: lode_gateway::policy::Policy::default(),
        tls: None,
    };
    let backend = Home(Reads::new(home.store.clone()));
    let running = serve(backend, options, CancellationToken::new())
        .await
        .unwrap();
    let base = format!("http://{}", running.http.unwrap());
    Setup {
        base,
        socket,
        source,
        _running: running,
        folder,
    }
}

/// Runs a program; nothing when it is not installed.
async fn run(name: &str, arguments: &[&str]) -> Option<Output> {
    let mut program = Program::new(name);
    program.args(arguments);
    let output = tokio::task::spawn_blocking(move || program.output())
        .await
        .unwrap();
    match output {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{name}: {error}"),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn python_reads_what_was_pushed() {
    let setup = setup().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients.py");
    let Some(output) = run("python3", &[script, &setup.base, text(&setup.source)]).await else {
        return;
    };
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success() && out == "ok\n", "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_downloads_resumes_and_keeps_names() {
    let setup = setup().await;
    let files = format!("{}/lode/v1/models/acme/tiny/v1/files", setup.base);
    let big = std::fs::read(setup.source.join("big.bin")).unwrap();
    let out = setup.folder.path().join("out");
    std::fs::write(&out, &big[..1_234_567]).unwrap();
    let resume = [
        "-sSf",
        "-C",
        "-",
        "-o",
        text(&out),
        &format!("{files}/big.bin"),
    ];
    let Some(resumed) = run("curl", &resume).await else {
        return;
    };
    assert!(
        resumed.status.success(),
        "{}",
        String::from_utf8_lossy(&resumed.stderr)
    );
    assert!(std::fs::read(&out).unwrap() == big);

    let named = setup.folder.path().join("named");
    std::fs::create_dir(&named).unwrap();
    let url = format!("{files}/big.bin");
    let output_dir = ["-sSf", "-O", "-J", "--output-dir", text(&named), &url];
    assert!(run("curl", &output_dir).await.unwrap().status.success());
    assert!(std::fs::read(named.join("big.bin")).unwrap() == big);

    let range = ["-sSf", "-r", "100-199", &url];
    assert_eq!(run("curl", &range).await.unwrap().stdout, &big[100..200]);
    let socket = [
        "-sSf",
        "--unix-socket",
        text(&setup.socket),
        "http://lode/healthz",
    ];
    assert_eq!(run("curl", &socket).await.unwrap().stdout, b"ok\n");
    let etags = setup.folder.path().join("etags");
    let save = ["-sSf", "--etag-save", text(&etags), "-o", "/dev/null", &url];
    assert!(run("curl", &save).await.unwrap().status.success());
    let status = [
        "-s",
        "--etag-compare",
        text(&etags),
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        &url,
    ];
    assert_eq!(run("curl", &status).await.unwrap().stdout, b"304");
}
