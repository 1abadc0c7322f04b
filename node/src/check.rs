//! `lode verify`, `scrub`, `gc` and `doctor`: whether the home holds what it says, and what it can let go.

use std::collections::HashSet;

use lode_store::{identity::Operation, log::Damage, name::NameRev, tree::ChunkList};

use crate::{
    EventSink, Node,
    command::{Checked, Failure, Finding, Outcome},
    origin, resolve,
    variants::kept,
};

/// Bytes of a chunk that are read at a time.
const READ_BYTES: u32 = 1 << 20;

/// Free bytes below which `doctor` warns: 1 GiB.
const FREE_BYTES_LOW: u64 = 1 << 30;

/// `lode verify NAME[@REV]`: signatures, documents, and every byte of it that is held.
pub(crate) fn verify(node: &Node, name: &str, events: &EventSink) -> Result<Outcome, Failure> {
    events.start("verify", name);
    let found = resolve::version(node, &name.parse::<NameRev>()?)?;
    let mut checked = Checked {
        chunks: 0,
        bytes: 0,
        missing: 0,
        findings: Vec::new(),
    };
    let version = resolve::document(node, found.id)?;
    let tree = node.reads().tree(version.doc.tree)?;
    match node.store().version_signatures(&found.id)? {
        Some(signatures) => {
            let log = node.store().identity(&found.publisher)?;
            let valid = signatures.verified().into_iter().any(|key| {
                log.as_ref()
                    .is_some_and(|log| log.ever_authorised(key, Operation::Push, &found.model))
            });
            let made = kept::made_from(&version);
            if let (false, Some((base, recipe))) = (valid, &made) {
                let signers: Vec<String> = signatures
                    .verified()
                    .into_iter()
                    .map(|key| key.to_string())
                    .collect();
                checked.findings.push(Finding {
                    level: "warning".to_owned(),
                    text: format!(
                        "that this is {recipe} of {base} is claimed by {}, not by its publisher",
                        signers.join(", ")
                    ),
                    advice: Some("`lode variant check` compares it with the recipe".to_owned()),
                });
            } else if !valid {
                checked.findings.push(Finding {
                    level: "corrupt".to_owned(),
                    text: format!("no signature of version {} is its publisher's", found.id),
                    advice: Some("do not trust this version; ask the publisher".to_owned()),
                });
            }
        }
        None if origin::commit(&version.doc).is_some() => {}
        None => checked.findings.push(Finding {
            level: "warning".to_owned(),
            text: format!(
                "version {} carries no signature of its own; a signed ref or child names it",
                found.id
            ),
            advice: None,
        }),
    }
    let total = tree.size();
    let mut seen = HashSet::new();
    for file in tree.files().iter().filter(|file| file.chunks.count > 0) {
        let list = match (
            node.store().document(&file.chunks.seq)?,
            node.store().document(&file.chunks.lengths)?,
        ) {
            (Some(sequence), Some(lengths)) => {
                ChunkList::from_documents(&file.chunks, file.size, &sequence, &lengths)?
            }
            _ => {
                checked.missing += file.chunks.count;
                continue;
            }
        };
        for (hash, range) in list.iter() {
            if events.is_cancelled() {
                return Err(Failure::cancelled());
            }
            if !seen.insert(hash) {
                continue;
            }
            match verify_chunk(node, &hash) {
                Ok(Some(bytes)) => {
                    checked.chunks += 1;
                    checked.bytes += bytes;
                }
                Ok(None) => checked.missing += 1,
                Err(text) => checked.findings.push(Finding {
                    level: "corrupt".to_owned(),
                    text: format!("{} at byte {}: {text}", file.path, range.start),
                    advice: Some("run `lode scrub`, then pull the version again".to_owned()),
                }),
            }
            events.progress("verify", checked.bytes, total, 0);
        }
    }
    Ok(Outcome::Checked(checked))
}

/// Hashes one chunk; its length, or nothing when it is not held.
fn verify_chunk(node: &Node, hash: &lode_store::ChunkHash) -> Result<Option<u64>, String> {
    let Some(chunk) = node
        .store()
        .chunk(hash)
        .map_err(|error| error.to_string())?
    else {
        return Ok(None);
    };
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < chunk.len() {
        let end = chunk.len().min(at + READ_BYTES);
        hasher.update(&chunk.read(at..end).map_err(|error| error.to_string())?);
        at = end;
    }
    if hasher.finalize() != *hash.as_bytes() {
        return Err(format!("the bytes held for chunk {hash} are others"));
    }
    Ok(Some(u64::from(chunk.len())))
}

/// `lode gc`: frees what no kept version needs. Runs beside pushes and pulls.
pub(crate) fn gc(node: &Node, dry_run: bool, events: &EventSink) -> Result<Outcome, Failure> {
    events.start("gc", "");
    let collected = node.store().gc(dry_run, &mut |progress| {
        events.progress("gc", progress.bytes, 0, 0);
        !events.is_cancelled()
    })?;
    if collected.stopped {
        return Err(Failure::cancelled());
    }
    Ok(Outcome::Collected {
        chunks: collected.chunks,
        bytes: collected.bytes,
        containers: collected.containers_removed,
        dry_run,
    })
}

