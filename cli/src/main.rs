//! The `lode` binary: arguments, progress, output and configuration.
//!
//! It holds no rule of its own about models: it maps a command line to a
//! [`lode_node::command::Command`], sends it to the node of the home, and prints what comes back.

mod action;
mod args;
mod client;
mod demo;
mod home;
mod interrupt;
mod limits;
mod progress;
mod render;
mod run;
mod screen;
mod serve;
mod settings;
mod style;
mod units;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    ExitCode::from(run::run(args::Line::parse()))
}
