//! Tables of models, files, tensors, refs, aliases and tokens.

use std::collections::BTreeMap;

use lode_node::command::{AliasRow, FileRow, ModelRow, RefRow, TensorRow, TokenRow, VariantRow};

use super::Text;
use crate::style::Side::{Left, Right};
use crate::style::{Style, Table, clean, short};
use crate::units::{ago, count, plural, size, utc};

pub(super) fn models(models: &[ModelRow], style: Style, now: u64) -> Text {
    if models.is_empty() {
        return Text::note("no models yet; `lode push DIR NAME` makes one\n".to_owned());
    }
    let mut table = Table::new(&[
        ("NAME", Left),
        ("VERSION", Left),
        ("SIZE", Right),
        ("HELD", Right),
        ("ACCESS", Left),
        ("CHANGED", Left),
    ]);
    for model in models {
        let access = match (model.own, model.public) {
            (true, true) => "own, public",
            (true, false) => "own",
            (false, true) => "public",
            (false, false) => "private",
        };
        table.row([
            model.name.clone(),
            model.version.as_deref().map(short).unwrap_or_default(),
            size(model.size),
            held(model.size_held, model.size),
            access.to_owned(),
            model.time.map(|time| ago(time, now)).unwrap_or_default(),
        ]);
    }
    Text::result(table.text(style))
}

pub(super) fn files(version: &str, files: &[FileRow], style: Style) -> Text {
    Text {
        result: file_table(files).text(style),
        note: format!(
            "version {}: {}, {}\n",
            short(version),
            plural(files.len() as u64, "file"),
            size(files.iter().map(|file| file.size).sum())
        ),
    }
}

/// The files of a version; the column of held bytes appears when one is not held in full.
pub(super) fn file_table(files: &[FileRow]) -> Table {
    let mut table = Table::new(&[
        ("FILE", Left),
        ("SIZE", Right),
        ("HELD", Right),
        ("CHUNKS", Right),
        ("SHA-256", Left),
    ]);
    let complete = files.iter().all(|file| file.size_held >= file.size);
    for file in files {
        table.row([
            file.path.clone(),
            size(file.size),
            if complete {
                String::new()
            } else {
                held(file.size_held, file.size)
            },
            file.chunks.to_string(),
            short(&file.sha256),
        ]);
    }
    table
}

pub(super) fn tensors(version: &str, tensors: &[TensorRow], style: Style) -> Text {
    let mut table = Table::new(&[
        ("TENSOR", Left),
        ("DTYPE", Left),
        ("SHAPE", Left),
        ("SIZE", Right),
        ("FILE", Left),
    ]);
    let one_file = tensors.windows(2).all(|pair| pair[0].file == pair[1].file);
    let mut parameters: u64 = 0;
    for tensor in tensors {
        let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
        parameters = parameters.saturating_add(tensor.shape.iter().product());
        table.row([
            tensor.name.clone(),
            tensor.dtype.clone(),
            format!("[{}]", shape.join(", ")),
            size(tensor.size),
            if one_file {
                String::new()
            } else {
                tensor.file.clone()
            },
        ]);
    }
    Text {
        result: table.text(style),
        note: format!(
            "version {}: {}, {} parameters, {}\n",
            short(version),
            plural(tensors.len() as u64, "tensor"),
            count(parameters),
            size(tensors.iter().map(|tensor| tensor.size).sum())
        ),
    }
}

