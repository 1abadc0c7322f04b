//! Each outcome as it is printed: what people and scripts may rely on.

#![allow(clippy::unwrap_used)]

use lode_node::command::*;
use serde_json::json;

use super::{Text, failure, text, verdict};
use crate::style::Style;

/// The time at which all of it is printed.
const NOW: u64 = 1_795_473_660;

const ID: &str = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809";
const OLD: &str = "99887766554433221100ffeeddccbbaa99887766554433221100ffeeddccbbaa";

/// Prints the outcome that `value` is the JSON of.
fn printed(value: serde_json::Value) -> Text {
    text(
        &Command::Status,
        &serde_json::from_value(value).unwrap(),
        Style::default(),
        NOW,
    )
}

fn result(value: serde_json::Value) -> String {
    printed(value).result
}

#[test]
fn a_push_prints_the_name_and_says_what_was_new() {
    let mut value = json!({
        "outcome": "pushed", "name": "acme/smollm@main", "version": ID, "changed": true, "files": 4,
        "tensors": 272, "tensors_new": 12, "size": 283_115_520_u64, "size_new": 50_331_648_u64,
    });
    let push = printed(value.clone());
    assert_eq!(push.result, "acme/smollm@main\n");
    assert_eq!(
        push.note,
        "version 1a2b3c4d5e: 12 of 272 tensors new, 48.0 MiB of 270.0 MiB stored\n"
    );
    value["tensors"] = json!(0);
    assert_eq!(
        printed(value.clone()).note,
        "version 1a2b3c4d5e: 4 files, 48.0 MiB of 270.0 MiB stored\n"
    );
    value["changed"] = json!(false);
    assert_eq!(
        printed(value).note,
        "version 1a2b3c4d5e has the same content: nothing to push\n"
    );
}

#[test]
fn a_pull_prints_where_it_wrote() {
    let mut value = json!({
        "outcome": "pulled", "name": "acme/smollm@v1", "version": ID, "path": "/tmp/out", "files": 4,
        "size": 283_115_520_u64, "size_fetched": 50_331_648_u64, "size_held": 232_783_872_u64,
        "providers": 2, "dry_run": false,
    });
    let pull = printed(value.clone());
    assert_eq!(pull.result, "/tmp/out\n");
    assert_eq!(
        pull.note,
        "version 1a2b3c4d5e: 4 files, 270.0 MiB; 48.0 MiB fetched from 2 peers, 222.0 MiB held already\n"
    );
    value["size_full"] = json!(283_115_520_u64 * 4);
    assert_eq!(
        printed(value.clone()).note,
        "version 1a2b3c4d5e: 4 files, 270.0 MiB of 1.1 GiB in full; 48.0 MiB fetched from 2 peers, 222.0 MiB held already\n"
    );
    value["size_full"] = json!(283_115_520_u64);
    value["path"] = json!(null);
    assert_eq!(result(value.clone()), "acme/smollm@v1\n");
    value["dry_run"] = json!(true);
    let plan = printed(value);
    assert_eq!(
        plan.result,
        "acme/smollm@v1: 4 files, 270.0 MiB; 48.0 MiB to fetch, 222.0 MiB held\n"
    );
    assert_eq!(plan.note, "");
}

#[test]
fn models_are_listed_with_what_is_held() {
    let model = |name: &str, held: u64, public: bool, own: bool| {
        json!({
            "name": name, "publisher": ID, "version": ID, "size": 1_048_576, "size_held": held,
            "public": public, "own": own, "time": NOW - 7200,
        })
    };
    let text = result(json!({"outcome": "models", "models": [
        model("acme/smollm", 1_048_576, true, true), model("b/x", 512, false, false), model("c/y", 0, true, false),
    ]}));
    assert_eq!(
        text,
        "NAME         VERSION        SIZE   HELD  ACCESS       CHANGED\n\
         acme/smollm  1a2b3c4d5e  1.0 MiB    all  own, public  2 hours ago\n\
         b/x          1a2b3c4d5e  1.0 MiB  512 B  private      2 hours ago\n\
         c/y          1a2b3c4d5e  1.0 MiB   none  public       2 hours ago\n"
    );
    let none = printed(json!({"outcome": "models", "models": []}));
    assert_eq!(none.result, "");
    assert!(none.note.contains("lode push"));
}

fn files() -> serde_json::Value {
    json!([
        {"path": "config.json", "size": 600, "sha256": OLD, "rule": "cdc/1", "chunks": 1, "size_held": 600},
        {"path": "model.safetensors", "size": 2_097_152, "sha256": ID, "rule": "tensors/1", "chunks": 3, "size_held": 1024},
    ])
}

