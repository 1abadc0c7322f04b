//! `lode push`: a folder becomes a signed version.

use std::path::Path;

use lode_store::{
    VersionId,
    identity::Operation,
    import::{ImportOptions, ImportSink, import},
    local::{self, Keep},
    log::Record,
    manifest::{Kind, Links, Version},
    name::{Name, NameRev, check_ref_name},
    refs::{PUBLIC_REF, RefState},
    signature::VersionSignatures,
};

use crate::{
    EventSink, Node,
    command::{Failure, Outcome, Push, Pushed},
    publisher::{self, Signer, now},
    resolve,
};

/// Carries out a push. Blocks.
pub(crate) fn push(node: &Node, request: Push, events: &EventSink) -> Result<Outcome, Failure> {
    events.start("push", &request.name);
    let name: Name = request.name.parse()?;
    let branch = request.branch.as_deref().unwrap_or("main");
    check_ref_name(branch)?;
    if let Some(tag) = &request.tag {
        check_ref_name(tag)?;
    }
    let base = match &request.base {
        Some(base) => vec![resolve::version(node, &base.parse::<NameRev>()?)?.id],
        None => Vec::new(),
    };
    let signer = publisher::signer(node, &name.publisher, Operation::Push, &name.model)?;
    let store = node.store();
    let heads = format!("heads/{branch}");
    let refs = store.ref_set(&signer.publisher, &name.model)?;
    let head = refs.resolve(&heads).served();
    let head_doc = head.map(|id| resolve::document(node, id)).transpose()?;
    if let Some(head) = &head_doc
        && head.doc.kind == Kind::Collection
    {
        return Err(
            Failure::refused(format!("{name} is a collection of vectors, not a model"))
                .advise("push under another name; `lode collection commit` makes versions of it"),
        );
    }
    let tag = request.tag.as_ref().map(|tag| format!("tags/{tag}"));
    let tagged = tag
        .as_ref()
        .map(|tag| refs.resolve(tag))
        .and_then(|state| match state {
            RefState::Absent => None,
            state => state.served(),
        });
    if tagged.is_some() && tagged != head {
        return Err(tag_exists(&request));
    }

    let options = ImportOptions {
        in_place: request.in_place,
        strict: request.strict,
        file_roots: request.file_roots,
        ..ImportOptions::default()
    };
    let sink = Importing {
        events,
        phase: "push",
    };
    let imported = import(store, Path::new(&request.dir), &options, &sink)?;

    let links = Links {
        base,
        license: request.license.clone(),
        ..Links::default()
    };
    let unchanged = head_doc.as_ref().is_some_and(|head| {
        head.doc.tree == imported.tree && links.base.is_empty() && links.license.is_none()
    });
    let version = match head {
        Some(head) if unchanged => head,
        _ => {
            if tagged.is_some() {
                return Err(tag_exists(&request));
            }
            let version = Version {
                kind: Kind::Model,
                publisher: Some(signer.publisher),
                model: name.model.clone(),
                tree: imported.tree,
                parents: head.into_iter().collect(),
                author: None,
                time: now(),
                message: request.message.clone(),
                links,
            };
            sign(node, &signer, &version)?
        }
    };
    if !unchanged || head != Some(version) {
        signer.move_ref(node, &name.model, &heads, Some(version))?;
    }
    if let Some(tag) = &tag
        && tagged != Some(version)
    {
        signer.move_ref(node, &name.model, tag, Some(version))?;
    }
    if request.public && !store.ref_set(&signer.publisher, &name.model)?.is_public() {
        signer.move_ref(node, &name.model, PUBLIC_REF, Some(version))?;
    }
    resolve::is_back(node, &signer.publisher, &name.model)?;
    drop(imported.guard);

    let shown = publisher::shown_name(node, &signer.publisher, &name.model)?;
    let reference = request
        .tag
        .as_deref()
        .or((branch != "main").then_some(branch));
    Ok(Outcome::Pushed(Pushed {
        name: reference.map_or_else(|| shown.clone(), |reference| format!("{shown}@{reference}")),
        version: version.to_hex(),
        changed: !unchanged,
        files: imported.files,
        tensors: imported.tensors,
        tensors_new: imported.tensors_new,
        size: imported.size,
        size_new: imported.size_new,
    }))
}

/// Signs a version, and keeps it as an own one. Its tree is stored.
pub(crate) fn sign(node: &Node, signer: &Signer, version: &Version) -> Result<VersionId, Failure> {
    let bytes = version.encode()?;
    let id = VersionId::of(&bytes);
    let signatures = VersionSignatures::new(id, &[&signer.device]);
    node.store().append(&[
        Record::document(bytes),
        Record::version_signatures(&signatures),
        Record::local_set(&local::keep_key(&id), &Keep::now(true).encode())?,
    ])?;
    Ok(id)
}

fn tag_exists(request: &Push) -> Failure {
    let tag = request.tag.as_deref().unwrap_or_default();
    Failure::refused(format!(
        "the tag {tag:?} of {} is at another version already",
        request.name
    ))
    .advise(format!(
        "push without it, then move it with `lode tag {} {tag} --force`",
        request.name
    ))
}

/// Progress and warnings of an import, and its end when the caller leaves.
pub(crate) struct Importing<'a> {
    pub(crate) events: &'a EventSink,
    /// What it is called to the user.
    pub(crate) phase: &'static str,
}

impl ImportSink for Importing<'_> {
    fn progress(&self, done: u64, total: u64) {
        self.events.progress(self.phase, done, total, 0);
    }

    fn warning(&self, text: &str) {
        self.events.warn(text);
    }

    fn cancelled(&self) -> bool {
        self.events.is_cancelled()
    }
}
