//! The `lode` binary against a double of a node: what it sends, prints and exits with.
//!
//! The double listens on a control socket and answers with given lines, so each answer, and each
//! way in which an answer can be wrong, is tried without a node.

use crate::common::lode;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Output, Stdio};
use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A home whose control socket a double listens on.
struct Double {
    home: TempDir,
    /// The requests that came: head and body.
    requests: mpsc::Receiver<(String, Value)>,
}

impl Double {
    /// Starts a double that answers each request with `answer`, written after the request was read.
    fn start(answer: impl Fn(&mut UnixStream) + Send + 'static) -> Self {
        let home = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(home.path().join("control.sock")).unwrap();
        let (sender, requests) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if let Some(request) = read_request(&mut stream) {
                    if sender.send(request).is_err() {
                        return;
                    }
                    answer(&mut stream);
                }
            }
        });
        Self { home, requests }
    }

    /// Starts a double that answers `200` with these lines.
    fn answering(lines: &[Value]) -> Self {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        Self::start(move |stream| respond(stream, "200 OK", &body))
    }

    /// Starts a double whose outcome is `outcome`.
    fn done(outcome: Value) -> Self {
        Self::answering(&[json!({"reply": "done", "outcome": outcome})])
    }

    fn lode(&self, args: &[&str]) -> Output {
        lode(self.home.path(), args).output().unwrap()
    }
}

fn read_request(stream: &mut UnixStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length:")?
            .trim()
            .parse::<usize>()
            .ok()
    });
    let mut body = vec![0; length?];
    reader.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).ok()?))
}

