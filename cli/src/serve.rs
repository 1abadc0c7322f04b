//! `lode serve`: the node of a home, until it is told to stop.

use lode_node::command::{Failure, FailureKind};

use crate::args::ServeArgs;
use crate::screen::Screen;
use crate::settings::Settings;

/// Runs a node on the home and returns the exit code once it has stopped.
///
/// # Errors
/// The node cannot start.
pub(crate) async fn serve(
    args: &ServeArgs,
    settings: &Settings,
    screen: &Screen,
) -> Result<u8, Failure> {
    let _ = (args, screen);
    Err(Failure {
        kind: FailureKind::Failed,
        message: format!(
            "no node can be started on {}",
            settings.home.value.display()
        ),
        advice: None,
    })
}
