//! What the command line asks of collections. The vector of a query is read here: it may come from a file of the
//! client's.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use lode_node::command::{
    CollectionCommand, CollectionCommit, CollectionCreate, CollectionImport, CollectionPoints,
    CollectionRestore, CollectionSearch, CollectionSelect, Failure, FailureKind, VectorRow,
};
use serde_json::Value;

use super::absolute;
use crate::{
    args::collection::{CollectionSub, CreateArgs, FieldSub, IndexArgs, SearchArgs},
    limits::QUERY_BYTES_MAX,
};

pub(super) fn collection(sub: CollectionSub) -> Result<CollectionCommand, Failure> {
    Ok(match sub {
        CollectionSub::Create(create) => CollectionCommand::Create(create_of(*create)?),
        CollectionSub::Ls => CollectionCommand::Ls,
        CollectionSub::Show { name } => CollectionCommand::Show { name },
        CollectionSub::Rm { name, force } => CollectionCommand::Remove { name, force },
        CollectionSub::Commit(commit) => CollectionCommand::Commit(CollectionCommit {
            name: commit.name,
            message: commit.message,
            branch: commit.branch,
            tag: commit.tag,
            public: commit.public,
            compact: commit.compact,
        }),
        CollectionSub::Restore { name, to, force } => {
            CollectionCommand::Restore(CollectionRestore { name, to, force })
        }
        CollectionSub::Points {
            name,
            ids,
            filter,
            from,
            limit,
            vectors,
        } => CollectionCommand::Points(CollectionPoints {
            name,
            ids,
            filter,
            from,
            limit,
            with_vectors: vectors,
        }),
        CollectionSub::DeletePoints { name, ids, filter } => {
            CollectionCommand::DeletePoints(CollectionSelect { name, ids, filter })
        }
        CollectionSub::Field { field } => match field {
            FieldSub::Add { name, field, kind } => {
                CollectionCommand::IndexCreate { name, field, kind }
            }
            FieldSub::Rm { name, field } => CollectionCommand::IndexRemove { name, field },
        },
        CollectionSub::Compact { name } => CollectionCommand::Compact { name },
        CollectionSub::Purge { name } => CollectionCommand::Purge { name },
    })
}

fn create_of(create: CreateArgs) -> Result<CollectionCreate, Failure> {
    let mut vectors: std::collections::BTreeMap<_, _> = create.vector.into_iter().collect();
    if let Some(size) = create.dim {
        let row = VectorRow {
            size,
            metric: create.metric,
            dtype: create.dtype,
        };
        if vectors.insert(String::new(), row).is_some() {
            return Err(usage("a vector without a name is what --dim makes"));
        }
    }
    Ok(CollectionCreate {
        name: create.name,
        vectors,
        sparse: create.sparse.into_iter().collect(),
        indexes: create.index.into_iter().collect(),
        embedder: create.embedder,
        public: create.public,
    })
}

pub(super) fn index(index: IndexArgs, cwd: &Path) -> Result<CollectionCommand, Failure> {
    Ok(CollectionCommand::Import(CollectionImport {
        name: index.name,
        file: absolute(&index.file, cwd)?,
        format: index.format,
        id: index.id,
        first_id: index.first_id,
        vector: index.vector,
        using: index.using.unwrap_or_default(),
        payload: index.payload,
        embedder: index.embedder,
        metric: index.metric,
    }))
}

pub(super) fn search(search: SearchArgs, cwd: &Path) -> Result<CollectionCommand, Failure> {
    let vector = search
        .vector
        .map(|text| vector_of(&text, cwd))
        .transpose()?;
    Ok(CollectionCommand::Search(CollectionSearch {
        name: search.name,
        vector,
        like: search.like,
        using: search.using.unwrap_or_default(),
        filter: search.filter,
        limit: search.limit,
        offset: search.offset,
        exact: search.exact,
        breadth: search.ef,
        threshold: search.threshold,
        with_vectors: search.vectors,
        embedder: search.embedder,
        metric: search.metric,
    }))
}

/// The vector that a text says: JSON, `@` and a file with JSON, or `-` for standard input.
fn vector_of(text: &str, cwd: &Path) -> Result<Value, Failure> {
    let read = |name: &str, from: &mut dyn Read| {
        let failed = |error: io::Error| Failure {
            kind: FailureKind::Failed,
            message: format!("{name}: {error}"),
            advice: None,
        };
        let mut bytes = Vec::new();
        from.take(QUERY_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        match bytes.len() as u64 > QUERY_BYTES_MAX {
            true => Err(usage(&format!("{name}: more than {QUERY_BYTES_MAX} bytes"))),
            false => Ok(bytes),
        }
    };
    let (name, bytes) = match text.strip_prefix('@') {
        _ if text == "-" => ("standard input", read("standard input", &mut io::stdin())?),
        None => ("the vector", text.as_bytes().to_vec()),
        Some(path) => {
            let mut file = File::open(cwd.join(path)).map_err(|error| Failure {
                kind: match error.kind() {
                    io::ErrorKind::NotFound => FailureKind::NotFound,
                    _ => FailureKind::Failed,
                },
                message: format!("{path}: {error}"),
                advice: None,
            })?;
            (path, read(path, &mut file)?)
        }
    };
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| usage(&format!("{name} is no JSON: {error}")))?;
    // what programs write around a vector
    Ok(match value {
        Value::Object(mut map) => match map.remove("vector").or_else(|| map.remove("embedding")) {
            Some(vector) => vector,
            None => Value::Object(map),
        },
        other => other,
    })
}

fn usage(message: &str) -> Failure {
    Failure {
        kind: FailureKind::Usage,
        message: message.to_owned(),
        advice: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_vector_is_text_or_a_file_with_json() {
        let dir = tempfile::tempdir().unwrap();
        let cwd = dir.path();
        std::fs::write(cwd.join("q.json"), r#"{"vector": [1, 2.5]}"#).unwrap();
        std::fs::write(cwd.join("s.json"), r#"{"indices": [1], "values": [2]}"#).unwrap();
        assert_eq!(vector_of("[1, -2]", cwd).unwrap(), json!([1, -2]));
        assert_eq!(vector_of("@q.json", cwd).unwrap(), json!([1, 2.5]));
        assert_eq!(
            vector_of("@s.json", cwd).unwrap(),
            json!({"indices": [1], "values": [2]})
        );
        assert_eq!(
            vector_of("@none", cwd).unwrap_err().kind,
            FailureKind::NotFound
        );
        assert_eq!(vector_of("[1,", cwd).unwrap_err().kind, FailureKind::Usage);
    }

    #[test]
    fn a_query_past_its_bound_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = |bytes: u64| {
            let text = " ".repeat(usize::try_from(bytes).unwrap() - 3) + "[1]";
            std::fs::write(dir.path().join("q"), text).unwrap();
            vector_of("@q", dir.path())
        };
        assert_eq!(file(QUERY_BYTES_MAX).unwrap(), json!([1]));
        assert_eq!(
            file(QUERY_BYTES_MAX + 1).unwrap_err().kind,
            FailureKind::Usage
        );
    }
}
