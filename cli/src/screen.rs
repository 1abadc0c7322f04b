//! The two streams: results to standard output, all else to standard error.
//!
//! A reader that went away (`lode ls | head`) is no error: what follows is dropped, and said to no one.

use std::io::{self, IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use lode_node::command::{Command, Event, Failure, Outcome};
use serde::Serialize;

use crate::action::is_long;
use crate::progress::Progress;
use crate::render;
use crate::settings::Settings;
use crate::style::{Style, clean};

/// Where and how a command prints.
#[derive(Debug)]
pub(crate) struct Screen {
    json: bool,
    quiet: bool,
    result_style: Style,
    note_style: Style,
    progress: Progress,
}

impl Screen {
    pub(crate) fn new(settings: &Settings) -> Self {
        let color = settings.color.value;
        let note_terminal = io::stderr().is_terminal();
        let bars = note_terminal && !settings.quiet && !settings.json;
        Self {
            json: settings.json,
            quiet: settings.quiet,
            result_style: Style {
                color: color && io::stdout().is_terminal(),
            },
            note_style: Style {
                color: color && note_terminal,
            },
            progress: Progress::new(bars),
        }
    }

    /// Shows what happens on the way to a result.
    pub(crate) fn event(&mut self, command: &Command, event: &Event) {
        if self.json && is_long(command) {
            if !self.quiet {
                self.line(event);
            }
            return;
        }
        match event {
            Event::Progress {
                phase,
                done,
                total,
                peers,
            } => {
                self.progress.show(phase, *done, *total, *peers);
            }
            Event::Note { text } => self.note(&clean(text)),
            Event::Warning { text } => {
                let text = format!("{} {}\n", self.note_style.yellow("warning:"), clean(text));
                self.progress.hide_while(|| write_note(&text));
            }
        }
    }

    /// Says a line that `--quiet` takes away.
    pub(crate) fn note(&self, line: &str) {
        if !self.quiet {
            self.progress
                .hide_while(|| write_note(&format!("{line}\n")));
        }
    }

    /// Prints the result of a command.
    pub(crate) fn outcome(&mut self, command: &Command, outcome: &Outcome) {
        self.progress.end();
        if self.json {
            write_result(format!("{}\n", plain_json(outcome)).as_bytes());
            return;
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |age| age.as_secs());
        let text = render::text(command, outcome, self.result_style, now);
        if !self.quiet {
            write_note(&text.note);
        }
        write_result(text.result.as_bytes());
    }

    /// Prints a document that no node made.
    pub(crate) fn document<T: Serialize>(&self, value: &T, text: &str) {
        if self.json {
            self.line(value)
        } else {
            write_result(text.as_bytes())
        }
    }

    /// Prints why there is no result. With `--json` the last line of standard output says it too.
    pub(crate) fn failure(&mut self, failure: &Failure) {
        self.progress.end();
        write_note(&render::failure(failure, self.note_style));
        if self.json {
            self.line(&serde_json::json!({ "error": failure }));
        }
    }

    /// Prints bytes that are the result as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        write_result(bytes);
    }

    /// Says that the work is being ended early.
    pub(crate) fn stopping(&mut self) {
        self.progress.end();
        self.note("stopping; once more to stop at once");
    }

    fn line<T: Serialize>(&self, value: &T) {
        let line = serde_json::to_string(value).expect("results are plain data");
        write_result(format!("{line}\n").as_bytes());
    }
}

/// The JSON of an outcome without the tag that tells outcomes apart: who asked knows.
fn plain_json(outcome: &Outcome) -> String {
    let tagged = serde_json::to_string(outcome).expect("an outcome is plain data");
    // `{"outcome":"pushed","name":..}`: serde writes the tag first, and no tag has a comma.
    match tagged.split_once(',') {
        Some((_, fields)) => format!("{{{fields}"),
        None => "{}".to_owned(),
    }
}

/// Writes to standard output; a closed pipe ends the output, not the program.
fn write_result(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Writes to standard error; when that is closed there is nobody left to tell.
pub(crate) fn write_note(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    use serde_json::{Value, json};

    fn value(outcome: &Outcome) -> Value {
        serde_json::from_str(&plain_json(outcome)).unwrap()
    }

    #[test]
    fn json_is_the_outcome_without_its_tag() {
        assert_eq!(value(&Outcome::Ok), json!({}));
        assert_eq!(
            value(&Outcome::Models { models: vec![] }),
            json!({"models": []})
        );
        assert_eq!(
            value(&Outcome::Path {
                path: "/a,b".into()
            }),
            json!({"path": "/a,b"})
        );
    }
}