#[test]
fn files_are_listed_and_show_what_is_missing() {
    let text = printed(json!({"outcome": "files", "version": ID, "files": files()}));
    assert_eq!(
        text.result,
        "FILE                  SIZE     HELD  CHUNKS  SHA-256\n\
         config.json          600 B      all       1  9988776655\n\
         model.safetensors  2.0 MiB  1.0 KiB       3  1a2b3c4d5e\n"
    );
    assert_eq!(text.note, "version 1a2b3c4d5e: 2 files, 2.0 MiB\n");
}

#[test]
fn a_version_is_summed_up() {
    let value = json!({
        "outcome": "shown", "name": "acme/smollm", "version": ID, "tree": OLD, "publisher": OLD,
        "kind": "model", "parents": [OLD], "author": "Ada", "time": NOW - 180, "message": "first\nand more\n",
        "refs": ["main", "v1"], "public": false, "architecture": "LlamaForCausalLM", "parameters": 134_515_008,
        "dtypes": [["BF16", 134_515_000], ["F32", 8]], "tensors": 272, "files": files(), "size": 2_097_752,
        "size_held": 1624, "size_own": 1024, "license": "apache-2.0", "base": [],
        "signatures": [{"algorithm": "ed25519", "signer": ID, "verdict": "valid"}], "pinned": true,
    });
    let text = result(value);
    let head = format!(
        "acme/smollm (main, v1)
  version       {ID}
  tree          {OLD}
  message       first
                and more
  author        Ada
  made          3 minutes ago (2026-11-23 22:38 UTC)
  architecture  LlamaForCausalLM
  parameters    134.5 M (BF16 134.5 M, F32 8)
  content       272 tensors in 2 files
  size          2.0 MiB, 1.6 KiB held; 1.0 KiB of it in no other version
  license       apache-2.0
  access        private
  pinned        yes
  parent        {OLD}
  publisher     {OLD}
  signature     valid (ed25519 by 1a2b3c4d5e)

FILE"
    );
    assert!(text.starts_with(&head), "{text}");
}

#[test]
fn tensors_are_listed_with_shape() {
    let tensor = |name: &str, file: &str| json!({"name": name, "file": file, "dtype": "BF16", "shape": [2, 3], "offset": 8, "size": 12});
    let one = printed(
        json!({"outcome": "tensors", "version": ID, "tensors": [tensor("a", "x"), tensor("bc", "x")]}),
    );
    assert_eq!(
        one.result,
        "TENSOR  DTYPE  SHAPE   SIZE\na       BF16   [2, 3]  12 B\nbc      BF16   [2, 3]  12 B\n"
    );
    assert_eq!(
        one.note,
        "version 1a2b3c4d5e: 2 tensors, 12 parameters, 24 B\n"
    );
    let two = result(
        json!({"outcome": "tensors", "version": ID, "tensors": [tensor("a", "x"), tensor("b", "y")]}),
    );
    assert!(
        two.starts_with("TENSOR  DTYPE  SHAPE   SIZE  FILE\n"),
        "{two}"
    );
}

#[test]
fn paths_and_tickets_stand_alone() {
    assert_eq!(
        result(json!({"outcome": "path", "path": "/h/containers/ab/x.whole"})),
        "/h/containers/ab/x.whole\n"
    );
    let private = printed(json!({"outcome": "ticket", "ticket": "lode1abc", "public": false}));
    assert_eq!(private.result, "lode1abc\n");
    assert!(private.note.contains("private"));
}

#[test]
fn a_log_shows_refs_and_where_tags_went() {
    let row = |id: &str, message: &str, refs: &[&str], moves: &[&str]| {
        json!({
            "version": id, "time": NOW - 60, "author": null, "message": message, "refs": refs, "moves": moves,
            "size": 1024, "size_held": 1024,
        })
    };
    let text = result(json!({"outcome": "log", "versions": [
        row(ID, "second\nbody", &["main", "v1"], &[]), row(OLD, "first", &[], &["tag v1 moved to 1a2b3c4d"]),
    ]}));
    assert_eq!(
        text,
        "VERSION     MADE             SIZE  REFS      MESSAGE\n\
         1a2b3c4d5e  1 minute ago  1.0 KiB  main, v1  second\n\
         9988776655  1 minute ago  1.0 KiB            first [tag v1 moved to 1a2b3c4d]\n"
    );
}

