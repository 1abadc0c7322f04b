//! `lode tag` and `lode branch`: names of versions, each move of one a signed record.

use lode_store::{
    VersionId,
    identity::Operation,
    name::{Name, NameRev, check_ref_name},
    refs::RefState,
};

use crate::{
    Node,
    command::{Failure, Outcome, RefRow},
    publisher::{self, Signer},
    resolve,
};

/// `lode tag NAME[@REV] TAG`.
pub(crate) fn tag(node: &Node, name: &str, tag: &str, force: bool) -> Result<Outcome, Failure> {
    check_ref_name(tag)?;
    let name: NameRev = name.parse()?;
    let version = resolve::version(node, &name)?.id;
    let signer = publisher::signer(node, &name.name.publisher, Operation::Tag, &name.name.model)?;
    let full = format!("tags/{tag}");
    let before = current(node, &signer, &name.name.model, &full)?;
    if before.is_some_and(|before| before != version) && !force {
        let before = before.map(VersionId::to_hex).unwrap_or_default();
        return Err(
            Failure::refused(format!("the tag {tag:?} is at {} already", &before[..12])).advise(
                "move it with `--force`: those who pulled it will see the move in `lode log`",
            ),
        );
    }
    set(
        node,
        &signer,
        &name.name.model,
        &full,
        Some(version),
        before,
    )
}

/// `lode branch ls NAME`.
pub(crate) fn list(node: &Node, name: &str) -> Result<Outcome, Failure> {
    let name: Name = name.parse()?;
    let publisher = publisher::resolve(node, &name.publisher)?;
    let set = node.store().ref_set(&publisher, &name.model)?;
    let refs: Vec<RefRow> = set
        .iter()
        .filter_map(|(full, state)| row(full, &state))
        .collect();
    if refs.is_empty() {
        return Err(resolve::no_model(&name));
    }
    Ok(Outcome::Branches { refs })
}

/// One ref for people, unless it is an access rule.
fn row(full: &str, state: &RefState) -> Option<RefRow> {
    let (kind, name) = full.split_once('/')?;
    let kind = match kind {
        "heads" => "branch",
        "tags" => "tag",
        _ => return None,
    };
    let fork = match state {
        RefState::Fork { candidates, .. } => candidates
            .iter()
            .map(|side| {
                side.version
                    .map_or_else(|| "deleted".to_owned(), VersionId::to_hex)
            })
            .collect(),
        _ => Vec::new(),
    };
    Some(RefRow {
        kind: kind.to_owned(),
        name: name.to_owned(),
        version: state.served().map(VersionId::to_hex),
        fork,
    })
}

/// `lode branch set NAME@REV BRANCH`: makes it, moves it forward, or rolls it back.
pub(crate) fn set_branch(node: &Node, name: &str, branch: &str) -> Result<Outcome, Failure> {
    check_ref_name(branch)?;
    let name: NameRev = name.parse()?;
    let version = resolve::version(node, &name)?.id;
    let signer = publisher::signer(
        node,
        &name.name.publisher,
        Operation::Branch,
        &name.name.model,
    )?;
    let full = format!("heads/{branch}");
    let before = current(node, &signer, &name.name.model, &full)?;
    set(
        node,
        &signer,
        &name.name.model,
        &full,
        Some(version),
        before,
    )
}

/// `lode branch rm NAME BRANCH`.
pub(crate) fn remove_branch(node: &Node, name: &str, branch: &str) -> Result<Outcome, Failure> {
    let name: Name = name.parse()?;
    remove_ref(node, &name, &format!("heads/{branch}"))
}

/// Deletes a ref by its full name with a signed record.
pub(crate) fn remove_ref(node: &Node, name: &Name, full: &str) -> Result<Outcome, Failure> {
    let operation = if full.starts_with("tags/") {
        Operation::Tag
    } else {
        Operation::Branch
    };
    let signer = publisher::signer(node, &name.publisher, operation, &name.model)?;
    let before = current(node, &signer, &name.model, full)?;
    if before.is_none() {
        let short = full.split_once('/').map_or(full, |(_, short)| short);
        return Err(Failure::not_found(format!(
            "{} has no branch or tag {short:?}",
            name.model
        )));
    }
    set(node, &signer, &name.model, full, None, before)
}

fn current(
    node: &Node,
    signer: &Signer,
    model: &str,
    full: &str,
) -> Result<Option<VersionId>, Failure> {
    Ok(node
        .store()
        .ref_set(&signer.publisher, model)?
        .resolve(full)
        .served())
}

fn set(
    node: &Node,
    signer: &Signer,
    model: &str,
    full: &str,
    version: Option<VersionId>,
    before: Option<VersionId>,
) -> Result<Outcome, Failure> {
    let forked = matches!(
        node.store()
            .ref_set(&signer.publisher, model)?
            .resolve(full),
        RefState::Fork { .. }
    );
    if before != version || forked {
        signer.move_ref(node, model, full, version)?;
    }
    Ok(Outcome::Moved {
        reference: full
            .split_once('/')
            .map_or(full, |(_, short)| short)
            .to_owned(),
        version: version.map(VersionId::to_hex),
        before: before.map(VersionId::to_hex),
    })
}
