//! One version, its log, its lineage, and how two differ.

use std::fmt::Write as _;

use lode_node::command::{Diff, DiffRow, LineageRow, LogRow, Shown};

use super::Text;
use super::listing::file_table;
use crate::style::Side::{Left, Right};
use crate::style::{Style, Table, clean, short};
use crate::units::{ago, count, plural, size, utc};

pub(super) fn shown(shown: &Shown, style: Style, now: u64) -> String {
    let mut text = style.bold(&clean(&shown.name));
    if !shown.refs.is_empty() {
        let _ = write!(text, " ({})", clean(&shown.refs.join(", ")));
    }
    text.push('\n');
    let mut field = |name: &str, value: &str| {
        for (i, line) in value.lines().enumerate() {
            let name = if i == 0 { name } else { "" };
            let _ = writeln!(
                text,
                "  {}  {}",
                style.dim(&format!("{name:<12}")),
                clean(line)
            );
        }
    };
    field("version", &shown.version);
    field("tree", &shown.tree);
    field("message", shown.message.trim_end());
    field("author", shown.author.as_deref().unwrap_or_default());
    field(
        "made",
        &format!("{} ({})", ago(shown.time, now), utc(shown.time)),
    );
    if shown.kind != "model" {
        field("kind", &shown.kind);
    }
    field(
        "architecture",
        shown.architecture.as_deref().unwrap_or_default(),
    );
    if shown.tensors > 0 {
        let dtypes: Vec<String> = shown
            .dtypes
            .iter()
            .map(|(dtype, n)| format!("{dtype} {}", count(*n)))
            .collect();
        field(
            "parameters",
            &format!("{} ({})", count(shown.parameters), dtypes.join(", ")),
        );
    }
    let files = plural(shown.files.len() as u64, "file");
    match shown.tensors {
        0 => field("content", &files),
        n => field("content", &format!("{} in {files}", plural(n, "tensor"))),
    }
    let held = if shown.size_held >= shown.size {
        "held in full".to_owned()
    } else {
        format!("{} held", size(shown.size_held))
    };
    let own = size(shown.size_own);
    field(
        "size",
        &format!(
            "{}, {held}; {own} of it in no other version",
            size(shown.size)
        ),
    );
    field("license", shown.license.as_deref().unwrap_or_default());
    field("access", if shown.public { "public" } else { "private" });
    field("pinned", if shown.pinned { "yes" } else { "" });
    field("parent", &shown.parents.join("\n"));
    field("base", &shown.base.join("\n"));
    field(
        "collection",
        shown.collection.as_deref().unwrap_or_default(),
    );
    field(
        "publisher",
        shown
            .publisher
            .as_deref()
            .unwrap_or("none: taken over from its origin"),
    );
    for row in &shown.signatures {
        field(
            "signature",
            &format!(
                "{} ({} by {})",
                row.verdict,
                row.algorithm,
                short(&row.signer)
            ),
        );
    }
    if shown.signatures.is_empty() && shown.publisher.is_some() {
        field("signature", "none");
    }
    text.push('\n');
    text + &file_table(&shown.files).text(style)
}

pub(super) fn log(versions: &[LogRow], style: Style, now: u64) -> String {
    let mut table = Table::new(&[
        ("VERSION", Left),
        ("MADE", Left),
        ("SIZE", Right),
        ("HELD", Right),
        ("REFS", Left),
        ("AUTHOR", Left),
        ("MESSAGE", Left),
    ]);
    for row in versions {
        let complete = row.size_held >= row.size;
        let mut message = row.message.lines().next().unwrap_or_default().to_owned();
        for moved in &row.moves {
            message = if message.is_empty() {
                format!("[{moved}]")
            } else {
                format!("{message} [{moved}]")
            };
        }
        table.row([
            short(&row.version),
            ago(row.time, now),
            size(row.size),
            if complete {
                String::new()
            } else {
                size(row.size_held)
            },
            row.refs.join(", "),
            row.author.clone().unwrap_or_default(),
            message,
        ]);
    }
    table.text(style)
}

pub(super) fn diff(diff: &Diff, style: Style) -> Text {
    let mut result = String::new();
    for (what, rows) in [("FILE", &diff.files), ("TENSOR", &diff.tensors)] {
        if rows.is_empty() {
            continue;
        }
        if !result.is_empty() {
            result.push('\n');
        }
        result.push_str(&diff_table(what, rows).text(style));
    }
    let note = if result.is_empty() {
        "no difference\n".to_owned()
    } else {
        format!(
            "{} -> {}: {} and {} differ, {} new\n",
            short(&diff.from),
            short(&diff.to),
            plural(diff.files.len() as u64, "file"),
            plural(diff.tensors.len() as u64, "tensor"),
            size(diff.size_new)
        )
    };
    Text { result, note }
}

fn diff_table(what: &'static str, rows: &[DiffRow]) -> Table {
    let mut table = Table::new(&[
        ("", Left),
        (what, Left),
        ("BEFORE", Right),
        ("AFTER", Right),
        ("DIFFERS", Right),
        ("MAX |D|", Right),
        ("MEAN |D|", Right),
        ("DETAIL", Left),
    ]);
    for row in rows {
        let (mark, before, after) = match row.change.as_str() {
            "added" => ("+", String::new(), size(row.size_to)),
            "removed" => ("-", size(row.size_from), String::new()),
            _ => ("~", size(row.size_from), size(row.size_to)),
        };
        let figure = |value: Option<f64>| value.map(|v| format!("{v:.3e}")).unwrap_or_default();
        table.row([
            mark.to_owned(),
            row.name.clone(),
            before,
            after,
            size(row.size_changed),
            figure(row.max_abs),
            figure(row.mean_abs),
            row.detail.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// What the version was made from above it, what was made from it below, each indented by its distance.
pub(super) fn lineage(rows: &[LineageRow], style: Style) -> String {
    let mut rows: Vec<&LineageRow> = rows.iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.depth));
    let mut table = Table::new(&[
        ("VERSION", Left),
        ("RELATION", Left),
        ("SHARED", Right),
        ("NAME", Left),
    ]);
    let top = rows.first().map_or(0, |row| row.depth);
    for row in rows {
        let indent = usize::try_from(top.saturating_sub(row.depth))
            .unwrap_or(0)
            .min(40);
        let shared = row.shared.map(|share| format!("{:.0} %", share * 100.0));
        table.row([
            format!("{}{}", "  ".repeat(indent), short(&row.version)),
            if row.relation == "self" {
                "this version".to_owned()
            } else {
                row.relation.clone()
            },
            shared.unwrap_or_default(),
            row.name.clone().unwrap_or_default(),
        ]);
    }
    table.text(style)
}