pub(super) fn variants(version: &str, variants: &[VariantRow], style: Style) -> Text {
    let mut table = Table::new(&[
        ("VARIANT", Left),
        ("SIZE", Right),
        ("MADE", Right),
        ("FORMAT", Left),
        ("KEPT", Left),
    ]);
    // Many are refused for one reason.
    let mut refused: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for row in variants {
        if let Some(why) = &row.refused {
            refused.entry(why).or_default().push(clean(&row.name));
            continue;
        }
        let kept = match (&row.kept, &row.claimed) {
            _ if row.disagree => "claims disagree",
            (Some(_), Some(_)) => "here, claimed",
            (Some(_), None) => "here",
            (None, Some(_)) => "claimed",
            (None, None) => "",
        };
        let format = row.method.rsplit_once("-to-").map_or("", |(_, to)| to);
        table.row([
            row.name.clone(),
            size(row.size),
            if row.size_made == row.size {
                String::new()
            } else {
                size(row.size_made)
            },
            format.to_owned(),
            kept.to_owned(),
        ]);
    }
    let made = variants.iter().filter(|row| row.refused.is_none()).count();
    let mut note = format!(
        "version {}: {}, made when they are read\n",
        short(version),
        plural(made as u64, "variant")
    );
    for (why, names) in refused {
        note.push_str(&format!(
            "not offered: {}: {}\n",
            names.join(" "),
            clean(why)
        ));
    }
    Text {
        result: table.text(style),
        note,
    }
}

pub(super) fn refs(refs: &[RefRow], style: Style) -> Text {
    if refs.is_empty() {
        return Text::note("no branches and no tags\n".to_owned());
    }
    let mut table = Table::new(&[
        ("KIND", Left),
        ("NAME", Left),
        ("VERSION", Left),
        ("FORK", Left),
    ]);
    for row in refs {
        let fork: Vec<String> = row.fork.iter().map(|id| short(id)).collect();
        table.row([
            row.kind.clone(),
            row.name.clone(),
            row.version.as_deref().map(short).unwrap_or_default(),
            if fork.is_empty() {
                String::new()
            } else {
                format!("signers disagree: {}", fork.join(", "))
            },
        ]);
    }
    Text::result(table.text(style))
}

pub(super) fn aliases(aliases: &[AliasRow], style: Style) -> Text {
    if aliases.is_empty() {
        return Text::note("no aliases yet; the first push under a name binds it\n".to_owned());
    }
    let mut table = Table::new(&[("ALIAS", Left), ("PUBLISHER", Left), ("", Left)]);
    for row in aliases {
        let own = if row.own { "this home" } else { "" };
        table.row([row.alias.clone(), row.publisher.clone(), own.to_owned()]);
    }
    Text::result(table.text(style))
}

/// A token that was made: its text is the result, and shown nowhere else.
pub(super) fn token(token: &str, row: &TokenRow) -> Text {
    let name = clean(&row.name);
    Text {
        result: format!("{token}\n"),
        note: format!(
            "token {name} is shown this once; from now on HTTP wants tokens, `lode token rm {name}` removes it\n"
        ),
    }
}

pub(super) fn tokens(tokens: &[TokenRow], rule: bool, style: Style, now: u64) -> Text {
    if tokens.is_empty() {
        let text = match rule {
            true => "no tokens left: over HTTP, public models alone are read\n",
            false => "no tokens yet: HTTP on loopback acts as the owner\n",
        };
        return Text::note(text.to_owned());
    }
    let mut table = Table::new(&[
        ("NAME", Left),
        ("SCOPE", Left),
        ("MODELS", Left),
        ("MADE", Right),
        ("EXPIRES", Left),
        ("ID", Left),
    ]);
    for row in tokens {
        let expires = match row.expires {
            None => "never".to_owned(),
            Some(_) if row.expired => "expired".to_owned(),
            Some(end) => utc(end),
        };
        table.row([
            row.name.clone(),
            row.scope.as_str().to_owned(),
            row.models.join(" "),
            ago(row.created, now),
            expires,
            row.id.clone(),
        ]);
    }
    Text::result(table.text(style))
}

pub(super) fn tokens_removed(tokens: &[TokenRow], rule: bool) -> Text {
    let names: Vec<_> = tokens.iter().map(|row| clean(&row.name)).collect();
    let mut note = match names.is_empty() {
        true => "there was no token\n".to_owned(),
        false => format!("removed {}\n", names.join(", ")),
    };
    if !rule {
        note.push_str("HTTP on loopback acts as the owner again\n");
    }
    Text::note(note)
}

/// How much of a size is held: `all`, `none`, or the bytes.
fn held(held: u64, of: u64) -> String {
    match held {
        _ if held >= of => "all".to_owned(),
        0 => "none".to_owned(),
        held => size(held),
    }
}