/// `lode scrub`: every byte of the home, and of the folders that seed for it.
pub(crate) fn scrub(node: &Node, events: &EventSink) -> Result<Outcome, Failure> {
    events.start("scrub", "");
    let found = node.store().scrub(&mut |progress| {
        events.progress("scrub", progress.bytes, progress.bytes_total, 0);
        !events.is_cancelled()
    })?;
    if found.stopped {
        return Err(Failure::cancelled());
    }
    let mut findings = Vec::new();
    let mut add = |level: &str, text: String, advice: &str| {
        findings.push(Finding {
            level: level.to_owned(),
            text,
            advice: Some(advice.to_owned()),
        });
    };
    let again = "its chunk is no longer held: pull the version again";
    for wrong in &found.wrong_chunks {
        let text = format!(
            "{} holds wrong bytes at {} for chunk {}",
            wrong.path.display(),
            wrong.offset,
            wrong.hash
        );
        add("corrupt", text, again);
    }
    for path in &found.containers_lost {
        add("corrupt", format!("{} is lost", path.display()), again);
    }
    for path in &found.sidecars_mended {
        add(
            "corrupt",
            format!("the sidecar {} was damaged", path.display()),
            "it was made anew",
        );
    }
    if found.outboards_mended > 0 {
        add(
            "corrupt",
            format!("{} outboards were damaged", found.outboards_mended),
            "they were made anew",
        );
    }
    for damage in &found.log_damage {
        add("corrupt", damage_text(damage), "run `lode doctor`");
    }
    for path in &found.outside_changed {
        let text = format!("{} changed or is gone: it seeds no longer", path.display());
        add(
            "warning",
            text,
            "pull again to bring it back, or push it as a new version",
        );
    }
    Ok(Outcome::Checked(Checked {
        chunks: found.chunks,
        bytes: found.bytes,
        missing: 0,
        findings,
    }))
}

/// `lode doctor`: what opening the home found, and what its surroundings are; with `rebuild`, a new index.
pub(crate) fn doctor(node: &Node, rebuild: bool, events: &EventSink) -> Result<Outcome, Failure> {
    events.start("doctor", "");
    let mut findings = Vec::new();
    let mut add = |level: &str, text: String, advice: Option<&str>| {
        findings.push(Finding {
            level: level.to_owned(),
            text,
            advice: advice.map(str::to_owned),
        });
    };
    let opened = node.store().findings();
    add(
        "ok",
        format!("home {} is open, format 1", node.home().display()),
        None,
    );
    if opened.torn_log_bytes > 0 {
        let text = format!(
            "{} bytes that were never acknowledged were cut off the log",
            opened.torn_log_bytes
        );
        add(
            "warning",
            text,
            Some("nothing to do: a write was interrupted"),
        );
    }
    for damage in &opened.log_damage {
        add(
            "corrupt",
            damage_text(damage),
            Some("restore the home from a backup, or pull again"),
        );
    }
    for path in &opened.containers_lost {
        add(
            "corrupt",
            format!("{} is lost or damaged", path.display()),
            Some("pull the version again"),
        );
    }
    if opened.index_rebuilt {
        add(
            "ok",
            "the index was made anew when the home was opened".to_owned(),
            None,
        );
    }
    if rebuild {
        let rebuilt = node.store().rebuild_index()?;
        add(
            "ok",
            format!(
                "the index was made anew: {} places of chunks",
                rebuilt.places
            ),
            None,
        );
        for damage in &rebuilt.log_damage {
            add(
                "corrupt",
                damage_text(damage),
                Some("restore the home from a backup"),
            );
        }
    }
    for (publisher, model) in node.store().models()? {
        let set = node.store().ref_set(&publisher, &model)?;
        for (name, _) in set.forks() {
            add(
                "warning",
                format!("{publisher}/{model}: {name} is forked, its signers disagree"),
                Some("the last common version is served until a signer moves it again"),
            );
        }
        for proof in set.equivocations() {
            let text = format!(
                "{publisher}/{model}: the key {} signed {} records with the number {}",
                data_encoding::HEXLOWER.encode(proof.signer.as_bytes()),
                proof.records.len(),
                proof.seq
            );
            add("warning", text, Some("neither counts; the proof is kept"));
        }
    }
    let usage = node.store().usage()?;
    let free = usage.free;
    let text = format!("{free} bytes are free on its file system");
    if free < FREE_BYTES_LOW {
        add("warning", text, Some("free some room, or run `lode gc`"));
    } else {
        add("ok", text, None);
    }
    let own = crate::publisher::own(node)?;
    match own {
        Some(own) => add(
            "ok",
            format!("own publisher {own}; back up the folder keys/"),
            None,
        ),
        None => add(
            "ok",
            "no publisher of its own yet: the first push makes one".to_owned(),
            None,
        ),
    }
    Ok(Outcome::Doctor { findings })
}

fn damage_text(damage: &Damage) -> String {
    format!(
        "{} is damaged from byte {} to {}",
        damage.path.display(),
        damage.start,
        damage.end
    )
}