fn respond(stream: &mut UnixStream, status: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/jsonl\r\nlode-program: {}\r\ncontent-length: {}\r\n\r\n",
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    // The client may be gone already, which is what some tests are about.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body.as_bytes()));
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn pushed() -> Value {
    json!({
        "outcome": "pushed", "name": "acme/x@main", "version": "1a2b3c4d5e6f", "changed": true, "files": 1,
        "tensors": 2, "tensors_new": 1, "size": 2048, "size_new": 1024,
    })
}

fn failed(kind: &str) -> Value {
    json!({"reply": "failed", "error": {"kind": kind, "message": "no such thing", "advice": "try another"}})
}

#[test]
fn a_command_is_sent_with_its_version_and_absolute_paths() {
    let double = Double::done(pushed());
    let work = tempfile::tempdir().unwrap();
    let output = lode(double.home.path(), &["push", "./model", "acme/x"])
        .current_dir(work.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let (head, command) = double.requests.recv().unwrap();
    assert!(
        head.starts_with("POST /lode/v1/commands HTTP/1.1\r\n"),
        "{head}"
    );
    let version = format!("lode-program: {}\r\n", env!("CARGO_PKG_VERSION"));
    assert!(head.to_ascii_lowercase().contains(&version), "{head}");
    let cwd = work.path().canonicalize().unwrap();
    assert_eq!(command["dir"], cwd.join("model").to_str().unwrap());
}

#[test]
fn the_result_alone_is_on_standard_output() {
    let double = Double::answering(&[
        json!({"event": "note", "text": "reading"}),
        json!({"event": "progress", "phase": "hashing", "done": 1, "total": 2, "peers": 0}),
        json!({"event": "warning", "text": "odd file"}),
        json!({"event": "from the future", "text": "?"}),
        json!({"reply": "done", "outcome": pushed()}),
    ]);
    let output = double.lode(&["push", "model", "acme/x"]);
    assert_eq!(out(&output), "acme/x@main\n");
    assert_eq!(
        err(&output),
        "reading\nwarning: odd file\nversion 1a2b3c4d5e: 1 of 2 tensors new, 1.0 KiB of 2.0 KiB stored\n"
    );
    let quiet = double.lode(&["push", "model", "acme/x", "--quiet"]);
    assert_eq!(out(&quiet), "acme/x@main\n");
    assert_eq!(err(&quiet), "warning: odd file\n");
}

#[test]
fn json_is_one_document_or_a_line_an_event() {
    let progress =
        json!({"event": "progress", "phase": "hashing", "done": 1, "total": 2, "peers": 0});
    let double = Double::answering(&[
        progress.clone(),
        json!({"reply": "done", "outcome": pushed()}),
    ]);
    let output = double.lode(&["--json", "push", "model", "acme/x"]);
    let lines: Vec<Value> = out(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut last = pushed();
    last.as_object_mut().unwrap().remove("outcome");
    assert_eq!(lines, [progress.clone(), last.clone()]);
    assert_eq!(err(&output), "");
    let short = out(&double.lode(&["--json", "ls"]));
    assert_eq!(serde_json::from_str::<Value>(&short).unwrap(), last);
}

#[test]
fn every_kind_of_failure_has_its_exit_code() {
    for (kind, code) in [
        ("failed", 1),
        ("usage", 2),
        ("not_found", 3),
        ("refused", 4),
        ("corrupt", 5),
        ("no_peer", 6),
    ] {
        let output = Double::answering(&[failed(kind)]).lode(&["show", "acme/x"]);
        assert_eq!(output.status.code(), Some(code), "{kind}");
        assert_eq!(out(&output), "");
        assert_eq!(err(&output), "error: no such thing\nhint: try another\n");
    }
    let json = Double::answering(&[failed("not_found")]).lode(&["--json", "show", "acme/x"]);
    let document: Value = serde_json::from_str(&out(&json)).unwrap();
    assert_eq!(document["error"]["kind"], "not_found");
    assert_eq!(json.status.code(), Some(3));
}

#[test]
fn corrupt_data_found_is_an_exit_code_though_the_check_was_done() {
    let double = Double::done(json!({
        "outcome": "checked", "chunks": 1, "bytes": 1, "missing": 0,
        "findings": [{"level": "corrupt", "text": "a chunk", "advice": null}],
    }));
    assert_eq!(double.lode(&["verify", "acme/x"]).status.code(), Some(5));
}

#[test]
fn wrong_lines_exit_with_2_and_help_with_0() {
    let home = tempfile::tempdir().unwrap();
    for args in [
        &["nope"][..],
        &["push"],
        &["pull", "a/b", "--max-rate", "fast"],
        &[],
    ] {
        let output = lode(home.path(), args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(out(&output), "");
    }
    for args in [&["--help"][..], &["--version"], &["push", "--help"]] {
        assert_eq!(
            lode(home.path(), args).output().unwrap().status.code(),
            Some(0),
            "{args:?}"
        );
    }
}

#[test]
fn answers_that_break_off_or_make_no_sense_are_failures() {
    let table: [(&'static str, &'static str, i32); 7] = [
        ("200 OK", "", 1),
        ("200 OK", "{\"event\":\"note\",\"text\":\"hm\"}\n", 1),
        ("200 OK", "not json\n", 1),
        (
            "200 OK",
            "{\"reply\":\"done\",\"outcome\":{\"outcome\":\"from the future\"}}\n",
            1,
        ),
        ("403 Forbidden", "not you", 4),
        ("400 Bad Request", "", 2),
        (
            "409 Conflict",
            "{\"reply\":\"failed\",\"error\":{\"kind\":\"refused\",\"message\":\"old\",\"advice\":null}}\n",
            4,
        ),
    ];
    for (status, body, code) in table {
        let output = Double::start(move |stream| respond(stream, status, body)).lode(&["ls"]);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{status} {body}: {}",
            err(&output)
        );
        assert!(err(&output).contains("error: "), "{status} {body}");
    }
    let cut = Double::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"reply\":");
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let output = cut.lode(&["ls"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("lost the node"), "{}", err(&output));
}

#[test]
fn a_reply_without_a_final_newline_counts() {
    let body = format!(
        "{}",
        json!({"reply": "done", "outcome": {"outcome": "path", "path": "/a"}})
    );
    let output =
        Double::start(move |stream| respond(stream, "200 OK", &body)).lode(&["path", "a/b/c"]);
    assert_eq!(out(&output), "/a\n");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let versions: Vec<Value> = (0..20_000)
        .map(|i| json!({"path": format!("file-{i}"), "size": 1, "sha256": "aa", "rule": "cdc/1", "chunks": 1, "size_held": 1}))
        .collect();
    let double =
        Double::done(json!({"outcome": "files", "version": "1a2b3c4d5e", "files": versions}));
    let mut child = lode(double.home.path(), &["ls", "acme/x"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut first)
        .unwrap();
    // The reader is dropped here, with most of the table unread.
    let output = child.wait_with_output().unwrap();
    assert!(first.starts_with("FILE"));
    assert_eq!(output.status.code(), Some(0));
    assert!(!err(&output).contains("panicked"), "{}", err(&output));
}

#[test]
fn ctrl_c_closes_the_connection_and_exits_with_130() {
    for (signal, code) in [
        (rustix::process::Signal::INT, 130),
        (rustix::process::Signal::TERM, 143),
    ] {
        let (started, start) = mpsc::channel();
        let (closed, close) = mpsc::channel();
        let double = Double::start(move |stream| {
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1f\r\n{\"event\":\"note\",\"text\":\"work\"}\n\r\n",
            );
            started.send(()).unwrap();
            // Blocks until the client goes away.
            closed.send(stream.read(&mut [0; 1]).unwrap_or(0)).unwrap();
        });
        let mut child = lode(double.home.path(), &["pull", "acme/x"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        start.recv().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        said.read_line(&mut first).unwrap();
        assert_eq!(first, "work\n");
        let id = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(id, signal).unwrap();
        assert_eq!(
            close.recv().unwrap(),
            0,
            "the node sees the connection close"
        );
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}

#[test]
fn settings_completions_and_man_pages_need_no_node() {
    let home = tempfile::tempdir().unwrap();
    let output = lode(home.path(), &["--json", "config", "show"])
        .env("LODE_OFFLINE", "1")
        .output()
        .unwrap();
    let document: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(document["home"]["value"], home.path().to_str().unwrap());
    assert_eq!(document["home"]["source"], "environment");
    assert_eq!(
        document["relay"],
        json!({"value": false, "source": "environment"})
    );
    for shell in ["bash", "zsh", "fish"] {
        let script = lode(home.path(), &["completions", shell]).output().unwrap();
        assert!(out(&script).contains("lode"), "{shell}");
    }
    let man = tempfile::tempdir().unwrap();
    let output = lode(home.path(), &["man", man.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(
        std::fs::read_to_string(man.path().join("lode-pull.1"))
            .unwrap()
            .contains("max\\-rate")
    );
}
