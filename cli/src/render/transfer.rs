//! Pushes, pulls and tickets.

use lode_node::command::{Pulled, Pushed};

use super::Text;
use crate::style::{clean, short};
use crate::units::{plural, size};

pub(super) fn pushed(pushed: &Pushed) -> Text {
    let result = format!("{}\n", clean(&pushed.name));
    let version = short(&pushed.version);
    let note = if pushed.changed {
        let tensors = match pushed.tensors {
            0 => plural(pushed.files, "file"),
            tensors => format!(
                "{} of {} new",
                pushed.tensors_new,
                plural(tensors, "tensor")
            ),
        };
        format!(
            "version {version}: {tensors}, {} of {} stored\n",
            size(pushed.size_new),
            size(pushed.size)
        )
    } else {
        format!("version {version} has the same content: nothing to push\n")
    };
    Text { result, note }
}

pub(super) fn pulled(pulled: &Pulled) -> Text {
    let files = plural(pulled.files, "file");
    let asked = if pulled.size < pulled.size_full {
        format!(
            "{} of {} in full",
            size(pulled.size),
            size(pulled.size_full)
        )
    } else {
        size(pulled.size)
    };
    if pulled.dry_run {
        let result = format!(
            "{}: {files}, {asked}; {} to fetch, {} held\n",
            clean(&pulled.name),
            size(pulled.size_fetched),
            size(pulled.size_held)
        );
        return Text::result(result);
    }
    let from = match pulled.providers {
        0 => String::new(),
        n => format!(" from {}", plural(u64::from(n), "peer")),
    };
    let held = match pulled.size_held {
        0 => String::new(),
        held => format!(", {} held already", size(held)),
    };
    let note = format!(
        "version {}: {files}, {asked}; {} fetched{from}{held}\n",
        short(&pulled.version),
        size(pulled.size_fetched)
    );
    // A path is printed as it is: it is the user's own, and it is typed again.
    let result = match &pulled.path {
        Some(path) => format!("{path}\n"),
        None => format!("{}\n", clean(&pulled.name)),
    };
    Text { result, note }
}

pub(super) fn ticket(ticket: &str, public: bool) -> Text {
    let note = if public {
        "anyone may read the model; the ticket says where it is\n"
    } else {
        "the model is private: whoever has this ticket may read it\n"
    };
    Text {
        result: format!("{}\n", clean(ticket)),
        note: note.to_owned(),
    }
}
