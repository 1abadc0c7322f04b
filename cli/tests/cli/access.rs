//! Who is let in over HTTP, with the real binary: tokens of a running node, refusals, TLS, and what is logged.

use crate::common::{lode, run};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A node that runs, and all that it said.
struct Served {
    child: Child,
    address: String,
    said: Arc<Mutex<String>>,
}

impl Served {
    fn start(home: &Path, args: &[&str]) -> Self {
        let all = [
            &["serve", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"],
            args,
        ]
        .concat();
        let mut child = lode(home, &all)
            .env("LODE_LOG", "trace")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap());
        let (sender, ready) = std::sync::mpsc::channel();
        let heard = Arc::clone(&said);
        thread::spawn(move || {
            for line in lines.lines() {
                let line = line.unwrap();
                let mut heard = heard.lock().unwrap();
                heard.push_str(&line);
                heard.push('\n');
                if line.starts_with("ready") {
                    let address = heard
                        .lines()
                        .find_map(|line| line.strip_prefix("http   ")?.split_once("://"));
                    let _ = sender.send(address.unwrap().1.to_owned());
                }
            }
        });
        let address = ready.recv().expect("the node starts");
        Self {
            child,
            address,
            said,
        }
    }

    /// The status line and body that come back.
    fn get(&self, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn status(&self, path: &str, header: &str) -> String {
        self.get(path, header)[9..12].to_owned()
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits until the node has said `text`.
    fn says(&self, text: &str) {
        while !self.said.lock().unwrap().contains(text) {
            thread::yield_now();
        }
    }

    fn stop(mut self) -> String {
        self.signal(rustix::process::Signal::TERM);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        let said = self.said.lock().unwrap();
        said.clone()
    }
}

fn push(home: &Path) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "private bytes").unwrap();
    let pushed = run(
        home,
        &["push", folder.path().to_str().unwrap(), "acme/tiny"],
    );
    assert!(pushed.status.success(), "{}", err(&pushed));
}

const FILE: &str = "/lode/v1/models/acme/tiny/main/files/a.txt";

#[test]
fn tokens_of_a_running_node_are_made_listed_and_removed_at_once() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    push(home);
    let node = Served::start(home, &[]);
    assert_eq!(node.status(FILE, ""), "200");
    let create = [
        "token",
        "create",
        "--model",
        "acme/*",
        "--expires",
        "1d",
        "--name",
        "ci",
    ];
    let made = run(home, &create);
    let token = out(&made).trim().to_owned();
    assert_eq!((token.len(), &token[..3]), (39, "hf_"), "{}", err(&made));
    assert!(!err(&made).contains(&token));
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(node.status(FILE, ""), "401");
    assert_eq!(node.status(FILE, &bearer), "200");
    // A token in an address would be logged: no route knows such a parameter.
    assert_eq!(node.status(&format!("{FILE}?token={token}"), ""), "400");
    let list = run(home, &["--json", "token", "ls"]);
    let list: serde_json::Value = serde_json::from_str(&out(&list)).unwrap();
    assert_eq!(list["tokens"][0]["name"], "ci");
    assert_eq!(list["tokens"][0]["models"][0], "acme/*");
    assert!(!list.to_string().contains(&token[3..]));
    assert!(run(home, &["token", "rm", "ci"]).status.success());
    assert_eq!(node.status(FILE, &bearer), "401");
    let again = run(home, &["token", "rm", "ci"]);
    assert_eq!(again.status.code(), Some(3), "{}", err(&again));
    assert!(run(home, &["token", "rm", "--all"]).status.success());
    assert_eq!(node.status(FILE, ""), "200");
    let said = node.stop();
    assert!(said.lines().count() > 20, "the log is on");
    assert!(!said.contains(&token[3..]), "no token is logged");
}

#[test]
fn a_node_that_everyone_reaches_wants_tokens_or_a_word_for_it() {
    let home = tempfile::tempdir().unwrap();
    // An address for documentation: no machine has it, so that it cannot be bound.
    let serve = ["serve", "--http", "192.0.2.1:0", "--listen", "127.0.0.1:0"];
    let refused = run(home.path(), &serve);
    assert_eq!(refused.status.code(), Some(4), "{}", err(&refused));
    for way in ["lode token create", "--insecure-open"] {
        assert!(err(&refused).contains(way), "{}", err(&refused));
    }
    let open = run(home.path(), &[&serve[..], &["--insecure-open"]].concat());
    assert_eq!(open.status.code(), Some(1), "{}", err(&open));
    assert!(run(home.path(), &["token", "create"]).status.success());
    let tried = run(home.path(), &serve);
    assert_eq!(tried.status.code(), Some(1), "{}", err(&tried));
}

#[test]
fn a_certificate_is_read_again_and_one_of_no_use_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/tests/tls");
    for name in ["certificate.pem", "key.pem"] {
        std::fs::copy(data.join(name), folder.path().join(name)).unwrap();
    }
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    let home = folder.path().join("home");
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    let node = Served::start(&home, &tls);
    std::fs::write(&certificate, "junk").unwrap();
    node.signal(rustix::process::Signal::HUP);
    node.says("warning: the certificate stays as it was");
    let said = node.stop();
    assert!(said.contains("http   https://127.0.0.1:"));
    let missing = run(&home, &["serve", "--tls-cert", &certificate]);
    assert_eq!(missing.status.code(), Some(2));
    let junk = run(
        &home,
        &[&["serve", "--http", "127.0.0.1:0"], &tls[..]].concat(),
    );
    assert_eq!(junk.status.code(), Some(1));
    assert!(err(&junk).contains("certificate.pem"), "{}", err(&junk));
}
