//! Collections by the `lode` binary alone, without a node that runs: make, fill, search, and be killed on the way.

use crate::common::{lode, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What a command prints with `--json`.
fn json(home: &Path, args: &[&str]) -> Value {
    let output = run(home, &[args, &["--json", "--quiet"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// Points whose vectors say which they are.
fn points(path: &Path, count: u32) {
    let mut out = String::new();
    for id in 0..count {
        let angle = f64::from(id) / f64::from(count) * 3.0;
        let vector: Vec<f64> = (1..=32).map(|at| (angle * f64::from(at)).cos()).collect();
        let point = json!({"id": id, "embedding": vector, "source": format!("s{}", id % 3), "year": 1990 + id % 40,
            "left": "out"});
        out.push_str(&format!("{point}\n"));
    }
    fs::write(path, out).unwrap();
}

fn vector_of(id: u32, count: u32) -> String {
    let angle = f64::from(id) / f64::from(count) * 3.0;
    let vector: Vec<f64> = (1..=32).map(|at| (angle * f64::from(at)).cos()).collect();
    json!(vector).to_string()
}

#[test]
fn a_collection_is_made_filled_and_searched_from_the_command_line() {
    let work = tempfile::tempdir().unwrap();
    let home = work.path().join("home");
    let file = work.path().join("points.jsonl");
    points(&file, 500);
    let file = file.to_str().unwrap();
    let made = json(
        &home,
        &[
            "collection",
            "create",
            "acme/docs",
            "--dim",
            "32",
            "--metric",
            "cosine",
        ],
    );
    assert_eq!(made["dense"][""]["size"], 32);
    let index = [
        "index",
        "acme/docs",
        file,
        "--id",
        "id",
        "--vector",
        "embedding",
        "--payload",
        "source,year",
    ];
    assert_eq!(json(&home, &index)["points_total"], 500);
    let query = work.path().join("q.json");
    fs::write(&query, vector_of(100, 500)).unwrap();
    let query = format!("@{}", query.display());
    let filter = "source = \"s1\" and year >= 2000";
    let found = json(
        &home,
        &[
            "search",
            "acme/docs",
            "--vector",
            &query,
            "--filter",
            filter,
            "-k",
            "3",
        ],
    );
    let found = found["points"].as_array().unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found[0]["id"], 100);
    assert_eq!(found[0]["payload"], json!({"source": "s1", "year": 2010}));
    let table = run(
        &home,
        &["search", "acme/docs", "--vector", &query, "-k", "2"],
    );
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.trim_start().starts_with("SCORE") && table.contains("1.0000  100"),
        "{table}"
    );
    let near = json(&home, &["search", "acme/docs", "--like", "100", "-k", "2"]);
    assert!(
        near["points"]
            .as_array()
            .unwrap()
            .iter()
            .all(|point| point["id"] != 100)
    );

    assert!(
        run(
            &home,
            &["collection", "index", "add", "acme/docs", "year", "integer"]
        )
        .status
        .success()
    );
    assert!(
        run(
            &home,
            &[
                "collection",
                "delete-points",
                "acme/docs",
                "--filter",
                "year >= 2000"
            ]
        )
        .status
        .success()
    );
    let shown = json(&home, &["collection", "show", "acme/docs"]);
    assert_eq!(shown["points"], 130);
    assert_eq!(shown["indexes"], json!({"year": "integer"}));
    let commit = json(
        &home,
        &[
            "collection",
            "commit",
            "acme/docs",
            "-m",
            "first",
            "--tag",
            "v1",
        ],
    );
    assert_eq!(commit["name"], "acme/docs@v1");
    assert_eq!(json(&home, &["show", "acme/docs@v1"])["kind"], "collection");
    let read = json(&home, &["collection", "points", "acme/docs", "3", "4"]);
    assert_eq!(read["points"].as_array().unwrap().len(), 2);

    let code = |args: &[&str]| run(&home, args).status.code();
    assert_eq!(code(&["search", "acme/none", "--vector", "[1]"]), Some(3));
    assert_eq!(code(&["search", "acme/docs", "--vector", "[1]"]), Some(2));
    assert_eq!(
        code(&[
            "search",
            "acme/docs",
            "--vector",
            &query,
            "--filter",
            "year >"
        ]),
        Some(2)
    );
    assert_eq!(
        code(&["collection", "create", "acme/docs", "--dim", "3"]),
        Some(4)
    );
    assert_eq!(code(&["index", "acme/docs", "/none.jsonl"]), Some(3));
}

/// Bytes of the logs of all collections.
fn log_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry: fs::DirEntry| {
        let path: PathBuf = entry.path();
        if path.is_dir() {
            return log_bytes(&path);
        }
        match path
            .extension()
            .is_some_and(|extension| extension == "log" || extension == "seg")
        {
            true => entry.metadata().map_or(0, |metadata| metadata.len()),
            false => 0,
        }
    });
    bytes.sum()
}

#[test]
fn an_import_that_is_killed_loses_nothing_and_can_be_run_again() {
    let work = tempfile::tempdir().unwrap();
    let home = work.path().join("home");
    let file = work.path().join("points.jsonl");
    let count = 40_000;
    points(&file, count);
    let file = file.to_str().unwrap();
    json(&home, &["collection", "create", "acme/docs", "--dim", "32"]);
    let index = [
        "index",
        "acme/docs",
        file,
        "--id",
        "id",
        "--vector",
        "embedding",
    ];
    let mut child = lode(&home, &index).stderr(Stdio::null()).spawn().unwrap();
    while log_bytes(&home.join("collections")) < 1 << 20 {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before it could be killed"
        );
        thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = json(&home, &["collection", "show", "acme/docs"])["points"]
        .as_u64()
        .unwrap();
    assert!(before > 0 && before < u64::from(count), "{before}");
    assert_eq!(json(&home, &index)["points_total"], count);
    for id in [0, 17_171, count - 1] {
        let text = id.to_string();
        let read = json(&home, &["collection", "points", "acme/docs", &text]);
        assert_eq!(read["points"][0]["payload"]["year"], 1990 + id % 40);
        let vector = vector_of(id, count);
        let search = ["search", "acme/docs", "--vector", &vector, "-k", "1"];
        let found = json(&home, &search)["points"][0]["id"].as_u64().unwrap();
        // neighbours differ by less than singles tell
        assert!(found.abs_diff(u64::from(id)) <= 20, "{found} for {id}");
    }
}
