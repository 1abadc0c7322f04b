//! Each command line of the documentation, and the command that it must become.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::args::Line;
use clap::Parser;
use serde_json::{Value, json};

/// The JSON of the command that a command line sends, from the folder `/data`.
fn sent(line: &str) -> Value {
    let line =
        Line::try_parse_from(line.split_whitespace()).unwrap_or_else(|e| panic!("{line}: {e}"));
    match Action::of(line.sub, Path::new("/data")).unwrap() {
        Action::Ask(command) => serde_json::to_value(command).unwrap(),
        other => panic!("{other:?} is no command to a node"),
    }
}

/// What a push or pull sends when nothing but the given fields is set.
fn with(base: Value, fields: &Value) -> Value {
    let mut all = base;
    for (key, value) in fields.as_object().unwrap() {
        all[key] = value.clone();
    }
    all
}

fn push(fields: Value) -> Value {
    let base = json!({
        "command": "push", "dir": "/data/smollm", "name": "acme/smollm", "message": "", "branch": null,
        "tag": null, "public": false, "in_place": false, "base": null, "license": null,
        "strict": false, "file_roots": false,
    });
    with(base, &fields)
}

fn pull(fields: Value) -> Value {
    let base = json!({
        "command": "pull", "name": "acme/smollm@v1", "to": null, "include": [], "tensors": [], "slice": [], "rows": null,
        "from": [], "max_rate": null, "force": false, "dry_run": false, "no_lan": false,
        "upstream": null,
    });
    with(base, &fields)
}

#[test]
fn every_documented_line_becomes_its_command() {
    let table = [
        ("lode push ./smollm acme/smollm", push(json!({}))),
        (
            "lode push /data/m.gguf acme/smollm -m first",
            push(json!({"dir": "/data/m.gguf", "message": "first"})),
        ),
        (
            "lode push smollm acme/smollm --tag v1 --branch dev",
            push(json!({"tag": "v1", "branch": "dev"})),
        ),
        (
            "lode push smollm acme/smollm --public --in-place --strict --file-roots",
            push(json!({"public": true, "in_place": true, "strict": true, "file_roots": true})),
        ),
        (
            "lode push smollm acme/smollm --base meta/llama@v1 --license mit",
            push(json!({"base": "meta/llama@v1", "license": "mit"})),
        ),
        ("lode pull acme/smollm@v1", pull(json!({}))),
        (
            "lode pull acme/smollm@v1 --from lode1abc --from lode1def --to ../out",
            pull(json!({"from": ["lode1abc", "lode1def"], "to": "/data/../out"})),
        ),
        (
            "lode pull acme/smollm@v1 --tensors model.layers.0.* --tensors lm_head.* --include *.json",
            pull(json!({"tensors": ["model.layers.0.*", "lm_head.*"], "include": ["*.json"]})),
        ),
        (
            "lode pull acme/smollm@v1 --slice tp=2/8 --slice layers=0..16 --to out",
            pull(json!({"slice": ["tp=2/8", "layers=0..16"], "to": "/data/out"})),
        ),
        (
            "lode pull acme/smollm@v1 --tensors lm_head.* --rows 0..1024 --to out",
            pull(json!({"tensors": ["lm_head.*"], "rows": "0..1024", "to": "/data/out"})),
        ),
        (
            "lode pull acme/smollm@v1 --max-rate 10MB --force --dry-run",
            pull(json!({"max_rate": 10_000_000, "force": true, "dry_run": true})),
        ),
        (
            "lode pull acme/smollm@v1 --max-rate 1.5GiB/s",
            pull(json!({"max_rate": 1_610_612_736})),
        ),
        ("lode ls", json!({"command": "ls", "name": null})),
        (
            "lode ls acme/tiny",
            json!({"command": "ls", "name": "acme/tiny"}),
        ),
        (
            "lode show acme/tiny@v1",
            json!({"command": "show", "name": "acme/tiny@v1"}),
        ),
        (
            "lode tensors acme/tiny",
            json!({"command": "tensors", "name": "acme/tiny"}),
        ),
        (
            "lode path acme/tiny@v1/config.json",
            json!({"command": "path", "name": "acme/tiny@v1/config.json"}),
        ),
        (
            "lode log acme/tiny",
            json!({"command": "log", "name": "acme/tiny"}),
        ),
        (
            "lode diff acme/tiny@v1 acme/tiny",
            json!({"command": "diff", "from": "acme/tiny@v1", "to": "acme/tiny", "stats": false}),
        ),
        (
            "lode diff a/b c/d --stats",
            json!({"command": "diff", "from": "a/b", "to": "c/d", "stats": true}),
        ),
        (
            "lode lineage acme/tiny",
            json!({"command": "lineage", "name": "acme/tiny"}),
        ),
        (
            "lode tag acme/tiny v1",
            json!({"command": "tag", "name": "acme/tiny", "tag": "v1", "force": false}),
        ),
        (
            "lode tag acme/tiny v1 --force",
            json!({"command": "tag", "name": "acme/tiny", "tag": "v1", "force": true}),
        ),
        (
            "lode branch ls acme/tiny",
            json!({"command": "branches", "name": "acme/tiny"}),
        ),
        (
            "lode branch set acme/tiny@v1 main",
            json!({"command": "branch_set", "name": "acme/tiny@v1", "branch": "main"}),
        ),
        (
            "lode branch rm acme/tiny dev",
            json!({"command": "branch_remove", "name": "acme/tiny", "branch": "dev"}),
        ),
        (
            "lode rm acme/tiny",
            json!({"command": "remove", "name": "acme/tiny", "force": false}),
        ),
        (
            "lode rm acme/tiny@v1 --force",
            json!({"command": "remove", "name": "acme/tiny@v1", "force": true}),
        ),
        (
            "lode pin acme/tiny",
            json!({"command": "pin", "name": "acme/tiny"}),
        ),
        (
            "lode unpin acme/tiny",
            json!({"command": "unpin", "name": "acme/tiny"}),
        ),
        ("lode gc", json!({"command": "gc", "dry_run": false})),
        (
            "lode gc --dry-run",
            json!({"command": "gc", "dry_run": true}),
        ),
        (
            "lode verify acme/tiny",
            json!({"command": "verify", "name": "acme/tiny"}),
        ),
        ("lode scrub", json!({"command": "scrub"})),
        (
            "lode share acme/tiny",
            json!({"command": "share", "name": "acme/tiny", "expires_seconds": null}),
        ),
        (
            "lode share acme/tiny --expires 7d",
            json!({"command": "share", "name": "acme/tiny", "expires_seconds": 604_800}),
        ),
        ("lode peers", json!({"command": "peers"})),
        (
            "lode peers add lode1abc",
            json!({"command": "peers_add", "ticket": "lode1abc"}),
        ),
        (
            "lode alias",
            json!({"command": "alias", "alias": null, "key": null}),
        ),
        (
            "lode alias acme 00ff",
            json!({"command": "alias", "alias": "acme", "key": "00ff"}),
        ),
        ("lode key show", json!({"command": "key", "create": false})),
        ("lode key new", json!({"command": "key", "create": true})),
        ("lode status", json!({"command": "status"})),
        (
            "lode doctor",
            json!({"command": "doctor", "rebuild": false}),
        ),
        (
            "lode doctor --rebuild",
            json!({"command": "doctor", "rebuild": true}),
        ),
    ];
    for (line, command) in table {
        assert_eq!(sent(line), command, "{line}");
    }
}