#[test]
fn a_diff_marks_what_came_went_and_changed() {
    let row = |change: &str, name: &str, detail: Option<&str>, max: Option<f64>| {
        json!({
            "change": change, "name": name, "size_from": 1024, "size_to": 2048, "size_changed": 512,
            "detail": detail, "max_abs": max, "mean_abs": max,
        })
    };
    let text = printed(json!({
        "outcome": "diff", "from": OLD, "to": ID, "size_new": 512, "files": [row("changed", "m.safetensors", None, None)],
        "tensors": [row("added", "a", None, None), row("removed", "b", None, None), row("changed", "c", Some("F32 -> BF16"), Some(0.00125))],
    }));
    assert_eq!(
        text.result,
        "   FILE            BEFORE    AFTER  DIFFERS
~  m.safetensors  1.0 KiB  2.0 KiB    512 B

   TENSOR   BEFORE    AFTER  DIFFERS   MAX |D|  MEAN |D|  DETAIL
+  a                2.0 KiB    512 B
-  b       1.0 KiB             512 B
~  c       1.0 KiB  2.0 KiB    512 B  1.250e-3  1.250e-3  F32 -> BF16
"
    );
    assert_eq!(
        text.note,
        "9988776655 -> 1a2b3c4d5e: 1 file and 3 tensors differ, 512 B new\n"
    );
    let same = printed(
        json!({"outcome": "diff", "from": ID, "to": ID, "size_new": 0, "files": [], "tensors": []}),
    );
    assert_eq!(
        (same.result.as_str(), same.note.as_str()),
        ("", "no difference\n")
    );
}

#[test]
fn a_lineage_is_indented_from_its_origin_down() {
    let row = |depth: i32, relation: &str, id: &str, shared: Option<f64>| json!({"depth": depth, "relation": relation, "version": id, "name": "acme/x", "shared": shared});
    let text = result(json!({"outcome": "lineage", "rows": [
        row(0, "self", ID, None), row(1, "base", OLD, Some(0.899)), row(-1, "derived", OLD, None),
    ]}));
    assert_eq!(
        text,
        "VERSION         RELATION      SHARED  NAME\n\
         9988776655      base            90 %  acme/x\n\
         \u{20} 1a2b3c4d5e    this version          acme/x\n\
         \u{20}   9988776655  derived               acme/x\n"
    );
}

#[test]
fn refs_say_when_signers_disagree() {
    let text = result(json!({"outcome": "branches", "refs": [
        {"kind": "branch", "name": "main", "version": ID, "fork": [ID, OLD]},
        {"kind": "tag", "name": "v1", "version": OLD, "fork": []},
    ]}));
    assert_eq!(
        text,
        "KIND    NAME  VERSION     FORK\n\
         branch  main  1a2b3c4d5e  signers disagree: 1a2b3c4d5e, 9988776655\n\
         tag     v1    9988776655\n"
    );
}

#[test]
fn moved_refs_say_from_where_to_where() {
    let note = |version: Option<&str>, before: Option<&str>| {
        printed(json!({"outcome": "moved", "reference": "tag v1", "version": version, "before": before})).note
    };
    assert_eq!(note(Some(ID), None), "tag v1 is at 1a2b3c4d5e\n");
    assert_eq!(
        note(Some(ID), Some(OLD)),
        "tag v1 is at 1a2b3c4d5e now; it was at 9988776655\n"
    );
    assert_eq!(
        note(Some(ID), Some(ID)),
        "tag v1 is at 1a2b3c4d5e already\n"
    );
    assert_eq!(
        note(None, Some(OLD)),
        "removed tag v1; it was at 9988776655\n"
    );
}

#[test]
fn a_collection_says_what_it_frees() {
    let collected = |dry_run: bool| {
        result(
            json!({"outcome": "collected", "chunks": 3, "bytes": 2048, "containers": 1, "dry_run": dry_run}),
        )
    };
    assert_eq!(
        collected(false),
        "freed 2.0 KiB: 3 chunks; 1 container went as a whole\n"
    );
    assert_eq!(
        collected(true),
        "would free 2.0 KiB: 3 chunks; 1 container would go as a whole\n"
    );
}

#[test]
fn a_check_gives_its_verdict_and_exit_code() {
    let checked = |findings: serde_json::Value, missing: u64| -> Outcome {
        serde_json::from_value(
            json!({"outcome": "checked", "chunks": 10, "bytes": 4096, "missing": missing, "findings": findings}),
        )
        .unwrap()
    };
    let sound = checked(json!([]), 2);
    let show = |outcome: &Outcome| text(&Command::Scrub, outcome, Style::default(), NOW).result;
    assert_eq!(
        show(&sound),
        "sound: 10 chunks, 4.0 KiB checked; 2 chunks not held, `lode pull` fetches them\n"
    );
    assert_eq!(verdict(&sound), None);
    let corrupt = checked(
        json!([{"level": "corrupt", "text": "x.whole is cut short", "advice": "pull it again"}]),
        0,
    );
    assert_eq!(
        show(&corrupt),
        "corrupt: x.whole is cut short\n    hint: pull it again\n1 corrupt: 10 chunks, 4.0 KiB checked\n"
    );
    assert_eq!(verdict(&corrupt).map(FailureKind::exit_code), Some(5));
}

