//! One node of the demonstration: a home in the temporary folder, and a child process that serves it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lode_node::command::{Command, Outcome, Status};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command as Process};
use tokio::time::{Instant, sleep, timeout};

use crate::client::Client;

/// How long a node may take to start, and a child to end after SIGTERM.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A home and its running node.
#[derive(Debug)]
pub(super) struct Node {
    /// One letter for people.
    pub(super) name: &'static str,
    home: PathBuf,
    serve: Child,
    /// What the node says of itself.
    pub(super) status: Status,
}

impl Node {
    /// Starts a node on `dir/NAME`, at ports of 127.0.0.1 that are free.
    ///
    /// # Errors
    /// The process cannot be started, ends early or takes too long.
    pub(super) async fn start(dir: &Path, name: &'static str) -> Result<Self> {
        let home = dir.join(name);
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join(format!("{name}.log")))?;
        let mut serve = lode(&home)?
            .args(["serve", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start a node")?;
        let deadline = Instant::now() + START_TIMEOUT;
        let status = loop {
            if let Some(status) = ask_status(&home).await {
                break status;
            }
            if let Some(code) = serve.try_wait()? {
                let said = std::fs::read_to_string(dir.join(format!("{name}.log")))?;
                bail!("node {name} ended early, {code}: {}", said.trim());
            }
            if Instant::now() > deadline {
                bail!("node {name} did not start within {START_TIMEOUT:?}");
            }
            sleep(Duration::from_millis(20)).await;
        };
        Ok(Self {
            name,
            home,
            serve,
            status,
        })
    }

    /// Runs `lode ARGS` against the node; returns the JSON that it prints.
    ///
    /// # Errors
    /// The command fails; what it said is the error.
    pub(super) async fn run(&self, args: &[&str]) -> Result<Value> {
        let output = lode(&self.home)?.arg("--json").args(args).output().await?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!(
                "`lode {}` on node {}: {}",
                args.join(" "),
                self.name,
                said.trim()
            );
        }
        let text = String::from_utf8(output.stdout)?;
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("`lode {}` printed `{last}`", args[0]))
    }

    /// Runs `lode ARGS` and kills the *node* (SIGKILL) once the work is `percent` done. Returns the
    /// bytes done by then, or nothing when the command was faster.
    ///
    /// # Errors
    /// The command cannot be started.
    pub(super) async fn kill_during(&mut self, args: &[&str], percent: u64) -> Result<Option<u64>> {
        let mut child = lode(&self.home)?
            .arg("--json")
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().context("the child's output is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut killed = None;
        while let Some(line) = lines.next_line().await? {
            let event: Value = serde_json::from_str(&line)?;
            let figure = |name: &str| event[name].as_u64().unwrap_or(0);
            let (done, total) = (figure("done"), figure("total"));
            if killed.is_none() && total > 0 && done < total && done * 100 >= total * percent {
                self.serve.kill().await?;
                killed = Some(done);
            }
        }
        child.wait().await?;
        Ok(killed)
    }

    /// Stops the node cleanly.
    ///
    /// # Errors
    /// It does not stop.
    pub(super) async fn stop(mut self) -> Result<()> {
        // The child has not been waited for, so its id is still its own.
        let id = self
            .serve
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        if let Some(id) = id {
            rustix::process::kill_process(id, Signal::TERM)?;
        }
        if timeout(STOP_TIMEOUT, self.serve.wait()).await.is_err() {
            self.serve.kill().await?;
            bail!("node {} did not stop within {STOP_TIMEOUT:?}", self.name);
        }
        Ok(())
    }
}

/// This program, on `home`, sending nothing but to the addresses that it is given.
fn lode(home: &Path) -> Result<Process> {
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let mut process = Process::new(program);
    process
        .arg("--home")
        .arg(home)
        .arg("--no-relay")
        .kill_on_drop(true);
    Ok(process)
}

async fn ask_status(home: &Path) -> Option<Status> {
    let mut client = Client::connect(&home.join("control.sock")).await.ok()?;
    match client.send(&Command::Status, |_| {}).await {
        Ok(Outcome::Status(status)) => Some(*status),
        _ => None,
    }
}
