//! One home, one owner: commands with and without a running node, and several at once.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn lode(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lode"));
    command
        .env_clear()
        .arg("--home")
        .arg(home)
        .arg("--no-relay")
        .stdin(Stdio::null());
    command
}

/// Starts `lode serve` and returns it with its HTTP address, once it has said that.
fn serve(home: &Path) -> (Child, String) {
    let mut child = lode(home)
        .args(["serve", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut address = String::new();
    let mut line = String::new();
    while !line.starts_with("ready") {
        line.clear();
        assert!(
            said.read_line(&mut line).unwrap() > 0,
            "`lode serve` ended early"
        );
        if let Some(http) = line.strip_prefix("http") {
            address = http.trim().trim_start_matches("http://").to_owned();
        }
    }
    // What is said later must not block the child.
    thread::spawn(move || said.read_to_end(&mut Vec::new()));
    (child, address)
}

fn status(home: &Path) -> Value {
    let output = lode(home).args(["--json", "status"]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_command_without_a_node_leaves_no_socket_behind() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(status(home.path())["http"], Value::Null);
    assert!(!home.path().join("control.sock").exists());
}

#[test]
fn a_socket_left_by_a_killed_node_is_no_obstacle() {
    let home = tempfile::tempdir().unwrap();
    let (mut child, _) = serve(home.path());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(home.path().join("control.sock").exists());
    assert_eq!(status(home.path())["http"], Value::Null);
}

#[test]
fn commands_reach_the_running_node_and_it_stops_cleanly() {
    let home = tempfile::tempdir().unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let (mut child, address) = serve(home.path());
        assert_eq!(status(home.path())["http"], address);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(!home.path().join("control.sock").exists());
    }
}

#[test]
fn a_second_node_on_a_home_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let (mut child, address) = serve(home.path());
    let second = lode(home.path())
        .args(["serve", "--http", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(
        second.status.code(),
        Some(4),
        "{}",
        String::from_utf8_lossy(&second.stderr)
    );
    assert_eq!(status(home.path())["http"], address, "the first goes on");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    child.wait().unwrap();
}

#[test]
fn http_is_for_this_machine() {
    let home = tempfile::tempdir().unwrap();
    let output = lode(home.path())
        .args(["serve", "--http", "0.0.0.0:0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert!(!home.path().join("control.sock").exists());
}

#[test]
fn many_commands_share_a_home_without_a_node() {
    let home = tempfile::tempdir().unwrap();
    let children: Vec<Child> = (0..6)
        .map(|_| {
            lode(home.path())
                .arg("ls")
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
