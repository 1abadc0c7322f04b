//! Collections, and points as they are found.

use std::fmt::Write as _;

use lode_node::command::{
    CollectionCommand, CollectionRow, CollectionShown, Command, PointRow, PointsImported,
};
use serde_json::Value;

use super::Text;
use crate::style::Side::{Left, Right};
use crate::style::{Style, Table, clean, short};
use crate::units::{ago, count, plural, size};

/// Characters of a payload in a table.
const PAYLOAD_CHARS: usize = 100;

pub(super) fn collections(collections: &[CollectionRow], style: Style) -> Text {
    if collections.is_empty() {
        return Text::note(
            "no collections yet; `lode collection create NAME --dim N` makes one\n".to_owned(),
        );
    }
    let mut table = Table::new(&[
        ("NAME", Left),
        ("POINTS", Right),
        ("SIZE", Right),
        ("VECTORS", Left),
        ("ACCESS", Left),
        ("VERSION", Left),
        ("TROUBLE", Left),
    ]);
    for row in collections {
        table.row([
            row.name.clone(),
            row.points.map(count).unwrap_or_default(),
            size(row.size),
            row.vectors.clone(),
            access(row).to_owned(),
            row.version.as_deref().map(short).unwrap_or_default(),
            row.trouble.clone().unwrap_or_default(),
        ]);
    }
    Text::result(table.text(style))
}

fn access(row: &CollectionRow) -> &'static str {
    match (row.own, row.public) {
        (true, true) => "own, public",
        (true, false) => "own",
        (false, true) => "copy, public",
        (false, false) => "copy",
    }
}

pub(super) fn shown(shown: &CollectionShown, style: Style, now: u64) -> String {
    let row = &shown.row;
    let mut text = style.bold(&clean(&row.name));
    text.push('\n');
    let mut field = |name: &str, value: &str| {
        for (at, line) in value.lines().enumerate() {
            let name = if at == 0 { name } else { "" };
            let _ = writeln!(
                text,
                "  {}  {}",
                style.dim(&format!("{name:<12}")),
                clean(line)
            );
        }
    };
    let points = row.points.unwrap_or_default();
    let exactly = shown.vectors_indexed < points && shown.segments > 0;
    let in_segments = match exactly {
        true => format!("{}, the rest in memory", plural(shown.segments, "segment")),
        false => plural(shown.segments, "segment"),
    };
    field("points", &format!("{} in {in_segments}", count(points)));
    field("size", &size(row.size));
    let named = |name: &str| match name {
        "" => String::new(),
        name => format!("{name}: "),
    };
    let dense = shown.dense.iter().map(|(name, vector)| {
        let (size, metric, dtype) = (vector.size, &vector.metric, &vector.dtype);
        format!("{}{size} components, {metric}, {dtype}", named(name))
    });
    let sparse = shown.sparse.iter().map(|(name, vector)| {
        let idf = if vector.idf {
            ", rare ones weigh more"
        } else {
            ""
        };
        format!("{}sparse{idf}", named(name))
    });
    field(
        "vectors",
        &dense.chain(sparse).collect::<Vec<_>>().join("\n"),
    );
    let indexes = shown.indexes.iter();
    let indexes: Vec<String> = indexes
        .map(|(path, kind)| format!("{path}: {kind}"))
        .collect();
    field("indexes", &indexes.join("\n"));
    field("embedder", shown.embedder.as_deref().unwrap_or_default());
    field("access", access(row));
    let version = match (&row.version, shown.changed) {
        (None, _) => "none yet".to_owned(),
        (Some(version), true) => format!("{version}, changed since"),
        (Some(version), false) => version.clone(),
    };
    field("version", &version);
    field("made", &ago(shown.created, now));
    field("publisher", &row.publisher);
    field("trouble", row.trouble.as_deref().unwrap_or_default());
    text
}

pub(super) fn imported(imported: &PointsImported) -> Text {
    let before = match imported.points_before {
        0 => String::new(),
        before => format!(", {} of them by an earlier run", count(before)),
    };
    Text::note(format!(
        "{} read{before}; {} has {} now\n",
        plural(imported.points, "point"),
        clean(&imported.name),
        plural(imported.points_total, "point")
    ))
}

pub(super) fn points(points: &[PointRow], next: Option<&str>, style: Style) -> Text {
    let mut table = Table::new(&[
        ("SCORE", Right),
        ("ID", Left),
        ("PAYLOAD", Left),
        ("VECTORS", Left),
    ]);
    for point in points {
        let payload = match point.payload.is_empty() {
            true => String::new(),
            false => cut(&Value::Object(point.payload.clone()).to_string()),
        };
        let vectors = point
            .vectors
            .clone()
            .map(|map| cut(&Value::Object(map).to_string()));
        table.row([
            point
                .score
                .map(|score| format!("{score:.4}"))
                .unwrap_or_default(),
            match &point.id {
                Value::String(id) => id.clone(),
                other => other.to_string(),
            },
            payload,
            vectors.unwrap_or_default(),
        ]);
    }
    let note = match (points.is_empty(), next) {
        (true, _) => "no points\n".to_owned(),
        (false, Some(next)) => format!("more from {} on: --from {}\n", clean(next), clean(next)),
        (false, None) => String::new(),
    };
    let result = match points.is_empty() {
        true => String::new(),
        false => table.text(style),
    };
    Text { result, note }
}

/// What fits on a line.
fn cut(text: &str) -> String {
    match text.char_indices().nth(PAYLOAD_CHARS) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}..", &text[..at]),
    }
}

/// What was done by a command that answers with a number of points, or with nothing.
pub(super) fn done(command: &CollectionCommand, points: u64) -> String {
    let text = match command {
        CollectionCommand::Remove { name, .. } => {
            format!("deleted {name}; its versions stay until `lode rm {name}`")
        }
        CollectionCommand::DeletePoints(request) => {
            format!("deleted {} of {}", plural(points, "point"), request.name)
        }
        CollectionCommand::IndexCreate { name, field, kind } => {
            format!("{field} of {name} is indexed as {kind}")
        }
        CollectionCommand::IndexRemove { name, field } => {
            format!("{field} of {name} is not indexed any more")
        }
        CollectionCommand::Compact { name } => format!("compacted {name}"),
        _ => "done".to_owned(),
    };
    clean(&text) + "\n"
}

/// What a command about a collection did, if it answers with nothing.
pub(super) fn done_of(command: &Command) -> Option<String> {
    match command {
        Command::Collection(command) => Some(done(command, 0)),
        _ => None,
    }
}
