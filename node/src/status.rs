//! `lode status` and `lode peers`: what the node is doing.

use crate::{
    Node, book,
    command::{Failure, Outcome, Status},
    network::peer_row,
    resolve,
};

/// `lode peers`.
pub(crate) async fn peers(node: &Node) -> Result<Outcome, Failure> {
    let book = book::list(node)?;
    let peers = match node.network_if_up() {
        Some(network) => network.peer_rows(book).await,
        None => book.iter().map(peer_row).collect(),
    };
    Ok(Outcome::Peers { peers })
}

/// `lode pause` and `lode resume`.
pub(crate) fn pause(node: &Node, name: Option<&str>, paused: bool) -> Result<Outcome, Failure> {
    let names = node.jobs().set_paused(name, paused);
    if names.is_empty() {
        let what = name.map_or_else(|| "no pull".to_owned(), |name| format!("no pull of {name}"));
        return Err(Failure::not_found(format!("{what} runs on this node"))
            .advise("`lode status` lists what runs"));
    }
    Ok(Outcome::Paused { names, paused })
}

/// `lode status`.
pub(crate) async fn status(node: &Node) -> Result<Outcome, Failure> {
    let Outcome::Peers { peers } = peers(node).await? else {
        unreachable!("peers() lists peers")
    };
    let network = node.network_if_up();
    let (rate_received, rate_sent) = network.map_or((0, 0), |network| network.rates());
    let listen = network.map_or_else(Vec::new, |network| {
        network
            .net()
            .addr()
            .ip_addrs()
            .map(ToString::to_string)
            .collect()
    });
    let usage = node.blocking(|node| {
        let usage = node.store().usage()?;
        Ok((
            usage,
            node.store().index().places_len()?,
            node.reads().models()?.len() as u64,
            resolve::kept(node)?.len() as u64,
        ))
    });
    let (usage, chunks, models, versions) = usage.await?;
    Ok(Outcome::Status(Box::new(Status {
        home: node.home().display().to_string(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        node: network.map(|network| network.id().to_string()),
        listen,
        http: node.http().map(|address| address.to_string()),
        uptime_seconds: node.started().elapsed().as_secs(),
        peers,
        jobs: node.jobs().rows(),
        rate_received,
        rate_sent,
        models,
        versions,
        chunks,
        disk_used: usage.total(),
        disk_outside: usage.outside,
        disk_max: node.options().disk_max,
        disk_free: usage.free,
    })))
}
