//! `lode rm`, `pin` and `unpin`: what the home keeps.

use lode_store::{
    VersionId,
    local::{self, Keep},
    name::{Name, NameRev, Rev},
    refs::RefState,
};

use crate::{
    Node, collections,
    command::{Failure, Outcome},
    publisher, refs, resolve,
    variants::{self, kept},
};

/// `lode rm NAME[@REV][:VARIANT]`. A ref of an own model is deleted with a signed record; everything else is
/// forgotten by this home alone. Bytes go at the next collection.
pub(crate) fn remove(node: &Node, name: &str, force: bool) -> Result<Outcome, Failure> {
    let name: NameRev = name.parse()?;
    if name.variant.is_some() {
        return remove_variant(node, &name);
    }
    let Some(rev) = &name.rev else {
        return remove_model(node, &name.name, force);
    };
    let found = resolve::version(node, &name)?;
    let own = publisher::own(node)? == Some(found.publisher);
    let set = node.store().ref_set(&found.publisher, &found.model)?;
    let named = match rev {
        Rev::Ref(short) => set.resolve_short(short).map(|(full, _)| full),
        Rev::Version(_) => None,
    };
    let other_refs = set
        .iter()
        .filter(|(full, state)| {
            !full.starts_with("access/")
                && Some(*full) != named.as_deref()
                && state.served() == Some(found.id)
        })
        .count();
    let moved = match &named {
        Some(full) if own => refs::remove_ref(node, &name.name, full)?,
        _ => Outcome::Moved {
            reference: rev.to_string(),
            version: None,
            before: Some(found.id.to_hex()),
        },
    };
    if named.is_none() && other_refs > 0 && own && !force {
        return Err(
            Failure::refused(format!("{rev} is what a branch or tag names"))
                .advise("remove the branch or tag first, or use `--force`"),
        );
    }
    if other_refs == 0 || named.is_none() {
        forget(node, found.id)?;
    }
    Ok(moved)
}

/// Lets go what is kept of a variant, and takes the claim back. The version that it is made from stays.
fn remove_variant(node: &Node, name: &NameRev) -> Result<Outcome, Failure> {
    let kept = resolve::version(node, name)?;
    let base = resolve::base(node, name)?;
    let variant = name.variant.as_deref().unwrap_or_default();
    let recipe = variants::recipe(variant, &*resolve::tree(node, base.id)?)?;
    kept::take_back(node, &base.publisher, &base.model, &base.id, &recipe)?;
    forget(node, kept.id)?;
    Ok(Outcome::Ok)
}

fn remove_model(node: &Node, name: &Name, force: bool) -> Result<Outcome, Failure> {
    let publisher = publisher::resolve(node, &name.publisher)?;
    if node.reads().model(publisher, &name.model).is_err() {
        return Err(resolve::no_model(name));
    }
    let versions = node.reads().versions(publisher, &name.model)?;
    let pinned = versions.iter().find(|id| {
        node.store()
            .local_get(&local::pin_key(id))
            .is_ok_and(|value| value.is_some())
    });
    if let (Some(id), false) = (pinned, force) {
        return Err(Failure::refused(format!(
            "the version {} of {name} is pinned",
            &id.to_hex()[..12]
        ))
        .advise("unpin it, or use `--force`"));
    }
    if publisher::own(node)? == Some(publisher) {
        let set = node.store().ref_set(&publisher, &name.model)?;
        let names: Vec<String> = set
            .iter()
            .filter(|(_, state)| *state != RefState::Absent)
            .map(|(full, _)| full.to_owned())
            .collect();
        for full in names {
            let operation = if full == lode_store::refs::PUBLIC_REF {
                lode_store::identity::Operation::Access
            } else if full.starts_with("tags/") {
                lode_store::identity::Operation::Tag
            } else if full.starts_with("variants/") {
                lode_store::identity::Operation::Push
            } else {
                lode_store::identity::Operation::Branch
            };
            publisher::signer(node, &name.publisher, operation, &name.model)?.move_ref(
                node,
                &name.model,
                &full,
                None,
            )?;
        }
    }
    for id in versions {
        forget(node, id)?;
    }
    collections::replica::forget(node, publisher, &name.model)?;
    node.store()
        .local_set(&format!("gone/{publisher}/{}", name.model), b"")?;
    Ok(Outcome::Ok)
}

fn forget(node: &Node, id: VersionId) -> Result<(), Failure> {
    for key in [local::keep_key(&id), local::pin_key(&id)] {
        if node.store().local_get(&key)?.is_some() {
            node.store().local_delete(&key)?;
        }
    }
    Ok(())
}

/// `lode pin` and `lode unpin`.
pub(crate) fn pin(node: &Node, name: &str, pin: bool) -> Result<Outcome, Failure> {
    let found = resolve::version(node, &name.parse::<NameRev>()?)?;
    let key = local::pin_key(&found.id);
    if pin {
        node.store().local_set(&key, &Keep::now(false).encode())?;
    } else if node.store().local_get(&key)?.is_some() {
        node.store().local_delete(&key)?;
    }
    Ok(Outcome::Ok)
}
