//! Outcomes as people read them: what goes to standard output, and what is said beside it.

mod check;
mod collection;
mod listing;
mod node;
mod transfer;
mod version;

use lode_node::command::{Command, Failure, FailureKind, Outcome};

use crate::style::{Style, clean, short};

/// What a command prints.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    /// The result alone, for standard output; lines end in newlines.
    pub(crate) result: String,
    /// What was done, for standard error; lines end in newlines.
    pub(crate) note: String,
}

impl Text {
    fn result(result: String) -> Self {
        Self {
            result,
            note: String::new(),
        }
    }

    fn note(note: String) -> Self {
        Self {
            result: String::new(),
            note,
        }
    }
}

/// Writes `outcome` of `command`; `now` is in seconds since 1970.
pub(crate) fn text(command: &Command, outcome: &Outcome, style: Style, now: u64) -> Text {
    match outcome {
        Outcome::Ok => Text::note(done(command)),
        Outcome::Pushed(pushed) => transfer::pushed(pushed),
        Outcome::Pulled(pulled) => transfer::pulled(pulled),
        Outcome::Models { models } => listing::models(models, style, now),
        Outcome::Files { version, files } => listing::files(version, files, style),
        Outcome::Shown(shown) => Text::result(version::shown(shown, style, now)),
        Outcome::Tensors { version, tensors } => listing::tensors(version, tensors, style),
        Outcome::Variants { version, variants } => listing::variants(version, variants, style),
        Outcome::Path { path } => Text::result(format!("{path}\n")),
        Outcome::Log { versions } => Text::result(version::log(versions, style, now)),
        Outcome::Diff(diff) => version::diff(diff, style),
        Outcome::Lineage { rows } => Text::result(version::lineage(rows, style)),
        Outcome::Branches { refs } => listing::refs(refs, style),
        Outcome::Moved {
            reference,
            version,
            before,
        } => Text::note(moved(reference, version.as_deref(), before.as_deref())),
        Outcome::Collected { .. } => Text::result(check::collected(outcome)),
        Outcome::Checked(checked) => check::checked(checked, style),
        Outcome::Ticket { ticket, public } => transfer::ticket(ticket, *public),
        Outcome::Peers { peers } => node::peers(peers, style),
        Outcome::Aliases { aliases } => listing::aliases(aliases, style),
        Outcome::Key { .. } => node::key(outcome),
        Outcome::Paused { names, paused } => Text::note(node::paused(names, *paused)),
        Outcome::Collections { collections } => collection::collections(collections, style),
        Outcome::Collection(shown) => Text::result(collection::shown(shown, style, now)),
        Outcome::PointsImported(imported) => collection::imported(imported),
        Outcome::Points { points, next } => collection::points(points, next.as_deref(), style),
        Outcome::PointsChanged { points } => Text::note(match command {
            Command::Collection(command) => collection::done(command, *points),
            _ => done(command),
        }),
        Outcome::TokenMade { token, row } => listing::token(token, row),
        Outcome::Tokens { tokens, rule } => match command {
            Command::TokenRemove { .. } => listing::tokens_removed(tokens, *rule),
            _ => listing::tokens(tokens, *rule, style, now),
        },
        Outcome::Status(status) => Text::result(node::status(status, style)),
        Outcome::Doctor { findings } => check::doctor(findings, style),
    }
}

/// Writes a failure: what is wrong, and what to do about it.
pub(crate) fn failure(failure: &Failure, style: Style) -> String {
    let mut text = format!("{} {}\n", style.red("error:"), lines(&failure.message));
    if let Some(advice) = &failure.advice {
        text.push_str(&format!("{} {}\n", style.green("hint:"), lines(advice)));
    }
    text
}

/// The kind of failure that a carried-out command reports: a check that found corrupt data.
pub(crate) fn verdict(outcome: &Outcome) -> Option<FailureKind> {
    let findings = match outcome {
        Outcome::Checked(checked) => &checked.findings,
        Outcome::Doctor { findings } => findings,
        _ => return None,
    };
    findings
        .iter()
        .any(|finding| finding.level == "corrupt")
        .then_some(FailureKind::Corrupt)
}

/// Says what a command did that answers with success alone.
fn done(command: &Command) -> String {
    if let Some(text) = collection::done_of(command) {
        return text;
    }
    let text = match command {
        Command::Remove { name, .. } => {
            format!("removed {name}; `lode gc` frees what nothing else needs")
        }
        Command::Pin { name } => format!("pinned {name}"),
        Command::Unpin { name } => format!("unpinned {name}"),
        Command::PeersAdd { .. } => "added to the address book".to_owned(),
        Command::Alias {
            alias: Some(alias),
            key: Some(key),
        } => {
            format!("{alias} is {}", short(key))
        }
        _ => "done".to_owned(),
    };
    clean(&text) + "\n"
}

fn moved(reference: &str, version: Option<&str>, before: Option<&str>) -> String {
    let reference = clean(reference);
    match (version, before) {
        (Some(now), Some(before)) if now == before => {
            format!("{reference} is at {} already\n", short(now))
        }
        (Some(now), Some(before)) => {
            format!(
                "{reference} is at {} now; it was at {}\n",
                short(now),
                short(before)
            )
        }
        (Some(now), None) => format!("{reference} is at {}\n", short(now)),
        (None, Some(before)) => format!("removed {reference}; it was at {}\n", short(before)),
        (None, None) => format!("{reference} is not there\n"),
    }
}

/// Cleans text that may have several lines; later ones are set under the first.
fn lines(text: &str) -> String {
    text.lines()
        .map(clean)
        .collect::<Vec<_>>()
        .join("\n       ")
}

#[cfg(test)]
mod tests;
