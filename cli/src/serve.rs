//! `lode serve`: the node of a home, until it is told to stop.

use lode_node::command::{Command, Failure, Outcome};
use lode_node::{EventSink, NetworkOptions, NodeOptions};

use crate::args::ServeArgs;
use crate::home::{Served, network};
use crate::interrupt::Interrupt;
use crate::run::failed;
use crate::screen::Screen;
use crate::settings::Settings;

/// Runs a node on the home and returns the exit code once it has stopped.
///
/// # Errors
/// Another process holds the home, or an address cannot be bound.
pub(crate) async fn serve(
    args: &ServeArgs,
    settings: &Settings,
    screen: &mut Screen,
) -> Result<u8, Failure> {
    let mut interrupt = Interrupt::listen().map_err(|e| failed("cannot listen for Ctrl-C", &e))?;
    if !args.relay.is_empty() && !settings.relay.value {
        return Err(
            Failure::usage("relays are named with --relay and forbidden by LODE_OFFLINE")
                .advise("unset LODE_OFFLINE, or leave --relay out"),
        );
    }
    let options = NodeOptions {
        disk_max: args.max_size,
        network: NetworkOptions {
            relays: args.relay.clone(),
            listen: args.listen,
            upload: args.max_upload,
            upload_peer: args.max_upload_peer,
            download: args.max_download,
            lan: !args.no_lan,
            ..network(settings)
        },
        ..NodeOptions::default()
    };
    let served = Served::start(settings, Some(args.http), options).await?;
    if let Err(failure) = introduce(&served, args, settings, screen).await {
        served.stop().await;
        return Err(failure);
    }
    interrupt.wait().await;
    screen.stopping();
    served.stop().await;
    // A signal is how a server is ended: service managers take 0 for well done.
    Ok(0)
}

/// Brings the network up, since a node that peers cannot reach is not what was asked for, and says
/// where the node is to be found.
async fn introduce(
    served: &Served,
    args: &ServeArgs,
    settings: &Settings,
    screen: &Screen,
) -> Result<(), Failure> {
    served.node.network().await?;
    let outcome = served
        .node
        .run(Command::Status, EventSink::discard())
        .await?;
    screen.note(&format!("home   {}", settings.home.value.display()));
    if let Outcome::Status(status) = outcome {
        screen.note(&format!("node   {}", status.node.unwrap_or_default()));
        screen.note(&format!("peers  {}", status.listen.join(", ")));
    }
    if let Some(http) = served.http() {
        screen.note(&format!("http   http://{http}"));
    }
    screen.note(&relays(args, settings));
    if settings.mdns.value {
        screen.note("mdns   tells nodes of the local network of this one");
    }
    screen.note("ready; Ctrl-C stops");
    Ok(())
}

fn relays(args: &ServeArgs, settings: &Settings) -> String {
    if !settings.relay.value {
        "relay  none: sends nothing but to addresses that are given".to_owned()
    } else if args.relay.is_empty() {
        "relay  the public ones of iroh; --no-relay to use none".to_owned()
    } else {
        format!("relay  {}", args.relay.join(", "))
    }
}
