//! The `lode` binary: arguments, progress, output and configuration.

fn main() {}
