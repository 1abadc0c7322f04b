//! The binary over a home, with nothing of this machine's environment.

use std::path::Path;
use std::process::{Command, Output, Stdio};

pub(crate) fn lode(home: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lode"));
    command
        .env_clear()
        .env("LODE_HOME", home)
        .env("LODE_OFFLINE", "1")
        .args(args)
        .stdin(Stdio::null());
    command
}

pub(crate) fn run(home: &Path, args: &[&str]) -> Output {
    lode(home, args).output().unwrap()
}
