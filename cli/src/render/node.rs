//! What a node is and does: status, peers, identity.

use std::fmt::Write as _;

use lode_node::command::{Outcome, PeerRow, Status};

use super::Text;
use crate::style::Side::{Left, Right};
use crate::style::{Style, Table, clean, short};
use crate::units::{plural, rate, size, span};

pub(super) fn status(status: &Status, style: Style) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(
                text,
                "{}  {}",
                style.dim(&format!("{name:<8}")),
                clean(&value)
            );
        }
    };
    field("home", status.home.clone());
    field(
        "program",
        format!(
            "lode {}, up {}",
            status.program,
            span(status.uptime_seconds)
        ),
    );
    field("node", status.node.clone().unwrap_or_default());
    field("listen", status.listen.join(", "));
    field(
        "http",
        status
            .http
            .as_ref()
            .map(|http| format!("http://{http}"))
            .unwrap_or_default(),
    );
    field(
        "holds",
        format!(
            "{}, {}, {}",
            plural(status.models, "model"),
            plural(status.versions, "version"),
            plural(status.chunks, "chunk")
        ),
    );
    let outside = match status.disk_outside {
        0 => String::new(),
        n => format!(", {} more in your own folders", size(n)),
    };
    let quota = status
        .disk_max
        .map(|max| format!(" of {}", size(max)))
        .unwrap_or_default();
    let (used, free) = (size(status.disk_used), size(status.disk_free));
    field("disk", format!("{used}{quota} used, {free} free{outside}"));
    field(
        "rates",
        format!(
            "{} received, {} sent",
            rate(status.rate_received),
            rate(status.rate_sent)
        ),
    );
    if !status.jobs.is_empty() {
        let mut table = Table::new(&[
            ("JOB", Left),
            ("NAME", Left),
            ("PHASE", Left),
            ("DONE", Right),
            ("OF", Right),
            ("RATE", Right),
            ("PEERS", Right),
            ("LEFT", Right),
        ]);
        for job in &status.jobs {
            table.row([
                job.kind.clone(),
                job.name.clone(),
                if job.paused {
                    format!("{} (paused)", job.phase)
                } else {
                    job.phase.clone()
                },
                size(job.done),
                if job.total > 0 {
                    size(job.total)
                } else {
                    String::new()
                },
                rate(job.rate),
                if job.peers > 0 {
                    job.peers.to_string()
                } else {
                    String::new()
                },
                job.seconds_left.map(span).unwrap_or_default(),
            ]);
        }
        text.push('\n');
        text.push_str(&table.text(style));
    }
    if !status.peers.is_empty() {
        text.push('\n');
        text.push_str(&peer_table(&status.peers).text(style));
    }
    text
}

pub(super) fn paused(names: &[String], paused: bool) -> String {
    let what = if paused { "paused" } else { "resumed" };
    let line = |name: &String| format!("{what} {}\n", clean(name));
    names.iter().map(line).collect()
}

pub(super) fn peers(peers: &[PeerRow], style: Style) -> Text {
    if peers.is_empty() {
        return Text::note(
            "no peers yet; `lode peers add TICKET` adds those of a ticket\n".to_owned(),
        );
    }
    Text::result(peer_table(peers).text(style))
}

fn peer_table(peers: &[PeerRow]) -> Table {
    let mut table = Table::new(&[
        ("PEER", Left),
        ("STATE", Left),
        ("RECEIVED", Right),
        ("RATE", Right),
        ("SENT", Right),
        ("RATE", Right),
        ("ADDRESSES", Left),
    ]);
    for peer in peers {
        let state = match (&peer.path, peer.connected) {
            (Some(path), true) => path.clone(),
            (None, true) => "connected".to_owned(),
            (_, false) => "known".to_owned(),
        };
        let state = match &peer.dropped {
            Some(reason) => format!("dropped: {}", clean(reason)),
            None => state,
        };
        let flow = |bytes: u64| {
            if bytes > 0 {
                rate(bytes)
            } else {
                String::new()
            }
        };
        table.row([
            short(&peer.node),
            state,
            size(peer.received),
            flow(peer.rate_received),
            size(peer.sent),
            flow(peer.rate_sent),
            peer.addresses.join(", "),
        ]);
    }
    table
}

pub(super) fn key(outcome: &Outcome) -> Text {
    let Outcome::Key {
        publisher,
        device_key,
        node,
    } = outcome
    else {
        return Text::default();
    };
    let mut note = String::new();
    if let Some(device) = device_key {
        let _ = writeln!(note, "signs with the device key {}", clean(device));
    }
    if !node.is_empty() {
        let _ = writeln!(note, "on the network it is node {}", clean(node));
    }
    match publisher {
        Some(publisher) => Text {
            result: format!("{}\n", clean(publisher)),
            note,
        },
        None => {
            note.push_str(
                "this home has no publisher yet; the first push or `lode key new` makes it\n",
            );
            Text::note(note)
        }
    }
}
