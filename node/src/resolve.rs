//! From a typed name to a version of this home.

use std::sync::Arc;

use lode_store::{
    PublisherId, VersionId,
    manifest::VersionBytes,
    name::{Name, NameRev, Rev},
    tree::Tree,
};

use crate::{
    Node,
    command::Failure,
    publisher,
    variants::{self, kept},
};

/// A version as a name found it.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Whose model.
    pub(crate) publisher: PublisherId,
    /// Which model.
    pub(crate) model: String,
    /// Which version.
    pub(crate) id: VersionId,
}

/// The versions that the home keeps.
pub(crate) fn kept(node: &Node) -> Result<Vec<VersionId>, Failure> {
    Ok(node.store().kept()?.into_iter().map(|(id, _)| id).collect())
}

/// The version that `name` means here; `main` without a rev. With a variant, the version that is kept of it.
pub(crate) fn version(node: &Node, name: &NameRev) -> Result<Found, Failure> {
    let base = base(node, name)?;
    let Some(variant) = &name.variant else {
        return Ok(base);
    };
    let recipe = variants::recipe(variant, &*tree(node, base.id)?)?;
    let claims = kept::claims(
        node.store(),
        &base.publisher,
        &base.model,
        &base.id,
        &recipe,
    )?;
    let own = claims.own.ok_or_else(|| {
        Failure::not_found(format!(
            "no bytes of {name} are kept here: it is made when it is read"
        ))
        .advise(format!("`lode variant make {name}` keeps it"))
    })?;
    Ok(Found { id: own, ..base })
}

/// The version that `name` means here, whatever variant of it.
pub(crate) fn base(node: &Node, name: &NameRev) -> Result<Found, Failure> {
    let publisher = publisher::resolve(node, &name.name.publisher)?;
    let rev = name
        .rev
        .clone()
        .unwrap_or_else(|| Rev::Ref("main".to_owned()));
    let model = &name.name.model;
    if node.reads().model(publisher, model).is_err() {
        return Err(no_model(&name.name));
    }
    let found = node.reads().resolve(publisher, model, &rev)?;
    Ok(Found {
        publisher,
        model: model.clone(),
        id: found.version,
    })
}

/// That a home has no such model.
pub(crate) fn no_model(name: &Name) -> Failure {
    Failure::not_found(format!("there is no model {name} in this home"))
        .advise("`lode ls` lists those that there are; `lode pull` fetches one")
}

/// Takes back that a model was removed from this home.
pub(crate) fn is_back(node: &Node, publisher: &PublisherId, model: &str) -> Result<(), Failure> {
    let key = format!("gone/{publisher}/{model}");
    if node.store().local_get(&key)?.is_some() {
        node.store().local_delete(&key)?;
    }
    Ok(())
}

/// The manifest of a version.
pub(crate) fn document(node: &Node, id: VersionId) -> Result<VersionBytes, Failure> {
    Ok(node.reads().version(id)?)
}

/// The tree of a version.
pub(crate) fn tree(node: &Node, id: VersionId) -> Result<Arc<Tree>, Failure> {
    Ok(node.reads().tree(document(node, id)?.doc.tree)?)
}
