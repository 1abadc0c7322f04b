//! The node of a home: the one that runs, else one that lives as long as the command.
//!
//! Either way the command goes through the control socket, so a node of our own serves other
//! commands on the same home too, and is stopped only once they have ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lode_gateway::policy::Policy;
use lode_gateway::tls::Tls;
use lode_gateway::{Running, ServeError, ServeOptions};
use lode_node::command::{Command, Event, Failure, FailureKind, Outcome};
use lode_node::{NetworkOptions, Node, NodeOptions};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, ConnectError, SendError};
use crate::settings::Settings;

/// How often, and how long after one another, the home is tried while its owner changes: another
/// command that holds it opens its socket, or lets go, within moments.
const TRIES: u32 = 20;
const TRY_INTERVAL: Duration = Duration::from_millis(100);

/// A connection to the node of a home, and that node if it is our own.
#[derive(Debug)]
pub(crate) struct Held {
    client: Client,
    own: Option<Served>,
}

impl Held {
    /// Connects to the node of the home, starting one in this process when none runs.
    ///
    /// # Errors
    /// What keeps the node from being reached or started.
    pub(crate) async fn open(settings: &Settings) -> Result<Self, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match connect(settings).await {
                Ok(Some(client)) => return Ok(Self { client, own: None }),
                Ok(None) => {}
                Err(failure) => return Err(failure),
            }
            match Served::start(
                settings,
                Doors::default(),
                NodeOptions {
                    network: network(settings),
                    ..NodeOptions::default()
                },
            )
            .await
            {
                Ok(served) => {
                    let client = connect(settings).await?.ok_or_else(|| gone(settings))?;
                    return Ok(Self {
                        client,
                        own: Some(served),
                    });
                }
                // Its owner may be about to listen, or to go.
                Err(failure) if failure.kind == FailureKind::Refused && tries < TRIES => {
                    tokio::time::sleep(TRY_INTERVAL).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Sends `command` to the node.
    ///
    /// # Errors
    /// The node's own failure, or that it was lost.
    pub(crate) async fn send(
        &mut self,
        command: &Command,
        on_event: impl FnMut(Event),
    ) -> Result<Outcome, SendError> {
        self.client.send(command, on_event).await
    }

    /// Closes the connection, which cancels what is under way, and ends the node if it is our own,
    /// once this and all other commands that it carries out have ended.
    pub(crate) async fn close(self) {
        drop(self.client);
        if let Some(own) = self.own {
            own.node.jobs().idle().await;
            own.stop().await;
        }
    }
}

/// How a node is reached over HTTP.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    /// At which address, if at all.
    pub(crate) http: Option<SocketAddr>,
    /// Who is let in.
    pub(crate) policy: Policy,
    /// With which certificate, if TLS is spoken.
    pub(crate) tls: Option<Arc<Tls>>,
}

/// A node of this process, with its doors.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) node: Node,
    gateway: Running,
    stop: CancellationToken,
}

impl Served {
    /// Opens the home and listens on its control socket, and over HTTP as `doors` say.
    ///
    /// # Errors
    /// Another process holds the home, or an address cannot be bound.
    pub(crate) async fn start(
        settings: &Settings,
        doors: Doors,
        options: NodeOptions,
    ) -> Result<Self, Failure> {
        let home = settings.home.value.clone();
        let node = tokio::task::spawn_blocking(move || Node::open(&home, options))
            .await
            .map_err(|error| Failure::failed(format!("cannot open the home: {error}")))??;
        let stop = CancellationToken::new();
        let options = ServeOptions {
            http: doors.http,
            socket: settings.socket(),
            policy: doors.policy,
            tls: doors.tls,
        };
        let gateway = lode_gateway::serve(node.clone(), options, stop.clone())
            .await
            .map_err(not_served)?;
        if let Some(http) = gateway.http {
            node.set_http(http);
        }
        Ok(Self {
            node,
            gateway,
            stop,
        })
    }

    /// The HTTP address, if there is one.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.gateway.http
    }

    /// Cancels commands, waits until they have cleaned up, and closes the doors.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.gateway.stopped().await;
        self.node.jobs().idle().await;
        self.node.shutdown().await;
    }
}

/// How a node of this home meets others, when nothing more is said.
pub(crate) fn network(settings: &Settings) -> NetworkOptions {
    NetworkOptions {
        offline: !settings.relay.value,
        mdns: settings.mdns.value,
        ..NetworkOptions::default()
    }
}

async fn connect(settings: &Settings) -> Result<Option<Client>, Failure> {
    match Client::connect(&settings.socket()).await {
        Ok(client) => Ok(Some(client)),
        Err(ConnectError::Nobody) => Ok(None),
        Err(ConnectError::Failed(failure)) => Err(failure),
    }
}

/// Why the doors do not open.
fn not_served(error: ServeError) -> Failure {
    let message = error.to_string();
    match error {
        ServeError::NotLoopback { .. } => Failure {
            kind: FailureKind::Refused,
            message,
            advice: Some(
                "make a token first (`lode token create`), choose a loopback address, or add \
                 --insecure-open if everyone who reaches it may do everything"
                    .to_owned(),
            ),
        },
        ServeError::Http { .. } => Failure::failed(message)
            .advise("choose another address with --http, port 0 takes a free one"),
        _ => Failure::failed(message),
    }
}

fn gone(settings: &Settings) -> Failure {
    Failure::failed(format!(
        "the control socket {} is gone",
        settings.socket().display()
    ))
}
