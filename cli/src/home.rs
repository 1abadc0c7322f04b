//! The node of a home: the one that runs, else one that lives as long as the command.

use lode_node::command::{Failure, FailureKind};

use crate::client::{Client, ConnectError};
use crate::settings::Settings;

/// A connection to the node of a home.
#[derive(Debug)]
pub(crate) struct Held {
    client: Client,
}

/// Connects to the node of the home, starting one in this process when none runs.
///
/// # Errors
/// What keeps the node from being reached or started.
pub(crate) async fn with_node(settings: &Settings) -> Result<Held, Failure> {
    match Client::connect(&settings.socket()).await {
        Ok(client) => Ok(Held { client }),
        Err(ConnectError::Failed(failure)) => Err(failure),
        Err(ConnectError::Nobody) => Err(Failure {
            kind: FailureKind::Failed,
            message: format!("no node runs on the home {}", settings.home.value.display()),
            advice: Some("start one with `lode serve`".to_owned()),
        }),
    }
}

impl Held {
    /// The connection.
    pub(crate) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Closes the connection, and ends the node if it was started for it.
    pub(crate) async fn finish(self) {
        drop(self.client);
    }
}