#[test]
fn global_options_stand_before_and_after_the_command() {
    for line in [
        "lode --home /h --json --no-relay ls",
        "lode ls --home /h --json --no-relay",
    ] {
        let line = Line::try_parse_from(line.split_whitespace()).unwrap();
        assert_eq!(line.globals.home.as_deref(), Some(Path::new("/h")));
        assert!(line.globals.json && line.globals.no_relay && !line.globals.quiet);
    }
}

#[test]
fn serve_has_its_defaults_and_takes_lists() {
    let serve = |line: &str| {
        let line = Line::try_parse_from(line.split_whitespace()).unwrap();
        match Action::of(line.sub, Path::new("/")).unwrap() {
            Action::Serve(serve) => serve,
            other => panic!("{other:?}"),
        }
    };
    let plain = serve("lode serve");
    assert_eq!(plain.http.to_string(), "127.0.0.1:7070");
    assert!(plain.listen.is_none() && plain.relay.is_empty());
    let full = serve(
        "lode serve --http 127.0.0.1:0 --listen 0.0.0.0:4433 --relay https://r.example --max-size 500GB",
    );
    assert_eq!(full.listen.map(|listen| listen.port()), Some(4433));
    assert_eq!(full.relay, ["https://r.example"]);
    assert_eq!(full.max_size, Some(500_000_000_000));
}

#[test]
fn wrong_lines_are_refused() {
    for line in [
        "lode",
        "lode nope",
        "lode push dir",
        "lode pull",
        "lode pull a/b --max-rate fast",
        "lode pull a/b --rows 0..4",
        "lode pull a/b --tensors x --rows 0..4 --slice tp=0/2",
        "lode share a/b --expires soon",
        "lode diff a/b",
        "lode branch",
        "lode key",
        "lode serve --relay https://r.example --no-relay",
        "lode serve --http nowhere",
        "lode completions tcsh",
    ] {
        let error = Line::try_parse_from(line.split_whitespace()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn paths_become_absolute_and_must_be_text() {
    let cwd = Path::new("/data/here");
    assert_eq!(absolute(Path::new("."), cwd).unwrap(), "/data/here");
    assert_eq!(absolute(Path::new("./a/"), cwd).unwrap(), "/data/here/a");
    assert_eq!(absolute(Path::new("/b"), cwd).unwrap(), "/b");
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"caf\xe9");
    assert_eq!(
        absolute(Path::new(odd), cwd).unwrap_err().kind,
        FailureKind::Usage
    );
}