#[test]
fn the_doctor_ends_with_one_line() {
    let doctor = |level: &str| {
        result(
            json!({"outcome": "doctor", "findings": [{"level": level, "text": "log", "advice": null}]}),
        )
    };
    assert_eq!(doctor("ok"), "ok: log\nthe home is in order\n");
    assert_eq!(doctor("warning"), "warning: log\n1 warning\n");
    assert!(doctor("corrupt").contains("lode scrub"));
}

fn peer() -> serde_json::Value {
    json!({
        "node": ID, "addresses": ["10.0.0.1:4433", "[::1]:9"], "connected": true, "path": "direct",
        "received": 1024, "sent": 0,
    })
}

#[test]
fn peers_are_listed() {
    assert_eq!(
        result(json!({"outcome": "peers", "peers": [peer()]})),
        "PEER        STATE   RECEIVED  SENT  ADDRESSES\n1a2b3c4d5e  direct   1.0 KiB   0 B  10.0.0.1:4433, [::1]:9\n"
    );
}

#[test]
fn aliases_and_keys_are_shown_in_full() {
    assert_eq!(
        result(
            json!({"outcome": "aliases", "aliases": [{"alias": "acme", "publisher": ID, "own": true}]})
        ),
        format!("ALIAS  PUBLISHER\nacme   {ID}  this home\n")
    );
    let key = printed(json!({"outcome": "key", "publisher": ID, "device_key": OLD, "node": OLD}));
    assert_eq!(key.result, format!("{ID}\n"));
    assert!(key.note.contains(OLD));
    let none =
        printed(json!({"outcome": "key", "publisher": null, "device_key": null, "node": OLD}));
    assert_eq!(none.result, "");
    assert!(none.note.contains("lode key new"));
}

#[test]
fn a_status_has_disk_rates_jobs_and_peers() {
    let text = result(json!({
        "outcome": "status", "home": "/h", "program": "0.1.0", "node": ID, "listen": ["127.0.0.1:4433"],
        "http": "127.0.0.1:7070", "uptime_seconds": 64, "peers": [peer()],
        "jobs": [{"kind": "pull", "name": "acme/x@v1", "phase": "receiving", "done": 1024, "total": 2048, "rate": 512, "peers": 2}],
        "rate_received": 512, "rate_sent": 0, "models": 1, "versions": 2, "chunks": 3, "disk_used": 1024,
        "disk_outside": 2048, "disk_max": 4096, "disk_free": 8192,
    }));
    assert_eq!(
        text,
        format!(
            "home      /h
program   lode 0.1.0, up 1m 04s
node      {ID}
listen    127.0.0.1:4433
http      http://127.0.0.1:7070
holds     1 model, 2 versions, 3 chunks
disk      1.0 KiB of 4.0 KiB used, 8.0 KiB free, 2.0 KiB more in your own folders
rates     512 B/s received, 0 B/s sent

JOB   NAME       PHASE         DONE       OF     RATE  PEERS
pull  acme/x@v1  receiving  1.0 KiB  2.0 KiB  512 B/s      2

PEER        STATE   RECEIVED  SENT  ADDRESSES
1a2b3c4d5e  direct   1.0 KiB   0 B  10.0.0.1:4433, [::1]:9
"
        )
    );
}

#[test]
fn success_alone_is_confirmed_beside_the_result() {
    let note = |command: Command| {
        let text = text(&command, &Outcome::Ok, Style::default(), NOW);
        assert_eq!(text.result, "");
        text.note
    };
    let name = "acme/x".to_owned();
    assert_eq!(note(Command::Pin { name: name.clone() }), "pinned acme/x\n");
    assert!(note(Command::Remove { name, force: false }).contains("lode gc"));
}

#[test]
fn failures_have_a_hint_and_cannot_steer_the_terminal() {
    let refused = Failure {
        kind: FailureKind::Refused,
        message: "tag v1 names 99887766\nnot this\x1b[2J".to_owned(),
        advice: Some("move it with --force".to_owned()),
    };
    assert_eq!(
        failure(&refused, Style::default()),
        "error: tag v1 names 99887766\n       not this\u{fffd}[2J\nhint: move it with --force\n"
    );
}
