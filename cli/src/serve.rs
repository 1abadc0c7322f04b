//! `lode serve`: the node of a home, until it is told to stop.

use std::sync::Arc;

use lode_gateway::policy::{Cors, Policy};
use lode_gateway::tls::Tls;
use lode_node::command::{Command, Failure, Outcome};
use lode_node::{EventSink, NetworkOptions, NodeOptions};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{DoorArgs, ServeArgs};
use crate::home::{Doors, Served, network};
use crate::interrupt::Interrupt;
use crate::run::failed;
use crate::screen::{Screen, write_note};
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
    let cwd = std::env::current_dir().map_err(|e| failed("cannot tell the current folder", &e))?;
    let options = NodeOptions {
        disk_max: args.max_size,
        upstream: args.upstream.clone().named(&cwd),
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
    allow_many_connections();
    let doors = doors(args)?;
    let tls = doors.tls.clone();
    let served = Served::start(settings, doors, options).await?;
    let _reloading = tls.map(|tls| AbortOnDrop(tokio::spawn(reload_on_hangup(tls))));
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
    if let Some(upstream) = served.node.origins().upstream() {
        served.node.origins().check()?;
        screen.note(&format!(
            "hub    {}, for what neither this home nor a peer has",
            upstream.url
        ));
    }
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
        let scheme = if args.door.tls_cert.is_some() {
            "https"
        } else {
            "http"
        };
        screen.note(&format!("http   {scheme}://{http}"));
        screen.note(&format!("access {}", access(served, args)));
        if !http.ip().is_loopback() && args.door.tls_cert.is_none() {
            warn("tokens and models cross the network in the clear: add --tls-cert and --tls-key");
        }
    }
    screen.note(&relays(args, settings));
    if settings.mdns.value {
        screen.note("mdns   tells nodes of the local network of this one");
    }
    screen.note("ready; Ctrl-C stops");
    Ok(())
}

/// Who is let in over HTTP, in words.
fn access(served: &Served, args: &ServeArgs) -> &'static str {
    match (served.node.tokens().rule(), args.door.no_anonymous) {
        (true, false) => "tokens; public models are read without one",
        (true, true) => "tokens, for everything",
        (false, _) if args.http.ip().is_loopback() => {
            "this machine acts as the owner, until `lode token create`"
        }
        (false, _) => "WHOEVER REACHES IT acts as the owner, until `lode token create`",
    }
}

/// How the node is reached over HTTP, and by whom.
fn doors(args: &ServeArgs) -> Result<Doors, Failure> {
    let DoorArgs {
        insecure_open,
        no_anonymous,
        host,
        cors,
        tls_cert,
        tls_key,
        rate,
        rate_anonymous,
        xet_reads,
    } = args.door.clone();
    let limit = |rate: u32| (rate > 0).then_some(rate);
    let tls = match tls_cert.zip(tls_key) {
        Some((certificate, key)) => {
            let tls = Tls::load(certificate, key);
            Some(Arc::new(tls.map_err(|error| {
                Failure::failed(error.to_string())
                    .advise("name PEM files with --tls-cert and --tls-key")
            })?))
        }
        None => None,
    };
    let cors = match cors {
        origins if origins.is_empty() => Cors::Nobody,
        origins if origins.iter().any(|origin| origin == "*") => Cors::Anyone,
        origins => Cors::Origins(origins),
    };
    let policy = Policy {
        insecure_open,
        anonymous: !no_anonymous,
        hosts: host,
        cors,
        token_rate: limit(rate),
        anonymous_rate: limit(rate_anonymous),
        xet_reads,
        ..Policy::default()
    };
    Ok(Doors {
        http: Some(args.http),
        policy,
        tls,
    })
}

/// Reads the certificate again whenever it is asked for, which is how tools that renew one tell servers.
async fn reload_on_hangup(tls: Arc<Tls>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangups.recv().await.is_some() {
        if let Err(error) = tls.reload() {
            warn(&format!("the certificate stays as it was: {error}"));
        }
    }
}

/// A task that ends with whoever holds it.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks the system for as many open files as it gives: each connection is one, and the usual limit is 1,024.
fn allow_many_connections() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn(&format!("few connections are possible at a time: {error}"));
    }
}

fn warn(text: &str) {
    write_note(&format!("warning: {text}\n"));
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
