//! Variants that are kept as chunks: versions whose document says which recipe made them of what.
//!
//! The document of a kept variant is a pure function of the version that it is made from, the recipe and the files that
//! came out: whoever makes the same gives it the same id, so that all of them are one swarm. Its signatures are claims
//! "this recipe makes these files"; a publisher's claim is the ref `variants/BASE+NAME` too, which travels with the
//! other refs of the model. Two claims that name different versions disagree, and that is shown.

use lode_quantize::Recipe;
use lode_store::{
    PublisherId, Store, TreeId, VersionId,
    identity::Operation,
    local::{self, Keep},
    log::Record,
    manifest::{Links, Version, VersionBytes},
    name::PublisherName,
    signature::{SigningKey, VersionSignatures},
    tree::{File, Tree},
};

use crate::{
    Node,
    command::Failure,
    keys::{self, KeyKind},
    publisher::Signer,
};

/// What is claimed to be one variant of one version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Claims {
    /// What this home made.
    pub(crate) own: Option<VersionId>,
    /// What the publisher says.
    pub(crate) publisher: Option<VersionId>,
}

impl Claims {
    /// The version to read: the own one, which was made here, before another's.
    pub(crate) fn version(self) -> Option<VersionId> {
        self.own.or(self.publisher)
    }

    /// Whether what was made here is not what the publisher says.
    pub(crate) fn disagree(self) -> bool {
        self.own.is_some() && self.publisher.is_some() && self.own != self.publisher
    }
}

/// The local key of what this home made.
fn own_key(base: &VersionId, recipe: &Recipe) -> String {
    format!("variant/{base}/{recipe}")
}

/// The ref of a publisher's claim.
fn claim_ref(base: &VersionId, recipe: &Recipe) -> String {
    format!("variants/{base}+{recipe}")
}

/// What is claimed to be a variant. Blocks.
pub(crate) fn claims(
    store: &Store,
    publisher: &PublisherId,
    model: &str,
    base: &VersionId,
    recipe: &Recipe,
) -> Result<Claims, Failure> {
    let own = store.local_get(&own_key(base, recipe))?;
    let own = own.and_then(|value| VersionId::try_from(value.as_ref()).ok());
    // It may have been removed since.
    let own = match own {
        Some(id) if store.local_get(&local::keep_key(&id))?.is_some() => Some(id),
        _ => None,
    };
    let refs = store.ref_set(publisher, model)?;
    let publisher = refs.resolve(&claim_ref(base, recipe)).served();
    Ok(Claims { own, publisher })
}

/// The version of the home that a kept variant is made from, if the document says that it is one.
pub(crate) fn made_from(version: &VersionBytes) -> Option<(VersionId, Recipe)> {
    let links = &version.doc.links;
    let recipe = Recipe::decode(links.recipe.as_ref()?).ok()?;
    match links.base[..] {
        [base] => Some((base, recipe)),
        _ => None,
    }
}

/// The version that `version` was made from here, if it is a variant that this home made: who may read that one may
/// read it.
pub(crate) fn made_here_from(store: &Store, version: &VersionId) -> Option<VersionId> {
    let bytes = store.document(&(*version).into()).ok()??;
    let document = VersionBytes::decode_as(*version, bytes).ok()?;
    let (base, recipe) = made_from(&document)?;
    let own = store.local_get(&own_key(&base, &recipe)).ok()??;
    (own.as_ref() == version.as_bytes()).then_some(base)
}

/// The document of a kept variant.
fn document(base: &VersionBytes, recipe: &Recipe, tree: TreeId) -> Version {
    Version {
        kind: base.doc.kind,
        publisher: base.doc.publisher,
        model: base.doc.model.clone(),
        tree,
        parents: Vec::new(),
        author: None,
        time: base.doc.time,
        message: recipe.name(),
        links: Links {
            base: vec![base.id],
            recipe: Some(recipe.encode().into()),
            license: base.doc.links.license.clone(),
            ..Links::default()
        },
    }
}

/// Keeps files, which are stored, as a variant: signs what it is, and says so to others if this home signs for the
/// publisher. Blocks.
pub(crate) fn keep(
    node: &Node,
    base: &VersionBytes,
    recipe: &Recipe,
    files: Vec<File>,
) -> Result<VersionId, Failure> {
    let tree = Tree::new(files)?;
    let (tree_id, tree_bytes) = tree.encode_with_id();
    let bytes = document(base, recipe, tree_id).encode()?;
    let id = VersionId::of(&bytes);
    let device = keys::load_or_create(node.home(), KeyKind::Device)?;
    let device = SigningKey::from_bytes(&device);
    let signatures = VersionSignatures::new(id, &[&device]);
    node.store().append(&[
        Record::document(tree_bytes),
        Record::document(bytes),
        Record::local_set(&local::keep_key(&id), &Keep::now(false).encode())?,
        Record::local_set(&own_key(&base.id, recipe), id.as_bytes())?,
    ])?;
    node.store().add_version_signatures(&signatures)?;
    if let Some(publisher) = base.doc.publisher
        && let Some(signer) = signer(node, &publisher, &base.doc.model)?
    {
        let name = claim_ref(&base.id, recipe);
        let refs = node.store().ref_set(&publisher, &base.doc.model)?;
        if refs.resolve(&name).served() != Some(id) {
            signer.move_ref(node, &base.doc.model, &name, Some(id))?;
        }
    }
    Ok(id)
}

/// Forgets what this home made, and deletes the publisher's claim if this home signs for it. Blocks.
pub(crate) fn take_back(
    node: &Node,
    publisher: &PublisherId,
    model: &str,
    base: &VersionId,
    recipe: &Recipe,
) -> Result<(), Failure> {
    node.store().local_delete(&own_key(base, recipe))?;
    let name = claim_ref(base, recipe);
    let claimed = node.store().ref_set(publisher, model)?.resolve(&name);
    if claimed.served().is_some()
        && let Some(signer) = signer(node, publisher, model)?
    {
        signer.move_ref(node, model, &name, None)?;
    }
    Ok(())
}

/// The signer for a publisher, if this home may sign for it.
fn signer(node: &Node, publisher: &PublisherId, model: &str) -> Result<Option<Signer>, Failure> {
    let name = PublisherName::Key(*publisher);
    match crate::publisher::signer(node, &name, Operation::Push, model) {
        Ok(signer) => Ok(Some(signer)),
        Err(failure) if failure.kind == crate::command::FailureKind::Refused => Ok(None),
        Err(failure) => Err(failure),
    }
}
